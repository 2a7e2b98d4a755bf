//! Sites: hosts, origins, policy and path rules.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use url::Host;

use super::dates;
use super::formerly;
use super::groups;
use super::key::KeyPath;
use super::known;
use super::lists::lists;
use super::load::Merged;
use super::meaning::Problems;
use super::paths::{check_collectors, paths};
use super::programme;
use super::raw::{Raw, RawContract, RawSite};
use super::sharing::{self, Sharing};
use super::tls;
use super::upstreams::upstreams;
use super::written::RawUpstream;
use super::{Balance, Contract, Csp, Site, VendorPolicy};
use crate::config::error::Place;
use crate::privacy::Mode;

/// Sources that the second wall may name.
const MOST_SOURCES: usize = 200;

/// The position of the site that a setting names; otherwise it is said which there are.
pub(super) fn named<S: Borrow<Site>>(
    path: &KeyPath,
    name: &str,
    sites: &[S],
    problems: &mut Problems<'_>,
) -> Option<usize> {
    let found = sites.iter().position(|site| site.borrow().name == name);
    if found.is_none() {
        let names: Vec<&str> = sites.iter().map(|site| site.borrow().name.as_str()).collect();
        problems.wrong(
            path,
            format!("`{path}` names no site: \"{name}\""),
            &format!("the sites are: {}", names.join(", ")),
            "write the `name` of one of [[sites]]; without one it is its first host",
        );
    }
    found
}

/// The sites in order, and the one for hosts nobody named.
pub(super) fn sites(
    merged: &Merged,
    without_sites: bool,
    problems: &mut Problems<'_>,
) -> (Vec<Arc<Site>>, Option<usize>) {
    let raw = &merged.raw;
    let top = KeyPath::of("sites");
    match (raw.sites.is_empty(), raw.upstream.0.is_empty()) {
        (true, true) if !without_sites => problems.missing(
            &KeyPath::of("upstream"),
            "there is no site to stand in front of".to_owned(),
            "neither `upstream` nor [[sites]] is set",
            "type `optgate run --upstream http://127.0.0.1:3000` with your site's address, or write a file \
             with `optgate init` and `optgate run --config optgate.toml`; `optgate demo` needs no site",
        ),
        (false, false) => problems.wrong(
            &KeyPath::of("upstream"),
            "`upstream` and [[sites]] are both set".to_owned(),
            "`upstream` is short for one site, and which site's origin it would be is not said",
            "remove `upstream`, and give every site its own",
        ),
        _ => {}
    }
    // Commands that serve nobody still ask how a site would treat a vendor.
    let written = match raw.sites.is_empty() {
        true if without_sites || !raw.upstream.0.is_empty() => vec![shorthand(raw)],
        _ => raw.sites.clone(),
    };
    let shared = contracts(&KeyPath::of("contracts"), &raw.contracts, problems);
    let for_all = lists(&KeyPath::of("lists"), &raw.lists.0, problems);
    check_collectors(&KeyPath::of("collectors"), &raw.collectors.0, problems);
    check_collectors(&KeyPath::of("not_collectors"), &raw.not_collectors.0, problems);
    check_own_hosts(&KeyPath::of("first_party_hosts"), &raw.first_party_hosts.0, problems);
    let known_to_all = known::known(&KeyPath::of("known"), &raw.known.0, problems);
    let mut sites = Vec::new();
    for (i, site) in written.iter().enumerate() {
        let mut site = one_site(merged, &top.at(i), site, written.len() > 1, problems);
        for (id, contract) in &shared {
            site.policy.contracts.entry(id.clone()).or_insert_with(|| contract.clone());
        }
        site.lists.splice(0..0, for_all.iter().cloned());
        site.policy.known.extend(known_to_all.iter().cloned());
        sites.push(site);
    }
    unique(&sites, &top, problems);
    groups::join(&raw.groups, &mut sites, problems);
    known::join(&mut sites);
    formerly::join(raw, &written, &mut sites, problems);
    let default_site = default_site(raw, &sites, problems);
    (sites.into_iter().map(Arc::new).collect(), default_site)
}

/// The one site that a bare `upstream` means.
fn shorthand(raw: &Raw) -> RawSite {
    let mut site = RawSite { name: Some("default".to_owned()), ..RawSite::default() };
    site.upstream.0 = raw.upstream.0.iter().cloned().map(RawUpstream::Url).collect();
    site
}

fn one_site(
    merged: &Merged,
    path: &KeyPath,
    site: &RawSite,
    one_of_many: bool,
    problems: &mut Problems<'_>,
) -> Site {
    let raw = &merged.raw;
    let hosts = hosts(path, site, one_of_many, problems);
    if let Some(own) = &site.first_party_hosts {
        check_own_hosts(&path.key("first_party_hosts"), &own.0, problems);
    }
    if let Some(own) = &site.collectors {
        check_collectors(&path.key("collectors"), &own.0, problems);
    }
    if let Some(own) = &site.not_collectors {
        check_collectors(&path.key("not_collectors"), &own.0, problems);
    }
    let forced = forced_mode(merged);
    let mode = forced.unwrap_or_else(|| site.mode.unwrap_or(raw.mode).into());
    let policy = VendorPolicy {
        service_providers: site.service_providers.unwrap_or(raw.service_providers),
        unknown: site.unknown.unwrap_or(raw.unknown),
        known: known::known(&path.key("known"), &site.known.0, problems),
        own: Vec::new(),
        vendors: raw.vendors.iter().chain(&site.vendors).map(|(id, action)| (id.clone(), *action)).collect(),
        contracts: contracts(&path.key("contracts"), &site.contracts, problems),
        collectors: site.collectors.as_ref().unwrap_or(&raw.collectors).0.clone(),
        not_collectors: site.not_collectors.as_ref().unwrap_or(&raw.not_collectors).0.clone(),
    };
    let name = name(path, site, &hosts, problems);
    Site {
        scope: name.clone(),
        formerly: Vec::new(),
        lineage: String::new(),
        cookie_domain: None,
        programme: programme::programme(path, raw, site, problems),
        name,
        hosts,
        upstreams: upstreams(merged, path, site, problems),
        sharing: sharing(path, raw, site, problems),
        mode,
        policy,
        paths: paths(path, site, forced, problems),
        on_rewrite_failure: site.on_rewrite_failure.unwrap_or(raw.on_rewrite_failure),
        redirect: tls::redirect(path, raw, site, problems),
        hsts: tls::hsts(path, raw, site, problems),
        no_transform: site.no_transform.unwrap_or(raw.no_transform),
        compress: site.compress.unwrap_or(raw.compress),
        cache_front: site.cache.front.unwrap_or(raw.cache.front),
        strip_link_params: site.strip_link_params.unwrap_or(raw.strip_link_params),
        csp: csp(path, raw, site, problems),
        lists: lists(&path.key("lists"), &site.lists.0, problems),
        first_party_hosts: site
            .first_party_hosts
            .as_ref()
            .unwrap_or(&raw.first_party_hosts)
            .0
            .iter()
            .filter_map(|host| domain(host))
            .collect(),
    }
}

/// How a site's origins share its requests.
fn sharing(path: &KeyPath, raw: &Raw, site: &RawSite, problems: &mut Problems<'_>) -> Sharing {
    let balance = site.balance.unwrap_or(raw.balance);
    if site.hash_on.is_some() && balance != Balance::ConsistentHash {
        unused(&path.key("hash_on"), "consistent-hash", problems);
    }
    if site.sticky_cookie.is_some() && balance != Balance::StickyCookie {
        unused(&path.key("sticky_cookie"), "sticky-cookie", problems);
    }
    Sharing {
        balance,
        hash_on: site.hash_on.as_ref().unwrap_or(&raw.hash_on).0.clone(),
        cookie: site.sticky_cookie.as_ref().unwrap_or(&raw.sticky_cookie).0.clone(),
        slow_start: site.slow_start.as_ref().unwrap_or(&raw.slow_start).0,
        health: sharing::health(&raw.health, path, site, problems),
    }
}

fn unused(path: &KeyPath, balance: &str, problems: &mut Problems<'_>) {
    problems.wrong(
        path,
        format!("`{path}` has no effect"),
        &format!("the site's requests are not shared out by `balance = \"{balance}\"`"),
        &format!("add balance = \"{balance}\" to this site, or remove the setting"),
    );
}

/// The second wall of a site: its own sources beside those of every site.
fn csp(path: &KeyPath, raw: &Raw, site: &RawSite, problems: &mut Problems<'_>) -> Csp {
    let mut allow: Vec<_> = raw.csp.allow.0.iter().chain(&site.csp.allow.0).map(|s| s.0.clone()).collect();
    allow.sort();
    allow.dedup();
    if allow.len() > MOST_SOURCES {
        let path =
            if site.csp.allow.0.is_empty() { KeyPath::of("csp") } else { path.key("csp") }.key("allow");
        problems.wrong(
            &path,
            format!("`{path}` is too long"),
            &format!(
                "with {} sources every page's head would outgrow what browsers and fronts take; the limit is \
                 {MOST_SOURCES}",
                allow.len()
            ),
            "join subdomains as \"*.example.com\", or leave out what opted-out pages do not need",
        );
    }
    Csp { mode: site.csp.mode.unwrap_or(raw.csp.mode), allow }
}

/// `--mode` is what a person typed last: it holds for every site and path.
fn forced_mode(merged: &Merged) -> Option<Mode> {
    let typed = matches!(merged.place(&KeyPath::of("mode")), Place::Flag { .. });
    typed.then(|| merged.raw.mode.into())
}

fn name(path: &KeyPath, site: &RawSite, hosts: &[String], problems: &mut Problems<'_>) -> String {
    let Some(name) = &site.name else {
        return hosts.first().map_or_else(|| "default".to_owned(), |h| h.trim_start_matches("*.").to_owned());
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let why = if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        "it stands in metrics, logs and records: 1 to 64 letters, digits, -, _ or ."
    } else if matches!(name.as_str(), "first" | "none") {
        "`default_site` uses that word for something else"
    } else {
        return name.clone();
    };
    let path = path.key("name");
    problems.wrong(&path, format!("`{path}` cannot be \"{name}\""), why, "write a name like \"shop\"");
    name.clone()
}

fn hosts(path: &KeyPath, site: &RawSite, one_of_many: bool, problems: &mut Problems<'_>) -> Vec<String> {
    let path = path.key("hosts");
    if one_of_many && site.hosts.0.is_empty() {
        problems.missing(
            &path,
            format!("`{path}` is missing"),
            "with several sites, each is chosen by its hosts",
            "add hosts = [\"www.example.com\"] to this site",
        );
    }
    let mut hosts = Vec::new();
    for (i, written) in site.hosts.0.iter().enumerate() {
        let (wildcard, bare) = match written.strip_prefix("*.") {
            Some(rest) => ("*.", rest),
            None => ("", written.as_str()),
        };
        match Host::parse(bare.trim_end_matches('.')) {
            Ok(Host::Domain(domain)) if is_name(&domain) => hosts.push(format!("{wildcard}{domain}")),
            Ok(ip @ (Host::Ipv4(_) | Host::Ipv6(_))) if wildcard.is_empty() => hosts.push(ip.to_string()),
            _ => {
                let path = path.at(i);
                let next = match written.strip_prefix('.') {
                    // What nginx's `server_name` means by them.
                    Some(name) => format!("write both: \"{name}\", \"*.{name}\""),
                    None if written == "_" => {
                        "remove it; which site has the hosts that nobody names, `default_site` says"
                            .to_owned()
                    }
                    None => "write the name alone, without scheme, port or path: \"www.example.com\" or \
                             \"*.example.com\""
                        .to_owned(),
                };
                problems.wrong(
                    &path,
                    format!("`{path}` is no host"),
                    &format!("\"{written}\" is more or less than a host name"),
                    &next,
                );
            }
        }
    }
    hosts
}

/// Whether a domain is one that a `Host` can match: labels of letters, digits, hyphens and underscores.
fn is_name(domain: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    domain != "_" && domain.split('.').all(|label| !label.is_empty() && label.bytes().all(plain))
}

fn contracts(
    path: &KeyPath,
    written: &BTreeMap<String, RawContract>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, Contract> {
    let mut out = BTreeMap::new();
    for (id, contract) in written {
        let path = path.key(id);
        let mut text = |name: &str, value: Option<&String>| match value.map(|v| v.trim()) {
            Some(value) if !value.is_empty() => value.to_owned(),
            _ => {
                let path = path.key(name);
                problems.missing(
                    &path,
                    format!("`{path}` is missing"),
                    "an allowance without a contract on file could not be shown to anyone (11 CCR 7051)",
                    "name the legal entity, where the contract is filed, and its date",
                );
                String::new()
            }
        };
        let entity = text("entity", contract.entity.as_ref());
        let reference = text("reference", contract.reference.as_ref());
        let date = text("date", contract.date.as_ref().map(|date| &date.0));
        if let Some(date) = &contract.date {
            let why = "a contract that is not in force makes nobody a service provider (11 CCR 7051)";
            dates::past(&path.key("date"), date, why, problems);
        }
        out.insert(id.clone(), Contract { entity, reference, date });
    }
    out
}

/// A host name in the form that look-ups use; `None` when it is none.
fn domain(written: &str) -> Option<String> {
    match Host::parse(written.trim_end_matches('.')) {
        Ok(Host::Domain(domain)) if !domain.contains('*') => Some(domain),
        _ => None,
    }
}

/// Refuses hosts that have no CNAME to look up.
fn check_own_hosts(path: &KeyPath, written: &[String], problems: &mut Problems<'_>) {
    for (i, host) in written.iter().enumerate().filter(|(_, host)| domain(host).is_none()) {
        let path = path.at(i);
        problems.wrong(
            &path,
            format!("`{path}` is no host name"),
            &format!("\"{host}\" is more or less than a name, and only names have a CNAME"),
            "write the name alone, without scheme, port, path or wildcard: \"metrics.example.com\"",
        );
    }
}

/// Names and hosts must lead to one site.
fn unique(sites: &[Site], top: &KeyPath, problems: &mut Problems<'_>) {
    let (mut names, mut hosts) = (BTreeMap::new(), BTreeMap::new());
    for (i, site) in sites.iter().enumerate() {
        if let Some(other) = names.insert(&site.name, i) {
            problems.wrong(
                &top.at(i).key("name"),
                format!("two sites are named \"{}\"", site.name),
                &format!("metrics and records could not tell this site from `{}`", top.at(other)),
                "give one of them another `name`",
            );
        }
        for (j, host) in site.hosts.iter().enumerate() {
            if let Some(other) = hosts.insert(host, i) {
                problems.wrong(
                    &top.at(i).key("hosts").at(j),
                    format!("the host \"{host}\" is given twice"),
                    &format!("`{}` has it already, and a request can go to one site", top.at(other)),
                    "remove it from one of them",
                );
            }
        }
    }
}

fn default_site(raw: &Raw, sites: &[Site], problems: &mut Problems<'_>) -> Option<usize> {
    let found = match raw.default_site.as_str() {
        "none" => None,
        "first" => (!sites.is_empty()).then_some(0),
        name => {
            let found = sites.iter().position(|site| site.name == name);
            if found.is_none() && !sites.is_empty() {
                let names: Vec<&str> = sites.iter().map(|site| site.name.as_str()).collect();
                problems.wrong(
                    &KeyPath::of("default_site"),
                    format!("`default_site` names no site: \"{name}\""),
                    &format!("the sites are: {}", names.join(", ")),
                    "write one of them, \"first\", or \"none\" to answer 421 to unknown hosts",
                );
            }
            found
        }
    };
    // A single site without hosts takes every request; 421 for all of them cannot be meant.
    match sites {
        [only] if only.hosts.is_empty() => Some(0),
        _ => found,
    }
}
