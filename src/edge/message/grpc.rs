//! What gRPC asks of a proxy beside HTTP/2 and trailers: calls are conversations, and errors have a form of their own.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};

use super::body::Body;

/// Whether a request is a gRPC call (gRPC over HTTP/2, "Requests").
#[must_use]
pub fn is_call<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_2 && has_type(request.headers())
}

/// Whether the content is gRPC's: `application/grpc`, alone or with `+proto` or the like.
#[must_use]
pub fn has_type(headers: &HeaderMap) -> bool {
    let rest = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// An error of ours as a gRPC client reads it: without messages, its status in the head. The status of HTTP stays,
/// for everything between us and the client.
#[must_use]
pub fn as_error(response: Response<Body>) -> Response<Body> {
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    parts.headers.insert("grpc-status", HeaderValue::from_static(code(parts.status)));
    let reason = parts.status.canonical_reason().unwrap_or("error");
    parts.headers.insert("grpc-message", HeaderValue::from_static(reason));
    Response::from_parts(parts, Body::empty())
}

/// "HTTP to gRPC Status Code Mapping".
const fn code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        429 | 502 | 503 | 504 => "14",
        _ => "2",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpcs_own_types_are_calls() {
        let is = |text| {
            let value = HeaderValue::from_static(text);
            has_type(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]))
        };
        assert!(is("application/grpc") && is("application/grpc+proto") && is("application/grpc; a=b"));
        assert!(!is("application/grpc-web") && !is("application/json") && !has_type(&HeaderMap::new()));
    }
}
