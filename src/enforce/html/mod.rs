//! Step 9: the document, streamed through one rewriter.
//!
//! `body` decodes, transcodes, rewrites and encodes; [`Rewriter`] is the part that reads markup. Output never
//! depends on how the input was cut.

use std::sync::Arc;

use crate::config::{LinkTitle, VendorAction};
use crate::registry::{Policy, VendorId};

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

/// Streams one HTML body; not `Send` (it lives on its connection's core).
#[derive(Debug)]
pub struct Rewriter {}

impl Rewriter {
    /// A rewriter for one response.
    #[must_use]
    pub fn new(_plan: Plan) -> Self {
        todo!()
    }

    /// Rewrites the next piece; appends what can be sent to `out`.
    ///
    /// # Errors
    /// After an error nothing more may be written.
    pub fn write(&mut self, _chunk: &[u8], _out: &mut Vec<u8>) -> Result<(), RewriteError> {
        todo!()
    }

    /// Ends the document; appends the rest to `out`.
    ///
    /// # Errors
    /// As [`Rewriter::write`].
    pub fn end(&mut self, _out: &mut Vec<u8>) -> Result<Summary, RewriteError> {
        todo!()
    }
}
