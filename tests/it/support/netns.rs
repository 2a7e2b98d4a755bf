//! A network namespace of a test's own, with two cables into this one; the second can be broken in the ways that a
//! kernel knows.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Runs `ip` with these words; what it says when it fails.
fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split(' ')).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// A namespace with one cable to visitors and one to an origin or a database; gone when dropped.
pub struct Lab {
    name: String,
    net: u32,
}

impl Lab {
    /// Names and addresses are this process's own.
    pub fn build() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (id, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { name: format!("og{id}{}", ['a', 'b', 'c'][n as usize]), net: (id + n * 83) % 250 };
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
    pub fn front(&self) -> SocketAddr {
        format!("10.213.{}.18:8080", self.net).parse().unwrap()
    }

    /// Where visitors come from.
    pub fn visitors(&self) -> String {
        format!("10.213.{}.17", self.net)
    }

    /// Where the origin is, for Optgate.
    pub fn origin(&self) -> String {
        format!("10.213.{}.33", self.net)
    }

    /// The same command, to run in there, its output to be read.
    pub fn inside(&self, command: &Command) -> Command {
        let mut outer = Command::new("ip");
        outer.args(["netns", "exec", &self.name]).arg(command.get_program()).args(command.get_args());
        outer.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        outer
    }

    /// Breaks the way to the origin, or mends it.
    pub fn set(&self, fault: Fault, broken: bool) {
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
pub enum Fault {
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
