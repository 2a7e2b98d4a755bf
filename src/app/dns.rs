//! CNAME-cloaked trackers: hosts under a site's own name that lead to a vendor.
//!
//! A task of the background threads looks up the hosts that settings name and pages refer to: at start, when
//! a page brings a new one, and each again after `dns.interval`. Nothing on a request's way waits for it. What
//! it finds goes into the policies as further hosts of the vendor, with a new snapshot; a look-up that fails
//! keeps the last answer, and a start begins with what the last process had found.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::time::Instant;

use super::cloaked_hosts::{self, FoundHost};
use crate::config::Dns;
use crate::edge::House;
use crate::edge::house::Snapshot;
use crate::registry::{CloakedHosts, Policy, VendorId};
use crate::telemetry::events;

/// Longest chain of names that is followed; resolvers give up at about as many.
const MAX_CHAIN: usize = 8;

/// How long a host that could not be looked up waits for its next turn, at most.
const RETRY: Duration = Duration::from_secs(60);

/// Hosts that are asked about at the same time.
const AT_ONCE: usize = 16;

/// What is known of one host.
#[derive(Debug)]
struct Known {
    /// Whose it is (registry id), by the last look-up that was answered.
    vendor: Option<String>,
    /// When to ask again.
    due: Instant,
}

/// A site's name and a host.
type Key = (Arc<str>, String);

/// What a resolver is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// CNAMEs of visitors' hosts.
    Cnames,
    /// Addresses of origins.
    Addresses,
}

/// The resolver as the settings want it.
///
/// # Errors
/// The system's own settings cannot be read.
pub fn resolver(settings: &Dns, asked: Asked) -> anyhow::Result<TokioResolver> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = if settings.servers.is_empty() {
        Resolver::builder(provider).context("the system's name servers cannot be read; set `dns.servers`")?
    } else {
        let servers = settings.servers.iter().map(|server| {
            let at = |mut connection: ConnectionConfig| {
                connection.port = server.port();
                connection
            };
            let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        Resolver::builder_with_config(config, provider)
    };
    tune(builder.options_mut(), settings.timeout);
    if asked == Asked::Addresses {
        // What the operator wrote there is meant for this machine; the public does not see it.
        builder.options_mut().use_hosts_file = ResolveHosts::Always;
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    }
    Ok(builder.build()?)
}

fn tune(options: &mut ResolverOpts, timeout: Duration) {
    options.timeout = timeout;
    options.attempts = 2;
    // Each question is put once an interval, so an answer from a cache of ours would only be stale.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
}

/// What the process before this one had found is in force at once, and looked up again first of all.
pub fn remember(house: &House) {
    let snapshot = house.snapshot.load_full();
    let known = remembered(&snapshot);
    for (name, host) in known.keys() {
        house.siblings.note(name, std::slice::from_ref(host));
    }
    if !known.is_empty() {
        put_in_force(house, &known);
    }
}

fn remembered(snapshot: &Snapshot) -> HashMap<Key, Known> {
    let due = Instant::now();
    // The list is bounded as it was made; the settings may say less now.
    let found =
        cloaked_hosts::read(&snapshot.settings.data_dir).into_iter().take(snapshot.settings.dns.hosts);
    let known = found.filter_map(|found| {
        let site = snapshot.sites.iter().find(|site| *site.name == *found.site)?;
        Some(((Arc::clone(&site.name), found.host), Known { vendor: Some(found.vendor), due }))
    });
    known.collect()
}

/// Looks hosts up until the process ends: several at a time, so that a name whose servers are silent holds up no other,
/// and each answer is in force as soon as it is there.
pub async fn watch(house: Arc<House>, resolver: TokioResolver) {
    let mut known = remembered(&house.snapshot.load());
    let mut asked: HashSet<Key> = HashSet::new();
    let mut answers = FuturesUnordered::new();
    let (mut queue, mut next) = (Vec::new(), Instant::now());
    let mut plans = true;
    loop {
        if plans {
            (queue, next) = plan(&house, &mut known, &asked);
            plans = false;
        }
        while asked.len() < AT_ONCE
            && let Some((key, policy)) = queue.pop()
        {
            asked.insert(key.clone());
            answers.push(look_up(resolver.clone(), policy, key));
        }
        tokio::select! {
            Some((key, answer)) = answers.next() => {
                asked.remove(&key);
                next = next.min(note(&house, &mut known, key, answer));
            }
            () = tokio::time::sleep_until(next), if queue.is_empty() => plans = true,
            () = house.siblings.news() => plans = true,
        }
    }
}

/// The hosts whose turn it is, but for those that are being asked about, and when the next one's is. What is known of
/// hosts that nobody wants any more is forgotten.
fn plan(
    house: &House,
    known: &mut HashMap<Key, Known>,
    asked: &HashSet<Key>,
) -> (Vec<(Key, Arc<Policy>)>, Instant) {
    let snapshot = house.snapshot.load_full();
    let mut wanted: HashMap<Key, &Arc<Policy>> = HashMap::new();
    for site in &snapshot.sites {
        let named = site.settings.first_party_hosts.iter().cloned();
        let seen = house.siblings.of(&site.name);
        let keys = named.chain(seen).map(|host| (Arc::clone(&site.name), host));
        wanted.extend(keys.map(|key| (key, &site.rule.policy)));
    }
    let found = |known: &HashMap<Key, Known>| known.values().filter(|host| host.vendor.is_some()).count();
    let before = found(known);
    known.retain(|key, _| wanted.contains_key(key));
    if found(known) != before {
        put_in_force(house, known);
        keep(house, known);
    }
    let now = Instant::now();
    let is_due = |key: &Key| known.get(key).is_none_or(|host| host.due <= now);
    let due = wanted.iter().filter(|(key, _)| !asked.contains(*key) && is_due(key));
    let due = due.map(|(key, policy)| (key.clone(), Arc::clone(policy))).collect();
    let later = known.values().map(|host| host.due).filter(|due| *due > now).min();
    (due, later.unwrap_or_else(|| now + snapshot.settings.dns.interval))
}

/// A host that was asked about, and the name and the vendor that it leads to.
type Answered = (Key, Result<Option<(String, String)>, NetError>);

async fn look_up(resolver: TokioResolver, policy: Arc<Policy>, key: Key) -> Answered {
    let id = |vendor| policy.registry().vendor(vendor).id.clone();
    let answer = follow(&resolver, &policy, &key.1).await;
    (key, answer.map(|found| found.map(|(cname, vendor)| (cname, id(vendor)))))
}

/// Takes an answer in, and puts it in force if it is another than before; gives when to ask again.
fn note(
    house: &House,
    known: &mut HashMap<Key, Known>,
    key: Key,
    answer: Result<Option<(String, String)>, NetError>,
) -> Instant {
    let interval = house.snapshot.load().settings.dns.interval;
    let before = known.get(&key).and_then(|host| host.vendor.clone());
    let (vendor, wait) = match answer {
        Ok(found) => {
            house.metrics.dns_answers.inc();
            if let Some((cname, id)) = found.as_ref().filter(|(_, id)| before.as_ref() != Some(id)) {
                events::cloaked_host_found(&key.0, &key.1, cname, id);
            }
            (found.map(|(_, id)| id), interval)
        }
        Err(error) => {
            events::cname_lookup_failed(&house.metrics, &key.0, &key.1, &error);
            (before.clone(), interval.min(RETRY))
        }
    };
    let (changed, due) = (vendor != before, Instant::now() + wait);
    known.insert(key, Known { vendor, due });
    if changed {
        put_in_force(house, known);
        keep(house, known);
    }
    due
}

/// Keeps what was found for the next start. An old process after an upgrade leaves that to the new one.
fn keep(house: &House, known: &HashMap<Key, Known>) {
    if house.store.is_lent() {
        return;
    }
    let found = known.iter().filter_map(|((site, host), known)| {
        let vendor = known.vendor.clone()?;
        Some(FoundHost { site: site.to_string(), host: host.clone(), vendor })
    });
    cloaked_hosts::write(&house.snapshot.load().settings.data_dir, found.collect());
}

/// Follows a host's CNAMEs to the first that is a vendor's.
async fn follow(
    resolver: &TokioResolver,
    policy: &Policy,
    host: &str,
) -> Result<Option<(String, VendorId)>, NetError> {
    // Absolute, so that no search list makes another name of it.
    let mut name = Name::from_ascii(format!("{host}.")).map_err(NetError::from)?;
    for _ in 0..MAX_CHAIN {
        let answer = match resolver.lookup(name.clone(), RecordType::CNAME).await {
            Ok(answer) => answer,
            Err(error) if error.is_no_records_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let target = answer.answers().iter().find_map(|record| match &record.data {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        });
        let Some(target) = target else { return Ok(None) };
        let text = target.to_lowercase().to_ascii();
        let text = text.trim_end_matches('.');
        if let Some(vendor) = policy.owner(text) {
            return Ok(Some((text.to_owned(), vendor)));
        }
        name = target;
    }
    Ok(None)
}

/// Swaps a snapshot in that knows the cloaked hosts; requests under way keep theirs.
fn put_in_force(house: &House, known: &HashMap<Key, Known>) {
    let hidden = || known.iter().filter_map(|(key, answer)| Some((key, answer.vendor.as_deref()?)));
    // Tried again when somebody else swapped in between.
    house.snapshot.rcu(|snapshot| {
        let found = snapshot.sites.iter().map(|site| {
            let registry = site.rule.policy.registry();
            let of_site = hidden().filter(|((name, _), _)| *name == site.name);
            let hosts = of_site
                .filter_map(|((_, host), id)| Some((Box::from(host.as_str()), registry.lookup_id(id)?)));
            (site.index, Arc::new(hosts.collect::<CloakedHosts>()))
        });
        snapshot.with_cloaked(&found.collect())
    });
    let count = hidden().count();
    house.metrics.cloaked_hosts.set(i64::try_from(count).unwrap_or(i64::MAX));
}
