//! A policy boiled down to verdicts, for a matcher outside this process: the guard in the browser.

use crate::config::VendorAction;

use super::host_index::{Node, Rule};
use super::pattern::glob;
use super::policy::Policy;
use super::vendor::{Role, Vendor};

/// A domain and what happens to references below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainVerdicts {
    /// Lower-case ASCII name; its subdomains are meant too.
    pub name: String,
    /// An essential vendor lives here too: hints and sockets stay.
    pub essential: bool,
    /// Path patterns (see `registry/pattern.rs`), longest first, and whether a match is to be stripped.
    pub paths: Vec<(String, bool)>,
}

impl Policy {
    /// The domains that a matcher needs to come to this policy's verdicts, strip or not, by the one rule:
    /// the most specific domain with a matching path, then the longest path; for a host alone,
    /// [`Policy::match_host`]. Domains that never change a verdict are left out. Ordered by name from the
    /// right, so that relatives stand together.
    ///
    /// Cost: some milliseconds; for start and reload.
    #[must_use]
    pub fn verdicts(&self) -> Vec<DomainVerdicts> {
        let index = &self.registry().index;
        let strips = |node: &Node| node.rules.iter().any(|rule| self.strips_rule(rule));
        let mut domains: Vec<_> = index
            .domains()
            // One that strips nothing matters only as an exception from one above that does, and one
            // that strips as an addition to one above that does not.
            .filter(|node| index.chain(node.name()).any(strips))
            .filter(|node| {
                let above = index.chain(node.name()).nth(1);
                !(self.strips_whatever_it_names(node) && above.is_some_and(|above| self.goes_whole(above)))
            })
            .map(|node| DomainVerdicts {
                name: node.name().to_owned(),
                essential: self.holds_essential(node),
                paths: match self.goes_whole(node) {
                    true => vec![("/".to_owned(), true)],
                    false => node
                        .rules
                        .iter()
                        .map(|rule| (rule.path.as_str().to_owned(), self.strips_rule(rule)))
                        .collect(),
                },
            })
            .collect();
        let cloaked = self.cloaked().filter(|(_, vendor)| self.action(*vendor) == VendorAction::Strip);
        domains.extend(cloaked.map(|(host, _)| DomainVerdicts {
            name: host.to_owned(),
            essential: false,
            paths: vec![("/".to_owned(), true)],
        }));
        domains.sort_by(|a, b| a.name.bytes().rev().cmp(b.name.bytes().rev()));
        domains
    }

    fn goes_whole(&self, node: &Node) -> bool {
        node.covers_all() && self.strips_whatever_it_names(node)
    }

    fn strips_whatever_it_names(&self, node: &Node) -> bool {
        !self.holds_essential(node) && node.rules.iter().all(|rule| self.strips_rule(rule))
    }

    fn holds_essential(&self, node: &Node) -> bool {
        let mut owners = node.rules.iter().flat_map(|rule| &rule.vendors);
        owners.any(|id| self.registry().vendor(*id).role == Role::Essential)
    }

    fn strips_rule(&self, rule: &Rule) -> bool {
        rule.vendors.iter().any(|id| self.action(*id) == VendorAction::Strip)
    }

    /// Name patterns (`*` is a wildcard) of first-party cookies that go, and of those that stay although a
    /// pattern of the first list holds them: what [`Policy::match_cookie`] answers. Patterns that change
    /// no answer are left out.
    #[must_use]
    pub fn cookie_verdicts(&self) -> (Vec<&str>, Vec<&str>) {
        let mut gone = self.names_of(|vendor| &vendor.first_party_cookies);
        let never_delete = || self.registry().never_delete.patterns();
        gone.retain(|gone| !never_delete().any(|kept| covers(kept, gone)));
        let mut kept: Vec<&str> =
            never_delete().filter(|kept| gone.iter().any(|gone| covers(gone, kept))).collect();
        kept.sort_unstable();
        (gone, kept)
    }

    /// Key patterns of local and session storage that go.
    #[must_use]
    pub fn storage_verdicts(&self) -> Vec<&str> {
        self.names_of(|vendor| &vendor.storage_keys)
    }

    /// Names of the vendors that are not allowed, sorted, each once, without those that another one holds.
    fn names_of<'a>(&'a self, of: impl Fn(&'a Vendor) -> &'a Vec<String>) -> Vec<&'a str> {
        let vendors = self.registry().vendors().filter(|(id, _)| self.action(*id) != VendorAction::Allow);
        let mut names: Vec<&str> = vendors.flat_map(|(_, vendor)| of(vendor)).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let patterns: Vec<&str> = names.iter().copied().filter(|name| name.contains('*')).collect();
        // Of two that say the same, the first one.
        let needless = |pattern: &str, name: &str| {
            pattern != name && covers(pattern, name) && !(covers(name, pattern) && name < pattern)
        };
        names.retain(|name| !patterns.iter().any(|pattern| needless(pattern, name)));
        names
    }
}

/// Whether each name that the second pattern holds is held by the first one too: what its `*` stands for,
/// a `*` of the first stands for as well.
fn covers(pattern: &str, held: &str) -> bool {
    glob(pattern.as_bytes(), held.as_bytes())
}
