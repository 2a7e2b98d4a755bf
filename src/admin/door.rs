//! Who may come in: the answer to DNS rebinding and to forms of other pages.
//!
//! A page anywhere can make a browser send requests to a loopback address, under a name of its own
//! (rebinding) or under ours (a cross-site form). The first shows in `Host`, the second in
//! `Sec-Fetch-Site` and `Origin`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use http::header::{CACHE_CONTROL, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};

use super::{AdminState, problem};

pub(super) async fn check(State(state): State<AdminState>, request: Request, next: Next) -> Response<Body> {
    let settings = Arc::clone(&state.in_force.load().settings);
    // A name that another page has bound to this address has no certificate here, so TLS has refused it.
    let ours = Ours { address: settings.admin.ip(), names: &settings.admin_names };
    let admin = (settings.admin_tls.is_none()).then_some(ours);
    let mut response = match refusal(request.method(), request.uri(), request.headers(), admin) {
        None => next.run(request).await,
        Some(detail) => problem(StatusCode::FORBIDDEN, detail),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// By what the listener may be asked, beside loopback's names and addresses.
#[derive(Clone, Copy)]
struct Ours<'a> {
    address: IpAddr,
    names: &'a [String],
}

/// Why a request may not come in. `admin`: by what it may be asked, where any name may lead to it.
fn refusal(method: &Method, uri: &Uri, headers: &HeaderMap, admin: Option<Ours<'_>>) -> Option<&'static str> {
    let host = uri.authority().cloned().or_else(|| Authority::try_from(headers.get(HOST)?.as_bytes()).ok());
    let Some(host) = host.filter(|host| admin.is_none_or(|admin| admin.has(host.host()))) else {
        return Some(
            "The Host header must be a loopback name or address, the address in admin.listen, or a name in \
             admin.names. Ask by one of them, or add the name there.",
        );
    };
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    (changes && is_cross_site(headers, &host))
        .then_some("Changes are taken only from tools and from this listener's own pages.")
}

impl Ours<'_> {
    /// Whether a host is a loopback name or address, the configured address, or a configured name. A listener on all
    /// addresses takes any literal address: only a name can be rebound.
    fn has(self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || address == self.address || self.address.is_unspecified(),
            Err(_) => {
                host.eq_ignore_ascii_case("localhost")
                    || self.names.iter().any(|name| host.eq_ignore_ascii_case(name))
            }
        }
    }
}

fn is_cross_site(headers: &HeaderMap, host: &Authority) -> bool {
    let fetched_elsewhere = headers
        .get_all("sec-fetch-site")
        .iter()
        .any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    let sent_elsewhere = headers.get_all(ORIGIN).iter().any(|origin| {
        let origin = Uri::try_from(origin.as_bytes()).ok();
        origin.as_ref().and_then(Uri::authority) != Some(host)
    });
    fetched_elsewhere || sent_elsewhere
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn asks(method: Method, fields: &[(&'static str, &'static str)], admin: &str) -> bool {
        let headers = fields
            .iter()
            .map(|(n, v)| (http::HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect();
        let names = ["optgate.internal".to_owned()];
        let address = admin.parse::<SocketAddr>().ok().map(|admin| admin.ip());
        let ours = address.map(|address| Ours { address, names: &names });
        refusal(&method, &Uri::from_static("/livez"), &headers, ours).is_none()
    }

    /// DNS rebinding: the browser sends the attacker's name.
    #[test]
    fn only_loopback_names_and_the_configured_address_come_in() {
        let get = |host, admin| asks(Method::GET, &[("host", host)], admin);
        for ours in ["localhost", "LOCALHOST:9180", "127.0.0.1:9180", "127.0.0.7", "[::1]:9180"] {
            assert!(get(ours, "127.0.0.1:9180"), "{ours}");
        }
        for not in ["evil.example", "localhost.evil.example", "10.0.0.5", "[::2]", "", "127.0.0.1.nip.io"] {
            assert!(!get(not, "127.0.0.1:9180"), "{not}");
        }
        assert!(get("10.0.0.5:9180", "10.0.0.5:9180"));
        assert!(get("10.0.0.5:9180", "0.0.0.0:9180"));
        assert!(!get("evil.example", "0.0.0.0:9180"));
        assert!(!asks(Method::GET, &[], "127.0.0.1:9180"));
        assert!(get("Optgate.internal:9180", "0.0.0.0:9180") && get("optgate.internal", "127.0.0.1:9180"));
        assert!(!get("x.optgate.internal", "0.0.0.0:9180"));
        assert!(get("any.internal", "behind TLS") && !asks(Method::GET, &[], "behind TLS"));
    }

    /// OWASP ASVS 3.5.1: a form of another page changes nothing here.
    #[test]
    fn a_change_from_another_page_is_refused() {
        let post =
            |name, value| asks(Method::POST, &[("host", "127.0.0.1:9180"), (name, value)], "127.0.0.1:9180");
        assert!(post("accept", "*/*"));
        assert!(post("origin", "http://127.0.0.1:9180"));
        assert!(post("sec-fetch-site", "same-origin"));
        for (name, value) in [
            ("origin", "http://127.0.0.1:3000"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(!post(name, value), "{name}: {value}");
        }
    }
}
