//! Where Optgate listens: TCP addresses and Unix sockets.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::key::KeyPath;
use super::meaning::Problems;
use super::raw::Raw;
use super::units::{Complaint, parse_listen};
use super::written::RawListen;

/// Who may connect to a Unix socket where nothing else is said: its user and group.
const DEFAULT_MODE: u32 = 0o660;

/// Longest path of a Unix socket: sun_path holds 108 bytes (unix(7)), with a zero and, for a moment, ".new".
const LONGEST_PATH: usize = 103;

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub at: ListenAt,
    /// Every connection begins with a PROXY protocol header.
    pub proxy_protocol: bool,
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAt {
    /// An address and port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Its file.
        path: PathBuf,
        /// Permission bits of the file.
        mode: u32,
    },
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self { at: ListenAt::Tcp(address), proxy_protocol: false }
    }
}

impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}

/// Reads an address or `unix:/PATH`.
///
/// # Errors
/// As [`parse_listen`], or a path that is not absolute.
pub fn parse(text: &str) -> Result<ListenAt, Complaint> {
    let Some(path) = text.strip_prefix("unix:") else { return parse_listen(text).map(ListenAt::Tcp) };
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') || path.contains('\0') || path.len() > LONGEST_PATH {
        return Err(Complaint::new(
            format!("\"{text}\" names no absolute path of at most {LONGEST_PATH} bytes"),
            "write the socket's whole path: \"unix:/run/optgate/http.sock\"",
        ));
    }
    Ok(ListenAt::Unix { path: PathBuf::from(path), mode: DEFAULT_MODE })
}

/// Writes where a listener is, as it is read.
#[must_use]
pub fn show(at: &ListenAt) -> String {
    at.to_string()
}

/// Reads permission bits as `chmod` does.
///
/// # Errors
/// No octal number, or bits beyond reading and writing.
pub fn parse_mode(text: &str) -> Result<u32, Complaint> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !0o777 == 0 => Ok(mode),
        _ => Err(Complaint::new(
            format!("\"{text}\" is no octal number of permission bits"),
            "write it as chmod takes it: \"0660\" for user and group, \"0666\" for everybody",
        )),
    }
}

/// The listeners of one setting.
pub(super) fn listeners(
    raw: &Raw,
    top: &KeyPath,
    written: &[RawListen],
    problems: &mut Problems<'_>,
) -> Vec<Listen> {
    let mut out = Vec::new();
    for (i, one) in written.iter().enumerate() {
        let table = match one {
            RawListen::Address(at) => {
                out.push(Listen { at: at.0.clone(), proxy_protocol: false });
                continue;
            }
            RawListen::Table(table) => table,
        };
        let path = if written.len() > 1 { top.at(i) } else { top.clone() };
        let Some(address) = &table.address else {
            let path = path.key("address");
            problems.missing(
                &path,
                format!("`{path}` is missing"),
                "the table says how to listen, but not where",
                "add address = \"127.0.0.1:8080\"",
            );
            continue;
        };
        let mut at = address.0.clone();
        match (&mut at, &table.mode) {
            (ListenAt::Unix { mode, .. }, Some(written)) => *mode = written.0,
            (ListenAt::Tcp(_), Some(_)) => {
                let path = path.key("mode");
                problems.wrong(
                    &path,
                    format!("`{path}` needs a Unix socket"),
                    "a port has no file whose permissions could be set",
                    "remove `mode`, or write the address as \"unix:/PATH\"",
                );
            }
            (_, None) => {}
        }
        if table.proxy_protocol && raw.trusted_proxies.0.is_empty() {
            let path = path.key("proxy_protocol");
            problems.wrong(
                &path,
                format!("`{path}` needs `trusted_proxies`"),
                "anyone could claim any address: the header is taken from trusted peers only, and none is named",
                "add the balancer's addresses to `trusted_proxies` (a Unix socket's peer is 127.0.0.1)",
            );
        }
        out.push(Listen { at, proxy_protocol: table.proxy_protocol });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_sockets_and_modes_are_read_as_documented() {
        for text in ["unix:/run/o.sock", "unix:///run/o.sock"] {
            assert_eq!(show(&parse(text).unwrap()), "unix:/run/o.sock");
        }
        assert_eq!(show(&parse("[::1]:80").unwrap()), "[::1]:80");
        for text in ["unix:", "unix:o.sock", &format!("unix:/{}", "x".repeat(LONGEST_PATH))] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse_mode("0660").unwrap(), 0o660);
        for text in ["", "rw", "1777", "0o660", "999"] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
    }
}
