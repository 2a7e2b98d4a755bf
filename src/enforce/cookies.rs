//! Cookies: tracker cookies out of `Cookie` and `Set-Cookie`, expired in the browser; our own set.

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use std::net::IpAddr;

use crate::privacy::cookie::{self, MAX_AGE_DAYS, OwnCookie};
use crate::privacy::signal::cookie_pieces;
use crate::privacy::{Basis, Decision, Keys, Signals, Standing};

/// Bytes of expiry lines a response may gain: fronts often hold a whole head in 4 or 8 KiB. What does
/// not fit is expired by the next page.
const EXPIRY_BYTES: usize = 2048;

/// Removes cookies from a request's `Cookie` fields; the other bytes stay as they are.
///
/// `remove` gets each trimmed name, some twice. Gives whether anything was removed; a field that becomes empty
/// goes. A pair without `=` has no name, so that it stays.
pub fn drop_request_cookies(headers: &mut HeaderMap, mut remove: impl FnMut(&[u8]) -> bool) -> bool {
    let loses = |field: &HeaderValue| {
        cookie_pieces(field.as_bytes()).any(|pair| pair_name(pair).is_some_and(&mut remove))
    };
    // Most requests lose nothing: no copy for them.
    if !headers.get_all(COOKIE).iter().any(loses) {
        return false;
    }
    let mut fields: Vec<HeaderValue> = Vec::new();
    for field in headers.get_all(COOKIE) {
        let mut dropped = false;
        let mut kept: Vec<u8> = Vec::new();
        for pair in cookie_pieces(field.as_bytes()) {
            if pair_name(pair).is_some_and(&mut remove) {
                dropped = true;
                continue;
            }
            if !kept.is_empty() {
                kept.push(b';');
            }
            kept.extend_from_slice(if kept.is_empty() { pair.trim_ascii_start() } else { pair });
        }
        if !dropped {
            fields.push(field.clone());
        } else if let Ok(value) = HeaderValue::from_bytes(kept.trim_ascii())
            && !value.is_empty()
        {
            fields.push(value);
        }
    }
    headers.remove(COOKIE);
    for field in fields {
        headers.append(COOKIE, field);
    }
    true
}

/// Removes `Set-Cookie` lines by name; gives how many went.
pub fn drop_response_cookies(headers: &mut HeaderMap, mut remove: impl FnMut(&[u8]) -> bool) -> u32 {
    let mut name_of = |line: &HeaderValue| {
        let pair = line.as_bytes().split(|&b| b == b';').next().unwrap_or_default();
        pair_name(pair).is_some_and(&mut remove)
    };
    let marks: Vec<bool> = headers.get_all(SET_COOKIE).iter().map(&mut name_of).collect();
    let dropped = marks.iter().filter(|&&mark| mark).count();
    if dropped > 0 {
        let kept: Vec<HeaderValue> = headers
            .get_all(SET_COOKIE)
            .iter()
            .zip(&marks)
            .filter(|(_, mark)| !**mark)
            .map(|(line, _)| line.clone())
            .collect();
        headers.remove(SET_COOKIE);
        for line in kept {
            headers.append(SET_COOKIE, line);
        }
    }
    u32::try_from(dropped).unwrap_or(u32::MAX)
}

fn pair_name(pair: &[u8]) -> Option<&[u8]> {
    memchr::memchr(b'=', pair).map(|at| pair[..at].trim_ascii())
}

/// Domains a script or server on `host` can have set a cookie for, host first, registrable domain last.
///
/// Empty for addresses and for names without a registrable domain (`localhost`, a public suffix).
#[must_use]
pub fn cookie_domains(host: &str) -> Vec<&str> {
    let host = host.trim_end_matches('.');
    if host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
        return Vec::new();
    }
    let Some(site) = psl::domain_str(host) else { return Vec::new() };
    let mut domains = vec![host];
    while let Some(&last) = domains.last()
        && last.len() > site.len()
        && let Some((_, parent)) = last.split_once('.')
    {
        domains.push(parent);
    }
    domains
}

/// Appends `Set-Cookie` lines that expire cookies: host-only and for each domain of [`cookie_domains`].
///
/// Gives how many names were expired. Names that cannot stand in a line, or that alone take more than is left, are
/// skipped: a cookie with another path than `/` stays out of reach (the browser never says which path it has), and comes
/// first again with every request.
pub fn expire(headers: &mut HeaderMap, names: &[Vec<u8>], host: &str, secure: bool) -> u32 {
    let domains = cookie_domains(host);
    let (mut expired, mut bytes) = (0, 0);
    for name in names {
        let scopes = std::iter::once(None).chain(domains.iter().map(|domain| Some(*domain)));
        let lines: Option<Vec<HeaderValue>> =
            scopes.map(|domain| expiry_line(name, domain, "/", secure)).collect();
        let Some(lines) = lines else { continue };
        let more = lines.iter().map(HeaderValue::len).sum::<usize>();
        if bytes + more > EXPIRY_BYTES {
            continue;
        }
        bytes += more;
        for line in lines {
            headers.append(SET_COOKIE, line);
        }
        expired += 1;
    }
    expired
}

/// A line that ends a cookie of this name, domain and path. `None`: the name can stand in none.
pub(super) fn expiry_line(
    name: &[u8],
    domain: Option<&str>,
    path: &str,
    secure: bool,
) -> Option<HeaderValue> {
    if name.is_empty() {
        return None;
    }
    let mut line = name.to_vec();
    line.extend_from_slice(b"=; Path=");
    line.extend_from_slice(path.as_bytes());
    line.extend_from_slice(b"; Max-Age=0");
    if let Some(domain) = domain {
        line.extend_from_slice(b"; Domain=");
        line.extend_from_slice(domain.as_bytes());
    }
    if secure {
        // A `__Secure-` name cannot be touched without it.
        line.extend_from_slice(b"; Secure");
    }
    HeaderValue::from_bytes(&line).ok()
}

/// The `Set-Cookie` line of our own cookie for this document, if one is due.
///
/// Opted out: when the browser has no current `out` cookie. The grounds `cmp` (foreign cookies count
/// only while present) and "not loaded yet" set none. Not opted out: an `in` cookie is renewed once a
/// month, and nothing is ever set for a visitor who chose nothing.
#[must_use]
pub fn own_cookie(
    decision: Decision,
    signals: Signals,
    month: u32,
    keys: &Keys,
    secure: bool,
    domain: Option<&str>,
) -> Option<HeaderValue> {
    let value = match (decision.basis, signals.own) {
        (Some(Basis::Cmp), _) => return None,
        // Until the index is loaded the account only counts as opted out; no lasting mark follows.
        (Some(Basis::Account), own)
            if signals.account == Standing::NotLoaded
                && !signals.profile.is_out()
                && !matches!(own, OwnCookie::Out(_)) =>
        {
            return None;
        }
        (Some(_), OwnCookie::Out(set)) if set == month => return None,
        (Some(_), _) => cookie::value_out(month, keys),
        (None, OwnCookie::In(set)) if set != month => cookie::value_in(month, keys),
        (None, _) => return None,
    };
    own_line(&value, secure, domain)
}

/// Expires our own cookie in every form that the browser may have beside the one for `domain` (`None`: the host's
/// alone): what is left of other settings would speak against a confirmed opt-in.
pub fn expire_other_forms(headers: &mut HeaderMap, host: &str, domain: Option<&str>, secure: bool) {
    let domains = cookie_domains(host);
    let forms = std::iter::once(None).chain(domains.iter().map(|domain| Some(*domain)));
    for form in forms.filter(|form| *form != domain) {
        if let Some(line) = expiry_line(cookie::NAME.as_bytes(), form, "/", secure) {
            headers.append(SET_COOKIE, line);
        }
    }
}

/// `Set-Cookie` line for a value of our own cookie (the portal sets it too), for this host or for a domain.
#[must_use]
pub fn own_line(value: &str, secure: bool, domain: Option<&str>) -> Option<HeaderValue> {
    let age = u64::from(MAX_AGE_DAYS) * 24 * 60 * 60;
    let (attribute, domain) = domain.map_or(("", ""), |domain| ("; Domain=", domain));
    let secure = if secure { "; Secure" } else { "" };
    let line = format!(
        "{}={value}{attribute}{domain}; Path=/; Max-Age={age}; SameSite=Lax; HttpOnly{secure}",
        cookie::NAME
    );
    HeaderValue::try_from(line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(headers: &HeaderMap, name: http::HeaderName) -> Vec<&str> {
        headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect()
    }

    fn tracker(name: &[u8]) -> bool {
        name.starts_with(b"_fb")
    }

    #[test]
    fn tracker_cookies_leave_a_request_and_the_rest_keeps_its_bytes() {
        for (fields, want) in [
            (&["a=1; _fbp=x; b= \"2\" ;c"][..], &["a=1; b= \"2\" ;c"][..]),
            (&["_fbp=x; a=1"], &["a=1"]),
            (&["a=1; _fbp=x"], &["a=1"]),
            (&["_fbp=x"], &[]),
            (&["_fbp=x;_fbc=y;"], &[]),
            (&["a=1", "_fbp=x", "b=2"], &["a=1", "b=2"]),
            (&[" a = 1 ;; b=2"], &[" a = 1 ;; b=2"]),
            (&["x_fbp=1; a=_fbp"], &["x_fbp=1; a=_fbp"]),
            (&["_fbp"], &["_fbp"]),
            (&["a=1; _fbp =x"], &["a=1"]),
        ] {
            let mut map = HeaderMap::new();
            for field in fields {
                map.append(COOKIE, HeaderValue::from_static(field));
            }
            let changed = drop_request_cookies(&mut map, tracker);
            assert_eq!(lines(&map, COOKIE), want, "{fields:?}");
            assert_eq!(changed, fields != want, "{fields:?}");
        }
    }

    #[test]
    fn tracker_cookies_leave_a_response_line_by_line() {
        let mut map = HeaderMap::new();
        for line in ["sid=1; Path=/", "_fbp=x; Path=/", " _fbc = y", "_fbx", "a=_fbp=1"] {
            map.append(SET_COOKIE, HeaderValue::from_static(line));
        }
        assert_eq!(drop_response_cookies(&mut map, tracker), 2);
        assert_eq!(lines(&map, SET_COOKIE), ["sid=1; Path=/", "_fbx", "a=_fbp=1"]);
    }

    #[test]
    fn a_cookie_is_expired_for_the_host_and_every_domain_up_to_the_site() {
        assert_eq!(
            cookie_domains("www.shop.example.co.uk"),
            ["www.shop.example.co.uk", "shop.example.co.uk", "example.co.uk"]
        );
        assert_eq!(cookie_domains("example.com"), ["example.com"]);
        for none in ["localhost", "co.uk", "127.0.0.1", "[::1]", "::1"] {
            assert!(cookie_domains(none).is_empty(), "{none}");
        }
        let mut map = HeaderMap::new();
        assert_eq!(expire(&mut map, &[b"_fbp".to_vec()], "www.example.com", true), 1);
        assert_eq!(
            lines(&map, SET_COOKIE),
            [
                "_fbp=; Path=/; Max-Age=0; Secure",
                "_fbp=; Path=/; Max-Age=0; Domain=www.example.com; Secure",
                "_fbp=; Path=/; Max-Age=0; Domain=example.com; Secure",
            ]
        );
    }

    #[test]
    fn expiry_lines_stay_within_their_bytes() {
        let names: Vec<Vec<u8>> = (0..500).map(|i| format!("_fb{i}").into_bytes()).collect();
        let mut map = HeaderMap::new();
        let expired = expire(&mut map, &names, "www.example.com", false);
        let bytes: usize = map.get_all(SET_COOKIE).iter().map(HeaderValue::len).sum();
        assert!(expired > 5 && bytes <= EXPIRY_BYTES, "{expired} names, {bytes} bytes");
    }

    /// A cookie whose name takes all the bytes there are is in the browser still, the next time.
    #[test]
    fn a_name_that_does_not_fit_keeps_no_other_from_its_expiry() {
        let names = [[b"_fb", &[b'x'; EXPIRY_BYTES][..]].concat(), b"_fbp".to_vec()];
        let mut map = HeaderMap::new();
        assert_eq!(expire(&mut map, &names, "localhost", false), 1);
        assert_eq!(lines(&map, SET_COOKIE), ["_fbp=; Path=/; Max-Age=0"]);
    }

    /// When our cookie is due, and what it says: the whole table.
    #[test]
    fn our_cookie_is_set_only_when_it_is_due() {
        let keys = Keys::derive(b"k");
        let due = |basis: Option<Basis>, own, account| {
            let signals = Signals { gpc: basis == Some(Basis::Gpc), own, account, ..Signals::NONE };
            own_cookie(Decision { basis }, signals, 202_611, &keys, true, None)
                .map(|v| v.to_str().unwrap().split('.').nth(1).unwrap().to_owned())
        };
        use OwnCookie::{Absent, In, Out, Unusable};
        let none = Standing::NoAccount;
        for (basis, own, account, want) in [
            (Some(Basis::Gpc), Absent, none, Some("out")),
            (Some(Basis::Gpc), Unusable, none, Some("out")),
            (Some(Basis::Gpc), Out(202_611), none, None),
            (Some(Basis::Gpc), Out(202_610), none, Some("out")),
            (Some(Basis::Gpc), In(202_611), none, Some("out")),
            (Some(Basis::Cookie), Out(OwnCookie::ANEW), none, Some("out")),
            (Some(Basis::Account), Absent, Standing::OptedOut, Some("out")),
            (Some(Basis::Account), Absent, Standing::NotLoaded, None),
            (Some(Basis::Account), Out(202_610), Standing::NotLoaded, Some("out")),
            (Some(Basis::Import), Absent, Standing::OptedOutByImport, Some("out")),
            (Some(Basis::Cmp), Absent, none, None),
            (None, Absent, none, None),
            (None, Unusable, none, None),
            (None, In(202_611), none, None),
            (None, In(202_610), none, Some("in")),
        ] {
            assert_eq!(due(basis, own, account).as_deref(), want, "{basis:?} {own:?} {account:?}");
        }
    }

    #[test]
    fn our_line_has_every_attribute_and_secure_only_on_https() {
        let line = own_line("v1.out.202611.x", true, None).unwrap();
        assert_eq!(line, "optgate=v1.out.202611.x; Path=/; Max-Age=34560000; SameSite=Lax; HttpOnly; Secure");
        assert!(!own_line("v", false, None).unwrap().to_str().unwrap().contains("Secure"));
    }
}
