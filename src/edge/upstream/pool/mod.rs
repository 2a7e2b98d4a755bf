//! Keep-alive connections of one core to one origin.
//!
//! - here: HTTP/1.1 connections, their places, and a request over one of them
//! - `http2`: connections of an origin that speaks HTTP/2
//! - `tunnel`: connections that go on as another protocol
//! - `body`: the body of an answer, which gives its connection back

mod body;
mod http2;
mod tunnel;

pub use body::UpstreamBody;
pub use tunnel::{Tunnel, Tunnelled};

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{Method, Response};
use http_body::Body as _;
use tokio::sync::Semaphore;

use super::attempt::{Attempt, Outgoing, Tail};
use super::connect::{Connected, Connector};
use super::group::{Load, Member};
use super::http1::{Connection, Failure, Wants};
use super::queue::{Cap, Place};
use super::shared::{Shared, Stream};
use super::transport::Transport;
use crate::edge::error::ProxyError;
use crate::edge::message::body::RequestBody;
use crate::edge::message::interim::Interim;
use crate::edge::message::progress::AnswerLimit;
use crate::edge::timer::{self, Deadline};
use crate::telemetry::upstreams::UpstreamFigures;

/// One HTTP/1.1 connection.
struct Live {
    connection: Connection<Transport>,
    /// For one request only.
    once: bool,
    idle_since: Instant,
    /// Where it leads, and the version of the origin's addresses when that was asked.
    address: Option<SocketAddr>,
    version: u64,
    /// Whose requests it carries, where the origin was told.
    client: Option<IpAddr>,
    /// Its place, where the origin's are counted. `None` in the pool: given up to one who waits.
    place: Option<Place>,
    open: Open,
    /// What belongs to the request under way. It stands here and not in the answer's body, which moves much.
    carries: Carried,
}

/// One request on a connection, from its answer's head to the end of the answer's body.
#[derive(Debug, Default)]
struct Carried {
    /// What is left of the request's body.
    request: RequestBody,
    _load: Option<Load>,
    /// Until when the next piece of the answer must have come.
    limit: Option<Deadline>,
}

/// Counts a connection for as long as it is open.
#[derive(Debug)]
struct Open(Arc<UpstreamFigures>);

impl Open {
    fn new(figures: &Arc<UpstreamFigures>) -> Self {
        figures.connections.inc();
        Self(Arc::clone(figures))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

impl Live {
    /// Whether it may be used as it is.
    const fn has_place(&self, pool: &Pool) -> bool {
        pool.cap.is_none() || self.place.is_some()
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

/// What a request needs of a connection beside being sent.
#[derive(Debug)]
pub struct Asking<'a> {
    /// Whose request it is, where the origin is told: its connections are nobody else's.
    pub client: Option<IpAddr>,
    /// Counts the request as under way.
    pub load: Option<Load>,
    /// What the head says beside its fields; `None` where the origin speaks HTTP/2.
    pub tail: Option<Tail<'a>>,
}

/// What is held for as long as a request is under way.
#[derive(Debug, Default)]
pub struct Held {
    _load: Option<Load>,
    /// A place of its own, where the connection does not have it.
    _place: Option<Place>,
    /// A connection that is this request's only.
    _open: Option<Open>,
    /// A stream of one that carries others too.
    stream: Option<Stream>,
    /// Whose answer it is.
    figures: Option<Arc<UpstreamFigures>>,
}

/// The connections of one core to one origin.
pub struct Pool {
    connector: Connector,
    cap: Option<Arc<Cap>>,
    figures: Arc<UpstreamFigures>,
    /// This core's part of those who wait for a place.
    waiting: Cell<usize>,
    /// The addresses that the idle connections were last held against.
    version: Cell<u64>,
    giving_up: RefCell<Option<tokio::task::AbortHandle>>,
    limits: PoolLimits,
    /// Boxed, because a connection moves between the pool and a body with every request.
    #[allow(clippy::vec_box)]
    idle: RefCell<Vec<Box<Live>>>,
    http2: RefCell<Vec<Shared>>,
    /// Whose turn it is to make one of these, and how often that failed.
    http2_turn: Semaphore,
    http2_failures: Cell<u64>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("connector", &self.connector).finish_non_exhaustive()
    }
}

/// An origin's answer: its head, and a body that owns the connection.
pub type Answer = Response<UpstreamBody>;

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(member: &Member, limits: PoolLimits) -> Rc<Self> {
        let pool = Rc::new(Self {
            connector: member.connector.clone(),
            cap: member.cap.load_full(),
            figures: Arc::clone(&member.figures),
            waiting: Cell::new(0),
            version: Cell::new(0),
            giving_up: RefCell::default(),
            limits,
            idle: RefCell::default(),
            http2: RefCell::default(),
            http2_turn: Semaphore::new(1),
            http2_failures: Cell::new(0),
        });
        if let Some(cap) = &pool.cap {
            let task = tokio::task::spawn_local(give_up_places(Rc::downgrade(&pool), cap.watch()));
            *pool.giving_up.borrow_mut() = Some(task.abort_handle());
        }
        pool
    }

    /// Whether an idle connection could take a request of this client now.
    #[must_use]
    pub fn has_idle(&self, client: Option<IpAddr>) -> bool {
        self.idle.borrow().iter().any(|live| live.client == client && live.has_place(self))
    }

    /// Sends a request; resolves when the answer's head is there. What an HTTP/1.1 origin says before it goes to
    /// `interim`.
    ///
    /// A pooled connection that turns out closed before the request was written is replaced by a fresh one. One
    /// that closes without a byte of an answer is too, once, for an idempotent request without a body (RFC 9110,
    /// 9.2.2): its origin may have given it up just before. Nothing else is ever sent twice.
    ///
    /// # Errors
    /// [`Attempt::NotSent`] leaves the request in its place, for another origin.
    pub async fn send(
        self: &Rc<Self>,
        request: &mut Outgoing,
        asking: Asking<'_>,
        interim: Option<Interim<'_>>,
    ) -> Result<Answer, Attempt> {
        if self.connector.upstream.http2 {
            return self.send_http2(request, asking).await;
        }
        let Asking { client, load, tail } = asking;
        // An origin that does not expect a body there may read it as the next request.
        let asked = request.as_ref().ok_or(Attempt::GONE)?;
        let bodied = !asked.body().is_end_stream();
        let once = bodied && !expects_body(asked.method());
        let may_ask_again = !bodied && asked.method().is_idempotent();
        let wants = Wants { switch: false, tail, interim };
        let mut retried = false;
        loop {
            let found = self.connection(client, retried).await;
            let (mut live, fresh) = found.map_err(Attempt::NotSent)?;
            live.once = once;
            match self.exchange(&mut live, request, wants).await {
                Ok(response) => {
                    return Ok(response.map(|()| UpstreamBody::http1(live, self, load)));
                }
                Err(Attempt::NotSent(_)) if !fresh => {}
                Err(failure) => {
                    let stale = !fresh && live.connection.is_unheard() && failure.was_cut();
                    if !(stale && may_ask_again) {
                        return Err(failure);
                    }
                    retried = true;
                }
            }
        }
    }

    /// One request over one connection, driven by this task: the answer's head. The request stays in its place until that
    /// is there; what is left of its body goes to the connection.
    async fn exchange(
        &self,
        live: &mut Live,
        request: &mut Outgoing,
        wants: Wants<'_>,
    ) -> Result<Response<()>, Attempt> {
        let outgoing = request.as_mut().ok_or(Attempt::GONE)?;
        let connection = &mut live.connection;
        connection.begin(outgoing, wants.tail);
        let body = outgoing.body_mut();
        let mut limit = AnswerLimit::new(self.limits.first_byte, body.progress());
        let head = std::future::poll_fn(|cx| match connection.poll_head(body, wants, cx) {
            Poll::Ready(head) => Poll::Ready(head.map_err(Attempt::from)),
            Poll::Pending => limit.poll(cx).map(|()| Err(Attempt::Failed(ProxyError::FirstByteTimeout))),
        });
        let head = head.await?;
        live.carries.request = std::mem::take(outgoing.body_mut());
        let headers = std::mem::take(outgoing.headers_mut());
        *request = None;
        Ok(connection.read_head(&head, headers).map_err(Failure::Sent)?)
    }

    /// A connection with its place: an idle one unless `fresh` is asked for, or a fresh one (`true`).
    async fn connection(&self, client: Option<IpAddr>, fresh: bool) -> Result<(Box<Live>, bool), ProxyError> {
        if !fresh && let Some(live) = self.checkout(client, |live| live.has_place(self)) {
            return Ok((live, false));
        }
        let place = self.place().await?;
        // Whoever gave the place up may have left the connection too, a moment ago: what its origin said behind the
        // answer shows only when the sockets were looked at again.
        if place.is_some() {
            tokio::task::yield_now().await;
        }
        let left = place.is_some().then(|| self.checkout(client, |live| live.place.is_none())).flatten();
        let (mut live, fresh) = match left.filter(|_| !fresh) {
            Some(live) => (live, false),
            // Boxed, as below: seldom needed, and large.
            None => (Box::new(Box::pin(self.open(client)).await?), true),
        };
        live.place = place;
        Ok((live, fresh))
    }

    /// A place, where the origin's are counted; after a wait if need be.
    async fn place(&self) -> Result<Option<Place>, ProxyError> {
        let Some(cap) = &self.cap else { return Ok(None) };
        let mut waits = Waits { pool: self, served: false };
        self.waiting.set(self.waiting.get() + 1);
        let place = cap.take().await?;
        waits.served = true;
        Ok(Some(place))
    }

    /// Closes idle connections to addresses that the origin's name no longer leads to, and those of HTTP/1.1 from before
    /// it led to more: each is opened anew at the next address, and so a new one gets its part. One connection for all
    /// requests would only be at another address.
    fn forget_old_addresses(&self) {
        let version = self.connector.version();
        if self.version.replace(version) == version {
            return;
        }
        self.idle.borrow_mut().retain(|live| !self.is_old(live));
        // Requests on them go on; the next one opens another.
        self.http2.borrow_mut().retain(|open| self.connector.leads_to(open.address));
    }

    /// An idle connection of this client that is still open.
    fn checkout(&self, client: Option<IpAddr>, fits: impl Fn(&Live) -> bool) -> Option<Box<Live>> {
        self.forget_old_addresses();
        let now = timer::now();
        loop {
            let live = {
                let mut idle = self.idle.borrow_mut();
                // The last one fits at once, unless clients or places are told apart.
                let at = idle.iter().rposition(|live| live.client == client && fits(live))?;
                // In their order, which says who has been idle longest; the last one moves nobody.
                idle.remove(at)
            };
            // One that has been closed meanwhile gives the request back as soon as it is asked to send it.
            if live.idle_since == now || now.saturating_duration_since(live.idle_since) < self.limits.idle_for
            {
                return Some(live);
            }
        }
    }

    fn put_back(&self, mut live: Box<Live>) {
        if live.once || !live.connection.is_idle() || self.is_old(&live) {
            return;
        }
        // Its place is one too many since a reload.
        if self.cap.as_ref().is_some_and(|cap| cap.over() > 0) {
            return;
        }
        if let Some(cap) = &self.cap
            && cap.waiting() > 0
        {
            // One of this core uses the connection on; one of another core, or of another client, must open its
            // own.
            if cap.waiting() > self.waiting.get() || live.client.is_some() {
                return;
            }
            live.place = None;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= self.limits.idle {
            // A client's connection is of use to that client only: the one longest idle goes.
            if live.client.is_none() || idle.is_empty() {
                return;
            }
            idle.remove(0);
        }
        live.idle_since = timer::now();
        idle.push(live);
    }

    /// Whether the origin's name has left the address that a connection leads to, or leads to more since it was opened.
    fn is_old(&self, live: &Live) -> bool {
        live.version != self.connector.version()
            && (self.connector.has_more_since(live.version) || !self.connector.leads_to(live.address))
    }

    /// Gives idle connections up, one for each who waits for a place, and one for each place that is too many.
    fn give_up_idle(&self) {
        let mut wanted = self.cap.as_ref().map_or(0, |cap| cap.waiting() + cap.over());
        self.idle.borrow_mut().retain(|live| {
            let goes = wanted > 0 && live.place.is_some();
            wanted -= usize::from(goes);
            !goes
        });
    }

    /// Closes connections that were idle for too long.
    pub fn expire(&self) {
        self.forget_old_addresses();
        let now = timer::now();
        let mut idle = self.idle.borrow_mut();
        idle.retain(|live| now.saturating_duration_since(live.idle_since) < self.limits.idle_for);
        if let Some(cap) = self.cap.as_ref().filter(|_| self.waiting.get() == 0) {
            // What was left to somebody who found another takes a place of its own again, or goes.
            idle.iter_mut().filter(|live| live.place.is_none()).for_each(|live| live.place = cap.try_take());
            idle.retain(|live| live.place.is_some());
        }
        let for_long =
            |open: &Shared| open.uses.idle_for(now).is_some_and(|idle| idle >= self.limits.idle_for);
        self.http2.borrow_mut().retain(|open| !for_long(open));
    }

    async fn open(&self, client: Option<IpAddr>) -> Result<Live, ProxyError> {
        let version = self.connector.version();
        let Connected { io, address } = self.connector.connect(client).await?;
        Ok(Live {
            connection: Connection::new(io),
            once: false,
            idle_since: timer::now(),
            address,
            version,
            client,
            place: None,
            open: Open::new(&self.figures),
            carries: Carried::default(),
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(task) = self.giving_up.borrow_mut().take() {
            task.abort();
        }
    }
}

/// One of this core that waits for a place. The last one, if it goes unserved, closes what was left to it.
struct Waits<'a> {
    pool: &'a Pool,
    served: bool,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let left = self.pool.waiting.get().saturating_sub(1);
        self.pool.waiting.set(left);
        if left == 0 && !self.served {
            self.pool.idle.borrow_mut().retain(|live| live.place.is_some());
        }
    }
}

/// Gives idle connections up each time somebody begins to wait for a place. Several who begin at once are one piece
/// of news.
async fn give_up_places(pool: Weak<Pool>, mut wanted: tokio::sync::watch::Receiver<()>) {
    while wanted.changed().await.is_ok() {
        let Some(pool) = pool.upgrade() else { return };
        pool.give_up_idle();
    }
}

/// Whether origins expect a body with this method (RFC 9110, 9.3).
fn expects_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt as _;
    use futures_util::future::{Either, select};
    use http::Request;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::health::Health;
    use super::*;
    use crate::config::{ProxyProtocol, Upstream, UpstreamAddress};

    /// An origin with one place.
    fn pool(port: u16) -> Rc<Pool> {
        let upstream = Upstream {
            address: UpstreamAddress::Tcp { host: "127.0.0.1".into(), port },
            tls: None,
            http2: false,
            host: None,
            label: String::new(),
            weight: 1,
            backup: false,
            max_connections: Some(1),
            proxy_protocol: ProxyProtocol::Off,
        };
        let long = Duration::from_secs(60);
        let member = Member {
            connector: Connector::new(upstream, long).unwrap(),
            health: Health::default(),
            cap: Some(Arc::new(Cap::new(1, 1, long, Arc::default()))).into(),
            figures: Arc::default(),
            under_way: AtomicUsize::new(0),
            identity: 0,
            token: "".into(),
        };
        Pool::new(&member, PoolLimits { idle: 1, idle_for: long, first_byte: long, between_bytes: long })
    }

    fn request() -> Outgoing {
        Some(Request::get("/").header("host", "a").body(RequestBody::empty()).unwrap())
    }

    /// The origin's side of its next request, while `sending` goes on.
    async fn asked(listener: &TcpListener, sending: impl Future + Unpin) -> TcpStream {
        let asked = pin!(async {
            let mut origin = listener.accept().await.unwrap().0;
            let mut head = [0; "GET / HTTP/1.1\r\nhost: a\r\n\r\n".len()];
            origin.read_exact(&mut head).await.unwrap();
            origin
        });
        match select(asked, sending).await {
            Either::Left((origin, _)) => origin,
            Either::Right(_) => panic!("an answer to what was not asked"),
        }
    }

    fn say(origin: &TcpStream, status: u16) {
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(origin.try_write(answer.as_bytes()).unwrap(), answer.len());
    }

    /// RFC 9112, 9.2: a connection that goes from one request to the next in the same turn has been looked at in
    /// between, or what stands behind the one's answer would be the other's.
    #[tokio::test]
    async fn an_answer_that_nobody_asked_for_is_not_who_waited_for_the_connections() {
        let local = tokio::task::LocalSet::new();
        let told = local.run_until(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let pool = pool(listener.local_addr().unwrap().port());
            let asking = || Asking { client: None, load: None, tail: None };
            let (mut one, mut other) = (request(), request());
            let mut first = pool.send(&mut one, asking(), None).boxed_local();
            let mut second = pool.send(&mut other, asking(), None).boxed_local();
            let origin = asked(&listener, &mut first).await;
            assert!((&mut second).now_or_never().is_none(), "it waits for the place");
            say(&origin, 201);
            let first = first.await.unwrap().status().as_u16();
            // Behind the answer, and before the other one has its turn.
            say(&origin, 299);
            let origin = asked(&listener, &mut second).await;
            say(&origin, 202);
            (first, second.await.unwrap().status().as_u16())
        });
        assert_eq!(told.await, (201, 202));
    }
}
