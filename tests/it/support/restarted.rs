//! An origin whose process is killed and comes back at its old address: a second Optgate in front of an origin. It
//! speaks HTTP/2, too.

use std::net::SocketAddr;

use rustix::process::Signal;
use tempfile::TempDir;

use super::binary::{Binary, own_address, serving};
use super::origin::Origin;
use super::proxy::proxy;

/// The process.
pub struct Restarted {
    binary: Binary,
    /// Its settings, and the line of them that names its data folder.
    text: String,
    data_dir: String,
    addr: SocketAddr,
}

impl Restarted {
    /// Starts it.
    pub fn start(origin: &Origin) -> Self {
        let builder = proxy().to(origin);
        let (addr, file) = (own_address(), builder.write());
        let text = std::fs::read_to_string(&file).unwrap();
        let data_dir = text.lines().find(|line| line.starts_with("data_dir")).unwrap().to_owned();
        Self { binary: Binary::of(serving(&file, addr), addr, builder.into_dir()), text, data_dir, addr }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        self.binary.signal(Signal::KILL);
        self.binary.wait();
    }

    /// Starts it anew, with a folder of its own.
    pub fn again(&mut self) {
        let dir = TempDir::with_prefix("optgate-again-").unwrap();
        let file = dir.path().join("optgate.toml");
        let data_dir = format!("data_dir = {:?}", dir.path().join("data").display().to_string());
        std::fs::write(&file, self.text.replace(&self.data_dir, &data_dir)).unwrap();
        self.binary = Binary::of(serving(&file, self.addr), self.addr, dir);
    }
}
