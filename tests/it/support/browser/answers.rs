//! What the sink answers: something small of the kind that was asked for, open to every page.

use super::sink::Head;

/// One transparent pixel.
const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xFF\xFF\xFF\x21\xF9\x04\x01\x00\x00\x00\x00\x2C\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x01\x44\x00\x3B";

/// A tag manager's container, for whoever asks for [`OWN`].
const CONTAINER: &[u8] = include_bytes!("../../../browser/container.js");

/// What SDKs ask for before they send anything, by how the path begins.
const SETTINGS: [(&str, &[u8]); 2] = [
    ("/v1/projects/", br#"{"integrations":{"Segment.io":{"apiKey":"optgate"}}}"#),
    (
        "/sourceConfig",
        br#"{"source":{"id":"1","name":"made up","writeKey":"optgate","enabled":true,"workspaceId":"1",
        "config":{},"destinations":[],"dataplanes":{}},"updatedAt":"2026-01-01T00:00:00Z"}"#,
    ),
];

/// What names that container.
const OWN: &str = "id=GTM-OWN";

/// A script that leaves a mark.
const SCRIPT: &[u8] = b"globalThis.sunk = (globalThis.sunk || 0) + 1;";

/// The whole answer.
pub fn answer(head: &Head) -> Vec<u8> {
    let (status, content_type, body) = body(head);
    let origin = head.get("origin").unwrap_or("*");
    let asked = head.get("access-control-request-headers").unwrap_or("*");
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\n\
         Access-Control-Allow-Headers: {asked}\r\nAccess-Control-Allow-Methods: GET, POST, PUT, DELETE\r\n\
         Cross-Origin-Resource-Policy: cross-origin\r\nCache-Control: no-store\r\n\r\n",
        body.len()
    )
    .into_bytes();
    if head.method != "HEAD" {
        bytes.extend_from_slice(body);
    }
    bytes
}

fn body(head: &Head) -> (&'static str, &'static str, &'static [u8]) {
    const OK: &str = "200 OK";
    if head.method == "OPTIONS" {
        return ("204 No Content", "text/plain", b"");
    }
    // A socket is logged like any request; nothing here speaks its protocol. An event stream that ends
    // would be asked for again and again: 204 tells the browser to stop.
    if head.get("upgrade").is_some() {
        return ("403 Forbidden", "text/plain", b"");
    }
    let accept = head.get("accept").unwrap_or_default();
    if accept.contains("text/event-stream") {
        return ("204 No Content", "text/event-stream", b"");
    }
    if let Some((_, settings)) = SETTINGS.iter().find(|(path, _)| head.url.path().starts_with(path)) {
        return (OK, "application/json", settings);
    }
    match kind(head, accept) {
        Kind::Script
            if head.url.path() == "/gtm.js"
                && head.url.query().is_some_and(|query| query.starts_with(OWN)) =>
        {
            (OK, "text/javascript", CONTAINER)
        }
        Kind::Script => (OK, "text/javascript", SCRIPT),
        Kind::Style => (OK, "text/css", b"/* sink */"),
        Kind::Image => (OK, "image/gif", GIF),
        Kind::Document => (OK, "text/html", b"<!doctype html><title>sink</title>"),
        Kind::Track => (OK, "text/vtt", b"WEBVTT\n"),
        Kind::Other => (OK, "application/json", b"{}"),
    }
}

enum Kind {
    Script,
    Style,
    Image,
    Document,
    Track,
    Other,
}

/// By `Sec-Fetch-Dest`, which only trustworthy origins are sent; else by what the browser would accept
/// and the path's ending.
fn kind(head: &Head, accept: &str) -> Kind {
    match head.get("sec-fetch-dest").unwrap_or_default() {
        "script" | "worker" | "sharedworker" | "serviceworker" | "audioworklet" | "paintworklet" => {
            Kind::Script
        }
        "style" => Kind::Style,
        "image" => Kind::Image,
        "document" | "iframe" | "frame" | "object" | "embed" | "fencedframe" => Kind::Document,
        "track" => Kind::Track,
        "empty" | "font" | "audio" | "video" | "manifest" | "json" => Kind::Other,
        _ if accept.contains("text/css") => Kind::Style,
        _ if accept.contains("text/html") => Kind::Document,
        _ if accept.contains("image/") => Kind::Image,
        _ if head.url.path().ends_with(".js") => Kind::Script,
        _ => Kind::Other,
    }
}
