//! The end of every exchange: counters at the head, the access line after the last byte.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::stages::Rewriting;
use crate::edge::error::ProxyError;
use crate::edge::exchange::Exchange;
use crate::edge::house::{Core, House};
use crate::edge::http2::{self, Turn};
use crate::edge::identify::hop::Hop;
use crate::edge::message::body::{Body, BodyError, hint_behind};
use crate::edge::message::grpc;
use crate::edge::strict::Reason;
use crate::privacy::Mode;
use crate::telemetry::access_log::Line;
use crate::telemetry::metrics::SharedMetrics;
use crate::telemetry::side::{BrokenBy, Side};
use crate::telemetry::{events, redact};

/// What the access line needs of a request before it is taken apart.
#[derive(Debug)]
pub struct Summary {
    method: Method,
    /// Where lines are written.
    path: Option<http::uri::PathAndQuery>,
    started: Instant,
    version: Version,
    /// It has a body.
    bodied: bool,
    /// A gRPC call: errors must be said in its way.
    grpc: bool,
}

impl Summary {
    /// When the request's head was read.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Cost: a look at the clock, and a count where lines are written.
    #[must_use]
    pub fn of(request: &Request<Incoming>, core: &Core) -> Self {
        let path = request.uri().path_and_query().filter(|_| core.house.access_log.is_some());
        Self {
            method: request.method().clone(),
            path: path.cloned(),
            started: Instant::now(),
            version: request.version(),
            bodied: !request.body().is_end_stream(),
            grpc: grpc::is_call(request),
        }
    }

    /// `Connection` has a meaning there.
    fn is_http1(&self) -> bool {
        self.version <= Version::HTTP_11
    }

    /// What the access line says of it at its head.
    fn line(&self, said: &Said<'_>, status: u16) -> Line {
        Line {
            client: said.client,
            method: self.method.clone(),
            path: self.path.as_ref().map(|path| redact::path(path.path())).unwrap_or_default(),
            site: said.site.cloned(),
            status,
            bytes: 0,
            duration_us: 0,
            decision: said.decision,
            mode: said.mode,
            id: said.id.to_owned(),
            broken_by: None,
            failed: None,
            why: None,
        }
    }

    /// An error as the client reads it, on a site that serves its consumer pages at a prefix.
    fn respond(&self, error: &ProxyError, prefix: Option<&str>) -> Response<Body> {
        let response = prefix.map_or_else(|| error.respond(), |prefix| error.respond_beside(prefix));
        if self.grpc { grpc::as_error(response) } else { response }
    }
}

/// A response body that tells the access log when it has ended.
#[derive(Debug)]
pub struct Counted {
    body: Body,
    /// Over HTTP/2 a piece goes out in parts: this is still to come.
    rest: Option<Bytes>,
    http2: bool,
    pending: Option<Box<Pending>>,
    broken: Option<Box<BodyError>>,
    rewriting: Option<Box<Rewriting>>,
    /// Where the request has a body: it may reach a limit behind the answer's head.
    limits: Option<SharedMetrics>,
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

#[derive(Debug)]
struct Pending {
    house: Arc<House>,
    line: Line,
    started: Instant,
}

impl Pending {
    /// Of an exchange whose answer nobody takes any more: the visitor went, or the time to drain was over.
    fn given_up(self) {
        let by =
            if self.house.draining.load(Ordering::Relaxed) { BrokenBy::Optgate } else { BrokenBy::Visitor };
        self.write(Some(by));
    }

    fn write(mut self, broken_by: Option<BrokenBy>) {
        self.line.broken_by = broken_by;
        self.line.duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(log) = &self.house.access_log {
            log.write(self.line);
        }
    }
}

/// Status of an exchange that was given up before its answer had a head; nobody is sent it (nginx's number for it).
const GIVEN_UP: u16 = 499;

/// An exchange with a site, until its answer has a head. One that is given up before that, because the visitor went or
/// the time to drain was over, is counted and leaves its line as any other.
#[derive(Debug)]
pub struct Begun<'a> {
    core: &'a Core,
    summary: Summary,
    /// What is known of it.
    pub exchange: Exchange,
    failure: Failure,
    answered: bool,
}

impl<'a> Begun<'a> {
    /// From a request that named a site.
    #[must_use]
    pub fn new(core: &'a Core, summary: Summary, exchange: Exchange) -> Self {
        Self { core, summary, exchange, failure: Failure::default(), answered: false }
    }

    /// Ends it: counts it, and arranges for its access line.
    #[must_use]
    pub fn answered(&mut self, mut response: Response<Body>) -> Response<Counted> {
        self.answered = true;
        let (core, x) = (self.core, &self.exchange);
        let rewrites = matches!(response.body(), Body::Rewrite(_));
        let rewriting = x.stages.head(&core.house.metrics, response.headers_mut(), rewrites);
        x.site().metrics.request(response.status().as_u16(), self.summary.started.elapsed());
        let failure = std::mem::take(&mut self.failure);
        let mut response = counted(core, &self.summary, &Said::of(x), failure, response);
        response.body_mut().rewriting = rewriting.map(Box::new);
        response
    }

    /// The answer where it failed; the cause is logged once, on its line where there is one.
    #[must_use]
    pub fn failed(&mut self, error: &ProxyError) -> Response<Body> {
        let x = &self.exchange;
        self.failure = tell(self.core, &x.site().settings.name, x.id.as_str(), error);
        if let Some(why) = &mut self.failure.why
            && let Some(origin) = x.failed_origin().filter(|_| error.is_the_origins())
        {
            *why = format!("{origin}: {why}").into();
        }
        self.summary.respond(error, (x.mode == Mode::Enforce).then_some(&x.snapshot.prefix))
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let house = &self.core.house;
        self.exchange.site().metrics.request(GIVEN_UP, self.summary.started.elapsed());
        if house.access_log.is_some() {
            let line = self.summary.line(&Said::of(&self.exchange), GIVEN_UP);
            Pending { house: Arc::clone(house), started: self.summary.started, line }.given_up();
        }
    }
}

/// Ends an exchange that named no site: an error of the visitor's.
#[must_use]
pub fn unidentified(core: &Core, hop: &Hop, summary: Summary, error: &ProxyError) -> Response<Counted> {
    let failure = tell(core, "", "", error);
    let said = Said { client: hop.peer, site: None, decision: "none", mode: "-", id: "-" };
    let response = summary.respond(error, None);
    counted(core, &summary, &said, failure, response)
}

/// Answers a request head that was refused; `stand_in` is what hyper read in its place.
#[must_use]
pub fn malformed(core: &Core, hop: &Hop, stand_in: &Request<Incoming>, reason: Reason) -> Response<Counted> {
    unidentified(core, hop, Summary::of(stand_in, core), &ProxyError::Malformed(reason))
}

/// What an access line says of an exchange beside its request and response.
struct Said<'a> {
    client: IpAddr,
    site: Option<&'a Arc<str>>,
    decision: &'static str,
    mode: &'static str,
    id: &'a str,
}

impl<'a> Said<'a> {
    fn of(x: &'a Exchange) -> Self {
        Self {
            client: x.client.address,
            site: Some(&x.site().name),
            decision: x.decision.header_value(),
            mode: x.mode.as_str(),
            id: x.id.as_str(),
        }
    }
}

/// Wraps the body so that its end writes the access line. No allocation where lines are silenced.
fn counted(
    core: &Core,
    summary: &Summary,
    said: &Said<'_>,
    failure: Failure,
    mut response: Response<Body>,
) -> Response<Counted> {
    if summary.method == Method::HEAD {
        response = without_body(response);
    }
    let http1 = summary.is_http1();
    let pending = core.house.access_log.is_some().then(|| {
        let Failure { label: failed, why } = failure;
        let line = Line { failed, why, ..summary.line(said, response.status().as_u16()) };
        Box::new(Pending { house: Arc::clone(&core.house), started: summary.started, line })
    });
    // Where nothing else tells the end, the connection's end does (RFC 9112, 9.3).
    let endless = summary.version == Version::HTTP_10
        && response.body().size_hint().exact().is_none()
        && !response.headers().contains_key(CONTENT_LENGTH);
    let mut response = response.map(|body| Counted {
        body,
        rest: None,
        http2: !http1,
        pending,
        broken: None,
        rewriting: None,
        limits: summary.bodied.then(|| Arc::clone(&core.house.metrics)),
    });
    if endless {
        // hyper adds `keep-alive` to an answer that says it is of a later version.
        *response.version_mut() = Version::HTTP_10;
    }
    let draining = http1 && core.house.draining.load(Ordering::Relaxed);
    if endless || draining && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // The client learns that its next request needs another connection (RFC 9112, 9.6).
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer to a HEAD: the head that a GET's would have, and nothing behind it (RFC 9110, 9.3.2). hyper sees to that
/// over HTTP/1 only.
fn without_body(mut response: Response<Body>) -> Response<Body> {
    if response.body().is_end_stream() {
        return response;
    }
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    response.map(|_| Body::empty())
}

/// What an access line says of a failure; nothing of none.
#[derive(Debug, Default)]
struct Failure {
    label: Option<&'static str>,
    why: Option<Box<str>>,
}

/// Counts what an exchange failed for, and logs it where its own line will not.
fn tell(core: &Core, site: &str, id: &str, error: &ProxyError) -> Failure {
    let metrics = &core.house.metrics;
    let (side, _, label) = error.class();
    let on_its_line = core.house.access_log.is_some();
    events::request_failed(metrics, site, id, side, label, error, on_its_line);
    if let Some(limit) = error.limit() {
        events::limit_reached(metrics, limit);
    }
    let malformed = match error {
        ProxyError::Answer(cause) => cause.reason(),
        ProxyError::MalformedAnswer(reason) | ProxyError::Malformed(reason) => Some(*reason),
        _ => None,
    };
    if let Some(reason) = malformed {
        events::message_refused(metrics, side, reason.label(), &reason);
    }
    let news = on_its_line && side != Side::Downstream;
    Failure { label: on_its_line.then_some(label), why: news.then(|| error.to_string().into()) }
}

impl Counted {
    /// No more of a piece than an HTTP/2 stream should hold for its client, and its watch told of it.
    fn in_parts(&mut self, polled: Polled) -> Polled {
        match polled {
            Poll::Pending => {
                Turn::note(|turn| turn.waits = true);
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                let mut data = frame.into_data().unwrap_or_default();
                if data.len() > http2::PIECE {
                    self.rest = Some(data.split_off(http2::PIECE));
                }
                Turn::note(|turn| turn.given += data.len());
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            polled => polled,
        }
    }

    /// The body has ended in an error. Why is told where it is the origin's doing: our own has a line of its own, as one
    /// about enforcement.
    fn broke_off(&mut self, error: &BodyError) {
        tracing::debug!("a response body broke off: {error}");
        if let (Some(metrics), Some(limit)) = (&self.limits, error.limit()) {
            events::limit_reached(metrics, limit);
        }
        match (&mut self.pending, error.of_origin()) {
            (Some(pending), Some(cause)) => pending.line.why = Some(cause.to_string().into()),
            (None, Some(cause)) => events::broken_answer(cause),
            (_, None) => {}
        }
        self.close(Some(error.broken_by()));
    }

    fn close(&mut self, broken_by: Option<BrokenBy>) {
        if let Some(pending) = self.pending.take() {
            pending.write(broken_by);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // A body without bytes is never polled; it is complete all the same.
        if self.is_end_stream() {
            self.close(None);
        } else if let Some(pending) = self.pending.take() {
            pending.given_up();
        }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(*error)));
        }
        let mut polled = match this.rest.take() {
            Some(rest) => Poll::Ready(Some(Ok(Frame::data(rest)))),
            None => match &mut this.rewriting {
                None => Pin::new(&mut this.body).poll_frame(cx),
                Some(rewriting) => rewriting.measure(|| Pin::new(&mut this.body).poll_frame(cx)),
            },
        };
        if this.http2 {
            polled = this.in_parts(polled);
        }
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(pending), Some(data)) = (&mut this.pending, frame.data_ref()) {
                    pending.line.bytes += data.len() as u64;
                }
            }
            Poll::Ready(Some(Err(error))) => this.broke_off(error),
            Poll::Ready(None) => this.close(None),
            Poll::Pending => {}
        }
        match polled {
            Poll::Ready(Some(Err(error))) => {
                // hyper drops what it has not written yet when a body fails: let it write first, so that
                // the visitor gets what the origin sent before it broke off.
                this.broken = Some(Box::new(error));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or(0, Bytes::len) as u64;
        hint_behind(rest, &self.body.size_hint())
    }
}
