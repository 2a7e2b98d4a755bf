//! Third parties that neither the registry nor the operator knows (`unknown = "strip"`).
//!
//! They all count as the pseudo-vendor [`VENDOR`], whose action is what the setting says; so a path can have another
//! one, as for any vendor. The registry is asked first, and a reference that a rule of it decides is never unknown.
//! Of what is left, these stay:
//!
//! * hosts of the site and of its group, whatever has a registrable domain with one of them or with the page, and the
//!   hosts that the operator knows (`known`);
//! * names of XML namespaces, which are no addresses;
//! * hosts of the registry of which no path is stripped, or some path is essential: the rule for a host without a path,
//!   since a vendor that stays needs more of its host than the files that its entry names.

use std::collections::HashSet;
use std::sync::Arc;

pub use crate::config::UNKNOWN_VENDOR as VENDOR;
use crate::config::{Unknown, VendorAction, VendorPolicy};

use super::Registry;
use super::policy::{Hit, Policy};
use super::vendor::VendorId;

/// Where the names of XML namespaces lead: in a drawing within a style they look like addresses, and nothing is fetched.
const NAMESPACES: &str = "www.w3.org";

/// What a policy has to know of them.
#[derive(Debug, Clone)]
pub(super) struct Strangers {
    /// The pseudo-vendor.
    pub(super) vendor: Option<VendorId>,
    /// Domains that stay, with everything below them.
    known: Arc<HashSet<Box<str>>>,
}

impl Strangers {
    pub(super) fn of(registry: &Registry, written: &VendorPolicy) -> Self {
        let own = written.own.iter().map(|host| site_of(host.strip_prefix("*.").unwrap_or(host)));
        let known = written.known.iter().map(String::as_str);
        let known = own.chain(known).chain([NAMESPACES]).map(Box::from).collect();
        Self { vendor: registry.lookup_id(VENDOR), known: Arc::new(known) }
    }

    /// The action of the pseudo-vendor.
    pub(super) const fn action(setting: Unknown) -> VendorAction {
        match setting {
            Unknown::Allow => VendorAction::Allow,
            Unknown::Strip => VendorAction::Strip,
        }
    }
}

impl Policy {
    /// The pseudo-vendor, where what nobody knows is stripped. Nothing is known of such a reference that could be
    /// restricted, so that `restrict` is `strip`.
    fn stripped_strangers(&self) -> Option<VendorId> {
        self.strangers.vendor.filter(|vendor| self.action(*vendor) != VendorAction::Allow)
    }

    /// Whether third parties go that nobody knows.
    #[must_use]
    pub fn strips_unknown(&self) -> bool {
        self.stripped_strangers().is_some()
    }

    /// A reference that [`Policy::match_url`] and [`Policy::match_host`] say nothing of, on a page of this host; both
    /// as those take a host. `Some` when it is an unknown third party's, and goes.
    ///
    /// Cost: nothing where unknown ones stay; else a hash look-up per label, and two searches in the list of public
    /// suffixes.
    #[must_use]
    pub fn match_unknown(&self, host: &str, page: &str) -> Option<Hit> {
        let vendor = self.stripped_strangers()?;
        let own = || self.is_known(host) || site_of(host) == site_of(page);
        let stays = |hit: Hit| hit.action != VendorAction::Strip;
        (!own() && !self.match_host(host).is_some_and(stays))
            .then_some(Hit { vendor, action: VendorAction::Strip })
    }

    fn is_known(&self, host: &str) -> bool {
        suffixes(host).any(|domain| self.strangers.known.contains(domain))
    }

    /// The domains that stay, with everything below them, for a matcher outside this process: those that are known
    /// whatever the registry says of their other paths, and those of the registry's that stay as a whole. Both sorted,
    /// and without what another one of the first holds.
    ///
    /// Cost: as [`Policy::verdicts`].
    #[must_use]
    pub fn known_domains(&self) -> (Vec<&str>, Vec<&str>) {
        fn above(name: &str) -> impl Iterator<Item = &str> {
            suffixes(name).skip(1)
        }
        let mut own: Vec<&str> = self.strangers.known.iter().map(|name| &**name).collect();
        own.retain(|name| !above(name).any(|domain| self.strangers.known.contains(domain)));
        own.sort_unstable();
        let stays = |name: &str| self.match_host(name).is_some_and(|hit| hit.action != VendorAction::Strip);
        let names = self.registry().index.domains().map(super::Node::name);
        let mut staying: Vec<&str> = names.chain(self.cloaked().map(|(host, _)| host)).collect();
        staying.retain(|name| stays(name) && !self.is_known(name) && !above(name).any(stays));
        staying.sort_unstable();
        staying.dedup();
        (own, staying)
    }
}

/// What stands for everything that is one site with a host: its registrable domain; for an address, or a name without
/// one, the host itself.
#[must_use]
pub fn site_of(host: &str) -> &str {
    let last = host.rsplit('.').next().unwrap_or_default();
    let address = host.starts_with('[') || last.bytes().all(|b| b.is_ascii_digit());
    if address { host } else { psl::domain_str(host).unwrap_or(host) }
}

/// A host, and the domains above it.
fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(host), |name| name.split_once('.').map(|(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(written: VendorPolicy) -> Policy {
        let registry = Arc::new(Registry::builtin().unwrap());
        Policy::resolve(registry, &VendorPolicy { unknown: Unknown::Strip, ..written }).unwrap()
    }

    fn hosts(hosts: &[&str]) -> Vec<String> {
        hosts.iter().map(|host| (*host).to_owned()).collect()
    }

    /// What goes with a URL: asked as the rewriter asks.
    fn goes(policy: &Policy, host: &str, path: &str) -> bool {
        let hit = policy.match_url(host, path).or_else(|| policy.match_unknown(host, "www.shop.co.uk"));
        hit.is_some_and(|hit| hit.action == VendorAction::Strip)
    }

    #[test]
    fn what_nobody_knows_goes_and_what_is_known_or_of_the_same_site_stays() {
        let own = hosts(&["www.shop.co.uk", "*.shop.example", "blog.example", "10.0.0.7", "localhost"]);
        let known = hosts(&["cdn.example.net", "facebook.com"]);
        let policy = policy(VendorPolicy { own, known, ..VendorPolicy::default() });
        for host in [
            "other.co.uk",
            "co.uk",
            "stranger.example.org",
            "shop.example.evil.org",
            "xshop.example",
            "example.net",
            "xcdn.example.net",
            "10.0.0.8",
            "[::1]",
            "localhost.evil.org",
        ] {
            assert!(goes(&policy, host, "/a.js"), "{host}");
        }
        for host in [
            "static.shop.co.uk",
            "shop.example",
            "a.b.shop.example",
            "static.blog.example",
            "cdn.example.net",
            "a.cdn.example.net",
            "10.0.0.7",
            "localhost",
            "js.stripe.com",
            "fonts.gstatic.com",
        ] {
            assert!(!goes(&policy, host, "/a.js"), "{host}");
        }
        assert!(goes(&policy, "doubleclick.net", "/") && goes(&policy, "facebook.com", "/tr"), "as ever");
        assert!(!goes(&policy, "facebook.com", "/own/"), "of a known host what the registry leaves");
    }

    /// A path that no rule names is judged as the host without a path is.
    #[test]
    fn a_path_that_the_registry_leaves_open_goes_with_its_host() {
        let policy = policy(VendorPolicy::default());
        assert!(goes(&policy, "www.facebook.com", "/own/"), "some paths go, none is essential");
        assert!(!goes(&policy, "www.google.com", "/maps/embed"), "a captcha is there");
        assert!(goes(&policy, "www.google.com", "/pagead/1p-user-list/1/"), "as ever");
        assert!(!goes(&policy, "hcaptcha.com", "/checksiteconfig"));
    }

    #[test]
    fn the_setting_is_an_action_that_a_path_can_change() {
        let stripping = policy(VendorPolicy::default());
        let action = |action| [(VENDOR.to_owned(), action)].into();
        let there = stripping.with_overrides(&action(VendorAction::Allow)).unwrap();
        assert!(stripping.strips_unknown() && !there.strips_unknown());
        assert_eq!(there.match_unknown("stranger.example.org", "shop.example"), None);
        let registry = Arc::new(Registry::builtin().unwrap());
        let allowing = Policy::resolve(registry, &VendorPolicy::default()).unwrap();
        assert!(!allowing.strips_unknown());
        assert_eq!(allowing.match_unknown("stranger.example.org", "shop.example"), None);
        assert!(allowing.with_overrides(&action(VendorAction::Strip)).unwrap().strips_unknown());
        assert!(allowing.allowed_sale_share().is_empty(), "it is no vendor that sells");
    }

    #[test]
    fn a_known_host_of_a_stripped_vendor_is_refused() {
        let registry = Arc::new(Registry::builtin().unwrap());
        let known = hosts(&["cdn.example.net", "ad.doubleclick.net"]);
        let refused = Policy::resolve(registry, &VendorPolicy { known, ..VendorPolicy::default() });
        let said = refused.err().unwrap().to_string();
        assert!(said.starts_with("`known`: ad.doubleclick.net is `"), "{said}");
    }

    /// Names of XML namespaces look like addresses where a style shows a drawing, and nothing is fetched from them.
    #[test]
    fn the_names_of_xml_stay() {
        assert!(!goes(&policy(VendorPolicy::default()), "www.w3.org", "/2000/svg"));
    }

    #[test]
    fn a_matcher_elsewhere_is_told_each_domain_once() {
        let own = hosts(&["www.shop.example", "a.shop.example", "js.stripe.com"]);
        let known = hosts(&["cdn.shop.example", "cdn.example.net"]);
        let policy = policy(VendorPolicy { own, known, ..VendorPolicy::default() });
        let (own, staying) = policy.known_domains();
        assert_eq!(own, ["cdn.example.net", "shop.example", "stripe.com", "www.w3.org"]);
        assert!(staying.contains(&"hcaptcha.com") && staying.contains(&"google.com"));
        for name in ["js.stripe.com", "facebook.com", "doubleclick.net"] {
            assert!(!staying.contains(&name), "{name}");
        }
    }
}
