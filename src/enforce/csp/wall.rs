//! The second wall: a policy of our own beside the site's (`csp.mode`).
//!
//! Browsers enforce every policy, so that one more can only block more. This one limits hosts and nothing
//! else: inline scripts, `eval`, `data:` and `blob:` are as free as the site's own policies leave them. It
//! reaches what the guard cannot see: imports at run time, workers made from blobs, style sheets.

use std::collections::HashSet;

use http::HeaderMap;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, HeaderName, HeaderValue};

use crate::config::groups::is_under;
use crate::config::{Csp, CspMode, CspSource, VendorAction};
use crate::registry::{Hit, HostRule, Policy, Role};

/// What is no host. `'self'` includes `wss:` to the site's own.
const OWN: &str = "'self' 'unsafe-inline' 'unsafe-eval' data: blob: filesystem: mediastream:";

/// Name of our endpoint in `Reporting-Endpoints`.
const GROUP: &str = "optgate";

const REPORTING_ENDPOINTS: HeaderName = HeaderName::from_static("reporting-endpoints");

/// A source in `csp.allow` that a stripped vendor would come through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`csp.allow`: \"{allowed}\" would let in {host}, and `{vendor}` is stripped; remove it, narrow it, or decide \
     otherwise about the vendor"
)]
pub struct NeverAllowed {
    /// The source as written.
    pub allowed: String,
    /// The vendor's host behind it.
    pub host: String,
    /// Id of the vendor.
    pub vendor: String,
}

/// The policy of one site, made at start.
#[derive(Debug, Clone)]
pub struct Wall {
    field: HeaderName,
    policy: HeaderValue,
    /// With `report-to`, for pages that came over https: only those have endpoints.
    policy_secure: HeaderValue,
    endpoints: HeaderValue,
}

impl Wall {
    /// The wall of these settings; `None` when it is off. `prefix` is the portal's; `policies` are those of
    /// the site and of its paths. Essential vendors come through by themselves.
    ///
    /// # Errors
    /// A source through which a stripped vendor would come, under any of the policies.
    pub fn new<'a>(
        settings: &Csp,
        prefix: &str,
        policies: impl IntoIterator<Item = &'a Policy>,
    ) -> Result<Option<Self>, NeverAllowed> {
        let policies: Vec<&Policy> = policies.into_iter().collect();
        for policy in &policies {
            settings.allow.iter().try_for_each(|source| check(source, policy))?;
        }
        let field = match settings.mode {
            CspMode::Off => return Ok(None),
            CspMode::Learn => CONTENT_SECURITY_POLICY_REPORT_ONLY,
            CspMode::Enforce => CONTENT_SECURITY_POLICY,
        };
        let mut policy = format!("default-src {OWN}");
        for source in essential(&policies).into_iter().chain(settings.allow.iter().map(CspSource::to_string))
        {
            policy.push(' ');
            policy.push_str(&source);
        }
        policy.push_str(&format!("; report-uri {prefix}/report"));
        let secure = format!("{policy}; report-to {GROUP}");
        let endpoints = format!("{GROUP}=\"{prefix}/report\"");
        // Settings hold plain ASCII only.
        let values =
            (HeaderValue::try_from(policy), HeaderValue::try_from(secure), HeaderValue::try_from(endpoints));
        let (Ok(policy), Ok(policy_secure), Ok(endpoints)) = values else { return Ok(None) };
        Ok(Some(Self { field, policy, policy_secure, endpoints }))
    }

    /// Adds the wall to a document's head, after the site's own policies were judged.
    pub fn raise(&self, headers: &mut HeaderMap, secure: bool) {
        if secure {
            headers.append(self.field.clone(), self.policy_secure.clone());
            headers.append(REPORTING_ENDPOINTS, self.endpoints.clone());
        } else {
            headers.append(self.field.clone(), self.policy.clone());
        }
    }
}

/// Sources of the essential vendors, so that a wall breaks no payment and no captcha. A host goes in whole, for
/// frames and calls need more of it than the script that the registry names; only where a stripped vendor has
/// the same host is it held to its paths.
fn essential(policies: &[&Policy]) -> Vec<String> {
    let vendors = policies.iter().flat_map(|policy| policy.registry().vendors().map(move |v| (policy, v)));
    let stripped: Vec<&HostRule> = vendors
        .filter(|(policy, (id, _))| policy.action(*id) == VendorAction::Strip)
        .flat_map(|(_, (_, vendor))| &vendor.hosts)
        .collect();
    let Some(first) = policies.first() else { return Vec::new() };
    let vendors = first.registry().vendors().filter(|(_, vendor)| vendor.role == Role::Essential);
    let mut sources = Vec::new();
    for rule in vendors.flat_map(|(_, vendor)| &vendor.hosts) {
        let (host, below) = (rule.host.as_str(), format!(".{}", rule.host));
        // Names within a domain stand for themselves, as a rule; a list as long as all would not fit a head.
        let www = (psl::domain_str(host) == Some(host)).then(|| format!("www{below}"));
        let beside: Vec<_> =
            stripped.iter().filter(|other| other.host == host || Some(&other.host) == www.as_ref()).collect();
        let hosts = [Some(host), www.as_deref()].into_iter().flatten();
        if beside.is_empty() {
            let alone = !stripped.iter().any(|other| other.host.ends_with(&below));
            let wide = |at: &str| if alone && at != host { format!("*{below}") } else { at.to_owned() };
            sources.extend(hosts.map(wide));
            continue;
        }
        for (host, path) in
            hosts.flat_map(|host| rule.paths.iter().flat_map(|p| folder(p)).map(move |p| (host, p)))
        {
            let strips = |hit: Hit| hit.action == VendorAction::Strip;
            let taken = policies.iter().any(|policy| policy.match_url(host, &path).is_some_and(strips));
            if !taken && !beside.iter().flat_map(|other| &other.paths).any(|deeper| deeper.starts_with(&path))
            {
                sources.push(format!("{host}{path}"));
            }
        }
    }
    let mut seen = HashSet::new();
    sources.retain(|source| seen.insert(source.clone()));
    sources
}

/// A path of the registry as a policy has it: exact, or everything below when it ends with `/`.
fn folder(path: &str) -> impl Iterator<Item = String> + use<> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b);
    let prefix = &path[..path.bytes().position(|b| !plain(b)).unwrap_or(path.len())];
    let prefix = if prefix.len() < path.len() { &prefix[..=prefix.rfind('/').unwrap_or(0)] } else { prefix };
    let below = (!prefix.ends_with('/')).then(|| format!("{prefix}/"));
    // The root would be the whole host.
    [Some(prefix.to_owned()), below].into_iter().flatten().filter(|path| path.len() > 1)
}

/// Whether a stripped vendor would come through a source. A host that is essential on some path counts as
/// such, as for connection hints.
fn check(source: &CspSource, policy: &Policy) -> Result<(), NeverAllowed> {
    let never = |host: &str, vendor| {
        let vendor = policy.registry().vendor(vendor).id.clone();
        Err(NeverAllowed { allowed: source.to_string(), host: host.to_owned(), vendor })
    };
    let path = source.path.as_deref().filter(|path| *path != "/");
    let hit = match path {
        Some(path) => policy.match_url(&source.host, path),
        None => policy.match_host(&source.host),
    };
    if let Some(hit) = hit.filter(|hit| hit.action == VendorAction::Strip) {
        return never(&source.host, hit.vendor);
    }
    let below = format!(".{}", source.host);
    for (id, vendor) in
        policy.registry().vendors().filter(|(id, _)| policy.action(*id) == VendorAction::Strip)
    {
        for rule in &vendor.hosts {
            let is_below = source.wildcard && rule.host.ends_with(&below);
            let let_in = match path {
                Some(path) => {
                    (is_under(&source.host, &rule.host) || is_below)
                        && rule.paths.iter().any(|rule| lies_in(rule, path))
                }
                None => {
                    is_below
                        && policy.match_host(&rule.host).is_some_and(|hit| hit.action == VendorAction::Strip)
                }
            };
            if let_in {
                return never(&rule.host, id);
            }
        }
    }
    Ok(())
}

/// Whether something that a path of the registry means lies in the folder of a source, which holds what lies deeper (CSP3,
/// 6.7.2.12). What lies above it has been asked for by the folder's own address; only a wildcard may reach into it.
fn lies_in(rule: &str, folder: &str) -> bool {
    let start = rule.split('*').next().unwrap_or_default();
    start.starts_with(folder)
        || folder.ends_with('/') && start.len() < rule.len() && folder.starts_with(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VendorPolicy;
    use crate::registry::Registry;
    use std::sync::Arc;

    fn source(host: &str, wildcard: bool, path: Option<&str>) -> CspSource {
        CspSource { wildcard, host: host.to_owned(), scheme: None, port: None, path: path.map(str::to_owned) }
    }

    fn wall(mode: CspMode, allow: Vec<CspSource>) -> Result<Option<Wall>, NeverAllowed> {
        let registry = Arc::new(Registry::builtin().unwrap());
        let policy = Policy::resolve(registry, &VendorPolicy::default()).unwrap();
        Wall::new(&Csp { mode, allow }, "/privacy-choices", [&policy])
    }

    /// The sources of a wall that allows nothing else.
    fn own() -> Vec<String> {
        let wall = wall(CspMode::Enforce, Vec::new()).unwrap().unwrap();
        let policy = wall.policy.to_str().unwrap();
        let (sources, _) = policy.strip_prefix("default-src ").unwrap().split_once("; ").unwrap();
        sources.split(' ').map(str::to_owned).collect()
    }

    fn raised(mode: CspMode, secure: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("script-src 'self'"));
        wall(mode, vec![source("cdn.example", true, None)]).unwrap().unwrap().raise(&mut headers, secure);
        headers
    }

    /// Hosts are limited and nothing else; the site's own policy stays a policy of its own.
    #[test]
    fn the_wall_limits_hosts_and_stands_beside_the_sites_policy() {
        let headers = raised(CspMode::Enforce, false);
        let all: Vec<_> =
            headers.get_all(CONTENT_SECURITY_POLICY).iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!((all.len(), all[0]), (2, "script-src 'self'"));
        let start = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob: filesystem: mediastream: ";
        assert!(all[1].starts_with(start), "{}", all[1]);
        assert!(all[1].ends_with(" *.cdn.example; report-uri /privacy-choices/report"), "{}", all[1]);
        assert!(!headers.contains_key(REPORTING_ENDPOINTS));
    }

    #[test]
    fn learning_blocks_nothing_and_reports_to_ourselves() {
        let headers = raised(CspMode::Learn, true);
        assert_eq!(headers[CONTENT_SECURITY_POLICY], "script-src 'self'");
        let policy = headers[CONTENT_SECURITY_POLICY_REPORT_ONLY].to_str().unwrap();
        assert!(policy.ends_with("; report-uri /privacy-choices/report; report-to optgate"), "{policy}");
        assert_eq!(headers[REPORTING_ENDPOINTS], "optgate=\"/privacy-choices/report\"");
        assert!(wall(CspMode::Off, Vec::new()).unwrap().is_none());
    }

    /// An enforced wall breaks no payment and no captcha; where a stripped vendor has the same host, only the
    /// paths of the essential one come through. The list stays small enough for a head.
    #[test]
    fn essential_vendors_come_through_by_themselves_and_nobody_with_them() {
        let own = own();
        let has = |source: &str| own.iter().any(|own| own == source);
        for source in [
            "js.stripe.com",
            "api.stripe.com",
            "hcaptcha.com",
            "*.hcaptcha.com",
            "challenges.cloudflare.com",
            "google.com/recaptcha/",
            "www.google.com/recaptcha/",
            "www.paypal.com/sdk/js",
            "www.paypal.com/smart/",
            "*.onetrust.com",
        ] {
            assert!(has(source), "{source} in {own:?}");
        }
        for source in ["google.com", "*.google.com", "paypal.com", "*.paypal.com", "connect.facebook.net"] {
            assert!(!has(source), "{source}");
        }
        let length = own.join(" ").len();
        println!("the wall's own sources: {} of {length} bytes", own.len());
        assert!(length < 2_048, "{length} bytes");
    }

    /// The same from the other side: each source is held against every host and path that is stripped.
    #[test]
    fn no_host_of_a_stripped_vendor_matches_an_essential_source() {
        let registry = Arc::new(Registry::builtin().unwrap());
        let policy = Policy::resolve(Arc::clone(&registry), &VendorPolicy::default()).unwrap();
        let own = own();
        let lets_in = |source: &str, host: &str, path: &str| {
            let (name, folder) = source.split_at(source.find('/').unwrap_or(source.len()));
            let host = name.strip_prefix('*').map_or(name == host, |below| host.ends_with(below));
            host && (folder.is_empty() || folder == path || folder.ends_with('/') && path.starts_with(folder))
        };
        for (_, vendor) in registry.vendors().filter(|(id, _)| policy.action(*id) == VendorAction::Strip) {
            for (host, path) in vendor.hosts.iter().flat_map(|r| r.paths.iter().map(|p| (r.host.as_str(), p)))
            {
                let www = format!("www.{host}");
                for host in [host, &www] {
                    let through = own.iter().find(|source| lets_in(source, host, path));
                    assert_eq!(through, None, "{host}{path} of {}", vendor.id);
                }
            }
        }
    }

    #[test]
    fn a_path_of_the_registry_is_written_as_a_policy_reads_it() {
        for (path, expected) in [
            ("/a/", &["/a/"][..]),
            ("/a.js", &["/a.js", "/a.js/"]),
            ("/a/b*", &["/a/"]),
            ("/a?b", &[]),
            ("/", &[]),
        ] {
            assert_eq!(folder(path).collect::<Vec<_>>(), expected, "{path}");
        }
    }

    /// Strip-class hosts never get in, by whatever spelling.
    #[test]
    fn no_source_lets_a_stripped_vendor_in() {
        for (host, wildcard, path) in [
            ("connect.facebook.net", false, None),
            ("facebook.net", true, None),
            ("stats.g.doubleclick.net", false, None),
            ("googlesyndication.com", true, Some("/")),
            ("www.facebook.com", false, Some("/tr/")),
            ("www.facebook.com", false, Some("/v18.0/")),
            ("connect.facebook.net", false, Some("/en_US/")),
            ("www.google.com", false, Some("/ads/")),
            ("pinimg.com", true, Some("/ct/")),
        ] {
            let refused = wall(CspMode::Learn, vec![source(host, wildcard, path)]).unwrap_err();
            assert!(refused.to_string().contains("is stripped"), "{host}: {refused}");
        }
        for (host, wildcard, path) in [
            ("cdn.example", true, None),
            ("js.stripe.com", false, None),
            ("www.facebook.com", false, Some("/own/")),
            ("www.google.com", false, Some("/maps/")),
            ("cdn.jsdelivr.net", false, Some("/npm/vue/")),
        ] {
            assert!(wall(CspMode::Enforce, vec![source(host, wildcard, path)]).is_ok(), "{host}");
        }
    }
}
