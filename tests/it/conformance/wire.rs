//! A raw client: sends bytes as a test wrote them, and reads what comes until enough has come.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem::find;
use rustls::pki_types::ServerName;

/// One answer.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// The body ended as its framing says.
    pub whole: bool,
}

impl Answer {
    pub fn all(&self, name: &str) -> Vec<String> {
        let fields = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        let same = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.trim().to_owned()).collect()
    }
}

/// What a connection gave.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Interim answers.
    pub interim: Vec<u16>,
    pub answers: Vec<Answer>,
    /// The peer ended the connection.
    pub closed: bool,
    /// Bytes that are no answer.
    pub rest: Vec<u8>,
}

impl Heard {
    /// The first answer is there, whole.
    pub fn whole(&self) -> bool {
        self.answers.first().is_some_and(|answer| answer.whole)
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection.
pub struct Wire {
    stream: Box<dyn Stream>,
    tcp: TcpStream,
    bytes: Vec<u8>,
    closed: bool,
}

impl Wire {
    pub fn tcp(addr: SocketAddr, patience: Duration) -> Self {
        let tcp = TcpStream::connect(addr).unwrap();
        tcp.set_read_timeout(Some(patience)).unwrap();
        tcp.set_write_timeout(Some(patience)).unwrap();
        tcp.set_nodelay(true).unwrap();
        let stream = Box::new(tcp.try_clone().unwrap());
        Self { stream, tcp, bytes: Vec::new(), closed: false }
    }

    pub fn tls(addr: SocketAddr, config: &Arc<rustls::ClientConfig>, patience: Duration) -> Self {
        let Self { tcp, .. } = Self::tcp(addr, patience);
        let name = ServerName::try_from("site.test").unwrap();
        let mut tls = rustls::ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut io = tcp.try_clone().unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut io).unwrap();
        }
        Self { stream: Box::new(rustls::StreamOwned::new(tls, io)), tcp, bytes: Vec::new(), closed: false }
    }

    /// Waits longer for what must come.
    pub fn be_patient(&self, patience: Duration) {
        self.tcp.set_read_timeout(Some(patience)).unwrap();
    }

    /// Sends; the peer may have closed already.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush()).is_ok()
    }

    /// Sends byte by byte.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if !self.send([*byte]) {
                return;
            }
        }
    }

    pub fn finish(&self) {
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// Reads until `enough` holds, the peer closes, or patience ends.
    pub fn hear(&mut self, methods: &[&str], enough: impl Fn(&Heard) -> bool) -> Heard {
        loop {
            let heard = parse(&self.bytes, methods, false);
            if enough(&heard) {
                return heard;
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return parse(&self.bytes, methods, true),
                Ok(read) => self.bytes.extend_from_slice(&buffer[..read]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return heard,
                Err(_) => return parse(&self.bytes, methods, true),
            }
        }
    }

    /// As [`Self::hear`], for the next of several requests: what was heard before is forgotten.
    pub fn hear_next(&mut self, methods: &[&str], enough: impl Fn(&Heard) -> bool) -> Heard {
        self.bytes.clear();
        self.hear(methods, enough)
    }

    /// Raw bytes until this many, the end, or patience's end.
    pub fn raw(&mut self, count: usize) -> Vec<u8> {
        let mut buffer = [0; 4096];
        while self.bytes.len() < count {
            match self.stream.read(&mut buffer) {
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Ok(0) | Err(_) => {
                    self.closed = true;
                    break;
                }
                Ok(read) => self.bytes.extend_from_slice(&buffer[..read]),
            }
        }
        self.bytes.clone()
    }

    /// Whether the peer had closed when raw bytes were last read.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

/// Reads answers from bytes; `closed`: the peer has ended the connection behind them.
pub fn parse(bytes: &[u8], methods: &[&str], closed: bool) -> Heard {
    let mut heard = Heard { closed, ..Heard::default() };
    let mut rest = bytes;
    while let Some(end) = find(rest, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let status = head.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
        if !head.starts_with("HTTP/1.") || status == 0 {
            break;
        }
        rest = &rest[end + 4..];
        if (100..200).contains(&status) && status != 101 {
            heard.interim.push(status);
            continue;
        }
        let method = methods.get(heard.answers.len()).copied().unwrap_or("GET");
        let mut answer = Answer { status, head, ..Answer::default() };
        let used = body(&mut answer, rest, method, closed);
        heard.answers.push(answer);
        rest = &rest[used..];
    }
    heard.rest = rest.to_vec();
    heard
}

/// Reads an answer's body; bytes used.
fn body(answer: &mut Answer, rest: &[u8], method: &str, closed: bool) -> usize {
    if method == "HEAD" || matches!(answer.status, 101 | 204 | 304) {
        answer.whole = true;
        return 0;
    }
    if answer.all("transfer-encoding") == ["chunked"] {
        let mut at = 0;
        while let Some(end) = find(&rest[at..], b"\r\n") {
            let line = String::from_utf8_lossy(&rest[at..at + end]).into_owned();
            let Ok(size) = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16) else {
                break;
            };
            at += end + 2;
            if size == 0 {
                // Trailers, if there are any, up to the empty line.
                let tail = &rest[at..];
                let end =
                    if tail.starts_with(b"\r\n") { Some(0) } else { find(tail, b"\r\n\r\n").map(|e| e + 2) };
                if let Some(end) = end {
                    answer.head.push_str("\r\n");
                    answer.head.push_str(&String::from_utf8_lossy(&tail[..end]));
                    answer.whole = true;
                    return at + end + 2;
                }
                return rest.len();
            }
            let Some(data) = rest.get(at..at + size) else {
                answer.body.extend_from_slice(&rest[at.min(rest.len())..]);
                return rest.len();
            };
            answer.body.extend_from_slice(data);
            at = (at + size + 2).min(rest.len());
        }
        return rest.len();
    }
    if let [length] = &answer.all("content-length")[..] {
        let length = length.parse().unwrap_or(usize::MAX);
        answer.whole = rest.len() >= length;
        let used = length.min(rest.len());
        answer.body = rest[..used].to_vec();
        return used;
    }
    answer.body = rest.to_vec();
    answer.whole = closed;
    rest.len()
}
