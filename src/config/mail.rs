//! The server by which mails to recipients go out (RFC 6409, 8314).

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Host;

use super::key::KeyPath;
use super::load::Merged;
use super::meaning::{Problems, readable};

/// Longest mail address (RFC 5321, 4.5.3.1.3).
const MOST_ADDRESS: usize = 254;

/// How mails are handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The server's name or address, by which its certificate is verified.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// How the connection is kept from others.
    pub tls: MailTls,
    /// PEM file of the roots that the server's certificate must lead to; the system's without.
    pub roots: Option<PathBuf>,
    /// Whom mails are from, and answers go to.
    pub from: String,
    /// File with a user's name and password, a line each; read at every mail.
    pub credentials: Option<PathBuf>,
}

/// How a connection to a mail server is kept from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailTls {
    /// It begins in clear, and says nothing of anybody before it is in TLS.
    Starttls,
    /// From its first byte on.
    Implicit,
    /// Not at all: on loopback only.
    None,
}

impl MailTls {
    const fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }
}

/// Whether a text is an address that a mail can be sent to.
pub(super) fn is_address(text: &str) -> bool {
    text.len() <= MOST_ADDRESS
        && text.rsplit_once('@').is_some_and(|(who, host)| !who.is_empty() && !host.is_empty())
        && !text.chars().any(|c| c.is_whitespace() || c.is_control() || "<>,;".contains(c))
}

/// `None` where no server is named: then a person writes.
pub(super) fn mail(merged: &Merged, problems: &mut Problems<'_>) -> Option<Mail> {
    let written = &merged.raw.mail;
    let top = KeyPath::of("mail");
    let mut file = |key: &str, what: &str, path: &Option<_>| {
        path.as_ref().map(|path| readable(&top.key(key), path, what, problems))
    };
    let roots = file("roots", "a PEM file of roots", &written.roots);
    let credentials =
        file("credentials", "a file with a user and a password, a line each,", &written.credentials);
    let Some(server) = &written.server else {
        for (key, is_written) in [
            ("from", written.from.is_some()),
            ("roots", roots.is_some()),
            ("credentials", credentials.is_some()),
        ] {
            if is_written {
                let path = top.key(key);
                let next = "add `mail.server`, or remove the setting";
                problems.wrong(&path, format!("`{path}` has no effect"), "no server takes mails", next);
            }
        }
        return None;
    };
    let Some((host, port)) = server_of(server) else {
        let path = top.key("server");
        let next = "write its name, with a port if that is another: \"smtp.example.com:587\"";
        problems.wrong(
            &path,
            format!("`{path}` cannot be used"),
            &format!("\"{server}\" is no server"),
            next,
        );
        return None;
    };
    if written.tls == MailTls::None && !is_loopback(&host) {
        let path = top.key("tls");
        let why = "a mail says who opted out, and in clear anybody on its way could read it";
        problems.wrong(&path, format!("`{path}` is \"none\""), why, "write \"starttls\" or \"implicit\"");
    }
    let from = written.from.clone().filter(|from| from.is_ascii() && is_address(from));
    let Some(from) = from else {
        let path = top.key("from");
        let what = format!("`{path}` is missing, or no mail address in ASCII");
        let next = "write the address that recipients answer to: \"privacy@shop.example\"";
        problems.missing(&path, what, "a mail is from somebody", next);
        return None;
    };
    Some(Mail { host, port: port.unwrap_or(written.tls.port()), tls: written.tls, roots, from, credentials })
}

/// The host and the port of a server, if it is one.
fn server_of(text: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (text, None),
    };
    let host = Host::parse(host).ok()?;
    (port != Some(0)).then_some((host, port))
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => IpAddr::from(*ip).is_loopback(),
        Host::Ipv6(ip) => IpAddr::from(*ip).is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_with_or_without_a_port() {
        for (text, host, port) in [
            ("smtp.example.com", "smtp.example.com", None),
            ("smtp.example.com:2525", "smtp.example.com", Some(2525)),
            ("127.0.0.1:25", "127.0.0.1", Some(25)),
            ("[::1]:25", "[::1]", Some(25)),
            ("[::1]", "[::1]", None),
        ] {
            let (found, at) = server_of(text).unwrap();
            assert_eq!((found.to_string().as_str(), at), (host, port), "{text}");
        }
        for text in ["", "a b", "smtp.example.com:", "smtp.example.com:0", "smtp.example.com:99999", "::1:25"]
        {
            assert_eq!(server_of(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_leaves_no_room_for_another() {
        for good in ["a@b.example", "\"a@c\"@b.example", "ä@b.example"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "a", "@b", "a@", "a b@c", "a@b>", "a@b\r\nRCPT TO:<c@d", "a@b,c@d"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
