//! A load that keeps its own pace: each request leaves when it is due, whatever has become of those before it.
//!
//! Half of the requests open a connection of their own, the other half use kept ones; a third each is in clear, over
//! TLS, and HTTP/2 over TLS. Every answer must be the one to its request.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::pki::Authority;
use super::{DEADLINE, wait_until};

/// Requests under way at once; more than that, and the pace is no longer kept.
const UNDER_WAY: usize = 2_000;

/// Kept HTTP/2 connections, each with many streams.
const HTTP2_KEPT: u64 = 4;

/// What a stream may be sent before it is read, like a browser's: with less, answers wait for each other.
const WINDOW: u32 = 1 << 20;

/// Addresses that connections come from, so that no port is wanted twice too soon.
const SOURCES: u64 = 32;

tokio::task_local! {
    /// How far a request of a load has come, and when: what a failure tells.
    static STEPS: Steps;
}

type Steps = Arc<Mutex<Vec<(Duration, &'static str)>>>;

/// Notes a step of this request, if it is a load's.
fn step(what: &'static str) {
    let _ = STEPS.try_with(|steps| steps.lock().unwrap().push((time(), what)));
}

/// The time that the steps of a load's requests are noted by.
pub fn time() -> Duration {
    static BEGUN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    BEGUN.elapsed()
}

type Http1 = http1::SendRequest<Empty<Bytes>>;
type Http2 = h2::client::SendRequest<Bytes>;

/// How a visitor comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// HTTP/1.1 in clear.
    Clear,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 over TLS.
    Http2,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Clear, Self::Tls, Self::Http2];
}

/// Where visitors come to, and how.
pub struct Door {
    clear: SocketAddr,
    tls: SocketAddr,
    http1: TlsConnector,
    http2: TlsConnector,
    opened: AtomicU64,
}

impl Door {
    /// Both listeners of one server.
    pub fn new(clear: SocketAddr, tls: SocketAddr, authority: &Authority) -> Self {
        let connector = |alpn: &str| {
            // As many handshakes as connections, and none of them short.
            let mut config = ClientConfig::clone(&authority.client(&[alpn]));
            config.resumption = rustls::client::Resumption::disabled();
            TlsConnector::from(Arc::new(config))
        };
        let (http1, http2) = (connector("http/1.1"), connector("h2"));
        Self { clear, tls, http1, http2, opened: AtomicU64::new(0) }
    }

    async fn tcp(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let last = u8::try_from(number % SOURCES + 1).unwrap();
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 78, 0, last), 0).into())?;
        step("connects");
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn secure(
        &self,
        with: &TlsConnector,
    ) -> std::io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
        let name = ServerName::try_from("site.test").unwrap();
        let tcp = self.tcp(self.tls).await?;
        step("shakes hands");
        with.connect(name, tcp).await
    }

    async fn http1(&self, way: Way) -> Result<Http1, String> {
        if way == Way::Clear {
            return shake(self.tcp(self.clear).await.map_err(said)?).await;
        }
        shake(self.secure(&self.http1).await.map_err(said)?).await
    }

    async fn http2(&self) -> Result<Http2, String> {
        let io = self.secure(&self.http2).await.map_err(said)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(16 * WINDOW);
        // Until the server has said how many it takes.
        builder.initial_max_send_streams(100);
        let (sender, connection) = builder.handshake(io).await.map_err(said)?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Asks on a connection of its own. It lasts as long as its answer.
    pub async fn ask(&self, way: Way, path: &str) -> Result<Answer, String> {
        if way != Way::Http2 {
            let mut sender = self.http1(way).await?;
            return Answer::to_http1(&mut sender, way, path).await;
        }
        loop {
            if let Some(answer) = Answer::to_http2(self.http2().await?, path).await {
                return answer;
            }
        }
    }
}

async fn shake(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Http1, String> {
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(said)?;
    tokio::spawn(connection);
    Ok(sender)
}

fn said(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

/// A `GET` of an opted-out visitor for a document.
fn request(way: Way, path: &str) -> http::request::Builder {
    let request = match way {
        Way::Http2 => Request::get(format!("https://site.test{path}")),
        _ => Request::get(path).header("host", "site.test"),
    };
    request.header("sec-gpc", "1").header("sec-fetch-dest", "document")
}

/// What a load asks for.
pub struct Matter {
    /// The path of the request with this number.
    pub path: fn(u64) -> String,
    /// Whether this is the body of the answer to it.
    pub fits: fn(u64, &str) -> bool,
}

struct Shared {
    door: Arc<Door>,
    matter: Matter,
    /// Kept connections by way; those of HTTP/2 have places of their own.
    kept: [Mutex<VecDeque<Http1>>; 2],
    kept_http2: Vec<tokio::sync::Mutex<Option<(u64, Http2)>>>,
    answered: AtomicU64,
    fresh: AtomicU64,
    done: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Shared {
    async fn one(&self, number: u64) -> Result<(), String> {
        let way = Way::ALL[usize::try_from(number / 2 % 3).unwrap()];
        let path = (self.matter.path)(number);
        let fresh = number.is_multiple_of(2);
        let answer = match way {
            _ if fresh => self.door.ask(way, &path).await?.read().await?,
            Way::Http2 => self.on_kept_http2(number, &path).await?,
            way => self.on_kept(way, &path).await?,
        };
        let (status, body) = answer;
        if status != 200 || !(self.matter.fits)(number, &body) {
            return Err(format!("{status} {body:.300}"));
        }
        self.fresh.fetch_add(u64::from(fresh), Ordering::Relaxed);
        Ok(())
    }

    /// A connection whose last answer did not say that it ends takes the next request.
    async fn on_kept(&self, way: Way, path: &str) -> Result<(u16, String), String> {
        let kept = &self.kept[usize::from(way == Way::Tls)];
        let free = kept.lock().unwrap().pop_front();
        let mut sender = match free {
            Some(sender) => sender,
            None => self.door.http1(way).await?,
        };
        sender.ready().await.map_err(|error| format!("a kept connection ended: {error:?}"))?;
        let answer = Answer::to_http1(&mut sender, way, path).await?;
        let closes = answer.closes;
        let read = answer.read().await?;
        if !closes {
            kept.lock().unwrap().push_back(sender);
        }
        Ok(read)
    }

    /// All of them share a few connections.
    async fn on_kept_http2(&self, number: u64, path: &str) -> Result<(u16, String), String> {
        let place = &self.kept_http2[usize::try_from(number / 6 % HTTP2_KEPT).unwrap()];
        let mut ended = 0;
        loop {
            let (opened, sender) = {
                let mut place = place.lock().await;
                match &*place {
                    Some((opened, sender)) if *opened != ended => (*opened, sender.clone()),
                    _ => {
                        let sender = self.door.http2().await?;
                        ended += 1;
                        place.insert((ended, sender)).clone()
                    }
                }
            };
            match Answer::to_http2(sender, path).await {
                Some(answer) => return answer?.read().await,
                None => ended = opened,
            }
        }
    }
}

/// An answer, of which the head is there.
pub struct Answer {
    status: u16,
    /// Its connection ends with it.
    closes: bool,
    body: Body,
}

enum Body {
    Http1(Incoming),
    Http2(RecvStream),
}

impl Answer {
    async fn to_http1(sender: &mut Http1, way: Way, path: &str) -> Result<Self, String> {
        step("asks");
        let request = request(way, path).body(Empty::new()).unwrap();
        let answer = sender.send_request(request).await.map_err(said)?;
        let closes = answer.headers().get("connection").is_some_and(|value| value == "close");
        Ok(Self { status: answer.status().as_u16(), closes, body: Body::Http1(answer.into_body()) })
    }

    /// `None` when the connection takes no more: the request was not sent, or the server says by the last stream it names
    /// that it did not read it. Then it is for another connection (RFC 9113, 6.8 and 8.7). The second is this client's
    /// doing: h2 answers a server's last ping before it sends the requests that wait.
    async fn to_http2(sender: Http2, path: &str) -> Option<Result<Self, String>> {
        let request = request(Way::Http2, path).body(()).unwrap();
        step("waits for room");
        let (answer, _) = sender.ready().await.ok()?.send_request(request, true).ok()?;
        step("asks");
        match answer.await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                Some(Ok(Self { status, closes: false, body: Body::Http2(answer.into_body()) }))
            }
            Err(error)
                if error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR) =>
            {
                None
            }
            Err(error) => Some(Err(said(error))),
        }
    }

    /// The next bytes of its body; `None` at the end.
    pub async fn piece(&mut self) -> Option<Result<Bytes, String>> {
        match &mut self.body {
            Body::Http1(body) => {
                let frame = body.frame().await?;
                Some(frame.map(|frame| frame.into_data().unwrap_or_default()).map_err(said))
            }
            Body::Http2(body) => {
                let piece = body.data().await?;
                // Fails on a stream that has ended.
                let _ = piece.as_ref().map(|piece| body.flow_control().release_capacity(piece.len()));
                Some(piece.map_err(said))
            }
        }
    }

    /// Status and body.
    async fn read(mut self) -> Result<(u16, String), String> {
        step("reads");
        let mut all = Vec::new();
        while let Some(piece) = self.piece().await {
            all.extend_from_slice(&piece?);
        }
        Ok((self.status, String::from_utf8_lossy(&all).into_owned()))
    }
}

/// What came of a load.
pub struct Outcome {
    /// Requests that were answered as they should.
    pub answered: u64,
    /// Those of them on a connection of their own.
    pub fresh: u64,
    /// Answers a second, all in all.
    pub rate: f64,
    /// What the others met with.
    pub failures: Vec<String>,
}

/// A load under way.
pub struct Load {
    runtime: Runtime,
    shared: Arc<Shared>,
    begun: std::time::Instant,
}

impl Load {
    /// Begins: so many requests a second, until [`Self::end`].
    pub fn begin(door: &Arc<Door>, rate: u32, matter: Matter) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shared = Arc::new(Shared {
            door: Arc::clone(door),
            matter,
            kept: Default::default(),
            kept_http2: (0..HTTP2_KEPT).map(|_| tokio::sync::Mutex::default()).collect(),
            answered: AtomicU64::new(0),
            fresh: AtomicU64::new(0),
            done: AtomicBool::new(false),
            failures: Mutex::default(),
        });
        runtime.spawn(pace(Arc::clone(&shared), Duration::from_secs(1) / rate));
        Self { runtime, shared, begun: std::time::Instant::now() }
    }

    /// What runs beside the load, on the same threads.
    pub fn spawn<F: Future<Output: Send> + Send + 'static>(&self, what: F) -> JoinHandle<F::Output> {
        self.runtime.spawn(what)
    }

    /// Waits until so many more requests were answered, or one failed.
    pub fn goes_on(&self, more: u64) {
        let until = self.shared.answered.load(Ordering::Acquire) + more;
        wait_until("the load goes on", || {
            std::thread::sleep(Duration::from_millis(1));
            let failed = !self.shared.failures.lock().unwrap().is_empty();
            failed || self.shared.answered.load(Ordering::Acquire) >= until
        });
    }

    /// Sends no more, and waits for the answers to what was sent.
    pub fn end(self) -> Outcome {
        self.shared.done.store(true, Ordering::Release);
        // The pacer holds one, and each request under way.
        wait_until("every request is answered", || {
            std::thread::sleep(Duration::from_millis(1));
            Arc::strong_count(&self.shared) == 1
        });
        let took = self.begun.elapsed().as_secs_f64();
        let answered = self.shared.answered.load(Ordering::Acquire);
        let failures = std::mem::take(&mut *self.shared.failures.lock().unwrap());
        let fresh = self.shared.fresh.load(Ordering::Relaxed);
        Outcome { answered, fresh, rate: answered as f64 / took, failures }
    }
}

async fn pace(shared: Arc<Shared>, apart: Duration) {
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    let mut due = Instant::now();
    for number in 0.. {
        if shared.done.load(Ordering::Acquire) {
            return;
        }
        sleep_until(due).await;
        due += apart;
        let place = Arc::clone(&room).acquire_owned().await.unwrap();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let steps = Steps::default();
            let came = timeout(DEADLINE, STEPS.scope(Arc::clone(&steps), shared.one(number))).await;
            match came.unwrap_or_else(|_| Err("no answer before the deadline".into())) {
                Ok(()) => drop(shared.answered.fetch_add(1, Ordering::AcqRel)),
                Err(why) => {
                    let steps = steps.lock().unwrap();
                    let (first, last) = (&steps[..steps.len().min(8)], steps.last());
                    let told = format!("request {number}: {why}; {} steps: {first:?}, {last:?}", steps.len());
                    shared.failures.lock().unwrap().push(told);
                }
            }
            drop(place);
        });
    }
}
