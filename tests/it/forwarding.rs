//! What the origin is told about the visitor, and what a stranger cannot make it believe.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::support::origin::{Origin, Recorded};
use super::support::proxy::{Proxy, proxy};

const FORGED: &str = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n\
     X-Forwarded-Port: 1\r\nX-Real-IP: 203.0.113.9\r\nForwarded: for=203.0.113.9;proto=https;host=evil.test\r\n\
     X-Request-Id: chosen-by-me\r\n";

fn from_a_stranger(fields: &str) -> (Proxy, Recorded) {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    assert_eq!(proxy.get("/", fields).status(), 200);
    (proxy, origin.first())
}

/// Nothing a stranger says about an address, scheme or host is passed on, nor appended to.
#[test]
fn a_stranger_cannot_forge_where_a_request_comes_from() {
    let (_proxy, seen) = from_a_stranger(FORGED);
    assert_eq!(seen.one("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(seen.one("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(seen.one("x-forwarded-host").as_deref(), Some("site.test"));
    let text = seen.text().to_lowercase();
    for forged in ["203.0.113.9", "evil.test", "chosen-by-me"] {
        assert!(!text.contains(forged), "{forged} in {text}");
    }
}

/// RFC 7239, 4: `Forwarded` names the visitor, the scheme and the host.
#[test]
fn forwarded_names_visitor_scheme_and_host() {
    let (_proxy, seen) = from_a_stranger("");
    let forwarded = seen.one("forwarded").unwrap().to_lowercase();
    for pair in ["for=127.0.0.1", "proto=http", "host=site.test"] {
        assert!(
            forwarded.split([';', ',']).any(|p| p.trim().replace('"', "") == pair),
            "{pair} in {forwarded}"
        );
    }
}

/// RFC 9110, 7.6.3: a proxy names itself in `Via`, once.
#[test]
fn via_names_this_proxy_once() {
    let (_proxy, seen) = from_a_stranger(FORGED);
    let via = seen.one("via").unwrap();
    assert!(via.starts_with("1.1 ") && !via.contains(','), "{via}");
}

/// One request must not take every descriptor there is (RFC 9110, 7.6.3: `Via` tells).
#[test]
fn an_origin_that_leads_back_here_ends_after_a_few_rounds() {
    let back = Arc::new(OnceLock::<SocketAddr>::new());
    let (told, rounds) = (Arc::clone(&back), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&rounds);
    // The way back: what comes is sent to the proxy again as it came, as a name does that leads to it.
    let origin = Origin::start().on("/loop", move |x| {
        counted.fetch_add(1, Ordering::SeqCst);
        let mut proxy = TcpStream::connect(told.get().unwrap())?;
        let head = x.request().text().replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
        proxy.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        proxy.read_to_end(&mut answer)?;
        x.send(answer)?;
        x.cut();
        Ok(())
    });
    let proxy = proxy().to(&origin).run();
    back.set(proxy.addr()).unwrap();
    let response = proxy.get("/loop", "");
    assert_eq!(response.status(), 508);
    assert!(response.text().contains("leads back to itself"), "{}", response.text());
    assert_eq!(rounds.load(Ordering::SeqCst), 10);
    assert_eq!(proxy.get("/", "Via: 1.1 optgate, 1.1 cdn\r\n").status(), 200);
    assert_eq!(origin.seen(11)[10].one("via").as_deref(), Some("1.1 optgate, 1.1 cdn, 1.1 optgate"));
}

/// Every request has an id of its own; a stranger's is replaced.
#[test]
fn every_request_gets_an_id_of_its_own() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    for _ in 0..2 {
        assert_eq!(proxy.get("/", "X-Request-Id: same\r\n").status(), 200);
    }
    let ids: Vec<_> = origin.seen(2).iter().map(|seen| seen.one("x-request-id").unwrap()).collect();
    assert_ne!(ids[0], ids[1]);
    assert!(ids.iter().all(|id| id.len() >= 16 && id != "same"), "{ids:?}");
}

/// What a trusted proxy in front says is believed, and its own address is added.
#[test]
fn a_trusted_proxy_is_believed() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).toml("trusted_proxies = [\"127.0.0.0/8\"]\n").run();
    let fields = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: site.test\r\n\
                  Via: 1.1 front\r\nX-Request-Id: from-the-front-0001\r\n";
    assert_eq!(proxy.get("/", fields).status(), 200);
    let seen = origin.first();
    let chain = seen.one("x-forwarded-for").unwrap();
    assert_eq!(chain.replace(' ', ""), "203.0.113.9,127.0.0.1");
    assert_eq!(seen.one("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(seen.one("x-request-id").as_deref(), Some("from-the-front-0001"));
    let via = seen.all("via").join(", ");
    assert!(via.starts_with("1.1 front, 1.1 "), "{via}");
}

/// Right-most-untrusted: what stands left of the first stranger was written by the stranger.
#[test]
fn only_the_trusted_end_of_a_chain_is_believed() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).toml("trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n").run();
    let fields = "X-Forwarded-For: 192.0.2.1, 203.0.113.9, 10.0.0.7\r\n";
    assert_eq!(proxy.get("/", fields).status(), 200);
    let seen = origin.first();
    let chain = seen.one("x-forwarded-for").unwrap();
    assert_eq!(chain.replace(' ', ""), "203.0.113.9,10.0.0.7,127.0.0.1");
    assert!(!seen.text().contains("192.0.2.1"), "{}", seen.text());
}

/// Internal fields are deleted when a client sends them.
#[test]
fn internal_fields_of_a_client_are_deleted() {
    let (_proxy, seen) =
        from_a_stranger("Optgate-Decision: none\r\noptgate-Explain: 1\r\nOPTGATE-X: 1\r\nSec-GPC: 1\r\n");
    assert_eq!(seen.one("optgate-decision").as_deref(), Some("opted-out;basis=gpc"));
    assert_eq!(seen.all("optgate-x"), Vec::<String>::new());
    assert_eq!(seen.all("optgate-explain"), Vec::<String>::new());
}

/// Without a signal the origin hears `none`, and no signal is made up.
#[test]
fn without_a_signal_none_is_told() {
    let (_proxy, seen) = from_a_stranger("Sec-GPC: 0\r\n");
    assert_eq!(seen.one("optgate-decision").as_deref(), Some("none"));
    assert!(!seen.all("sec-gpc").contains(&"1".to_owned()));
}

/// A request whose `Connection` names `Sec-GPC` is enforced, and the origin hears the signal.
#[test]
fn connection_cannot_drop_the_signal() {
    for connection in ["Sec-GPC", "close, sec-gpc", "keep-alive , SEC-GPC ,Cookie"] {
        let (_proxy, seen) =
            from_a_stranger(&format!("Connection: {connection}\r\nSec-GPC: 1\r\nCookie: session=1\r\n"));
        assert_eq!(seen.one("sec-gpc").as_deref(), Some("1"), "{connection}");
        assert_eq!(seen.one("optgate-decision").as_deref(), Some("opted-out;basis=gpc"), "{connection}");
    }
}

/// `Connection` cannot drop what this proxy itself tells the origin.
#[test]
fn connection_cannot_drop_what_the_proxy_adds() {
    let (_proxy, seen) = from_a_stranger(
        "Connection: X-Forwarded-For, X-Forwarded-Proto, Forwarded, Via, X-Request-Id, Optgate-Decision, Host\r\n",
    );
    for name in [
        "x-forwarded-for",
        "x-forwarded-proto",
        "forwarded",
        "via",
        "x-request-id",
        "optgate-decision",
        "host",
    ] {
        assert!(seen.one(name).is_some(), "{name} is missing: {}", seen.text());
    }
}

/// RFC 9110, 7.6.1: fields of this hop end here, and those that `Connection` names.
#[test]
fn fields_of_a_hop_end_there() {
    let origin = Origin::start().answers(
        "/",
        "HTTP/1.1 200 OK\r\nConnection: X-Origin-Hop\r\nX-Origin-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nX-End: 1\r\nContent-Length: 2\r\n\r\nok",
    );
    let proxy = proxy().to(&origin).run();
    let answer = proxy.get(
        "/",
        "Connection: X-Client-Hop\r\nX-Client-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         TE: gzip\r\nX-End: 1\r\n",
    );
    let seen = origin.first();
    for name in ["x-client-hop", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(seen.all(name), Vec::<String>::new(), "{name} toward the origin");
    }
    assert_eq!(seen.one("x-end").as_deref(), Some("1"));
    for name in ["x-origin-hop", "keep-alive", "proxy-connection"] {
        assert_eq!(answer.head.all(name), Vec::<&str>::new(), "{name} toward the client");
    }
    assert_eq!(answer.head.one("x-end"), Some("1"));
}

/// RFC 9112, 3.2 asks HTTP/1.1 for a host, and a balancer's health check is of HTTP/1.0 and names none: it is for the
/// default site, whose first host, or its origin's, stands in.
#[test]
fn a_request_of_http_1_0_that_names_no_host_is_for_the_default_site() {
    let origin = Origin::start();
    let url = origin.url();
    let own = url.trim_start_matches("http://").to_owned();
    let named = format!("[[sites]]\nname = \"a\"\nhosts = [\"*.a.test\", \"a.test\"]\nupstream = {url:?}\n");
    let host = format!("[[sites]]\nname = \"a\"\nupstream = {{ url = {url:?}, host = \"b.test\" }}\n");
    let none = format!("default_site = \"none\"\n{named}");
    for (settings, seen) in [
        (format!("upstream = {url:?}\n"), Some(own.as_str())),
        (named, Some("a.test")),
        (host, Some("b.test")),
        (none, None),
    ] {
        let proxy = proxy().toml(&settings).run();
        for line in ["OPTIONS / HTTP/1.0", "GET /check HTTP/1.0"] {
            let before = origin.heads();
            let mut client = proxy.client();
            client.send(format!("{line}\r\n\r\n"));
            let status = client.response("GET").status();
            assert_eq!(status, if seen.is_some() { 200 } else { 400 }, "{settings}");
            assert_eq!(origin.heads(), before + usize::from(seen.is_some()));
            if let Some(host) = seen {
                assert_eq!(origin.seen(before + 1)[before].one("host").as_deref(), Some(host));
            }
        }
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.0\r\nHost:\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        ] {
            let mut client = proxy.client();
            client.send(bad);
            assert_eq!(client.response("GET").status(), 400, "{bad:?}");
        }
    }
}
