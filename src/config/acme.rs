//! Certificates from an authority that speaks ACME (RFC 8555).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::key::KeyPath;
use super::load::Merged;
use super::meaning::{self, Problems};
use super::raw::RawAcme;

/// Certificates that Optgate fetches itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// URL of the authority's directory.
    pub directory: String,
    /// PEM file of the root by which the authority's own server is verified, instead of the system's.
    pub roots: Option<PathBuf>,
    /// Names to get a certificate for, one each; lower-case ASCII, at least one.
    pub hosts: Vec<String>,
    /// Where the authority may write to, as URLs (`mailto:`).
    pub contact: Vec<String>,
    /// How a name is proven; each failure leads to the next, in turn. At least one.
    pub challenges: Vec<Challenge>,
}

/// How an authority sees that a name leads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Challenge {
    /// It asks for a file on port 80 (RFC 8555, 8.3).
    #[serde(rename = "http-01")]
    Http,
    /// It looks at a certificate on port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn,
}

/// `None` where no host is named.
pub(super) fn acme(merged: &Merged, problems: &mut Problems<'_>) -> Option<Acme> {
    let written = &merged.raw.acme;
    let roots = written.roots.as_ref();
    let roots =
        roots.map(|r| meaning::readable(&KeyPath::of("acme.roots"), r, "a PEM file with a root", problems));
    let hosts = hosts(written, problems);
    if written.hosts.0.is_empty() {
        return None;
    }
    check(merged, problems);
    Some(Acme {
        directory: written.directory.clone(),
        roots,
        hosts,
        contact: written.contact.0.clone(),
        challenges: written.challenges.0.clone(),
    })
}

fn hosts(written: &RawAcme, problems: &mut Problems<'_>) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for (i, host) in written.hosts.0.iter().enumerate() {
        match Host::parse(host.trim_end_matches('.')) {
            Ok(Host::Domain(domain)) if !domain.contains('*') => hosts.push(domain),
            _ => {
                let path = KeyPath::of("acme.hosts").at(i);
                problems.wrong(
                    &path,
                    format!("`{path}` is no host name"),
                    &format!(
                        "\"{host}\": these challenges prove single names, no wildcards and no addresses"
                    ),
                    "write each name alone: \"www.example.com\"; a wildcard's certificate goes into \
                     [[tls.certificates]]",
                );
            }
        }
    }
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

fn check(merged: &Merged, problems: &mut Problems<'_>) {
    let (raw, written) = (&merged.raw, &merged.raw.acme);
    let mut wrong = |key: &str, what: &str, why: &str, next: &str| {
        let path = KeyPath::of("acme").key(key);
        problems.wrong(&path, format!("`{path}` {what}"), why, next);
    };
    if !written.terms_agreed {
        wrong(
            "terms_agreed",
            "is not true",
            "the authority gives certificates only to those who agree to its terms of service",
            "read them (the directory's `termsOfService`), then set `terms_agreed = true`",
        );
    }
    if !Url::parse(&written.directory).is_ok_and(|url| url.scheme() == "https" && url.has_host()) {
        wrong(
            "directory",
            "is no https URL",
            "ACME is spoken by https only (RFC 8555, 6.1)",
            "write the directory's URL",
        );
    }
    if let Some(i) = written.contact.0.iter().position(|contact| !contact.starts_with("mailto:")) {
        let next = "write it as a URL: \"mailto:ops@example.com\"";
        wrong(&format!("contact.{i}"), "is no mail address", "authorities write mails", next);
    }
    if written.challenges.0.is_empty() {
        wrong("challenges", "is empty", "no name could be proven", "name one, or remove the setting");
    }
    if raw.tls.listen.0.is_empty() {
        let next = "add `tls.listen`, or remove the hosts";
        wrong("hosts", "needs `tls.listen`", "no listener would show the certificates", next);
    }
    if raw.listen.0.is_empty() && written.challenges.0 == [Challenge::Http] {
        let next = "add `listen`, or use \"tls-alpn-01\"";
        wrong("challenges", "needs `listen`", "http-01 is answered in clear, and no listener is", next);
    }
}
