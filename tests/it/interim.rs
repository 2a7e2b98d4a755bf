//! Interim answers (RFC 9110, 15.2): what an origin says before its answer reaches a visitor over HTTP/1.1.

use std::sync::{Mutex, mpsc};

use super::support::DEADLINE;
use super::support::client::Head;
use super::support::h2::H2;
use super::support::origin::{Origin, answer};
use super::support::proxy::proxy;

const GPC: &str = "Sec-GPC: 1\r\n";
const TRACKER: &str = "https://static.criteo.net";

fn hint(fields: &str) -> String {
    format!("HTTP/1.1 103 Early Hints\r\n{fields}\r\n")
}

fn asked(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n")
}

/// All heads up to the final one's.
fn heads(client: &mut super::support::client::Client) -> Vec<Head> {
    let mut heads = Vec::new();
    while heads.last().is_none_or(|head: &Head| head.status < 200) {
        heads.push(client.head());
    }
    heads
}

/// RFC 9110, 15.2: they are forwarded when they come, not with the answer. RFC 8297: it may be long in coming.
#[test]
fn an_interim_answer_is_there_before_the_answer_is() {
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let origin = Origin::start().on("/", move |x| {
        x.send(hint(
            "Link: </a.css>; rel=preload\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
             Content-Length: 5\r\n",
        ))?;
        gate.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        x.send("HTTP/1.1 102 Processing\r\n\r\n")?;
        gate.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        x.ok("text/plain", b"done")
    });
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send(asked("/", ""));
    let first = client.head();
    assert_eq!((first.status, first.all("link")), (103, vec!["</a.css>; rel=preload"]));
    assert_eq!(
        first.fields.len(),
        1,
        "what is of the connection to the origin ends here: {:?}",
        first.fields
    );
    go.send(()).unwrap();
    assert_eq!(client.head().status, 102);
    go.send(()).unwrap();
    assert_eq!(client.response("GET").text(), "done");
}

/// The order holds however the origin's bytes come, and for requests that were sent at once.
#[test]
fn interim_answers_stand_before_their_own_answer_at_every_cut() {
    let bytes = [hint("X-N: 1\r\n"), hint("X-N: 2\r\n")].concat().into_bytes();
    let bytes = [bytes, answer("Content-Type: text/plain\r\nX-N: 3\r\n", "done")].concat();
    let length = bytes.len();
    let origin = Origin::start().on("/", move |x| {
        let cut: usize = x.request().line().split(['?', ' ']).nth(2).unwrap().parse().unwrap();
        x.send(&bytes[..cut])?;
        x.send(&bytes[cut..])
    });
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    for cut in 0..length {
        let next = (cut + 7) % length;
        client.send([asked(&format!("/?{cut}"), ""), asked(&format!("/?{next}"), GPC)].concat());
        for _ in 0..2 {
            let heads = heads(&mut client);
            let order: Vec<_> = heads.iter().filter_map(|head| head.one("x-n")).collect();
            assert_eq!(order, ["1", "2", "3"], "cut at {cut}");
            assert_eq!(client.body(&heads[2], "GET").0, b"done", "cut at {cut}");
        }
    }
}

/// RFC 8297: hints start requests before the page does. RFC 6265, 3: cookies may count in any answer.
#[test]
fn hints_of_trackers_and_cookies_stay_here() {
    let links = format!("Link: <{TRACKER}/a.js>; rel=preload, </b.css>; rel=preload\r\nSet-Cookie: a=b\r\n");
    let last = answer("Content-Type: text/html\r\n", "<html><body>x</body></html>");
    let origin = Origin::start().answers("/", [hint(&links).into_bytes(), last].concat());
    for (mode, signal, hinted) in [
        ("enforce", GPC, "</b.css>; rel=preload"),
        ("enforce", "", &links[6..links.find('\r').unwrap()]),
        ("observe", GPC, &links[6..links.find('\r').unwrap()]),
    ] {
        let proxy = proxy().to(&origin).toml(&format!("mode = {mode:?}\n")).run();
        let mut client = proxy.client();
        client.send(asked("/", &format!("Accept: text/html\r\n{signal}")));
        let heads = heads(&mut client);
        assert_eq!((heads[0].status, heads[0].all("link")), (103, vec![hinted]), "{mode} {signal}");
        assert_eq!(heads[0].all("set-cookie").is_empty(), mode == "enforce");
    }
}

/// The answer may name an account that has opted out, so hints before it are for somebody who may have. What names
/// it is not shown in an interim answer either.
#[test]
fn where_answers_name_accounts_hints_lead_to_no_tracker() {
    let link = format!("Link: <{TRACKER}/a.js>; rel=preload\r\nX-Account: ann\r\n");
    let last = answer("Content-Type: text/plain\r\n", "x");
    let origin = Origin::start().answers("/", [hint(&link).into_bytes(), last].concat());
    let settings = "[account]\nresponse_header = \"X-Account\"\nsession_cookie = \"sid\"\n";
    let proxy = proxy().to(&origin).toml(settings).run();
    let mut client = proxy.client();
    client.send(asked("/", ""));
    let first = client.head();
    assert_eq!((first.status, first.fields.len()), (103, 0), "{:?}", first.fields);
    assert_eq!(client.response("GET").text(), "x");
}

/// RFC 9110, 15.2: a client of HTTP/1.0 gets none. Over HTTP/2 none can be sent, and the answer is whole.
#[test]
fn who_cannot_have_interim_answers_gets_the_answer_alone() {
    let origin = Origin::start().answers(
        "/",
        [hint("X: y\r\n").into_bytes(), answer("Content-Type: text/plain\r\n", "done")].concat(),
    );
    let proxy = proxy().to(&origin).run();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\nHost: site.test\r\n\r\n");
    assert_eq!(client.head().status, 200);
    let answer = H2::prior_knowledge(proxy.addr()).get("http://site.test/");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"done"[..]));
}
