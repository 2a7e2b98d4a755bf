//! The second wall's settings: its mode, and the sources an operator approved.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Host;

use super::units::Complaint;

/// A Content-Security-Policy of our own on opted-out documents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Csp {
    /// Whether there is one, and whether it blocks.
    pub mode: CspMode,
    /// Third parties that it lets in, sorted, each once.
    pub allow: Vec<CspSource>,
}

/// What the second wall does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CspMode {
    /// There is none.
    #[default]
    Off,
    /// Report-only: third parties are listed, nothing is blocked.
    Learn,
    /// Third parties that are not allowed are blocked.
    Enforce,
}

impl CspMode {
    /// The word used in settings and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Learn => "learn",
            Self::Enforce => "enforce",
        }
    }
}

/// A host source (CSP3, 2.3.1): what a third party is reached at. Lower-case ASCII.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CspSource {
    /// Every subdomain of the host, and not the host itself.
    pub wildcard: bool,
    /// Host name.
    pub host: String,
    /// `https`, `http`, `wss` or `ws`; without one, the page's own and its safer forms.
    pub scheme: Option<String>,
    /// A number, or `*`.
    pub port: Option<String>,
    /// Starts with `/`; a prefix when it ends with one, else exact.
    pub path: Option<String>,
}

impl fmt::Display for CspSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = &self.scheme {
            write!(f, "{scheme}://")?;
        }
        let dots = if self.wildcard { "*." } else { "" };
        write!(f, "{dots}{}", self.host)?;
        if let Some(port) = &self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.path.as_deref().unwrap_or_default())
    }
}

/// Reads one source.
pub(super) fn parse(text: &str) -> Result<CspSource, Complaint> {
    let refuse =
        |why: String| Complaint::new(why, "write a host like \"cdn.example.com\" or \"*.example.com\"");
    if text.starts_with('\'') || text == "*" || text.ends_with(':') {
        return Err(refuse(format!("`{text}` lets in more than one third party")));
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, text),
    };
    if let Some(scheme) = scheme.as_deref().filter(|s| !matches!(*s, "https" | "http" | "wss" | "ws")) {
        return Err(refuse(format!("`{scheme}` leads to no host")));
    }
    let (authority, path) = match rest.find('/') {
        Some(at) => (&rest[..at], Some(rest[at..].to_owned())),
        None => (rest, None),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~%!$&()*+=:@".contains(&b);
    if path.as_deref().is_some_and(|path| !path.bytes().all(plain)) {
        return Err(refuse(format!(
            "\"{text}\" has a path that no policy can hold (no query, no `;` or `,`)"
        )));
    }
    let (name, port) = match authority.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (authority, None),
    };
    if port.is_some_and(|port| port != "*" && port.parse::<u16>().is_err()) {
        return Err(refuse(format!("\"{text}\" has no port behind its colon")));
    }
    let (wildcard, name) = match name.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    let host = match Host::parse(name.trim_end_matches('.')) {
        Ok(Host::Domain(host)) if is_name(&host) => host,
        Ok(Host::Ipv4(address)) if !wildcard => address.to_string(),
        _ => return Err(refuse(format!("\"{text}\" names no host"))),
    };
    // Below a public suffix lie the sites of everybody.
    if wildcard && psl::domain_str(&host).is_none() {
        return Err(refuse(format!("\"{text}\" lets in more than one third party")));
    }
    Ok(CspSource { wildcard, host, scheme, port: port.map(str::to_owned), path })
}

/// The URL parser takes more than names in use hold, `,` and `;` among it.
fn is_name(host: &str) -> bool {
    host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && (host.contains('.') || host == "localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CSP3, 2.3.1, `host-source`; what it is written back as is what goes into the policy.
    #[test]
    fn a_source_is_a_host_with_what_narrows_it() {
        for (text, shown) in [
            ("cdn.example", "cdn.example"),
            ("CDN.Example.", "cdn.example"),
            ("*.cdn.example", "*.cdn.example"),
            ("https://cdn.example:8443/lib/", "https://cdn.example:8443/lib/"),
            ("wss://live.example:*", "wss://live.example:*"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("127.0.0.1:3000", "127.0.0.1:3000"),
            ("localhost:3000", "localhost:3000"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    /// One entry must not open the wall, nor break out of its directive.
    #[test]
    fn what_opens_the_wall_or_breaks_the_policy_is_refused() {
        for text in [
            "*",
            "https:",
            "'unsafe-inline'",
            "*.com",
            "*.co.uk",
            "*.localhost",
            "com",
            "a b.example",
            "a.example; script-src *",
            "a.example,b.example",
            "a.example/x?y",
            "a.example/x;y",
            "a.example:port",
            "ftp://a.example",
            "",
            "https://",
            "*.*.example.com",
            "a.example/x y",
            "*.127.0.0.1",
            "user@a.example",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
