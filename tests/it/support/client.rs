//! A raw HTTP/1.1 client: sends the bytes a test wrote and reads answers piece by piece.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::DEADLINE;

/// Asks for a WebSocket, where [`super::origin::echoes`] answers.
pub const SOCKET: &str = "GET /ws HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The head of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Fields in order, names as sent.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// The only value of a field; fails when it was sent twice.
    pub fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} was sent more than once: {self:?}");
        all.first().copied()
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status and fields.
    pub head: Head,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
}

impl Response {
    /// Status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection.
pub struct Client<S = TcpStream> {
    wire: BufReader<S>,
}

impl Client {
    /// Connects; every read has a deadline, so that a test fails instead of hanging.
    pub fn connect(addr: SocketAddr) -> Self {
        Self { wire: BufReader::new(tcp(addr)) }
    }

    /// Connects from an address of loopback.
    pub fn connect_from(from: &str, addr: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let from: SocketAddr = format!("{from}:0").parse().unwrap();
        socket.bind(&from.into()).unwrap();
        socket.connect(&addr.into()).unwrap();
        Self { wire: BufReader::new(set_up(socket.into())) }
    }

    /// The same connection once more, to send on while it is read.
    pub fn writer(&self) -> TcpStream {
        self.wire.get_ref().try_clone().unwrap()
    }

    /// Ends the sending side.
    pub fn finish(&mut self) {
        self.wire.get_ref().shutdown(Shutdown::Write).unwrap();
    }
}

impl Client<UnixStream> {
    /// Connects to a Unix socket.
    pub fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { wire: BufReader::new(stream) }
    }
}

/// A TLS connection.
pub type TlsClient = Client<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>;

impl TlsClient {
    /// Connects with TLS and finishes the handshake.
    pub fn connect_tls(addr: SocketAddr, name: &str, config: Arc<rustls::ClientConfig>) -> Self {
        Self::secure(tcp(addr), name, config)
    }

    /// As [`Self::connect_tls`], with bytes in clear before the handshake.
    pub fn connect_tls_after(
        before: &[u8],
        addr: SocketAddr,
        name: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> Self {
        let mut tcp = tcp(addr);
        tcp.write_all(before).unwrap();
        Self::secure(tcp, name, config)
    }

    /// As [`Self::connect_tls`]; an error when the handshake fails.
    pub fn try_connect_tls(
        addr: SocketAddr,
        name: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> std::io::Result<Self> {
        Self::try_secure(tcp(addr), name, config)
    }

    fn secure(tcp: TcpStream, name: &str, config: Arc<rustls::ClientConfig>) -> Self {
        Self::try_secure(tcp, name, config).unwrap()
    }

    fn try_secure(
        mut tcp: TcpStream,
        name: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> std::io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut tls = rustls::ClientConnection::new(config, name).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(Self { wire: BufReader::new(rustls::StreamOwned::new(tls, tcp)) })
    }

    /// The protocol that both agreed on.
    pub fn alpn(&self) -> Option<String> {
        self.wire.get_ref().conn.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned())
    }

    /// Whether a session was resumed.
    pub fn handshake_kind(&self) -> rustls::HandshakeKind {
        self.wire.get_ref().conn.handshake_kind().unwrap()
    }

    /// The certificate the server showed, DER.
    pub fn certificate(&self) -> Vec<u8> {
        self.wire.get_ref().conn.peer_certificates().unwrap()[0].to_vec()
    }
}

/// Connects, as [`Client::connect`] does.
pub fn tcp(addr: SocketAddr) -> TcpStream {
    set_up(TcpStream::connect(addr).unwrap())
}

fn set_up(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl<S: Read + Write> Client<S> {
    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.wire.get_mut().write_all(bytes.as_ref()).unwrap();
        self.wire.get_mut().flush().unwrap();
        self
    }

    /// Sends bytes to a peer that may already have closed.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.get_mut().write_all(bytes.as_ref()).and_then(|()| self.wire.get_mut().flush()).is_ok()
    }

    /// Sends a `GET` with more fields (each line ended by CR LF).
    pub fn get(&mut self, path: &str, fields: &str) -> Response {
        self.get_from("site.test", path, fields)
    }

    /// As [`Self::get`], from another host.
    pub fn get_from(&mut self, host: &str, path: &str, fields: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
        self.response("GET")
    }

    /// Reads the next head, interim ones too.
    pub fn head(&mut self) -> Head {
        let line = self.line();
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {line:?}"));
        assert!(line.starts_with("HTTP/1."), "{line:?}");
        Head { status, fields: self.fields() }
    }

    /// Reads the status of the next answer; `None` when the peer ends the connection instead.
    pub fn try_status(&mut self) -> Option<u16> {
        let mut line = Vec::new();
        self.wire.read_until(b'\n', &mut line).ok()?;
        String::from_utf8_lossy(&line).split(' ').nth(1)?.parse().ok()
    }

    /// Reads the next final head.
    pub fn final_head(&mut self) -> Head {
        loop {
            let head = self.head();
            if head.status >= 200 {
                return head;
            }
        }
    }

    /// Reads the next final answer to a request with this method.
    pub fn response(&mut self, method: &str) -> Response {
        let head = self.final_head();
        let (body, trailers) = self.body(&head, method);
        Response { head, body, trailers }
    }

    /// Reads the body that follows a head.
    pub fn body(&mut self, head: &Head, method: &str) -> (Vec<u8>, Vec<(String, String)>) {
        if method == "HEAD" || matches!(head.status, 204 | 304) {
            return (Vec::new(), Vec::new());
        }
        if head.one("transfer-encoding").is_some() {
            let mut body = Vec::new();
            while let Some(piece) = self.chunk() {
                body.extend_from_slice(&piece);
            }
            return (body, self.fields());
        }
        let mut body = Vec::new();
        if let Some(length) = head.one("content-length") {
            body = self.take(length.parse().unwrap());
        } else {
            self.wire.read_to_end(&mut body).unwrap();
        }
        (body, Vec::new())
    }

    /// Reads one chunk; `None` for the last one (its trailers are still to be read).
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line();
        let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16)
            .unwrap_or_else(|_| panic!("no chunk size: {line:?}"));
        if size == 0 {
            return None;
        }
        let mut data = self.take(size + 2);
        assert_eq!(data.split_off(size), b"\r\n", "a chunk ends with CR LF");
        Some(data)
    }

    /// Reads exactly so many bytes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.wire.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads until `mark` has come; returns all of it.
    pub fn until(&mut self, mark: &str) -> String {
        let mut all = Vec::new();
        while !all.windows(mark.len()).any(|w| w == mark.as_bytes()) {
            let more = self.more(&mut all);
            assert!(more, "closed before {mark:?}: {:?}", String::from_utf8_lossy(&all));
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Reads until `mark` has come; false when the peer closes first.
    pub fn until_closed_or(&mut self, mark: &str) -> bool {
        let mut all = Vec::new();
        while !all.windows(mark.len()).any(|w| w == mark.as_bytes()) {
            if !self.more(&mut all) {
                return false;
            }
        }
        true
    }

    /// Counts what comes until so many bytes were read.
    pub fn count(&mut self, upto: u64) -> u64 {
        let mut total = 0;
        while total < upto {
            let n = self.wire.fill_buf().unwrap().len();
            if n == 0 {
                break;
            }
            self.wire.consume(n);
            total += n as u64;
        }
        total
    }

    /// Reads what is left until the peer closes; a reset counts as closed.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while self.more(&mut all) {}
        all
    }

    /// Reads what has come; false when the peer has closed, by a reset too.
    fn more(&mut self, all: &mut Vec<u8>) -> bool {
        let count = match self.wire.fill_buf() {
            Ok(bytes) => {
                all.extend_from_slice(bytes);
                bytes.len()
            }
            Err(e) if closed(&e) => 0,
            Err(e) => panic!("not closed after {:?}: {e}", String::from_utf8_lossy(all)),
        };
        self.wire.consume(count);
        count > 0
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.wire.read_until(b'\n', &mut line).unwrap();
        assert!(line.ends_with(b"\r\n"), "a line ends with CR LF: {:?}", String::from_utf8_lossy(&line));
        line.truncate(line.len() - 2);
        String::from_utf8_lossy(&line).into_owned()
    }

    fn fields(&mut self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return fields;
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }
}

fn closed(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}

/// One `GET` on a connection of its own.
pub fn get(addr: SocketAddr, path: &str, fields: &str) -> Response {
    Client::connect(addr).get(path, fields)
}

/// The metrics of an admin listener.
pub fn metrics(admin: SocketAddr) -> String {
    Client::connect(admin).get_from(&admin.to_string(), "/metrics", "").text()
}
