//! Makes our own scripts small enough for every page, by leaving out what only a reader needs.

use super::tokens::{Kind, Token, in_word, tokens};

/// Leaves out `//` comments, white space that separates nothing, and semicolons that a brace makes needless.
///
/// For scripts of our own, which end every statement with a semicolon or a block's brace and hold no block
/// comments: strings, templates and regular expressions are copied as they are.
#[must_use]
pub fn minify(script: &str) -> String {
    let tokens = tokens(script);
    let mut out = String::with_capacity(script.len());
    // For each open bracket, whether it is the head of a statement that may have an empty body.
    let (mut heads, mut head_closed) = (Vec::new(), false);
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| &tokens[at]);
        let ends_block = tokens.get(at + 1).is_some_and(|next| next.text == "}" && next.kind == Kind::Mark);
        if token.text == ";" && ends_block && !head_closed {
            continue;
        }
        if token.apart && before.is_some_and(|before| run_together(before, token)) {
            out.push(' ');
        }
        out.push_str(token.text);
        head_closed = token.closes() && heads.pop() == Some(true);
        if token.opens() {
            heads.push(before.is_some_and(|before| matches!(before.text, "if" | "for" | "while")));
        }
    }
    out
}

/// Whether two tokens would be read as another one without the white space between them.
fn run_together(before: &Token<'_>, after: &Token<'_>) -> bool {
    let (Some(last), Some(first)) = (before.text.chars().next_back(), after.text.chars().next()) else {
        return false;
    };
    match (before.kind, after.kind) {
        (Kind::Word | Kind::Text, Kind::Word) => in_word(last) && in_word(first),
        (Kind::Mark, Kind::Mark) => matches!((last, first), ('+', '+') | ('-', '-')),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DESIGN 4, Guard: bytes count, and what runs must not change.
    #[test]
    fn what_separates_nothing_goes_and_what_separates_stays() {
        for (script, small) in [
            ("// Head.\nvar a = 1; // why\nvar b = a + +a - -a;\n", "var a=1;var b=a+ +a- -a;"),
            ("function f() {\n  return x;\n}\n\nf();", "function f(){return x}f();"),
            ("if (a) {\n  b();\n} // why\nc()", "if(a){b()}c()"),
            ("{ for (a of b); }", "{for(a of b);}"),
            ("{ for (a of b) c(); }", "{for(a of b)c()}"),
            ("f({\n  a: 1\n});", "f({a:1});"),
            ("return /[/] \" /.test(a) / 2;", "return/[/] \" /.test(a)/2;"),
            (
                "a = \"x  // y\" + 'it\\'s  ' + `  ${b + `c d`}  `;",
                "a=\"x  // y\"+'it\\'s  '+`  ${b+`c d`}  `;",
            ),
            ("\n // only\n", ""),
        ] {
            assert_eq!(minify(script), small);
        }
    }

    /// A second pass finds nothing more.
    #[test]
    fn a_small_script_stays_as_it_is() {
        for script in [include_str!("match.js"), include_str!("net.js"), include_str!("dom.js")] {
            let once = minify(script);
            assert_eq!(minify(&once), once);
        }
    }
}
