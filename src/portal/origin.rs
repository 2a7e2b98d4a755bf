//! Whether a form was sent by a page of another site.
//!
//! Asked only where a person could be opted *in*: a forged opt-out harms nobody and is never refused.

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Uri};

/// Whether this request came, or may have come, from a page that is not ours.
///
/// `Sec-Fetch-Site` is the browser's own word and no page can write it: anything but `same-origin`
/// or `none` (typed or reloaded by the person) is foreign. `Origin` must name the host that was
/// asked; `null` (a sandboxed frame) passes only when `Sec-Fetch-Site` vouches for it. With neither
/// (an old browser, a tool) the confirmation token decides alone.
pub(super) fn is_cross_site(asked: &Uri, headers: &HeaderMap) -> bool {
    let mut vouched = false;
    for site in headers.get_all("sec-fetch-site") {
        match site.as_bytes() {
            b"same-origin" => vouched = true,
            b"none" => {}
            _ => return true,
        }
    }
    let host = asked.authority().cloned().or_else(|| Authority::try_from(headers.get(HOST)?.as_bytes()).ok());
    headers.get_all(ORIGIN).iter().any(|origin| match origin.as_bytes() {
        b"null" => !vouched,
        other => !names_host(other, host.as_ref(), vouched),
    })
}

/// Whether an `Origin` names this host. A front may drop a port from `Host`, so the port counts
/// only when the browser did not vouch.
fn names_host(origin: &[u8], host: Option<&Authority>, vouched: bool) -> bool {
    let (Ok(origin), Some(host)) = (Uri::try_from(origin), host) else { return false };
    let Some(from) = origin.authority() else { return false };
    let port = |a: &Authority| a.port_u16().filter(|p| !matches!(p, 80 | 443));
    from.host().eq_ignore_ascii_case(host.host()) && (vouched || port(from) == port(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    /// OWASP ASVS 3.5.1: origin and fetch metadata, as a table.
    #[test]
    fn every_pair_of_origin_and_fetch_site_is_judged() {
        let origins: [(Option<&str>, bool, bool); 8] = [
            // (Origin, refused alone, refused when the browser says same-origin)
            (None, false, false),
            (Some("https://shop.example"), false, false),
            (Some("http://SHOP.example:80"), false, false),
            (Some("https://shop.example:8443"), true, false),
            (Some("https://evil.example"), true, true),
            (Some("https://shop.example.evil.example"), true, true),
            (Some("null"), true, false),
            (Some("garbage"), true, true),
        ];
        for (origin, alone, vouched) in origins {
            for (site, refused) in [
                (None, alone),
                (Some("none"), alone),
                (Some("same-origin"), vouched),
                (Some("same-site"), true),
                (Some("cross-site"), true),
                (Some("else"), true),
            ] {
                let mut headers = HeaderMap::new();
                headers.insert(HOST, HeaderValue::from_static("shop.example"));
                for (name, value) in [("origin", origin), ("sec-fetch-site", site)] {
                    if let Some(value) = value {
                        headers.insert(name, HeaderValue::from_str(value).unwrap());
                    }
                }
                let asked = Uri::from_static("/privacy-choices/opt-in");
                assert_eq!(is_cross_site(&asked, &headers), refused, "{origin:?} {site:?}");
            }
        }
    }

    /// HTTP/2 names the host in `:authority` (RFC 9113, 8.3.1).
    #[test]
    fn the_authority_of_an_http2_request_counts_as_its_host() {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static("https://shop.example"));
        assert!(!is_cross_site(&Uri::from_static("https://shop.example/x"), &headers));
        assert!(is_cross_site(&Uri::from_static("https://other.example/x"), &headers));
        assert!(is_cross_site(&Uri::from_static("/x"), &headers));
    }
}
