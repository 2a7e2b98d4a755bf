//! What every core shares, and what each core has for itself.

pub mod busy;
pub mod siblings;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use http::HeaderValue;

use self::busy::Busy;
use self::siblings::Siblings;
use crate::config::switches::Switch;
use crate::config::{self, Settings};
use crate::edge::account::memory::TokenMemory;
use crate::edge::account::sessions::Sessions;
use crate::edge::account::token::Verifier;
use crate::edge::answer::stages::Stages;
use crate::edge::downstream::clients::{ClientConnections, ClientRates};
use crate::edge::downstream::turned_away::TurnedAway;
use crate::edge::own::proofs::Proofs;
use crate::edge::timer;
use crate::edge::upstream::{CoreGroup, Group, Pool, PoolLimits};
use crate::enforce::csp::Wall;
use crate::enforce::guard::Guard;
use crate::enforce::html::memo::{self, Memo};
use crate::enforce::validators::{variant_version, version_with_hosts};
use crate::portal::Portal;
use crate::privacy::{Keys, Mode};
use crate::registry::lists::{ListSet, Matcher};
use crate::registry::{CloakedHosts, Policy};
use crate::store::Store;
use crate::store::recipients::SiteSightings;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{SharedMetrics, SiteMetrics, VendorsMetrics};

/// Settings in force, resolved: replaced whole on a reload.
#[derive(Debug)]
pub struct Snapshot {
    /// As configured.
    pub settings: Arc<Settings>,
    /// Consumer pages.
    pub portal: Portal,
    /// Counters of the registry's vendors.
    pub vendors: Arc<VendorsMetrics>,
    /// Sites, in the settings' order.
    pub sites: Vec<Arc<Site>>,
    /// The different sets of filter lists.
    pub lists: Vec<Arc<ListSet>>,
    /// What verifies the tokens that name accounts.
    pub verifier: Option<Arc<Verifier>>,
    /// Prefix of the consumer pages.
    pub prefix: Arc<str>,
    by_host: HashMap<Box<str>, usize>,
    /// `.example.com` of `*.example.com`, longest first.
    by_suffix: Vec<(Box<str>, usize)>,
}

/// One site, resolved.
#[derive(Debug, Clone)]
pub struct Site {
    /// Position in the settings.
    pub index: usize,
    /// Its name; the same site after a reload has the same one.
    pub name: Arc<str>,
    /// As configured.
    pub settings: Arc<config::Site>,
    /// Its counters.
    pub metrics: Arc<SiteMetrics>,
    /// Where its pages note the vendors they lost.
    pub sightings: Arc<SiteSightings>,
    /// Its kill switch.
    pub switch: Arc<Switch>,
    /// Changes with anything that changes a rewritten page; part of ETags and records.
    pub version: Arc<str>,
    /// Origins.
    pub group: Arc<Group>,
    /// What browsers are told of coming by https.
    pub hsts: Option<HeaderValue>,
    /// The second wall of its opted-out documents.
    pub wall: Option<Wall>,
    /// Position of its filter lists among the snapshot's sets.
    pub lists: Option<usize>,
    /// What holds where no path rule does.
    pub rule: Rule,
    /// Path rules, longest prefix first.
    pub paths: Vec<(String, Rule)>,
    /// The same site for an account that keeps its programme.
    pub programme: Option<Arc<Self>>,
}

/// What holds on a path.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Enforce or observe.
    pub mode: Mode,
    /// Bodies are rewritten.
    pub rewrite: bool,
    /// Vendors and their actions.
    pub policy: Arc<Policy>,
    /// What holds that policy in the browser.
    pub guard: Arc<Guard>,
}

impl Site {
    /// Position of the rule for a path: the longest prefix that ends at `/` or the path's end.
    #[must_use]
    pub fn path_rule(&self, path: &str) -> Option<usize> {
        let fits = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
        };
        self.paths.iter().position(|(prefix, _)| fits(prefix))
    }

    /// The text for [`Site::version`], with the filter lists that hold on the site.
    #[must_use]
    pub fn version_of(
        site: &config::Site,
        rule: &Rule,
        lists: Option<&ListSet>,
        settings: &Settings,
    ) -> Arc<str> {
        let registry = rule.policy.registry();
        let lists = lists.map_or("", ListSet::version);
        let inputs = format!("{} {lists} {}", registry.version(), rule.guard.csp_hash());
        let version = variant_version(&inputs, site, &settings.portal, &settings.signals);
        let named = rule.policy.cloaked().map(|(host, vendor)| (host, registry.vendor(vendor).id.as_str()));
        version_with_hosts(&version, named).into()
    }

    /// The rule at a position, or the site's own.
    #[must_use]
    pub fn rule(&self, position: Option<usize>) -> &Rule {
        position.and_then(|at| self.paths.get(at)).map_or(&self.rule, |(_, rule)| rule)
    }
}

impl Rule {
    /// The rule with a policy, and the guard that goes with it.
    #[must_use]
    pub fn with_policy(&self, policy: Policy, settings: &Settings) -> Self {
        let (policy, guard) = guarded(policy, settings);
        Self { policy, guard, ..*self }
    }
}

/// A policy and what holds it in the browser.
#[must_use]
pub fn guarded(policy: Policy, settings: &Settings) -> (Arc<Policy>, Arc<Guard>) {
    let guard = Guard::new(&policy, &settings.portal.prefix, &settings.signals);
    (Arc::new(policy), Arc::new(guard))
}

impl Snapshot {
    /// Puts the resolved sites behind their hosts.
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        portal: Portal,
        vendors: Arc<VendorsMetrics>,
        sites: Vec<Site>,
        lists: Vec<Arc<ListSet>>,
        verifier: Option<Arc<Verifier>>,
    ) -> Self {
        let (mut by_host, mut by_suffix) = (HashMap::new(), Vec::new());
        for site in &sites {
            for host in &site.settings.hosts {
                match host.strip_prefix('*') {
                    Some(suffix) => by_suffix.push((suffix.into(), site.index)),
                    None => drop(by_host.insert(host.as_str().into(), site.index)),
                }
            }
        }
        by_suffix.sort_by_key(|(suffix, _): &(Box<str>, usize)| std::cmp::Reverse(suffix.len()));
        let prefix = Arc::from(settings.portal.prefix.as_str());
        let sites = sites.into_iter().map(Arc::new).collect();
        Self { settings, portal, vendors, lists, verifier, prefix, sites, by_host, by_suffix }
    }

    /// The same with other filter lists in some places.
    fn with_lists(&self, replaced: &[(usize, Arc<ListSet>)]) -> Self {
        let mut lists = self.lists.clone();
        for (at, set) in replaced {
            if let Some(place) = lists.get_mut(*at) {
                *place = Arc::clone(set);
            }
        }
        self.changed(lists, |_| ())
    }

    /// The same with other filter lists and changed sites, each under the version of what then holds.
    fn changed(&self, lists: Vec<Arc<ListSet>>, change: impl Fn(&mut Site)) -> Self {
        let one = |site: &Arc<Site>| {
            let mut site = (**site).clone();
            change(&mut site);
            let set = site.lists.and_then(|at| lists.get(at)).map(|set| &**set);
            site.version = Site::version_of(&site.settings, &site.rule, set, &self.settings);
            site
        };
        let site = |site: &Arc<Site>| {
            let programme = site.programme.as_ref().map(|site| Arc::new(one(site)));
            Site { programme, ..one(site) }
        };
        let sites = self.sites.iter().map(site).collect();
        let (settings, vendors) = (Arc::clone(&self.settings), Arc::clone(&self.vendors));
        Self::new(settings, self.portal.clone(), vendors, sites, lists, self.verifier.clone())
    }

    /// Whether both have the same sites and origins, so that their connections serve on.
    fn has_sites_of(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<Site>, &Arc<Site>)| Arc::ptr_eq(&a.settings, &b.settings);
        self.sites.len() == other.sites.len() && self.sites.iter().zip(&other.sites).all(same)
    }

    /// The same settings with hosts that are vendors' under a site's own name, by the site's position; a site
    /// without an entry has none.
    #[must_use]
    pub fn with_cloaked(&self, found: &HashMap<usize, Arc<CloakedHosts>>) -> Self {
        self.changed(self.lists.clone(), |site| {
            let hosts = found.get(&site.index).cloned().unwrap_or_default();
            let with_hosts =
                |rule: &Rule| rule.with_policy(rule.policy.with_cloaked(Arc::clone(&hosts)), &self.settings);
            let own = with_hosts(&site.rule);
            for (_, rule) in &mut site.paths {
                // Most paths have the site's policy, and a guard is not made twice for one.
                *rule = match Arc::ptr_eq(&rule.policy, &site.rule.policy) {
                    true => Rule { mode: rule.mode, rewrite: rule.rewrite, ..own.clone() },
                    false => with_hosts(rule),
                };
            }
            site.rule = own;
        })
    }

    /// The same settings with the hidden hosts of another snapshot, for the sites and vendors that both have.
    #[must_use]
    pub fn with_cloaked_of(&self, other: &Self) -> Self {
        let found = other.sites.iter().filter_map(|old| {
            let site = self.sites.iter().find(|site| site.name == old.name)?;
            let registry = site.rule.policy.registry();
            let hosts = old.rule.policy.cloaked().filter_map(|(host, vendor)| {
                let id = &old.rule.policy.registry().vendor(vendor).id;
                Some((Box::from(host), registry.lookup_id(id)?))
            });
            let hosts: CloakedHosts = hosts.collect();
            (!hosts.is_empty()).then(|| (site.index, Arc::new(hosts)))
        });
        self.with_cloaked(&found.collect())
    }

    /// The site for a host (lower case, without port), or the default site.
    ///
    /// Cost: one hash look-up for an exact host.
    #[must_use]
    pub fn site(&self, host: &str) -> Option<&Arc<Site>> {
        let wildcard = || {
            let fits = |suffix: &str| host.len() > suffix.len() && host.ends_with(suffix);
            self.by_suffix.iter().find(|(suffix, _)| fits(suffix)).map(|(_, site)| *site)
        };
        let index = self.by_host.get(host).copied().or_else(wildcard).or(self.settings.default_site)?;
        self.sites.get(index)
    }
}

/// What all cores share.
pub struct House {
    /// Settings in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// Opt-outs.
    pub store: Store,
    /// Counters.
    pub metrics: SharedMetrics,
    /// Access lines; `None` when silenced.
    pub access_log: Option<AccessLog>,
    /// No new connections; finish what is under way.
    pub draining: Arc<AtomicBool>,
    /// Hosts of the sites' own domains that pages refer to.
    pub siblings: Siblings,
    /// Third parties that nobody knows and that pages lost.
    pub strangers: Siblings,
    /// Downstream connections open, all cores.
    pub connections: AtomicUsize,
    /// As many as there are descriptors for; `limits.connections` may allow fewer.
    pub most_connections: usize,
    /// The same by client.
    pub client_connections: Arc<ClientConnections>,
    /// How fast each client asks for consumer pages.
    pub portal_rates: ClientRates,
    /// Whose account each session is.
    pub sessions: Sessions,
    /// More memory is in use than `limits.memory`: new requests are turned away.
    pub shedding: AtomicBool,
    /// What a certificate authority is shown.
    pub proofs: Arc<Proofs>,
}

impl std::fmt::Debug for House {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("House")
    }
}

impl House {
    /// Puts other filter lists in force, by their positions; requests under way keep what they began with.
    pub fn replace_lists(&self, replaced: Vec<(usize, ListSet)>) {
        let replaced: Vec<_> = replaced.into_iter().map(|(at, set)| (at, Arc::new(set))).collect();
        self.snapshot.rcu(|snapshot| snapshot.with_lists(&replaced));
    }
}

/// Settings as a core holds them: cloning touches a counter of this core's only.
#[derive(Debug, Clone)]
pub struct Held(Rc<Local>);

/// A core's own part of the settings.
#[derive(Debug)]
struct Local {
    /// Tells one snapshot of this core from another.
    number: u64,
    /// The count that all cores share, touched once for each core and reload.
    shared: Arc<Snapshot>,
    /// This core's engines for the snapshot's filter lists, each taken at its first use.
    matchers: Box<[OnceCell<Rc<Matcher>>]>,
}

impl Held {
    fn new(shared: Arc<Snapshot>, number: u64) -> Self {
        let matchers = shared.lists.iter().map(|_| OnceCell::new()).collect();
        Self(Rc::new(Local { number, shared, matchers }))
    }

    /// A number that no other snapshot of this core had.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// This core's engine for a site's filter lists.
    #[must_use]
    pub fn lists(&self, site: &Site) -> Option<&Rc<Matcher>> {
        let at = site.lists?;
        let set = self.0.shared.lists.get(at)?;
        Some(self.0.matchers.get(at)?.get_or_init(|| Rc::new(set.matcher())))
    }
}

impl std::ops::Deref for Held {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0.shared
    }
}

/// Leads to the settings in force.
#[derive(Debug)]
struct InForce(Arc<House>);

impl std::ops::Deref for InForce {
    type Target = ArcSwap<Snapshot>;

    fn deref(&self) -> &ArcSwap<Snapshot> {
        &self.0.snapshot
    }
}

/// What a core has for itself; lives on its thread.
#[derive(Debug)]
pub struct Core {
    /// What all cores share.
    pub house: Arc<House>,
    /// Origins by site; they follow a site's group, so a reload makes new ones.
    groups: RefCell<Vec<Option<Rc<CoreGroup>>>>,
    snapshot: RefCell<Held>,
    in_force: RefCell<Cache<InForce, Arc<Snapshot>>>,
    /// Rewritten pages, as the settings in force made them.
    memo: memo::Shared,
    /// How busy it is.
    pub busy: Busy,
    /// Connections over a limit that were answered and not served.
    pub turned_away: TurnedAway,
    /// Tokens that were verified.
    pub tokens: RefCell<TokenMemory>,
    /// The month, and until when nobody need look.
    month: Cell<(Instant, u32)>,
    next_id: Cell<u128>,
    exchanges: Cell<u32>,
}

/// How often a core looks which month it is.
const A_MINUTE: Duration = Duration::from_secs(60);

impl Core {
    /// A core's own state. `seed` makes its request ids differ from other cores' and runs'.
    #[must_use]
    pub fn new(house: Arc<House>, seed: u128) -> Rc<Self> {
        let mut in_force = Cache::new(InForce(Arc::clone(&house)));
        let snapshot = Held::new(Arc::clone(in_force.load()), 0);
        let memo = Memo::new(snapshot.settings.limits.rewrite_memo, house.metrics.memo.clone());
        memo.borrow_mut().work_aside(Box::new(|work| drop(tokio::task::spawn_blocking(work))));
        let month = Cell::new((timer::now() + A_MINUTE, current_month()));
        Rc::new(Self {
            house,
            groups: RefCell::default(),
            snapshot: RefCell::new(snapshot),
            in_force: RefCell::new(in_force),
            turned_away: TurnedAway::default(),
            memo,
            busy: Busy::default(),
            tokens: RefCell::default(),
            month,
            next_id: Cell::new(seed),
            exchanges: Cell::new(0),
        })
    }

    /// Settings in force. The clone is of a core-local counter: no cache line is shared, and where the settings are the
    /// last ones nothing is written for all cores to see.
    #[must_use]
    pub fn snapshot(&self) -> Held {
        let (mut held, mut in_force) = (self.snapshot.borrow_mut(), self.in_force.borrow_mut());
        let current = in_force.load();
        if !Arc::ptr_eq(current, &held.0.shared) {
            if !current.has_sites_of(&held) {
                // Idle connections of the old settings close with their pools.
                self.groups.borrow_mut().clear();
            }
            *held = Held::new(Arc::clone(current), held.number() + 1);
            self.memo.borrow_mut().clear(held.settings.limits.rewrite_memo);
        }
        held.clone()
    }

    /// The memo, for a request under these settings; `None` when others are in force by now, or it is off.
    #[must_use]
    pub fn memo(&self, held: &Held) -> Option<&memo::Shared> {
        let same = Rc::ptr_eq(&self.snapshot.borrow().0, &held.0);
        (same && held.settings.limits.rewrite_memo > 0).then_some(&self.memo)
    }

    /// Keys of the cookie and of subjects.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        self.house.store.keys()
    }

    /// `YYYYMM` in UTC; looked up once a minute.
    #[must_use]
    pub fn month(&self) -> u32 {
        let (until, month) = self.month.get();
        let now = timer::now();
        if now < until {
            return month;
        }
        let month = current_month();
        self.month.set((now + A_MINUTE, month));
        month
    }

    /// A number no other request has; not a secret.
    #[must_use]
    pub fn fresh_id(&self) -> u128 {
        let id = self.next_id.get();
        self.next_id.set(id.wrapping_add(1));
        // Multiplying by an odd number is a bijection: neighbours do not look alike, none repeats.
        id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }

    /// The stages of a new exchange, begun at an instant.
    #[must_use]
    pub fn stages(&self, snapshot: &Snapshot, started: Instant) -> Stages {
        let number = self.exchanges.get();
        self.exchanges.set(number.wrapping_add(1));
        Stages::of(number, snapshot.settings.server_timing, started)
    }

    /// This core's pools and turns for a site's origins.
    ///
    /// Cost: one core-local counter.
    #[must_use]
    pub fn group(&self, snapshot: &Snapshot, site: &Site) -> Rc<CoreGroup> {
        let mut groups = self.groups.borrow_mut();
        if groups.len() <= site.index {
            groups.resize(site.index + 1, None);
        }
        let known = groups.get_mut(site.index);
        let make = || {
            let (timeouts, limits) = (&snapshot.settings.timeouts, &snapshot.settings.limits);
            let limits = PoolLimits {
                idle: limits.upstream_idle,
                idle_for: timeouts.upstream_idle,
                first_byte: timeouts.first_byte,
                between_bytes: timeouts.between_bytes,
            };
            let pools = site.group.members.iter().map(|member| Pool::new(member, limits)).collect();
            Rc::new(CoreGroup::new(Arc::clone(&site.group), pools))
        };
        let now = self.snapshot.borrow();
        let in_force = now.sites.get(site.index).is_some_and(|now| Arc::ptr_eq(&now.group, &site.group));
        match known {
            // A request from before a reload has origins that are in force no more.
            _ if !in_force => make(),
            Some(known) => Rc::clone(known.get_or_insert_with(make)),
            None => make(),
        }
    }

    /// Closes origin connections that were idle for too long; called now and then.
    pub fn expire_pools(&self) {
        let groups = self.groups.borrow();
        groups.iter().flatten().flat_map(|group| group.pools()).for_each(|pool| pool.expire());
    }
}

fn current_month() -> u32 {
    let date = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    u32::from(date.year().unsigned_abs()) * 100 + u32::from(date.month().unsigned_abs())
}
