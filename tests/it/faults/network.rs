//! Partitions as the kernel makes them: Optgate runs in a network namespace of its own, with one cable to its
//! visitors and one to its origin, which is cut (link down) or leads nowhere (blackhole routes).

use std::net::SocketAddr;
use std::process::Command;

use super::super::support::binary::{Binary, command};
use super::super::support::client::{Client, get};
use super::super::support::origin::Origin;
use super::super::support::proxy::proxy;
use super::super::support::{skipped, wait_until};
use super::{SHORT, head, read};

/// Runs `ip` with these words; what it says when it fails.
fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split(' ')).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// A namespace with two cables into this one; gone when dropped.
struct Lab {
    name: String,
    net: u32,
}

impl Lab {
    /// Names and addresses are this process's own.
    fn build() -> Result<Self, String> {
        let id = std::process::id();
        let lab = Self { name: format!("og{id}"), net: id % 250 };
        let (name, net) = (&lab.name, lab.net);
        ip(&format!("netns add {name}"))?;
        ip(&format!("-n {name} link set lo up"))?;
        for (cable, side) in [("v", 1), ("o", 2)] {
            ip(&format!("link add {name}{cable} type veth peer name {cable} netns {name}"))?;
            ip(&format!("addr add 10.213.{net}.{}/29 dev {name}{cable}", side * 16 + 1))?;
            ip(&format!("link set {name}{cable} up"))?;
            ip(&format!("-n {name} addr add 10.213.{net}.{}/29 dev {cable}", side * 16 + 2))?;
            ip(&format!("-n {name} link set {cable} up"))?;
        }
        Ok(lab)
    }

    /// Where Optgate listens for visitors.
    fn front(&self) -> SocketAddr {
        format!("10.213.{}.18:8080", self.net).parse().unwrap()
    }

    /// Where the origin is, for Optgate.
    fn origin(&self) -> String {
        format!("10.213.{}.33", self.net)
    }

    /// Breaks the way to the origin, or mends it.
    fn set(&self, fault: Fault, broken: bool) {
        let (name, net) = (&self.name, self.net);
        let route = if broken { "add" } else { "del" };
        let done = match fault {
            Fault::Cable => ip(&format!("link set {name}o {}", if broken { "down" } else { "up" })),
            Fault::WayBack => ip(&format!("route {route} blackhole 10.213.{net}.34/32")),
            Fault::WayThere => ip(&format!("-n {name} route {route} unreachable {}/32", self.origin())),
        };
        done.unwrap();
    }
}

/// What a partition is made of.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The cable to the origin is pulled out on its far side.
    Cable,
    /// The origin's answers lead into a black hole.
    WayBack,
    /// There is no way to it, and the kernel says so.
    WayThere,
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Both ends of its cables go with it.
        let _ = ip(&format!("netns del {}", self.name));
    }
}

/// DESIGN 5: during a partition requests end by their timeouts with 502 or 504 and downloads are cut; when it heals,
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
    let mut outer = Command::new("ip");
    outer.args(["netns", "exec", &lab.name]).arg(inner.get_program()).args(inner.get_args());
    outer.stdin(std::process::Stdio::null());
    outer.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let binary = Binary::of(outer, front, builder.into_dir());
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
