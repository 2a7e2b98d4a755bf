//! What each core has for itself.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};

use super::House;
use super::busy::Busy;
use super::snapshot::{Site, Snapshot};
use crate::edge::account::memory::TokenMemory;
use crate::edge::answer::stages::Stages;
use crate::edge::downstream::turned_away::TurnedAway;
use crate::edge::timer;
use crate::edge::upstream::{CoreGroup, Pool, PoolLimits};
use crate::enforce::html::memo::{self, Memo};
use crate::privacy::Keys;
use crate::registry::lists::Matcher;

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
