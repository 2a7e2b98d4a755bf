//! Makes our own scripts small enough for every page, by leaving out what only a reader needs.

/// Leaves out `//` comments, and white space that separates nothing.
///
/// For scripts of our own, which end every statement with a semicolon or a brace and hold no block
/// comments: strings, templates and regular expressions are copied as they are. A line end behind a
/// brace stays, since a statement may end there.
#[must_use]
pub fn minify(script: &str) -> String {
    let mut out = String::with_capacity(script.len());
    let mut rest = script;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' | '\'' | '`' => quoted(rest, first),
            '/' if rest.starts_with("//") => {
                rest = rest.trim_start_matches(|c| c != '\n');
                continue;
            }
            '/' if begins_regex(&out) => regex(rest),
            c if c.is_ascii_whitespace() => {
                let next = rest.trim_start();
                let line = rest[..rest.len() - next.len()].contains('\n');
                separate(&mut out, next, line);
                rest = next;
                continue;
            }
            c => c.len_utf8(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

/// White space between what was written and what comes: kept where the two would run together.
fn separate(out: &mut String, next: &str, line: bool) {
    let (Some(before), Some(after)) = (out.chars().next_back(), next.chars().next()) else { return };
    if next.starts_with("//") {
        // The white space behind the comment decides, but the line end may be in front of it.
        if line && before == '}' {
            out.push('\n');
        }
        return;
    }
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    if word(before) && word(after) || matches!((before, after), ('+', '+') | ('-', '-')) {
        out.push(' ');
    } else if line && before == '}' && !matches!(after, '}' | ')' | ']' | ',' | ';' | '.') {
        out.push('\n');
    }
}

/// Length of the string or template at the start.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of the regular expression at the start, without its flags.
fn regex(text: &str) -> usize {
    let (mut escaped, mut class) = (false, false);
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            '/' if !class => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Whether a slash begins a regular expression: nothing stands before it that could be divided.
fn begins_regex(before: &str) -> bool {
    let before = before.trim_end();
    before.ends_with("return") || !before.ends_with(|c: char| c.is_alphanumeric() || "_$)]}\"'`".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DESIGN 4, Guard: bytes count, and what runs must not change.
    #[test]
    fn what_separates_nothing_goes_and_what_separates_stays() {
        for (script, small) in [
            ("// Head.\nvar a = 1; // why\nvar b = a + +a - -a;\n", "var a=1;var b=a+ +a- -a;"),
            ("function f() {\n  return x;\n}\n\nf();", "function f(){return x;}\nf();"),
            ("if (a) {\n  b();\n} // why\nc()", "if(a){b();}\nc()"),
            ("f({\n  a: 1\n});", "f({a:1});"),
            ("return /[/] \" /.test(a) / 2;", "return/[/] \" /.test(a)/2;"),
            ("a = \"x  // y\" + 'it\\'s  ' + `  ${b}  `;", "a=\"x  // y\"+'it\\'s  '+`  ${b}  `;"),
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
