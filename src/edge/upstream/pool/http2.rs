//! The same over HTTP/2: one connection for all requests of the core, while its origin allows as many streams.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::Response;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;

use super::super::answer_error::AnswerError;
use super::super::answer_frames::AnswerFrames;
use super::super::attempt::{self, Attempt, Outgoing};
use super::super::connect::Connected;
use super::super::shared::{Shared, Stream, Uses};
use super::{Answer, Asking, Held, Open, Pool, UpstreamBody};
use crate::edge::error::ProxyError;
use crate::edge::http2::local::LocalExecutor;
use crate::edge::http2::{SHARED_WINDOW, STREAM_WINDOW, unshare};
use crate::edge::message::body::RequestBody;
use crate::edge::message::progress::AnswerLimit;
use crate::edge::{strict, timer};

/// Fields of an answer over HTTP/2, bytes: no more, or references of one octet each become a bomb (CVE-2026-49975).
const MAX_FIELDS: u32 = 64 * 1024;

impl Pool {
    /// As [`Pool::send`]: a request that the origin says it has not begun, if its body is still at hand, is sent a
    /// second time, and goes to another origin after that; an idempotent one without a body on a connection that had
    /// served others and has broken is sent a second time.
    pub(super) async fn send_http2(
        self: &Rc<Self>,
        request: &mut Outgoing,
        asking: Asking<'_>,
    ) -> Result<Answer, Attempt> {
        let Asking { load, .. } = asking;
        // One connection carries many requests, so each of them takes a place.
        let place = self.place().await.map_err(Attempt::NotSent)?;
        let mut may_ask_again = true;
        let (mut response, stream) = loop {
            let connection = self.http2_connection().await.map_err(Attempt::NotSent)?;
            let Shared { sender, uses, .. } = connection;
            let outgoing = request.as_mut().ok_or(Attempt::GONE)?;
            let stale = may_ask_again
                && uses.has_served()
                && outgoing.method().is_idempotent()
                && outgoing.body().is_end_stream();
            let again = attempt::copy(outgoing);
            let stream = Stream::of(&uses);
            let failure = match self.exchange_http2(sender, request, &stream).await {
                Ok(response) => break (response, stream),
                Err(failure) => failure,
            };
            let not_begun = failure.was_not_begun() && again.body().is_whole();
            match failure {
                Attempt::NotSent(_) if may_ask_again => {}
                _ if may_ask_again && not_begun || stale && failure.was_cut() => *request = Some(again),
                _ if not_begun => {
                    *request = Some(again);
                    return Err(Attempt::NotSent(ProxyError::NotBegun));
                }
                failure => return Err(failure),
            }
            may_ask_again = false;
        };
        let ended = response.body().is_end_stream();
        strict::hold_to_http1(response.headers_mut(), ended)
            .map_err(|reason| Attempt::Failed(ProxyError::MalformedAnswer(reason)))?;
        let between = self.limits.between_bytes;
        let figures = Some(Arc::clone(&self.figures));
        let held = Held { _load: load, _place: place, _open: None, stream: Some(stream), figures };
        Ok(response.map(|body| UpstreamBody::http2(body, between, held)))
    }

    /// One request over the shared connection.
    async fn exchange_http2(
        &self,
        mut sender: http2::SendRequest<RequestBody>,
        request: &mut Outgoing,
        stream: &Stream,
    ) -> Result<Response<Incoming>, Attempt> {
        let mut outgoing = request.take().ok_or(Attempt::GONE)?;
        let mut limit = AnswerLimit::new(self.limits.first_byte, outgoing.body_mut().progress());
        unshare(outgoing.headers_mut());
        let mut answer = pin!(sender.try_send_request(outgoing));
        let sent = std::future::poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => limit.poll(cx).map(|()| None),
        });
        let Some(sent) = sent.await else {
            stream.give_up();
            return Err(Attempt::Failed(ProxyError::FirstByteTimeout));
        };
        let failure = match sent {
            Ok(response) => return Ok(response),
            Err(error) => Attempt::of(error, request),
        };
        if failure.broke_the_connection() {
            stream.give_up();
        }
        // What an origin says is wrong, not that it closed: it is not asked again.
        match (failure, stream.malformed()) {
            (Attempt::Failed(_), Some(reason)) => Err(Attempt::Failed(ProxyError::MalformedAnswer(reason))),
            (failure, _) => Err(failure),
        }
    }

    /// An open connection that takes requests.
    async fn http2_open(&self) -> Option<Shared> {
        self.forget_old_addresses();
        let found = {
            let mut open = self.http2.borrow_mut();
            open.retain(Shared::is_good);
            open.iter().find(|open| open.has_room()).cloned()
        };
        let mut found = found?;
        found.sender.ready().await.is_ok().then_some(found)
    }

    /// The connection for the next request: an open one, or a new one.
    ///
    /// One is made at a time, and whoever comes meanwhile waits for it: else an origin that comes back would be met
    /// by one for each request. Where it could not be made, each of them tries for itself.
    async fn http2_connection(&self) -> Result<Shared, ProxyError> {
        if let Some(found) = self.http2_open().await {
            return Ok(found);
        }
        let failures = self.http2_failures.get();
        let turn = self.http2_turn.acquire().await;
        if let Some(found) = self.http2_open().await {
            return Ok(found);
        }
        let _turn = turn.ok().filter(|_| self.http2_failures.get() == failures);
        let made = timer::within(self.connector.limit, Box::pin(self.http2_connect())).await;
        made.unwrap_or(Err(ProxyError::ConnectTimeout)).inspect_err(|_| {
            self.http2_failures.update(|failures| failures.wrapping_add(1));
        })
    }

    /// A connection whose origin has said how many streams it allows.
    async fn http2_connect(&self) -> Result<Shared, ProxyError> {
        let version = self.connector.version();
        let Connected { io, address } = self.connector.dial(None).await?;
        let uses = Rc::new(Uses::default());
        let io = AnswerFrames::new(io, Rc::clone(&uses));
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .max_header_list_size(MAX_FIELDS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(SHARED_WINDOW);
        let (sender, mut connection) =
            builder.handshake(TokioIo::new(io)).await.map_err(AnswerError::Http2)?;
        let open = Open::new(&self.figures);
        tokio::select! {
            biased;
            ended = &mut connection => {
                return Err(ended.err().map_or(AnswerError::Closed, AnswerError::Http2).into());
            }
            () = uses.allowed() => {}
        }
        tokio::task::spawn_local(async move {
            let _open = open;
            // A broken connection shows in the requests on it.
            let _ = connection.await;
        });
        let shared = Shared { sender, address, uses };
        if self.connector.version() == version {
            self.http2.borrow_mut().push(shared.clone());
        }
        Ok(shared)
    }
}
