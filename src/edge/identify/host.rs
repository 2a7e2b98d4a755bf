//! The host that a request names.

use std::borrow::Cow;

use http::{HeaderValue, Request, Version, header};

use crate::edge::error::ProxyError;

/// Host of a request as sent: `:authority` or `Host`, exactly one.
///
/// RFC 9112, 3.2: a request without `Host`, or with several, is answered 400. RFC 9113, 8.3.1: `Host`
/// must not differ from `:authority`, but for a port that says nothing.
///
/// # Errors
/// [`ProxyError::BadHost`], [`ProxyError::HostMismatch`].
pub fn host_of<B>(request: &Request<B>) -> Result<HeaderValue, ProxyError> {
    let mut fields = request.headers().get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(ProxyError::BadHost);
    }
    let (authority, scheme) = (request.uri().authority(), request.uri().scheme_str());
    if let (Some(authority), Some(field)) = (authority, field)
        && !without_default_port(authority.as_str().as_bytes(), scheme)
            .eq_ignore_ascii_case(without_default_port(field.as_bytes(), scheme))
    {
        return Err(ProxyError::HostMismatch);
    }
    match (field, authority) {
        (Some(field), _) => Ok(field.clone()),
        // HTTP/1.1 must name its host in the field (RFC 9112, 3.2).
        (None, Some(authority)) if request.version() != Version::HTTP_11 => {
            HeaderValue::from_str(authority.as_str()).map_err(|_| ProxyError::BadHost)
        }
        _ => Err(ProxyError::BadHost),
    }
}

/// A host without the port that its scheme has anyway (RFC 9110, 4.2.3), or an empty one.
fn without_default_port<'h>(host: &'h [u8], scheme: Option<&str>) -> &'h [u8] {
    let port: &[u8] = if scheme.is_some_and(|s| s.eq_ignore_ascii_case("https")) { b":443" } else { b":80" };
    host.strip_suffix(port).or_else(|| host.strip_suffix(b":")).unwrap_or(host)
}

/// Host without port and trailing dot, lower case; `None` when it is no host.
///
/// Narrower than RFC 3986, 3.2.2: names of letters, digits, `-`, `_` and dots, or an address.
pub fn host_name(text: &str) -> Option<Cow<'_, str>> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) = rest.split_once(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            (&text[..inner.len() + 2], after.strip_prefix(':').or(after.is_empty().then_some(""))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let literal = name.starts_with('[');
    let name = if literal { name } else { name.strip_suffix('.').unwrap_or(name) };
    let good_byte = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let good_name = literal || name.bytes().all(good_byte) && !name.starts_with('.') && !name.contains("..");
    let good = good_name
        && (1..=255).contains(&name.len())
        && port.bytes().all(|b| b.is_ascii_digit())
        && (port.is_empty() || port.parse::<u16>().is_ok());
    let lower = !name.bytes().any(|b| b.is_ascii_uppercase());
    good.then(|| if lower { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3986, 3.2.2 and 3.2.3.
    #[test]
    fn hosts_lose_port_case_and_trailing_dot() {
        for (given, name) in [
            ("Shop.Example:8080", "shop.example"),
            ("shop.example.", "shop.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
        ] {
            assert_eq!(host_name(given).as_deref(), Some(name), "{given}");
        }
        for bad in [
            "",
            ":80",
            "a b",
            "a/b",
            "user@host",
            "[::1",
            "[zz]",
            "host:80:90",
            "host:8x",
            ".",
            "a[b",
            "a%41",
            "a..b",
            ".a",
            "a:65536",
            "[::1]a",
        ] {
            assert_eq!(host_name(bad), None, "{bad}");
        }
    }
}
