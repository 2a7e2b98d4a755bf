//! Trailer fields (RFC 9110, 6.5): they pass in both directions, but for those that would change how the
//! message was read, who may see it or what it says about us.

use bytes::Bytes;
use http_body::Frame;

use super::hop_by_hop;
use crate::edge::strict::{self, Reason};
use crate::enforce::fields;

/// Names that may not stand behind a body (RFC 9110, 6.5.1): framing, routing, modifiers, authentication, content.
const FORBIDDEN: [&str; 32] = [
    "age",
    "allow",
    "cache-control",
    "connection",
    "content-range",
    "date",
    "expect",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "link",
    "location",
    "max-forwards",
    "pragma",
    "proxy",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "warning",
    "www-authenticate",
    "x-original-url",
];

/// Whether trailers, where a frame has them, are as well-formed as a head has to be. HTTP/2's library looks less closely.
///
/// # Errors
/// What is wrong.
pub fn check(frame: &Frame<Bytes>) -> Result<(), Reason> {
    frame.trailers_ref().map_or(Ok(()), strict::hold_values_to_http1)
}

/// Drops what may not be a trailer field from a frame of trailers. `Sec-GPC` never counts here, so it does not pass
/// either.
pub fn clean(frame: &mut Frame<Bytes>) {
    if let Some(trailers) = frame.trailers_mut() {
        fields::remove_where(trailers, is_forbidden);
    }
}

fn is_forbidden(name: &str) -> bool {
    let dashed = name.replace('_', "-");
    hop_by_hop::is_protected(&dashed)
        || FORBIDDEN.binary_search(&dashed.as_str()).is_ok()
        || ["sec-", "proxy-", "access-control-", "content-security-"]
            .iter()
            .any(|start| dashed.starts_with(start))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn only_harmless_trailers_pass() {
        let names = [
            "grpc-status",
            "grpc-message",
            "x-sum",
            "content-digest",
            "server-timing",
            "content-length",
            "host",
            "cookie",
            "set-cookie",
            "authorization",
            "sec-gpc",
            "sec_gpc",
            "transfer-encoding",
            "x-forwarded-for",
            "optgate-decision",
            "trailer",
            "content-security-policy",
        ];
        let mut map = HeaderMap::new();
        for name in names {
            map.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        let mut frame = Frame::trailers(map);
        clean(&mut frame);
        let map = frame.into_trailers().unwrap();
        let left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, names[..5]);
        assert!(FORBIDDEN.is_sorted());
    }
}
