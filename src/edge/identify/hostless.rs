//! Requests that name no host, which only HTTP/1.0 may do (RFC 9112, 3.2): health checks of balancers, mostly.

use http::{HeaderValue, Request, Version, header};

use crate::edge::house::Snapshot;

/// The site that such a request is for, by its position, and the host that stands in for the one it does not name:
/// `default_site` and the first of its hosts or, where it has none, its origin's own.
///
/// `None`: the request had to name its host, or no site is for it.
#[must_use]
pub fn site_of<B>(request: &Request<B>, snapshot: &Snapshot) -> Option<(HeaderValue, usize)> {
    let silent = request.version() == Version::HTTP_10
        && request.uri().authority().is_none()
        && !request.headers().contains_key(header::HOST);
    let index = snapshot.settings.default_site.filter(|_| silent)?;
    let site = &snapshot.sites.get(index)?.settings;
    let named = site.hosts.iter().find(|host| !host.starts_with('*'));
    let host = match named {
        Some(host) => host.clone(),
        // Nobody is to be sent on to an origin's address.
        None if site.redirect.is_some() => return None,
        None => {
            let upstream = site.upstreams.first()?;
            upstream.host.clone().unwrap_or_else(|| upstream.address.authority())
        }
    };
    Some((HeaderValue::try_from(host).ok()?, index))
}
