//! CPU time of TLS: Optgate and nginx before the same origin, with the same certificate, suite and group.
//!
//! Rounds take turns, and in each everything is asked of everybody; what is printed are medians over the rounds, in
//! microseconds of the proxy's own processes, with the least and the most, and the median of the rounds' ratios: what
//! else the machine does moves both sides of a round. `OPTGATE_ROUNDS=15 cargo bench --bench tls` takes more of them;
//! `-- --program PATH` measures another build of Optgate; `-- --only WORD` only what has the word in its name.

#![allow(clippy::unwrap_used)] // a bench that cannot run should say so and stop

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::{ClientConfig, HandshakeKind};

#[expect(dead_code, reason = "other benches use the rest")]
mod beside;

use beside::{NAME, Proxy, Stage, read_answer};

/// Streams at a time of the HTTP/2 scenario.
const STREAMS: usize = 16;

/// Something that is asked for again and again.
struct Scenario {
    name: &'static str,
    /// How often in a round.
    times: usize,
    /// nginx can do it too.
    both: bool,
    ask: fn(&Stage, &Proxy, usize),
}

const SCENARIOS: [Scenario; 7] = [
    Scenario {
        name: "full handshake, 1 request",
        times: 400,
        both: true,
        ask: |stage, proxy, times| full_handshakes(stage, proxy, kx_group::X25519, times),
    },
    // What browsers offer today, and OpenSSL from 3.5 on: a key agreement that is to outlast quantum computers.
    Scenario {
        name: "full, X25519MLKEM768",
        times: 400,
        both: false,
        ask: |stage, proxy, times| full_handshakes(stage, proxy, kx_group::X25519MLKEM768, times),
    },
    Scenario {
        name: "resumed, 1 request",
        times: 400,
        both: true,
        ask: |stage, proxy, times| {
            let config = Arc::new(stage.client("http/1.1"));
            // For the tickets.
            let mut first = Connection::open(proxy, &config);
            first.ask("/", &mut room());
            drop(first);
            handshakes(proxy, &config, times, HandshakeKind::Resumed);
        },
    },
    Scenario {
        name: "1 KiB, one HTTP/1.1 connection",
        times: 5_000,
        both: true,
        ask: |stage, proxy, times| {
            let mut connection = Connection::open(proxy, &Arc::new(stage.client("http/1.1")));
            let mut room = room();
            (0..times).for_each(|_| connection.ask("/", &mut room));
        },
    },
    Scenario {
        name: "1 KiB, HTTP/2, 16 streams",
        times: 10_000,
        both: true,
        ask: |stage, proxy, times| http2(proxy, stage.client("h2"), "/", STREAMS, times),
    },
    Scenario {
        name: "1 MiB, HTTP/1.1",
        times: 100,
        both: true,
        ask: |stage, proxy, times| {
            let mut connection = Connection::open(proxy, &Arc::new(stage.client("http/1.1")));
            let mut room = vec![0; 2 << 20];
            (0..times).for_each(|_| connection.ask("/large", &mut room));
        },
    },
    Scenario {
        name: "1 MiB, HTTP/2, one at a time",
        times: 100,
        both: true,
        ask: |stage, proxy, times| http2(proxy, stage.client("h2"), "/large", 1, times),
    },
];

fn room() -> Vec<u8> {
    vec![0; 8192]
}

/// An HTTP/1.1 connection with TLS.
struct Connection(rustls::StreamOwned<rustls::ClientConnection, TcpStream>);

impl Connection {
    fn open(proxy: &Proxy, config: &Arc<ClientConfig>) -> Self {
        let tcp = TcpStream::connect(proxy.tls).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let tls = rustls::ClientConnection::new(Arc::clone(config), NAME.try_into().unwrap()).unwrap();
        Self(rustls::StreamOwned::new(tls, tcp))
    }

    fn ask(&mut self, path: &str, room: &mut [u8]) {
        // In one record, as a browser sends it.
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\n\r\n").as_bytes()).unwrap();
        read_answer(&mut self.0, room);
    }
}

/// So many connections, one after the other, each with one request.
fn handshakes(proxy: &Proxy, config: &Arc<ClientConfig>, times: usize, kind: HandshakeKind) {
    let mut room = room();
    for _ in 0..times {
        let mut connection = Connection::open(proxy, config);
        connection.ask("/", &mut room);
        assert_eq!(connection.0.conn.handshake_kind(), Some(kind));
    }
}

/// The same, with nothing remembered from one to the next.
fn full_handshakes(stage: &Stage, proxy: &Proxy, group: &'static dyn SupportedKxGroup, times: usize) {
    let mut config = stage.client_offering("http/1.1", group);
    config.resumption = rustls::client::Resumption::disabled();
    handshakes(proxy, &Arc::new(config), times, HandshakeKind::Full);
}

/// So many requests on one HTTP/2 connection, so many of them at a time.
fn http2(proxy: &Proxy, config: ClientConfig, path: &str, streams: usize, times: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(proxy.tls).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tls = connector.connect(NAME.try_into().unwrap(), tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()), "{}", proxy.name);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .handshake(TokioIo::new(tls))
            .await
            .unwrap();
        tokio::spawn(connection);
        let stream = |mut sender: http2::SendRequest<Empty<bytes::Bytes>>| async move {
            for _ in 0..times / streams {
                let request = Request::get(format!("https://{NAME}{path}")).body(Empty::new()).unwrap();
                let response = sender.send_request(request).await.unwrap();
                assert_eq!(response.status(), 200);
                let mut body = response.into_body();
                while let Some(frame) = body.frame().await {
                    frame.unwrap();
                }
            }
        };
        futures_util::future::join_all((0..streams).map(|_| stream(sender.clone()))).await;
    });
}

/// Microseconds of the proxy for one.
fn each(scenario: &Scenario, stage: &Stage, proxy: &Proxy) -> f64 {
    let before = proxy.cpu();
    (scenario.ask)(stage, proxy, scenario.times);
    // What is left to do once the last byte is here: ends of connections.
    thread::sleep(Duration::from_millis(20));
    (proxy.cpu() - before).as_secs_f64() * 1e6 / scenario.times as f64
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn shown(figures: &mut [f64]) -> String {
    let middle = median(figures);
    format!("{middle:7.1} ({:.1} to {:.1})", figures[0], figures[figures.len() - 1])
}

fn main() {
    let rounds: usize = std::env::var("OPTGATE_ROUNDS").map_or(7, |text| text.parse().unwrap());
    let stage = Stage::new();
    let ours = stage.optgate();
    let Some(nginx) = stage.nginx() else { return };
    let only = std::env::args().skip_while(|word| word != "--only").nth(1).unwrap_or_default();
    let wanted: Vec<&Scenario> = SCENARIOS.iter().filter(|scenario| scenario.name.contains(&only)).collect();
    let mut found = vec![(Vec::new(), Vec::new()); wanted.len()];
    // The first round warms up.
    for round in 0..=rounds {
        for (scenario, (our, their)) in wanted.iter().zip(&mut found) {
            let look = |proxy: &Proxy, into: &mut Vec<f64>| {
                let figure = each(scenario, &stage, proxy);
                if round > 0 {
                    into.push(figure);
                }
            };
            if round % 2 == 0 {
                look(&ours, our);
            }
            if scenario.both {
                look(&nginx, their);
            }
            if round % 2 == 1 {
                look(&ours, our);
            }
        }
    }
    println!("CPU microseconds for one, medians of {rounds} rounds (least to most)");
    for (scenario, (our, their)) in wanted.iter().zip(&mut found) {
        // Before they are sorted.
        let mut ratios: Vec<f64> = our.iter().zip(their.iter()).map(|(our, their)| our / their).collect();
        print!("{:31} optgate {:26}", scenario.name, shown(our));
        if scenario.both {
            print!(" nginx {:26} ratio {:.2}", shown(their), median(&mut ratios));
        }
        println!();
    }
}
