//! Makes our own scripts small enough for every page, by leaving out what only a reader needs.

use super::tokens::{Kind, Token, in_word, tokens};

/// Leaves out `//` comments, white space that separates nothing, and semicolons that a brace makes needless; joins
/// each `var` to the one before it; writes `true` and `false` as `!0` and `!1`.
///
/// For scripts of our own, which end every statement with a semicolon or a block's brace and hold no block
/// comments: strings, templates and regular expressions are copied as they are.
#[must_use]
pub fn minify(script: &str) -> String {
    let tokens = tokens(script);
    let mut out = String::with_capacity(script.len());
    // For each open bracket, what stands in it. The script itself is the first.
    let (mut open, mut head_closed) = (vec![Bracket::default()], false);
    // As it was written, what begins a statement, and what is in `out`.
    let (mut before, mut last): (Option<&Token<'_>>, Option<Token<'_>>) = (None, None);
    let mut rest = tokens.iter().peekable();
    while let Some(token) = rest.next() {
        let semicolon = token.is_mark(";");
        if semicolon && rest.peek().is_some_and(|next| next.is_mark("}")) && !head_closed {
            continue;
        }
        let declares = open.last().is_some_and(|bracket| bracket.declares);
        let joins = semicolon && declares && rest.next_if(|next| next.text == "var").is_some();
        if let Some(bracket) = open.last_mut() {
            let begins = before.is_none_or(|before| matches!(before.text, ";" | "{" | "}"));
            bracket.declares = joins || !semicolon && (declares || token.text == "var" && begins);
        }
        let small = if joins { Token { text: ",", ..*token } } else { shorter(*token) };
        if token.apart && last.is_some_and(|last| run_together(&last, &small)) {
            out.push(' ');
        }
        out.push_str(small.text);
        head_closed = token.closes() && open.pop().is_some_and(|bracket| bracket.head);
        if token.opens() {
            let head = before.is_some_and(|before| matches!(before.text, "if" | "for" | "while"));
            open.push(Bracket { head, declares: false });
        }
        (before, last) = (Some(token), Some(small));
    }
    out
}

/// The same in fewer letters.
fn shorter(token: Token<'_>) -> Token<'_> {
    match (token.kind, token.text) {
        (Kind::Word, "true") => Token { kind: Kind::Mark, text: "!0", ..token },
        (Kind::Word, "false") => Token { kind: Kind::Mark, text: "!1", ..token },
        _ => token,
    }
}

/// What stands in a bracket.
#[derive(Debug, Default)]
struct Bracket {
    /// The head of a statement that may have an empty body.
    head: bool,
    /// A `var` that is not yet at its end, and takes up the next one.
    declares: bool,
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

    /// Bytes count, and what runs must not change.
    #[test]
    fn what_separates_nothing_goes_and_what_separates_stays() {
        for (script, small) in [
            ("// Head.\nvar a = 1; // why\nvar b = a + +a - -a;\n", "var a=1,b=a+ +a- -a;"),
            ("var { a } = b, c = { d: 1 };\nvar e;\nf();\nvar g;", "var{a}=b,c={d:1},e;f();var g;"),
            (
                "for (var a = 0; a; a++) { var b; var c = () => { d(); }; }",
                "for(var a=0;a;a++){var b,c=()=>{d()}}",
            ),
            ("return true; if (false) a = \"true\";", "return!0;if(!1)a=\"true\";"),
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
        for script in [
            include_str!("match.js"),
            include_str!("net.js"),
            include_str!("dom.js"),
            include_str!("before.js"),
        ] {
            let once = minify(script);
            assert_eq!(minify(&once), once);
        }
    }
}
