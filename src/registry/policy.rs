//! A registry under one site's or path's policy.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::config::{ServiceProviders, VendorAction, VendorPolicy};

use super::collectors::FirstParty;
use super::pattern::{PathPrefix, plain};
use super::unknown::{self, Strangers};
use super::vendor::{Category, Role, Vendor, VendorId};
use super::{Node, Registry, lists};

/// A reference that the registry knows, with what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// Whose it is.
    pub vendor: VendorId,
    /// What the site's policy does with that vendor for an opted-out visitor.
    pub action: VendorAction,
}

/// Why a written policy was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// An id that the registry does not hold.
    #[error("no vendor has the id `{id}`{}; see `optgate registry list`", did_you_mean(.nearest.as_deref()))]
    UnknownVendor {
        /// As written.
        id: String,
        /// The nearest id.
        nearest: Option<String>,
    },
    /// Anything but `strip` for a sale/share vendor without its contract.
    #[error(
        "`{id}` sells or shares by default, so `{}` needs its contract: add `contracts.{id}` with entity, \
         reference and date, or use `strip`",
        action.as_str()
    )]
    NeedsContract {
        /// The vendor.
        id: String,
        /// As written.
        action: VendorAction,
    },
    /// `restrict` for a sale/share vendor that has no restricted mode we could call.
    #[error(
        "`{id}` has no documented restricted mode for an opt-out in the United States, so `restrict` would \
         leave it as it is; use `strip`, or name its calls in a registry file of your own"
    )]
    NoRestrictedMode {
        /// The vendor.
        id: String,
    },
    /// Anything but `allow` for an essential vendor.
    #[error(
        "`{id}` is essential and is never touched, so it cannot be set to `{}`; remove the setting, or give \
         it another role in a registry file of your own",
        action.as_str()
    )]
    Essential {
        /// The vendor.
        id: String,
        /// As written.
        action: VendorAction,
    },
    /// A host that the operator knows, and a vendor that is stripped has as a whole.
    #[error(
        "`known`: {host} is `{vendor}`'s, and that is stripped; remove it, or decide otherwise about the vendor"
    )]
    KnownStripped {
        /// As written.
        host: String,
        /// Id of the vendor.
        vendor: String,
    },
    /// Vendors that share a host and path, with different actions.
    #[error(
        "`{host}{path}` belongs to `{first}` and `{second}`, which have different actions (`{}` and `{}`); \
         give them the same one",
        first_action.as_str(), second_action.as_str()
    )]
    Shared {
        /// The host of both.
        host: String,
        /// The path of both.
        path: String,
        /// One vendor.
        first: String,
        /// Its action.
        first_action: VendorAction,
        /// The other vendor.
        second: String,
        /// Its action.
        second_action: VendorAction,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |id| format!("; did you mean `{id}`?"))
}

/// A registry under one site's or path's policy: every vendor has its action.
///
/// Cheap to clone; made at start and on reload.
#[derive(Debug, Clone)]
pub struct Policy {
    registry: Arc<Registry>,
    actions: Arc<[VendorAction]>,
    /// By position: a contract is on file.
    contracts: Arc<[bool]>,
    /// Stripped only for want of a contract.
    waiting: Arc<[VendorId]>,
    /// Collector paths that the site names.
    own_collectors: Arc<[PathPrefix]>,
    /// Paths that are the site's own although the registry takes them for a collector's.
    not_collectors: Arc<[PathPrefix]>,
    /// Hosts of the site that are a vendor's (CNAME), found while it runs.
    cloaked: Arc<CloakedHosts>,
    /// What nobody knows.
    pub(super) strangers: Strangers,
}

/// Hosts under the site's own domain, lower-case ASCII, with the vendors they lead to.
pub type CloakedHosts = HashMap<Box<str>, VendorId>;

impl Policy {
    /// Resolves every vendor's action under a written policy.
    ///
    /// # Errors
    /// An id that the registry does not hold (with the nearest one), anything but `strip` for a
    /// sale/share vendor without its contract, an essential vendor that is not to be allowed, vendors
    /// that share a host and path but not their action, or a known host that a stripped vendor has.
    pub fn resolve(registry: Arc<Registry>, written: &VendorPolicy) -> Result<Self, PolicyError> {
        let mut contracts = vec![false; registry.vendors.len()];
        for id in written.contracts.keys() {
            contracts[known(&registry, id)?.index()] = true;
        }
        let mut waiting = Vec::new();
        let strangers = Strangers::of(&registry, written);
        let actions: Vec<_> = registry
            .vendors()
            .map(|(id, vendor)| {
                if strangers.vendor == Some(id) {
                    return Strangers::action(written.unknown);
                }
                let action = default_action(vendor, written.service_providers, contracts[id.index()]);
                let for_want_of_contract = action == VendorAction::Strip
                    && vendor.role == Role::ServiceProvider
                    && written.service_providers == ServiceProviders::Contract;
                if for_want_of_contract {
                    waiting.push(id);
                }
                action
            })
            .collect();
        let policy = Self {
            registry,
            actions: actions.into(),
            contracts: contracts.into(),
            waiting: waiting.into(),
            own_collectors: written.collectors.iter().map(|path| PathPrefix::new(path)).collect(),
            not_collectors: written.not_collectors.iter().map(|path| PathPrefix::new(path)).collect(),
            cloaked: Arc::default(),
            strangers,
        };
        let policy = policy.with_overrides(&written.vendors)?;
        policy.check_known(&written.known)?;
        Ok(policy)
    }

    /// Refuses known hosts that would go all the same.
    fn check_known(&self, known: &[String]) -> Result<(), PolicyError> {
        for host in known {
            let hit = self.match_url(host, PathPrefix::ROOT);
            if let Some(hit) = hit.filter(|hit| hit.action == VendorAction::Strip) {
                let vendor = self.registry.vendor(hit.vendor).id.clone();
                return Err(PolicyError::KnownStripped { host: host.clone(), vendor });
            }
        }
        Ok(())
    }

    /// This policy with other actions for some vendors, for a path's rule.
    ///
    /// # Errors
    /// As [`Policy::resolve`].
    pub fn with_overrides(&self, overrides: &BTreeMap<String, VendorAction>) -> Result<Self, PolicyError> {
        for (id, action) in overrides {
            self.may(known(&self.registry, id)?, *action)?;
        }
        self.with_actions(overrides)
    }

    /// This policy for an account that keeps a programme of the site: its own word, given in two acts, stands where a
    /// contract would have to (11 CCR 7025(c)(4)).
    ///
    /// # Errors
    /// As [`Policy::resolve`], but for contracts.
    pub fn with_programme(&self, vendors: &[String]) -> Result<Self, PolicyError> {
        self.with_actions(&vendors.iter().map(|id| (id.clone(), VendorAction::Allow)).collect())
    }

    /// Whether an operator can have this action for a vendor.
    fn may(&self, at: VendorId, action: VendorAction) -> Result<(), PolicyError> {
        let vendor = self.registry.vendor(at);
        // Nobody can have a contract with a list, or with whoever comes: without them such a reference stays.
        let nobody = is_nobody(vendor) && action == VendorAction::Allow;
        let needs_contract = vendor.role == Role::SaleShare && action != VendorAction::Strip && !nobody;
        let id = || vendor.id.clone();
        match (vendor.role, action) {
            (Role::Essential, VendorAction::Strip | VendorAction::Restrict) => {
                Err(PolicyError::Essential { id: id(), action })
            }
            // Without a contract whoever gets the data is a third party, however it is called (11 CCR 7051(c)), and
            // the page would say that the opt-out is honoured.
            _ if needs_contract && !self.contracts[at.index()] => {
                Err(PolicyError::NeedsContract { id: id(), action })
            }
            (Role::SaleShare, VendorAction::Restrict) if vendor.restricted_calls.is_empty() => {
                Err(PolicyError::NoRestrictedMode { id: id() })
            }
            _ => Ok(()),
        }
    }

    fn with_actions(&self, overrides: &BTreeMap<String, VendorAction>) -> Result<Self, PolicyError> {
        let mut actions = self.actions.to_vec();
        let mut waiting = self.waiting.to_vec();
        for (id, action) in overrides {
            let at = known(&self.registry, id)?;
            actions[at.index()] = *action;
            waiting.retain(|id| *id != at);
        }
        let policy = Self { actions: actions.into(), waiting: waiting.into(), ..self.clone() };
        policy.check_shared()?;
        Ok(policy)
    }

    /// This policy with hosts that are vendors' under the site's own name; those of before are forgotten.
    #[must_use]
    pub fn with_cloaked(&self, hosts: Arc<CloakedHosts>) -> Self {
        Self { cloaked: hosts, ..self.clone() }
    }

    /// The site's own hosts that are vendors'.
    pub fn cloaked(&self) -> impl Iterator<Item = (&str, VendorId)> {
        self.cloaked.iter().map(|(host, vendor)| (&**host, *vendor))
    }

    /// Whose a host is as a whole: the vendor behind a CNAME. Hosts of which a vendor has only some paths
    /// (clouds, delivery networks) are nobody's here.
    #[must_use]
    pub fn owner(&self, host: &str) -> Option<VendorId> {
        let (_, rule) = self.registry.rule(host, PathPrefix::ROOT)?;
        rule.vendors.first().copied()
    }

    /// A host of the site's own that is a vendor's.
    fn cloaked_hit(&self, host: &str) -> Option<Hit> {
        if self.cloaked.is_empty() {
            return None;
        }
        let vendor = *self.cloaked.get(host)?;
        Some(Hit { vendor, action: self.action(vendor) })
    }

    fn check_shared(&self) -> Result<(), PolicyError> {
        for rule in &self.registry.shared {
            let Some((first, rest)) = rule.owners.split_first() else { continue };
            if let Some(second) = rest.iter().find(|id| self.action(**id) != self.action(*first)) {
                return Err(PolicyError::Shared {
                    host: rule.host.clone(),
                    path: rule.path.clone(),
                    first: self.registry.vendor(*first).id.clone(),
                    first_action: self.action(*first),
                    second: self.registry.vendor(*second).id.clone(),
                    second_action: self.action(*second),
                });
            }
        }
        Ok(())
    }

    /// The registry underneath.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The action for a vendor; `strip` for a position that this registry does not have.
    #[must_use]
    pub fn action(&self, id: VendorId) -> VendorAction {
        self.actions.get(id.index()).copied().unwrap_or(VendorAction::Strip)
    }

    /// Ids of the vendors that are stripped only because no contract is on file, for a line at start.
    #[must_use]
    pub fn contract_would_allow(&self) -> Vec<&str> {
        self.waiting.iter().map(|id| self.registry.vendor(*id).id.as_str()).collect()
    }

    /// Ids of the sale/share vendors that the operator allows by their contracts, for a line at start.
    #[must_use]
    pub fn allowed_sale_share(&self) -> Vec<&str> {
        self.registry
            .vendors()
            .filter(|(id, vendor)| {
                let sells = vendor.role == Role::SaleShare && !is_nobody(vendor);
                sells && self.action(*id) == VendorAction::Allow
            })
            .map(|(_, vendor)| vendor.id.as_str())
            .collect()
    }

    /// Looks up a URL by host and path-with-query. `host` is lower-case ASCII without port or trailing dot
    /// (as the WHATWG parser gives it); `path` starts with `/`.
    ///
    /// Most specific host, then longest path. `None`: not in the registry.
    ///
    /// Cost: one probe per host label, no allocation.
    #[must_use]
    pub fn match_url(&self, host: &str, path: &str) -> Option<Hit> {
        match self.registry.rule(host, path) {
            Some((_, rule)) => self.strongest(rule.vendors.iter().copied()),
            None => self.cloaked_hit(host),
        }
    }

    /// Looks up a host alone, for connection hints and sockets: strip when any path of that host is
    /// strip and none is essential.
    ///
    /// The most specific domain with rules decides. Only when it leaves paths open and strips none
    /// do the rules of the domain above count too, because they cover the open paths.
    ///
    /// Cost: as [`Policy::match_url`], plus the rules of one domain.
    #[must_use]
    pub fn match_host(&self, host: &str) -> Option<Hit> {
        let mut first = None;
        for node in self.registry.index.chain(host) {
            let hit = self.host_hit(node);
            if hit.is_some_and(|hit| hit.action == VendorAction::Strip) {
                return hit;
            }
            first = first.or(hit);
            if node.covers_all() || self.essential(node).is_some() {
                break;
            }
        }
        first.or_else(|| self.cloaked_hit(host))
    }

    fn host_hit(&self, node: &Node) -> Option<Hit> {
        if let Some(vendor) = self.essential(node) {
            return Some(Hit { vendor, action: VendorAction::Allow });
        }
        self.strongest(node.rules.iter().flat_map(|rule| rule.vendors.iter().copied()))
    }

    fn essential(&self, node: &Node) -> Option<VendorId> {
        let mut vendors = node.rules.iter().flat_map(|rule| rule.vendors.iter().copied());
        vendors.find(|id| self.registry.vendor(*id).role == Role::Essential)
    }

    /// Looks for a vendor's marker in the text of an inline script; the strongest action wins
    /// (strip before restrict before allow).
    ///
    /// Cost: about a nanosecond a byte, ending at the first marker to strip; no allocation.
    #[must_use]
    pub fn match_inline(&self, script: &[u8]) -> Option<Hit> {
        self.strongest(self.registry.markers.find(script))
    }

    /// Whether a first-party cookie of this name belongs to a vendor that is not allowed.
    /// Cookies on the never-delete list never match.
    ///
    /// Cost: two hash look-ups and a few patterns; no allocation.
    #[must_use]
    pub fn match_cookie(&self, name: &[u8]) -> Option<Hit> {
        if self.registry.never_delete.contains(name) {
            return None;
        }
        self.strongest(self.registry.cookies.owners(name).flatten().copied()).filter(touches)
    }

    /// Whether a query parameter of this name is a click or person identifier. One that only allowed
    /// vendors read is theirs to keep.
    #[must_use]
    pub fn match_link_param(&self, name: &str) -> bool {
        let name = name.as_bytes();
        self.registry.person_params.contains(name)
            && self
                .strongest(self.registry.params.owners(name).flatten().copied())
                .is_none_or(|hit| touches(&hit))
    }

    /// Whether a first-party request carries a vendor's data: a server-side tag manager, a conversion
    /// gateway or a proxied collector. An allowed vendor's does not match, and neither does what the site calls its own.
    ///
    /// Cost: a comparison a rule; no allocation where the path is commonly written.
    #[must_use]
    pub fn match_collector(&self, request: FirstParty<'_>) -> Option<Hit> {
        let path = plain(request.path);
        let request = FirstParty { path: &path, ..request };
        let last = path.bytes().last();
        let rules = self.registry.collectors.iter().filter(|rule| rule.may_match(last));
        let matching = rules.filter(|rule| rule.matches(request));
        let hit = self.strongest(matching.map(|rule| rule.vendor)).filter(touches);
        hit.filter(|_| !self.not_collectors.iter().any(|prefix| prefix.matches(&path)))
    }

    /// Whether a path is a collector by the site's own setting; `path` is without its query.
    ///
    /// Cost: one comparison a setting; no allocation.
    #[must_use]
    pub fn match_own_collector(&self, path: &str) -> bool {
        let path = plain(path);
        self.own_collectors.iter().any(|prefix| prefix.matches(&path))
    }

    /// The strongest action among vendors; the first of equals. Stops at the first to strip.
    fn strongest(&self, vendors: impl Iterator<Item = VendorId>) -> Option<Hit> {
        let mut best: Option<Hit> = None;
        for vendor in vendors {
            let action = self.action(vendor);
            if best.is_none_or(|hit| action > hit.action) {
                best = Some(Hit { vendor, action });
            }
            if action == VendorAction::Strip {
                break;
            }
        }
        best
    }
}

fn touches(hit: &Hit) -> bool {
    hit.action != VendorAction::Allow
}

/// Whether an entry stands for no company.
fn is_nobody(vendor: &Vendor) -> bool {
    matches!(vendor.id.as_str(), lists::VENDOR | unknown::VENDOR)
}

fn known(registry: &Registry, id: &str) -> Result<VendorId, PolicyError> {
    registry.lookup_id(id).ok_or_else(|| PolicyError::UnknownVendor {
        id: id.to_owned(),
        nearest: registry.nearest_id(id).map(str::to_owned),
    })
}

/// A sale/share vendor is stripped whatever else it is; a tag manager is kept restricted whatever
/// the setting, because its container holds more than trackers.
fn default_action(vendor: &Vendor, setting: ServiceProviders, contract: bool) -> VendorAction {
    match (vendor.role, setting) {
        (Role::SaleShare, _) => VendorAction::Strip,
        (Role::Essential, _) => VendorAction::Allow,
        (Role::ServiceProvider, _) if vendor.category == Category::TagManager => VendorAction::Restrict,
        (Role::ServiceProvider, ServiceProviders::Allow) => VendorAction::Allow,
        (Role::ServiceProvider, ServiceProviders::Contract) if contract => VendorAction::Allow,
        (Role::ServiceProvider, _) => VendorAction::Strip,
    }
}
