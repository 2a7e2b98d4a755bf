//! Groups: sites of one operator that share opt-outs.

use std::net::IpAddr;

use url::Host;

use super::key::KeyPath;
use super::meaning::Problems;
use super::raw::RawGroup;
use super::{Site, sites};

/// Puts the sites of each group under its name, and its cookie's domain.
pub(super) fn join(written: &[RawGroup], sites: &mut [Site], problems: &mut Problems<'_>) {
    let top = KeyPath::of("groups");
    let mut member_of: Vec<Option<usize>> = vec![None; sites.len()];
    for (i, group) in written.iter().enumerate() {
        let path = top.at(i);
        let members = members(&path, i, group, sites, &mut member_of, problems);
        let Some(name) = name(&path, i, written, &members, sites, problems) else { continue };
        let domain = domain(&path, group, &members, sites, problems);
        for at in members {
            let Some(site) = sites.get_mut(at) else { continue };
            site.scope.clone_from(&name);
            site.cookie_domain.clone_from(&domain);
        }
    }
}

/// Positions of a group's sites.
fn members(
    path: &KeyPath,
    number: usize,
    group: &RawGroup,
    sites: &[Site],
    member_of: &mut [Option<usize>],
    problems: &mut Problems<'_>,
) -> Vec<usize> {
    let path = path.key("sites");
    if group.sites.0.is_empty() {
        problems.missing(
            &path,
            format!("`{path}` is missing"),
            "a group is the sites that share opt-outs",
            "name them: sites = [\"shop\", \"blog\"]",
        );
    }
    let mut found = Vec::new();
    for (i, name) in group.sites.0.iter().enumerate() {
        let path = path.at(i);
        let Some(at) = sites::named(&path, name, sites, problems) else { continue };
        let Some(taken) = member_of.get_mut(at) else { continue };
        match taken {
            Some(other) => problems.wrong(
                &path,
                format!("the site \"{name}\" is in two groups"),
                &format!("`groups[{other}]` has it already, and an opt-out is shared within one"),
                "remove it from one of them, or make them one group",
            ),
            None => {
                *taken = Some(number);
                found.push(at);
            }
        }
    }
    found
}

/// The name, under which opt-outs are kept.
fn name(
    path: &KeyPath,
    number: usize,
    written: &[RawGroup],
    members: &[usize],
    sites: &[Site],
    problems: &mut Problems<'_>,
) -> Option<String> {
    let path = path.key("name");
    let Some(name) = written.get(number).and_then(|group| group.name.as_ref()) else {
        let why = "accounts and profiles are kept under it";
        let next = "add name = \"shops\"; do not change it later, for their opt-outs would be lost with it";
        problems.missing(&path, format!("`{path}` is missing"), why, next);
        return None;
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let stranger = |(at, site): (usize, &Site)| site.name == *name && !members.contains(&at);
    let (why, next) = if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        ("it is 1 to 64 letters, digits, -, _ or .", "write a name like \"shops\"")
    } else if written.iter().take(number).any(|other| other.name.as_ref() == Some(name)) {
        ("another group has it", "give one of them another name, or make them one group")
    } else if sites.iter().enumerate().any(stranger) {
        ("a site that is not in the group has it, and their opt-outs would be one", "choose another name")
    } else {
        return Some(name.clone());
    };
    problems.wrong(&path, format!("`{path}` cannot be \"{name}\""), why, next);
    None
}

/// The domain of the cookie, if the group has one that its sites share.
fn domain(
    path: &KeyPath,
    group: &RawGroup,
    members: &[usize],
    sites: &[Site],
    problems: &mut Problems<'_>,
) -> Option<String> {
    let written = group.cookie_domain.as_ref()?;
    let path = path.key("cookie_domain");
    let parsed = match Host::parse(written.trim_start_matches('.').trim_end_matches('.')) {
        Ok(Host::Domain(domain)) if !domain.contains('*') => Some(domain),
        _ => None,
    };
    let Some(domain) = parsed.filter(|domain| psl::domain_str(domain).is_some()) else {
        problems.wrong(
            &path,
            format!("`{path}` cannot be used"),
            &format!(
                "\"{written}\" is no domain of one owner, so browsers keep no cookie for it (RFC 6265, 5.3)"
            ),
            "write the domain that the sites have in common, like \"example.com\"",
        );
        return None;
    };
    for site in members.iter().filter_map(|at| sites.get(*at)) {
        let strange = site.hosts.iter().find(|host| !is_under(host, &domain));
        let why = match strange {
            Some(host) => {
                format!("the site \"{}\" has the host \"{host}\", where no browser would keep it", site.name)
            }
            None if site.hosts.is_empty() => {
                format!("the site \"{}\" takes any host, and they are not all under it", site.name)
            }
            None => continue,
        };
        let next = "give every site of the group hosts under the domain, or remove `cookie_domain`: accounts and \
                    profiles are shared without it";
        problems.wrong(&path, format!("`{path}` does not fit its sites"), &why, next);
        return None;
    }
    let outside = sites
        .iter()
        .enumerate()
        .find(|(at, site)| !members.contains(at) && site.hosts.iter().any(|host| is_under(host, &domain)));
    if let Some((_, site)) = outside {
        problems.wrong(
            &path,
            format!("`{path}` reaches a site that is not in the group"),
            &format!("browsers send the cookie to \"{}\" too, and nobody could opt back in there", site.name),
            "add the site to the group, or choose a domain that is not its own",
        );
    }
    Some(domain)
}

/// Whether a host, or every host of a wildcard, gets the cookies of a domain (RFC 6265, 5.1.3).
#[must_use]
pub fn is_under(host: &str, domain: &str) -> bool {
    let host = host.strip_prefix("*.").unwrap_or(host);
    let rest = host.strip_suffix(domain);
    let named = !host.starts_with('[') && host.parse::<IpAddr>().is_err();
    named && rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6265, 5.1.3.
    #[test]
    fn a_host_is_under_a_domain_by_whole_labels() {
        for host in ["example.com", "a.example.com", "*.example.com", "*.a.example.com"] {
            assert!(is_under(host, "example.com"), "{host}");
        }
        for host in ["badexample.com", "example.com.evil", "com", "*.com", "[::1]"] {
            assert!(!is_under(host, "example.com"), "{host}");
        }
        assert!(!is_under("1.2.3.4", "3.4"));
    }
}
