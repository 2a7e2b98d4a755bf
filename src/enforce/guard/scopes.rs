//! Which variable each name in one of our own scripts means.
//!
//! Exact for the scripts' style: no `with`, `eval`, class, label or accessor in an object literal, no default
//! of a parameter that reads another name, and every `let` and `const` of a name that its function uses
//! once. A name counts as declared in its whole function (or `catch`).

use std::collections::HashMap;

use super::tokens::{Kind, Token};

/// Words that are no names.
const KEYWORDS: [&str; 42] = [
    "arguments",
    "async",
    "break",
    "case",
    "catch",
    "class",
    "const",
    "continue",
    "debugger",
    "default",
    "delete",
    "do",
    "else",
    "export",
    "extends",
    "false",
    "finally",
    "for",
    "function",
    "if",
    "import",
    "in",
    "instanceof",
    "let",
    "new",
    "null",
    "of",
    "return",
    "super",
    "switch",
    "this",
    "throw",
    "true",
    "try",
    "typeof",
    "undefined",
    "var",
    "void",
    "while",
    "with",
    "yield",
    "as",
];

/// Whether a word is no name.
pub fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word)
}

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Meaning<'a> {
    /// The variable with this number, in [`Scopes::variables`].
    Variable(usize),
    /// Not declared in the script.
    Global(&'a str),
}

/// A place where a name stands.
#[derive(Debug, Clone, Copy)]
pub struct Use<'a> {
    /// Index of its token.
    pub token: usize,
    /// Index of the scope it stands in.
    pub scope: usize,
    /// Variable or global.
    pub means: Meaning<'a>,
    /// It is a property's name, too: `{ name }`.
    pub shorthand: bool,
}

/// A script's functions, and every use of a name in them.
#[derive(Debug, Default)]
pub struct Scopes<'a> {
    /// Of each scope, the one around it: always one that stands before it. The first is the script itself.
    pub parents: Vec<Option<usize>>,
    /// Of each variable, the scope that declares it, in order of appearance.
    pub variables: Vec<usize>,
    /// In order of appearance.
    pub uses: Vec<Use<'a>>,
}

/// Reads a script's tokens.
#[must_use]
pub fn scopes<'a>(tokens: &[Token<'a>]) -> Scopes<'a> {
    let partners = partners(tokens);
    let mut reader = Reader {
        tokens,
        partners,
        parents: vec![None],
        declared: vec![HashMap::new()],
        owners: Vec::new(),
        functions: vec![0],
        ends: vec![tokens.len()],
        current: vec![0],
        brackets: Vec::new(),
        found: Vec::new(),
    };
    (0..tokens.len()).for_each(|at| reader.step(at));
    reader.resolve()
}

/// For each bracket the one that closes or opens it; for other tokens themselves.
fn partners(tokens: &[Token<'_>]) -> Vec<usize> {
    let mut partners: Vec<usize> = (0..tokens.len()).collect();
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.closes()
            && let Some(opener) = open.pop()
        {
            partners[at] = opener;
            partners[opener] = at;
        }
        if token.opens() {
            open.push(at);
        }
    }
    partners
}

/// The pass over the tokens.
struct Reader<'t, 'a> {
    tokens: &'t [Token<'a>],
    partners: Vec<usize>,
    parents: Vec<Option<usize>>,
    /// Of each scope, its names and their variables.
    declared: Vec<HashMap<&'a str, usize>>,
    /// Of each variable, its scope.
    owners: Vec<usize>,
    /// Of each scope, the function that a `var` in it belongs to.
    functions: Vec<usize>,
    /// Of each scope, the first token behind it.
    ends: Vec<usize>,
    /// Scopes around this place, the innermost last.
    current: Vec<usize>,
    /// Open brackets, and whether each is an object's.
    brackets: Vec<bool>,
    /// Uses before names are resolved: token, scope, shorthand.
    found: Vec<(usize, usize, bool)>,
}

impl<'a> Reader<'_, 'a> {
    fn text(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    fn before(&self, at: usize) -> &'a str {
        at.checked_sub(1).map_or("", |at| self.text(at))
    }

    /// The scope of this place.
    fn here(&self) -> usize {
        self.current.last().copied().unwrap_or_default()
    }

    fn step(&mut self, at: usize) {
        while self.ends[self.here()] <= at {
            self.current.pop();
        }
        let token = self.tokens[at];
        if token.closes() {
            self.brackets.pop();
        }
        if token.opens() {
            // The parameters of an arrow function; those of others follow their word.
            if token.text == "(" && self.text(self.partners[at] + 1) == "=>" {
                self.arrow(at + 1, self.partners[at], self.partners[at] + 2);
            }
            let object = token.text == "{" && self.opens_object(at);
            self.brackets.push(object);
        }
        if token.kind == Kind::Word {
            self.word(at, token.text);
        }
    }

    fn word(&mut self, at: usize, word: &'a str) {
        let (before, after) = (self.before(at), self.text(at + 1));
        let in_object = self.brackets.last() == Some(&true) && matches!(before, "{" | ",");
        if matches!(before, "." | "?.") || word.starts_with(|c: char| c.is_ascii_digit()) || self.is_flags(at)
        {
            return;
        }
        if in_object && after == ":" || before == "function" {
            return;
        }
        if in_object && after == "(" {
            return self.function(at + 1);
        }
        match word {
            "function" => self.named_function(at),
            "var" | "let" | "const" => {
                let function = self.functions[self.here()];
                self.bindings(at + 1, self.tokens.len(), function);
            }
            "catch" if after == "(" => {
                let close = self.partners[at + 1];
                let outer = self.functions[self.here()];
                let scope = self.open(self.partners[close + 1] + 1);
                self.functions[scope] = outer;
                self.bindings(at + 2, close, scope);
            }
            _ if is_keyword(word) => {}
            _ => {
                if after == "=>" {
                    self.arrow(at, at + 1, at + 2);
                }
                let shorthand = in_object && matches!(after, "," | "}" | "=");
                self.found.push((at, self.here(), shorthand));
            }
        }
    }

    /// The flags of a regular expression.
    fn is_flags(&self, at: usize) -> bool {
        !self.tokens[at].apart
            && at.checked_sub(1).is_some_and(|at| {
                let before = &self.tokens[at];
                before.kind == Kind::Text && before.text.starts_with('/')
            })
    }

    /// `function NAME(...)`: a statement declares its name outside, an expression inside.
    fn named_function(&mut self, at: usize) {
        if self.text(at + 1) == "(" {
            return self.function(at + 1);
        }
        let outside = self.functions[self.here()];
        let statement = self.is_statement(at);
        if statement {
            self.declare(at + 1, outside);
            self.found.push((at + 1, outside, false));
        }
        self.function(at + 2);
        if !statement {
            self.declare(at + 1, self.here());
            self.found.push((at + 1, self.here(), false));
        }
    }

    /// Whether the word `function` here begins a statement.
    fn is_statement(&self, at: usize) -> bool {
        matches!(self.before(at), "" | ";" | "{" | "}")
    }

    /// A function whose parameters begin here, and whose body follows them.
    fn function(&mut self, open: usize) {
        let close = self.partners[open];
        let scope = self.open(self.partners[close + 1] + 1);
        self.bindings(open + 1, close, scope);
    }

    /// An arrow function: where its parameters lie, and where its body begins.
    fn arrow(&mut self, from: usize, to: usize, body: usize) {
        let end = if self.text(body) == "{" { self.partners[body] + 1 } else { self.behind(body, false) };
        let scope = self.open(end);
        self.bindings(from, to, scope);
    }

    fn open(&mut self, end: usize) -> usize {
        let scope = self.parents.len();
        self.parents.push(Some(self.here()));
        self.declared.push(HashMap::new());
        self.functions.push(scope);
        self.ends.push(end);
        self.current.push(scope);
        scope
    }

    /// The first token behind an expression: what ends it on its own level.
    fn behind(&self, from: usize, declaring: bool) -> usize {
        let mut at = from;
        while let Some(token) = self.tokens.get(at) {
            if token.closes() || token.kind == Kind::Mark && matches!(token.text, "," | ";") {
                break;
            }
            if declaring && matches!(token.text, "of" | "in") {
                break;
            }
            // The pieces of a template follow each other.
            while self.tokens[at].opens() && self.partners[at] > at {
                at = self.partners[at];
            }
            at += 1;
        }
        at
    }

    /// Declares the names of parameters or of a `var`, from here to there or to the statement's end.
    fn bindings(&mut self, from: usize, to: usize, scope: usize) {
        let mut at = from;
        while at < to {
            let token = self.tokens[at];
            match token.text {
                "=" => {
                    at = self.behind(at + 1, true);
                    continue;
                }
                "[" | "{" => {
                    self.bindings(at + 1, self.partners[at], scope);
                    at = self.partners[at];
                }
                ";" | "of" | "in" | ")" | "}" => return,
                _ if token.kind == Kind::Word && self.text(at + 1) != ":" => self.declare(at, scope),
                _ => {}
            }
            at += 1;
        }
    }

    fn declare(&mut self, at: usize, scope: usize) {
        let (name, next) = (self.text(at), self.owners.len());
        if *self.declared[scope].entry(name).or_insert(next) == next {
            self.owners.push(scope);
        }
    }

    /// Whether a brace opens an object's literal or pattern, and no block.
    fn opens_object(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1).map(|at| self.tokens[at]) else { return false };
        match before.kind {
            Kind::Mark => !matches!(before.text, ")" | "=>" | "{" | "}" | ";"),
            Kind::Word => !matches!(before.text, "else" | "try" | "finally" | "do"),
            Kind::Text => false,
            Kind::Piece => before.opens(),
        }
    }

    fn resolve(self) -> Scopes<'a> {
        let meaning = |name: &'a str, scope: usize| {
            let mut around = Some(scope);
            while let Some(scope) = around {
                if let Some(variable) = self.declared[scope].get(name) {
                    return Meaning::Variable(*variable);
                }
                around = self.parents[scope];
            }
            Meaning::Global(name)
        };
        let uses = self.found.iter().map(|(token, scope, shorthand)| Use {
            token: *token,
            scope: *scope,
            means: meaning(self.tokens[*token].text, *scope),
            shorthand: *shorthand,
        });
        Scopes { uses: uses.collect(), parents: self.parents, variables: self.owners }
    }
}
