//! Every other host of the world, on loopback: a proxy server that a tab sends everything through. Site
//! hosts go on to Optgate; for all others it keeps a log and answers with something small and harmless.
//!
//! A tab's traffic passes its own sink, so that each entry belongs to one tab. `CONNECT host:443` names
//! the host of a connection; where a browser comes by name look-up instead, its first TLS message does.
//! What a sink cannot see: a `dns-prefetch` (no connection follows), a preconnect to a cleartext origin
//! (a connection names nobody), and UDP (STUN, QUIC).

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use rustls::ServerConfig;
use url::Url;

use super::super::origin::Wire;
use super::super::pki::Authority;
use super::answers::answer;

/// Something that reached the sink.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where it went: scheme, host, path and query. For a bare connection the path is `/`.
    pub url: Url,
    /// Method, or `CONNECT` for a connection.
    pub method: String,
    /// Requests that the connection carried; 1 for a request.
    pub requests: usize,
}

/// What one sink shares with its threads.
#[derive(Default)]
struct Log {
    entries: Mutex<Entries>,
    changed: Condvar,
    site: Mutex<Option<Site>>,
    stop: AtomicBool,
    /// Every connection, to be ended.
    streams: Mutex<Vec<TcpStream>>,
}

/// All that reached a sink, so that an entry's place is its own for good.
#[derive(Default)]
struct Entries {
    all: Vec<Entry>,
    /// Those before it are forgotten.
    from: usize,
}

/// The site behind Optgate.
#[derive(Debug, Clone)]
struct Site {
    hosts: Vec<String>,
    addr: SocketAddr,
    /// Fields added to every request to it, each ended by CR LF.
    fields: String,
}

/// A listening sink; stops when dropped.
pub struct Sink {
    addr: SocketAddr,
    log: Arc<Log>,
}

impl Sink {
    /// Starts one.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, log) = (listener.local_addr().unwrap(), Arc::new(Log::default()));
        let accepting = Arc::clone(&log);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.stop.load(Ordering::SeqCst) {
                    return;
                }
                let log = Arc::clone(&accepting);
                log.streams.lock().unwrap().extend(stream.try_clone());
                // A browser opens connections that it never uses; their errors are nobody's.
                thread::spawn(move || serve(&log, stream).ok());
            }
        });
        Self { addr, log }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends requests for these hosts to `addr`, each with `fields` added.
    pub fn route(&self, hosts: &[&str], addr: SocketAddr, fields: &str) {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        *self.log.site.lock().unwrap() = Some(Site { hosts, addr, fields: fields.to_owned() });
    }

    /// Forgets what reached it, and ends every connection.
    pub fn clear(&self) {
        self.log.hang_up();
        let mut entries = self.log.entries.lock().unwrap();
        entries.from = entries.all.len();
    }

    /// What reached it so far.
    pub fn entries(&self) -> Vec<Entry> {
        let entries = self.log.entries.lock().unwrap();
        entries.all[entries.from..].to_vec()
    }

    /// Waits until an entry is as wanted; `false` when that takes too long.
    pub fn wait(&self, limit: Duration, wanted: impl Fn(&Entry) -> bool) -> bool {
        let entries = self.log.entries.lock().unwrap();
        let none = |entries: &mut Entries| !entries.all[entries.from..].iter().any(&wanted);
        !self.log.changed.wait_timeout_while(entries, limit, none).unwrap().1.timed_out()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.log.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; when that fails there is none.
        let _ = TcpStream::connect(self.addr);
        self.log.hang_up();
    }
}

impl Log {
    fn hang_up(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            // Most have ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Gives the entry's place.
    fn push(&self, method: &str, url: Url) -> usize {
        let all = &mut self.entries.lock().unwrap().all;
        all.push(Entry { url, method: method.to_owned(), requests: usize::from(method != "CONNECT") });
        self.changed.notify_all();
        all.len() - 1
    }

    fn site(&self, host: &str) -> Option<Site> {
        let site = self.site.lock().unwrap().clone()?;
        site.hosts.iter().any(|own| own == host).then_some(site)
    }
}

/// A request's head.
pub struct Head {
    /// Method.
    pub method: String,
    /// Absolute target.
    pub url: Url,
    /// Fields in order.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// A field's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        value(&self.fields, name)
    }
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn serve(log: &Log, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first)? == 1 && first[0] == HANDSHAKE {
        return serve_tls(log, stream);
    }
    requests(log, BufReader::new(Box::new(stream)), None)
}

/// First byte of TLS (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// A browser that came here by name look-up: the name stands in its first message.
fn serve_tls(log: &Log, mut stream: TcpStream) -> io::Result<()> {
    let mut acceptor = rustls::server::Acceptor::default();
    let accepted = loop {
        acceptor.read_tls(&mut stream)?;
        if let Some(accepted) = acceptor.accept().map_err(|(error, _)| io::Error::other(error))? {
            break accepted;
        }
    };
    let name = accepted.client_hello().server_name().unwrap_or("unnamed.test").to_owned();
    let origin = Url::parse(&format!("https://{name}/")).map_err(io::Error::other)?;
    let entry = log.push("CONNECT", origin.clone());
    let tls = accepted.into_connection(Arc::clone(&TLS)).map_err(|(error, _)| io::Error::other(error))?;
    let wire = Box::new(rustls::StreamOwned::new(tls, stream));
    requests(log, BufReader::new(wire), Some((origin, Some(entry))))
}

/// The origin that a `CONNECT` named, and the place of its entry.
type Tunnel = (Url, Option<usize>);

/// Serves requests until the connection ends.
fn requests(log: &Log, mut wire: BufReader<Box<dyn Wire>>, tunnel: Option<Tunnel>) -> io::Result<()> {
    while let Some((method, target, fields)) = read_head(&mut wire)? {
        if method == "CONNECT" {
            return connect(log, wire, &target);
        }
        let url = match &tunnel {
            Some((origin, _)) => origin.join(&target),
            // Not as to a proxy: the name was looked up.
            None if target.starts_with('/') => {
                Url::parse(&format!("http://{}{target}", value(&fields, "host").unwrap_or_default()))
            }
            None => Url::parse(&target),
        };
        let head = Head { method, url: url.map_err(io::Error::other)?, fields };
        let body = read_body(&mut wire, &head)?;
        if let Some(site) = log.site(head.url.host_str().unwrap_or_default()) {
            return forward(wire.get_mut(), &site, &head, &body);
        }
        log.push(&head.method, head.url.clone());
        if let Some((_, Some(place))) = tunnel {
            // One more on the connection.
            log.entries.lock().unwrap().all[place].requests += 1;
        }
        wire.get_mut().write_all(&answer(&head))?;
        wire.get_mut().flush()?;
    }
    Ok(())
}

/// Opens a tunnel and serves what comes through it, TLS or not.
fn connect(log: &Log, mut wire: BufReader<Box<dyn Wire>>, authority: &str) -> io::Result<()> {
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
    let scheme = if port == "80" { "http" } else { "https" };
    let origin = Url::parse(&format!("{scheme}://{authority}/")).map_err(io::Error::other)?;
    let entry = log.site(host).is_none().then(|| log.push("CONNECT", origin.clone()));
    wire.get_mut().write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    wire.get_mut().flush()?;
    let Some(first) = wire.fill_buf()?.first().copied() else { return Ok(()) };
    // What is buffered already belongs to the handshake.
    if first == HANDSHAKE {
        let tls = rustls::ServerConnection::new(Arc::clone(&TLS)).map_err(io::Error::other)?;
        let wire = Again { first: Cursor::new(wire.buffer().to_vec()), rest: wire.into_inner() };
        let wire = Box::new(rustls::StreamOwned::new(tls, wire));
        requests(log, BufReader::new(wire), Some((origin, entry)))
    } else {
        requests(log, wire, Some((origin, entry)))
    }
}

/// One certificate for every name: the browser is told not to look at it.
static TLS: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| Authority::new().leaf("sink.test").server());

/// A connection some of whose bytes were read already.
struct Again {
    first: Cursor<Vec<u8>>,
    rest: Box<dyn Wire>,
}

impl Read for Again {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.first.read(into)?;
        if n > 0 { Ok(n) } else { self.rest.read(into) }
    }
}

impl Write for Again {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.rest.flush()
    }
}

type RawHead = (String, String, Vec<(String, String)>);

/// Reads a head; `None` at the end of the connection.
fn read_head(wire: &mut impl BufRead) -> io::Result<Option<RawHead>> {
    let mut line = String::new();
    if wire.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut fields = Vec::new();
    loop {
        line.clear();
        wire.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(Some((method, target, fields)));
        };
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

fn read_body(wire: &mut impl Read, head: &Head) -> io::Result<Vec<u8>> {
    let length = head.get("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    wire.read_exact(&mut body)?;
    Ok(body)
}

/// Sends one request on to Optgate, and the answer back until its end.
fn forward(browser: &mut impl Write, site: &Site, head: &Head, body: &[u8]) -> io::Result<()> {
    let target = &head.url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut text = format!("{} {target} HTTP/1.1\r\n", head.method);
    let kept = head.fields.iter().filter(|(name, _)| {
        !name.eq_ignore_ascii_case("proxy-connection") && !name.eq_ignore_ascii_case("connection")
    });
    kept.for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    text.push_str(&format!("{}Connection: close\r\n\r\n", site.fields));
    let mut proxy = TcpStream::connect(site.addr)?;
    proxy.write_all(&[text.as_bytes(), body].concat())?;
    io::copy(&mut proxy, browser)?;
    browser.flush()
}
