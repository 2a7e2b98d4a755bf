//! A TCP relay that behaves like a bad line: it delays, cuts into odd pieces, breaks off, or swallows everything.
//! (The kernel's own means for this are not everywhere.)

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::random::Random;

/// How the line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Every byte passes.
    Good,
    /// Odd pieces, each up to so many milliseconds late.
    Slow(u64),
    /// As slow, and one piece in so many resets its connection instead.
    Bad(u64, usize),
    /// A partition: connections are taken, and nothing passes. Those that lived to see it stay dead when the line is
    /// good again.
    Silent,
}

struct Shared {
    to: Mutex<SocketAddr>,
    line: Mutex<Line>,
    seed: AtomicU64,
    broken: AtomicUsize,
}

/// The running relay; its threads end with the test process.
pub struct Relay {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Relay {
    /// A relay to an address, good at first; the seed makes its pieces and breaks.
    pub fn start(to: SocketAddr, seed: u64) -> Self {
        Self::start_at("127.0.0.1:0", to, seed)
    }

    /// The same, listening at an address.
    pub fn start_at(listen: &str, to: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind(listen).unwrap();
        let addr = listener.local_addr().unwrap();
        let (line, broken) = (Mutex::new(Line::Good), AtomicUsize::new(0));
        let shared = Arc::new(Shared { to: Mutex::new(to), line, seed: AtomicU64::new(seed | 1), broken });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                thread::spawn(move || join(&shared, stream));
            }
        });
        Self { addr, shared }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes the line, for connections that are open, too.
    pub fn set(&self, line: Line) {
        *self.shared.line.lock().unwrap() = line;
    }

    /// New connections go elsewhere.
    pub fn turn_to(&self, to: SocketAddr) {
        *self.shared.to.lock().unwrap() = to;
    }

    /// Connections it has reset.
    pub fn broken(&self) -> usize {
        self.shared.broken.load(Ordering::SeqCst)
    }
}

fn join(shared: &Arc<Shared>, near: TcpStream) {
    let Ok(far) = TcpStream::connect(*shared.to.lock().unwrap()) else { return };
    let pairs = [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))];
    for (from, to) in pairs {
        let (Ok(from), Ok(to)) = (from, to) else { return };
        let _ = to.set_nodelay(true);
        let shared = Arc::clone(shared);
        thread::spawn(move || pass(&shared, from, to));
    }
}

fn pass(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut random = Random(shared.seed.fetch_add(0x9E37_79B9, Ordering::Relaxed) | 1);
    let mut buffer = [0; 16 * 1024];
    // So that a change of the line is seen while nothing comes.
    let _ = from.set_read_timeout(Some(Duration::from_millis(50)));
    let mut dead = false;
    loop {
        let line = *shared.line.lock().unwrap();
        dead |= line == Line::Silent;
        let most = if line == Line::Good { buffer.len() } else { 1 + random.below(3_000) };
        let read = match from.read(&mut buffer[..most]) {
            Ok(read) => read,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => return reset(&from, &to),
        };
        // It may have happened while this read waited.
        dead |= *shared.line.lock().unwrap() == Line::Silent;
        if dead && read > 0 {
            continue;
        }
        if dead {
            return reset(&from, &to);
        }
        if read == 0 {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
        match line {
            Line::Slow(late) | Line::Bad(late, _) => {
                thread::sleep(Duration::from_millis(random.draw() % (late + 1)))
            }
            _ => {}
        }
        if matches!(line, Line::Bad(_, often) if random.below(often) == 0) {
            shared.broken.fetch_add(1, Ordering::SeqCst);
            return reset(&from, &to);
        }
        if to.write_all(&buffer[..read]).is_err() {
            return reset(&from, &to);
        }
    }
}

fn reset(from: &TcpStream, to: &TcpStream) {
    for stream in [from, to] {
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        let _ = stream.shutdown(Shutdown::Both);
    }
}
