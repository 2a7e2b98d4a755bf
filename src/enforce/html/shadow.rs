//! Observe mode: the body passes byte for byte, and a rewriter beside it counts what would happen.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::body::OnDone;
use super::coding::{Bounds, Decoder, Encoder};
use super::pipeline::{Outcome, Pipeline};
use super::plan::Recipe;
use super::{Plan, body};
use crate::config::OnRewriteFailure;

/// A body that passes unchanged while its page is read for the counters.
///
/// A fault ends the counting, never the body. Cost: as rewriting, without the output.
pub struct ShadowBody<B> {
    inner: B,
    counting: Option<(Box<Pipeline>, OnDone)>,
    scratch: Vec<u8>,
}

impl<B> std::fmt::Debug for ShadowBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShadowBody").field("counting", &self.counting.is_some()).finish_non_exhaustive()
    }
}

impl<B> ShadowBody<B> {
    /// Watches a body; `on_done` is called once, when the page has been read to its end or cannot be.
    #[must_use]
    pub fn new(inner: B, recipe: &Recipe, plan: Plan, bounds: Bounds, on_done: OnDone) -> Self {
        let counting = Decoder::new(recipe.from, bounds).ok().map(|decoder| {
            let pipeline = Pipeline::new(decoder, Encoder::identity(), recipe, plan, OnRewriteFailure::Close);
            (Box::new(pipeline), on_done)
        });
        Self { inner, counting, scratch: Vec::new() }
    }

    fn read(&mut self, chunk: &[u8]) {
        let Some((pipeline, _)) = &mut self.counting else { return };
        let mut rest = chunk;
        let written = loop {
            self.scratch.clear();
            match pipeline.write(&mut rest, &mut self.scratch) {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => break fault,
            }
        };
        let reason = body::BodyError::from(written).label();
        self.tell(body::Done::Failed { reason, passed: true });
    }

    fn end(&mut self) {
        let Some((pipeline, _)) = &mut self.counting else { return };
        self.scratch.clear();
        let done = match pipeline.end(&mut self.scratch) {
            Ok(Outcome::Rewritten(summary)) => body::Done::Finished(summary),
            Ok(Outcome::NotHtml) => body::Done::NotHtml,
            Ok(Outcome::Passed(fault)) | Err(fault) => {
                body::Done::Failed { reason: body::BodyError::from(fault).label(), passed: true }
            }
        };
        self.tell(done);
    }

    fn tell(&mut self, done: body::Done) {
        if let Some((_, on_done)) = self.counting.take() {
            on_done(done);
        }
    }
}

impl<B> Drop for ShadowBody<B> {
    fn drop(&mut self) {
        self.tell(body::Done::Aborted);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ShadowBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.read(data);
                }
            }
            Poll::Ready(None) => this.end(),
            Poll::Ready(Some(Err(_))) => this.tell(body::Done::Aborted),
            Poll::Pending => {}
        }
        // hyper asks no more of a body that says so.
        if matches!(polled, Poll::Ready(Some(Ok(_)))) && this.inner.is_end_stream() {
            this.end();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
