//! First-party paths that carry a vendor's data: server-side tag managers, conversion gateways and
//! proxied collectors, which pass through this very proxy.

use http::{HeaderMap, Method};

use super::pattern::glob;
use super::source::Collector;
use super::vendor::VendorId;

/// A first-party request, as far as collector rules look at it.
#[derive(Debug, Clone, Copy)]
pub struct FirstParty<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path; starts with `/`.
    pub path: &'a str,
    /// Its query without the `?`; empty without one.
    pub query: &'a str,
    /// Its header fields.
    pub headers: &'a HeaderMap,
}

/// A collector rule, ready to match.
#[derive(Debug)]
pub(super) struct CollectorRule {
    pub(super) vendor: VendorId,
    rule: Collector,
    /// What the path must end with,
    tail: String,
    /// and its last byte, which turns almost every request away at once.
    end: Option<u8>,
}

impl CollectorRule {
    pub(super) fn new(vendor: VendorId, rule: Collector) -> Self {
        let tail = rule.path.rsplit('*').next().unwrap_or_default().to_owned();
        let end = tail.bytes().last();
        Self { vendor, rule, tail, end }
    }

    /// Whether a path may be the collector's, by its last byte. Cost: a comparison.
    pub(super) fn may_match(&self, last: Option<u8>) -> bool {
        self.end.is_none() || self.end == last
    }

    /// Whether a request is the collector's: the whole path fits, for every fragment some query
    /// parameter begins with it, and method and headers are the vendor's. An innocent `/collect` of the
    /// site's own has not those.
    pub(super) fn matches(&self, request: FirstParty<'_>) -> bool {
        let FirstParty { method, path, query, headers } = request;
        path.ends_with(self.tail.as_str())
            && self
                .rule
                .query
                .iter()
                .all(|fragment| query.split('&').any(|parameter| parameter.starts_with(fragment.as_str())))
            && glob(self.rule.path.as_bytes(), path.as_bytes())
            && self.rule.method.as_ref().is_none_or(|known| method.as_str() == known)
            && self.rule.headers.iter().all(|known| has_header(headers, known))
    }
}

/// Whether a field is there, and begins as the rule says if it says so. Case does not count.
fn has_header(headers: &HeaderMap, known: &str) -> bool {
    let (name, start) = known.split_once(": ").unwrap_or((known, ""));
    headers.get_all(name).iter().any(|value| {
        value.as_bytes().get(..start.len()).is_some_and(|is| is.eq_ignore_ascii_case(start.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str, query: &[&str], method: Option<&str>, headers: &[&str]) -> CollectorRule {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let rule = Collector {
            vendor: "x".into(),
            path: path.into(),
            query: texts(query),
            method: method.map(str::to_owned),
            headers: texts(headers),
        };
        CollectorRule::new(VendorId(0), rule)
    }

    #[test]
    fn a_collector_needs_its_path_and_all_its_parameters() {
        let rule = rule("*/g/collect", &["v=2", "tid=G-"], None, &[]);
        let headers = HeaderMap::new();
        let matches = |path: &str, query| {
            let request = FirstParty { method: &Method::GET, path, query, headers: &headers };
            rule.may_match(path.bytes().last()) && rule.matches(request)
        };
        assert!(matches("/g/collect", "v=2&tid=G-1"));
        assert!(matches("/metrics/g/collect", "a=1&tid=G-1&v=2"));
        assert!(!matches("/g/collect", "") && !matches("/g/collect", "v=2"));
        assert!(!matches("/g/collect", "v=2&xtid=G-1") && !matches("/g/collect/x", "v=2&tid=G-1"));
    }

    #[test]
    fn a_collector_can_need_a_method_and_headers() {
        let rule = rule("*/v1/t", &[], Some("POST"), &["content-type: text/plain", "x-own"]);
        let mut headers = HeaderMap::new();
        headers.insert("content-type", http::HeaderValue::from_static("Text/Plain;charset=UTF-8"));
        let matches = |method, headers: &HeaderMap| {
            rule.matches(FirstParty { method, path: "/v1/t", query: "", headers })
        };
        assert!(!matches(&Method::POST, &headers), "a header is missing");
        headers.insert("x-own", http::HeaderValue::from_static("1"));
        assert!(matches(&Method::POST, &headers) && !matches(&Method::GET, &headers));
        headers.insert("content-type", http::HeaderValue::from_static("application/json"));
        assert!(!matches(&Method::POST, &headers));
    }
}
