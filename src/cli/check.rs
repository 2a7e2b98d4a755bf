//! `optgate check`: everything `run` would read, without serving.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::{Failure, Global};
use crate::app::{FileProblem, UnknownVendor, look_at_files, unknown_vendor};
use crate::config::error::{ConfigError, Place};
use crate::config::load::Loaded;
use crate::config::origins::Entry;
use crate::config::{Settings, Site, Switches, VendorAction};
use crate::enforce::csp::{NeverAllowed, Wall};
use crate::registry::{Policy, PolicyError, Registry};
use crate::store;

/// Loads everything and says `ok` with a summary on stderr, after what is allowed and questionable.
///
/// # Errors
/// What is wrong, all of it; exit code 78.
pub fn run(global: &Global) -> Result<(), Failure> {
    let loaded = super::settings(global, Vec::new(), false)?;
    let of_files = refuse(&loaded)?;
    for warning in loaded.settings.warnings().into_iter().map(str::to_owned).chain(of_files) {
        eprintln!("warning: {warning}");
    }
    eprintln!("ok: {}", summary(&loaded));
    Ok(())
}

/// Refuses what the settings name and `run` could not use. What is questionable about the files among it, where all of
/// it can be used.
///
/// # Errors
/// [`Failure::Refused`], with all of it.
pub fn refuse(loaded: &Loaded) -> Result<Vec<String>, Failure> {
    let mut problems = registry_problems(loaded);
    problems.extend(log_problem(loaded));
    let files = look_at_files(&loaded.settings);
    problems.extend(files.problems.into_iter().map(|problem| file_problem(loaded, problem)));
    problems.extend(lost_names(&loaded.settings));
    if problems.is_empty() { Ok(files.warnings) } else { Err(Failure::Refused(problems)) }
}

/// A file that cannot be used, at the line that names it.
fn file_problem(loaded: &Loaded, problem: FileProblem) -> String {
    let FileProblem { setting, error } = problem;
    let (why, next) = error.split_once("\n  next: ").unwrap_or((&error, "correct the file, or name another"));
    // With one site its settings may stand at the top of the file.
    let mut tables = vec![setting.clone()];
    tables.extend(setting.split_once("].").map(|(_, key)| key.to_owned()));
    let names_it = |entry: &&Entry| {
        let below = tables.iter().any(|table| entry.key.starts_with(table));
        below && entry.value.as_str().is_some_and(|file| why.contains(file))
    };
    let named = loaded.origins.iter().find(names_it).map(|entry| entry.place.clone());
    ConfigError {
        place: named.unwrap_or_else(|| place_of_list(loaded, &tables)),
        what: format!("`{setting}` cannot be used"),
        why: why.to_owned(),
        next: next.to_owned(),
    }
    .to_string()
}

/// Names under which opt-outs are kept and that are gone. A data folder that this user cannot look into says nothing.
fn lost_names(settings: &Settings) -> Vec<String> {
    match store::orphans(&settings.data_dir, &settings.names()) {
        Ok(lost) => lost,
        Err(error) => {
            eprintln!("not checked: under which names opt-outs are kept: {error}");
            Vec::new()
        }
    }
}

/// A log file that cannot be opened, or whose folder is not there, at the line that names it.
fn log_problem(loaded: &Loaded) -> Option<String> {
    let file = loaded.settings.log.file.as_ref()?;
    let open = |error: std::io::Error| format!("{}: {error}", file.display());
    let why = match OpenOptions::new().append(true).open(file).map_err(|error| (error.kind(), error)) {
        Ok(_) => return None,
        // It is made at the start, in a folder that is there.
        Err((ErrorKind::NotFound, _)) => {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or_else(|| Path::new("."));
            match std::fs::metadata(folder) {
                Ok(meta) if meta.is_dir() => return None,
                Ok(_) => format!("{} is no folder", folder.display()),
                Err(error) => format!("the folder {}: {error}", folder.display()),
            }
        }
        Err((_, error)) => open(error),
    };
    let written = loaded.origins.iter().find(|entry| entry.key == "log.file");
    let error = ConfigError {
        place: written.map_or(Place::Default, |entry| entry.place.clone()),
        what: "`log.file` cannot be written".to_owned(),
        why,
        next: "make its folder, writable for this user, or remove the setting: lines then go to stderr"
            .to_owned(),
    };
    Some(error.to_string())
}

fn summary(loaded: &Loaded) -> String {
    let Loaded { settings, files, .. } = loaded;
    let files = match files.as_slice() {
        [] => "no file".to_owned(),
        files => files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", "),
    };
    let site = |site: &Arc<Site>| {
        let engaged = Switches::engaged_in(&settings.data_dir, &site.name);
        let switch = if engaged { ", but its kill switch is engaged" } else { "" };
        let unknown = if site.strips_unknown() { ", unknown third parties stripped" } else { "" };
        format!("{} ({}{unknown}{switch})", site.name, site.mode.as_str())
    };
    let sites: Vec<String> = settings.sites.iter().map(site).collect();
    let listen: Vec<String> =
        settings.listen.iter().chain(&settings.tls.listen).map(ToString::to_string).collect();
    format!(
        "read {files}; sites: {}; listening on {}; admin on {}; data in {}",
        sites.join(", "),
        listen.join(", "),
        settings.admin,
        settings.data_dir.display(),
    )
}

/// What the registry has to say about the settings: unreadable or contradictory registry files, vendor ids
/// it does not know, `restrict` or `allow` without a contract. Empty when all is well.
#[must_use]
pub fn registry_problems(loaded: &Loaded) -> Vec<String> {
    let registry = match registry(&loaded.settings) {
        Ok(registry) => Arc::new(registry),
        Err(problem) => return vec![problem],
    };
    let mut problems: Vec<String> = Vec::new();
    problems
        .extend(unknown_vendor(&loaded.settings, &registry).map(|unknown| vendor_problem(loaded, &unknown)));
    for (i, site) in loaded.settings.sites.iter().enumerate() {
        let found: Vec<PolicyError> = match Policy::resolve(Arc::clone(&registry), &site.policy) {
            Err(error) => vec![error],
            Ok(policy) => {
                let of_paths: Vec<_> =
                    site.paths.iter().map(|rule| policy.with_overrides(&rule.vendors)).collect();
                let all = || std::iter::once(&policy).chain(of_paths.iter().filter_map(|p| p.as_ref().ok()));
                let wall = Wall::new(&site.csp, &loaded.settings.portal.prefix, all());
                problems.extend(wall.err().map(|never| wall_problem(loaded, i, &never)));
                if let Some(programme) = &site.programme {
                    for error in all().filter_map(|policy| policy.with_programme(&programme.vendors).err()) {
                        note(&mut problems, programme_problem(loaded, i, &error));
                    }
                }
                of_paths.into_iter().filter_map(Result::err).collect()
            }
        };
        for error in found {
            note(&mut problems, policy_problem(loaded, i, &error));
        }
    }
    problems
}

/// What stands at the top of the file is wrong for every site, but said once.
fn note(problems: &mut Vec<String>, problem: String) {
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

/// The built-in registry under the configured files.
///
/// # Errors
/// The rendered complaint: file, line, column, the line, why, and a hint.
pub fn registry(settings: &Settings) -> Result<Registry, String> {
    crate::app::registry(&settings.registry_files).map_err(|error| error.to_string())
}

/// A refused policy of site `site`, at the line that wrote it.
#[must_use]
pub fn policy_problem(loaded: &Loaded, site: usize, error: &PolicyError) -> String {
    let (id, why, next) = words(error, |id| place_of(loaded, site, id, None).is_some());
    let (place, what) = match error {
        PolicyError::KnownStripped { host, .. } => (
            place_of_list(loaded, &[format!("sites[{site}].known"), "known".to_owned()]),
            format!("`known` cannot hold \"{host}\""),
        ),
        _ => {
            let action = match error {
                PolicyError::NeedsContract { action, .. } | PolicyError::Essential { action, .. } => {
                    Some(*action)
                }
                _ => None,
            };
            let place = place_of(loaded, site, id, action).or_else(|| place_of(loaded, site, id, None));
            (place.unwrap_or(Place::Default), format!("the settings for vendor `{id}` cannot hold"))
        }
    };
    ConfigError { place, what, why, next }.to_string()
}

/// A refused policy of those who keep the programme of site `site`, at the list of its vendors.
fn programme_problem(loaded: &Loaded, site: usize, error: &PolicyError) -> String {
    let (id, why, next) = words(error, |_| true);
    let lists = [format!("sites[{site}].programme.vendors"), "programme.vendors".to_owned()];
    let place = place_of_list(loaded, &lists);
    let what = format!("`programme.vendors` cannot hold `{id}`");
    ConfigError { place, what, why, next }.to_string()
}

/// The vendor that a policy is refused for, why, and what to do. `named`: whether the settings name a vendor.
fn words(error: &PolicyError, named: impl Fn(&str) -> bool) -> (&str, String, String) {
    match error {
        PolicyError::KnownStripped { vendor, .. } => (
            vendor,
            format!("it is `{vendor}`'s, which is stripped for opted-out visitors: it would go all the same"),
            format!("remove it, or decide otherwise about `{vendor}` in [vendors]"),
        ),
        PolicyError::UnknownVendor { id, nearest } => (
            id,
            "the registry holds no vendor of this id".to_owned(),
            nearest.as_ref().map_or_else(
                || "`optgate registry list` shows every id".to_owned(),
                |near| format!("did you mean `{near}`? `optgate registry list` shows every id"),
            ),
        ),
        PolicyError::NeedsContract { id, action } => (
            id,
            format!(
                "\"{}\" keeps it for opted-out visitors, and it sells or shares unless a contract says otherwise \
                 (11 CCR 7051)",
                action.as_str()
            ),
            format!("add [contracts.{id}] with entity, reference and date, or write \"strip\""),
        ),
        PolicyError::NoRestrictedMode { id } => (
            id,
            "no restricted mode of it is documented for an opt-out in the United States".to_owned(),
            "write \"strip\", or give its `restricted_calls` in a registry file of your own".to_owned(),
        ),
        PolicyError::Essential { id, action } => (
            id,
            format!("essential vendors are never touched, so \"{}\" would have no effect", action.as_str()),
            "remove the setting, or give the vendor another role in a registry file of your own".to_owned(),
        ),
        PolicyError::Shared { host, path, first, second, .. } => (
            if named(first) { first } else { second },
            format!("`{first}` and `{second}` share {host}{path} and would be treated differently there"),
            "give both the same action".to_owned(),
        ),
    }
}

/// The first of these lists that is written somewhere.
fn place_of_list(loaded: &Loaded, lists: &[String]) -> Place {
    let written =
        |list: &String| loaded.origins.iter().find(|e| e.key.starts_with(list) && e.place != Place::Default);
    lists.iter().find_map(written).map_or(Place::Default, |entry| entry.place.clone())
}

/// A vendor that a recipient is to stand for and that nobody knows, at the list that names it.
fn vendor_problem(loaded: &Loaded, unknown: &UnknownVendor) -> String {
    let named = |recipient: &Arc<crate::config::Recipient>| recipient.vendors.contains(&unknown.id);
    let list =
        loaded.settings.recipients.iter().position(named).map(|at| format!("recipients[{at}].vendors"));
    let written = loaded
        .origins
        .iter()
        .filter(|entry| list.as_ref().is_some_and(|list| entry.key.starts_with(list.as_str())));
    let error = ConfigError {
        place: written.map(|entry| entry.place.clone()).next().unwrap_or(Place::Default),
        what: format!("`recipients` cannot name the vendor `{}`", unknown.id),
        why: "the registry holds no vendor of this id".to_owned(),
        next: unknown.hint(),
    };
    error.to_string()
}

/// A source that the second wall of site `site` may never have, at the list that holds it.
fn wall_problem(loaded: &Loaded, site: usize, never: &NeverAllowed) -> String {
    let NeverAllowed { allowed, host, vendor } = never;
    let error = ConfigError {
        place: place_of_list(loaded, &[format!("sites[{site}].csp.allow"), "csp.allow".to_owned()]),
        what: format!("`csp.allow` cannot hold \"{allowed}\""),
        why: format!("it would let in {host}, and `{vendor}` is stripped for opted-out visitors"),
        next: format!("remove it, narrow it with a path, or decide otherwise about `{vendor}` in [vendors]"),
    };
    error.to_string()
}

/// Where a vendor is named, with this action if one is given: in its site before the top of the file.
fn place_of(loaded: &Loaded, site: usize, id: &str, action: Option<VendorAction>) -> Option<Place> {
    let site = format!("sites[{site}].");
    let (vendor, contract) = (format!("vendors.{id}"), format!("contracts.{id}."));
    let names = |entry: &Entry| match action {
        Some(action) => entry.key.ends_with(&vendor) && entry.value == action.as_str(),
        None => entry.key.ends_with(&vendor) || entry.key.contains(&contract),
    };
    let named = || loaded.origins.iter().filter(|entry| names(entry));
    let in_site = named().find(|entry| entry.key.starts_with(&site));
    in_site.or_else(|| named().find(|e| !e.key.starts_with("sites["))).map(|entry| entry.place.clone())
}
