//! `DATA/cloaked-hosts.json`: the hosts that were found to lead to a vendor, for the next start.
//!
//! A start that waited for its name server, or for the page that names a host, would let those trackers through until
//! then. It is a working list and no record of anybody: whatever is wrong with it, look-ups make it again.
//!
//! ```text
//! { "version": 1, "hosts": [ { "site": "shop", "host": "metrics.shop.example", "vendor": "adobe-analytics" } ] }
//! ```

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::files;

/// The file's name.
const FILE: &str = "cloaked-hosts.json";

/// Form of the file.
const VERSION: u32 = 1;

/// Largest file that is read.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// A host that leads to a vendor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FoundHost {
    /// The site's name.
    pub site: String,
    /// The host under the site's own name.
    pub host: String,
    /// The vendor's id.
    pub vendor: String,
}

#[derive(Serialize, Deserialize)]
struct List {
    version: u32,
    hosts: Vec<FoundHost>,
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

/// What the last process found; nothing, and a warning, when that cannot be read.
#[must_use]
pub fn read(data_dir: &Path) -> Vec<FoundHost> {
    match try_read(&path(data_dir)) {
        Ok(hosts) => hosts,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            let file = path(data_dir);
            tracing::warn!(
                "{}: {error}; first-party hosts are looked up as if none was known",
                file.display()
            );
            Vec::new()
        }
    }
}

fn try_read(path: &Path) -> io::Result<Vec<FoundHost>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    let list: List = serde_json::from_slice(&bytes)?;
    match list.version {
        VERSION => Ok(list.hosts),
        other => Err(io::Error::other(format!("its form {other} is of another version"))),
    }
}

/// Keeps what is known now. Blocks for the disk.
pub fn write(data_dir: &Path, mut hosts: Vec<FoundHost>) {
    hosts.sort_unstable();
    let list = List { version: VERSION, hosts };
    let written = serde_json::to_vec_pretty(&list).map_err(io::Error::from);
    if let Err(error) = written.and_then(|bytes| files::put(&path(data_dir), &bytes)) {
        let file = path(data_dir);
        tracing::warn!("{}: {error}; the next start has to find these hosts again", file.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_read_again_and_what_cannot_be_read_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), []);
        let host = |host: &str| FoundHost { site: "shop".into(), host: host.into(), vendor: "meta".into() };
        write(dir.path(), vec![host("b.shop.example"), host("a.shop.example")]);
        assert_eq!(read(dir.path()), [host("a.shop.example"), host("b.shop.example")]);
        let large = vec![b' '; usize::try_from(MOST_BYTES).unwrap() + 1];
        for bad in [&b"{\"version\": 2, \"hosts\": []}"[..], b"[]", b"", &large] {
            std::fs::write(path(dir.path()), bad).unwrap();
            assert_eq!(read(dir.path()), []);
        }
    }
}
