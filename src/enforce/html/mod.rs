//! Step 9: the document, streamed through one rewriter.
//!
//! `body` decodes, transcodes, rewrites and encodes; [`Rewriter`] is the part that reads markup: `tokens` finds
//! tags and texts, `structure` knows what they mean for the document, `elements` and `texts` what becomes of
//! them. Output never depends on how the input was cut.

mod amp;
pub mod body;
mod calls;
mod characters;
pub mod charset;
pub mod coding;
mod content;
mod context;
mod css;
mod edits;
mod element;
mod elements;
mod encoder;
mod frames;
mod gaps;
mod inject;
mod inline;
mod joined;
mod json;
mod listed;
pub mod memo;
mod mime;
pub mod negotiate;
mod opened;
mod pass;
mod pipeline;
pub mod plan;
mod quiet;
mod references;
mod reuse;
pub mod shadow;
mod slots;
mod sniff;
mod snippet;
mod srcset;
mod state;
mod structure;
mod tag;
mod target;
mod texts;
mod tokens;
mod urls;
mod worker;
mod xml;

use std::sync::Arc;

use crate::config::{LinkTitle, VendorAction};
use crate::enforce::guard::Placement;
use crate::enforce::keeper::Keeper;
use crate::registry::lists::PageLists;
use crate::registry::{Policy, VendorId};
use characters::Charset;
use encoding_rs::{Encoding, UTF_8};
use inject::Placed;
use pass::Pass;
use state::State;

/// What a response is to the browser that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A top-level document: guard and link.
    Document,
    /// A framed document: guard, no link.
    Frame,
    /// Part of a page fetched by script: neither.
    Fragment,
    /// The request does not say: a document if its first 1,024 bytes look like one.
    Unsure,
    /// The script of a worker or service worker: no markup, but our own statements before its first.
    Worker,
}

/// Everything the rewriter needs to know about one response; made by `plan`.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The visitor has opted out: trackers are neutralised and the guard is placed.
    pub opted_out: bool,
    /// The account keeps a programme in spite of that: the status says so.
    pub keeps_programme: bool,
    /// What to do with whom. Shared, resolved at start.
    pub policy: Arc<Policy>,
    /// Effective URL of the page; relative references resolve against it, and its own host is first party.
    pub page: url::Url,
    /// Document, frame or fragment.
    pub kind: Kind,
    /// The guard, where an inline script of ours can run (CSP allows it); without it `restrict` is `strip`.
    pub guard: Option<Placement>,
    /// What puts the link back when the page drops it, where the head's policies let it run.
    pub keeper: Option<Keeper>,
    /// Portal prefix; link target and stub addresses start with it.
    pub prefix: Arc<str>,
    /// Which link.
    pub link: LinkTitle,
    /// Bytes one tag, script or noscript may take.
    pub memory: usize,
    /// The operator's filter lists, for what the policy does not know.
    pub lists: Option<PageLists>,
}

/// What a rewriter did; for counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// References met of vendors in the registry: neutralised (strip), kept restricted, or allowed.
    pub vendors: Vec<(VendorId, VendorAction, u32)>,
    /// Our link was inserted.
    pub link_inserted: bool,
    /// The page brought its own link before the place of ours.
    pub link_adopted: bool,
    /// The page brought its own link after ours.
    pub link_duplicate: bool,
    /// The document was one (see [`Kind::Unsure`]).
    pub document: bool,
    /// Hosts of the page's own domain that it refers to and the registry does not know; at most 16.
    pub siblings: Vec<String>,
    /// Third parties that nobody knows, references to which went; at most 16.
    pub strangers: Vec<String>,
}

/// Why a body can no longer be rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// A tag, script or noscript is larger than the limit.
    #[error("a tag, script or style sheet is larger than limits.rewriter_memory allows")]
    Memory,
    /// XML that no parser would read to its end, or whose document type hides what it brings.
    #[error("the XML is not well-formed, or its document type hides markup")]
    Xml,
}

impl State {
    /// Says what became of the page.
    fn tell(self, summary: &mut Summary) {
        summary.link_inserted = self.link.placed == Placed::Inserted;
        summary.link_adopted = self.link.placed == Placed::Adopted;
        summary.link_duplicate = self.link.duplicate;
        summary.vendors = self.counts;
        summary.siblings = self.urls.siblings();
        summary.strangers = self.strangers.all();
    }
}

/// Bytes given to a pass at a time: what it may have to copy, whatever the caller's pieces are.
const PIECE: usize = 32 * 1024;

/// Memory a pass may take beyond the limit of one tag: a piece, and the stack of open elements.
const SLACK: usize = 256 * 1024;

/// Bytes that a rewriter may keep and still be copied: half a tag, not half a script.
const MOST_COPIED: usize = 4 * 1024;

/// Room for as many bytes more in a text that is held; `most` is all it may ever take.
///
/// A large text gets all its room at once: what is not written costs nothing, and doubling would have it there
/// twice and a half.
fn room(len: usize, capacity: usize, more: usize, most: usize) -> usize {
    match capacity - len {
        free if free >= more => 0,
        _ if len + more < 8 * PIECE => more.max(len),
        _ => most.saturating_sub(len).max(more),
    }
}

/// Streams one HTML body; not `Send` (it lives on its connection's core).
#[derive(Debug)]
pub struct Rewriter {
    opted_out: bool,
    document: bool,
    charset: Charset,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Not yet known whether this is a document; the first bytes, at most [`sniff::WINDOW`] and a piece.
    Unsure(Box<Plan>, Vec<u8>),
    /// Nothing to do: bytes pass as they come.
    Pass,
    /// Rewriting; for a visitor who has not opted out, looking for the place of the link.
    Active(Box<Pass>),
    /// A document served as XML.
    Xml(Box<xml::Pass>),
    /// Over, by an error.
    Failed(RewriteError),
}

impl Rewriter {
    /// A rewriter for one response that does not name its charset.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self::in_charset(plan, None)
    }

    /// A rewriter for one response in this charset. UTF-16 and ISO-2022-JP are transcoded before.
    #[must_use]
    pub fn in_charset(plan: Plan, charset: Option<&'static Encoding>) -> Self {
        let opted_out = plan.opted_out;
        let mut rewriter = Self { opted_out, document: false, charset: Charset(charset), stage: Stage::Pass };
        if plan.kind == Kind::Unsure {
            rewriter.stage = Stage::Unsure(Box::new(plan), Vec::new());
        } else {
            rewriter.begin(plan);
        }
        rewriter
    }

    /// A rewriter for a document served as XML, in UTF-8 unless a charset is named; `transcoded`: its bytes are
    /// UTF-8, whatever its declaration says.
    #[must_use]
    pub fn xml(plan: Plan, charset: Option<&'static Encoding>, transcoded: bool) -> Self {
        let (opted_out, charset) = (plan.opted_out, Charset(charset.or(Some(UTF_8))));
        let stage = Stage::Xml(Box::new(xml::Pass::new(plan, charset, transcoded)));
        Self { opted_out, document: false, charset, stage }
    }

    /// Whether it is XML that no browser shows as a page, as far as is known by now: it passes as it came.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        matches!(&self.stage, Stage::Xml(pass) if pass.is_untouched())
    }

    /// Rewrites the next piece; appends what can be sent to `out`.
    ///
    /// # Errors
    /// After an error nothing more may be written. For a visitor who is not opted out every byte given so
    /// far is then in `out`, and the caller may let the rest through unchanged.
    pub fn write(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), RewriteError> {
        match &mut self.stage {
            Stage::Unsure(_, held) => {
                held.extend_from_slice(chunk);
                self.decide(false, out)
            }
            _ => self.feed(chunk, out),
        }
    }

    /// Ends the document; appends the rest to `out`.
    ///
    /// # Errors
    /// As [`Rewriter::write`].
    pub fn end(mut self, out: &mut Vec<u8>) -> Result<Summary, RewriteError> {
        self.decide(true, out)?;
        let mut summary = Summary { document: self.document, ..Summary::default() };
        match self.stage {
            Stage::Active(pass) => pass.end(out)?.tell(&mut summary),
            Stage::Xml(pass) => {
                let (state, document) = pass.end(out);
                summary.document = document;
                state.tell(&mut summary);
            }
            Stage::Failed(error) => return Err(error),
            Stage::Pass | Stage::Unsure(..) => {}
        }
        Ok(summary)
    }

    /// Another that goes on from the same place; `None` where there is nothing to go on with, or much to copy.
    fn fork(&self) -> Option<Self> {
        let Stage::Active(pass) = &self.stage else { return None };
        if pass.kept() > MOST_COPIED {
            return None;
        }
        Some(Self { stage: Stage::Active(pass.clone()), ..*self })
    }

    /// Whether both would make the same of whatever comes next.
    fn stands_as(&self, other: &Self) -> bool {
        match (&self.stage, &other.stage) {
            (Stage::Active(a), Stage::Active(b)) => self.document == other.document && a.stands_as(b),
            _ => false,
        }
    }

    /// What was counted so far.
    fn counted(&self) -> Summary {
        match &self.stage {
            Stage::Active(pass) => pass.counted(),
            _ => Summary::default(),
        }
    }

    fn begin(&mut self, plan: Plan) {
        self.document = plan.kind == Kind::Document;
        let page = self.document || plan.kind == Kind::Frame;
        if plan.opted_out || self.document {
            let mut state = State::new(plan, self.document, page);
            state.urls.charset = self.charset;
            self.stage = Stage::Active(Box::new(Pass::new(state)));
        }
    }

    /// Leaves [`Stage::Unsure`] once the first bytes are enough; with `last` always.
    fn decide(&mut self, last: bool, out: &mut Vec<u8>) -> Result<(), RewriteError> {
        let Stage::Unsure(plan, held) = &mut self.stage else { return Ok(()) };
        let Some(document) = sniff::document(held, last) else { return Ok(()) };
        let held = std::mem::take(held);
        let kind = if document { Kind::Document } else { Kind::Fragment };
        let plan = Plan { kind, ..(**plan).clone() };
        self.begin(plan);
        self.feed(&held, out)
    }

    fn feed(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), RewriteError> {
        let mut fed = 0;
        loop {
            let rest = &chunk[fed..];
            let piece = &rest[..rest.len().min(PIECE)];
            let written = match &mut self.stage {
                Stage::Active(pass) => pass.write(piece, out),
                Stage::Xml(pass) => pass.write(piece, out),
                Stage::Failed(error) => return Err(*error),
                Stage::Pass | Stage::Unsure(..) => {
                    out.extend_from_slice(rest);
                    return Ok(());
                }
            };
            fed += piece.len();
            if let Err(error) = written {
                if !self.opted_out {
                    out.extend_from_slice(&chunk[fed..]);
                }
                self.stage = Stage::Failed(error);
                return Err(error);
            }
            if fed == chunk.len() {
                return Ok(());
            }
        }
    }
}

/// What the tests of this room share.
#[cfg(test)]
mod testing {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::LazyLock;

    use super::*;
    use crate::config::VendorPolicy;
    use crate::registry::Registry;

    /// The built-in registry, as it acts by itself.
    pub(super) static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
        let registry = Arc::new(Registry::builtin().unwrap());
        Arc::new(Policy::resolve(registry, &VendorPolicy::default()).unwrap())
    });

    /// For a document with a keeper and without a guard.
    pub(super) fn plan(opted_out: bool) -> Plan {
        Plan {
            opted_out,
            keeps_programme: false,
            policy: Arc::clone(&POLICY),
            page: url::Url::parse("https://shop.example/page").unwrap(),
            kind: Kind::Document,
            guard: None,
            keeper: Some(Keeper::default()),
            prefix: Arc::from("/privacy-choices"),
            link: LinkTitle::DoNotSell,
            memory: 1 << 20,
            lists: None,
        }
    }

    /// The pages of the fixtures, and those that are saved beside the checkout, in order.
    pub(super) fn pages() -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let fixtures = fs::read_dir(root.join("tests/fixtures/html")).unwrap();
        let mut pages: Vec<_> = fixtures.map(|entry| entry.unwrap().path().join("input.html")).collect();
        match fs::read_dir(root.join("../shared/corpus")) {
            Ok(entries) => pages.extend(entries.map(|entry| entry.unwrap().path())),
            Err(_) => println!("skipped: no saved pages beside the checkout"),
        }
        pages.retain(|path| path.extension().is_some_and(|e| e == "html"));
        pages.sort();
        pages
    }
}
