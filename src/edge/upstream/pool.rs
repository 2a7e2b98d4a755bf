//! Keep-alive connections of one core to one origin, and the body that gives them back.

use std::cell::RefCell;
use std::future::Future as _;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::connect::Connector;
use super::transport::Transport;
use crate::edge::body::{BodyError, RequestBody};
use crate::edge::error::ProxyError;
use crate::edge::local::LocalExecutor;
use crate::edge::strict::{AnswerGate, Expected, Reason};
use crate::edge::timer::{self, Deadline};

type Io = TokioIo<AnswerGate<Transport>>;

/// Read buffer of an origin connection: whole in the second-level cache.
const MAX_BUF: usize = 128 * 1024;

/// One HTTP/1.1 connection: the handle and the machine that must be polled.
struct Live {
    sender: http1::SendRequest<RequestBody>,
    connection: http1::Connection<Io, RequestBody>,
    /// Tells the connection's gate that an answer comes.
    expected: Expected,
    /// The machine has ended; the connection is of no more use.
    ended: bool,
    /// For one request only.
    once: bool,
    idle_since: Instant,
}

impl Live {
    /// Drives the connection a step; notes when it has ended.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended && Pin::new(&mut self.connection).poll(cx).is_ready() {
            self.ended = true;
        }
    }

    const fn usable(&self) -> bool {
        !self.ended && !self.once
    }
}

/// Limits of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolLimits {
    /// Idle connections kept.
    pub idle: usize,
    /// How long one may stay idle.
    pub idle_for: Duration,
    /// From the request sent to the response head.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub between_bytes: Duration,
}

/// The connections of one core to one origin.
pub struct Pool {
    connector: Connector,
    limits: PoolLimits,
    /// Boxed, because a connection moves between the pool and a body with every request.
    #[allow(clippy::vec_box)]
    idle: RefCell<Vec<Box<Live>>>,
    http2: RefCell<Option<http2::SendRequest<RequestBody>>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("connector", &self.connector).finish_non_exhaustive()
    }
}

/// An origin's answer: its head, and a body that owns the connection.
pub type Answer = Response<UpstreamBody>;

/// Both ends of an upgraded connection to the origin.
#[derive(Debug)]
pub struct Tunnel {
    /// The 101 head.
    pub head: http::response::Parts,
    /// The bytes after it.
    pub upgraded: Upgraded,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(connector: Connector, limits: PoolLimits) -> Rc<Self> {
        Rc::new(Self { connector, limits, idle: RefCell::default(), http2: RefCell::default() })
    }

    /// Sends a request; resolves when the answer's head is there.
    ///
    /// A pooled connection that turns out closed before the request was written is replaced by a
    /// fresh one. One that closes without a byte of an answer after it had been idle for a while is too, for an
    /// idempotent request without a body (RFC 9110, 9.2.2); nothing else is ever sent twice.
    ///
    /// # Errors
    /// [`Attempt::NotSent`] gives the request back for another origin.
    pub async fn send(self: &Rc<Self>, mut request: Request<RequestBody>) -> Result<Answer, Attempt> {
        if self.connector.upstream.http2 {
            return self.send_http2(request).await;
        }
        // An origin that does not expect a body there may read it as the next request.
        let once = !request.body().is_end_stream() && !expects_body(request.method());
        let mut retried = false;
        loop {
            let pooled = if retried { None } else { self.checkout() };
            let fresh = pooled.is_none();
            let again = pooled.as_ref().and_then(|live| replayable(live, &request));
            let mut live = match pooled {
                Some(live) => live,
                None => match self.open().await {
                    Ok(live) => Box::new(live),
                    Err(error) => return Err(Attempt::NotSent(Box::new(request), error)),
                },
            };
            live.once = once;
            match self.exchange(&mut live, request).await {
                Ok(response) => return Ok(response.map(|body| UpstreamBody::http1(body, live, self))),
                Err(Attempt::NotSent(unsent, _)) if !fresh => request = *unsent,
                Err(Attempt::Failed(ProxyError::Answer(error)))
                    if again.is_some() && live.expected.is_unheard() && was_cut(&error) =>
                {
                    let Some(again) = again else { return Err(Attempt::failed(error)) };
                    (request, retried) = (*again, true);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// One request over one connection, driven by this task.
    async fn exchange(
        &self,
        live: &mut Live,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Attempt> {
        live.expected.answer(false);
        let mut answer = pin!(live.sender.try_send_request(request));
        let connection = &mut live.connection;
        let ended = &mut live.ended;
        let mut limit = Deadline::new(self.limits.first_byte);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = answer.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(Attempt::of));
            }
            if !*ended && Pin::new(&mut *connection).poll(cx).is_ready() {
                *ended = true;
            }
            if let Poll::Ready(result) = answer.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(Attempt::of));
            }
            limit.poll(cx).map(|()| Err(Attempt::Failed(ProxyError::FirstByteTimeout)))
        })
        .await
    }

    /// An idle connection that is still open.
    fn checkout(&self) -> Option<Box<Live>> {
        let now = timer::now();
        loop {
            let mut live = self.idle.borrow_mut().pop()?;
            // The reactor has already noted a hang-up, so this costs no system call.
            live.drive(&mut Context::from_waker(std::task::Waker::noop()));
            if live.usable() && now.saturating_duration_since(live.idle_since) < self.limits.idle_for {
                return Some(live);
            }
        }
    }

    fn put_back(&self, mut live: Box<Live>) {
        let mut idle = self.idle.borrow_mut();
        if live.usable() && idle.len() < self.limits.idle {
            live.idle_since = timer::now();
            idle.push(live);
        }
    }

    /// Closes connections that were idle for too long.
    pub fn expire(&self) {
        let now = timer::now();
        self.idle
            .borrow_mut()
            .retain(|live| now.saturating_duration_since(live.idle_since) < self.limits.idle_for);
    }

    async fn open(&self) -> Result<Live, ProxyError> {
        let expected = Expected::default();
        let io = TokioIo::new(AnswerGate::new(self.connector.connect().await?, expected.clone()));
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUF)
            .allow_spaces_after_header_name_in_responses(true)
            .handshake::<_, RequestBody>(io)
            .await
            .map_err(ProxyError::Answer)?;
        Ok(Live { sender, connection, expected, ended: false, once: false, idle_since: timer::now() })
    }

    /// Sends an upgrade request over a connection of its own.
    ///
    /// # Errors
    /// [`Attempt::NotSent`] gives the request back for another origin.
    pub async fn send_upgrade(
        self: &Rc<Self>,
        request: Request<RequestBody>,
    ) -> Result<Result<Tunnel, Answer>, Attempt> {
        let Live { mut sender, connection, expected, .. } = match self.open().await {
            Ok(live) => live,
            Err(error) => return Err(Attempt::NotSent(Box::new(request), error)),
        };
        expected.answer(true);
        let driver = tokio::task::spawn_local(connection.with_upgrades());
        let sent = timer::within(self.limits.first_byte, sender.send_request(request)).await;
        let response = sent.ok_or(Attempt::Failed(ProxyError::FirstByteTimeout))?.map_err(Attempt::failed)?;
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            // The connection ends with this answer; its task drives the body.
            drop(driver);
            let between = self.limits.between_bytes;
            return Ok(Err(response.map(|body| UpstreamBody::detached(body, between))));
        }
        let (head, body) = response.into_parts();
        let mut for_upgrade = Response::from_parts(head.clone(), body);
        let upgraded = hyper::upgrade::on(&mut for_upgrade).await.map_err(Attempt::failed)?;
        Ok(Ok(Tunnel { head, upgraded }))
    }

    async fn send_http2(self: &Rc<Self>, request: Request<RequestBody>) -> Result<Answer, Attempt> {
        let mut sender = match self.http2_sender().await {
            Ok(sender) => sender,
            Err(error) => return Err(Attempt::NotSent(Box::new(request), error)),
        };
        let sent = timer::within(self.limits.first_byte, sender.try_send_request(request)).await;
        let response = sent.ok_or(Attempt::Failed(ProxyError::FirstByteTimeout))?.map_err(Attempt::of)?;
        let between = self.limits.between_bytes;
        Ok(response.map(|body| UpstreamBody::detached(body, between)))
    }

    async fn http2_sender(&self) -> Result<http2::SendRequest<RequestBody>, ProxyError> {
        let open = self.http2.borrow().clone().filter(|sender| !sender.is_closed());
        if let Some(mut sender) = open
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let io = TokioIo::new(self.connector.connect().await?);
        let (sender, connection) =
            http2::Builder::new(LocalExecutor).handshake(io).await.map_err(ProxyError::Answer)?;
        tokio::task::spawn_local(async move {
            // A broken connection shows in the requests on it.
            let _ = connection.await;
        });
        *self.http2.borrow_mut() = Some(sender.clone());
        Ok(sender)
    }
}

/// Whether origins expect a body with this method (RFC 9110, 9.3).
fn expects_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS)
}

/// Whether an exchange ended because the origin closed, and not because of what it said.
fn was_cut(error: &hyper::Error) -> bool {
    !error.is_parse() && !error.is_timeout() && Reason::behind(error).is_none()
}

/// A copy of an idempotent request without a body, where the connection was idle for so long that the origin may
/// be closing it right now. A busy connection's requests are not copied.
fn replayable(live: &Live, request: &Request<RequestBody>) -> Option<Box<Request<RequestBody>>> {
    let idle = timer::now().saturating_duration_since(live.idle_since) >= timer::TICK;
    if !idle || !request.body().is_end_stream() || !request.method().is_idempotent() {
        return None;
    }
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(Box::new(copy))
}

/// How an attempt to send a request failed.
#[derive(Debug)]
pub enum Attempt {
    /// Nothing was written; the request can go elsewhere.
    NotSent(Box<Request<RequestBody>>, ProxyError),
    /// Something was, or may have been.
    Failed(ProxyError),
}

impl Attempt {
    const fn failed(error: hyper::Error) -> Self {
        Self::Failed(ProxyError::Answer(error))
    }

    fn of(mut error: hyper::client::conn::TrySendError<Request<RequestBody>>) -> Self {
        let unsent = error.take_message();
        let error = error.into_error();
        let error = match BodyError::cause_of(&error) {
            Some(BodyError::TooLarge) => ProxyError::BodyTooLarge,
            Some(BodyError::Stalled) => ProxyError::BodyTimeout,
            Some(BodyError::Visitor(_)) => ProxyError::BrokenBody,
            _ => ProxyError::Answer(error),
        };
        match unsent {
            Some(request) => Self::NotSent(Box::new(request), error),
            None => Self::Failed(error),
        }
    }
}

/// The body of an origin's answer. Drives its connection and gives it back at the end; dropped early
/// it closes the connection.
pub struct UpstreamBody {
    body: Incoming,
    live: Option<(Box<Live>, Rc<Pool>)>,
    between_bytes: Duration,
    limit: Option<Deadline>,
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody").field("body", &self.body).finish_non_exhaustive()
    }
}

impl UpstreamBody {
    fn http1(body: Incoming, live: Box<Live>, pool: &Rc<Pool>) -> Self {
        let mut this = Self {
            body,
            live: Some((live, Rc::clone(pool))),
            between_bytes: pool.limits.between_bytes,
            limit: None,
        };
        if this.body.is_end_stream() {
            this.release();
        }
        this
    }

    /// A body whose connection is driven by a task of its own.
    const fn detached(body: Incoming, between_bytes: Duration) -> Self {
        Self { body, live: None, between_bytes, limit: None }
    }

    /// Gives the connection back if it can carry another request.
    fn release(&mut self) {
        let Some((mut live, pool)) = self.live.take() else { return };
        // One more step lets the machine go from "body done" to "idle".
        live.drive(&mut Context::from_waker(std::task::Waker::noop()));
        if live.usable() && live.sender.is_ready() {
            pool.put_back(live);
        }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if let Some((live, _)) = &mut self.live {
            live.drive(cx);
            return Pin::new(&mut self.body).poll_frame(cx);
        }
        Poll::Pending
    }
}

impl http_body::Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = this.poll_inner(cx) {
            this.limit = None;
            if frame.is_none() || this.body.is_end_stream() {
                this.release();
            }
            return Poll::Ready(frame.map(|result| result.map_err(BodyError::Origin)));
        }
        let between = this.between_bytes;
        let limit = this.limit.get_or_insert_with(|| Deadline::new(between));
        ready!(limit.poll(cx));
        this.live = None;
        Poll::Ready(Some(Err(BodyError::Stalled)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
