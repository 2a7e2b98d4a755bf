//! One downstream connection: TLS or not, HTTP/1.1 or HTTP/2, from accept to close.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use http::header::CONNECTION;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::clients::{ClientKey, ClientPlace};
use super::pace::{Pace, Paced};
use super::proxy_protocol::{self, Spoken};
use super::socket::{Listening, OverSocket, Socket};
use super::tls;
use crate::config::Settings;
use crate::edge::answer::finish;
use crate::edge::house::Core;
use crate::edge::identify::client_addr;
use crate::edge::identify::hop::Hop;
use crate::edge::own::proofs;
use crate::edge::strict::{self, Gate, Link, OfServer};
use crate::edge::timer::{self, Deadline, HeadLimits};
use crate::edge::{corridor, http2};
use crate::telemetry::events;
use crate::telemetry::limits::Limit;
use crate::telemetry::metrics::SharedMetrics;
use crate::telemetry::side::Side;

/// How an HTTP/2 connection begins (RFC 9113, 3.4); the first bytes tell it from HTTP/1.1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// hyper's buffer of an HTTP/1.1 connection beyond the largest head: a piece of a body.
const HTTP1_ROOM: usize = 8 * 1024;

/// What the process is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It accepts and serves.
    Serving,
    /// Another process accepts in its place. What is open is finished; a connection ends with its next
    /// answer, not before: a request may be on its way to it.
    Finishing,
    /// It stops: idle connections end now, the others after what is under way.
    Stopping,
}

/// How the connections of a listening socket begin.
#[derive(Debug, Clone)]
pub struct Beginning {
    /// With TLS.
    pub tls: Option<tls::Server>,
    /// With a PROXY protocol header, before TLS.
    pub proxy_protocol: bool,
}

/// Accepts on one socket until the process no longer serves; each connection is a task on this core.
pub async fn accept(
    core: Rc<Core>,
    listener: Rc<Listening>,
    beginning: Beginning,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
        };
        match accepted {
            Ok((stream, peer)) => spawn(&core, stream, peer, beginning.clone(), phase.clone()),
            // What became of one connection before it was accepted is no reason to let others wait (accept(2)).
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // What is open must end before more can come.
                events::accept_failed(&core.house.metrics, &error);
                tokio::time::sleep(timer::TICK).await;
            }
        }
    }
}

/// Whether an accept failed for what the network did to that one connection (accept(2), "Error handling").
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    const NETWORK: [Errno; 9] = [
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
        Errno::CONNABORTED,
    ];
    Errno::from_io_error(error).is_some_and(|errno| NETWORK.contains(&errno))
}

fn spawn(core: &Rc<Core>, stream: Socket, peer: IpAddr, beginning: Beginning, phase: watch::Receiver<Phase>) {
    let clear = beginning.tls.is_none();
    let Some(place) = Place::take(core) else { return turn_away(core, stream, clear) };
    let snapshot = core.snapshot();
    // Nobody's address is behind a Unix socket, and a PROXY protocol header is still to come.
    let known = matches!(stream, Socket::Tcp(_)) && !beginning.proxy_protocol;
    let of_client = if known { client_place(core, &snapshot.settings, peer) } else { Ok(None) };
    let Ok(of_client) = of_client else { return turn_away(core, stream, clear) };
    tokio::task::spawn_local(async move {
        let core = Rc::clone(&place.0);
        serve(core, stream, peer, beginning, phase).await;
        drop((place, of_client));
    });
}

/// Refuses a connection over a limit: in clear with an answer, so that nobody takes an opt-out for made that was not
/// even read. Before a TLS handshake nothing can be said.
fn turn_away(core: &Core, stream: Socket, clear: bool) {
    if clear {
        core.turned_away.answer(stream);
    }
}

/// More connections than `limits.connections_per_client`.
struct TooMany;

/// A place among a client's connections. Trusted proxies are no clients: they have none.
fn client_place(core: &Core, settings: &Settings, client: IpAddr) -> Result<Option<ClientPlace>, TooMany> {
    let Some(limit) = settings.limits.connections_per_client else { return Ok(None) };
    if client_addr::is_in(&settings.trusted_proxies, client.to_canonical()) {
        return Ok(None);
    }
    let place = core.house.client_connections.take(ClientKey::of(client), limit);
    if place.is_none() {
        core.house.metrics.connections_refused.inc();
        events::limit_reached(&core.house.metrics, Limit::ConnectionsPerClient);
    }
    place.map(Some).ok_or(TooMany)
}

/// One of `limits.connections`; given back when dropped.
pub(in crate::edge) struct Place(Rc<Core>);

impl Place {
    fn take(core: &Rc<Core>) -> Option<Self> {
        let house = &core.house;
        let limit = core.snapshot().settings.limits.connections.min(house.most_connections);
        if house.connections.fetch_add(1, Ordering::AcqRel) >= limit {
            house.connections.fetch_sub(1, Ordering::AcqRel);
            house.metrics.connections_refused.inc();
            events::limit_reached(&house.metrics, Limit::Connections);
            return None;
        }
        house.metrics.connections.inc();
        Some(Self(Rc::clone(core)))
    }

    /// The place of an HTTP/1.1 connection that goes on as a tunnel, when HTTP gives its own back. It had one, so there is
    /// no limit to it.
    pub(in crate::edge) fn take_over(core: &Rc<Core>) -> Self {
        core.house.connections.fetch_add(1, Ordering::AcqRel);
        core.house.metrics.connections.inc();
        Self(Rc::clone(core))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.house.connections.fetch_sub(1, Ordering::AcqRel);
        self.0.house.metrics.connections.dec();
    }
}

/// As [`Place::take_over`], of those of its client.
pub(in crate::edge) fn client_tunnel(
    core: &Core,
    settings: &Settings,
    client: IpAddr,
) -> Option<ClientPlace> {
    settings.limits.connections_per_client?;
    core.house.client_connections.take(ClientKey::of(client), usize::MAX)
}

async fn serve(
    core: Rc<Core>,
    mut stream: Socket,
    mut peer: IpAddr,
    beginning: Beginning,
    phase: watch::Receiver<Phase>,
) {
    let snapshot = core.snapshot();
    let settings = &snapshot.settings;
    let mut is_unix = matches!(stream, Socket::Unix(_));
    let mut _of_client = None;
    if beginning.proxy_protocol {
        match introduced(&core, settings, &mut stream, peer, phase.clone()).await {
            // Who it is was said.
            Some(client) => (peer, is_unix) = (client, false),
            None => return,
        }
        match client_place(&core, settings, peer) {
            Ok(place) => _of_client = place,
            Err(TooMany) => return turn_away(&core, stream, beginning.tls.is_none()),
        }
    }
    let hop = Hop::new(peer, beginning.tls.is_some()).over_unix(is_unix);
    if let Some(server) = beginning.tls {
        let acceptor = TlsAcceptor::from(Arc::clone(&server.config));
        // Boxed: a connection in clear holds no room for a handshake, nor what drives HTTP room for TLS.
        let accepted = Box::pin(async { acceptor.accept(stream).await.map(Box::new) });
        let handshake = timer::within(settings.timeouts.tls_handshake, accepted).await;
        let stream = match handshake {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => return events::handshake_failed(&core.house.metrics, peer, &error),
            None => return events::limit_reached(&core.house.metrics, Limit::TlsHandshake),
        };
        let session = stream.get_ref().1;
        if session.alpn_protocol() == Some(proofs::ALPN) {
            // The handshake was all there is to see (RFC 8737, 3).
            return;
        }
        let http2 = session.alpn_protocol() == Some(b"h2");
        let hop = Rc::new(hop.for_requests_to(server.shown(session.server_name())));
        http(&core, settings, stream, hop, http2, phase).await;
    } else {
        let sniffed = tokio::select! {
            sniffed = begins_http2(&stream, settings) => sniffed,
            () = stopping(phase.clone()) => return,
        };
        let http2 = match sniffed {
            Sniffed::Http1 => false,
            Sniffed::Http2 => true,
            Sniffed::Idle => return events::limit_reached(&core.house.metrics, Limit::Idle),
            Sniffed::Late => return events::limit_reached(&core.house.metrics, Limit::HeaderRead),
        };
        http(&core, settings, stream, Rc::new(hop), http2, phase).await;
    }
}

/// Whose connection it is, as a trusted peer says before anything else. `None`: it is to be closed.
async fn introduced(
    core: &Core,
    settings: &Settings,
    stream: &mut Socket,
    peer: IpAddr,
    phase: watch::Receiver<Phase>,
) -> Option<IpAddr> {
    let metrics = &core.house.metrics;
    if !client_addr::is_in(&settings.trusted_proxies, peer.to_canonical()) {
        events::proxy_header_refused(metrics, peer, "untrusted");
        return None;
    }
    let read = timer::within(settings.timeouts.proxy_header, proxy_protocol::read(stream));
    let read = tokio::select! {
        read = read => read,
        () = stopping(phase) => return None,
    };
    if read.is_none() {
        events::limit_reached(metrics, Limit::ProxyHeader);
    }
    match read.unwrap_or(Err("timeout")) {
        Ok(Spoken::For(client)) => Some(client.ip()),
        Ok(Spoken::Itself) => Some(peer),
        Err(reason) => {
            events::proxy_header_refused(metrics, peer, reason);
            None
        }
    }
}

/// What the first bytes of a connection in clear say.
enum Sniffed {
    Http1,
    Http2,
    /// None came.
    Idle,
    /// They could begin either, and no more came in time.
    Late,
}

/// Looks at the first bytes without taking them. What cannot be looked at is HTTP/1.1's to end.
async fn begins_http2(stream: &Socket, settings: &Settings) -> Sniffed {
    let timeouts = &settings.timeouts;
    let mut first = [0; PREFACE.len()];
    let Some(mut seen) = timer::within(timeouts.idle, stream.peek(&mut first)).await else {
        return Sniffed::Idle;
    };
    let limit = Deadline::new(timeouts.header_read);
    loop {
        let Ok(length @ 1..) = seen else { return Sniffed::Http1 };
        match &first[..length] {
            PREFACE => return Sniffed::Http2,
            beginning if !PREFACE.starts_with(beginning) => return Sniffed::Http1,
            _ if limit.is_over() => return Sniffed::Late,
            // A cut preface stays readable, so readiness cannot tell when the rest is there.
            _ => tokio::time::sleep(timer::TICK).await,
        }
        seen = stream.peek(&mut first).await;
    }
}

/// Ends when the process stops.
pub async fn stopping(mut phase: watch::Receiver<Phase>) {
    // A closed channel means that the process ends: the same.
    let _ = phase.wait_for(|phase| *phase == Phase::Stopping).await;
}

/// Drives a connection until the process stops: `None` then.
///
/// A connection is driven at least twice for each request, so the phase is only looked at when it is another.
async fn until_stopping<F: Future>(
    mut connection: Pin<&mut F>,
    phase: watch::Receiver<Phase>,
) -> Option<F::Output> {
    let mut news = phase.clone();
    // Polled once, so it must not be put off for the sake of other tasks.
    let mut stopped = pin!(tokio::task::unconstrained(stopping(phase)));
    let mut waits = false;
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(ended));
        }
        // No sender any more is news too.
        if !waits || news.has_changed().unwrap_or(true) {
            waits = true;
            news.mark_unchanged();
            return stopped.as_mut().poll(cx).map(|()| None);
        }
        Poll::Pending
    })
    .await
}

/// Ends when the process no longer serves.
pub async fn not_serving(mut phase: watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
}

async fn http<S>(
    core: &Rc<Core>,
    settings: &Settings,
    stream: S,
    hop: Rc<Hop>,
    is_http2: bool,
    phase: watch::Receiver<Phase>,
) where
    S: AsyncRead + AsyncWrite + OverSocket + Unpin + Send + 'static,
{
    let (rate, window) = (settings.limits.min_send_rate, settings.timeouts.slow_send);
    if is_http2 {
        stream.socket().keep_little_unsent();
    }
    let stream = Paced::new(stream, Pace::new(rate, window), Arc::clone(&core.house.metrics));
    // Boxed: what a connection was before holds no room for both.
    if is_http2 {
        Box::pin(http2::serve(core, settings, stream, hop, phase)).await;
    } else {
        Box::pin(http1_connection(core, settings, stream, hop, phase)).await;
    }
}

async fn http1_connection<S>(
    core: &Rc<Core>,
    settings: &Settings,
    stream: S,
    hop: Rc<Hop>,
    phase: watch::Receiver<Phase>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (timeouts, limits) = (&settings.timeouts, &settings.limits);
    let link = Arc::new(Link::default());
    let times = HeadLimits { idle: timeouts.idle, header_read: timeouts.header_read };
    let mut gate = Gate::strict(stream, Arc::clone(&link), head_limits(settings), times);
    let (calls, told): (_, &Link) = (&Cell::new(0), &link);
    let mut builder = http1::Builder::new();
    builder
        // The gate's matter.
        .header_read_timeout(None)
        .half_close(true)
        // The gate keeps heads within their limit; what stands behind one may be read with it.
        .max_buf_size(limits.header_bytes + HTTP1_ROOM);
    if limits.header_count != 100 {
        // hyper's default of 100 needs no allocation; any other number does.
        builder.max_headers(limits.header_count);
    }
    let ended = loop {
        let service = service_fn(|mut request: Request<Incoming>| {
            let (core, hop) = (Rc::clone(core), Rc::clone(&hop));
            calls.set(calls.get() + 1);
            let number = calls.get();
            async move {
                if let Some(reason) = told.refusal(number) {
                    return Ok::<_, Infallible>(finish::malformed(&core, &hop, &request, reason));
                }
                if told.is_of_server(number) {
                    request.extensions_mut().insert(OfServer);
                }
                let mut response = corridor::handle(core, hop, Some(told), request).await;
                told.answered(number, response.status() == StatusCode::SWITCHING_PROTOCOLS);
                if told.is_in_body(number) {
                    // hyper ends a connection rather than read what nobody wants (RFC 9112, 9.6).
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok(response)
            }
        });
        let mut connection = builder.serve_connection(TokioIo::new(gate), service).with_upgrades();
        let driven = until_stopping(pin!(ended_or_quiet(&mut connection, &link)), phase.clone()).await;
        match driven {
            Some(Some(ended)) => break ended,
            Some(None) => {}
            None => {
                let mut connection = Pin::new(&mut connection);
                let ended = head_read(connection.as_mut(), &link).await;
                connection.as_mut().graceful_shutdown();
                break match ended {
                    Some(ended) => ended,
                    None => connection.await,
                };
            }
        }
        // Two buffers and the room for a request are given back until somebody needs them again.
        let Some(io) = connection.into_parts().map(|parts| parts.io) else { return };
        gate = io.into_inner();
        let _parked = Parked::new(core);
        tokio::select! {
            () = gate.stirs() => {}
            // Between two requests there is nothing to wait for. How it goes is nobody's concern any more.
            () = stopping(phase.clone()) => return drop(gate.shutdown().await),
        }
    };
    tell_of_end(&core.house.metrics, &link, ended);
}

/// Says why an HTTP/1.1 connection ended, where no request did: a broken body has none of its own to tell of it, and hyper
/// answers some targets itself.
fn tell_of_end(metrics: &SharedMetrics, link: &Link, ended: hyper::Result<()>) {
    if link.is_late() {
        events::limit_reached(metrics, Limit::HeaderRead);
    } else if link.is_idle() {
        events::limit_reached(metrics, Limit::Idle);
    } else if let Some(reason) = link.broken_body() {
        events::message_refused(metrics, Side::Downstream, reason.label(), &reason);
    } else if let Err(error) = ended
        && error.is_parse()
    {
        events::message_refused(metrics, Side::Downstream, "other", &error);
    }
}

/// Drives a connection to its end; `None` when it is quiet.
async fn ended_or_quiet<F: Future + Unpin>(connection: &mut F, link: &Link) -> Option<F::Output> {
    poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending if link.is_quiet() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Counts a connection for as long as only its socket is held.
struct Parked<'a>(&'a Core);

impl<'a> Parked<'a> {
    fn new(core: &'a Core) -> Self {
        core.house.metrics.connections_quiet.inc();
        Self(core)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.house.metrics.connections_quiet.dec();
    }
}

/// Drives a connection until a head that has begun has been read; hyper, which knows nothing of it, would take
/// the connection for idle. The connection's end, if that comes first.
async fn head_read<F: Future>(mut connection: Pin<&mut F>, link: &Link) -> Option<F::Output> {
    poll_fn(|cx| match link.is_in_head() {
        false => Poll::Ready(None),
        true => match connection.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if link.is_in_head() => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
        },
    })
    .await
}

/// How large heads may be.
pub(in crate::edge) fn head_limits(settings: &Settings) -> strict::Limits {
    strict::Limits { bytes: settings.limits.header_bytes, fields: settings.limits.header_count }
}
