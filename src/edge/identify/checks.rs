//! What no request may be that goes on from here, whoever sends it.

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Uri, Version, header};
use http_body::Body;

use super::client_addr;
use crate::config::Limits;
use crate::edge::error::ProxyError;
use crate::edge::strict::{self, Reason};
use crate::enforce::names::Names;

/// So often a request may come by: fronts of one make are two or three, and an origin that leads back here would take
/// every descriptor with one request.
const MOST_PASSES: usize = 10;

/// All of what can be told by the head alone. `names`: of the fields in it.
///
/// # Errors
/// See each.
pub fn head<B: Body>(request: &mut Request<B>, names: Names) -> Result<(), ProxyError> {
    target(request.method(), request.uri(), request.version())?;
    if names.any(Names::LENGTH.or(Names::CODING)) {
        length(request.headers())?;
    }
    if request.version() == Version::HTTP_2 {
        let ended = request.body().is_end_stream();
        strict::hold_to_http1(request.headers_mut(), ended).map_err(ProxyError::Malformed)?;
    }
    if names.any(Names::VIA) && client_addr::passes(request.headers()) >= MOST_PASSES {
        return Err(ProxyError::Loop);
    }
    Ok(())
}

/// Refuses a body whose end can be read in two ways (RFC 9112, 6.1 and 6.3; RFC 9113, 8.1.1): more than one
/// length, any `Transfer-Encoding` but one `chunked`, or one beside a `Content-Length`. HTTP/1.1 heads have
/// been held to this byte by byte.
fn length(headers: &HeaderMap) -> Result<(), ProxyError> {
    if headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(ProxyError::AmbiguousLength);
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    let chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if chunked && codings.next().is_none() && !headers.contains_key(header::CONTENT_LENGTH) {
        return Ok(());
    }
    Err(ProxyError::AmbiguousLength)
}

/// Refuses an HTTP/2 head above `limits.header_bytes` or `limits.header_count`; HTTP/1.1 heads have been held to
/// them byte by byte. Pieces of `Cookie` make one field (RFC 9113, 8.2.3) and have a limit of their own.
///
/// Cost: one pass over the fields.
pub fn size<B>(request: &Request<B>, limits: &Limits) -> Result<(), ProxyError> {
    if request.version() != Version::HTTP_2 {
        return Ok(());
    }
    let crumbs = request.headers().get_all(header::COOKIE).iter().count();
    if crumbs > limits.http2_cookie_crumbs {
        return Err(ProxyError::ManyCrumbs);
    }
    if request.headers().len() - crumbs + usize::from(crumbs > 0) > limits.header_count {
        return Err(ProxyError::Malformed(Reason::ManyFields));
    }
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.header_bytes {
        return Err(ProxyError::Malformed(Reason::LongTarget));
    }
    // Each field has a colon, a space and a line end.
    let fields: usize = request.headers().iter().map(|(n, v)| n.as_str().len() + v.len() + 4).sum();
    let long = target + fields > limits.header_bytes;
    if long { Err(ProxyError::Malformed(Reason::LongHead)) } else { Ok(()) }
}

/// Refuses methods and targets that are not for a reverse proxy (RFC 9112, 3.2.3 and 3.2.4), and `TRACE`, which
/// would show a page's scripts the credentials and what we tell the origin (RFC 9110, 9.3.8).
fn target(method: &Method, uri: &Uri, version: Version) -> Result<(), ProxyError> {
    if method == Method::TRACE {
        return Err(ProxyError::MethodNotAllowed);
    }
    // A target of another form has an empty path, which http's types read as `/`.
    let target = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let path = if version == Version::HTTP_11 && uri.authority().is_some() { uri.path() } else { target };
    let web = |scheme: &str| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let good = method != Method::CONNECT
        && (path.starts_with('/') || (path == "*" && method == Method::OPTIONS))
        && target.bytes().all(|byte| byte.is_ascii_graphic())
        && uri.scheme_str().is_none_or(web);
    if good { Ok(()) } else { Err(ProxyError::BadTarget) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origin_form_and_options_asterisk_are_forwarded() {
        let ok = |m: Method, u: &str| target(&m, &u.parse().unwrap(), Version::HTTP_11).is_ok();
        assert!(ok(Method::GET, "/a?b"));
        assert!(ok(Method::GET, "http://h/a"));
        assert!(ok(Method::OPTIONS, "*"));
        assert!(!ok(Method::GET, "*"));
        assert!(!ok(Method::CONNECT, "h:443"));
        assert!(!ok(Method::GET, "ftp://h/a"));
        assert!(!ok(Method::TRACE, "/a"));
    }
}
