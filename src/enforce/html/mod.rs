//! Step 9: the document, streamed through one rewriter.
//!
//! `body` decodes, transcodes, rewrites and encodes; [`Rewriter`] is the part that reads markup. Output never
//! depends on how the input was cut.

pub mod body;
pub mod charset;
pub mod coding;
mod context;
mod css;
mod elements;
mod encoder;
mod inject;
mod inline;
mod linker;
mod mime;
pub mod negotiate;
mod pipeline;
pub mod plan;
mod quiet;
mod references;
mod rewriter;
pub mod shadow;
mod sniff;
mod srcset;
mod state;
mod structure;
mod tag;
mod target;
mod texts;
mod tokens;
mod urls;
mod window;
mod worker;

use std::sync::Arc;

use crate::config::{LinkTitle, VendorAction};
use crate::registry::{Policy, VendorId};
use inject::Placed;
use linker::Linker;
use rewriter::Engine;
use state::State;

/// What a response is to the browser that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// What to do with whom. Shared, resolved at start.
    pub policy: Arc<Policy>,
    /// Effective URL of the page; relative references resolve against it, and its own host is first party.
    pub page: url::Url,
    /// Document, frame or fragment.
    pub kind: Kind,
    /// An inline script of ours can run (CSP allows it); without it `restrict` is `strip`.
    pub guard: bool,
    /// Portal prefix; link target and stub addresses start with it.
    pub prefix: Arc<str>,
    /// Which link.
    pub link: LinkTitle,
    /// Bytes one tag, script or noscript may take.
    pub memory: usize,
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
}

/// Why a body can no longer be rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// A tag, script or noscript is larger than the limit.
    #[error("a tag, script or noscript is larger than limits.rewriter_memory")]
    Memory,
    /// The tokenizer refused.
    #[error("the tokenizer refused")]
    Handler,
}

impl State {
    /// Says what became of the page.
    fn tell(self, summary: &mut Summary) {
        summary.link_inserted = self.link.placed == Placed::Inserted;
        summary.link_adopted = self.link.placed == Placed::Adopted;
        summary.link_duplicate = self.link.duplicate;
        summary.vendors = self.counts;
        summary.siblings = self.urls.siblings();
    }
}

/// Bytes given to a pass at a time: what it may have to copy, whatever the caller's pieces are.
const PIECE: usize = 32 * 1024;

/// Streams one HTML body; not `Send` (it lives on its connection's core).
#[derive(Debug)]
pub struct Rewriter {
    opted_out: bool,
    document: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Not yet known whether this is a document; the first bytes, at most [`sniff::WINDOW`] and a piece.
    Unsure(Box<Plan>, Vec<u8>),
    /// Nothing to do: bytes pass as they come.
    Pass,
    /// Rewriting.
    Active(Box<Engine>),
    /// Looking for the place of the link, and changing nothing else.
    Link(Box<Linker>),
    /// Over, by an error.
    Failed(RewriteError),
}

impl Rewriter {
    /// A rewriter for one response.
    ///
    /// Cost: 5-15 us where handlers are needed, nothing where none is.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let opted_out = plan.opted_out;
        let mut rewriter = Self { opted_out, document: false, stage: Stage::Pass };
        if plan.kind == Kind::Unsure {
            rewriter.stage = Stage::Unsure(Box::new(plan), Vec::new());
        } else {
            rewriter.begin(plan);
        }
        rewriter
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
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<Summary, RewriteError> {
        self.decide(true, out)?;
        let stage = std::mem::replace(&mut self.stage, Stage::Failed(RewriteError::Handler));
        let mut summary = Summary { document: self.document, ..Summary::default() };
        match stage {
            Stage::Active(engine) => {
                engine.end(out)?.tell(&mut summary);
            }
            Stage::Link(linker) => linker.end(out).tell(&mut summary),
            Stage::Failed(error) => return Err(error),
            Stage::Pass | Stage::Unsure(..) => {}
        }
        Ok(summary)
    }

    fn begin(&mut self, plan: Plan) {
        self.document = plan.kind == Kind::Document;
        let page = self.document || plan.kind == Kind::Frame;
        self.stage = if plan.opted_out {
            match Engine::new(State::new(plan, self.document, page)) {
                Ok(engine) => Stage::Active(Box::new(engine)),
                Err(error) => Stage::Failed(error),
            }
        } else if self.document {
            Stage::Link(Box::new(Linker::new(State::new(plan, true, true))))
        } else {
            Stage::Pass
        };
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
                Stage::Active(engine) => engine.write(piece, out),
                Stage::Link(linker) => linker.write(piece, out),
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
