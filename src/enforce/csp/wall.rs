//! The second wall: a policy of our own beside the site's (`csp.mode`).
//!
//! Browsers enforce every policy, so that one more can only block more. This one limits hosts and nothing
//! else: inline scripts, `eval`, `data:` and `blob:` are as free as the site's own policies leave them. It
//! reaches what the guard cannot see: imports at run time, workers made from blobs, style sheets.

use http::HeaderMap;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, HeaderName, HeaderValue};

use crate::config::{Csp, CspMode, CspSource, VendorAction};
use crate::registry::Policy;

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
    /// the site and of its paths.
    ///
    /// # Errors
    /// A source through which a stripped vendor would come, under any of the policies.
    pub fn new<'a>(
        settings: &Csp,
        prefix: &str,
        policies: impl IntoIterator<Item = &'a Policy>,
    ) -> Result<Option<Self>, NeverAllowed> {
        for policy in policies {
            settings.allow.iter().try_for_each(|source| check(source, policy))?;
        }
        let field = match settings.mode {
            CspMode::Off => return Ok(None),
            CspMode::Learn => CONTENT_SECURITY_POLICY_REPORT_ONLY,
            CspMode::Enforce => CONTENT_SECURITY_POLICY,
        };
        let mut policy = format!("default-src {OWN}");
        for source in &settings.allow {
            policy.push(' ');
            policy.push_str(&source.to_string());
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

/// Whether a stripped vendor would come through a source. A host that is essential on some path counts as
/// such, as for connection hints (DESIGN 4).
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
            let let_in = match path {
                // A folder holds what lies deeper.
                Some(path) => rule.host == source.host && rule.paths.iter().any(|p| p.starts_with(path)),
                None => {
                    source.wildcard
                        && rule.host.ends_with(&below)
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
        assert_eq!(
            all,
            [
                "script-src 'self'",
                "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob: filesystem: mediastream: \
                 *.cdn.example; report-uri /privacy-choices/report"
            ]
        );
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

    /// The issue: strip-class hosts never get in, by whatever spelling.
    #[test]
    fn no_source_lets_a_stripped_vendor_in() {
        for (host, wildcard, path) in [
            ("connect.facebook.net", false, None),
            ("facebook.net", true, None),
            ("stats.g.doubleclick.net", false, None),
            ("googlesyndication.com", true, Some("/")),
            ("www.facebook.com", false, Some("/tr/")),
        ] {
            let refused = wall(CspMode::Learn, vec![source(host, wildcard, path)]).unwrap_err();
            assert!(refused.to_string().contains("is stripped"), "{host}: {refused}");
        }
        for (host, wildcard, path) in [
            ("cdn.example", true, None),
            ("js.stripe.com", false, None),
            ("www.facebook.com", false, Some("/own/")),
        ] {
            assert!(wall(CspMode::Enforce, vec![source(host, wildcard, path)]).is_ok(), "{host}");
        }
    }
}
