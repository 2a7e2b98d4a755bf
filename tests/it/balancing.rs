//! Requests are shared out among a site's origins as `balance` says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::DEADLINE;
use crate::support::binary::own_address;
use crate::support::client::{Client, Response};
use crate::support::origin::{Origin, held};
use crate::support::proxy::{Proxy, site};

/// Requests that reached each origin.
fn counts(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(Origin::heads).collect()
}

fn get(proxy: &Proxy, path: &str, fields: &str, times: usize) {
    for _ in 0..times {
        assert_eq!(proxy.get(path, fields).status(), 200);
    }
}

#[test]
fn each_origin_has_its_turn_by_weight() {
    let origins = [Origin::start(), Origin::start(), Origin::start()];
    let heavy = format!("{{ url = {}, weight = 3 }}", origins[1].toml());
    let proxy = site(&[origins[0].toml(), heavy, origins[2].toml()], "").run();
    get(&proxy, "/", "", 50);
    assert_eq!(counts(&origins), [10, 30, 10]);
}

/// An origin that still works on a request gets the next ones only when the others have as many.
#[test]
fn the_origin_with_the_fewest_requests_under_way_is_asked() {
    let (handler, heard, release) = held("slow");
    let origins = [(); 2].map(|()| Origin::start().on("/slow", handler.clone()));
    let proxy = site(&[origins[0].toml(), origins[1].toml()], "balance = \"least-connections\"").run();
    let mut slow = proxy.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: site.test\r\n\r\n");
    heard.recv_timeout(DEADLINE).unwrap();
    let before = counts(&origins);
    let busy = before.iter().position(|count| *count == 1).unwrap();
    get(&proxy, "/", "", 6);
    assert_eq!(counts(&origins)[busy], 1, "the busy one got no more");
    release.send(()).unwrap();
    assert_eq!(slow.response("GET").text(), "slow");
    get(&proxy, "/", "", 6);
    assert!(counts(&origins)[busy] >= 3, "it is one of two again: {:?}", counts(&origins));
}

/// The same client, header or cookie has the same origin, over connections and for all of them together.
#[test]
fn the_same_key_has_the_same_origin() {
    for (hash_on, field) in [
        ("address", "X-Forwarded-For: 203.0.113."),
        ("header:X-Tenant", "X-Tenant: tenant"),
        ("cookie:session", "Cookie: a=b; session=x"),
    ] {
        let origins = [Origin::start(), Origin::start(), Origin::start()];
        let urls: Vec<String> = origins.iter().map(Origin::toml).collect();
        let more = format!("balance = \"consistent-hash\"\nhash_on = {hash_on:?}");
        let proxy = site(&urls, &more).toml("trusted_proxies = [\"127.0.0.1\"]\n").run();
        let mut used = [0; 3];
        for key in 0..24 {
            let before = counts(&origins);
            get(&proxy, "/", &format!("{field}{key}\r\n"), 3);
            let more: Vec<usize> = counts(&origins).iter().zip(before).map(|(now, was)| now - was).collect();
            let at = more.iter().position(|count| *count > 0).unwrap();
            assert_eq!(more[at], 3, "{hash_on}: key {key} went to {more:?}");
            used[at] += 1;
        }
        assert!(used.iter().all(|keys| *keys > 0), "{hash_on}: {used:?}");
    }
}

/// An origin that is gone: its keys go to the others, and nobody gets an error.
#[test]
fn keys_of_an_origin_that_is_gone_are_served_by_another() {
    let origins = [Origin::start(), Origin::start()];
    let gone = format!("\"http://{}\"", own_address());
    let proxy = site(&[origins[0].toml(), gone, origins[1].toml()], "balance = \"consistent-hash\"")
        .toml("trusted_proxies = [\"127.0.0.1\"]\n")
        .run();
    for key in 0..12 {
        get(&proxy, "/", &format!("X-Forwarded-For: 203.0.113.{key}\r\n"), 2);
    }
    assert_eq!(counts(&origins).iter().sum::<usize>(), 24);
}

/// Two origins that answer with a private page, a page that caches keep, and a document.
fn pages() -> [Origin; 2] {
    [(); 2].map(|()| {
        Origin::start()
            .answers(
                "/private",
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: private\r\nContent-Length: 2\r\n\r\nok",
            )
            .answers(
                "/cached",
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nok",
            )
            .on("/", |x| x.ok("text/html", b"<!doctype html><title>x</title><body>hi</body>"))
    })
}

/// The cookie names an origin and nothing else: all visitors of one origin have the same one.
#[test]
fn a_cookie_names_the_origin_and_no_visitor() {
    let origins = pages();
    let proxy = site(&[origins[0].toml(), origins[1].toml()], "balance = \"sticky-cookie\"").run();
    let mut cookies = Vec::new();
    for (at, path) in ["/private", "/", "/private", "/"].into_iter().enumerate() {
        let before = counts(&origins);
        let answer = proxy.get(path, "");
        let chosen = counts(&origins).iter().zip(before).position(|(now, was)| *now > was).unwrap();
        let set = answer.head.all("set-cookie");
        let line = set.iter().find(|line| line.starts_with("optgate_origin=")).unwrap();
        assert!(line.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "request {at}: {line}");
        cookies.push((chosen, line.split(';').next().unwrap().to_owned()));
    }
    cookies.sort();
    cookies.dedup();
    assert_eq!(cookies.len(), 2, "one value for each origin: {cookies:?}");
    for (chosen, cookie) in cookies {
        let before = counts(&origins)[chosen];
        for _ in 0..4 {
            let answer = proxy.get("/private", &format!("Cookie: theme=dark; {cookie}\r\n"));
            assert_eq!(answer.status(), 200);
            assert!(answer.head.all("set-cookie").is_empty(), "it is not set again");
        }
        assert_eq!(counts(&origins)[chosen], before + 4);
    }
}

/// RFC 9111, 3: an answer that a shared cache may keep never carries the cookie.
#[test]
fn an_answer_that_others_may_get_from_a_cache_carries_no_cookie() {
    let origins = pages();
    let proxy = site(&[origins[0].toml(), origins[1].toml()], "balance = \"sticky-cookie\"").run();
    for _ in 0..3 {
        assert!(proxy.get("/cached", "").head.all("set-cookie").is_empty());
        assert!(proxy.get("/plain", "").head.all("set-cookie").is_empty(), "a 200 may be kept by guess");
    }
}

/// Over https the cookie is for https; behind a front it says so by its forwarded scheme.
#[test]
fn over_https_the_cookie_is_secure() {
    let origins = pages();
    let more = "balance = \"sticky-cookie\"\nsticky_cookie = \"route\"";
    let proxy =
        site(&[origins[0].toml(), origins[1].toml()], more).toml("trusted_proxies = [\"127.0.0.1\"]\n").run();
    let answer = proxy.get("/private", "X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Proto: https\r\n");
    let line = answer.head.one("set-cookie").unwrap().to_owned();
    assert!(line.starts_with("route=") && line.ends_with("; Secure"), "{line}");
}

/// A session whose origin fails goes on elsewhere, and stays there; so does one of an origin that is unknown.
#[test]
fn a_session_whose_origin_is_left_out_moves_once() {
    let broken = Arc::new(AtomicBool::new(false));
    let origins = [(); 2].map(|()| {
        let broken = Arc::clone(&broken);
        Origin::start().on("/private", move |x| {
            let asked_for_trouble = x.request().one("x-trouble").is_some();
            if asked_for_trouble && broken.load(Ordering::SeqCst) {
                x.cut();
                return Ok(());
            }
            x.send("HTTP/1.1 200 OK\r\nCache-Control: private\r\nContent-Length: 2\r\n\r\nok")
        })
    });
    let proxy = site(&[origins[0].toml(), origins[1].toml()], "balance = \"sticky-cookie\"")
        .toml("[outlier]\nfailures = 1\nejection = \"1h\"\nlongest = \"1h\"\n")
        .run();
    let cookie_of = |answer: &Response| {
        answer.head.one("set-cookie").map(|line| line.split(';').next().unwrap().to_owned())
    };
    let first = cookie_of(&proxy.get("/private", "Cookie: optgate_origin=ffffffff\r\n")).unwrap();
    broken.store(true, Ordering::SeqCst);
    let refused = proxy.get("/private", &format!("Cookie: {first}\r\nX-Trouble: 1\r\n"));
    assert_eq!(refused.status(), 502, "it was sent, so it is not sent again");
    let moved = proxy.get("/private", &format!("Cookie: {first}\r\n"));
    let second = cookie_of(&moved).unwrap();
    assert_eq!(moved.status(), 200);
    assert_ne!(first, second);
    assert_eq!(cookie_of(&proxy.get("/private", &format!("Cookie: {second}\r\n"))), None);
}

/// A tunnel counts as under way until it ends.
#[test]
fn a_tunnel_is_under_way_until_it_ends() {
    let origins = [(); 2].map(|()| {
        Origin::start().on("/socket", |x| {
            x.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
            while !x.tunnel()?.is_empty() {}
            x.cut();
            Ok(())
        })
    });
    let proxy = site(&[origins[0].toml(), origins[1].toml()], "balance = \"least-connections\"").run();
    let mut tunnel = Client::connect(proxy.addr());
    tunnel
        .send("GET /socket HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(tunnel.head().status, 101);
    let busy = counts(&origins).iter().position(|count| *count == 1).unwrap();
    get(&proxy, "/", "", 5);
    assert_eq!(counts(&origins)[busy], 1);
    tunnel.finish();
    assert_eq!(tunnel.rest(), b"");
    crate::support::wait_until("the origin is asked again", || {
        get(&proxy, "/", "", 1);
        counts(&origins)[busy] > 1
    });
}
