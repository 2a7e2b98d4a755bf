//! HTTP/2 on both ends: a client (prior knowledge or TLS) and an echoing origin.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::thread;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::DEADLINE;

/// A body of given frames.
pub struct Frames(Vec<Frame<Bytes>>);

impl Frames {
    /// Some bytes, and trailers if there are any.
    pub fn new(data: &'static [u8], trailers: Option<HeaderMap>) -> Self {
        let data = (!data.is_empty()).then(|| Frame::data(Bytes::from_static(data)));
        let mut frames: Vec<_> = trailers.map(Frame::trailers).into_iter().chain(data).collect();
        frames.shrink_to_fit();
        Self(frames)
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// A whole HTTP/2 answer.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Trailer fields.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    async fn read(response: Response<Incoming>) -> Result<Self, hyper::Error> {
        let (parts, body) = response.into_parts();
        let collected = body.collect().await?;
        let trailers = collected.trailers().cloned();
        let (status, body) = (parts.status.as_u16(), collected.to_bytes());
        Ok(Self { status, headers: parts.headers, body, trailers })
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// One HTTP/2 connection.
pub struct H2 {
    runtime: Runtime,
    sender: SendRequest<Frames>,
}

impl H2 {
    /// Connects without TLS and without asking (RFC 9113, 3.3).
    pub fn prior_knowledge(addr: SocketAddr) -> Self {
        Self::over(async move { TcpStream::connect(addr).await.unwrap() })
    }

    /// Connects to a Unix socket, without asking.
    pub fn unix(path: &std::path::Path) -> Self {
        Self::over(async move { tokio::net::UnixStream::connect(path).await.unwrap() })
    }

    /// Connects with TLS; `config` offers `h2`.
    pub fn tls(addr: SocketAddr, name: &str, config: std::sync::Arc<rustls::ClientConfig>) -> Self {
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        Self::over(async move {
            let stream = TcpStream::connect(addr).await.unwrap();
            let tls = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()), "ALPN");
            tls
        })
    }

    fn over<S>(opening: impl Future<Output = S>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let runtime = runtime();
        let sender = runtime.block_on(async {
            let wire = TokioIo::new(opening.await);
            let (sender, connection) = handshake(TokioExecutor::new(), wire).await.unwrap();
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender }
    }

    /// Whether the server takes no more requests on it (RFC 9113, 6.8), or it has ended.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Begins a `GET` that nobody waits for.
    pub fn begin(&mut self, url: &str) {
        let request = Request::get(url).body(Frames::new(b"", None)).unwrap();
        let answer = self.sender.send_request(request);
        self.runtime.spawn(answer);
    }

    /// Sends as many `GET`s at once and reads all answers.
    pub fn get_at_once(&mut self, url: &str, count: usize) -> Vec<Answer> {
        let get = || Request::get(url).body(Frames::new(b"", None)).unwrap();
        let asked: Vec<_> = (0..count).map(|_| self.sender.send_request(get())).collect();
        let reading = asked.into_iter().map(|answer| async { Answer::read(answer.await?).await });
        let reading: Vec<_> = reading.map(|answer| self.runtime.spawn(answer)).collect();
        let read = |answer| async {
            tokio::time::timeout(DEADLINE, answer).await.expect("an end before the deadline")
        };
        reading.into_iter().map(|answer| self.runtime.block_on(read(answer)).unwrap().unwrap()).collect()
    }

    /// Sends `GET`s with these fields at once, and reads all answers in their order.
    pub fn get_all(&mut self, urls: &[String], fields: &[(&str, &str)]) -> Vec<Answer> {
        let asked = urls.iter().map(|url| {
            let request =
                fields.iter().fold(Request::get(url), |request, (name, value)| request.header(*name, *value));
            let answer = self.sender.send_request(request.body(Frames::new(b"", None)).unwrap());
            self.runtime.spawn(async { Answer::read(answer.await?).await })
        });
        let asked: Vec<_> = asked.collect();
        let read = |answer| async {
            tokio::time::timeout(DEADLINE, answer).await.expect("an end before the deadline")
        };
        asked.into_iter().map(|answer| self.runtime.block_on(read(answer)).unwrap().unwrap()).collect()
    }

    /// Sends a request and reads the whole answer.
    pub fn send(&mut self, request: Request<Frames>) -> Answer {
        self.try_send(request).unwrap()
    }

    /// As [`Self::send`]; an error when the stream or the connection was ended instead.
    pub fn try_send(&mut self, request: Request<Frames>) -> Result<Answer, hyper::Error> {
        let answer = self.sender.send_request(request);
        self.runtime.block_on(async {
            let reading = async { Answer::read(answer.await?).await };
            tokio::time::timeout(DEADLINE, reading).await.expect("an end before the deadline")
        })
    }

    /// Sends a request; what came in answer, and whether it ended well. `None` where its stream had no head.
    pub fn send_to_the_end(&mut self, request: Request<Frames>) -> Option<(Answer, bool)> {
        let answer = self.sender.send_request(request);
        let reading = async {
            let (parts, mut incoming) = answer.await.ok()?.into_parts();
            let (mut body, mut trailers, mut whole) = (BytesMut::new(), None, true);
            while let Some(frame) = incoming.frame().await {
                match frame.map(Frame::into_data) {
                    Ok(Ok(data)) => body.extend_from_slice(&data),
                    Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
                    Err(_) => {
                        whole = false;
                        break;
                    }
                }
            }
            let (status, headers, body) = (parts.status.as_u16(), parts.headers, body.freeze());
            Some((Answer { status, headers, body, trailers }, whole))
        };
        self.runtime.block_on(async {
            tokio::time::timeout(DEADLINE, reading).await.expect("an end before the deadline")
        })
    }

    /// Sends a `GET`; `None` when its stream was ended before its answer was whole.
    pub fn try_get(&mut self, url: &str) -> Option<Answer> {
        self.try_send(Request::get(url).body(Frames::new(b"", None)).unwrap()).ok()
    }

    /// Sends a `GET`.
    pub fn get(&mut self, url: &str) -> Answer {
        self.send(Request::get(url).body(Frames::new(b"", None)).unwrap())
    }
}

/// What the HTTP/2 origin read.
#[derive(Debug)]
pub struct Seen {
    /// Fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Trailer fields.
    pub trailers: Option<HeaderMap>,
}

/// An HTTP/2 origin (prior knowledge) that answers like a gRPC server: its data, then trailers.
pub struct H2Origin {
    addr: SocketAddr,
    seen: mpsc::Receiver<Seen>,
}

impl H2Origin {
    /// Starts it on a thread of its own.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, seen) = mpsc::channel();
        thread::spawn(move || runtime().block_on(serve(listener, sender)));
        Self { addr, seen }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next request it read.
    pub fn next(&self) -> Seen {
        self.seen.recv_timeout(DEADLINE).expect("a request before the deadline")
    }
}

async fn serve(listener: TcpListener, sender: mpsc::Sender<Seen>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let sender = sender.clone();
        let service = service_fn(move |request: Request<Incoming>| answer(request, sender.clone()));
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(serving);
    }
}

async fn answer(
    request: Request<Incoming>,
    sender: mpsc::Sender<Seen>,
) -> Result<Response<Frames>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    // The test may be over already.
    let _ = sender.send(Seen { headers: parts.headers, body: collected.to_bytes(), trailers });
    let mut status = HeaderMap::new();
    status.insert("grpc-status", HeaderValue::from_static("0"));
    let mut response = Response::new(Frames::new(b"\0\0\0\0\x02ok", Some(status)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}
