//! A site as it is served: its policy, origins, walls and figures, made of its settings.

use std::sync::Arc;

use anyhow::Context as _;

use super::build::Lasting;
use super::lists::Built;
use crate::config::{self, Settings, VendorAction};
use crate::edge::house::{Rule, Site, guarded};
use crate::edge::own::https;
use crate::edge::upstream::{Connector, Group};
use crate::enforce::csp::Wall;
use crate::registry::lists::ListSet;
use crate::registry::{Policy, PolicyError, Registry};
use crate::store::recipients::SiteSightings;

/// Makes the site at a place in the settings ready to serve.
///
/// # Errors
/// Names the site and what is wrong with it.
pub fn resolve(
    index: usize,
    site: &Arc<config::Site>,
    settings: &Settings,
    registry: &Arc<Registry>,
    lists: &Built,
    lasting: &Lasting,
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
    let figures =
        site.upstreams.iter().map(|upstream| Arc::new(lasting.metrics.upstream(&site.name, upstream)));
    let group = Group::new(site, connectors, figures.collect(), settings);
    let resolved = Site {
        index,
        name: site.name.as_str().into(),
        settings: Arc::clone(site),
        metrics: Arc::new(lasting.metrics.site(&site.name)),
        sightings: sightings(site, registry, lasting),
        switch: lasting.switches.of(&site.name)?,
        version,
        group: Arc::new(group),
        hsts: site.hsts.as_ref().and_then(https::hsts_value),
        wall,
        lists: set,
        rule,
        paths,
        programme: None,
    };
    let programme = match &site.programme {
        Some(programme) => {
            let named = || format!("{} `programme.vendors`", named());
            Some(Arc::new(for_members(&resolved, programme, settings, in_force).with_context(named)?))
        }
        None => None,
    };
    Ok(Site { programme, ..resolved })
}

/// Where the site's pages note the vendors that everybody else's pages load.
fn sightings(site: &config::Site, registry: &Registry, lasting: &Lasting) -> Arc<SiteSightings> {
    let vendors = registry.vendors().map(|(_, vendor)| vendor.id.as_str());
    lasting.store.recipients().sightings(&site.name.as_str().into(), vendors)
}

/// A site for an account that keeps its programme: to the programme's vendors the opt-out does not apply.
fn for_members(
    site: &Site,
    programme: &config::Programme,
    settings: &Settings,
    lists: Option<&ListSet>,
) -> anyhow::Result<Site> {
    let keeping = |rule: &Rule| {
        let policy = rule.policy.with_programme(&programme.vendors)?;
        Ok::<_, PolicyError>(rule.with_policy(policy, settings))
    };
    let mut own = config::Site::clone(&site.settings);
    own.policy.vendors.extend(programme.vendors.iter().map(|id| (id.clone(), VendorAction::Allow)));
    let rule = keeping(&site.rule)?;
    let paths: Vec<_> = site
        .paths
        .iter()
        .map(|(prefix, path)| Ok((prefix.clone(), keeping(path)?)))
        .collect::<Result<_, PolicyError>>()?;
    let policies = std::iter::once(&*rule.policy).chain(paths.iter().map(|(_, rule)| &*rule.policy));
    let wall = Wall::new(&own.csp, &settings.portal.prefix, policies)?;
    let version = Site::version_of(&own, &rule, lists, settings);
    Ok(Site { settings: Arc::new(own), rule, paths, wall, version, ..site.clone() })
}
