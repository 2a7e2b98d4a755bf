//! Visitors who come in clear are sent to https, and browsers are told to come that way (RFC 6797).
//!
//! What counts is the scheme that the visitor used, as a trusted proxy in front says.

use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};

use crate::config::Hsts;
use crate::edge::exchange::Exchange;
use crate::edge::message::body::Body;

/// Where an authority looks for proofs, in clear (RFC 8555, 8.3).
pub const ACME_PREFIX: &str = "/.well-known/acme-challenge/";

/// How long a redirect may be kept: one set up wrongly must not outlive its repair by more.
const KEPT: HeaderValue = HeaderValue::from_static("max-age=3600");

/// The way to https for a request that came in clear. `None`: it is answered as it came.
///
/// 301 for GET and HEAD, which every client follows; 308 for the rest, which keeps method and body (RFC 9110,
/// 15.4.9): an opt-out that is posted in clear arrives.
#[must_use]
pub fn redirect<B>(x: &Exchange, request: &Request<B>) -> Option<Response<Body>> {
    let port = x.site().settings.redirect.filter(|_| !x.client.secure)?;
    let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    if target.starts_with(ACME_PREFIX) {
        return None;
    }
    let host = x.host_name();
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    // `*` asks about the server as a whole, which has no address of its own.
    let target = if target.starts_with('/') { target } else { "/" };
    let location = HeaderValue::from_str(&format!("https://{host}{port}{target}")).ok()?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = match *request.method() {
        Method::GET | Method::HEAD => StatusCode::MOVED_PERMANENTLY,
        _ => StatusCode::PERMANENT_REDIRECT,
    };
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::CACHE_CONTROL, KEPT);
    Some(response)
}

/// `Strict-Transport-Security` on every answer of a site that has it set, in place of the origin's: over https
/// only (RFC 6797, 7.1 and 7.2).
pub fn tell_hsts(x: &Exchange, headers: &mut HeaderMap) {
    match &x.site().hsts {
        Some(value) if x.client.secure => {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
        }
        Some(_) => drop(headers.remove(header::STRICT_TRANSPORT_SECURITY)),
        None => {}
    }
}

/// What [`tell_hsts`] sends for a site with this setting; made once when settings load.
#[must_use]
pub fn hsts_value(hsts: &Hsts) -> Option<HeaderValue> {
    let Hsts { max_age, subdomains, preload } = *hsts;
    let age = Duration::as_secs(&max_age);
    let subdomains = if subdomains { "; includeSubDomains" } else { "" };
    let preload = if preload { "; preload" } else { "" };
    HeaderValue::from_str(&format!("max-age={age}{subdomains}{preload}")).ok()
}
