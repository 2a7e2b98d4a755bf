//! An origin that keeps the exact bytes it received, and reads them as strictly as the standard allows.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use memchr::memmem::find;

use crate::support::{DEADLINE, wait_until};

/// A request that was read to its end.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Which connection it came on.
    pub connection: usize,
    /// Request line and fields, with the empty line.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    pub trailers: Vec<u8>,
}

impl Request {
    pub fn line(&self) -> String {
        let text = String::from_utf8_lossy(&self.head).into_owned();
        text.split("\r\n").next().unwrap_or_default().to_owned()
    }

    pub fn target(&self) -> String {
        self.line().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.head).into_owned();
        let fields = text.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim_matches([' ', '\t']).to_owned())
            .collect()
    }

    /// Trailer lines, sorted, in lower case.
    pub fn trailer_lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.trailers).to_lowercase();
        let mut lines: Vec<_> = text.split("\r\n").filter(|l| !l.is_empty()).map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

/// What to do behind a scripted answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Keep,
    Close,
}

/// Bytes to answer a request to `/case...` with.
#[derive(Debug, Clone)]
pub struct Script {
    pub answer: Vec<u8>,
    pub after: After,
    /// Sent when the head is there, whatever becomes of the body.
    pub early: bool,
    /// Sent byte by byte.
    pub in_bytes: bool,
}

impl Script {
    /// Sent in one piece behind the whole request; the connection is kept.
    pub fn of(answer: impl AsRef<[u8]>) -> Self {
        Self { answer: answer.as_ref().to_vec(), after: After::Keep, early: false, in_bytes: false }
    }
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    /// Bytes that no strict reader can read, with the reason.
    malformed: Mutex<Vec<(String, Vec<u8>)>>,
    connections: AtomicUsize,
    script: Mutex<Option<Script>>,
    /// Scripts that are being written.
    writing: AtomicUsize,
}

/// How many requests, and how much that could not be read, had come.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    requests: usize,
    malformed: usize,
}

/// The origin.
pub struct Recorder {
    shared: Arc<Shared>,
    addr: SocketAddr,
}

impl Recorder {
    /// Waits until scripts that are under way are written whole: what comes after an answer's end is told from the next
    /// answer only if it is there before somebody asks.
    pub fn has_written(&self) {
        wait_until("the script is written", || self.shared.writing.load(Ordering::Acquire) == 0);
    }

    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || serve(&shared, stream, number));
            }
        });
        Self { shared, addr }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Answers of the next requests to `/case...`; `None`: an echo.
    pub fn answer(&self, script: Option<Script>) {
        *self.shared.script.lock().unwrap() = script;
    }

    /// All requests read so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// What could not be read.
    pub fn malformed(&self) -> Vec<(String, Vec<u8>)> {
        self.shared.malformed.lock().unwrap().clone()
    }

    /// Up to where it has come.
    pub fn mark(&self) -> Mark {
        let requests = self.shared.requests.lock().unwrap().len();
        Mark { requests, malformed: self.shared.malformed.lock().unwrap().len() }
    }

    /// Requests read since.
    pub fn since(&self, mark: Mark) -> Vec<Request> {
        self.shared.requests.lock().unwrap()[mark.requests..].to_vec()
    }

    /// What could not be read since.
    pub fn malformed_since(&self, mark: Mark) -> Vec<(String, Vec<u8>)> {
        self.shared.malformed.lock().unwrap()[mark.malformed..].to_vec()
    }
}

fn serve(shared: &Shared, mut stream: TcpStream, connection: usize) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(DEADLINE * 2));
    let mut bytes = Vec::new();
    let mut head_seen = false;
    loop {
        match strict_request(&bytes) {
            Ok(None) => {}
            Ok(Some((mut request, used))) => {
                bytes.drain(..used);
                request.connection = connection;
                head_seen = false;
                shared.requests.lock().unwrap().push(request.clone());
                if !answer(shared, &mut stream, &request) {
                    return;
                }
                continue;
            }
            Err(reason) => {
                shared.malformed.lock().unwrap().push((reason.to_owned(), bytes));
                return;
            }
        }
        if !head_seen && find(&bytes, b"\r\n\r\n").is_some() {
            head_seen = true;
            let early = shared.script.lock().unwrap().clone().filter(|script| script.early);
            if let Some(script) = early {
                let _ = stream.write_all(&script.answer);
                if !after(script.after, &stream) {
                    return;
                }
            }
        }
        let mut buffer = [0; 16 * 1024];
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

/// Answers; false when the connection is at its end.
fn answer(shared: &Shared, stream: &mut TcpStream, request: &Request) -> bool {
    let script = shared.script.lock().unwrap().clone();
    if let Some(script) = script.filter(|_| request.target().starts_with("/case")) {
        if script.early {
            return true;
        }
        let size = if script.in_bytes { 1 } else { script.answer.len().max(1) };
        shared.writing.fetch_add(1, Ordering::AcqRel);
        let sent = script.answer.chunks(size).all(|piece| stream.write_all(piece).is_ok());
        shared.writing.fetch_sub(1, Ordering::AcqRel);
        return sent && after(script.after, stream);
    }
    let body = format!("echo {}", request.line());
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len());
    let bodiless = request.head.starts_with(b"HEAD ");
    let answer = if bodiless { head } else { head + &body };
    stream.write_all(answer.as_bytes()).is_ok()
}

fn after(after: After, stream: &TcpStream) -> bool {
    if after == After::Close {
        let _ = stream.shutdown(Shutdown::Both);
    }
    after == After::Keep
}

/// The first request in these bytes and its length; `None` while it is not whole.
pub fn strict_request(bytes: &[u8]) -> Result<Option<(Request, usize)>, &'static str> {
    let Some(end) = find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
        // A bare LF may stand for a line end to some reader.
        let bare = (0..bytes.len()).any(|i| bytes[i] == b'\n' && (i == 0 || bytes[i - 1] != b'\r'));
        return if bare { Err("a bare LF in a head") } else { Ok(None) };
    };
    let head = &bytes[..end];
    let mut request = Request { head: head.to_vec(), ..Request::default() };
    let lines: Vec<&[u8]> = split_lines(&head[..end - 4]);
    let mut parts = lines[0].split(|b| *b == b' ');
    let good = parts.next().is_some_and(is_token)
        && parts
            .next()
            .is_some_and(|t| !t.is_empty() && t.iter().all(|b| b.is_ascii_graphic() && *b != b'#'))
        && parts.next().is_some_and(|v| v == b"HTTP/1.1" || v == b"HTTP/1.0")
        && parts.next().is_none();
    if !good {
        return Err("the request line");
    }
    for line in &lines[1..] {
        field(line)?;
    }
    // RFC 9112, 3.2 asks HTTP/1.1 for one.
    let hosts = request.all("host").len();
    if hosts != 1 && (hosts > 1 || request.line().ends_with("HTTP/1.1")) {
        return Err("not one Host");
    }
    let (lengths, codings) = (request.all("content-length"), request.all("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Some((request, end))),
        ([length], []) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|_| "a length too large")?;
            if bytes.len() - end < length {
                return Ok(None);
            }
            request.body = bytes[end..end + length].to_vec();
            Ok(Some((request, end + length)))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => {
            let Some((body, trailers, used)) = strict_chunks(&bytes[end..])? else { return Ok(None) };
            (request.body, request.trailers) = (body, trailers);
            Ok(Some((request, end + used)))
        }
        _ => Err("framing that can be read in two ways"),
    }
}

fn split_lines(head: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(at) = find(rest, b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    lines
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

fn field(line: &[u8]) -> Result<(), &'static str> {
    let colon = line.iter().position(|b| *b == b':').ok_or("a field without a colon")?;
    if !is_token(&line[..colon]) {
        return Err("a field's name");
    }
    let text = |b: &u8| (*b >= b' ' || *b == b'\t') && *b != 0x7f;
    if line[colon + 1..].iter().all(text) { Ok(()) } else { Err("a field's value") }
}

type Chunks = (Vec<u8>, Vec<u8>, usize);

fn strict_chunks(bytes: &[u8]) -> Result<Option<Chunks>, &'static str> {
    let (mut at, mut body) = (0, Vec::new());
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = &bytes[at..at + end];
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let size = std::str::from_utf8(&line[..digits]).ok().and_then(|s| usize::from_str_radix(s, 16).ok());
        let size = size.ok_or("a chunk's size")?;
        // RFC 9112, 7.1.1: white space may stand before an extension.
        let extension = line[digits..].trim_ascii_start().starts_with(b";");
        if digits != line.len() && !extension || line.contains(&b'\n') || line.contains(&b'\r') {
            return Err("a chunk's size line");
        }
        at += end + 2;
        if size == 0 {
            let start = at;
            loop {
                let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
                if end == 0 {
                    return Ok(Some((body, bytes[start..at].to_vec(), at + 2)));
                }
                field(&bytes[at..at + end])?;
                at += end + 2;
            }
        }
        let Some(data) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !data.ends_with(b"\r\n") {
            return Err("a chunk's end");
        }
        body.extend_from_slice(&data[..size]);
        at += size + 2;
    }
}
