//! Where a request ends (RFC 9112, 6).

use super::case::{Case, chunked, forward, get, post, refuse, seen};

const LENGTH: &str = "RFC 9112, 6.3";
const CODING: &str = "RFC 9112, 6.1";
const LAST: &str = "0\r\n\r\n";

pub fn cases() -> Vec<Case> {
    let echo = || seen("GET /next");
    let next = "GET /next HTTP/1.1\r\nHost: site.test\r\n\r\n";
    let mut cases = vec![
        forward("a body with a length passes", LENGTH, post("Content-Length: 4\r\n", "body"), [
            seen("POST /case").body("body"),
        ]),
        forward("a body of length 0", LENGTH, post("Content-Length: 0\r\n", ""), [seen("POST /case").body("")]),
        forward("a POST without a length has no body", LENGTH, post("", ""), [seen("POST /case").body("")]),
        forward("a body of any bytes passes", LENGTH, post("Content-Length: 8\r\n", b"\0\r\n\r\n\xff\n\r"), [
            seen("POST /case").body(b"\0\r\n\r\n\xff\n\r"),
        ]),
        forward("a body that looks like a request is a body", LENGTH, post(&format!("Content-Length: {}\r\n", next.len()), next), [
            seen("POST /case").body(next),
        ]),
        forward("a GET may have a body", "RFC 9110, 9.3.1", [get("Content-Length: 4\r\n").as_bytes(), b"body"].concat(), [
            seen("GET /case").body("body"),
        ]),
        forward("a GET may have a chunked body", "RFC 9110, 9.3.1", [get("Transfer-Encoding: chunked\r\n").as_bytes(), b"4\r\nbody\r\n0\r\n\r\n"].concat(), [
            seen("GET /case").body("body"),
        ]),
        forward("a HEAD may have a chunked body", "RFC 9110, 9.3.2", b"HEAD /case HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", [
            seen("HEAD /case").body("body"),
        ]),
        forward("a chunked body passes", CODING, chunked(format!("4\r\nbody\r\n{LAST}")), [
            seen("POST /case").body("body"),
        ]),
        forward("chunked in any letter case", "RFC 9112, 7", post("tRANSFER-eNCODING: cHUNKED\r\n", format!("4\r\nbody\r\n{LAST}")), [
            seen("POST /case").body("body"),
        ]),
        forward("blanks around chunked", "RFC 9112, 5.1", post("Transfer-Encoding: \tchunked \r\n", format!("4\r\nbody\r\n{LAST}")), [
            seen("POST /case").body("body"),
        ]),
        forward("blanks around a length", "RFC 9112, 5.1", post("Content-Length: \t4 \r\n", "body"), [seen("POST /case").body("body")]),
        forward("a length, then another request", LENGTH, post("Content-Length: 4\r\n", format!("body{next}")), [
            seen("POST /case").body("body"),
            echo(),
        ]),
        forward("chunks, then another request", CODING, chunked(format!("4\r\nbody\r\n{LAST}{next}")), [
            seen("POST /case").body("body"),
            echo(),
        ]),
        forward("no body, then another request", LENGTH, format!("{}{next}", get("")), [seen("GET /case"), echo()]),
        refuse("a length beside chunked", LENGTH, post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", LAST)).should(),
        refuse("chunked beside a length", LENGTH, post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", LAST)).should(),
        refuse("a length of 0 beside chunked", LENGTH, post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", LAST)).should(),
        refuse("a bad length beside chunked", LENGTH, post("Content-Length: x\r\nTransfer-Encoding: chunked\r\n", LAST)),
        refuse("a length beside an unknown coding", LENGTH, post("Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n", LAST)).statuses(&[400, 501]),
        refuse("CL.TE: a length hides chunks", LENGTH, post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG")).should(),
        refuse("TE.CL: chunks hide a length", LENGTH, post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "5c\r\nGPOST /smuggled HTTP/1.1\r\n\r\n0\r\n\r\n")).should(),
        refuse("two different lengths", LENGTH, post("Content-Length: 0\r\nContent-Length: 46\r\n", "")),
        refuse("the same length twice", LENGTH, post("Content-Length: 4\r\nContent-Length: 4\r\n", "body")).should(),
        refuse("the same length three times", LENGTH, post("Content-Length: 4\r\nX: y\r\nContent-Length: 4\r\nContent-Length: 4\r\n", "body")).should(),
        refuse("a list of equal lengths", LENGTH, post("Content-Length: 4, 4\r\n", "body")).should(),
        refuse("a list of different lengths", LENGTH, post("Content-Length: 0, 46\r\n", "")),
        refuse("an empty length beside a good one", LENGTH, post("Content-Length:\r\nContent-Length: 4\r\n", "body")),
        refuse("chunked twice in a list", CODING, post("Transfer-Encoding: chunked, chunked\r\n", LAST)),
        refuse("chunked twice in two fields", CODING, post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", LAST)),
        refuse("chunked in two fields, one with another", CODING, post("Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n", LAST)).statuses(&[400, 501]),
        refuse("chunked in HTTP/1.0", CODING, format!("POST /case HTTP/1.0\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n{LAST}")).should(),
        refuse("chunked in HTTP/1.0 that keeps alive", CODING, format!("POST /case HTTP/1.0\r\nHost: site.test\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n{LAST}")).should(),
        refuse("chunked in HTTP/1.0 beside a length", CODING, format!("POST /case HTTP/1.0\r\nHost: site.test\r\nContent-Length: 46\r\nTransfer-Encoding: chunked\r\n\r\n{LAST}")).should(),
        refuse("a coding with a GET", CODING, get("Transfer-Encoding: gzip\r\n")).statuses(&[400, 501]),
        refuse("an empty coding", CODING, post("Transfer-Encoding:\r\n", LAST)).statuses(&[400, 501]),
        refuse("chunked with NUL behind it", "RFC 9110, 5.5", post("Transfer-Encoding: chunked\0\r\n", LAST)),
        refuse("a length behind a bare CR", "RFC 9112, 2.2", post("X: y\rContent-Length: 46\r\n", "")),
        refuse("a length behind an LF", "RFC 9112, 2.2", post("X: y\nContent-Length: 46\r\n", "")).should(),
        refuse("a coding behind an LF", "RFC 9112, 2.2", post("Content-Length: 46\r\nX: y\nTransfer-Encoding: chunked\r\n", LAST)),
    ];
    for value in [
        "",
        "+4",
        "-4",
        "-0",
        "4.0",
        "4e0",
        "0x4",
        "0b4",
        "4 4",
        "4;a",
        "4,",
        ",4",
        "four",
        "\"4\"",
        "4\t4",
        "4_000",
        "\u{664}",
        "99999999999999999999",
        "18446744073709551616",
        "18446744073709551615",
        "9223372036854775808",
        "340282366920938463463374607431768211460",
        "0 46",
        "0\u{b}",
    ] {
        cases.push(
            refuse(
                format!("the length {value:?}"),
                LENGTH,
                post(&format!("Content-Length: {value}\r\n"), "body"),
            )
            .statuses(&[400, 413]),
        );
    }
    cases.push(
        refuse("a length with zeros before it", LENGTH, post("Content-Length: 0004\r\n", "body"))
            .alone()
            .should()
            .or_forwarded(seen("POST /case").body("body")),
    );
    for value in [
        "identity",
        "identity, chunked",
        "chunked, identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "xchunked",
        "chunkedx",
        "chunked x",
        "x chunked",
        "chunked,",
        ",chunked",
        "chunked;a=b",
        "\"chunked\"",
        "'chunked'",
        "chunk",
        "chunked;",
        "c\u{fb}unked",
        "\u{b}chunked",
        "chunked\u{c}",
        "chunked, ",
        "cow",
        "trailers",
        "deflate",
        "[chunked]",
    ] {
        let case = refuse(
            format!("the coding {value:?}"),
            CODING,
            post(&format!("Transfer-Encoding: {value}\r\n"), LAST),
        );
        cases.push(case.statuses(&[400, 501]));
    }
    // Names that some take for the real ones.
    for name in [
        "Transfer_Encoding",
        "Transfer-Encoding_",
        "TransferEncoding",
        "X-Transfer-Encoding",
        "Transfer-Encodin",
    ] {
        let case = forward(
            format!("{name} is not the coding"),
            CODING,
            post(&format!("{name}: chunked\r\nContent-Length: 5\r\n"), LAST),
            [seen("POST /case").body(LAST)],
        );
        cases.push(if name == "Transfer_Encoding" { case.ours() } else { case });
    }
    for name in ["Content-Lengt", "ContentLength", "X-Content-Length"] {
        cases.push(forward(
            format!("{name} is not the length"),
            LENGTH,
            format!("{}{next}", get(&format!("{name}: 46\r\n"))),
            [seen("GET /case").body(""), echo()],
        ));
    }
    cases.into_iter().map(Case::framing).collect()
}

/// Messages that never end.
pub fn cut_cases() -> Vec<Case> {
    use super::case::Want;
    let cut = |name: &str, clause, bytes: Vec<u8>| {
        refuse(name, clause, bytes).alone().want(Want::Ended).half_close().framing()
    };
    vec![
        cut("a head that is cut", "RFC 9112, 8", b"GET /case HTTP/1.1\r\nHost: site.test\r\n".to_vec()),
        cut("a request line that is cut", "RFC 9112, 8", b"GET /ca".to_vec()),
        cut("a body shorter than its length", "RFC 9112, 8", post("Content-Length: 10\r\n", "body")),
        cut("a body that never began", "RFC 9112, 8", post("Content-Length: 10\r\n", "")),
        cut("chunks without a last one", "RFC 9112, 8", chunked("4\r\nbody\r\n")),
        cut("a chunk that is cut", "RFC 9112, 8", chunked("9\r\nbody")),
        cut("a last chunk without its empty line", "RFC 9112, 8", chunked("4\r\nbody\r\n0\r\n")),
        cut("a trailer section that is cut", "RFC 9112, 8", chunked("4\r\nbody\r\n0\r\nX-Sum: 1\r\n")),
    ]
}
