//! The cookie of `balance = "sticky-cookie"`: names an origin, never a visitor.
//!
//! It is set only where no shared cache may keep the answer (RFC 9111, 3): a copy would send everybody who
//! gets it to one origin.

use http::{HeaderMap, HeaderValue, Method, header};

use crate::edge::exchange::Exchange;

/// Adds the cookie to an answer, if the choice of the origin is to be remembered.
///
/// Cost: one comparison where nothing is.
pub fn tell(x: &Exchange, method: &Method, headers: &mut HeaderMap) {
    let Some(member) = x.stuck_to().and_then(|at| x.site().group.members.get(at)) else { return };
    if !is_private(method, headers) {
        return;
    }
    let secure = if x.client.secure { "; Secure" } else { "" };
    let name = &x.site().group.sharing.cookie;
    let line = format!("{name}={}; Path=/; HttpOnly; SameSite=Lax{secure}", member.token);
    if let Ok(line) = HeaderValue::from_str(&line) {
        headers.append(header::SET_COOKIE, line);
    }
}

/// Whether no shared cache may keep an answer to this method.
fn is_private(method: &Method, headers: &HeaderMap) -> bool {
    let (mut private, mut fresh) = (false, headers.contains_key(header::EXPIRES));
    for field in headers.get_all(header::CACHE_CONTROL) {
        for directive in field.as_bytes().split(|byte| *byte == b',') {
            let directive = directive.trim_ascii();
            let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default();
            // `private="field"` forbids that field only.
            private |= name.eq_ignore_ascii_case(b"no-store") || directive.eq_ignore_ascii_case(b"private");
            fresh |= [&b"public"[..], b"max-age", b"s-maxage"].iter().any(|f| name.eq_ignore_ascii_case(f));
        }
    }
    // Answers to unsafe methods are kept only where they say for how long (RFC 9110, 9.3.3).
    private || (!fresh && !matches!(*method, Method::GET | Method::HEAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn private(method: &Method, fields: &[(&'static str, &'static str)]) -> bool {
        let map = fields.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_static(v))).collect();
        is_private(method, &map)
    }

    /// RFC 9111, 3: what a shared cache may keep must not carry the cookie.
    #[test]
    fn only_answers_that_no_shared_cache_keeps_are_private() {
        let get = Method::GET;
        for value in ["private", "no-store", "max-age=60, Private", "no-cache, NO-STORE"] {
            assert!(private(&get, &[("cache-control", value)]), "{value}");
        }
        for value in ["no-cache", "max-age=60", "public", "private=\"x-a\"", "no-transform"] {
            assert!(!private(&get, &[("cache-control", value)]), "{value}");
        }
        assert!(!private(&get, &[]), "a 200 may be kept by guess");
        assert!(private(&Method::POST, &[]));
        assert!(!private(&Method::POST, &[("cache-control", "max-age=5")]));
        assert!(!private(&Method::POST, &[("expires", "0")]));
    }
}
