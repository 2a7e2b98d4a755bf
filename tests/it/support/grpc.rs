//! A real gRPC server and client (tonic) with a service written by hand: messages are bytes, so that no code is
//! generated. TLS, where it is wanted, is the tests' own on both sides.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::thread;

use bytes::{Buf as _, BufMut as _};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::either::Either;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

/// A message.
pub type Message = Vec<u8>;

/// The largest message that either side takes.
pub const LARGEST: usize = 16 << 20;

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Codec for Plain {
    type Encode = Message;
    type Decode = Message;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Message;
    type Error = Status;

    fn encode(&mut self, message: Message, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Plain {
    type Item = Message;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Message>, Status> {
        let mut message = vec![0; bytes.remaining()];
        bytes.copy_to_slice(&mut message);
        Ok(Some(message))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// What the server tells of its calls.
#[derive(Debug)]
pub enum Told {
    /// Metadata of a call.
    Asked(MetadataMap),
    /// A call that waited was given up.
    GivenUp,
}

type Ears = Arc<Mutex<mpsc::Sender<Told>>>;

/// Says that a call was given up, when it is dropped.
struct Waiting(Ears);

impl Drop for Waiting {
    fn drop(&mut self) {
        // The test may be over already.
        let _ = self.0.lock().unwrap().send(Told::GivenUp);
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;
type Answering<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

/// The methods of the service, by the last part of their paths.
#[derive(Debug, Clone)]
struct Orders {
    ears: Ears,
}

/// The error that `Fail` and `FailLate` end with: text that must be escaped, details, and metadata of its own.
pub fn failure() -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert("x-reason", "sold-out".parse().unwrap());
    Status::with_details_and_metadata(
        Code::FailedPrecondition,
        "nicht verfügbar: 100 %\nnoch einmal",
        b"\0\x01\xff details".to_vec().into(),
        metadata,
    )
}

impl Orders {
    fn hear(&self, metadata: &MetadataMap) {
        let _ = self.ears.lock().unwrap().send(Told::Asked(metadata.clone()));
    }

    fn unary(&self, request: Request<Message>, fails: bool) -> Answering<Message> {
        self.hear(request.metadata());
        Box::pin(async move {
            if fails {
                return Err(failure());
            }
            let mut response = Response::new(request.into_inner());
            response.metadata_mut().insert("x-served", "unary".parse().unwrap());
            Ok(response)
        })
    }

    /// As many messages of 1,000 bytes as the message has bytes; then an error if it is to fail.
    fn download(&self, request: Request<Message>, fails: bool) -> Answering<Messages> {
        self.hear(request.metadata());
        let count = request.into_inner().len();
        let end = fails.then(|| Err(failure()));
        let messages = (0..count).map(|n| Ok(vec![u8::try_from(n % 251).unwrap(); 1_000])).chain(end);
        Box::pin(async { Ok(Response::new(Box::pin(tokio_stream::iter(messages)) as Messages)) })
    }

    /// The first message is the answer's beginning, and nothing comes behind it.
    fn wait(&self, request: Request<Message>) -> Answering<Messages> {
        self.hear(request.metadata());
        let waiting = Waiting(Arc::clone(&self.ears));
        let begun = tokio_stream::once(Ok(request.into_inner()));
        let never = futures_util::stream::pending().map(move |message| {
            let _ = &waiting;
            message
        });
        Box::pin(async { Ok(Response::new(Box::pin(begun.chain(never)) as Messages)) })
    }

    /// No answer at all.
    fn silent(&self, request: &Request<Message>) -> Answering<Message> {
        self.hear(request.metadata());
        let waiting = Waiting(Arc::clone(&self.ears));
        Box::pin(async move {
            let _waiting = waiting;
            std::future::pending().await
        })
    }

    /// Refused before a message is read.
    fn refuse(&self, request: &Request<Streaming<Message>>) -> Answering<Message> {
        self.hear(request.metadata());
        Box::pin(async { Err(failure()) })
    }

    /// How many bytes and messages came.
    fn upload(&self, request: Request<Streaming<Message>>) -> Answering<Message> {
        self.hear(request.metadata());
        let mut messages = request.into_inner();
        Box::pin(async move {
            let (mut bytes, mut count) = (0, 0);
            while let Some(message) = messages.message().await? {
                (bytes, count) = (bytes + message.len(), count + 1);
            }
            Ok(Response::new(format!("{count} messages, {bytes} bytes").into_bytes()))
        })
    }

    fn chat(&self, request: Request<Streaming<Message>>) -> Answering<Messages> {
        self.hear(request.metadata());
        let echo = request.into_inner();
        Box::pin(async { Ok(Response::new(Box::pin(echo) as Messages)) })
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for Orders {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let orders = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Plain).max_decoding_message_size(LARGEST);
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            Ok(match method.as_str() {
                "Unary" | "Fail" => {
                    let fails = method == "Fail";
                    grpc.unary(tower::service_fn(move |r| orders.unary(r, fails)), request).await
                }
                "Silent" => grpc.unary(tower::service_fn(move |r| orders.silent(&r)), request).await,
                "Download" | "FailLate" => {
                    let fails = method == "FailLate";
                    grpc.server_streaming(tower::service_fn(move |r| orders.download(r, fails)), request)
                        .await
                }
                "Wait" => grpc.server_streaming(tower::service_fn(move |r| orders.wait(r)), request).await,
                "Upload" => {
                    grpc.client_streaming(tower::service_fn(move |r| orders.upload(r)), request).await
                }
                "Refuse" => {
                    grpc.client_streaming(tower::service_fn(move |r| orders.refuse(&r)), request).await
                }
                "Chat" => grpc.streaming(tower::service_fn(move |r| orders.chat(r)), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// A connection of the server's, with or without TLS.
struct Wire(Either<TcpStream, Box<tokio_rustls::server::TlsStream<TcpStream>>>);

impl Connected for Wire {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The running server; its thread ends with the test process.
pub struct GrpcServer {
    addr: SocketAddr,
    told: mpsc::Receiver<Told>,
}

impl GrpcServer {
    /// Starts it, with TLS if there is a certificate.
    pub fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (ears, told) = mpsc::channel();
        let orders = Orders { ears: Arc::new(Mutex::new(ears)) };
        let acceptor = tls.map(|config| {
            let mut config = (*config).clone();
            config.alpn_protocols = vec![b"h2".to_vec()];
            tokio_rustls::TlsAcceptor::from(Arc::new(config))
        });
        thread::spawn(move || {
            runtime().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let connections = tokio_stream::wrappers::TcpListenerStream::new(listener);
                let connections = connections.then(move |stream| {
                    let acceptor = acceptor.clone();
                    async move {
                        let stream = stream?;
                        Ok::<_, io::Error>(Wire(match acceptor {
                            Some(acceptor) => Either::Right(Box::new(acceptor.accept(stream).await?)),
                            None => Either::Left(stream),
                        }))
                    }
                });
                Server::builder().serve_with_incoming(orders, connections).await.unwrap();
            });
        });
        Self { addr, told }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The metadata of the next call.
    pub fn asked(&self) -> MetadataMap {
        match self.told.recv_timeout(super::DEADLINE).expect("a call before the deadline") {
            Told::Asked(metadata) => metadata,
            Told::GivenUp => panic!("a call was given up"),
        }
    }

    /// Waits until a call that waits is given up.
    pub fn given_up(&self) {
        let told = self.told.recv_timeout(super::DEADLINE).expect("it is given up before the deadline");
        assert!(matches!(told, Told::GivenUp), "{told:?}");
    }
}

/// A client of the service.
pub struct GrpcClient {
    runtime: tokio::runtime::Runtime,
    grpc: tonic::client::Grpc<Channel>,
    /// Metadata that every call carries.
    signal: bool,
}

/// A call's messages while it is under way.
pub struct Call {
    /// Where messages go to; dropped: that was all.
    pub out: Option<tokio::sync::mpsc::Sender<Message>>,
    /// Where they come from.
    pub messages: Streaming<Message>,
}

impl GrpcClient {
    /// Connects, with TLS if there are settings for it; `signal`: every call says `Sec-GPC: 1`.
    pub fn connect(addr: SocketAddr, tls: Option<Arc<rustls::ClientConfig>>, signal: bool) -> Self {
        let runtime = runtime();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://site.test")).unwrap();
        let connector = tower::service_fn(move |_: Uri| {
            let tls = tls.clone();
            async move {
                let stream = TcpStream::connect(addr).await?;
                Ok::<_, io::Error>(TokioIo::new(match tls {
                    None => Either::Left(stream),
                    Some(config) => {
                        let name = ServerName::try_from("site.test").unwrap();
                        let connector = tokio_rustls::TlsConnector::from(config);
                        Either::Right(Box::new(connector.connect(name, stream).await?))
                    }
                }))
            }
        });
        let channel = runtime.block_on(endpoint.connect_with_connector(connector)).unwrap();
        let grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(LARGEST);
        Self { runtime, grpc, signal }
    }

    fn path(method: &str) -> http::uri::PathAndQuery {
        format!("/shop.Orders/{method}").parse().unwrap()
    }

    fn request<T>(&self, of: T) -> Request<T> {
        let mut request = Request::new(of);
        if self.signal {
            request.metadata_mut().insert("sec-gpc", "1".parse().unwrap());
        }
        request
    }

    /// Runs a call to its end, within the tests' deadline.
    fn within<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            tokio::time::timeout(super::DEADLINE, call).await.expect("an end before the deadline")
        })
    }

    /// One message for one, after a change to the request.
    pub fn unary_with(
        &self,
        method: &str,
        message: &[u8],
        change: impl FnOnce(&mut Request<Message>),
    ) -> Result<Response<Message>, Status> {
        let mut request = self.request(message.to_vec());
        change(&mut request);
        let mut grpc = self.grpc.clone();
        self.within(async {
            grpc.ready().await.map_err(|e| Status::unknown(e.to_string()))?;
            grpc.unary(request, Self::path(method), Plain).await
        })
    }

    /// One message for one.
    pub fn unary(&self, method: &str, message: &[u8]) -> Result<Response<Message>, Status> {
        self.unary_with(method, message, |_| ())
    }

    /// Many messages for one: those that came, and what it ended with.
    pub fn download(&self, method: &str, count: usize) -> (Vec<Message>, Option<Status>) {
        let Call { mut messages, .. } = match self.begin(method, &vec![0; count]) {
            Ok(call) => call,
            Err(status) => return (Vec::new(), Some(status)),
        };
        self.within(async {
            let mut all = Vec::new();
            loop {
                match messages.message().await {
                    Ok(Some(message)) => all.push(message),
                    Ok(None) => return (all, None),
                    Err(status) => return (all, Some(status)),
                }
            }
        })
    }

    /// Begins a call with one message whose answer is a stream.
    pub fn begin(&self, method: &str, message: &[u8]) -> Result<Call, Status> {
        let (request, mut grpc) = (self.request(message.to_vec()), self.grpc.clone());
        self.within(async {
            grpc.ready().await.map_err(|e| Status::unknown(e.to_string()))?;
            let response = grpc.server_streaming(request, Self::path(method), Plain).await?;
            Ok(Call { out: None, messages: response.into_inner() })
        })
    }

    /// One message for many.
    pub fn upload(&self, method: &str, messages: Vec<Message>) -> Result<Response<Message>, Status> {
        let (request, mut grpc) = (self.request(tokio_stream::iter(messages)), self.grpc.clone());
        self.within(async {
            grpc.ready().await.map_err(|e| Status::unknown(e.to_string()))?;
            grpc.client_streaming(request, Self::path(method), Plain).await
        })
    }

    /// Begins a call with a stream in each direction.
    pub fn chat(&self) -> Call {
        let (out, from) = tokio::sync::mpsc::channel(1);
        let (request, mut grpc) = (self.request(ReceiverStream::new(from)), self.grpc.clone());
        self.within(async {
            grpc.ready().await.unwrap();
            let response = grpc.streaming(request, Self::path("Chat"), Plain).await.unwrap();
            Call { out: Some(out), messages: response.into_inner() }
        })
    }

    /// Says something in a chat.
    pub fn say(&self, call: &Call, message: &[u8]) {
        self.within(call.out.as_ref().unwrap().send(message.to_vec())).unwrap();
    }

    /// The next message of a call.
    pub fn next(&self, call: &mut Call) -> Result<Option<Message>, Status> {
        self.within(call.messages.message())
    }

    /// The trailers of a call that has ended.
    pub fn trailers(&self, call: &mut Call) -> Option<MetadataMap> {
        self.within(call.messages.trailers()).unwrap()
    }
}
