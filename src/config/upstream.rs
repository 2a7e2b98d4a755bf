//! Origins as meant, and how their URLs are written: `http://`, `https://`, `h2c://` and `unix:`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::units::Complaint;

/// An origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Where to connect.
    pub address: UpstreamAddress,
    /// Speak TLS and verify the certificate for this name.
    pub tls: Option<UpstreamTls>,
    /// Speak HTTP/2 (prior knowledge, or ALPN with TLS).
    pub http2: bool,
    /// `Host` sent to the origin; `None` passes the visitor's.
    pub host: Option<String>,
    /// The URL as written: its name in logs and figures.
    pub label: String,
    /// Share of the requests, beside the others' weights.
    pub weight: u32,
    /// Used only while none of the others is well.
    pub backup: bool,
    /// Connections at a time, all cores together and idle ones included; `None` is no limit.
    pub max_connections: Option<usize>,
    /// Every connection begins with the client's address.
    pub proxy_protocol: ProxyProtocol,
}

impl Upstream {
    /// Whether another is the same server, whatever else is said of it: scheme, host and port.
    #[must_use]
    pub fn is_same_origin(&self, other: &Self) -> bool {
        self.address == other.address && self.tls.is_some() == other.tls.is_some()
    }
}

/// Form of a PROXY protocol header that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyProtocol {
    /// None.
    #[default]
    Off,
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// Where an origin listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamAddress {
    /// Host name or address, and port.
    Tcp {
        /// Name or address, brackets of IPv6 removed.
        host: String,
        /// Port.
        port: u16,
    },
    /// Path of a Unix socket.
    Unix(PathBuf),
}

impl UpstreamAddress {
    /// What the origin is called by who speaks to it and knows no other name; a Unix socket is this machine's.
    #[must_use]
    pub fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// How an origin's certificate is verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// Name the certificate must hold, also sent as SNI.
    pub server_name: String,
    /// PEM file of roots instead of the system's.
    pub roots: Option<PathBuf>,
}

/// An origin's URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginUrl {
    /// As written.
    pub text: String,
    /// Where to connect.
    pub address: UpstreamAddress,
    /// Name to verify, for `https`.
    pub tls: Option<UpstreamTls>,
    /// HTTP/2 with prior knowledge, for `h2c`.
    pub http2: bool,
}

const NEXT: &str = "write \"http://127.0.0.1:3000\", \"https://origin.example\", \"h2c://127.0.0.1:50051\" or \
                    \"unix:/run/shop.sock\"";

/// Reads an origin. The URL names a server and nothing else: paths, queries and passwords are refused,
/// because they would have no effect.
///
/// # Errors
/// Another scheme, no host, or parts that would be ignored.
pub fn parse(text: &str) -> Result<OriginUrl, Complaint> {
    if let Some(path) = text.strip_prefix("unix:") {
        return parse_unix(text, path);
    }
    if !text.contains("://") {
        return Err(Complaint::new(format!("\"{text}\" has no scheme"), no_scheme_hint(text)));
    }
    // `h2c` is no special scheme to the WHATWG parser, which would keep its host unparsed.
    let (plain, http2) = match text.strip_prefix("h2c://") {
        Some(rest) => (format!("http://{rest}"), true),
        None => (text.to_owned(), false),
    };
    let url =
        Url::parse(&plain).map_err(|error| Complaint::new(format!("\"{text}\" is no URL: {error}"), NEXT))?;
    let secure = match url.scheme() {
        "http" => false,
        "https" => true,
        other => return Err(Complaint::new(format!("`{other}` is no scheme of an origin"), NEXT)),
    };
    refuse_extras(&url)?;
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(ip)) => ip.to_string(),
        Some(Host::Ipv6(ip)) => ip.to_string(),
        None => return Err(Complaint::new(format!("\"{text}\" has no host"), NEXT)),
    };
    let port = match url.port_or_known_default() {
        Some(0) => return Err(Complaint::new("nothing listens on port 0", NEXT)),
        Some(port) => port,
        None => return Err(Complaint::new(format!("\"{text}\" has no port"), NEXT)),
    };
    let tls = secure.then(|| UpstreamTls { server_name: host.clone(), roots: None });
    Ok(OriginUrl { text: text.to_owned(), address: UpstreamAddress::Tcp { host, port }, tls, http2 })
}

fn parse_unix(text: &str, path: &str) -> Result<OriginUrl, Complaint> {
    // `unix:///run/x` is how curl and Docker write it.
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Complaint::new(
            format!("\"{text}\" names no absolute path"),
            "write the socket's whole path: \"unix:/run/shop.sock\"",
        ));
    }
    Ok(OriginUrl {
        text: text.to_owned(),
        address: UpstreamAddress::Unix(PathBuf::from(path)),
        tls: None,
        http2: false,
    })
}

fn no_scheme_hint(text: &str) -> String {
    let guess = format!("http://{text}");
    match Url::parse(&guess) {
        Ok(url) if !text.is_empty() && url.host().is_some() => format!("write \"{guess}\" if that was meant"),
        _ => NEXT.to_owned(),
    }
}

fn refuse_extras(url: &Url) -> Result<(), Complaint> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Complaint::new(
            "a user name or password in an origin's URL is not sent to it",
            "remove everything between // and @",
        ));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(Complaint::new(
            "an origin is a server: the path and query of every request are the visitor's",
            "remove everything after the port",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> UpstreamAddress {
        UpstreamAddress::Tcp { host: host.into(), port }
    }

    #[test]
    fn the_four_schemes_are_read() {
        let http = parse("http://127.0.0.1:3000").unwrap();
        assert_eq!((http.address, http.tls, http.http2), (tcp("127.0.0.1", 3000), None, false));
        let https = parse("https://Origin.Example/").unwrap();
        assert_eq!(https.address, tcp("origin.example", 443));
        assert_eq!(https.tls.unwrap().server_name, "origin.example");
        let h2c = parse("h2c://[::1]:50051").unwrap();
        assert_eq!((h2c.address, h2c.http2), (tcp("::1", 50051), true));
        for text in ["unix:/run/a.sock", "unix:///run/a.sock"] {
            assert_eq!(parse(text).unwrap().address, UpstreamAddress::Unix("/run/a.sock".into()));
        }
    }

    /// What would be ignored is refused: a path in the URL is the commonest wrong guess.
    #[test]
    fn urls_with_parts_that_would_be_ignored_are_refused() {
        for text in [
            "http://a/shop",
            "http://a/?x",
            "http://a/#x",
            "http://u:p@a/",
            "ftp://a",
            "http://",
            "a:3000",
            "",
            "unix:relative",
            "http://a:0",
            "http://a b",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(
            parse("localhost:3000").unwrap_err().next,
            "write \"http://localhost:3000\" if that was meant"
        );
    }
}
