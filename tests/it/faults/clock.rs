//! The wall clock jumps by years while Optgate runs: what it waits for is measured by a clock that does not, and no
//! choice gets lost. Debian's faketime moves the wall clock of the program alone.

use std::sync::{Mutex, mpsc};

use super::super::support::DEADLINE;
use super::super::support::binary::{Binary, own_address, serving};
use super::super::support::client::{Client, get};
use super::super::support::origin::Origin;
use super::super::support::proxy::proxy;
use super::super::support::wall_clock::WallClock;

/// The year of a record, as the program wrote it.
fn year_of_an_opt_out(binary: &Binary, admin: std::net::SocketAddr) -> (i32, String) {
    let mut client = Client::connect(binary.addr());
    client.send(
        "POST /privacy-choices/opt-out HTTP/1.1\r\nHost: site.test\r\nAccept: application/json\r\n\
         Content-Length: 0\r\n\r\n",
    );
    let answer = client.response("POST");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let cookie = answer.head.all("set-cookie").into_iter().find(|c| c.starts_with("optgate=")).unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let path = format!("/api/records/{}", answer["reference"].as_str().unwrap());
    let record = Client::connect(admin).get_from(&admin.to_string(), &path, "").text();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let time = record["time"].as_str().unwrap_or_else(|| panic!("{record}"));
    (time[..4].parse().unwrap(), cookie)
}

#[test]
fn a_wall_clock_that_jumps_ends_nothing_and_loses_no_choice() {
    let Some(clock) = WallClock::of("a_wall_clock_that_jumps_ends_nothing_and_loses_no_choice") else {
        return;
    };
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let origin = Origin::start()
        .on("/slow", move |x| {
            x.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nbegun")?;
            let _ = gate.lock().unwrap().recv_timeout(DEADLINE);
            x.send("ended")
        })
        .on("/silent", |x| x.tunnel().map(drop))
        .on("/asked", |x| {
            let decision = x.request().one("optgate-decision").unwrap_or_default();
            x.ok("text/plain", decision.as_bytes())
        });
    // What is under way may last for a minute; what is silent ends in two seconds.
    let settings = "[timeouts]\nbetween_bytes = \"1m\"\nfirst_byte = \"2s\"\nidle = \"1m\"\n";
    let builder = proxy().to(&origin).toml(settings);
    let (addr, admin) = (own_address(), own_address());
    let file = builder.write();
    let mut command = serving(&file, addr);
    command.args(["--admin", &admin.to_string()]);
    clock.under(&mut command);
    let binary = Binary::of(command, addr, builder.into_dir());
    let (now, _) = year_of_an_opt_out(&binary, admin);
    let mut kept = Client::connect(addr);
    let mut cookies = Vec::new();
    for years in [9, -9, 0] {
        let mut slow = Client::connect(addr);
        slow.send("GET /slow HTTP/1.1\r\nHost: site.test\r\n\r\n");
        assert_eq!((slow.final_head().status, slow.take(5)), (200, b"begun".to_vec()));
        let mut silent = Client::connect(addr);
        silent.send("GET /silent HTTP/1.1\r\nHost: site.test\r\n\r\n");
        assert_eq!(kept.get("/", "").text(), "hello");
        clock.shift(&format!("{years:+}y"));
        let (year, cookie) = year_of_an_opt_out(&binary, admin);
        assert!((year - now - years).abs() < 2, "the clock says {year}");
        cookies.push(cookie);
        assert_eq!(kept.get("/", "").text(), "hello", "a kept connection goes on");
        assert_eq!(silent.response("GET").status(), 504, "silence ends");
        release.send(()).unwrap();
        assert_eq!(slow.take(5), b"ended", "what is under way goes on");
        for cookie in &cookies {
            // A cookie of the future, too: what it says is honoured.
            let decision = get(addr, "/asked", &format!("Cookie: {cookie}\r\n")).text();
            assert_eq!(decision, "opted-out;basis=cookie", "{cookie} in {year}");
        }
    }
}
