//! Builds the parts: registry, policies, store, counters, pages. Nothing is bound here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

use anyhow::Context as _;
use arc_swap::ArcSwap;

use super::lists::{Built, Shelf};
use crate::admin::{AdminState, SwitchFigures};
use crate::config::switches::Switches;
use crate::config::{self, LogLevel, Settings};
use crate::edge::House;
use crate::edge::house::{Rule, Site, Snapshot, guarded};
use crate::edge::siblings::Siblings;
use crate::edge::tls;
use crate::edge::upstream::{Connector, Group};
use crate::enforce::csp::Wall;
use crate::portal::Portal;
use crate::registry::{Policy, Registry};
use crate::store::{Store, StoreCollector};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::events;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::upstreams::UpstreamFigures;

/// What serving needs.
pub struct Parts {
    /// For the edge.
    pub house: Arc<House>,
    /// For the admin listener.
    pub admin: AdminState,
    /// The filter lists, to be watched.
    pub shelf: Shelf,
}

/// Builds everything that can be refused.
///
/// # Errors
/// Names the file or setting.
pub fn build(settings: &Settings) -> anyhow::Result<Parts> {
    let registry = Arc::new(registry(&settings.registry_files)?);
    let (shelf, lists) = Shelf::open(settings)?;
    let names: Vec<String> = settings.sites.iter().map(|site| site.name.clone()).collect();
    let vendors: Vec<String> = registry.vendors().map(|(_, vendor)| vendor.id.clone()).collect();
    let mut metrics = Metrics::new(&names, &vendors);
    let origins: Vec<_> =
        settings.sites.iter().map(|site| (site.name.clone(), site.upstreams.as_slice())).collect();
    let figures = metrics.add_upstreams(&origins);
    let sites = settings
        .sites
        .iter()
        .zip(figures)
        .enumerate()
        .map(|(index, (site, figures))| resolve(index, site, settings, &registry, &lists, figures))
        .collect::<anyhow::Result<Vec<_>>>()?;
    say_what_contracts_would_allow(&sites);
    let policies = sites.iter().map(|site| Arc::clone(&site.rule.policy)).collect();
    let store = Store::open(&settings.data_dir, &settings.store)?;
    let switches = Arc::new(Switches::load(&settings.data_dir, &names)?);
    metrics.register_collector(Box::new(StoreCollector::new(&store)));
    metrics.register_collector(Box::new(SwitchFigures::new(Arc::clone(&switches), names)));
    let metrics = Arc::new(metrics);
    let draining = Arc::new(AtomicBool::new(false));
    let access_log = match settings.log.level {
        LogLevel::Error | LogLevel::Warn => None,
        _ => Some(AccessLog::start(settings.log.format).context("cannot start the log's thread")?),
    };
    let admin = AdminState {
        settings: Arc::new(settings.clone()),
        policies,
        store: store.clone(),
        metrics: Arc::clone(&metrics),
        switches: Arc::clone(&switches),
        draining: Arc::clone(&draining),
        registry_version: registry.version().into(),
        started: Instant::now(),
    };
    let house = House {
        snapshot: ArcSwap::from_pointee(Snapshot::new(settings.clone(), sites, lists.sets)),
        portal: Portal::new(settings, store.clone(), Arc::clone(&metrics)),
        store,
        metrics,
        switches,
        access_log,
        draining,
        siblings: Siblings::new(if settings.dns.enabled { settings.dns.hosts } else { 0 }),
        connections: AtomicUsize::new(0),
    };
    shelf
        .lists()
        .for_each(|list| events::list_read(&house.metrics, list.name(), list.rules(), list.left_out()));
    Ok(Parts { house: Arc::new(house), admin, shelf })
}

/// What the files that the settings name hold and nobody can use: certificates, keys, an origin's roots, filter
/// lists.
/// Empty when all is well. Each complaint names its file.
#[must_use]
pub fn file_problems(settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    if !settings.tls.listen.is_empty()
        && let Err(error) = tls::server_config(&settings.tls.certificates)
    {
        problems.push(format!("{error:#}"));
    }
    if let Err(error) = Shelf::open(settings) {
        problems.push(error.to_string());
    }
    for site in &settings.sites {
        for upstream in &site.upstreams {
            if let Err(error) = Connector::new(upstream.clone(), settings.timeouts.upstream_connect) {
                problems.push(format!("site `{}`: {error:#}", site.name));
            }
        }
    }
    problems
}

/// The built-in registry with the operator's files over it.
///
/// # Errors
/// Names file, line and column.
pub fn registry(files: &[std::path::PathBuf]) -> anyhow::Result<Registry> {
    let texts = files
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).map_err(|error| {
                anyhow::anyhow!(
                    "{}: {error}\n  next: check the file, or remove it from `registry.files`",
                    path.display()
                )
            })?;
            Ok((path.display().to_string(), text))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    Ok(Registry::with_files(&texts)?)
}

fn resolve(
    index: usize,
    site: &Arc<config::Site>,
    settings: &Settings,
    registry: &Arc<Registry>,
    lists: &Built,
    figures: Vec<Arc<UpstreamFigures>>,
) -> anyhow::Result<Site> {
    let named = || format!("site `{}`", site.name);
    let policy = Policy::resolve(Arc::clone(registry), &site.policy).with_context(named)?;
    let (policy, guard) = guarded(policy, settings);
    let rule = Rule { mode: site.mode, rewrite: true, policy, guard };
    let connectors = site
        .upstreams
        .iter()
        .map(|upstream| Connector::new(upstream.clone(), settings.timeouts.upstream_connect))
        .collect::<anyhow::Result<Vec<_>>>()
        .with_context(named)?;
    let mut paths = site
        .paths
        .iter()
        .map(|path| {
            let base = Rule { mode: path.mode.unwrap_or(site.mode), rewrite: path.rewrite, ..rule.clone() };
            if path.vendors.is_empty() {
                return Ok((path.prefix.clone(), base));
            }
            let own = rule.policy.with_overrides(&path.vendors);
            let own = own.with_context(|| format!("{} path `{}`", named(), path.prefix))?;
            Ok((path.prefix.clone(), base.with_policy(own, settings)))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    let policies = std::iter::once(&*rule.policy).chain(paths.iter().map(|(_, rule)| &*rule.policy));
    let wall = Wall::new(&site.csp, &settings.portal.prefix, policies).with_context(named)?;
    let set = lists.of_site.get(index).copied().flatten();
    let in_force = set.and_then(|at| lists.sets.get(at)).map(|set| &**set);
    let version = Site::version_of(site, &rule, in_force, settings);
    let group =
        Group::new(site, connectors, figures, &settings.outlier, &settings.limits, &settings.timeouts);
    Ok(Site {
        index,
        settings: Arc::clone(site),
        version,
        group: Arc::new(group),
        wall,
        lists: set,
        rule,
        paths,
    })
}

/// One line at start: vendors stripped only because no contract is on file (DESIGN 4).
fn say_what_contracts_would_allow(sites: &[Site]) {
    for site in sites {
        let vendors = site.rule.policy.contract_would_allow();
        if !vendors.is_empty() {
            tracing::info!(
                site = site.settings.name,
                "{} vendors could be service providers and are stripped for want of a [contracts.ID] entry; \
                 `optgate registry list` shows them",
                vendors.len(),
            );
        }
    }
}
