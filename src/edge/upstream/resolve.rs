//! Addresses of an origin that is named: looked up again and again, never while a request waits but the first.
//!
//! A task of the background threads asks; cores read what it found. A look-up that fails keeps the last
//! answer, over reloads and upgrades too. Connections to an address that is gone are closed when they are idle, and
//! all of them once where one has come, so that it gets its part.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
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
    Addresses(Arc<[IpAddr]>),
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
                Ok(in_turn(&list, turn).into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect())
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
            Found::Addresses(list) => list.to_vec(),
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

    /// Whether a name still leads to an address.
    #[must_use]
    pub fn leads_to(&self, address: IpAddr) -> bool {
        match &*self.found.borrow() {
            Found::Addresses(list) => list.contains(&address),
            _ => true,
        }
    }

    /// Puts addresses in force; gives the number of those before when that is a change.
    fn take(&self, mut list: Vec<IpAddr>) -> Option<usize> {
        // Resolvers turn their answers; the same addresses are no news.
        list.sort_unstable();
        list.dedup();
        let (before, grows) = match &*self.found.borrow() {
            Found::Addresses(known) if known[..] == list[..] => return None,
            Found::Addresses(known) => (known.len(), list.iter().any(|ip| !known.contains(ip))),
            _ => (0, false),
        };
        self.found.send_replace(Found::Addresses(list.into()));
        let version = self.version.load(Ordering::Acquire) + 1;
        if grows {
            self.grown.store(version, Ordering::Release);
        }
        // Last: whoever sees it sees the rest.
        self.version.store(version, Ordering::Release);
        Some(before)
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
}
