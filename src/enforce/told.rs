//! What opted-out pages tell us at `PREFIX/report`: violations of the second wall, the guard's counts.
//!
//! Anybody can send such a report, so that nothing here may cost much or be believed far: sizes are bounded,
//! words come from closed sets, and of an address only the host is kept.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::{Host, Url};

/// Reports of one body that are read; browsers send a handful.
const MOST_REPORTS: usize = 100;

/// Hosts of one count that are read.
const MOST_HOSTS: usize = 200;

/// Most that one page is believed to have blocked of one host.
const MOST_COUNTED: u64 = 1_000;

/// Directives that limit where something is fetched from (CSP3, 6.1).
const DIRECTIVES: [&str; 17] = [
    "child-src",
    "connect-src",
    "default-src",
    "fenced-frame-src",
    "font-src",
    "frame-src",
    "img-src",
    "manifest-src",
    "media-src",
    "object-src",
    "prefetch-src",
    "script-src",
    "script-src-elem",
    "style-src",
    "style-src-attr",
    "style-src-elem",
    "worker-src",
];

/// A third party that the wall met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// Its host, with the port if that is not the scheme's own.
    pub host: String,
    /// What it was asked for.
    pub directive: &'static str,
}

/// What one body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Violations on pages of the host asked, by third parties.
    Wall(Vec<Met>),
    /// The guard's counts, by host.
    Guard {
        /// Requests it stopped.
        blocked: BTreeMap<String, u64>,
        /// Requests it saw after they had left.
        /// The guard's own page says how many and not of whom: they stand under the empty name.
        slipped: BTreeMap<String, u64>,
    },
}

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Not a media type of reports.
    MediaType,
    /// Not the JSON that the type promises.
    Malformed,
}

#[derive(Deserialize)]
struct Wrapped {
    #[serde(rename = "csp-report")]
    report: Violation,
}

/// Both forms: `report-uri` (CSP3, 5.3) and the Reporting API (CSP3, 5.4).
#[derive(Deserialize)]
struct Violation {
    #[serde(rename = "document-uri", alias = "documentURL", default)]
    document: String,
    #[serde(rename = "blocked-uri", alias = "blockedURL", default)]
    blocked: String,
    #[serde(rename = "effective-directive", alias = "effectiveDirective", default)]
    directive: String,
}

#[derive(Deserialize)]
struct Report {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    body: serde_json::Value,
}

#[derive(Deserialize)]
struct Counts {
    v: u64,
    #[serde(default)]
    blocked: BTreeMap<String, u64>,
    #[serde(default)]
    slipped: Slipped,
}

/// In all, or by host.
#[derive(Deserialize)]
#[serde(untagged)]
enum Slipped {
    InAll(u64),
    ByHost(BTreeMap<String, u64>),
}

impl Default for Slipped {
    fn default() -> Self {
        Self::InAll(0)
    }
}

impl Slipped {
    fn by_host(self) -> BTreeMap<String, u64> {
        match self {
            Self::InAll(0) => BTreeMap::new(),
            Self::InAll(count) => [(String::new(), count)].into(),
            Self::ByHost(counts) => counts,
        }
    }
}

/// Reads a body. `own` is the host that was asked, lower case and without port: reports about pages
/// elsewhere, and about the site's own host, are left out.
///
/// # Errors
/// See [`Unreadable`].
pub fn read(content_type: &str, body: &[u8], own: &str) -> Result<Told, Unreadable> {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/csp-report" => {
            let wrapped: Wrapped = json(body)?;
            Ok(Told::Wall(met(&wrapped.report, own).into_iter().collect()))
        }
        "application/reports+json" => {
            let reports: Vec<Report> = json(body)?;
            let violations = reports.into_iter().take(MOST_REPORTS).filter(|r| r.kind == "csp-violation");
            let read = violations.filter_map(|report| serde_json::from_value(report.body).ok());
            Ok(Told::Wall(read.filter_map(|violation: Violation| met(&violation, own)).collect()))
        }
        "text/plain" | "application/json" => {
            let counts: Counts = json(body)?;
            if counts.v != 1 {
                return Err(Unreadable::Malformed);
            }
            let bound = |counts: BTreeMap<String, u64>| {
                counts.into_iter().take(MOST_HOSTS).map(|(host, n)| (host, n.min(MOST_COUNTED))).collect()
            };
            Ok(Told::Guard { blocked: bound(counts.blocked), slipped: bound(counts.slipped.by_host()) })
        }
        _ => Err(Unreadable::MediaType),
    }
}

fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(body).map_err(|_| Unreadable::Malformed)
}

/// The third party of a violation; `None` for what is no host (`inline`, `data`) and for the site itself.
fn met(violation: &Violation, own: &str) -> Option<Met> {
    if !is_ours(&violation.document, own) {
        return None;
    }
    let directive = DIRECTIVES.into_iter().find(|known| *known == violation.directive)?;
    let blocked = Url::parse(&violation.blocked).ok()?;
    if !matches!(blocked.scheme(), "https" | "http" | "wss" | "ws") {
        return None;
    }
    let name = blocked.host_str()?.trim_end_matches('.');
    // `'self'` lets the site's own host in, but not another port of it. A name can be no longer than this
    // (RFC 1035, 2.3.4).
    if (name == own && blocked.port().is_none()) || name.is_empty() || name.len() > 253 {
        return None;
    }
    let host = blocked.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    Some(Met { host, directive })
}

/// Whether a text is a host as browsers write it.
#[must_use]
pub fn is_host(text: &str) -> bool {
    text.len() <= 253 && Host::parse(text).is_ok_and(|host| host.to_string() == text)
}

/// Whether a page of the site reports. Of workers made from blobs and frames without an address, which have
/// their policy from such a page, Chromium 156 names the scheme alone.
fn is_ours(document: &str, own: &str) -> bool {
    let inherits = ["about", "blob", "data"];
    inherits.contains(&document.split(':').next().unwrap_or_default())
        || Url::parse(document).is_ok_and(|url| url.host_str() == Some(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(document: &str, blocked: &str, directive: &str) -> String {
        format!(
            r#"{{"csp-report":{{"document-uri":"{document}","referrer":"","blocked-uri":"{blocked}",
            "violated-directive":"{directive}","effective-directive":"{directive}","disposition":"report"}}}}"#
        )
    }

    fn wall(body: &str) -> Vec<(String, &'static str)> {
        match read("application/csp-report", body.as_bytes(), "shop.example").unwrap() {
            Told::Wall(met) => met.into_iter().map(|m| (m.host, m.directive)).collect(),
            Told::Guard { .. } => panic!("no counts"),
        }
    }

    /// Of an address only host and port are kept: a path or query may hold a person's data.
    #[test]
    fn a_violation_is_a_host_and_a_directive() {
        let page = "https://shop.example/cart?mail=a@b";
        for (blocked, want) in [
            ("https://cdn.example/x.js?id=7", Some("cdn.example")),
            ("http://cdn.example:8080", Some("cdn.example:8080")),
            ("wss://user:pass@Live.Example./s", Some("live.example")),
            ("inline", None),
            ("data", None),
            ("blob:https://cdn.example/1", None),
            ("https://shop.example/x", None),
            ("https://shop.example:8443/x", Some("shop.example:8443")),
            ("", None),
        ] {
            let met = wall(&uri(page, blocked, "img-src"));
            assert_eq!(met.first().map(|(host, _)| host.as_str()), want, "{blocked}");
        }
        for inherits in ["blob", "about", "about:srcdoc", "blob:https://shop.example/1"] {
            assert_eq!(wall(&uri(inherits, "https://cdn.example/", "connect-src")).len(), 1, "{inherits}");
        }
        assert_eq!(wall(&uri("https://evil.example/", "https://cdn.example/", "img-src")), []);
        assert_eq!(wall(&uri(page, "https://cdn.example/", "form-action")), []);
        assert_eq!(wall(&uri(page, "https://cdn.example/", "<script>")), []);
    }

    /// Reporting API: a list of reports of many kinds.
    #[test]
    fn both_forms_of_report_are_read() {
        let body = r#"[
            {"type":"deprecation","age":1,"url":"https://shop.example/","body":{"id":"x"}},
            {"type":"csp-violation","age":2,"url":"https://shop.example/","user_agent":"x","body":{
                "documentURL":"https://shop.example/a","blockedURL":"https://cdn.example/b.js",
                "effectiveDirective":"script-src-elem","disposition":"enforce","statusCode":200}},
            {"type":"csp-violation","body":null}]"#;
        let told = read("application/reports+json; charset=utf-8", body.as_bytes(), "shop.example");
        let want = Met { host: "cdn.example".into(), directive: "script-src-elem" };
        assert_eq!(told, Ok(Told::Wall(vec![want])));
    }

    #[test]
    fn the_guards_counts_are_bounded() {
        let told =
            read("text/plain;charset=UTF-8", br#"{"v":1,"blocked":{"a.example":3,"b.example":99999}}"#, "x");
        let blocked = [("a.example".to_owned(), 3), ("b.example".to_owned(), MOST_COUNTED)].into();
        assert_eq!(told, Ok(Told::Guard { blocked, slipped: BTreeMap::new() }));
        let many: Vec<String> = (0..1_000).map(|n| format!("\"h{n}.example\":1")).collect();
        let body = format!("{{\"v\":1,\"slipped\":{{{}}}}}", many.join(","));
        let Ok(Told::Guard { slipped, .. }) = read("application/json", body.as_bytes(), "x") else {
            panic!()
        };
        assert_eq!(slipped.len(), MOST_HOSTS);
    }

    /// `before.js`: the guard counts what slipped through, and does not say of whom.
    #[test]
    fn a_count_in_all_is_read_as_the_guard_sends_it() {
        for (sent, want) in [(0, BTreeMap::new()), (2, [(String::new(), 2)].into())] {
            let body = format!("{{\"v\":1,\"blocked\":{{\"a.example\":3}},\"slipped\":{sent}}}");
            let told = read("text/plain;charset=UTF-8", body.as_bytes(), "x");
            let blocked = [("a.example".to_owned(), 3)].into();
            assert_eq!(told, Ok(Told::Guard { blocked, slipped: want }));
        }
    }

    #[test]
    fn what_is_no_report_is_refused_by_its_reason() {
        for (kind, body, why) in [
            ("text/html", "", Unreadable::MediaType),
            ("", "{}", Unreadable::MediaType),
            ("application/csp-report", "", Unreadable::Malformed),
            ("application/csp-report", "[]", Unreadable::Malformed),
            ("application/reports+json", "{}", Unreadable::Malformed),
            ("application/json", r#"{"v":2,"blocked":{}}"#, Unreadable::Malformed),
            ("text/plain", r#"{"v":1,"blocked":{"a":-1}}"#, Unreadable::Malformed),
            ("text/plain", "\u{0}", Unreadable::Malformed),
        ] {
            assert_eq!(read(kind, body.as_bytes(), "shop.example"), Err(why), "{kind} {body}");
        }
    }
}
