//! What one client may take from all others: connections, time, consumer pages, memory, descriptors.
//! Each limit has a counter, and none of them ever refuses
//! an opt-out.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Mutex, mpsc};

use rustix::process::Signal;

use super::support::binary::{Binary, in_shell, own_address, serving};
use super::support::client::{Client, Response, metrics};
use super::support::h2::H2;
use super::support::origin::Origin;
use super::support::pki::Authority;
use super::support::proxy::{Proxy, figure, proxy};
use super::support::{DEADLINE, wait_until};

const GET: &str = "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n";

/// Whether a connection from an address is served; it is given back when it is.
fn served(proxy: &Proxy, from: &str, first: &str) -> Option<Client> {
    let mut client = Client::connect_from(from, proxy.addr());
    let sent = client.try_send(format!("{first}{GET}Connection: keep-alive\r\n"));
    let begun = sent && client.until_closed_or("HTTP/1.1 200");
    begun.then_some(client)
}

#[test]
fn a_client_has_its_number_of_connections_and_others_have_theirs() {
    let origin = Origin::start();
    let proxy = proxy()
        .to(&origin)
        .toml("[limits]\nconnections_per_client = 3\n")
        .replacing("workers = 1", "workers = 2")
        .run();
    let kept: Vec<_> = (0..3).map(|_| served(&proxy, "127.0.0.2", "").unwrap()).collect();
    assert!(served(&proxy, "127.0.0.2", "").is_none(), "its places are taken, whatever core accepts");
    assert!(served(&proxy, "127.0.0.3", "").is_some());
    assert_eq!(proxy.limit_reached("connections_per_client"), 1);
    drop(kept);
    wait_until("a place is free again", || served(&proxy, "127.0.0.2", "").is_some());
}

/// Behind a balancer that speaks the PROXY protocol the client is who it names: an IPv6 client its /64.
#[test]
fn behind_the_proxy_protocol_the_named_client_is_counted() {
    let origin = Origin::start();
    let settings = "trusted_proxies = [\"127.0.0.2\"]\nlisten = { address = \"127.0.0.1:0\", proxy_protocol = true }\n\
                    [limits]\nconnections_per_client = 2\n";
    let proxy = proxy().replacing("listen = [\"127.0.0.1:0\"]\n", "").to(&origin).toml(settings).run();
    let named =
        |address: &str| served(&proxy, "127.0.0.2", &format!("PROXY TCP6 {address} 2001:db8::1 1 2\r\n"));
    let _kept = (named("2001:db8:1:1::1").unwrap(), named("2001:db8:1:1:ffff::2").unwrap());
    assert!(named("2001:db8:1:1::3").is_none());
    assert!(named("2001:db8:1:2::1").is_some(), "another /64, and the balancer itself has no limit");
}

/// A tunnel is a connection of its client for as long as it lasts, after HTTP has given the connection back.
#[test]
fn a_tunnel_stays_its_clients() {
    let origin = Origin::start().on("/socket", |x| {
        x.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi")?;
        while !x.tunnel()?.is_empty() {}
        Ok(())
    });
    let proxy = proxy().to(&origin).toml("[limits]\nconnections_per_client = 1\n").run();
    let mut tunnel = Client::connect_from("127.0.0.2", proxy.addr());
    tunnel.send(
        "GET /socket HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(tunnel.head().status, 101);
    assert_eq!(tunnel.take(2), b"hi");
    assert!(served(&proxy, "127.0.0.2", "").is_none());
    drop(tunnel);
    wait_until("the place is free again", || served(&proxy, "127.0.0.2", "").is_some());
}

/// Who says nothing is closed, also where a PROXY protocol header or TLS is still to come.
#[test]
fn silence_before_anything_is_ended() {
    let origin = Origin::start();
    let authority = Authority::new();
    let builder = proxy();
    let certificate = authority.leaf("site.test").toml(builder.dir(), "site");
    let settings = format!(
        "trusted_proxies = [\"127.0.0.1\"]\nlisten = {{ address = \"127.0.0.1:0\", proxy_protocol = true }}\n\
         [tls]\nlisten = [\"127.0.0.1:0\"]\n{certificate}\
         [timeouts]\nproxy_header = \"200ms\"\ntls_handshake = \"200ms\"\n"
    );
    let proxy = builder.replacing("listen = [\"127.0.0.1:0\"]\n", "").to(&origin).toml(&settings).run();
    for (address, limit) in [(proxy.addr(), "proxy_header"), (proxy.tls(), "tls_handshake")] {
        assert!(Client::connect(address).rest().is_empty());
        wait_until(limit, || proxy.limit_reached(limit) == 1);
    }
}

/// Every way in which a connection can be idle: without a byte, between two requests, over TLS, over HTTP/2.
#[test]
fn connections_that_are_ended_as_idle_are_counted() {
    let origin = Origin::start();
    let authority = Authority::new();
    let builder = proxy();
    let certificate = authority.leaf("site.test").toml(builder.dir(), "site");
    let settings = format!("[timeouts]\nidle = \"200ms\"\n[tls]\nlisten = [\"127.0.0.1:0\"]\n{certificate}");
    let proxy = builder.to(&origin).toml(&settings).run();
    let counted = |times| wait_until("it is counted", || proxy.limit_reached("idle") == times);
    let silent_http2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for (times, sends) in (1..).zip(["", GET, silent_http2]) {
        proxy.client().send(sends).rest();
        counted(times);
    }
    Client::connect_tls(proxy.tls(), "site.test", authority.client(&["http/1.1"])).send(GET).rest();
    counted(4);
    for other in ["header_read", "tls_handshake", "between_bytes"] {
        assert_eq!(proxy.limit_reached(other), 0, "{other}");
    }
}

/// A tunnel lives for as long as either side says something, and no longer.
#[test]
fn a_tunnel_in_which_nobody_speaks_is_ended_and_counted() {
    let (sender, closed) = mpsc::channel();
    let sender = Mutex::new(sender);
    let origin = Origin::start().on("/socket", move |x| {
        x.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi")?;
        while !x.tunnel()?.is_empty() {}
        let _ = sender.lock().unwrap().send(());
        Ok(())
    });
    let settings = "[timeouts]\ntunnel_idle = \"500ms\"\nidle = \"100ms\"\nbetween_bytes = \"100ms\"\n";
    let proxy = proxy().to(&origin).toml(settings).run();
    let mut tunnel = proxy.client();
    tunnel.send(
        "GET /socket HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(tunnel.head().status, 101);
    assert_eq!(tunnel.take(2), b"hi");
    let begun = std::time::Instant::now();
    // One side speaks now and then: the pauses are what is tried, each shorter than the limit, all of them longer.
    while begun.elapsed() < std::time::Duration::from_millis(1_200) {
        tunnel.send("x");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(proxy.limit_reached("tunnel_idle"), 0);
    assert!(tunnel.rest().is_empty());
    closed.recv_timeout(DEADLINE).expect("the origin's side is closed too");
    wait_until("it is counted", || proxy.limit_reached("tunnel_idle") == 1);
}

/// Sheds never refuse an opt-out silently. Who is over a limit of connections reads that nothing was taken.
#[test]
fn an_opt_out_over_a_limit_of_connections_is_told_to_come_again() {
    let origin = Origin::start();
    for (limit, label) in
        [("connections = 1", "connections"), ("connections_per_client = 1", "connections_per_client")]
    {
        let proxy = proxy().to(&origin).toml(&format!("[limits]\n{limit}\n")).run();
        let kept = served(&proxy, "127.0.0.2", "").unwrap();
        for times in 1..=100 {
            let mut client = Client::connect_from("127.0.0.2", proxy.addr());
            // Whether it arrives before or after the answer is given is the machine's affair.
            client.try_send(
                "POST /privacy-choices/opt-out HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\r\n\r\n",
            );
            let answer = client.response("POST");
            assert_eq!(answer.status(), 503);
            assert_eq!(answer.head.one("retry-after"), Some("5"));
            assert_eq!(answer.head.one("connection"), Some("close"));
            assert!(answer.text().contains("try again"), "{}", answer.text());
            assert!(client.rest().is_empty());
            assert_eq!(proxy.limit_reached(label), times);
        }
        assert_eq!(proxy.running().store().health().records, 0);
        drop(kept);
        let from = || Client::connect_from("127.0.0.2", proxy.addr());
        wait_until("there is room again", || from().get("/", "").status() == 200);
        wait_until("the opt-out is taken", || post(from(), "opt-out").status() == 200);
    }
}

/// Over TLS nothing can be said before a handshake, and a handshake is what a flood would ask for.
#[test]
fn over_tls_a_connection_over_the_limit_is_closed_without_a_handshake() {
    let origin = Origin::start();
    let authority = Authority::new();
    let builder = proxy();
    let certificate = authority.leaf("site.test").toml(builder.dir(), "site");
    let settings = format!("[limits]\nconnections = 1\n[tls]\nlisten = [\"127.0.0.1:0\"]\n{certificate}");
    let proxy = builder.to(&origin).toml(&settings).run();
    let _kept = served(&proxy, "127.0.0.2", "").unwrap();
    assert!(Client::connect(proxy.tls()).rest().is_empty());
    assert_eq!(proxy.limit_reached("connections"), 1);
}

/// Whoever trusts a proxy in front must not have its visitors limited together.
#[test]
fn a_trusted_proxy_is_no_client() {
    let origin = Origin::start();
    let settings = "trusted_proxies = [\"127.0.0.2\"]\n[limits]\nconnections_per_client = 1\n";
    let proxy = proxy().to(&origin).toml(settings).run();
    let kept: Vec<_> = (0..4).map(|_| served(&proxy, "127.0.0.2", "")).collect();
    assert!(kept.iter().all(Option::is_some));
}

/// Sends a byte now and then until the proxy has answered or closed; what it said.
fn trickle(mut client: Client) -> String {
    let mut writer: TcpStream = client.writer();
    let (stop, stopped) = mpsc::channel::<()>();
    let pause = std::time::Duration::from_millis(20);
    // The pause is the attack itself, not a wait for something.
    let sending = std::thread::spawn(move || {
        while stopped.recv_timeout(pause).is_err_and(|e| e == mpsc::RecvTimeoutError::Timeout) {
            if writer.write_all(b"x").is_err() {
                break;
            }
        }
    });
    let said = String::from_utf8_lossy(&client.rest()).into_owned();
    drop(stop);
    sending.join().unwrap();
    said
}

/// A slow upload (slowloris): nginx and HAProxy hold a trickled body for ever, since each byte resets their timer.
#[test]
fn a_trickled_body_is_given_up_however_regular_its_bytes() {
    let origin = Origin::start().on("/", |x| {
        x.body()?;
        x.ok("text/plain", b"read")
    });
    let limits = "[timeouts]\nslow_body = \"400ms\"\n[limits]\nmin_body_rate = \"1KiB\"\n";
    let proxy = proxy().to(&origin).toml(limits).run();
    for framing in ["Content-Length: 1000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nffff\r\n"] {
        let mut client = proxy.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: site.test\r\n{framing}"));
        let said = trickle(client);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said:?}");
    }
    assert_eq!(proxy.limit_reached("min_body_rate"), 2);
    let mut client = proxy.client();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 100000\r\n\r\n{}",
        "x".repeat(100_000)
    ));
    assert_eq!(client.response("POST").text(), "read");
}

/// A head has one limit from its first byte on, and no byte starts it again.
#[test]
fn a_trickled_head_is_given_up_however_regular_its_bytes() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).toml("[timeouts]\nheader_read = \"400ms\"\n").run();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: site.test\r\nX-Slow: ");
    let said = trickle(client);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said:?}");
    assert_eq!(origin.heads(), 0);
}

/// An answer without end, as fast as it is taken; `gone` hears when nobody takes it any more.
pub fn endless() -> (Origin, mpsc::Receiver<()>) {
    let (sender, gone) = mpsc::channel();
    let sender = Mutex::new(sender);
    let origin = Origin::start().on("/endless", move |x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        while x.chunk(&[b'x'; 64 * 1024]).is_ok() {}
        let _ = sender.lock().unwrap().send(());
        x.cut();
        Ok(())
    });
    (origin, gone)
}

const SLOW_SEND: &str = "[timeouts]\nslow_send = \"400ms\"\nidle = \"1s\"\n";

/// A visitor who asks and does not take holds neither a connection here nor one at the origin.
#[test]
fn an_answer_that_nobody_takes_is_given_up() {
    let (origin, gone) = endless();
    let proxy = proxy().to(&origin).toml(SLOW_SEND).run();
    let mut client = proxy.client();
    client.send("GET /endless HTTP/1.1\r\nHost: site.test\r\n\r\n");
    gone.recv_timeout(DEADLINE).expect("the origin is let go");
    wait_until("it is counted", || proxy.limit_reached("min_send_rate") == 1);
    assert!(client.count(u64::MAX) > 0, "what was in the kernel's hands arrives");
}

/// A visitor who takes an answer at any sensible pace is never cut off.
#[test]
fn an_answer_that_is_taken_goes_on_beyond_the_window() {
    let (origin, _gone) = endless();
    let proxy = proxy().to(&origin).toml(SLOW_SEND).run();
    let mut client = proxy.client();
    client.send("GET /endless HTTP/1.1\r\nHost: site.test\r\n\r\n");
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_millis(1_500) {
        assert!(client.count(1 << 20) >= 1 << 20);
        // A reader that pauses is what is tried here.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(proxy.limit_reached("min_send_rate"), 0);
}

/// The page, as one client asks for it.
fn choices(proxy: &Proxy, from: &str) -> u16 {
    let mut client = Client::connect_from(from, proxy.addr());
    let answer = client.get("/privacy-choices", "");
    if answer.status() == 429 {
        assert!(answer.head.one("retry-after").is_some());
    }
    answer.status()
}

/// A choice, with nothing to fill in.
fn post(mut client: Client, action: &str) -> Response {
    let head = format!("POST /privacy-choices/{action} HTTP/1.1\r\nHost: site.test\r\n");
    client.send(format!("{head}Content-Length: 0\r\n\r\n")).response("POST")
}

/// Rate limits never refuse an opt-out. Over the rate the choice is in force, and the answer
/// says that it has no reference.
#[test]
fn a_client_over_its_rate_gets_no_pages_and_opts_out_all_the_same() {
    let origin = Origin::start();
    let limits =
        "[limits]\nportal_rate = 1\nportal_burst = 4\n[store]\nrecords_per_second = 1\nrecord_burst = 8\n";
    let proxy = proxy().to(&origin).toml(limits).run();
    wait_until("the rate is reached", || choices(&proxy, "127.0.0.2") == 429);
    assert!(proxy.limit_reached("portal_rate") >= 1);
    let mut references = 0;
    for _ in 0..12 {
        let answer = post(Client::connect_from("127.0.0.2", proxy.addr()), "opt-out");
        assert_eq!(answer.status(), 200);
        let cookie =
            answer.head.all("set-cookie").into_iter().find(|line| line.starts_with("optgate=v1.out."));
        let cookie = cookie.expect("the choice is in the browser");
        let text = answer.text();
        assert!(text.contains("in force"), "{text}");
        let referred = !text.contains("there is no reference this time");
        references += usize::from(referred);
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let mut next = Client::connect_from("127.0.0.2", proxy.addr());
        assert_eq!(
            next.get("/", &format!("Cookie: {cookie}\r\n")).status(),
            200,
            "the site itself is not limited"
        );
    }
    assert!((1..12).contains(&references), "{references} of 12 recorded");
    let text = post(Client::connect_from("127.0.0.3", proxy.addr()), "opt-out").text();
    assert!(!text.contains("there is no reference"), "room was left for others: {text}");
    assert_eq!(choices(&proxy, "127.0.0.3"), 200);
}

/// Opting in may wait, and so may the receipt; what pages load and the site's statement are not counted.
#[test]
fn what_pages_load_and_the_statement_are_not_limited() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).toml("[limits]\nportal_rate = 1\nportal_burst = 0\n").run();
    wait_until("the rate is reached", || choices(&proxy, "127.0.0.2") == 429);
    for _ in 0..5 {
        let mut client = Client::connect_from("127.0.0.2", proxy.addr());
        assert_eq!(client.get("/.well-known/gpc.json", "").status(), 200);
        assert_ne!(client.get("/privacy-choices/assets/none.js", "").status(), 429);
    }
    assert_eq!(post(Client::connect_from("127.0.0.2", proxy.addr()), "opt-in").status(), 429);
}

/// Page views are shed before privacy endpoints, and never by skipping the rewriter.
#[test]
fn short_of_memory_new_requests_are_turned_away_and_opt_outs_are_not() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).toml("[limits]\nmemory = \"1MiB\"\n").run();
    wait_until("the process is looked at", || proxy.get("/", "").status() == 503);
    let seen = origin.heads();
    for signal in ["", "Sec-GPC: 1\r\n"] {
        let answer = proxy.get("/", signal);
        assert_eq!(answer.status(), 503);
        assert!(answer.head.one("retry-after").is_some());
        let said = answer.text();
        assert!(said.contains("Nothing of this request was carried out or saved"), "{said}");
        assert!(said.contains("Opting out works now, too: /privacy-choices\n"), "{said}");
        assert_eq!(H2::prior_knowledge(proxy.addr()).get("http://site.test/").status, 503);
    }
    assert_eq!(origin.heads(), seen, "nothing is asked of the origin");
    assert!(proxy.limit_reached("memory") >= 4);
    assert_eq!(proxy.get("/privacy-choices", "").status(), 200);
    assert_eq!(post(proxy.client(), "opt-out").status(), 200);
    proxy.reload(|text| text.replace("memory = \"1MiB\"", "memory = \"none\"")).unwrap();
    wait_until("all is served again", || proxy.get("/", "").status() == 200);
}

/// The program with few descriptors: those under way end well, and it comes back by itself.
#[test]
fn out_of_descriptors_it_pauses_and_comes_back() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let origin = Origin::start().on("/slow", move |x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nbegun")?;
        let _ = gate.lock().unwrap().recv_timeout(DEADLINE);
        x.send("ended")
    });
    let builder = proxy().to(&origin);
    let addr = own_address();
    let mut program = serving(&builder.write(), addr);
    let admin = own_address();
    program.args(["--admin", &admin.to_string()]);
    let limited = in_shell("ulimit -n 80; exec \"$@\"", &program);
    let binary = Binary::of(limited, addr, builder.into_dir());
    let mut under_way = Client::connect(addr);
    under_way.send("GET /slow HTTP/1.1\r\nHost: site.test\r\n\r\n");
    assert_eq!(under_way.final_head().status, 200);
    assert_eq!(under_way.take(5), b"begun");
    let flood: Vec<_> = (0..200).map(|_| TcpStream::connect(addr).unwrap()).collect();
    binary.wait_for_line("cannot accept a connection");
    release.send(()).unwrap();
    assert_eq!(under_way.take(5), b"ended");
    drop(flood);
    assert_eq!(Client::connect(addr).get("/", "").text(), "hello");
    let series = "optgate_limit_reached_total{limit=\"descriptors\"}";
    assert!(figure(&metrics(admin), series).is_some_and(|times| times > 0));
}

/// Idle connections cannot take the descriptors that visitors who are served, the journal and the admin listener need; and
/// a shell's soft limit is not the process' own.
#[test]
fn idle_connections_leave_descriptors_to_the_others() {
    let origin = Origin::start();
    let builder = proxy().to(&origin);
    let (addr, admin) = (own_address(), own_address());
    let mut program = serving(&builder.write(), addr);
    program.args(["--admin", &admin.to_string()]);
    let limited = in_shell("ulimit -S -n 100 && ulimit -H -n 240 && exec \"$@\"", &program);
    let binary = Binary::spawn(limited, addr, builder.into_dir());
    binary.wait_for_line("there are descriptors for 132 visitors' connections");
    binary.wait_for_line("listening on");
    let mut served: Vec<_> = (0..4).map(|_| Client::connect(addr)).collect();
    served.iter_mut().for_each(|client| assert_eq!(client.get("/", "").text(), "hello"));
    let _idle: Vec<_> = (0..300).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let refused = "optgate_limit_reached_total{limit=\"connections\"}";
    wait_until("the first is refused", || figure(&metrics(admin), refused).is_some_and(|times| times > 0));
    served.iter_mut().for_each(|client| assert_eq!(client.get("/", "").text(), "hello"));
}

/// Connections that the system deals to a core which never began would wait for ever: such a start is refused.
#[test]
fn with_descriptors_for_some_cores_only_it_does_not_start() {
    let origin = Origin::start();
    let mut refused_by_a_core = 0;
    for descriptors in 30..=46 {
        let builder = proxy().to(&origin).replacing("workers = 1", "workers = 2");
        let addr = own_address();
        let script = format!("ulimit -n {descriptors}; exec \"$@\"");
        let limited = in_shell(&script, &serving(&builder.write(), addr));
        let mut binary = Binary::spawn(limited, addr, builder.into_dir());
        let mut said = binary.lines_until_or_end("listening on");
        let serves = said.last().is_some_and(|line| line.contains("listening on"));
        if serves {
            binary.signal(Signal::TERM);
        }
        let status = binary.wait();
        said.extend(binary.said());
        let by_a_core = said.iter().any(|line| line.contains("cannot start a core's event loop"));
        assert!(!(serves && by_a_core), "{descriptors} descriptors: {said:#?}");
        assert_eq!(status.code(), Some(i32::from(!serves)), "{descriptors} descriptors: {said:#?}");
        refused_by_a_core += u32::from(by_a_core);
    }
    assert!(refused_by_a_core > 0, "none of these numbers was enough for the first core only");
}

/// A tunnel in which neither side reads any more moves nothing: it is idle, however much both would like to send.
#[test]
fn a_tunnel_in_which_nobody_reads_is_ended_and_counted() {
    let (sender, closed) = mpsc::channel();
    let sender = Mutex::new(sender);
    let origin = Origin::start().on("/socket", move |x| {
        x.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        while x.send([b'x'; 65_536]).is_ok() {}
        let _ = sender.lock().unwrap().send(());
        x.cut();
        Ok(())
    });
    let proxy = proxy().to(&origin).toml("[timeouts]\ntunnel_idle = \"500ms\"\n").run();
    let mut tunnel = proxy.client();
    tunnel.send(
        "GET /socket HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(tunnel.head().status, 101);
    let mut writer = tunnel.writer();
    let writes = std::thread::spawn(move || while writer.write_all(&[b'x'; 65_536]).is_ok() {});
    wait_until("it is counted", || proxy.limit_reached("tunnel_idle") == 1);
    closed.recv_timeout(DEADLINE).expect("the origin's side is closed");
    writes.join().unwrap();
}
