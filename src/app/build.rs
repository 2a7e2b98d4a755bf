//! Builds the parts: registry, policies, store, counters, pages. Nothing is bound here.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::acme;
use super::admin_door::AdminDoor;
use super::descriptors;
use super::lists::{Built, SharedShelf, Shelf};
use super::site;
use crate::admin::{AdminState, InForce, Order, SwitchFigures};
use crate::config::switches::Switches;
use crate::config::{JwtKeys, LogLevel, Settings};
use crate::edge::House;
use crate::edge::account::token::Verifier;
use crate::edge::downstream::tls::Certificates;
use crate::edge::house::siblings::Siblings;
use crate::edge::house::{Site, Snapshot};
use crate::portal::Portal;
use crate::registry::Registry;
use crate::store::recipients::RecipientsCollector;
use crate::store::{self, Store, StoreCollector};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::events;
use crate::telemetry::metrics::Metrics;

/// What serving needs.
pub struct Parts {
    /// For the edge.
    pub house: Arc<House>,
    /// For the admin listener.
    pub admin: AdminState,
    /// What admin asks of the process.
    pub orders: mpsc::Receiver<Order>,
    /// For the TLS listeners, if there are any.
    pub certificates: Option<Arc<Certificates>>,
    /// How connections to the admin listener begin.
    pub admin_door: Arc<AdminDoor>,
    /// What outlives a reload.
    pub lasting: Lasting,
    /// What the admin listener shows.
    pub in_force: Arc<ArcSwap<InForce>>,
    /// The filter lists to be watched.
    pub shelf: SharedShelf,
}

/// What outlives a reload.
#[derive(Debug)]
pub struct Lasting {
    /// Opt-outs.
    pub store: Store,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Kill switches.
    pub switches: Arc<Switches>,
}

impl Lasting {
    fn new(settings: &Settings, store: Store) -> anyhow::Result<Self> {
        let switches = Arc::new(Switches::open(&settings.data_dir)?);
        let mut metrics = Metrics::new();
        metrics.register_collector(Box::new(StoreCollector::new(&store)));
        metrics.register_collector(Box::new(RecipientsCollector::new(&store)));
        metrics.register_collector(Box::new(SwitchFigures::new(Arc::clone(&switches))));
        Ok(Self { store, metrics: Arc::new(metrics), switches })
    }
}

/// Third parties that nobody knows, of all sites, that are told of.
const MOST_STRANGERS: usize = 10_000;

/// Orders that may wait for the one under way.
const ORDERS: usize = 8;

/// Names under which opt-outs are kept and that are gone from the settings, each with how many and what to write.
///
/// # Errors
/// The journal cannot be read.
pub fn lost_names(settings: &Settings) -> anyhow::Result<Vec<String>> {
    Ok(store::orphans(&settings.data_dir, &settings.names())?)
}

/// Refuses settings in which such a name is gone: nobody would be honoured by those opt-outs.
///
/// # Errors
/// All of them.
pub fn refuse_lost_names(settings: &Settings, lost: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(lost.is_empty(), "{}: {}", settings.data_dir.display(), lost.join("\n"));
    Ok(())
}

/// Notes the names that hold from now on, and warns where nobody is looked up who is kept under them.
pub fn note_names(store: &Store, settings: &Settings) {
    let kept = store.health().accounts_opted_out;
    if kept > 0 && settings.account.names_nobody() {
        tracing::warn!(
            "{kept} accounts or profiles are opted out, and no setting of [account] says whose a request is: on browsers \
             without a signal or cookie of their own they are not honoured"
        );
    }
    if let Err(error) = store.note_names(&settings.names()) {
        // A start after this one reads the records instead, which tell of sites, but not of groups.
        tracing::warn!("{error}; when a group is renamed later, nothing may say that its opt-outs are lost");
    }
}

/// Builds everything that can be refused.
///
/// `before_store` is called when all files were read and found good, right before the journal is opened.
///
/// # Errors
/// Names the file or setting.
pub fn build(settings: Settings, before_store: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Parts> {
    let settings = Arc::new(settings);
    let registry = Arc::new(registry(&settings.registry_files)?);
    let (shelf, lists) = Shelf::open(&settings)?;
    let certificates = match settings.tls.listen.is_empty() {
        true => None,
        false => Some(Arc::new(Certificates::read(&settings.tls.certificates)?)),
    };
    let admin_door = Arc::new(AdminDoor::read(settings.admin_tls.as_ref())?);
    let verifier = verifier(&settings, None)?;
    let store = open_store(&settings, before_store)?;
    let lasting = Lasting::new(&settings, store.clone())?;
    let metrics = Arc::clone(&lasting.metrics);
    let snapshot = snapshot(&settings, &registry, lists, verifier, &lasting)?;
    follow(&lasting.switches, &snapshot);
    let access_log = access_log(&settings, &metrics)?;
    let draining = Arc::new(AtomicBool::new(false));
    let in_force = Arc::new(ArcSwap::from_pointee(in_force(&snapshot, registry)));
    let (to_process, orders) = mpsc::channel(ORDERS);
    let admin = AdminState {
        in_force: Arc::clone(&in_force),
        orders: to_process,
        store: store.clone(),
        metrics: Arc::clone(&metrics),
        switches: Arc::clone(&lasting.switches),
        draining: Arc::clone(&draining),
        started: Instant::now(),
    };
    say_what_it_starts_with(&settings, &shelf, &lasting);
    if let Some(certificates) = &certificates {
        certificates.say_when_they_end(None, &metrics);
        if let Some(wanted) = &settings.acme {
            acme::take_up(wanted, &settings.data_dir, certificates, &metrics);
        }
    }
    let house = Arc::new(House {
        snapshot: ArcSwap::from_pointee(snapshot),
        store,
        metrics,
        access_log,
        draining,
        siblings: Siblings::new(if settings.dns.enabled { settings.dns.hosts } else { 0 }),
        strangers: Siblings::new(MOST_STRANGERS),
        connections: AtomicUsize::new(0),
        most_connections: descriptors::room_for_visitors(settings.limits.connections),
        client_connections: Arc::default(),
        portal_rates: Default::default(),
        sessions: Default::default(),
        shedding: AtomicBool::new(false),
        proofs: certificates.as_ref().map(|c| Arc::clone(c.proofs())).unwrap_or_default(),
    });
    let shelf = Arc::new(Mutex::new(shelf));
    Ok(Parts { house, admin, orders, certificates, admin_door, lasting, in_force, shelf })
}

/// Opens the journal, unless names would be lost.
fn open_store(
    settings: &Settings,
    before_store: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Store> {
    let lost = lost_names(settings);
    if let Ok(lost) = &lost {
        refuse_lost_names(settings, lost)?;
    }
    before_store()?;
    let store = Store::open(&settings.data_dir, &settings.store)?;
    if lost.is_err() {
        // What could not be read beside has been opened since, or the opening has said why not.
        refuse_lost_names(settings, &lost_names(settings)?)?;
    }
    note_names(&store, settings);
    Ok(store)
}

/// The thread that writes access lines; none where the level silences them.
fn access_log(settings: &Settings, metrics: &Metrics) -> anyhow::Result<Option<AccessLog>> {
    if matches!(settings.log.level, LogLevel::Error | LogLevel::Warn) {
        return Ok(None);
    }
    let started = AccessLog::start(settings.log.format, metrics.access_lines_lost.clone());
    started.context("cannot start the log's thread").map(Some)
}

/// Lines at start: filter lists, kill switches that are still thrown, an admin listener that anybody can reach.
fn say_what_it_starts_with(settings: &Settings, shelf: &Shelf, lasting: &Lasting) {
    let metrics = &lasting.metrics;
    let engaged = lasting.switches.list().into_iter().filter(|(_, engaged)| *engaged);
    engaged.for_each(|(site, _)| events::switch_found_engaged(&site));
    shelf.lists().for_each(|list| events::list_read(metrics, list.name(), list.rules(), list.left_out()));
    let shut = settings.admin_tls.as_ref().is_some_and(|tls| tls.client_roots.is_some());
    if !settings.admin.ip().is_loopback() && !shut {
        events::admin_open(settings.admin, settings.admin_tls.is_some());
    }
}

/// Settings made ready to serve by.
///
/// # Errors
/// Names the site and what is wrong with it.
pub fn snapshot(
    settings: &Arc<Settings>,
    registry: &Arc<Registry>,
    lists: Built,
    verifier: Option<Arc<Verifier>>,
    lasting: &Lasting,
) -> anyhow::Result<Snapshot> {
    if let Some(unknown) = unknown_vendor(settings, registry) {
        let (id, hint) = (&unknown.id, unknown.hint());
        anyhow::bail!("`recipients`: the registry holds no vendor `{id}`\n  next: {hint}");
    }
    let sites = settings.sites.iter().enumerate();
    let sites = sites
        .map(|(index, site)| site::resolve(index, site, settings, registry, &lists, lasting))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
    say_what_contracts_allow(&sites);
    let portal = Portal::new(settings, lasting.store.clone(), Arc::clone(&lasting.metrics));
    let vendors = registry.vendors().map(|(_, vendor)| vendor.id.as_str());
    let vendors = Arc::new(lasting.metrics.vendors(vendors));
    Ok(Snapshot::new(Arc::clone(settings), portal, vendors, sites, lists.sets, verifier))
}

/// What verifies the tokens that name accounts. Keys that are fetched go over from before, where nothing about them
/// has changed; a file is read again.
///
/// # Errors
/// Names the file and says what is wrong with it.
pub fn verifier(
    settings: &Settings,
    before: Option<&Arc<Verifier>>,
) -> anyhow::Result<Option<Arc<Verifier>>> {
    let Some(jwt) = &settings.account.jwt else { return Ok(None) };
    let fetched = matches!(jwt.keys, JwtKeys::Url(_));
    if let Some(before) = before.filter(|before| fetched && before.settings == *jwt) {
        return Ok(Some(Arc::clone(before)));
    }
    let next = "next: correct the file, or `account.jwt` in the settings";
    let verifier = Verifier::new(jwt.clone()).map_err(|error| anyhow::anyhow!("{error:#}\n  {next}"))?;
    Ok(Some(Arc::new(verifier)))
}

/// What the admin listener knows of a snapshot.
pub fn in_force(snapshot: &Snapshot, registry: Arc<Registry>) -> InForce {
    let policies = snapshot.sites.iter().map(|site| Arc::clone(&site.rule.policy)).collect();
    InForce { settings: Arc::clone(&snapshot.settings), policies, registry }
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

/// Recipients whose vendors the registry does not hold, in words; `None` when it holds all.
#[must_use]
pub fn unknown_vendor(settings: &Settings, registry: &Registry) -> Option<UnknownVendor> {
    let named = settings.recipients.iter().flat_map(|recipient| recipient.vendors.iter());
    let unknown = named.into_iter().find(|id| registry.lookup_id(id).is_none())?;
    let nearest = registry.nearest_id(unknown).map(str::to_owned);
    Some(UnknownVendor { id: unknown.clone(), nearest })
}

/// A vendor that a recipient is to stand for and that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVendor {
    /// As it is written.
    pub id: String,
    /// The known id that is most like it.
    pub nearest: Option<String>,
}

impl UnknownVendor {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let near = self.nearest.as_ref().map(|id| format!("did you mean `{id}`? ")).unwrap_or_default();
        format!("{near}`optgate registry list` shows every id")
    }
}

/// The kill switches of a snapshot's sites are the ones that can be thrown.
pub fn follow(switches: &Switches, snapshot: &Snapshot) {
    switches.follow(snapshot.sites.iter().map(|site| (site.settings.name.clone(), Arc::clone(&site.switch))));
}

/// Lines at start: sale/share vendors that a contract lets in for opted-out visitors too, and vendors stripped only
/// because no contract is on file.
fn say_what_contracts_allow(sites: &[Site]) {
    for site in sites {
        let rules = std::iter::once(&site.rule).chain(site.paths.iter().map(|(_, rule)| rule));
        let allowed: BTreeSet<_> = rules.flat_map(|rule| rule.policy.allowed_sale_share()).collect();
        if !allowed.is_empty() {
            let allowed = allowed.into_iter().collect::<Vec<_>>().join(", ");
            tracing::warn!(
                site = site.settings.name,
                "sells or shares but for its contract, and stays for opted-out visitors: {allowed}"
            );
        }
        if site.rule.policy.strips_unknown() {
            tracing::info!(
                site = site.settings.name,
                "third parties that nobody knows are stripped for opted-out visitors, but for {} in `known`; \
                 /api/third-parties on the admin listener shows which",
                site.settings.policy.known.len(),
            );
        }
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
