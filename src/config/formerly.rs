//! Former names of sites and groups: opt-outs of accounts and profiles are kept under a name, so that whoever changes it
//! says what it was.

use super::Site;
use super::key::KeyPath;
use super::meaning::Problems;
use super::raw::{Raw, RawSite};

/// Gives every site the names under which its accounts and profiles were kept: its own, its group's, then those of the
/// other sites of the group, whose accounts are the same.
pub(super) fn join(raw: &Raw, written: &[RawSite], sites: &mut [Site], problems: &mut Problems<'_>) {
    let groups: Vec<&str> = raw.groups.iter().filter_map(|group| group.name.as_deref()).collect();
    for (i, site) in written.iter().enumerate() {
        let path = KeyPath::of("sites").at(i).key("formerly");
        let Some(own) = sites.get(i) else { continue };
        let taken = |name: &str| {
            if name == own.name || name == own.scope {
                return Some(
                    "it is looked up there already: it is the name of the site, or of its group, now"
                        .to_owned(),
                );
            }
            another_site(name, sites, |_| false)
        };
        let names = checked(&path, &site.formerly.0, taken, problems);
        if let Some(site) = sites.get_mut(i) {
            site.formerly = names;
        }
    }
    for (i, group) in raw.groups.iter().enumerate() {
        let path = KeyPath::of("groups").at(i).key("formerly");
        let own = group.name.as_deref();
        let taken = |name: &str| match groups.contains(&name) {
            true if own == Some(name) => Some("it is the name of the group now".to_owned()),
            true => Some("a group has that name now, and what its accounts choose is its own".to_owned()),
            false => another_site(name, sites, |member| Some(member.scope.as_str()) == own),
        };
        let names = checked(&path, &group.formerly.0, taken, problems);
        for site in sites.iter_mut().filter(|site| Some(site.scope.as_str()) == own) {
            let new = names.iter().filter(|name| **name != site.name && !site.formerly.contains(name));
            let new: Vec<String> = new.cloned().collect();
            site.formerly.extend(new);
        }
    }
    let used = |name: &str| {
        let now = sites.iter().any(|site| site.name == name || site.scope == name);
        let then = sites.iter().any(|site| site.formerly.iter().any(|former| former == name));
        match (now, then) {
            (true, _) => Some("a site or a group has that name now".to_owned()),
            (_, true) => Some("it stands in a `formerly`, so its opt-outs are honoured there".to_owned()),
            _ => None,
        }
    };
    checked(&KeyPath::of("retired_sites"), &raw.retired_sites.0, used, problems);
    share_within_groups(sites);
}

/// Who opted out on a site before it came into its group is somebody whom all of its sites know (11 CCR 7025(c)(1)): each
/// looks under the names of each.
fn share_within_groups(sites: &mut [Site]) {
    let own: Vec<(String, Vec<String>)> = sites
        .iter()
        .map(|site| {
            let name = Some(&site.name).filter(|name| **name != site.scope);
            (site.scope.clone(), name.into_iter().chain(&site.formerly).cloned().collect())
        })
        .collect();
    for (at, site) in sites.iter_mut().enumerate() {
        let first = own.get(at).into_iter();
        let others = own.iter().filter(|(scope, _)| *scope == site.scope);
        let mut names: Vec<String> = Vec::new();
        for name in first.chain(others).flat_map(|(_, names)| names) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort();
        let all = std::iter::once(&site.scope).chain(sorted);
        site.lineage = all.map(|name| format!("{}:{name},", name.len())).collect();
        site.formerly = names;
    }
}

/// Why a name cannot be a former one, if a site that `own` does not hold for has it now.
fn another_site(name: &str, sites: &[Site], own: impl Fn(&Site) -> bool) -> Option<String> {
    let other = sites.iter().find(|site| site.name == name && !own(site))?;
    Some(format!(
        "the site \"{}\" has that name now, so whose opt-outs are kept under it would be unclear",
        other.name
    ))
}

/// The names of a list that can be meant.
fn checked(
    path: &KeyPath,
    written: &[String],
    taken: impl Fn(&str) -> Option<String>,
    problems: &mut Problems<'_>,
) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (i, name) in written.iter().enumerate() {
        let path = path.at(i);
        let (why, next) = if name.is_empty() || name.len() > 255 {
            ("no site or group ever had such a name".to_owned(), "write the name as it was, or remove it")
        } else if names.contains(name) {
            ("it is in the list already".to_owned(), "remove it from one of the two places")
        } else if let Some(why) = taken(name) {
            (why, "remove it; sites that are to share opt-outs belong into one of [[groups]]")
        } else {
            names.push(name.clone());
            continue;
        };
        problems.wrong(&path, format!("`{path}` cannot be \"{name}\""), &why, next);
    }
    names
}
