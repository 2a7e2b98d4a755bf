//! The body of a rewritten page: decoded, transcoded, rewritten and encoded as it streams.

use std::collections::VecDeque;
use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::coding::{Bounds, CodingError, Decoder, Encoder};
use super::pipeline::{Fault, Outcome, Pipeline};
use super::plan::Recipe;
use super::{PIECE, Plan, RewriteError, Summary};
use crate::config::OnRewriteFailure;

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The origin's body failed.
    #[error("the origin's body failed: {0}")]
    Origin(#[source] Box<dyn Error + Send + Sync>),
    /// The content coding could not be read or written.
    #[error("{0}")]
    Coding(#[from] CodingError),
    /// The rewriter could not go on.
    #[error("{0}")]
    Rewrite(#[from] RewriteError),
}

impl BodyError {
    /// Word for metrics and logs.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Origin(_) => "origin-body",
            Self::Coding(error) => error.label(),
            Self::Rewrite(RewriteError::Memory) => "rewriter-memory",
            Self::Rewrite(RewriteError::Handler) => "rewriter-handler",
            Self::Rewrite(RewriteError::Xml) => "rewriter-xml",
        }
    }
}

impl From<Fault> for BodyError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Decode(error) | Fault::Encode(error) => Self::Coding(error),
            Fault::Rewrite(error) => Self::Rewrite(error),
        }
    }
}

/// How a body ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Rewritten to its end.
    Finished(Summary),
    /// It had no type, and no browser would have read it as HTML: passed.
    NotHtml,
    /// It could not be rewritten to its end.
    Failed {
        /// Word for metrics.
        reason: &'static str,
        /// The rest went through unchanged; else the body was stopped.
        passed: bool,
    },
    /// The visitor left, or the body was dropped for another reason.
    Aborted,
}

/// What [`RewriteBody::prime`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Primed {
    /// The body can be sent under the rewritten head.
    Rewritten,
    /// It cannot be decoded, and the visitor has not opted out: it passes as it came, and so must its
    /// head (plan [`super::plan::PassReason::Coding`]).
    Raw,
}

#[derive(Debug)]
enum State {
    Rewriting,
    /// As it came: first what was read already.
    Raw(VecDeque<Bytes>),
    /// Ended, well or by an error that was given out. Nothing follows.
    Over,
}

/// Bytes kept while a body that may have to pass as it came has given nothing yet.
const MOST_RAW: usize = 1 << 20;

/// Called once, with the end.
pub type OnDone = Box<dyn FnOnce(Done)>;

/// A page's body on its way through the rewriter; not `Send`.
///
/// Streams stay streams: what was written is flushed as soon as the origin pauses. Trailers are
/// dropped, since they may describe the origin's bytes. After an error nothing follows.
///
/// Before the head is sent, call [`RewriteBody::prime`]; then an error can still become another answer.
pub struct RewriteBody<B> {
    inner: B,
    /// What is left of the origin's last piece, and whether the pipeline has more to give.
    chunk: Bytes,
    more: bool,
    pipeline: Box<Pipeline>,
    opted_out: bool,
    state: State,
    /// Made ready by `prime`.
    ready: Option<Bytes>,
    /// What was read while priming, for a visitor who is not opted out.
    raw: Option<VecDeque<Bytes>>,
    /// An error from the making of the pipeline.
    unmade: Option<BodyError>,
    done: Option<Done>,
    on_done: Option<OnDone>,
}

impl<B> std::fmt::Debug for RewriteBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RewriteBody")
            .field("state", &self.state)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl<B> RewriteBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// A rewritten body.
    ///
    /// `plan.kind` should be the recipe's kind. A recipe without a body (HEAD) gives an empty body.
    #[must_use]
    pub fn new(inner: B, recipe: &Recipe, plan: Plan, bounds: Bounds, on_failure: OnRewriteFailure) -> Self {
        let (decoder, encoder) = (Decoder::new(recipe.from, bounds), Encoder::new(recipe.to));
        let (decoder, encoder, unmade) = match (decoder, encoder) {
            (Ok(decoder), Ok(encoder)) => (decoder, encoder, None),
            (Err(error), _) | (_, Err(error)) => {
                (Decoder::identity(), Encoder::identity(), Some(BodyError::from(error)))
            }
        };
        let bodiless = recipe.bodiless;
        Self {
            inner,
            chunk: Bytes::new(),
            more: false,
            opted_out: recipe.opted_out,
            pipeline: Box::new(Pipeline::new(decoder, encoder, recipe, plan, on_failure)),
            state: if bodiless { State::Over } else { State::Rewriting },
            ready: None,
            raw: None,
            unmade,
            done: bodiless.then(|| Done::Finished(Summary::default())),
            on_done: None,
        }
    }

    /// Sets what is called with the end of the body: once, also when the body is dropped before
    /// ([`Done::Aborted`]).
    #[must_use]
    pub fn with_on_done(mut self, on_done: OnDone) -> Self {
        self.on_done = Some(on_done);
        self
    }

    /// Reads until the first bytes to send, the end, or an error exist.
    ///
    /// # Errors
    /// The body cannot be rewritten, and no byte of it was sent yet: the caller may ask again or answer
    /// with an error page.
    pub async fn prime(&mut self) -> Result<Primed, BodyError> {
        poll_fn(|cx| self.poll_prime(cx)).await
    }

    /// [`RewriteBody::prime`] as a poll function.
    ///
    /// # Errors
    /// As [`RewriteBody::prime`].
    pub fn poll_prime(&mut self, cx: &mut Context<'_>) -> Poll<Result<Primed, BodyError>> {
        if let State::Raw(_) = self.state {
            return Poll::Ready(Ok(Primed::Raw));
        }
        if self.ready.is_some() || matches!(self.state, State::Over) {
            return Poll::Ready(Ok(Primed::Rewritten));
        }
        if !self.opted_out && self.raw.is_none() {
            self.raw = Some(VecDeque::new());
        }
        let polled = self.poll_rewritten(cx);
        if polled.is_pending() {
            return Poll::Pending;
        }
        let raw = self.raw.take();
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(Ok(Primed::Rewritten)),
            Poll::Ready(Some(Ok(bytes))) => {
                self.ready = Some(bytes);
                Poll::Ready(Ok(Primed::Rewritten))
            }
            Poll::Ready(Some(Err(error))) => match raw {
                Some(raw) if matches!(error, BodyError::Coding(_)) => {
                    self.done = Some(Done::Failed { reason: error.label(), passed: true });
                    self.state = State::Raw(raw);
                    Poll::Ready(Ok(Primed::Raw))
                }
                _ => Poll::Ready(Err(error)),
            },
        }
    }

    /// The next rewritten bytes, never empty.
    fn poll_rewritten(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let polled = self.poll_pipeline(cx);
        if let Poll::Ready(Some(Ok(_))) = polled {
            self.pipeline.mark_sent();
        }
        polled
    }

    fn poll_pipeline(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(error) = self.unmade.take() {
            return Poll::Ready(Some(Err(self.fail(error))));
        }
        let mut out = Vec::new();
        while matches!(self.state, State::Rewriting) {
            if self.more {
                if let Err(fault) = self.feed(&mut out) {
                    return Poll::Ready(Some(Err(self.fail(fault.into()))));
                }
                if !out.is_empty() {
                    return Poll::Ready(Some(Ok(out.into())));
                }
                continue;
            }
            match Pin::new(&mut self.inner).poll_frame(cx) {
                // The origin pauses: what it sent so far is due.
                Poll::Pending => match self.pipeline.flush(&mut out) {
                    Err(fault) => return Poll::Ready(Some(Err(self.fail(fault.into())))),
                    Ok(()) if out.is_empty() => return Poll::Pending,
                    Ok(()) => return Poll::Ready(Some(Ok(out.into()))),
                },
                Poll::Ready(Some(Err(error))) => {
                    let error = BodyError::Origin(error.into());
                    return Poll::Ready(Some(Err(self.fail(error))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if let Some(raw) = &mut self.raw {
                        raw.push_back(data.clone());
                        // A coding that gives nothing for so much is none.
                        if raw.iter().map(Bytes::len).sum::<usize>() > MOST_RAW {
                            return Poll::Ready(Some(Err(self.fail(CodingError::Corrupt.into()))));
                        }
                    }
                    (self.chunk, self.more) = (data, true);
                }
                Poll::Ready(None) => match self.pipeline.end(&mut out) {
                    Err(fault) => return Poll::Ready(Some(Err(self.fail(fault.into())))),
                    Ok(outcome) => {
                        self.done = Some(match outcome {
                            Outcome::Rewritten(summary) => Done::Finished(summary),
                            Outcome::NotHtml => Done::NotHtml,
                            Outcome::Passed(fault) => {
                                Done::Failed { reason: BodyError::from(fault).label(), passed: true }
                            }
                        });
                        self.state = State::Over;
                    }
                },
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(out.into())));
            }
        }
        Poll::Ready(None)
    }

    /// Gives the pipeline of the last piece what makes enough to send.
    fn feed(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.reserve(self.chunk.len().min(PIECE) + 64);
        let mut rest = &self.chunk[..];
        self.more = self.pipeline.write(&mut rest, out)?;
        let used = self.chunk.len() - rest.len();
        self.chunk.advance(used);
        Ok(())
    }

    fn fail(&mut self, error: BodyError) -> BodyError {
        self.state = State::Over;
        self.done = Some(Done::Failed { reason: error.label(), passed: false });
        error
    }

    /// The rest as it came; trailers too.
    fn poll_raw(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let State::Raw(held) = &mut self.state
            && let Some(bytes) = held.pop_front()
        {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => Poll::Ready(Some(Err(self.fail(BodyError::Origin(error.into()))))),
            None => {
                self.state = State::Over;
                Poll::Ready(None)
            }
        }
    }
}

impl<B> RewriteBody<B> {
    fn report(&mut self, done: Done) {
        if let Some(on_done) = self.on_done.take() {
            on_done(done);
        }
    }
}

impl<B> Body for RewriteBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = if let Some(bytes) = this.ready.take() {
            Poll::Ready(Some(Ok(Frame::data(bytes))))
        } else if matches!(this.state, State::Raw(_)) {
            this.poll_raw(cx)
        } else {
            this.poll_rewritten(cx).map(|item| item.map(|result| result.map(Frame::data)))
        };
        // Told at the last frame: some callers never poll again after `is_end_stream`.
        if this.ready.is_none()
            && matches!(this.state, State::Over)
            && !polled.is_pending()
            && let Some(done) = this.done.clone()
        {
            this.report(done);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Over) && self.ready.is_none() && self.unmade.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

impl<B> Drop for RewriteBody<B> {
    fn drop(&mut self) {
        // A bodiless or failed body may never be polled; its end is known all the same.
        let ended = matches!(self.state, State::Over) && self.ready.is_none();
        let done = self.done.take().filter(|_| ended).unwrap_or(Done::Aborted);
        self.report(done);
    }
}
