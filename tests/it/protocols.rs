//! HTTP/2 and TLS on both sides, and origins on Unix sockets.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};

use super::support::DEADLINE;
use super::support::binary::{Binary, own_address, serving};
use super::support::client::{Client, TlsClient};
use super::support::frames::{HEADERS, PREFACE, SETTINGS, frame, hello_of, next_frame};
use super::support::h2::{Frames, H2, H2Origin};
use super::support::origin::Origin;
use super::support::pki::Authority;
use super::support::proxy::{Builder, Proxy, proxy};

/// RFC 9113, 3.3: cleartext HTTP/2 with prior knowledge, on the port that serves HTTP/1.1 too.
#[test]
fn http2_with_prior_knowledge_is_served_on_the_same_port() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    let mut h2 = H2::prior_knowledge(proxy.addr());
    for _ in 0..3 {
        let answer = h2.get("http://site.test/a?b");
        assert_eq!((answer.status, &answer.body[..]), (200, b"hello".as_slice()));
    }
    let request = Request::post("http://site.test/up").body(Frames::new(b"data", None)).unwrap();
    assert_eq!(h2.send(request).status, 200);
    assert_eq!(proxy.get("/", "").status(), 200);
    let seen = origin.seen(5);
    assert_eq!(seen[0].line(), "GET /a?b HTTP/1.1");
    assert_eq!(seen[0].one("host").as_deref(), Some("site.test"));
    assert_eq!(seen[3].body, b"data");
}

/// The signal counts over HTTP/2 as over HTTP/1.1.
#[test]
fn the_signal_counts_over_http2() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    let mut h2 = H2::prior_knowledge(proxy.addr());
    let request = Request::get("http://site.test/").header("sec-gpc", "1").body(Frames::new(b"", None));
    assert_eq!(h2.send(request.unwrap()).status, 200);
    let seen = origin.first();
    assert_eq!(seen.one("sec-gpc").as_deref(), Some("1"));
    assert_eq!(seen.one("optgate-decision").as_deref(), Some("opted-out;basis=gpc"));
}

/// RFC 9113, 8.2.3: cookie crumbs are joined before they go to an HTTP/1.1 origin.
#[test]
fn cookie_crumbs_arrive_as_one_field() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    let mut h2 = H2::prior_knowledge(proxy.addr());
    let request = Request::get("http://site.test/").header("cookie", "a=1").header("cookie", "b=2");
    assert_eq!(h2.send(request.body(Frames::new(b"", None)).unwrap()).status, 200);
    assert_eq!(origin.first().one("cookie").as_deref(), Some("a=1; b=2"));
}

/// RFC 9113, 8.2.2: fields of an HTTP/1.1 connection never appear in an HTTP/2 answer.
#[test]
fn connection_fields_do_not_reach_an_http2_client() {
    let origin = Origin::start().answers(
        "/",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nX-End: 2\r\n\
         Content-Length: 2\r\n\r\nok",
    );
    let proxy = proxy().to(&origin).run();
    let answer = H2::prior_knowledge(proxy.addr()).get("http://site.test/");
    assert_eq!(answer.body, Bytes::from_static(b"ok"));
    for name in ["connection", "keep-alive", "x-hop"] {
        assert_eq!(answer.headers.get(name), None, "{name}");
    }
    assert_eq!(answer.headers.get("x-end"), Some(&HeaderValue::from_static("2")));
}

/// A proxy with two certificates.
fn with_tls(builder: Builder, authority: &Authority) -> (Proxy, [Vec<u8>; 2]) {
    let mut ders = Vec::new();
    let mut toml = "[tls]\nlisten = [\"127.0.0.1:0\"]\n".to_owned();
    for name in ["one.test", "two.test"] {
        let leaf = authority.leaf_for(&[name, "site.test"]);
        toml += &leaf.toml(builder.dir(), name);
        ders.push(leaf.der);
    }
    (builder.toml(&toml).run(), ders.try_into().unwrap())
}

/// Certificates are chosen by the name the client asks for; an unknown name gets the first.
#[test]
fn a_certificate_is_chosen_by_name() {
    let authority = Authority::new();
    let origin = Origin::start();
    let (proxy, [one, two]) = with_tls(proxy().to(&origin), &authority);
    for (name, der) in [("one.test", &one), ("two.test", &two)] {
        let client = TlsClient::connect_tls(proxy.tls(), name, authority.client(&[]));
        assert_eq!(&client.certificate(), der, "{name}");
    }
}

/// RFC 7301: the protocol is agreed on by ALPN; without ALPN it is HTTP/1.1.
#[test]
fn the_protocol_is_agreed_on_by_alpn() {
    let authority = Authority::new();
    let origin = Origin::start();
    let (proxy, _) = with_tls(proxy().to(&origin), &authority);
    let offers: [(&[&str], Option<&str>); 3] =
        [(&["http/1.1"], Some("http/1.1")), (&["x", "http/1.1"], Some("http/1.1")), (&[], None)];
    for (offered, agreed) in offers {
        let mut client = TlsClient::connect_tls(proxy.tls(), "one.test", authority.client(offered));
        assert_eq!(client.alpn().as_deref(), agreed);
        assert_eq!(client.get("/", "").text(), "hello");
    }
    let mut h2 = H2::tls(proxy.tls(), "two.test", authority.client(&["h2", "http/1.1"]));
    assert_eq!(h2.get("https://two.test/").body, Bytes::from_static(b"hello"));
    for seen in origin.seen(4) {
        assert_eq!(seen.one("x-forwarded-proto").as_deref(), Some("https"));
    }
}

fn https_site(origin: &Origin, roots: Option<&std::path::Path>, host: &str) -> String {
    let roots = roots.map(|path| format!(", roots = {path:?}")).unwrap_or_default();
    let host = if host.is_empty() { String::new() } else { format!(", host = {host:?}") };
    format!(
        "[[sites]]\nname = \"site\"\nhosts = [\"site.test\"]\nupstream = {{ url = {:?}{roots}{host} }}\n",
        origin.url()
    )
}

/// An HTTPS origin is verified against the roots it is to be verified against.
#[test]
fn an_https_origin_is_verified() {
    let authority = Authority::new();
    let origin = Origin::start_tls(authority.leaf("127.0.0.1").server());
    let builder = proxy();
    let roots = authority.write(builder.dir());
    let proxy = builder.toml(&https_site(&origin, Some(&roots), "")).run();
    assert_eq!(proxy.get("/", "").text(), "hello");
    assert_eq!(proxy.get("/", "").text(), "hello");
    assert_eq!(origin.connections(), 1, "TLS connections are kept too");
}

/// An HTTPS origin that cannot be verified gets no request, and the answer is 502.
#[test]
fn an_https_origin_that_cannot_be_verified_gets_no_request() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let cases = [
        ("unknown authority", Origin::start_tls(stranger.leaf("127.0.0.1").server()), true),
        ("wrong name", Origin::start_tls(authority.leaf("other.test").server()), true),
        ("not in the system's roots", Origin::start_tls(authority.leaf("127.0.0.1").server()), false),
    ];
    for (case, origin, own_roots) in cases {
        let builder = proxy();
        let roots = authority.write(builder.dir());
        let proxy = builder.toml(&https_site(&origin, own_roots.then_some(roots.as_path()), "")).run();
        let answer = proxy.get("/", "Cookie: session=secret\r\n");
        assert_eq!(answer.status(), 502, "{case}");
        assert!(!answer.text().to_lowercase().contains("certificate"), "{case}: {}", answer.text());
        assert_eq!(origin.heads(), 0, "{case}");
    }
}

/// An operator reads in the log what is wrong with an origin's TLS, and what to do, in words of the settings.
#[test]
fn the_log_says_why_tls_with_an_origin_failed_and_what_to_do() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let past = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    // As servers in clear answer to what is no request.
    let clear = TcpListener::bind("127.0.0.1:0").unwrap();
    let pretends_tls = format!("https://{}", clear.local_addr().unwrap());
    thread::spawn(move || {
        for stream in clear.incoming().flatten() {
            let _ = io::Write::write_all(&mut &stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let tls = |leaf: super::support::pki::Leaf| Origin::start_tls(leaf.server());
    let origins = [
        (tls(stranger.leaf("127.0.0.1")), "signed by nobody who is trusted here: name the roots"),
        (
            tls(authority.leaf("other.test")),
            "its certificate is not for 127.0.0.1: connect by a name that it holds",
        ),
        (tls(authority.leaf_with(&["127.0.0.1"], past)), "its certificate has expired"),
    ];
    let asked = origins.iter().map(|(origin, words)| (origin.url(), *words));
    for (url, words) in asked.chain([(pretends_tls.as_str(), "what it sent is not TLS")]) {
        let builder = proxy();
        let roots = authority.write(builder.dir());
        let site = format!(
            "[[sites]]\nname = \"site\"\nhosts = [\"site.test\"]\nupstream = {{ url = {url:?}, roots = {roots:?} }}\n"
        );
        let builder = builder.toml(&site);
        let addr = own_address();
        let binary = Binary::spawn(serving(&builder.write(), addr), addr, builder.into_dir());
        binary.wait_for_line("listening on");
        assert_eq!(Client::connect(addr).get("/", "").status(), 502);
        let said = binary.wait_for_line("TLS with the origin failed");
        assert!(said.contains(words), "{said}");
    }
}

/// gRPC's shape: HTTP/2 on both sides, `TE: trailers`, trailers in both directions.
#[test]
fn grpc_with_trailers_passes_to_an_http2_origin() {
    let origin = H2Origin::start();
    let proxy = proxy().upstream(&format!("h2c://{}", origin.addr())).run();
    let mut h2 = H2::prior_knowledge(proxy.addr());
    let mut trailers = HeaderMap::new();
    trailers.insert("x-check", HeaderValue::from_static("7"));
    let request = Request::post("http://site.test/shop.Orders/List")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("sec-gpc", "1")
        .body(Frames::new(b"\0\0\0\0\x02hi", Some(trailers.clone())))
        .unwrap();
    let answer = h2.send(request);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, Bytes::from_static(b"\0\0\0\0\x02ok"));
    assert_eq!(answer.headers.get("content-type"), Some(&HeaderValue::from_static("application/grpc")));
    let status = answer.trailers.unwrap();
    assert_eq!(status.get("grpc-status"), Some(&HeaderValue::from_static("0")));
    let seen = origin.next();
    assert_eq!(seen.body, Bytes::from_static(b"\0\0\0\0\x02hi"));
    assert_eq!(seen.trailers, Some(trailers));
    assert_eq!(seen.headers.get("te"), Some(&HeaderValue::from_static("trailers")));
    assert_eq!(seen.headers.get("sec-gpc"), Some(&HeaderValue::from_static("1")));
}

/// An HTTP/1.1 visitor reaches an HTTP/2 origin.
#[test]
fn an_http1_visitor_reaches_an_http2_origin() {
    let origin = H2Origin::start();
    let proxy = proxy().upstream(&format!("h2c://{}", origin.addr())).run();
    let mut client = proxy.client();
    client.send("POST /x HTTP/1.1\r\nHost: site.test\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.response("POST").body, b"\0\0\0\0\x02ok");
    let seen = origin.next();
    assert_eq!(seen.body, Bytes::from_static(b"body"));
    assert_eq!(seen.headers.get("x-hop"), None);
}

/// An origin behind a Unix socket.
#[test]
fn an_origin_on_a_unix_socket_is_reached() {
    let builder = proxy();
    let origin = Origin::start_unix(&builder.dir().join("origin.sock"));
    let proxy = builder.to(&origin).run();
    assert_eq!(proxy.get("/", "").text(), "hello");
    assert_eq!(origin.first().one("host").as_deref(), Some("site.test"));
}

/// A site may ask its origin under another name.
#[test]
fn an_origin_may_be_asked_under_its_own_name() {
    let origin = Origin::start();
    let proxy = proxy().toml(&https_site(&origin, None, "origin.test")).run();
    assert_eq!(proxy.get("/", "").status(), 200);
    let seen = origin.first();
    assert_eq!(seen.one("host").as_deref(), Some("origin.test"));
    assert_eq!(seen.one("x-forwarded-host").as_deref(), Some("site.test"));
}

/// SETTINGS that allow one stream at a time (RFC 9113, 6.5.2).
const ONE_STREAM: &[u8] = &[0, 3, 0, 0, 0, 1];

/// An HTTP/2 origin that waits for what comes before it says anything, and tells how many requests that were on each of
/// its connections. Without `settings` it says nothing for as long as the other side lasts.
fn slow_to_speak(settings: Option<&'static [u8]>) -> (SocketAddr, mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (early, seen) = mpsc::channel();
    thread::spawn(move || {
        for wire in listener.incoming().flatten() {
            let early = early.clone();
            // It ends with the other side, in an error.
            thread::spawn(move || drop(speak_late(&wire, settings, &early)));
        }
    });
    (addr, seen)
}

fn speak_late(
    mut wire: &TcpStream,
    settings: Option<&'static [u8]>,
    early: &mpsc::Sender<usize>,
) -> io::Result<()> {
    wire.read_exact(&mut [0; PREFACE.len()])?;
    let patience = if settings.is_some() { Duration::from_millis(200) } else { DEADLINE };
    wire.set_read_timeout(Some(patience))?;
    let mut asked = Vec::new();
    while let Ok((head, _)) = next_frame(wire) {
        if head[3] == HEADERS {
            asked.push(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        }
    }
    // The test may be over already.
    let _ = early.send(asked.len());
    let Some(settings) = settings else { return Ok(()) };
    wire.set_read_timeout(None)?;
    wire.write_all(&[frame(SETTINGS, 0, 0, settings), frame(SETTINGS, 1, 0, &[])].concat())?;
    for stream in asked {
        wire.write_all(&hello_of(stream))?;
    }
    loop {
        let (head, _) = next_frame(wire)?;
        if head[3] == HEADERS {
            wire.write_all(&hello_of(u32::from_be_bytes([head[5], head[6], head[7], head[8]])))?;
        }
    }
}

/// RFC 9113, 3.4 and 5.1.2: an origin says first how many streams it allows. Those that were begun before it has may be
/// too many, and it would refuse them.
#[test]
fn no_request_goes_to_an_http2_origin_that_has_not_said_how_many_it_allows() {
    let (origin, early) = slow_to_speak(Some(ONE_STREAM));
    let proxy = proxy().upstream(&format!("h2c://{origin}")).run();
    let answers = H2::prior_knowledge(proxy.addr()).get_at_once("http://site.test/", 4);
    assert!(answers.iter().all(|answer| answer.body == b"hello"[..]), "{answers:?}");
    let early: Vec<usize> = early.try_iter().collect();
    assert!(!early.is_empty() && early.iter().all(|requests| *requests == 0), "{early:?}");
}

/// Its silence is as long as connecting may take, and the request is still nobody's.
#[test]
fn an_http2_origin_that_accepts_and_says_nothing_is_given_up_in_time() {
    let (origin, early) = slow_to_speak(None);
    let (other, _) = slow_to_speak(Some(ONE_STREAM));
    let settings = |origins: &str| {
        format!("upstream = [{origins}]\n[timeouts]\nupstream_connect = \"2s\"\nfirst_byte = \"1h\"\n")
    };
    let silent = format!("\"h2c://{origin}\"");
    let alone = proxy().toml(&settings(&silent)).run();
    assert_eq!(alone.get("/", "").status(), 504);
    assert_eq!(early.recv_timeout(DEADLINE), Ok(0), "its connection is closed, and carried nothing");
    let both = proxy().toml(&settings(&format!("{silent}, \"h2c://{other}\""))).run();
    let mut client = both.client();
    client.send("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.response("POST").text(), "hello", "the other origin has it");
}
