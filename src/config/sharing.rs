//! How requests are shared out among a site's origins, and when an origin is left out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::key::KeyPath;
use super::meaning::{Problems, within};
use super::raw::{RawHealth, RawOutlier, RawSite, RawSiteHealth};
use super::units::Complaint;

/// Most origins of one site: as many as a word has bits.
pub const MOST_ORIGINS: usize = 64;

/// Which origin of several gets a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// Each in turn, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest requests under way for its weight.
    LeastConnections,
    /// The same one for the same key.
    ConsistentHash,
    /// The one that a cookie names; without it, each in turn.
    StickyCookie,
}

/// The key of `consistent-hash`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HashOn {
    /// The client's address.
    #[default]
    Address,
    /// A request header; the address where it is absent.
    Header(http::HeaderName),
    /// A cookie; the address where it is absent.
    Cookie(String),
}

/// Whether an answer of the origin counts as its failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum BadAnswers {
    /// No answer does.
    #[serde(rename = "none")]
    None,
    /// 502, 503 and 504 do.
    #[default]
    #[serde(rename = "gateway")]
    Gateway,
    /// Every 5xx does.
    #[serde(rename = "5xx")]
    Server,
}

impl BadAnswers {
    /// Whether a status counts as a failure.
    #[must_use]
    pub const fn holds(self, status: u16) -> bool {
        match self {
            Self::None => false,
            Self::Gateway => matches!(status, 502..=504),
            Self::Server => matches!(status, 500..=599),
        }
    }
}

/// A site's origins as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sharing {
    /// Which origin gets a request.
    pub balance: Balance,
    /// Key of `consistent-hash`.
    pub hash_on: HashOn,
    /// Name of the cookie of `sticky-cookie`.
    pub cookie: String,
    /// How long an origin that came back gets less than its share; zero: at once.
    pub slow_start: Duration,
    /// Active checks; none where no path is set.
    pub health: Option<Health>,
}

/// Active checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Path asked for, with its query.
    pub path: String,
    /// Between two checks of one origin.
    pub interval: Duration,
    /// From connecting to the answer's head.
    pub timeout: Duration,
    /// Statuses that are well, both included.
    pub status: (u16, u16),
    /// Good checks in a row that bring an origin back.
    pub rises: u32,
    /// Bad checks in a row that take it out.
    pub falls: u32,
    /// `Host` of the checks; the origin's or the site's where none is set.
    pub host: Option<String>,
}

/// Passive checks: what visitors' requests show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlier {
    /// Failures in a row that eject an origin; 0: none is ejected.
    pub failures: u32,
    /// Answers that count as failures.
    pub answers: BadAnswers,
    /// First ejection; each further one in a row is longer by as much.
    pub ejection: Duration,
    /// Longest ejection.
    pub longest: Duration,
    /// Share of a site's origins that may be ejected at a time, percent; one always may.
    pub most_percent: u32,
    /// With a smaller share of origins well, all are used, percent.
    pub panic_percent: u32,
}

/// Reads `"address"`, `"header:NAME"` or `"cookie:NAME"`.
///
/// # Errors
/// Anything else.
pub fn parse_hash_on(text: &str) -> Result<HashOn, Complaint> {
    const NEXT: &str = "write \"address\", \"header:X-Tenant\" or \"cookie:session\"";
    let refuse = |why: String| Err(Complaint::new(why, NEXT));
    match text.split_once(':') {
        None if text == "address" => Ok(HashOn::Address),
        Some(("header", name)) => match name.parse() {
            Ok(name) => Ok(HashOn::Header(name)),
            Err(_) => refuse(format!("\"{name}\" is no header name (RFC 9110, section 5.1)")),
        },
        Some(("cookie", name)) if is_cookie_name(name) => Ok(HashOn::Cookie(name.to_owned())),
        Some(("cookie", name)) => refuse(format!("\"{name}\" is no cookie name (RFC 6265, section 4.1.1)")),
        _ => refuse(format!("\"{text}\" is nothing that a request has")),
    }
}

/// Writes a key as it is read.
#[must_use]
pub fn show_hash_on(key: &HashOn) -> String {
    match key {
        HashOn::Address => "address".to_owned(),
        HashOn::Header(name) => format!("header:{name}"),
        HashOn::Cookie(name) => format!("cookie:{name}"),
    }
}

/// Reads a range of statuses, `"200-399"` or `"204"`.
///
/// # Errors
/// No status, or a range that ends before it begins.
pub fn parse_statuses(text: &str) -> Result<(u16, u16), Complaint> {
    const NEXT: &str = "write a status like \"200\" or a range like \"200-399\"";
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|s| (200..=599).contains(s));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(Complaint::new(format!("\"{text}\" is no range of final statuses (200 to 599)"), NEXT)),
    }
}

/// Reads the name of the sticky cookie.
///
/// # Errors
/// No cookie name, or our own cookie's.
pub fn parse_cookie_name(text: &str) -> Result<String, Complaint> {
    const NEXT: &str = "write a name like \"optgate_origin\"";
    if text == crate::privacy::cookie::NAME {
        return Err(Complaint::new("that is the cookie of the opt-out", NEXT));
    }
    if !is_cookie_name(text) {
        return Err(Complaint::new(format!("\"{text}\" is no cookie name (RFC 6265, section 4.1.1)"), NEXT));
    }
    Ok(text.to_owned())
}

/// Whether a text can be a cookie's name (RFC 6265, 4.1.1).
pub(super) fn is_cookie_name(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(token)
}

/// A site's checks: its own settings over those of all sites; `None` without a path.
pub(super) fn health(
    all: &RawHealth,
    path: &KeyPath,
    site: &RawSite,
    problems: &mut Problems<'_>,
) -> Option<Health> {
    let own: &RawSiteHealth = &site.health;
    let asked = own.path.as_ref().or(all.path.as_ref())?;
    let here = |name: &str, written: bool| match written {
        true => path.key("health").key(name),
        false => KeyPath::of("health").key(name),
    };
    let plain = |b: u8| b.is_ascii_graphic() && b != b'#';
    if !asked.starts_with('/') || !asked.bytes().all(plain) {
        let path = here("path", own.path.is_some());
        problems.wrong(
            &path,
            format!("`{path}` cannot be used"),
            &format!("\"{asked}\" is no path as it stands in a request: it starts with a slash"),
            "write a path like \"/healthz\"",
        );
    }
    let host = own.host.as_ref().or(all.host.as_ref());
    if host.is_some_and(|host| http::uri::Authority::try_from(host.as_str()).is_err()) {
        let path = here("host", own.host.is_some());
        problems.wrong(
            &path,
            format!("`{path}` is no host"),
            "it is sent to the origin as `Host` (RFC 9110, section 7.2)",
            "write a name, with a port if it needs one: \"shop.internal\"",
        );
    }
    let interval = own.interval.as_ref().unwrap_or(&all.interval).0;
    let timeout = own.timeout.as_ref().unwrap_or(&all.timeout).0;
    for (name, value, written) in
        [("interval", interval, own.interval.is_some()), ("timeout", timeout, own.timeout.is_some())]
    {
        if value < Duration::from_millis(100) {
            let path = here(name, written);
            problems.wrong(
                &path,
                format!("`{path}` is too short"),
                "origins would be asked without a pause, or never be waited for",
                "write 100ms or more",
            );
        }
    }
    let mut count = |name: &str, own: Option<u32>, all: u32| {
        let value = own.unwrap_or(all);
        within(here(name, own.is_some()), value.into(), 1, 1_000, problems);
        value
    };
    Some(Health {
        path: asked.clone(),
        interval,
        timeout,
        status: own.status.as_ref().unwrap_or(&all.status).0,
        rises: count("rises", own.rises, all.rises),
        falls: count("falls", own.falls, all.falls),
        host: host.cloned(),
    })
}

/// Passive checks, for all sites.
pub(super) fn outlier(raw: &RawOutlier, problems: &mut Problems<'_>) -> Outlier {
    within("outlier.failures", raw.failures.into(), 0, 10_000, problems);
    within("outlier.most_percent", raw.most_percent.into(), 0, 100, problems);
    within("outlier.panic_percent", raw.panic_percent.into(), 0, 100, problems);
    if raw.longest.0 < raw.ejection.0 {
        problems.wrong(
            &KeyPath::of("outlier.longest"),
            "`outlier.longest` is shorter than `outlier.ejection`".to_owned(),
            "the first ejection would already be longer than the longest",
            "raise `outlier.longest`, or lower `outlier.ejection`",
        );
    }
    Outlier {
        failures: raw.failures,
        answers: raw.answers,
        ejection: raw.ejection.0,
        longest: raw.longest.0,
        most_percent: raw.most_percent,
        panic_percent: raw.panic_percent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_statuses_are_read_as_documented() {
        for text in ["address", "header:x-tenant", "cookie:session"] {
            assert_eq!(show_hash_on(&parse_hash_on(text).unwrap()), text);
        }
        for text in ["", "ip", "header:", "header:a b", "cookie:", "cookie:a;b", "query:x"] {
            assert!(parse_hash_on(text).is_err(), "{text}");
        }
        assert_eq!(parse_statuses("200-399").unwrap(), (200, 399));
        assert_eq!(parse_statuses("204").unwrap(), (204, 204));
        for text in ["", "100", "399-200", "200-", "2xx", "200-600"] {
            assert!(parse_statuses(text).is_err(), "{text}");
        }
    }

    /// The opt-out must not be overwritten by an origin's name.
    #[test]
    fn the_sticky_cookie_cannot_have_the_name_of_the_opt_out() {
        assert!(parse_cookie_name("optgate").is_err());
        assert!(parse_cookie_name("a=b").is_err());
        assert_eq!(parse_cookie_name("optgate_origin").unwrap(), "optgate_origin");
    }
}
