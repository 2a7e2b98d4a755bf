//! CNAME-cloaked trackers: hosts under a site's own name that lead to a vendor (`rewriting.md` 1).
//!
//! A task of the background threads looks up the hosts that settings name and pages refer to: at start, when
//! a page brings a new one, and each again after `dns.interval`. Nothing on a request's way waits for it. What
//! it finds goes into the policies as further hosts of the vendor, with a new snapshot; a look-up that fails
//! keeps the last answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::time::Instant;

use crate::config::Dns;
use crate::edge::House;
use crate::registry::{CloakedHosts, Policy, VendorId};
use crate::telemetry::events;

/// Longest chain of names that is followed; resolvers give up at about as many.
const MAX_CHAIN: usize = 8;

/// How long a host that could not be looked up waits for its next turn, at most.
const RETRY: Duration = Duration::from_secs(60);

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

/// Looks hosts up until the process ends.
pub async fn watch(house: Arc<House>, resolver: TokioResolver) {
    let mut known: HashMap<Key, Known> = HashMap::new();
    loop {
        let next = round(&house, &resolver, &mut known).await;
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = house.siblings.news() => {}
        }
    }
}

/// Asks for every host whose turn it is and puts what changed in force; gives when the next one's turn is.
async fn round(house: &House, resolver: &TokioResolver, known: &mut HashMap<Key, Known>) -> Instant {
    let snapshot = house.snapshot.load_full();
    let interval = snapshot.settings.dns.interval;
    let mut wanted: HashSet<Key> = HashSet::new();
    for site in &snapshot.sites {
        let named = site.settings.first_party_hosts.iter().cloned();
        let seen = house.siblings.of(&site.name);
        wanted.extend(named.chain(seen).map(|host| (Arc::clone(&site.name), host)));
    }
    known.retain(|key, _| wanted.contains(key));
    let mut changed = false;
    for key in wanted {
        let now = Instant::now();
        if known.get(&key).is_some_and(|host| host.due > now) {
            continue;
        }
        let Some(site) = snapshot.sites.iter().find(|site| site.name == key.0) else { continue };
        let before = known.get(&key).and_then(|host| host.vendor.clone());
        let (vendor, wait) = match follow(resolver, &site.rule.policy, &key.1).await {
            Ok(found) => {
                house.metrics.dns_answers.inc();
                let found = found
                    .map(|(cname, vendor)| (cname, site.rule.policy.registry().vendor(vendor).id.clone()));
                if let Some((cname, id)) = found.as_ref().filter(|(_, id)| before.as_ref() != Some(id)) {
                    events::cloaked_host_found(&site.settings.name, &key.1, cname, id);
                }
                (found.map(|(_, id)| id), interval)
            }
            Err(error) => {
                events::cname_lookup_failed(&house.metrics, &site.settings.name, &key.1, &error);
                (before.clone(), interval.min(RETRY))
            }
        };
        changed |= vendor != before;
        known.insert(key, Known { vendor, due: Instant::now() + wait });
    }
    if changed {
        put_in_force(house, known);
    }
    known.values().map(|host| host.due).min().unwrap_or_else(|| Instant::now() + interval)
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
