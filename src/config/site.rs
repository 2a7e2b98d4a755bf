//! A site as meant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::policy::UNKNOWN_VENDOR;
use super::{Csp, Hsts, List, Programme, Sharing, Unknown, Upstream, VendorAction, VendorPolicy, groups};
use crate::privacy::Mode;

/// One site.
#[derive(Debug, Clone)]
pub struct Site {
    /// Name in logs, metrics and records.
    pub name: String,
    /// Hosts, lower-case ASCII, without port; `*.example.com` matches every subdomain; IPv6 in brackets.
    pub hosts: Vec<String>,
    /// Origins, at most 64.
    pub upstreams: Vec<Upstream>,
    /// How they share the requests.
    pub sharing: Sharing,
    /// Enforce or observe.
    pub mode: Mode,
    /// How vendors are treated.
    pub policy: VendorPolicy,
    /// Path rules, longest prefix first.
    pub paths: Vec<PathRule>,
    /// What happens to a body that can no longer be rewritten for an opted-out visitor.
    pub on_rewrite_failure: OnRewriteFailure,
    /// Which shared cache stands in front.
    pub cache_front: CacheFront,
    /// Remove known click and person identifiers from the query toward the origin.
    pub strip_link_params: bool,
    /// The second wall: a Content-Security-Policy of our own.
    pub csp: Csp,
    /// Filter lists: those of all sites, then its own.
    pub lists: Vec<List>,
    /// Hosts of the site's own that may be another's (CNAME), lower-case ASCII.
    pub first_party_hosts: Vec<String>,
    /// Port of https to which visitors who come in clear are sent; `None` serves them.
    pub redirect: Option<u16>,
    /// What browsers are told of https; `None` leaves the origin's word.
    pub hsts: Option<Hsts>,
    /// What `Cache-Control: no-transform` means for visitors who have not opted out.
    pub no_transform: NoTransform,
    /// Which uncoded pages go out coded.
    pub compress: Compress,
    /// Under which name accounts and profiles are kept: its group's, else its own.
    pub scope: String,
    /// Under which names they were kept before, which are looked up too: in a group its own, then its former ones, those of
    /// the group, and the same of the group's other sites.
    pub formerly: Vec<String>,
    /// All of these names in one, the same for every site of a group: what was worked out by them holds for no others.
    pub lineage: String,
    /// Domain of the opt-out's cookie, that all sites of the group share; `None`: each host has its own.
    pub cookie_domain: Option<String>,
    /// What an account may keep in spite of its opt-out.
    pub programme: Option<Programme>,
}

impl Site {
    /// The domain of the opt-out's cookie for a host (lower case, without port) that was asked. A browser would keep
    /// no cookie for a domain that is not the host's.
    #[must_use]
    pub fn cookie_domain(&self, host: &str) -> Option<&str> {
        self.cookie_domain.as_deref().filter(|domain| groups::is_under(host, domain))
    }

    /// Whether third parties that nobody knows are stripped: on the whole site, as far as no path says otherwise.
    #[must_use]
    pub fn strips_unknown(&self) -> bool {
        let said = self.policy.vendors.get(UNKNOWN_VENDOR).map(|action| *action != VendorAction::Allow);
        said.unwrap_or(self.policy.unknown == Unknown::Strip)
    }

    /// Whether a host (lower case, without port) is one that the site is configured with.
    #[must_use]
    pub fn has_host(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| match own.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => own == host,
        })
    }
}

/// Rules for the paths under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRule {
    /// Path prefix; it ends at `/`, `?` or the end.
    pub prefix: String,
    /// Mode here; `None` keeps the site's.
    pub mode: Option<Mode>,
    /// Bodies are rewritten here.
    pub rewrite: bool,
    /// Vendor actions that differ from the site's.
    pub vendors: BTreeMap<String, VendorAction>,
}

/// What happens to a body that can no longer be rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRewriteFailure {
    /// Stop the body.
    #[default]
    Close,
    /// Let the rest through unchanged.
    Pass,
}

/// What an origin's `Cache-Control: no-transform` (RFC 9111, 5.2.2.6) means for a page of a visitor who has not
/// opted out. One who has always gets the page rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoTransform {
    /// The page goes out as it came, without the link.
    #[default]
    Keep,
    /// The page gets the link like any other.
    Override,
}

/// Which pages that come uncoded go out coded, where the visitor takes it. What comes coded always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compress {
    /// Those of visitors who have opted out: the guard makes them larger than they came.
    #[default]
    OptedOut,
    /// None.
    AsOrigin,
}

/// Shared cache in front of Optgate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheFront {
    /// None declared: both variants are private.
    #[default]
    None,
    /// One that follows `Vary`.
    Vary,
    /// One keyed on the opt-out state by the operator.
    Keyed,
}
