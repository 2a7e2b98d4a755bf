//! A scripted origin: a raw HTTP/1.1 server on threads, on loopback. It records what it reads as
//! bytes and answers by path with exactly the bytes a test wrote.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;

use super::DEADLINE;

/// A connection of either kind.
pub trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

type Handler = Arc<dyn Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync>;
type Wrap = Arc<dyn Fn(TcpStream) -> io::Result<Box<dyn Wire>> + Send + Sync>;

/// One request as the origin read it.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// Request line and fields, with the empty line.
    pub head: Vec<u8>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Trailer fields, raw.
    pub trailers: Vec<u8>,
}

impl Recorded {
    /// The request line.
    pub fn line(&self) -> String {
        self.text().lines().next().unwrap_or_default().to_owned()
    }

    /// The head as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }

    /// Every value of a field, in order.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.text()
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .collect()
    }

    /// The only value of a field; `None` when absent; fails when it was sent twice.
    pub fn one(&self, name: &str) -> Option<String> {
        let mut all = self.all(name);
        assert!(all.len() < 2, "{name} was sent more than once: {}", self.text());
        all.pop()
    }
}

/// What is left of a request body.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Framing {
    Length(u64),
    Chunked,
    Done,
}

/// One request under way, as a handler sees it.
pub struct Exchange<'a> {
    wire: &'a mut BufReader<Box<dyn Wire>>,
    request: Recorded,
    framing: Framing,
    close: bool,
}

impl Exchange<'_> {
    /// The request so far.
    pub fn request(&self) -> &Recorded {
        &self.request
    }

    /// Writes bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.get_mut().write_all(bytes.as_ref())?;
        self.wire.get_mut().flush()
    }

    /// Writes a 200 with a length and these bytes.
    pub fn ok(&mut self, content_type: &str, body: &[u8]) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(head)?;
        if self.request.head.starts_with(b"HEAD ") { Ok(()) } else { self.send(body) }
    }

    /// Writes one chunk.
    pub fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        self.send(framed)
    }

    /// Reads the next piece of the body; empty at its end.
    pub fn piece(&mut self) -> io::Result<Vec<u8>> {
        match self.framing {
            Framing::Done => Ok(Vec::new()),
            Framing::Length(left) => {
                let mut buffer = vec![0; left.min(64 * 1024) as usize];
                let n = self.wire.read(&mut buffer)?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                buffer.truncate(n);
                let left = left - n as u64;
                self.framing = if left == 0 { Framing::Done } else { Framing::Length(left) };
                Ok(buffer)
            }
            Framing::Chunked => {
                let (piece, trailers) = read_chunk(self.wire)?;
                if piece.is_empty() {
                    self.framing = Framing::Done;
                    self.request.trailers = trailers;
                }
                Ok(piece)
            }
        }
    }

    /// Reads the rest of the body and keeps it in the record.
    pub fn body(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let piece = self.piece()?;
            if piece.is_empty() {
                return Ok(self.request.body.clone());
            }
            self.request.body.extend_from_slice(&piece);
        }
    }

    /// Reads the rest of the body and only counts it.
    pub fn count_body(&mut self) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let piece = self.piece()?;
            if piece.is_empty() {
                return Ok(total);
            }
            total += piece.len() as u64;
        }
    }

    /// Reads bytes behind the head that are no body: a tunnel's. Empty when the peer is done.
    pub fn tunnel(&mut self) -> io::Result<Vec<u8>> {
        let bytes = self.wire.fill_buf()?.to_vec();
        self.wire.consume(bytes.len());
        Ok(bytes)
    }

    /// The connection is cut when the handler returns, and the rest of the request is not read.
    pub fn cut(&mut self) {
        self.close = true;
    }
}

/// A handler that answers with this text when it is told to, and says when it was asked.
pub fn held(
    text: &'static str,
) -> (
    impl Fn(&mut Exchange<'_>) -> io::Result<()> + Clone + Send + Sync + 'static,
    mpsc::Receiver<()>,
    mpsc::Sender<()>,
) {
    let (asked, heard) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let handler = move |x: &mut Exchange<'_>| {
        // The test may be over already.
        let _ = asked.send(());
        let _ = gate.lock().unwrap().recv_timeout(DEADLINE * 2);
        x.ok("text/plain", text.as_bytes())
    };
    (handler, heard, release)
}

/// Switches to a WebSocket, as far as the head goes, and sends back what comes until the peer is done.
pub fn echoes(x: &mut Exchange<'_>) -> io::Result<()> {
    x.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")?;
    loop {
        let bytes = x.tunnel()?;
        if bytes.is_empty() {
            return Ok(());
        }
        x.send(bytes)?;
    }
}

/// A 200 with these fields, each ended by CR LF, and a length.
pub fn answer(fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Reads a PROXY protocol header of either version and nothing behind it.
fn read_introduction(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut header = vec![0; 12];
    stream.read_exact(&mut header)?;
    if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            header.push(0);
            let last = header.len() - 1;
            stream.read_exact(&mut header[last..])?;
        }
        return Ok(header);
    }
    header.resize(16, 0);
    stream.read_exact(&mut header[12..])?;
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    header.resize(16 + length, 0);
    stream.read_exact(&mut header[16..])?;
    Ok(header)
}

/// Reads one chunk; at the last one, the trailers.
fn read_chunk(wire: &mut impl BufRead) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut line = String::new();
    wire.read_line(&mut line)?;
    let size = line.trim().split(';').next().unwrap_or_default();
    let size = usize::from_str_radix(size, 16).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    if size == 0 {
        let mut trailers = Vec::new();
        loop {
            let start = trailers.len();
            if wire.read_until(b'\n', &mut trailers)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if trailers[start..] == *b"\r\n" {
                trailers.truncate(start);
                return Ok((Vec::new(), trailers));
            }
        }
    }
    let mut data = vec![0; size + 2];
    wire.read_exact(&mut data)?;
    data.truncate(size);
    Ok((data, Vec::new()))
}

#[derive(Default)]
struct Shared {
    routes: Mutex<HashMap<String, Handler>>,
    recorded: Mutex<Vec<Recorded>>,
    changed: Condvar,
    heads: AtomicUsize,
    connections: AtomicUsize,
    forgets: AtomicBool,
}

/// The running origin; its threads end with the test process.
pub struct Origin {
    url: String,
    shared: Arc<Shared>,
}

impl Origin {
    /// A cleartext origin. Without a route it answers `hello` as text.
    pub fn start() -> Self {
        Self::tcp("http", Arc::new(|stream| Ok(Box::new(stream))))
    }

    /// A cleartext origin at an address of loopback.
    pub fn start_at(address: &str) -> Self {
        Self::tcp_at(address, "http", Arc::new(|stream| Ok(Box::new(stream))))
    }

    /// A cleartext origin whose connections begin with a PROXY protocol header; each is pushed to `headers`.
    pub fn start_introduced(headers: Arc<Mutex<Vec<Vec<u8>>>>) -> Self {
        let wrap: Wrap = Arc::new(move |mut stream| {
            let header = read_introduction(&mut stream)?;
            headers.lock().unwrap().push(header);
            Ok(Box::new(stream))
        });
        Self::tcp("http", wrap)
    }

    /// An origin behind TLS.
    pub fn start_tls(config: Arc<rustls::ServerConfig>) -> Self {
        Self::tcp(
            "https",
            Arc::new(move |stream| {
                let tls = rustls::ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
                Ok(Box::new(rustls::StreamOwned::new(tls, stream)))
            }),
        )
    }

    /// An origin on a Unix socket.
    pub fn start_unix(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(&accepting, move || Ok(Box::new(stream)));
            }
        });
        Self { url: format!("unix:{}", path.display()), shared }
    }

    fn tcp(scheme: &str, wrap: Wrap) -> Self {
        Self::tcp_at("127.0.0.1:0", scheme, wrap)
    }

    fn tcp_at(address: &str, scheme: &str, wrap: Wrap) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let addr: SocketAddr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let wrap = Arc::clone(&wrap);
                serve(&accepting, move || {
                    stream.set_nodelay(true)?;
                    wrap(stream)
                });
            }
        });
        Self { url: format!("{scheme}://{addr}"), shared }
    }

    /// The address as `upstream` wants it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same in the words of a settings file.
    pub fn toml(&self) -> String {
        format!("{:?}", self.url)
    }

    /// Adds a route; the path is compared without its query.
    pub fn on<F>(self, path: &str, handler: F) -> Self
    where
        F: Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    {
        self.shared.routes.lock().unwrap().insert(path.to_owned(), Arc::new(handler));
        self
    }

    /// Keeps no record of what it reads: for millions of requests.
    pub fn forgetting(self) -> Self {
        self.shared.forgets.store(true, Ordering::SeqCst);
        self
    }

    /// Adds a route that answers with exactly these bytes.
    pub fn answers(self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        self.on(path, move |x| x.send(&bytes))
    }

    /// Waits until so many requests were read to their end, and returns them.
    pub fn seen(&self, count: usize) -> Vec<Recorded> {
        let guard = self.shared.recorded.lock().unwrap();
        let (guard, waited) =
            self.shared.changed.wait_timeout_while(guard, DEADLINE, |seen| seen.len() < count).unwrap();
        assert!(!waited.timed_out(), "the origin read {} of {count} requests", guard.len());
        guard.clone()
    }

    /// Waits for the first request.
    pub fn first(&self) -> Recorded {
        self.seen(1).swap_remove(0)
    }

    /// Request heads read so far.
    pub fn heads(&self) -> usize {
        self.shared.heads.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

/// Serves one connection on its own thread. An I/O error only ends the connection: the test sees
/// it from its own side.
fn serve(shared: &Arc<Shared>, open: impl FnOnce() -> io::Result<Box<dyn Wire>> + Send + 'static) {
    shared.connections.fetch_add(1, Ordering::SeqCst);
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        if let Ok(wire) = open() {
            let mut wire = BufReader::new(wire);
            while let Ok(true) = serve_one(&shared, &mut wire) {}
        }
    });
}

/// Serves one request; `false` when the connection is to be closed.
fn serve_one(shared: &Shared, wire: &mut BufReader<Box<dyn Wire>>) -> io::Result<bool> {
    let mut head = Vec::new();
    loop {
        let start = head.len();
        if wire.read_until(b'\n', &mut head)? == 0 {
            return Ok(false);
        }
        if head[start..] == *b"\r\n" {
            break;
        }
    }
    shared.heads.fetch_add(1, Ordering::SeqCst);
    let request = Recorded { head, ..Recorded::default() };
    let framing = if request.one("transfer-encoding").is_some() {
        Framing::Chunked
    } else {
        match request.one("content-length").and_then(|v| v.parse().ok()) {
            Some(0) | None => Framing::Done,
            Some(length) => Framing::Length(length),
        }
    };
    let line = request.line();
    let target = line.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let handler = shared.routes.lock().unwrap().get(path).cloned();
    let mut exchange = Exchange { wire, request, framing, close: false };
    let answered = match handler {
        Some(handler) => handler(&mut exchange),
        None => exchange.body().and_then(|_| exchange.ok("text/plain", b"hello")),
    };
    let answered = answered.and_then(|()| if exchange.close { Ok(()) } else { exchange.body().map(drop) });
    let keep = answered.is_ok() && !exchange.close;
    if !shared.forgets.load(Ordering::SeqCst) {
        shared.recorded.lock().unwrap().push(exchange.request);
    }
    shared.changed.notify_all();
    Ok(keep)
}
