//! A bad line between Optgate and its origin: delay, odd pieces, resets, and a partition that heals.

use std::ops::AddAssign as _;
use std::thread;

use super::super::support::client::Client;
use super::super::support::origin::Origin;
use super::super::support::proxy::proxy;
use super::super::support::relay::{Line, Relay};
use super::super::support::wait_until;
use super::{Bench, PAGE, SHORT, TRACKER, get, head, read};

/// A body that says whose it is in every line.
fn body_of(name: &str) -> String {
    format!("answer {name}\n").repeat(700)
}

fn origin() -> Origin {
    Origin::start()
        .on("/named", |x| {
            let line = x.request().line();
            let name = line.split(['?', ' ']).nth(2).unwrap_or_default().to_owned();
            let upload = x.body()?;
            if !upload.is_empty() && upload != body_of(&name).as_bytes() {
                return x.send("HTTP/1.1 500 Another's Upload\r\nContent-Length: 0\r\n\r\n");
            }
            x.ok("text/plain", body_of(&name).as_bytes())
        })
        .on("/page", |x| x.ok("text/html", PAGE.as_bytes()))
}

fn address(origin: &Origin) -> std::net::SocketAddr {
    origin.url().trim_start_matches("http://").parse().unwrap()
}

/// One request after another over a bad line; nobody gets a wrong byte, and what is whole is all of it.
fn visit(addr: std::net::SocketAddr, who: usize, times: usize) -> [usize; 3] {
    let [mut whole, mut cut, mut refused] = [0; 3];
    for n in 0..times {
        let name = format!("{who}-{n}");
        let truth = body_of(&name);
        let mut client = Client::connect(addr);
        let page = n % 5 == 4;
        match (page, n % 2) {
            (true, _) => client.send(head("/page", "Sec-GPC: 1\r\nAccept: text/html\r\nConnection: close\r\n")),
            (_, 0) => client.send(head(&format!("/named?{name}"), "Connection: close\r\n")),
            _ => client.send(format!(
                "POST /named?{name} HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{truth}",
                truth.len()
            )),
        };
        let (status, body, complete) = read(&mut client).expect("an answer");
        let text = String::from_utf8_lossy(&body);
        match (status, complete) {
            (502 | 504, true) => refused += 1,
            (200, _) if page => {
                assert!(!text.contains(TRACKER), "{name}: {text}");
                assert_eq!(complete, text.contains("</html>"), "{name}: {text}");
                [&mut cut, &mut whole][usize::from(complete)].add_assign(1);
            }
            (200, true) => {
                assert!(text == truth, "{name}: {} bytes", text.len());
                whole += 1;
            }
            (200, false) => {
                assert!(truth.starts_with(&*text), "{name}: {text:.200}");
                cut += 1;
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    [whole, cut, refused]
}

/// Delay and loss, as far as TCP lets them through: pieces of any size, late, and connections that break.
#[test]
fn a_bad_line_never_makes_a_wrong_answer() {
    let origin = origin();
    let relay = Relay::start(address(&origin), 0x11e);
    let bench = Bench::start(proxy().upstream(&format!("http://{}", relay.addr())).toml(SHORT));
    for line in [Line::Slow(4), Line::Bad(4, 25)] {
        relay.set(line);
        let addr = bench.addr();
        let visitors: Vec<_> = (0..6).map(|who| thread::spawn(move || visit(addr, who, 25))).collect();
        let mut all = [0; 3];
        for visitor in visitors {
            let counts = visitor.join().unwrap();
            (0..3).for_each(|at| all[at] += counts[at]);
        }
        let [whole, cut, refused] = all;
        println!(
            "{line:?}: {whole} whole, {cut} cut, {refused} refused, {} connections broken",
            relay.broken()
        );
        match line {
            Line::Slow(_) => assert_eq!(all, [150, 0, 0], "slow is not broken"),
            _ => assert!(relay.broken() > 0 && whole > 0 && cut + refused > 0),
        }
    }
    relay.set(Line::Good);
    // What was late already may still break.
    wait_until("it is served again", || get(bench.addr(), "/", "").status() == 200);
    bench.is_as_before();
}

/// A partition swallows everything, the ends of connections too. Requests end by their timeouts, and as soon as it
/// heals requests are served again: no connection from before is trusted, over HTTP/2 neither.
#[test]
fn a_partition_ends_requests_by_their_timeouts_and_is_forgotten() {
    let origin = origin();
    let behind = proxy().to(&origin).run();
    for scheme in ["http", "h2c"] {
        let to = if scheme == "h2c" { behind.addr() } else { address(&origin) };
        let relay = Relay::start(to, 7);
        let bench = Bench::start(proxy().upstream(&format!("{scheme}://{}", relay.addr())).toml(SHORT));
        for _ in 0..2 {
            assert_eq!(get(bench.addr(), "/named?warm", "").text(), body_of("warm"));
            relay.set(Line::Silent);
            let asked: Vec<_> = (0..5)
                .map(|_| {
                    let mut client = Client::connect(bench.addr());
                    client.send(head("/named?lost", "Connection: close\r\n"));
                    client
                })
                .collect();
            for mut client in asked {
                assert_eq!(read(&mut client).map(|(status, _, _)| status), Some(504), "{scheme}");
            }
            relay.set(Line::Good);
            assert_eq!(get(bench.addr(), "/named?healed", "").text(), body_of("healed"), "{scheme}");
        }
        bench.is_as_before();
    }
}
