//! Documents served as XML: XHTML, SVG and what else a browser shows.
//!
//! Elements and attributes are judged by the same functions as HTML's; only the reading differs: names are
//! compared with their case, prefixes are resolved, every element ends where it says, and the text of a
//! script or style sheet may come in references, CDATA sections and pieces. What is stripped leaves
//! well-formed XML behind, and what is not stays byte for byte.
//!
//! No guard runs here, so that `restrict` is `strip`. The link is placed on XHTML pages. Feeds and site maps
//! stay as they are. What no XML parser would read on behind ends the pass as a fault ([`RewriteError`]):
//! browsers show an error there, and an opted-out visitor gets nothing that was not read.
//!
//! Limit: an XSLT style sheet of the page's own host makes a page that nobody here sees. Browsers are giving
//! XSLT up.

mod dtd;
mod element;
mod held;
mod scope;
mod tag;
mod tokens;

use super::characters::Charset;
use super::inject::Placed;
use super::references::Resolved;
use super::state::State;
use super::{Kind, PIECE, Plan, RewriteError, SLACK, elements, inline, room};
use dtd::Entities;
use held::{Held, Sheet, append_escaped};
use scope::{Scope, Space, XHTML};
use tokens::{Broken, Token, Tokens};

/// Roots of documents that are data for programs: they stay as they are.
const FEEDS: [&[u8]; 6] = [b"rss", b"RDF", b"feed", b"opml", b"urlset", b"sitemapindex"];

impl From<Broken> for RewriteError {
    fn from(_: Broken) -> Self {
        Self::Xml
    }
}

/// What the end of an open element means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The link's place, if it has none yet.
    Place,
    Template,
    Section,
    Anchor(u32),
    Drawing,
    /// Its text is judged as a whole.
    Held(Sheet),
}

/// What becomes of the document.
#[derive(Debug, PartialEq, Eq)]
enum Root {
    /// The root has not come: the input so far as it came, and as it is to be.
    Awaited { raw: Vec<u8>, read: Vec<u8> },
    /// It passes as it is.
    Untouched,
    /// It is read.
    Read,
}

/// One pass over one document.
#[derive(Debug)]
pub(super) struct Pass {
    tokens: Tokens,
    input: Vec<u8>,
    body: Reader,
}

#[derive(Debug)]
struct Reader {
    state: State,
    kind: Kind,
    /// The encoding named in the declaration is no longer true.
    transcoded: bool,
    root: Root,
    document: bool,
    depth: u32,
    scope: Scope,
    entities: Entities,
    /// The document type says what this pass does not follow.
    doubtful: bool,
    roles: Vec<(u32, Role)>,
    held: Option<Held>,
}

impl Pass {
    /// For one document in a charset; `transcoded`: its declaration names another.
    pub(super) fn new(plan: Plan, charset: Charset, transcoded: bool) -> Self {
        let kind = plan.kind;
        let document = matches!(kind, Kind::Document | Kind::Unsure);
        // Frames and fragments of a visitor who has not opted out have nothing to change.
        let root = match plan.opted_out || document {
            true => Root::Awaited { raw: Vec::new(), read: Vec::new() },
            false => Root::Untouched,
        };
        let mut state = State::new(Plan { guard: None, ..plan }, document, false);
        state.urls.charset = charset;
        let body = Reader {
            state,
            kind,
            transcoded,
            root,
            document: false,
            depth: 0,
            scope: Scope::default(),
            entities: Entities::default(),
            doubtful: false,
            roles: Vec::new(),
            held: None,
        };
        Self { tokens: Tokens::new(), input: Vec::new(), body }
    }

    /// Feeds a piece.
    ///
    /// # Errors
    /// As [`super::Rewriter::write`].
    pub(super) fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), RewriteError> {
        if self.body.root == Root::Untouched {
            out.append(&mut self.input);
            out.extend_from_slice(piece);
            return Ok(());
        }
        let result = if self.input.is_empty() {
            let mut at = 0;
            let result = self.read(piece, &mut at, out);
            self.body.append(&mut self.input, &piece[at..]);
            result
        } else {
            let mut input = std::mem::take(&mut self.input);
            self.body.append(&mut input, piece);
            let mut at = 0;
            let result = self.read(&input, &mut at, out);
            input.drain(..at);
            self.input = input;
            result
        };
        let result = result.and_then(|()| self.body.within(self.input.len()));
        if result.is_err() && !self.body.state.opted_out {
            // Nothing may be lost: what was kept back goes out as it came.
            if let Root::Awaited { raw, .. } = &mut self.body.root {
                out.append(raw);
            }
            out.append(&mut self.input);
        }
        result
    }

    fn read(&mut self, buf: &[u8], at: &mut usize, out: &mut Vec<u8>) -> Result<(), RewriteError> {
        loop {
            let rest = &buf[*at..];
            if self.body.root == Root::Untouched {
                out.extend_from_slice(rest);
                *at = buf.len();
                return Ok(());
            }
            let Some(token) = self.tokens.next(rest)? else { return Ok(()) };
            self.body.take(token, out)?;
            *at += token.bytes().len();
            self.body.within(0)?;
        }
    }

    /// Whether the document turned out to be none of ours.
    pub(super) fn is_untouched(&self) -> bool {
        self.body.root != Root::Read
    }

    /// Ends the input; gives the state back, and whether it was a page.
    ///
    /// A tag that is still open goes to no opted-out visitor: nobody has read it.
    pub(super) fn end(mut self, out: &mut Vec<u8>) -> (State, bool) {
        if let Some(held) = self.body.held.take() {
            // What cannot be read is not sent.
            let _ = self.body.close(held, out);
        }
        if let Root::Awaited { raw, read } = &self.body.root {
            out.extend_from_slice(if self.body.state.opted_out { read } else { raw });
        }
        if !self.body.state.opted_out || self.body.root == Root::Untouched {
            out.extend_from_slice(&self.input);
        }
        (self.body.state, self.body.document)
    }
}

impl Reader {
    /// Adds to the input that waits for its end.
    fn append(&self, input: &mut Vec<u8>, piece: &[u8]) {
        let most = self.state.memory.saturating_add(SLACK + PIECE);
        input.reserve_exact(room(input.len(), input.capacity(), piece.len(), most));
        input.extend_from_slice(piece);
    }

    /// Whether everything kept is within bounds.
    fn within(&self, input: usize) -> Result<(), RewriteError> {
        let awaited = if let Root::Awaited { raw, read } = &self.root { raw.len() + read.len() } else { 0 };
        let held = self.held.as_ref().map_or(0, Held::size);
        let roles = self.roles.len() * size_of::<(u32, Role)>();
        let most = self.state.memory.saturating_add(SLACK);
        // A text may take what is allowed, and not more because its pieces are small.
        if input + awaited + roles > most || held > self.state.memory {
            return Err(RewriteError::Memory);
        }
        Ok(())
    }

    /// Takes a token. After an error none of its bytes were put anywhere.
    fn take(&mut self, token: Token<'_>, out: &mut Vec<u8>) -> Result<(), RewriteError> {
        match token {
            Token::Instruction(bytes) if self.transcoded && bytes.starts_with(b"<?xml ") => {
                let declaration = declare_utf8(bytes);
                self.put(&declaration, out);
                self.keep(&declaration);
            }
            Token::Instruction(bytes) => self.instruction(bytes, out),
            Token::Doctype(bytes) => {
                match Entities::read(bytes) {
                    Ok(entities) => self.entities = entities,
                    // A feed may say what it likes.
                    Err(Broken) => self.doubtful = true,
                }
                self.put(bytes, out);
                self.keep(bytes);
            }
            Token::Start(bytes) => self.start(bytes, out)?,
            Token::End(bytes) => self.end_tag(bytes, out)?,
            Token::Text(bytes) => self.text(bytes, false, out),
            Token::Literal(bytes) => self.text(bytes, true, out),
            Token::Other(bytes) => {
                self.put(bytes, out);
                self.keep(bytes);
            }
        }
        Ok(())
    }

    /// Writes where output goes now: nothing goes out before the root says what it is.
    fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let most = self.state.memory;
        match (&mut self.held, &mut self.root) {
            (Some(Held { markup, .. }), _) => {
                markup.reserve_exact(room(markup.len(), markup.capacity(), bytes.len(), most));
                markup.extend_from_slice(bytes);
            }
            (None, Root::Awaited { read, .. }) => read.extend_from_slice(bytes),
            (None, _) => out.extend_from_slice(bytes),
        }
    }

    /// Keeps what came before the root, should it have to pass.
    fn keep(&mut self, bytes: &[u8]) {
        if let Root::Awaited { raw, .. } = &mut self.root {
            raw.extend_from_slice(bytes);
        }
    }

    fn text(&mut self, bytes: &[u8], literal: bool, out: &mut Vec<u8>) {
        if self.state.link.in_anchor() {
            self.state.link.anchor_bytes(bytes);
        }
        self.put(bytes, out);
        self.keep(bytes);
        if let Some(held) = &mut self.held
            && held.depth == self.depth
        {
            held.note(bytes.len(), literal);
        }
    }

    /// `<?xml-stylesheet href="..."?>` loads like a `link` (Associating Style Sheets with XML 1.0).
    fn instruction(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        const TARGET: &[u8] = b"xml-stylesheet";
        let sheet =
            bytes.get(2..).and_then(|b| b.strip_prefix(TARGET)).is_some_and(|rest| tag::is_space(rest[0]));
        let mut gone = None;
        if sheet && self.state.opted_out {
            let href = tag::pseudo_attributes(bytes, TARGET.len()).filter_map(Result::ok);
            for attribute in href.filter(|a| a.name == b"href") {
                let value = self.state.urls.charset.text(attribute.value);
                gone = gone.or(elements::sheet(&mut self.state, &value));
            }
        }
        match gone {
            Some(Some(vendor)) => {
                let mark = format!("<!-- optgate strip:{} -->", self.state.vendor(vendor));
                self.put(mark.as_bytes(), out);
            }
            Some(None) => self.put(b"<!-- optgate strip -->", out),
            None => self.put(bytes, out),
        }
        self.keep(bytes);
    }

    fn end_tag(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RewriteError> {
        let ends = self.roles.last().filter(|(depth, _)| *depth == self.depth).map(|(_, role)| *role);
        if ends.is_some() {
            self.roles.pop();
        }
        let mut status = false;
        match ends {
            Some(Role::Place) => self.place(out),
            Some(Role::Template) => self.state.templates = self.state.templates.saturating_sub(1),
            Some(Role::Section) => self.state.link.sections = self.state.link.sections.saturating_sub(1),
            Some(Role::Drawing) => self.state.link.drawings = self.state.link.drawings.saturating_sub(1),
            Some(Role::Anchor(id)) => status = self.state.link.anchor_ends(Some(id)) && self.state.opted_out,
            Some(Role::Held(_)) => {
                if let Some(held) = self.held.take() {
                    self.close(held, out)?;
                }
            }
            None => {}
        }
        self.put(bytes, out);
        self.depth = self.depth.saturating_sub(1);
        self.scope.leave(self.depth);
        if status {
            let markup = self.in_xml(self.state.status().trim_start(), "span");
            self.put(format!(" {markup}").as_bytes(), out);
        }
        Ok(())
    }

    /// The link's place has come: before this end tag.
    fn place(&mut self, out: &mut Vec<u8>) {
        if self.state.link.takes_place() {
            let line = self.in_xml(&self.state.line(), "p");
            self.put(line.as_bytes(), out);
        }
    }

    /// Our markup with its namespace, where the page's default is another.
    fn in_xml(&self, markup: &str, tag: &str) -> String {
        if self.scope.resolve(b"") == Space::Html {
            return markup.to_owned();
        }
        let open = format!("<{tag} ");
        markup.replacen(&open, &format!("{open}xmlns=\"{XHTML}\" "), 1)
    }

    /// A script or style sheet is whole: it goes out as it came, or without what has to go.
    fn close(&mut self, held: Held, out: &mut Vec<u8>) -> Result<(), RewriteError> {
        let text = held.text(&self.entities, self.state.urls.charset)?;
        let changed = match held.sheet {
            Sheet::Script => {
                self.state.strip_inline(&text).map(|vendor| inline::emptied(self.state.vendor(vendor)))
            }
            Sheet::Style => self.state.without_addresses(&Resolved::plain(&text)).map(|(_, sheet)| sheet),
        };
        drop(text);
        // Large texts are not copied where they need not be, and not there twice.
        match changed {
            Some(text) => {
                drop(held);
                append_escaped(out, &text);
            }
            None if out.is_empty() => *out = held.markup,
            None => out.extend_from_slice(&held.markup),
        }
        Ok(())
    }

    /// Decides at the root what becomes of the document; `tag` is the root's.
    fn decide(
        &mut self,
        space: Space,
        local: &[u8],
        tag: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RewriteError> {
        let feed = !matches!(space, Space::Html | Space::Svg) && FEEDS.contains(&local);
        let page = space == Space::Html && local == b"html";
        self.document = page && matches!(self.kind, Kind::Document | Kind::Unsure);
        if !self.document {
            self.state.link.placed = Placed::Unwanted;
        }
        let untouched = feed || !(self.state.opted_out || self.document);
        if self.doubtful && !untouched {
            return Err(RewriteError::Xml);
        }
        let next = if untouched { Root::Untouched } else { Root::Read };
        if let Root::Awaited { raw, read } = std::mem::replace(&mut self.root, next) {
            out.extend_from_slice(if untouched { &raw } else { &read });
            if untouched {
                self.state.counts.clear();
                out.extend_from_slice(tag);
            }
        }
        Ok(())
    }
}

/// The XML declaration of a document that was transcoded.
fn declare_utf8(declaration: &[u8]) -> Vec<u8> {
    let named = tag::pseudo_attributes(declaration, b"xml".len())
        .filter_map(Result::ok)
        .find(|attribute| attribute.name == b"encoding");
    match named {
        Some(encoding) => {
            [&declaration[..encoding.quote], b"\"UTF-8\"", &declaration[encoding.end..]].concat()
        }
        None => declaration.to_vec(),
    }
}
