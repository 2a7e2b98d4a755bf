//! Who a client is to the limits, how many connections it has, and how fast it may ask.
//!
//! A client is an IPv4 address or an IPv6 /64: whoever has one address of a /64 has all of them. Memory is
//! bounded: connections by `limits.connections`, rates by `MOST_RATES`.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Parts of a table, each behind its own lock; a power of two.
const SHARDS: usize = 64;

/// Clients whose rate is remembered at a time, in each part. Beyond it somebody is forgotten, and may ask a
/// whole burst again.
const MOST_RATES: usize = 1024;

const NANOS: u64 = 1_000_000_000;

/// A client, as limits count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientKey(u64);

impl ClientKey {
    /// The client at an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            // Nobody comes from ::a.b.c.d:0:0/64, whose upper half looks the same.
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64),
        }
    }
}

/// A map in parts, so that cores rarely wait for each other.
#[derive(Debug)]
struct Sharded<V> {
    shards: [Mutex<HashMap<ClientKey, V>>; SHARDS],
    /// Seeded, so that nobody can choose who shares a part.
    hasher: RandomState,
}

impl<V> Default for Sharded<V> {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl<V> Sharded<V> {
    fn with<T>(&self, client: ClientKey, act: impl FnOnce(&mut HashMap<ClientKey, V>) -> T) -> T {
        let at = usize::try_from(self.hasher.hash_one(client) % SHARDS as u64).unwrap_or(0);
        // A map is whole after every step; a panic elsewhere spoils nothing.
        act(&mut self.shards[at].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Open connections of each client, all cores together. A client without one takes no memory.
#[derive(Debug, Default)]
pub struct ClientConnections(Sharded<usize>);

impl ClientConnections {
    /// A place for one more connection; `None` when the client has `limit` of them.
    ///
    /// Cost: a short lock and one hash look-up, here and when the place is dropped.
    #[must_use]
    pub fn take(self: &Arc<Self>, client: ClientKey, limit: usize) -> Option<ClientPlace> {
        let taken = self.0.with(client, |counts| {
            let count = counts.entry(client).or_default();
            let fits = *count < limit;
            *count += usize::from(fits);
            fits
        });
        taken.then(|| ClientPlace { all: Arc::clone(self), client })
    }

    fn give_back(&self, client: ClientKey) {
        self.0.with(client, |counts| {
            if let Some(count) = counts.get_mut(&client) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(&client);
                }
            }
            if counts.capacity() > 64 && counts.len() < counts.capacity() / 4 {
                // After a flood its room is given back.
                counts.shrink_to(counts.len() * 2);
            }
        });
    }
}

/// One connection of a client; given back when dropped.
#[derive(Debug)]
pub struct ClientPlace {
    all: Arc<ClientConnections>,
    client: ClientKey,
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.all.give_back(self.client);
    }
}

/// How fast each client may ask: a token bucket each (the generic cell rate algorithm, ITU-T I.371 annex A).
#[derive(Debug)]
pub struct ClientRates {
    /// When each client's next request would be due if they came evenly, nanoseconds after `since`.
    due: Sharded<u64>,
    since: Instant,
}

impl Default for ClientRates {
    fn default() -> Self {
        Self { due: Sharded::default(), since: Instant::now() }
    }
}

impl ClientRates {
    /// Whether a client's request is within `per_second` and a burst above it. A rate of 0 is any.
    ///
    /// Cost: a short lock and one hash look-up; a look through one part of the table when that is full.
    #[must_use]
    pub fn take(&self, client: ClientKey, per_second: u32, burst: u32) -> bool {
        let now = || u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        per_second == 0 || self.take_at(now(), client, per_second, burst)
    }

    fn take_at(&self, now: u64, client: ClientKey, per_second: u32, burst: u32) -> bool {
        let interval = NANOS / u64::from(per_second);
        self.due.with(client, |all| {
            if all.len() >= MOST_RATES && !all.contains_key(&client) {
                // Whose next request is due may as well be new.
                all.retain(|_, due| *due > now);
                if all.len() >= MOST_RATES
                    && let Some(one) = all.keys().next().copied()
                {
                    all.remove(&one);
                }
            }
            let due = all.entry(client).or_insert(now);
            let start = (*due).max(now);
            let within = start - now <= interval * u64::from(burst);
            if within {
                *due = start + interval;
            }
            within
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> ClientKey {
        ClientKey::of(text.parse().unwrap())
    }

    #[test]
    fn a_client_is_an_address_or_a_64() {
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(client("192.0.2.1"), client("::ffff:192.0.2.1"));
        assert_eq!(client("2001:db8:0:1::1"), client("2001:db8:0:1:ffff::2"));
        assert_ne!(client("2001:db8:0:1::1"), client("2001:db8:0:2::1"));
    }

    #[test]
    fn places_are_counted_for_each_client_and_nothing_stays() {
        let all = Arc::new(ClientConnections::default());
        let (a, b) = (client("192.0.2.1"), client("192.0.2.2"));
        let places: Vec<_> = (0..5).filter_map(|_| all.take(a, 3)).collect();
        assert_eq!(places.len(), 3);
        assert!(all.take(b, 3).is_some(), "another's places are its own");
        drop(places);
        assert!(all.take(a, 3).is_some());
        assert!(all.0.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn a_client_gets_its_burst_and_then_its_rate() {
        let rates = ClientRates::default();
        let a = client("192.0.2.1");
        assert_eq!(
            (0..100).filter(|_| rates.take_at(0, a, 10, 5)).count(),
            6,
            "one, and five above the rate"
        );
        assert!(rates.take_at(0, client("192.0.2.2"), 10, 5), "another client has a bucket of its own");
        assert!(rates.take_at(NANOS / 10, a, 10, 5));
        assert!(!rates.take_at(NANOS / 10, a, 10, 5));
        assert!((0..1_000).all(|_| rates.take(a, 0, 0)), "a rate of nothing is none");
    }

    /// A flood from a million addresses takes less than 64 MiB.
    #[test]
    fn the_memory_of_rates_is_bounded() {
        let rates = ClientRates::default();
        for number in 0..200_000u64 {
            assert!(rates.take_at(number, ClientKey(number), 1, 0), "a new client is served");
        }
        let held: usize = rates.due.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(held <= SHARDS * MOST_RATES, "{held}");
    }
}
