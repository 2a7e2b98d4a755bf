//! What breaks around the running program, and that nothing worse comes of it than what is promised:
//! no crash, no hang beyond its timeout, no wrong byte; and afterwards connections, descriptors and memory are what
//! they were. Out of descriptors: `client_limits`; out of memory: `client_limits` and `failing_closed`; a full disk:
//! `store`.

mod ciphered;
mod clock;
mod names;
mod network;
mod origins;
mod relays;
mod visitors;

use std::net::SocketAddr;

use super::support::binary::Binary;
use super::support::client::{Client, get, metrics};
use super::support::proxy::Builder;
use super::support::wait_until;

/// Timeouts that a test can wait for, and a healthy peer on a busy machine keeps.
const SHORT: &str = "[timeouts]\nfirst_byte = \"4s\"\nbetween_bytes = \"4s\"\nheader_read = \"2s\"\nidle = \"2s\"\n\
    upstream_connect = \"2s\"\nupstream_idle = \"1s\"\n";

/// What memory may have grown by afterwards, KiB.
const GROWTH: u64 = 64 * 1024;

/// A page that an opted-out visitor gets without its tracker, and what must not be in it then.
const PAGE: &str = "<!doctype html><html><head><title>t</title></head><body><p>before</p>\
    <script src=\"https://connect.facebook.net/en_US/fbevents.js\"></script><p>after</p></body></html>";
const TRACKER: &str = "connect.facebook.net";

/// The program under test, and what it held before anything broke.
struct Bench {
    binary: Binary,
    admin: SocketAddr,
    descriptors: usize,
    memory: u64,
}

impl Bench {
    /// Starts it; the site's `/` answers `hello` while all is well.
    fn start(builder: Builder) -> Self {
        let (binary, admin) = Binary::observed(builder);
        let mut bench = Self { binary, admin, descriptors: 0, memory: 0 };
        bench.is_well();
        bench.is_idle();
        bench.descriptors = bench.binary.descriptors();
        bench.memory = bench.binary.memory("RssAnon");
        bench
    }

    fn addr(&self) -> SocketAddr {
        self.binary.addr()
    }

    fn is_well(&self) {
        let answer = get(self.addr(), "/", "");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    }

    /// Waits until no connection is open on either side.
    fn is_idle(&self) {
        wait_until("no connection is open", || {
            let metrics = metrics(self.admin);
            sum(&metrics, "optgate_connections") + sum(&metrics, "optgate_upstream_connections") == 0
        });
    }

    /// All is as before: it serves, and holds no more than it did.
    fn is_as_before(&self) {
        self.is_well();
        self.is_idle();
        wait_until("descriptors are back", || self.binary.descriptors() <= self.descriptors);
        wait_until("memory is back", || self.binary.memory("RssAnon") < self.memory + GROWTH);
    }
}

/// All series of one figure together.
fn sum(metrics: &str, name: &str) -> u64 {
    let of = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let value =
            rest.strip_prefix(' ').or_else(|| rest.strip_prefix('{')?.split_once("} ").map(|(_, v)| v))?;
        value.parse::<u64>().ok()
    };
    metrics.lines().filter_map(of).sum()
}

/// A request's head for a target.
fn head(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n")
}

/// The status of an answer, what came of its body, and whether it was whole; `None` without an answer.
fn read(client: &mut Client) -> Option<(u16, Vec<u8>, bool)> {
    let bytes = client.rest();
    let heard = super::conformance::wire::parse(&bytes, &["GET"], true);
    assert!(heard.answers.len() < 2, "one answer: {heard:?}");
    let answer = heard.answers.into_iter().next()?;
    Some((answer.status, answer.body, answer.whole))
}
