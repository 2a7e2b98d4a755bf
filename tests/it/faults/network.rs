//! Partitions as the kernel makes them: Optgate runs in a network namespace of its own, with one cable to its
//! visitors and one to its origin, which is cut (link down) or leads nowhere (blackhole routes).

use super::super::support::binary::{Binary, command};
use super::super::support::client::{Client, get};
use super::super::support::netns::{Fault, Lab};
use super::super::support::origin::Origin;
use super::super::support::proxy::proxy;
use super::super::support::{skipped, wait_until};
use super::{SHORT, head, read};

/// During a partition requests end by their timeouts with 502 or 504 and downloads are cut; when it heals,
/// requests are served at once, over connections that work.
#[test]
fn a_partition_is_a_bad_gateway_and_heals() {
    let lab = match Lab::build() {
        Ok(lab) => lab,
        Err(why) => {
            return skipped(
                "a_partition_is_a_bad_gateway_and_heals",
                &format!("no network namespace: {why}"),
            );
        }
    };
    let origin = Origin::start_at(&format!("{}:0", lab.origin())).on("/endless", |x| {
        x.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            x.chunk(&[b'x'; 1_000])?;
        }
    });
    // An origin that speaks HTTP/2: Optgate itself.
    let behind = proxy().replacing("127.0.0.1:0", &format!("{}:0", lab.origin())).to(&origin).run();
    let sites = format!(
        "[[sites]]\nname = \"one\"\nhosts = [\"site.test\"]\nupstream = {:?}\n\
         [[sites]]\nname = \"two\"\nhosts = [\"h2.test\"]\nupstream = \"h2c://{}\"\n",
        origin.url(),
        behind.addr()
    );
    let builder = proxy().toml(SHORT).toml(&sites);
    let file = builder.write();
    let front = lab.front();
    let mut inner = command(&file);
    inner.args(["--listen", &front.to_string(), "--log-level", "info"]);
    let binary = Binary::of(lab.inside(&inner), front, builder.into_dir());
    let ask = |host: &str| Client::connect(front).get_from(host, "/", "");
    let both = ["site.test", "h2.test"];
    for host in both {
        assert_eq!(ask(host).text(), "hello");
    }
    let descriptors = binary.descriptors();
    for fault in [Fault::Cable, Fault::WayBack, Fault::WayThere] {
        let mut downloads: Vec<_> = both
            .map(|host| {
                let mut client = Client::connect(front);
                client.send(format!("GET /endless HTTP/1.1\r\nHost: {host}\r\n\r\n"));
                assert_eq!(client.final_head().status, 200, "{fault:?}");
                assert!(client.count(10_000) >= 10_000);
                client
            })
            .into();
        lab.set(fault, true);
        for host in both {
            let mut client = Client::connect(front);
            client.send(head("/", "Connection: close\r\n").replace("site.test", host));
            let status = read(&mut client).map(|(status, ..)| status);
            assert!(matches!(status, Some(502 | 504)), "{fault:?}, {host}: {status:?}");
        }
        for client in &mut downloads {
            assert!(!client.rest().ends_with(b"0\r\n\r\n"), "{fault:?}: it never looks whole");
        }
        lab.set(fault, false);
        for host in both {
            // The neighbour's address must be found out again first.
            wait_until("it has healed", || ask(host).status() == 200);
            assert_eq!(ask(host).text(), "hello", "{fault:?}, {host}");
        }
    }
    wait_until("descriptors are back", || binary.descriptors() <= descriptors + 2);
    assert_eq!(get(front, "/", "").text(), "hello");
}
