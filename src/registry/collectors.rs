//! First-party paths that carry a vendor's data: server-side tag managers, conversion gateways and
//! proxied collectors, which pass through this very proxy.

use super::pattern::glob;
use super::source::Collector;
use super::vendor::VendorId;

/// A collector rule, ready to match.
#[derive(Debug)]
pub(super) struct CollectorRule {
    pub(super) vendor: VendorId,
    rule: Collector,
    /// What the path must end with: turns almost every request away at once.
    tail: String,
}

impl CollectorRule {
    pub(super) fn new(vendor: VendorId, rule: Collector) -> Self {
        let tail = rule.path.rsplit('*').next().unwrap_or_default().to_owned();
        Self { vendor, rule, tail }
    }

    /// Whether a request is the collector's: the whole path fits, and for every fragment some query
    /// parameter begins with it. An innocent `/collect` of the site's own has not those parameters.
    pub(super) fn matches(&self, path: &str, query: &str) -> bool {
        path.ends_with(self.tail.as_str())
            && self
                .rule
                .query
                .iter()
                .all(|fragment| query.split('&').any(|parameter| parameter.starts_with(fragment.as_str())))
            && glob(self.rule.path.as_bytes(), path.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_needs_its_path_and_all_its_parameters() {
        let rule = Collector {
            vendor: "x".into(),
            path: "*/g/collect".into(),
            query: vec!["v=2".into(), "tid=G-".into()],
        };
        let rule = CollectorRule::new(VendorId(0), rule);
        assert!(rule.matches("/g/collect", "v=2&tid=G-1"));
        assert!(rule.matches("/metrics/g/collect", "a=1&tid=G-1&v=2"));
        assert!(!rule.matches("/g/collect", "") && !rule.matches("/g/collect", "v=2"));
        assert!(!rule.matches("/g/collect", "v=2&xtid=G-1") && !rule.matches("/g/collect/x", "v=2&tid=G-1"));
    }
}
