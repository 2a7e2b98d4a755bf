//! The PROXY protocol in and out (proxy-protocol.txt 2.1 and 2.2).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use optgate::config::Listen;

use crate::support::client::{Client, TlsClient};
use crate::support::origin::Origin;
use crate::support::pki::Authority;
use crate::support::proxy::{Builder, Proxy, proxy};

const GET: &str = "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n";
/// The same in version 2, with a TLV behind the addresses.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xcb\0\x71\x07\xc0\0\x02\x01\x12\x67\0\x50\x04\0\x02\r\n";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Optgate behind a balancer on 127.0.0.1 that introduces its clients.
fn behind_balancer(origin: &Origin, more: &str) -> Proxy {
    introduced(proxy().to(origin).toml(more))
}

fn introduced(builder: Builder) -> Proxy {
    builder
        .toml("trusted_proxies = [\"127.0.0.1\"]\n")
        .replacing(
            "listen = [\"127.0.0.1:0\"]",
            "listen = { address = \"127.0.0.1:0\", proxy_protocol = true }",
        )
        .run()
}

fn refused(proxy: &Proxy, reason: &str, times: u64) {
    proxy.wait_for_line(&format!("optgate_proxy_headers_refused_total{{reason=\"{reason}\"}} {times}"));
}

/// Both versions at every cut: the origin is told the client whom the balancer named.
#[test]
fn the_client_is_whom_a_trusted_peer_names_at_every_cut() {
    let origin = Origin::start();
    let proxy = behind_balancer(&origin, "");
    let mut requests = 0;
    for header in [V1, V2] {
        let whole = [header, GET.as_bytes()].concat();
        for cut in 1..=header.len() + 1 {
            let mut client = proxy.client();
            client.send(&whole[..cut]);
            client.send(&whole[cut..]);
            assert_eq!(client.response("GET").text(), "hello", "cut at {cut} of {header:?}");
            requests += 1;
        }
    }
    for seen in origin.seen(requests) {
        assert_eq!(seen.one("x-forwarded-for").as_deref(), Some("203.0.113.7"));
        assert_eq!(seen.one("x-real-ip").as_deref(), Some("203.0.113.7"));
    }
}

/// The named client is a stranger: its own forwarding fields are not believed.
#[test]
fn the_named_clients_own_claims_are_not_believed() {
    let origin = Origin::start();
    let proxy = behind_balancer(&origin, "");
    let mut client = proxy.client();
    client.send(V1);
    assert_eq!(client.get("/", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n").status(), 200);
    let seen = origin.first();
    assert_eq!(seen.one("x-forwarded-for").as_deref(), Some("203.0.113.7"));
    assert_eq!(seen.one("x-forwarded-proto").as_deref(), Some("http"));
}

/// LOCAL is the balancer's own: its health check.
#[test]
fn a_balancers_own_connection_is_its_own() {
    let origin = Origin::start();
    let proxy = behind_balancer(&origin, "");
    let mut client = proxy.client();
    client.send(LOCAL);
    assert_eq!(client.get("/", "").status(), 200);
    assert_eq!(origin.first().one("x-forwarded-for").as_deref(), Some("127.0.0.1"));
}

/// From anybody else the header counts for nothing and the connection is closed without a word.
#[test]
fn a_stranger_that_introduces_a_client_is_refused_and_counted() {
    let origin = Origin::start();
    let proxy = behind_balancer(&origin, "");
    for number in 1..=3 {
        let mut stranger = Client::connect_from("127.0.0.2", proxy.addr());
        stranger.try_send(V1);
        stranger.try_send(GET);
        assert_eq!(stranger.rest(), b"");
        refused(&proxy, "untrusted", number);
    }
    assert_eq!(origin.connections(), 0);
}

/// A trusted peer without a header would make its visitors look like itself.
#[test]
fn a_trusted_peer_must_introduce() {
    let origin = Origin::start();
    let proxy = behind_balancer(&origin, "[timeouts]\nproxy_header = \"200ms\"\n");
    let mut client = proxy.client();
    client.try_send(GET);
    assert_eq!(client.rest(), b"");
    refused(&proxy, "malformed", 1);
    let mut slow = proxy.client();
    slow.send(&V1[..20]);
    assert_eq!(slow.rest(), b"");
    refused(&proxy, "timeout", 1);
    let mut leaves = proxy.client();
    leaves.send(&V2[..20]).finish();
    assert_eq!(leaves.rest(), b"");
    refused(&proxy, "closed", 1);
    assert_eq!(origin.connections(), 0);
}

/// The header comes before TLS.
#[test]
fn the_header_comes_before_tls() {
    let origin = Origin::start();
    let authority = Authority::new();
    let builder = proxy().to(&origin);
    let certificate = authority.leaf("site.test").toml(builder.dir(), "site");
    let proxy = builder
        .toml("trusted_proxies = [\"127.0.0.1\"]\n")
        .toml(&format!(
            "[tls]\nlisten = {{ address = \"127.0.0.1:0\", proxy_protocol = true }}\n{certificate}"
        ))
        .run();
    for header in [V1, V2] {
        let mut client =
            TlsClient::connect_tls_after(header, proxy.tls(), "site.test", authority.client(&["http/1.1"]));
        assert_eq!(client.get("/", "").text(), "hello");
    }
    for seen in origin.seen(2) {
        assert_eq!(seen.one("x-forwarded-for").as_deref(), Some("203.0.113.7"));
        assert_eq!(seen.one("x-forwarded-proto").as_deref(), Some("https"));
    }
}

/// Toward the origin: every connection begins with its client's address and is never another client's.
#[test]
fn an_origin_is_told_the_client_and_connections_are_not_shared() {
    for version in ["v1", "v2"] {
        let headers = Arc::new(Mutex::new(Vec::new()));
        let origin = Origin::start_introduced(Arc::clone(&headers));
        let site = format!(
            "trusted_proxies = [\"127.0.0.1\"]\n[[sites]]\nupstream = {{ url = {:?}, proxy_protocol = {version:?} }}\n",
            origin.url()
        );
        let proxy = proxy().toml(&site).run();
        for _ in 0..2 {
            for client in ["203.0.113.7", "203.0.113.8", "2001:db8::7"] {
                let answer = proxy.get("/", &format!("X-Forwarded-For: {client}\r\n"));
                assert_eq!(answer.text(), "hello", "{version} {client}");
            }
        }
        assert_eq!(origin.connections(), 3, "{version}: one for each client, kept for it");
        let port = origin.url().rsplit(':').next().unwrap().to_owned();
        let headers = headers.lock().unwrap();
        if version == "v1" {
            let lines: Vec<_> =
                headers.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
            assert_eq!(lines[0], format!("PROXY TCP4 203.0.113.7 127.0.0.1 0 {port}\r\n"));
            assert_eq!(lines[2], format!("PROXY TCP6 2001:db8::7 :: 0 {port}\r\n"));
        } else {
            assert!(headers.iter().all(|header| header.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21")));
            assert_eq!(headers[1][13..20], [0x11, 0, 12, 203, 0, 113, 8]);
            assert_eq!((headers[2][13], headers[2].len()), (0x21, 16 + 36));
        }
    }
}

/// One address may have two listeners' worth of trust: a port without the protocol stays as it was.
#[test]
fn a_listener_without_the_protocol_takes_no_header() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).toml("trusted_proxies = [\"127.0.0.1\"]\n").run();
    let mut client = proxy.client();
    client.send(V1);
    client.try_send(GET);
    assert_eq!(client.response("GET").status(), 400);
    let plain: Listen = "127.0.0.1:0".parse::<SocketAddr>().unwrap().into();
    assert!(!plain.proxy_protocol);
}
