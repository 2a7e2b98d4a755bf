//! Addresses of an origin that is named: looked up again and again, never while a request waits but the first.
//!
//! A task of the background threads asks; cores read what it found. A look-up that fails keeps the last
//! answer, over reloads and upgrades too. Connections to an address that is gone are closed when they are idle, and
//! all of them once where one has come, so that it gets its part. A name server may hand out some of many addresses at a
//! time: where it is seen to, one that is missing is neither gone nor, when it is back, one that has come.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use tokio::sync::{Notify, watch};

use crate::config::Dns;
use crate::telemetry::events;
use crate::telemetry::upstreams::UpstreamFigures;

/// Shortest time between two look-ups, whatever the answer's time to live says.
const SOONEST: Duration = Duration::from_secs(1);

/// What is known of a name.
#[derive(Debug, Clone)]
enum Found {
    NotYet,
    Failed(Arc<str>),
    Addresses(Addresses),
}

/// Where a name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Addresses {
    /// By the last answer; connections are opened to these.
    now: Arc<[IpAddr]>,
    /// Missing from it, and expected back.
    away: Arc<[IpAddr]>,
}

impl Addresses {
    fn hold(&self, ip: IpAddr) -> bool {
        self.now.contains(&ip) || self.away.contains(&ip)
    }
}

/// A named origin.
#[derive(Debug)]
pub struct Names {
    host: String,
    port: u16,
    found: watch::Sender<Found>,
    /// Goes up with each change, so that pools see one without a lock.
    version: AtomicU64,
    /// The last version that brought an address beside those that were known.
    grown: AtomicU64,
    /// Where the next connection begins among the addresses.
    turn: AtomicUsize,
    /// Somebody needs an address and there is none.
    wanted: Notify,
    /// For whoever takes an answer.
    absences: Mutex<Absences>,
}

impl Names {
    /// A name that nobody has looked up yet.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            found: watch::channel(Found::NotYet).0,
            version: AtomicU64::new(0),
            grown: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
            wanted: Notify::new(),
            absences: Mutex::default(),
        }
    }

    /// The addresses to try, in order: each connection begins at the next one, and the families take turns
    /// (RFC 8305, 4). Waits for the first look-up.
    ///
    /// # Errors
    /// The name has no address.
    pub async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut found = self.found.subscribe();
        let found = match found.wait_for(|found| !matches!(found, Found::NotYet)).await {
            Ok(found) => found.clone(),
            Err(_) => Found::NotYet,
        };
        match found {
            Found::Addresses(list) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                Ok(in_turn(&list.now, turn).into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect())
            }
            Found::Failed(why) => {
                self.wanted.notify_one();
                Err(io::Error::new(io::ErrorKind::NotFound, format!("{} has no address: {why}", self.host)))
            }
            Found::NotYet => Err(io::Error::other("the look-ups have ended")),
        }
    }

    /// The name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its addresses as they were last found; none before.
    #[must_use]
    pub fn known(&self) -> Vec<IpAddr> {
        match &*self.found.borrow() {
            Found::Addresses(list) => list.now.to_vec(),
            Found::NotYet | Found::Failed(_) => Vec::new(),
        }
    }

    /// Begins with what was known of the name, if anything was.
    pub fn begin_with(&self, known: Vec<IpAddr>) {
        if !known.is_empty() {
            self.take(known);
        }
    }

    /// Whether addresses have come in since a version. Cost: one load.
    #[must_use]
    pub fn has_more_since(&self, version: u64) -> bool {
        version < self.grown.load(Ordering::Acquire)
    }

    /// Changes whenever the addresses do. Cost: one load.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether a name still leads to an address, by the last answer or at other times.
    #[must_use]
    pub fn leads_to(&self, address: IpAddr) -> bool {
        match &*self.found.borrow() {
            Found::Addresses(list) => list.hold(address),
            _ => true,
        }
    }

    /// Puts addresses in force; gives the number of those before where one of them is gone or another has come.
    fn take(&self, mut list: Vec<IpAddr>) -> Option<usize> {
        // Resolvers turn their answers; the same addresses are no news.
        list.sort_unstable();
        list.dedup();
        let before = match &*self.found.borrow() {
            Found::Addresses(before) => Some(before.clone()),
            Found::NotYet | Found::Failed(_) => None,
        };
        let was = before.as_ref().map_or(&[][..], |before| &before.now);
        let away = self.absences.lock().unwrap_or_else(PoisonError::into_inner).note(was, &list);
        let found = Addresses { now: list.into(), away: away.into() };
        let (grows, shrinks) = match &before {
            Some(before) if *before == found => return None,
            Some(before) => {
                let all = || before.now.iter().chain(&*before.away);
                (found.now.iter().any(|ip| !before.hold(*ip)), all().any(|ip| !found.hold(*ip)))
            }
            None => (false, false),
        };
        let news = before.is_none() || grows || shrinks;
        let before = was.len();
        self.found.send_replace(Found::Addresses(found));
        let version = self.version.load(Ordering::Acquire) + 1;
        if grows {
            self.grown.store(version, Ordering::Release);
        }
        // Last: whoever sees it sees the rest.
        self.version.store(version, Ordering::Release);
        news.then_some(before)
    }

    /// Notes a failure; what was known stays.
    fn fail(&self, why: &str) {
        self.found.send_if_modified(|found| {
            if matches!(found, Found::Addresses(_)) {
                return false;
            }
            *found = Found::Failed(why.into());
            true
        });
    }
}

/// Answers that an address may be missing from before it is forgotten.
const MISSED: u32 = 16;
/// What an address that is back counts for, what is counted at most, and from where on a name is one that hands out some
/// of its addresses at a time: three have come back, not long after each other. One that has may be a deployment that was
/// taken back, and nobody is to be kept at what it left.
const BACK: u32 = 16;
const MOST_BACK: u32 = 64;
const TAKES_TURNS: u32 = 32;

/// Addresses that were missing from answers.
#[derive(Debug, Default)]
struct Absences {
    /// With how many answers in a row have been without each.
    missing: Vec<(IpAddr, u32)>,
    /// How much the name looks like one that hands out some of its addresses at a time; one less with each answer.
    back: u32,
}

impl Absences {
    /// Takes an answer, after one with the addresses `was`. Those that are missing and expected back, in order.
    fn note(&mut self, was: &[IpAddr], now: &[IpAddr]) -> Vec<IpAddr> {
        let missing = self.missing.len();
        self.missing.retain(|(ip, _)| !now.contains(ip));
        // A part has always the same size; a set that shrinks and grows is of machines that go and come.
        let came_back = self.missing.len() < missing && now.len() == was.len();
        self.back = self.back.saturating_sub(1) + if came_back { BACK } else { 0 };
        self.back = self.back.min(MOST_BACK);
        self.missing.iter_mut().for_each(|(_, answers)| *answers += 1);
        self.missing.retain(|(_, answers)| *answers <= MISSED);
        self.missing.extend(was.iter().filter(|ip| !now.contains(ip)).map(|ip| (*ip, 1)));
        if self.back <= TAKES_TURNS {
            return Vec::new();
        }
        let mut away: Vec<IpAddr> = self.missing.iter().map(|(ip, _)| *ip).collect();
        away.sort_unstable();
        away
    }
}

/// The list from a turn on, the two families alternating for as long as both last.
fn in_turn(list: &[IpAddr], turn: usize) -> Vec<IpAddr> {
    let start = turn % list.len().max(1);
    let (tail, head) = list.split_at(start);
    let mut turned: Vec<IpAddr> = head.iter().chain(tail).copied().collect();
    let Some(first) = turned.first().map(IpAddr::is_ipv6) else { return turned };
    let (same, other): (Vec<_>, Vec<_>) = turned.iter().partition(|ip| ip.is_ipv6() == first);
    turned.clear();
    for at in 0..same.len().max(other.len()) {
        turned.extend(same.get(at));
        turned.extend(other.get(at));
    }
    turned
}

/// Looks a name up for as long as the runtime lives; for background threads.
///
/// `resolver`: `None` asks the system, as does a name that the resolver cannot answer while no name servers
/// are set: the system knows more kinds of names.
pub async fn watch(
    names: Arc<Names>,
    resolver: Option<TokioResolver>,
    settings: Dns,
    figures: Arc<UpstreamFigures>,
) {
    let soonest = SOONEST.min(settings.upstream_interval);
    let mut failing = false;
    loop {
        let wait = match look_up(&names, resolver.as_ref(), &settings).await {
            Ok((list, lives)) => {
                failing = false;
                let count = list.len();
                if let Some(before) = names.take(list) {
                    events::upstream_resolved(&figures, &names.host, before, count);
                }
                lives.clamp(soonest, settings.upstream_interval)
            }
            Err(error) => {
                events::upstream_lookup_failed(&figures, &names.host, &error, !failing);
                failing = true;
                names.fail(&error.to_string());
                soonest
            }
        };
        tokio::time::sleep(soonest).await;
        tokio::select! {
            () = tokio::time::sleep(wait.saturating_sub(soonest)) => {}
            () = names.wanted.notified() => {}
        }
    }
}

/// The addresses of a name, and how long they hold.
async fn look_up(
    names: &Names,
    resolver: Option<&TokioResolver>,
    settings: &Dns,
) -> io::Result<(Vec<IpAddr>, Duration)> {
    let mut failure = None;
    if let Some(resolver) = resolver {
        match resolver.lookup_ip(names.host.as_str()).await {
            Ok(answer) => {
                let list: Vec<IpAddr> = answer.iter().collect();
                let lives = answer.valid_until().saturating_duration_since(Instant::now());
                if !list.is_empty() {
                    return Ok((list, lives));
                }
            }
            Err(error) => failure = Some(io::Error::other(error)),
        }
    }
    if settings.servers.is_empty() || resolver.is_none() {
        let found = tokio::net::lookup_host((names.host.as_str(), names.port)).await;
        match found {
            Ok(found) => {
                let list: Vec<IpAddr> = found.map(|address| address.ip()).collect();
                if !list.is_empty() {
                    // The system says nothing of how long they live.
                    return Ok((list, settings.upstream_interval));
                }
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no address record")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    /// RFC 8305, 4: the families alternate, and each connection begins at the next address.
    #[test]
    fn addresses_are_tried_in_turn_with_the_families_alternating() {
        let list = ips(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
        assert_eq!(in_turn(&list, 0), ips(&["192.0.2.1", "2001:db8::1", "192.0.2.2"]));
        assert_eq!(in_turn(&list, 1), ips(&["192.0.2.2", "2001:db8::1", "192.0.2.1"]));
        assert_eq!(in_turn(&list, 2), ips(&["2001:db8::1", "192.0.2.1", "192.0.2.2"]));
        assert_eq!(in_turn(&list, 3), in_turn(&list, 0));
        assert_eq!(in_turn(&[], 5), ips(&[]));
    }

    #[test]
    fn only_a_change_is_news_and_a_failure_keeps_the_last_answer() {
        let names = Names::new("shop.internal", 80);
        names.fail("no such name");
        assert_eq!(names.take(ips(&["192.0.2.2", "192.0.2.1"])), Some(0));
        assert_eq!(names.take(ips(&["192.0.2.1", "192.0.2.2"])), None, "another order is no change");
        names.fail("no such name");
        assert!(names.leads_to(ips(&["192.0.2.1"])[0]));
        assert_eq!((names.take(ips(&["192.0.2.1"])), names.version()), (Some(2), 2));
        assert!(!names.leads_to(ips(&["192.0.2.2"])[0]));
        assert!(!names.has_more_since(0), "the first answer and a shorter one bring nothing to share with");
        assert_eq!(names.take(ips(&["192.0.2.3", "192.0.2.1"])), Some(1));
        assert!(names.has_more_since(2) && !names.has_more_since(3));
    }

    /// Two of four at a time: after some answers none is gone that is only missing from one, and none new that is back.
    #[test]
    fn a_name_that_hands_out_some_of_its_addresses_at_a_time_leads_to_all_of_them() {
        let all = ips(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]);
        let names = Names::new("shop.internal", 80);
        let mut round = 0..;
        let mut next = || {
            let at = round.next().unwrap() % 4;
            names.take(vec![all[at], all[(at + 1) % 4]])
        };
        for _ in 0..8 {
            next();
        }
        let since = names.version();
        for _ in 0..40 {
            assert_eq!(next(), None, "no news");
            assert!(all.iter().all(|ip| names.leads_to(*ip)) && !names.has_more_since(since));
        }
        assert_eq!(names.known().len(), 2, "connections are opened to those of the last answer");
        // One of them is really gone: after as many answers as it may be missing from.
        let left = [vec![all[0], all[1]], vec![all[1], all[2]], vec![all[2], all[0]]];
        let answers = left.iter().cycle().take(MISSED as usize + 1).cloned();
        let news: Vec<_> = answers.filter_map(|list| names.take(list)).collect();
        assert!(news.len() == 1 && !names.leads_to(all[3]), "{news:?}");
        assert!(all[..3].iter().all(|ip| names.leads_to(*ip)) && !names.has_more_since(since));
        // Another has come.
        let new = ips(&["192.0.2.9"])[0];
        assert!(names.take(vec![all[0], new]).is_some() && names.has_more_since(since));
    }

    /// A name that was moved, and moved back, and machines that go and come, are left as soon as they are missing.
    #[test]
    fn an_address_that_is_taken_out_is_left_at_once() {
        let (old, new) = (ips(&["192.0.2.1"]), ips(&["192.0.2.2"]));
        let names = Names::new("shop.internal", 80);
        for (now, left) in [(&old, &new), (&new, &old), (&old, &new)] {
            names.take(now.clone());
            assert!(names.leads_to(now[0]) && !names.leads_to(left[0]));
        }
        let both = [old.clone(), new.clone()].concat();
        for _ in 0..20 {
            names.take(both.clone());
            names.take(old.clone());
            assert!(!names.leads_to(new[0]));
        }
    }
}
