//! The words and marks of our own scripts, for what makes them small.

/// What a token is, as far as its reader cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name, a keyword or a number.
    Word,
    /// A string or a regular expression, copied as it is.
    Text,
    /// A piece of a template: it begins behind a backtick or a substitution's `}`, and ends with a backtick or
    /// with `${`.
    Piece,
    /// One mark, or one of `=>`, `...` and `?.`.
    Mark,
}

/// A token, and whether white space or a comment stood before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// As it is written.
    pub text: &'a str,
    /// Something that is no token stood before it.
    pub apart: bool,
}

impl Token<'_> {
    /// Whether it is this mark.
    #[must_use]
    pub fn is_mark(&self, mark: &str) -> bool {
        self.kind == Kind::Mark && self.text == mark
    }

    /// Whether it opens a bracket that [`Token::closes`] must close.
    #[must_use]
    pub fn opens(&self) -> bool {
        match self.kind {
            Kind::Mark => matches!(self.text, "(" | "[" | "{"),
            Kind::Piece => self.text.ends_with("${"),
            _ => false,
        }
    }

    /// Whether it closes a bracket.
    #[must_use]
    pub fn closes(&self) -> bool {
        match self.kind {
            Kind::Mark => matches!(self.text, ")" | "]" | "}"),
            Kind::Piece => self.text.starts_with('}'),
            _ => false,
        }
    }
}

/// Whether a character may stand in a name.
pub fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$')
}

/// The tokens of a script without block comments.
#[must_use]
pub fn tokens(script: &str) -> Vec<Token<'_>> {
    let mut tokens: Vec<Token<'_>> = Vec::with_capacity(script.len() / 3);
    // For each open brace whether it is a template's substitution.
    let mut braces = Vec::new();
    let (mut rest, mut apart) = (script, false);
    while let Some(first) = rest.chars().next() {
        let bare =
            if rest.starts_with("//") { rest.trim_start_matches(|c| c != '\n') } else { rest.trim_start() };
        if bare.len() < rest.len() {
            (rest, apart) = (bare, true);
            continue;
        }
        let (kind, length) = match first {
            '"' | '\'' => (Kind::Text, quoted(rest, |tail| tail.starts_with(first).then_some(1))),
            '`' => (Kind::Piece, piece(rest)),
            '}' if braces.pop() == Some(true) => (Kind::Piece, piece(rest)),
            '/' if begins_regex(tokens.last()) => (Kind::Text, regex(rest)),
            c if in_word(c) => {
                let number = c.is_ascii_digit();
                (Kind::Word, rest.find(|c| !(in_word(c) || number && c == '.')).unwrap_or(rest.len()))
            }
            _ => {
                let long = ["=>", "...", "?."].into_iter().find(|mark| rest.starts_with(mark));
                (Kind::Mark, long.map_or(first.len_utf8(), str::len))
            }
        };
        let token = Token { kind, text: &rest[..length], apart };
        if token.text == "{" || token.kind == Kind::Piece && token.opens() {
            braces.push(token.kind == Kind::Piece);
        }
        tokens.push(token);
        (rest, apart) = (&rest[length..], false);
    }
    tokens
}

/// Length of what is quoted: to the first place behind the opening mark where `end` finds an end, whose
/// length it answers.
fn quoted(text: &str, end: impl Fn(&str) -> Option<usize>) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ => {
                if let Some(length) = end(&text[at..]) {
                    return at + length;
                }
            }
        }
    }
    text.len()
}

/// Length of the piece of a template at the start.
fn piece(text: &str) -> usize {
    quoted(text, |tail| match tail.as_bytes() {
        [b'`', ..] => Some(1),
        [b'$', b'{', ..] => Some(2),
        _ => None,
    })
}

/// Length of the regular expression at the start, without its flags.
fn regex(text: &str) -> usize {
    let class = std::cell::Cell::new(false);
    quoted(text, |tail| {
        match tail.as_bytes().first() {
            Some(b'[') => class.set(true),
            Some(b']') => class.set(false),
            Some(b'/') if !class.get() => return Some(1),
            _ => {}
        }
        None
    })
}

/// Whether a slash begins a regular expression: nothing stands before it that could be divided.
fn begins_regex(before: Option<&Token<'_>>) -> bool {
    before.is_none_or(|before| match before.kind {
        Kind::Word => matches!(before.text, "return" | "typeof" | "case"),
        Kind::Text => false,
        Kind::Piece => before.opens(),
        Kind::Mark => !before.closes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slash divides or begins an expression; a template holds code.
    #[test]
    fn strings_templates_and_expressions_are_told_from_code() {
        for (script, wanted) in [
            ("a / b / c", "a|/|b|/|c"),
            ("f(/[/]\\//g, x)", "f|(|/[/]\\//|g|,|x|)"),
            ("return /\"/ // end", "return|/\"/"),
            ("'it\\'s' + \"// no\"", "'it\\'s'|+|\"// no\""),
            ("`a ${{ b: `c${d}` }.b} e` + f", "`a ${|{|b|:|`c${|d|}`|}|.|b|} e`|+|f"),
            ("x => [...y, 1.5e3]", "x|=>|[|...|y|,|1.5e3|]"),
            ("a\n}", "a|}"),
        ] {
            let found: Vec<_> = tokens(script).iter().map(|token| token.text).collect();
            assert_eq!(found.join("|"), wanted);
        }
    }
}
