//! The body of a rewritten page: decoded, transcoded, rewritten and encoded as it streams.

use std::collections::VecDeque;
use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::coding::{Bounds, CodingError, Decoder, Effort, Encoder};
use super::memo::{Parting, Taken, Ticket, Work};
use super::pipeline::{Fault, Outcome, Pipeline};
use super::plan::Recipe;
use super::{PIECE, Plan, RewriteError, Rewriter, Summary};
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

/// The pipeline, once something has to be read: a page that the memo knows needs none.
enum Machine {
    Planned(Box<Parts>),
    Running(Box<Pipeline>),
    /// It could not be made.
    Broken,
}

/// What a pipeline is made of.
struct Parts {
    recipe: Recipe,
    plan: Plan,
    bounds: Bounds,
    on_failure: OnRewriteFailure,
    effort: Effort,
}

impl Machine {
    /// The pipeline; `sent`: bytes were given out.
    ///
    /// # Errors
    /// A decoder or encoder could not be made.
    fn pipeline(&mut self, sent: bool) -> Result<&mut Pipeline, CodingError> {
        if let Self::Planned(_) = self
            && let Self::Planned(parts) = std::mem::replace(self, Self::Broken)
        {
            let Parts { recipe, plan, bounds, on_failure, effort } = *parts;
            let (decoder, encoder) = (Decoder::new(recipe.from, bounds)?, Encoder::new(recipe.to, effort)?);
            *self = Self::Running(Box::new(Pipeline::new(decoder, encoder, &recipe, plan, on_failure)));
        }
        match self {
            Self::Running(pipeline) => {
                if sent {
                    pipeline.mark_sent();
                }
                Ok(pipeline)
            }
            Self::Planned(_) | Self::Broken => Err(CodingError::Encoder),
        }
    }

    /// The rewriter, where it alone makes the output.
    fn rewriter(&self) -> Option<&Rewriter> {
        if let Self::Running(pipeline) = self { pipeline.rewriter() } else { None }
    }
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
    /// Pieces of the origin that wait for their turn, and whether it has none any more.
    queue: VecDeque<Bytes>,
    ended: bool,
    /// What is left of the piece that the pipeline reads, and whether that has more to give.
    chunk: Bytes,
    more: bool,
    /// Behind that piece the page may be what it was before, at this point of the memo's.
    stop: Option<usize>,
    machine: Machine,
    /// Bytes were given out.
    sent: bool,
    work: Work,
    /// When a page that is to be remembered was asked for.
    began: Option<Instant>,
    opted_out: bool,
    state: State,
    /// Made ready by `prime`.
    ready: Option<Bytes>,
    /// What was read while priming, for a visitor who is not opted out.
    raw: Option<VecDeque<Bytes>>,
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
        let bodiless = recipe.bodiless;
        let parts = Parts { recipe: *recipe, plan, bounds, on_failure, effort: Effort::default() };
        Self {
            inner,
            queue: VecDeque::new(),
            ended: false,
            chunk: Bytes::new(),
            more: false,
            stop: None,
            work: Work::None,
            began: None,
            opted_out: recipe.opted_out,
            machine: Machine::Planned(Box::new(parts)),
            sent: false,
            state: if bodiless { State::Over } else { State::Rewriting },
            ready: None,
            raw: None,
            done: bodiless.then(|| Done::Finished(Summary::default())),
            on_done: None,
        }
    }

    /// Codes it with so much work; [`Effort::Fast`] otherwise.
    #[must_use]
    pub fn with_effort(mut self, effort: Effort) -> Self {
        if let Machine::Planned(parts) = &mut self.machine {
            parts.effort = effort;
        }
        self
    }

    /// Looks the page up in the memo.
    #[must_use]
    pub fn with_memo(mut self, ticket: Option<Ticket>) -> Self {
        if matches!(self.state, State::Rewriting) {
            self.work = ticket.map_or(Work::None, Ticket::work);
            self.began = matches!(self.work, Work::Record(_)).then(Instant::now);
        }
        self
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
        self.sent |= matches!(polled, Poll::Ready(Some(Ok(_))));
        polled
    }

    fn poll_pipeline(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        while matches!(self.state, State::Rewriting) {
            let step = match () {
                () if self.more => self.feed(),
                () if !self.queue.is_empty() => self.next_piece(),
                () if self.ended => self.end(),
                () => match Pin::new(&mut self.inner).poll_frame(cx) {
                    Poll::Pending => match self.pause() {
                        Ok(out) if out.is_empty() => return Poll::Pending,
                        out => out,
                    },
                    Poll::Ready(None) => {
                        self.ended = true;
                        continue;
                    }
                    Poll::Ready(Some(Ok(frame))) => self.came(frame).map(|()| Bytes::new()),
                    Poll::Ready(Some(Err(error))) => Err(BodyError::Origin(error.into())),
                },
            };
            match step {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(out))),
                Err(error) => return Poll::Ready(Some(Err(self.fail(error)))),
            }
        }
        Poll::Ready(None)
    }

    /// Takes a frame of the origin's.
    fn came(&mut self, frame: Frame<Bytes>) -> Result<(), BodyError> {
        let Ok(data) = frame.into_data() else { return Ok(()) };
        if let Some(raw) = &mut self.raw {
            raw.push_back(data.clone());
            // A coding that gives nothing for so much is none.
            if raw.iter().map(Bytes::len).sum::<usize>() > MOST_RAW {
                return Err(CodingError::Corrupt.into());
            }
        }
        if !data.is_empty() {
            self.queue.push_back(data);
        }
        Ok(())
    }

    /// Gives the next piece to the memo, while it is what it was before, or to the pipeline. What is to be sent.
    fn next_piece(&mut self) -> Result<Bytes, BodyError> {
        let Some(mut piece) = self.queue.pop_front() else { return Ok(Bytes::new()) };
        if let Work::Replay(replay) = &mut self.work {
            if replay.compares() {
                let Taken::Other(parting) = replay.take(&piece) else { return Ok(Bytes::new()) };
                piece.advance(parting.matched);
                self.queue.push_front(piece);
                return self.part(parting);
            }
            if let Some((at, point)) = replay.look_for(&piece) {
                self.queue.push_front(piece.split_off(at));
                self.stop = Some(point);
            }
            replay.read(&piece);
        }
        (self.chunk, self.more) = (piece, true);
        Ok(Bytes::new())
    }

    /// The page is another from here on: the pipeline reads it.
    fn part(&mut self, parting: Parting) -> Result<Bytes, BodyError> {
        if let Some(rewriter) = parting.rewriter {
            self.machine.pipeline(self.sent)?.resume(rewriter);
        }
        (self.chunk, self.more) = (parting.again, true);
        Ok(parting.out)
    }

    /// Gives the pipeline of the last piece what makes enough to send.
    fn feed(&mut self) -> Result<Bytes, BodyError> {
        let block = if let Work::Record(recording) = &self.work { recording.block() } else { usize::MAX };
        let piece = &self.chunk[..self.chunk.len().min(block)];
        let mut out = Vec::with_capacity(piece.len().min(PIECE) + 64);
        let mut rest = piece;
        let more = self.machine.pipeline(self.sent)?.write(&mut rest, &mut out)?;
        let used = piece.len() - rest.len();
        if let Work::Record(recording) = &mut self.work {
            recording.add(&piece[..used], &out);
            if !more {
                recording.point(false, || self.machine.rewriter()?.fork());
            }
        }
        self.chunk.advance(used);
        self.more = more || !self.chunk.is_empty();
        if !self.more
            && let Some(point) = self.stop.take()
            && let Work::Replay(replay) = &mut self.work
        {
            replay.rejoin(point, self.machine.rewriter());
        }
        Ok(out.into())
    }

    /// The origin pauses: what it sent so far is due.
    fn pause(&mut self) -> Result<Bytes, BodyError> {
        if let Work::Replay(replay) = &mut self.work
            && replay.compares()
        {
            return Ok(replay.due());
        }
        let mut out = Vec::new();
        self.machine.pipeline(self.sent)?.flush(&mut out)?;
        if let Work::Record(recording) = &mut self.work {
            recording.add(&[], &out);
            recording.point(true, || self.machine.rewriter()?.fork());
        }
        Ok(out.into())
    }

    /// The origin's body has ended.
    fn end(&mut self) -> Result<Bytes, BodyError> {
        if let Work::Replay(replay) = &mut self.work
            && replay.compares()
        {
            return match replay.end() {
                Ok((out, summary)) => {
                    (self.done, self.state) = (Some(Done::Finished(summary)), State::Over);
                    Ok(out)
                }
                Err(parting) => self.part(parting),
            };
        }
        let mut out = Vec::new();
        let outcome = self.machine.pipeline(self.sent)?.end(&mut out)?;
        let mut work = std::mem::replace(&mut self.work, Work::None);
        if let (Work::Record(recording), Outcome::NotHtml) = (&mut work, &outcome) {
            recording.give_up();
        }
        self.done = Some(match outcome {
            Outcome::Rewritten(summary) => Done::Finished(match work {
                Work::None => summary,
                Work::Replay(replay) => replay.summary(summary),
                Work::Record(mut recording) => {
                    recording.add(&[], &out);
                    let took = self.began.map_or(Duration::ZERO, |began| began.elapsed());
                    recording.finish(&summary, took);
                    summary
                }
            }),
            Outcome::NotHtml => Done::NotHtml,
            Outcome::Passed(fault) => Done::Failed { reason: BodyError::from(fault).label(), passed: true },
        });
        self.state = State::Over;
        Ok(out.into())
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
        matches!(self.state, State::Over) && self.ready.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Over => SizeHint::with_exact(self.ready.as_ref().map_or(0, Bytes::len) as u64),
            _ => SizeHint::default(),
        }
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
