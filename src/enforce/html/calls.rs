//! Calls of `import` in a script whose address only the script knows (ECMAScript 13.3.10).
//!
//! Nobody can replace `import`, so what it is given passes through a function of the guard's first. That needs
//! the place where the address begins and ends in code, not in a text, a comment, a template or a regular
//! expression. Where a slash may divide or begin an expression, both are read. A script that reads cleanly to its
//! end in no way is left as it is.

use std::ops::Range;

use super::gaps::{behind, behind_word, line_end};
use super::snippet::quoted;

/// What stands before the address; `net.js` defines the function. Behind the address stands a bracket.
pub(super) const JUDGE: &str = "optgateImport(";

/// The addresses that calls of `import` are given, whole texts left out; nested ones too. Where a script reads
/// cleanly in more ways than one, those of each. `None`: it does not read cleanly, or its ways contradict each other.
///
/// Cost: one pass over the text, and one from each doubtful slash on for as long as it reads cleanly; for scripts
/// that import what is known at run time only.
pub(super) fn addresses(script: &str) -> Option<Vec<Range<usize>>> {
    let mut readers = vec![Reader { script, at: 0, last: Last::Mark, open: Vec::new(), found: Vec::new() }];
    let (mut read, mut left, mut clean) = (0, MOST_READINGS, None);
    while let Some(mut reader) = readers.pop() {
        left = usize::checked_sub(left, 1)?;
        if reader.run(&mut readers).is_some() {
            clean.get_or_insert_with(Vec::new).append(&mut reader.found);
        }
        // What many readings take is no page's script.
        read += reader.at;
        if left < MOST_READINGS - 2 && read / 8 > script.len() {
            return None;
        }
    }
    let mut found = clean?;
    found.sort_by_key(|at| (at.start, at.end));
    found.dedup();
    let crosses = |pair: &[Range<usize>]| {
        pair[0].start == pair[1].start || pair[1].start < pair[0].end && pair[0].end < pair[1].end
    };
    (!found.windows(2).any(crosses)).then_some(found)
}

/// The script with other words in the place of some pieces; what begins within an earlier piece is left out.
pub(super) fn edited(script: &str, mut edits: Vec<(Range<usize>, &str)>) -> String {
    edits.sort_by_key(|(at, _)| (at.start, at.end));
    let (mut out, mut copied) = (String::with_capacity(script.len() + 64), 0);
    for (at, by) in edits {
        if at.start < copied {
            continue;
        }
        out.push_str(&script[copied..at.start]);
        out.push_str(by);
        copied = at.end;
    }
    out + &script[copied..]
}

/// What stands before the place that is read: it says what a slash or a brace begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// A slash divides.
    Value,
    /// A slash may divide or begin an expression: a block's end or an object's, or a word that may be a name.
    Doubt,
    /// A property's name follows.
    Dot,
    /// `if` and the like: behind their bracket a statement follows.
    Head,
    /// Anything else: a value or a statement follows.
    Mark,
}

/// An open bracket.
#[derive(Debug, Clone)]
struct Bracket {
    closes: u8,
    /// What is known behind it.
    then: Last,
    /// A template goes on behind it.
    template: bool,
    /// It is that of an `import`.
    call: Option<Call>,
}

#[derive(Debug, Clone)]
struct Call {
    from: usize,
    /// Where the first comma stands.
    comma: Option<usize>,
}

/// Open brackets, and calls, that are kept in mind. A script with more is a data file, or a trap.
const MOST: usize = 1000;

/// Ways to read a script.
const MOST_READINGS: usize = 64;

/// Words behind which a value or a statement follows.
const OPERATORS: &str =
    " return typeof case in delete void throw new instanceof else do try finally default extends ";
/// Words that are names elsewhere.
const NAMES: &str = " of await yield ";
/// Words with a bracket behind which a statement follows.
const HEADS: &str = " if while for with ";

#[derive(Clone)]
struct Reader<'a> {
    script: &'a str,
    at: usize,
    last: Last,
    open: Vec<Bracket>,
    found: Vec<Range<usize>>,
}

impl Reader<'_> {
    /// Reads to the end; `None` when that cannot be. What is to be read in another way, too, is put to the others.
    fn run(&mut self, others: &mut Vec<Self>) -> Option<()> {
        while self.at < self.script.len() {
            if self.last == Last::Doubt && self.is_at_slash() {
                others.push(Self { last: Last::Mark, ..self.clone() });
                self.last = Last::Value;
            }
            self.step()?;
        }
        self.open.is_empty().then_some(())
    }

    /// Whether the next token begins with a slash.
    fn is_at_slash(&self) -> bool {
        self.script[behind(self.script, self.at)..].starts_with('/')
    }

    /// Reads one token; `None` when that cannot be.
    fn step(&mut self) -> Option<()> {
        let start = behind(self.script, self.at);
        let rest = &self.script[start..];
        self.at = start;
        let Some(&byte) = rest.as_bytes().first() else { return Some(()) };
        match byte {
            b'/' if rest.starts_with("/*") => return None,
            b'/' if rest.starts_with("//") => self.at += line(rest),
            b'<' if rest.starts_with("<!--") => self.at += line(rest),
            b'-' if rest.starts_with("-->") && self.begins_line() => self.at += line(rest),
            b'#' if self.at == 0 && rest.starts_with("#!") => self.at += line(rest),
            b'/' if self.last != Last::Value => self.pass(regex(rest)?, Last::Value),
            b'"' | b'\'' => self.pass(quoted(rest)?, Last::Value),
            b'`' => self.template()?,
            b if b.is_ascii_digit() => {
                let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
                self.pass(rest.find(|c| !inside(c)).unwrap_or(rest.len()), Last::Value);
            }
            b if b.is_ascii_alphabetic() || matches!(b, b'_' | b'$' | 0x80..) => self.word()?,
            b'(' | b'[' | b'{' => self.open(byte)?,
            b')' | b']' | b'}' => self.close(byte)?,
            b',' => {
                if let Some(Bracket { call: Some(call), .. }) = self.open.last_mut() {
                    call.comma.get_or_insert(self.at);
                }
                self.pass(1, Last::Mark);
            }
            // Behind the value that it counts up, or before it.
            b'+' | b'-' if rest.as_bytes().get(1) == Some(&byte) => self.at += 2,
            b'=' if rest.starts_with("=>") => self.pass(2, Last::Mark),
            b'.' if rest.starts_with("...") => self.pass(3, Last::Mark),
            b'?' if rest.starts_with("?.") => self.pass(2, Last::Dot),
            b'.' | b'#' => self.pass(1, Last::Dot),
            // An escape in a name.
            b'\\' => self.pass(1, Last::Value),
            _ => self.pass(1, Last::Mark),
        }
        Some(())
    }

    const fn pass(&mut self, length: usize, last: Last) {
        self.at += length;
        self.last = last;
    }

    fn begins_line(&self) -> bool {
        self.script[..self.at].trim_end_matches([' ', '\t']).ends_with(['\n', '\r'])
    }

    fn word(&mut self) -> Option<()> {
        let word = name(&self.script[self.at..]);
        let property = self.last == Last::Dot;
        let is = |list: &str| list.split(' ').any(|known| known == word);
        self.last = match () {
            () if property => Last::Value,
            () if word == "import" => return self.import(),
            // What the page's bytes mean is not known here: white space may be among them.
            () if !word.is_ascii() && word.contains("import") => return None,
            () if is(OPERATORS) => Last::Mark,
            () if is(HEADS) || self.last == Last::Head && word == "await" => Last::Head,
            () if is(NAMES) => Last::Doubt,
            () => Last::Value,
        };
        self.at += word.len();
        Some(())
    }

    /// `import(...)`, `import.source(...)`, `import.defer(...)`; or a declaration, or `import.meta`.
    fn import(&mut self) -> Option<()> {
        let script = self.script;
        self.pass("import".len(), Last::Value);
        let mut next = behind_word(script, self.at);
        if script[next..].starts_with('.') {
            let phase = behind_word(script, next + 1);
            next = behind_word(script, phase + name(&script[phase..]).len());
        }
        if script[next..].starts_with('(') {
            self.at = next;
            self.open(b'(')?;
            let call = Call { from: self.at, comma: None };
            self.open.last_mut()?.call = Some(call);
        }
        Some(())
    }

    fn open(&mut self, byte: u8) -> Option<()> {
        let (closes, then) = match byte {
            b'(' if self.last == Last::Head => (b')', Last::Mark),
            b'(' => (b')', Last::Value),
            b'[' => (b']', Last::Value),
            _ => (b'}', Last::Doubt),
        };
        self.push(Bracket { closes, then, template: false, call: None })?;
        self.pass(1, Last::Mark);
        Some(())
    }

    fn push(&mut self, bracket: Bracket) -> Option<()> {
        self.open.push(bracket);
        (self.open.len() <= MOST && self.found.len() <= MOST).then_some(())
    }

    fn close(&mut self, byte: u8) -> Option<()> {
        let bracket = self.open.pop().filter(|bracket| bracket.closes == byte)?;
        if let Some(Call { from, comma }) = bracket.call {
            self.called(from..comma.unwrap_or(self.at));
        }
        if bracket.template {
            return self.template();
        }
        self.pass(1, bracket.then);
        Some(())
    }

    /// What a call was given, at its end.
    fn called(&mut self, address: Range<usize>) {
        let text = self.script[address.clone()].trim();
        let whole = is_one_text(text) && !(text.starts_with('`') && text.contains("${"));
        // A method of that name is declared, and not called.
        let declared = self.script[behind(self.script, self.at + 1)..].starts_with('{');
        if !text.is_empty() && !whole && !declared {
            self.found.push(address);
        }
    }

    /// A piece of a template, from the backtick or the brace at its beginning.
    fn template(&mut self) -> Option<()> {
        let (bytes, mut at) = (self.script.as_bytes(), self.at + 1);
        loop {
            match bytes.get(at..)? {
                [b'\\', ..] => at += 2,
                [b'`', ..] => {
                    (self.at, self.last) = (at + 1, Last::Value);
                    return Some(());
                }
                [b'$', b'{', ..] => {
                    (self.at, self.last) = (at + 2, Last::Mark);
                    return self.push(Bracket {
                        closes: b'}',
                        then: Last::Value,
                        template: true,
                        call: None,
                    });
                }
                [] => return None,
                _ => at += 1,
            }
        }
    }
}

/// Whether a text in quotes is all there is.
fn is_one_text(text: &str) -> bool {
    let Some(quote @ (b'"' | b'\'' | b'`')) = text.bytes().next() else { return false };
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let over = !escaped && byte == quote;
        escaped = !escaped && byte == b'\\';
        over
    });
    end.is_some_and(|end| end + 2 == text.len())
}

/// The name at the beginning.
fn name(text: &str) -> &str {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii();
    &text[..text.find(|c| !inside(c)).unwrap_or(text.len())]
}

fn line(rest: &str) -> usize {
    line_end(rest).unwrap_or(rest.len())
}

/// Length of the regular expression that begins here, without its flags; `None` when its line ends first.
fn regex(rest: &str) -> Option<usize> {
    let (mut escaped, mut class) = (false, false);
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            b'\n' | b'\r' => return None,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'[' => class = true,
            b']' => class = false,
            b'/' if !class => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The script with `<` and `>` around each address; `None` when it does not read cleanly.
    fn marked(script: &str) -> Option<String> {
        let mut places: Vec<_> =
            addresses(script)?.iter().flat_map(|at| [(at.start, '<'), (at.end, '>')]).collect();
        places.sort_by(|a, b| b.cmp(a));
        let mut marked = script.to_owned();
        places.into_iter().for_each(|(at, mark)| marked.insert(at, mark));
        Some(marked)
    }

    /// ECMAScript 13.3.10: the first argument, whatever it is made of.
    #[test]
    fn an_address_is_found_from_the_bracket_to_its_end() {
        for (script, expected) in [
            ("import(a)", "import(<a>)"),
            ("await import ( a + '/x,y)' )", "await import (< a + '/x,y)' >)"),
            ("import/**/(// x)\na)", "import/**/(<// x)\na>)"),
            ("import(`//x/${f({b: `)`})}`)", "import(<`//x/${f({b: `)`})}`>)"),
            ("import(a, {with: {type: 'json'}})", "import(<a>, {with: {type: 'json'}})"),
            ("import(f(a, b) ? [c, d][0] : e,)", "import(<f(a, b) ? [c, d][0] : e>,)"),
            ("import(x => x / 2 > /\\)[/)]/)", "import(<x => x / 2 > /\\)[/)]/>)"),
            ("import(import(a))", "import(<import(<a>)>)"),
            ("import('a' + 'b')", "import(<'a' + 'b'>)"),
            ("import.defer(a);import.source(b)", "import.defer(<a>);import.source(<b>)"),
            ("`${import(a)}`", "`${import(<a>)}`"),
            ("if (a) /'/.test(b); import(a)", "if (a) /'/.test(b); import(<a>)"),
            ("a = {b: 1} / 2; import(a) // '", "a = {b: 1} / 2; import(<a>) // '"),
            ("a++ / b; import(a) / c", "a++ / b; import(<a>) / c"),
            ("f(() => {}); {}/'/.test(a); import(a)", "f(() => {}); {}/'/.test(a); import(<a>)"),
            ("<!-- it's\nimport(a)\n--> it's", "<!-- it's\nimport(<a>)\n--> it's"),
            ("import<!-- it's\n(a)", "import<!-- it's\n(<a>)"),
            ("import\n--> it's\n(a)", "import\n--> it's\n(<a>)"),
            ("#!/it's\nimport(a)", "#!/it's\nimport(<a>)"),
            ("while (i-->0) import(a)", "while (i-->0) import(<a>)"),
            ("a: {} /\"/.test(''); import(a) // \"", "a: {} /\"/.test(''); import(<a>) // \""),
            ("x = function () {} / 1; import(a)", "x = function () {} / 1; import(<a>)"),
            ("a = of / 2; import(a); b = '/' / g", "a = of / 2; import(<a>); b = '/' / g"),
            ("a = await / g; import(a); b = 1 / g", "a = await / g; import(<a>); b = 1 / g"),
            (
                "for await (a of b) /\"/.test(c); import(a) //",
                "for await (a of b) /\"/.test(c); import(<a>) //",
            ),
            ("// \u{e2}\u{20ac}\u{a8}import(a)", "// \u{e2}\u{20ac}\u{a8}import(<a>)"),
        ] {
            assert_eq!(marked(script).as_deref(), Some(expected), "{script}");
        }
    }

    /// Words are found in texts too: what they name may stand within what others name.
    #[test]
    fn a_piece_within_another_is_left_out() {
        let edits = vec![(3..4, "y"), (2..6, "x"), (2..2, "<"), (6..6, ">")];
        assert_eq!(edited("0123456789", edits), "01<x>6789");
    }

    /// What only looks like a call stays as it is, to the byte.
    #[test]
    fn nothing_else_is_taken_for_a_call() {
        for script in [
            "'import(a)' + \"import(a)\"",
            "`import(a) ${b} import(a)`",
            "// import(a)\n/* import(a) */",
            "/import(a)/.test(b); return /import(a)/",
            "a.import(b); a?.import(b); a . import(b); this.#import(b)",
            "class A { import(a) { } #import(a) { } static import(a, b)\n{ } }",
            "({ import(a) { }, async import() { } })",
            "import.meta.url; import a from 'b'; import * as c from 'd'",
            "import('a'); import(\"b\", {}); import(`c`); import()",
            "important(a); reimport(a); $import(a); import$(a)",
        ] {
            assert_eq!(marked(script).as_deref(), Some(script), "{script}");
        }
    }

    /// In doubt nothing is said, whatever the bytes.
    #[test]
    fn a_script_that_does_not_read_cleanly_says_nothing() {
        for script in [
            "import(a",
            "import(a))",
            "import(a]",
            "import(a) 'open",
            "import(a) `open",
            "import(a) `${",
            "import(a) }",
            "import\u{c2}\u{a0}(a)",
            "import(a) `\\",
            "import(a) /* open",
            "import(a) = /[/",
            "import(a + of / 1) + (2 / 3)",
            &"import(a);".repeat(2 * MOST),
            &"a = {} / 1;".repeat(2 * MOST),
            &format!("{}import(a){}", "(".repeat(2 * MOST), ")".repeat(2 * MOST)),
        ] {
            assert_eq!(marked(script), None, "{script}");
        }
        // Whatever it is, it is read once.
        assert_eq!(marked(&"(/[".repeat(1 << 20)), None);
        // A script of every kind of token, cut anywhere: no cut may do worse than say nothing.
        let all =
            "if (a) /[/]'/g.test(`x${ {b: 'c'} }y`); import(f(\"\\\"\", d) + e, {}); /* é */ g?.h++ / 2";
        for cut in (0..=all.len()).filter(|cut| all.is_char_boundary(*cut)) {
            for range in addresses(&all[..cut]).unwrap_or_default() {
                assert_eq!(&all[range], "f(\"\\\"\", d) + e");
            }
        }
    }
}
