//! One request's way through a site's origins: which is asked first, which next, and what is learned.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::HeaderMap;

use super::attempt::{Attempt, Outgoing};
use super::balance::{self, Turns, digest};
use super::group::Group;
use super::pool::{Answer, Asking, Pool, Tunnel};
use crate::config::{Balance, HashOn, ProxyProtocol};
use crate::edge::account::cookie;
use crate::edge::error::ProxyError;
use crate::edge::exchange::Exchange;
use crate::edge::message::interim::Interim;
use crate::edge::timer;

/// A core's own part of a site's origins: pools and turns.
#[derive(Debug)]
pub struct CoreGroup {
    group: Arc<Group>,
    pools: Vec<Rc<Pool>>,
    turns: RefCell<Turns>,
    turn: Cell<usize>,
    /// The core's time when it was last asked for, and that moment as the group counts it.
    moment: Cell<(Instant, u64)>,
}

impl CoreGroup {
    /// The pools are in the origins' order.
    #[must_use]
    pub fn new(group: Arc<Group>, pools: Vec<Rc<Pool>>) -> Self {
        let turns = RefCell::new(Turns::new(pools.len()));
        let now = timer::now();
        let moment = Cell::new((now, group.moment(now)));
        Self { group, pools, turns, turn: Cell::new(0), moment }
    }

    /// Now, as the group counts it. Cost: a comparison while the core's time stands still.
    fn now(&self) -> u64 {
        let (now, (at, moment)) = (timer::now(), self.moment.get());
        if now == at {
            return moment;
        }
        let moment = self.group.moment(now);
        self.moment.set((now, moment));
        moment
    }

    /// The pools, in the origins' order.
    #[must_use]
    pub fn pools(&self) -> &[Rc<Pool>] {
        &self.pools
    }
}

/// The choice for one request: each origin at most once, those that are well first.
#[derive(Debug)]
pub struct Choice<'a> {
    local: Rc<CoreGroup>,
    x: &'a Exchange,
    /// Origins that can serve the request at all.
    fitting: u64,
    tried: u64,
    /// A place was waited for in vain: no second wait.
    waited: bool,
    key: Key,
}

/// What decides beside the turns.
#[derive(Debug, Clone, Copy)]
enum Key {
    None,
    Hash(u64),
    /// The origin that the cookie names.
    Sticky(Option<usize>),
}

impl<'a> Choice<'a> {
    /// For a request as it goes to the origin. `http1`: only origins that speak HTTP/1.1 will do.
    #[must_use]
    pub fn new(local: Rc<CoreGroup>, x: &'a Exchange, headers: &HeaderMap, http1: bool) -> Self {
        let group = &local.group;
        let fitting = if http1 { group.http1 } else { group.all() };
        let key = match group.sharing.balance {
            _ if group.members.len() < 2 => Key::None,
            Balance::RoundRobin | Balance::LeastConnections => Key::None,
            Balance::ConsistentHash => Key::Hash(hash_key(&group.sharing.hash_on, x, headers)),
            Balance::StickyCookie => Key::Sticky(named_by_cookie(group, headers)),
        };
        Self { local, x, fitting, tried: 0, waited: false, key }
    }

    /// Position of the next origin to ask: of those that are well and have a place; then of those where a place must be
    /// waited for; in the end any that was not asked yet.
    pub fn another(&mut self) -> Option<usize> {
        let group = &self.local.group;
        let untried = self.fitting & !self.tried;
        if untried == 0 {
            return None;
        }
        let now = self.local.now();
        let open = match group.usable(now) & untried {
            0 => match group.well(now) & untried {
                0 => untried,
                well => well,
            },
            usable => usable,
        };
        let full = open & self.full();
        let free = open & !full;
        let sticky = match self.key {
            Key::Sticky(Some(at)) if open & (1 << at) != 0 => Some(at),
            _ => None,
        };
        let origin = match sticky {
            // Its session is worth a wait.
            Some(at) => at,
            None => self.pick(if free != 0 { free } else { open }, now)?,
        };
        let wait = full & (1 << origin) != 0;
        if wait && self.waited {
            return None;
        }
        self.tried |= 1 << origin;
        if let Key::Sticky(named) = self.key
            && named != Some(origin)
        {
            self.x.stick_to(origin);
        }
        Some(origin)
    }

    fn pick(&self, among: u64, now: u64) -> Option<usize> {
        let group = &self.local.group;
        if among.is_power_of_two() {
            return Some(among.trailing_zeros() as usize);
        }
        match (group.sharing.balance, self.key) {
            (_, Key::Hash(key)) => balance::highest(among, key, |at| {
                // A key must not move while its origin warms up.
                group.members.get(at).map_or((0, 1), |m| (m.identity, m.connector.upstream.weight.into()))
            }),
            (Balance::LeastConnections, _) => {
                let start = self.local.turn.get();
                self.local.turn.set((start + 1) % group.members.len().max(1));
                balance::fewest(among, start, |at| {
                    let under_way = group.members.get(at).map_or(0, |m| m.under_way.load(Ordering::Relaxed));
                    (under_way as u64, group.weight(at, now))
                })
            }
            _ => self.local.turns.borrow_mut().next(among, |at| group.weight(at, now)),
        }
    }

    /// Origins without a place, as this core sees them: its own idle connections have theirs.
    fn full(&self) -> u64 {
        let busy = |at: usize| self.local.pools.get(at).is_none_or(|pool| !pool.has_idle(self.client(at)));
        balance::those(self.local.group.full(), busy)
    }

    /// The address that a connection to this origin speaks for.
    fn client(&self, origin: usize) -> Option<std::net::IpAddr> {
        let upstream = &self.local.group.members.get(origin)?.connector.upstream;
        (upstream.proxy_protocol != ProxyProtocol::Off).then_some(self.x.client.address)
    }

    fn asking(&self, origin: usize) -> Asking<'a> {
        let (x, load) = (self.x, self.local.group.load(origin));
        Asking { client: self.client(origin), load, tail: x.tail() }
    }

    /// Asks an origin and notes what becomes of it. What it says before its answer goes to `interim`.
    ///
    /// # Errors
    /// As [`Pool::send`].
    pub async fn send(
        &mut self,
        origin: usize,
        request: &mut Outgoing,
        interim: Option<Interim<'_>>,
    ) -> Result<Answer, Attempt> {
        let Some(pool) = self.local.pools.get(origin) else { return Err(NOBODY) };
        let sent = pool.send(request, self.asking(origin), interim).await;
        self.note(origin, sent.as_ref().map(|answer| answer.status().as_u16()));
        sent
    }

    /// Asks an origin to change the protocol and notes what becomes of it.
    ///
    /// # Errors
    /// As [`Pool::send_upgrade`].
    pub async fn send_upgrade(
        &mut self,
        origin: usize,
        request: &mut Outgoing,
    ) -> Result<Result<Tunnel, Answer>, Attempt> {
        let Some(pool) = self.local.pools.get(origin) else { return Err(NOBODY) };
        let sent = pool.send_upgrade(request, self.asking(origin)).await;
        let status = |sent: &Result<Tunnel, Answer>| match sent {
            Ok(tunnel) => tunnel.head.status.as_u16(),
            Err(answer) => answer.status().as_u16(),
        };
        self.note(origin, sent.as_ref().map(status));
        sent
    }

    fn note(&mut self, origin: usize, sent: Result<u16, &Attempt>) {
        let group = &self.local.group;
        let now = self.local.now();
        match sent {
            Ok(status) => group.answered(origin, status, now),
            Err(Attempt::NotSent(error) | Attempt::Failed(error)) => {
                self.waited |= matches!(error, ProxyError::QueueTimeout);
                self.x.note_failed(origin);
                group.failed(origin, error, now);
            }
        }
    }
}

const NOBODY: Attempt = Attempt::NotSent(ProxyError::Internal("an origin has no pool"));

/// The key of consistent hashing; what the request lacks is replaced by its client's address.
fn hash_key(on: &HashOn, x: &Exchange, headers: &HeaderMap) -> u64 {
    let found = match on {
        HashOn::Address => None,
        HashOn::Header(name) => headers.get(name).map(|value| digest(value.as_bytes())),
        HashOn::Cookie(name) => cookie(headers, name).map(digest),
    };
    found.unwrap_or_else(|| match x.client.address {
        std::net::IpAddr::V4(v4) => digest(&v4.octets()),
        std::net::IpAddr::V6(v6) => digest(&v6.octets()),
    })
}

fn named_by_cookie(group: &Group, headers: &HeaderMap) -> Option<usize> {
    let token = cookie(headers, &group.sharing.cookie)?;
    group.members.iter().position(|member| member.token.as_bytes() == token)
}
