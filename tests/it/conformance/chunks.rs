//! Chunks and trailers of requests (RFC 9112, 7.1).

use super::case::{Case, chunked, forward, post, refuse, seen};

const SIZE: &str = "RFC 9112, 7.1";
const EXTENSION: &str = "RFC 9112, 7.1.1";
const TRAILER: &str = "RFC 9112, 7.1.2";

pub fn cases() -> Vec<Case> {
    let body = || seen("POST /case").body("body");
    let mut cases = vec![
        forward(
            "a size in upper case",
            SIZE,
            chunked("A\r\n0123456789\r\n0\r\n\r\n"),
            [seen("POST /case").body("0123456789")],
        ),
        forward(
            "a size in lower case",
            SIZE,
            chunked("a\r\n0123456789\r\n0\r\n\r\n"),
            [seen("POST /case").body("0123456789")],
        ),
        forward("a size with zeros before it", SIZE, chunked("0004\r\nbody\r\n0\r\n\r\n"), [body()]),
        forward("a last chunk of many zeros", SIZE, chunked("4\r\nbody\r\n000\r\n\r\n"), [body()]),
        forward("no chunk but the last", SIZE, chunked("0\r\n\r\n"), [seen("POST /case").body("")]),
        forward(
            "chunks of one byte",
            SIZE,
            chunked("1\r\nb\r\n1\r\no\r\n1\r\nd\r\n1\r\ny\r\n0\r\n\r\n"),
            [body()],
        ),
        forward(
            "data that looks like the end",
            SIZE,
            chunked("5\r\n0\r\n\r\n\r\n0\r\n\r\n"),
            [seen("POST /case").body("0\r\n\r\n")],
        ),
        forward("an extension is dropped", EXTENSION, chunked("4;a=b\r\nbody\r\n0\r\n\r\n"), [body()]),
        forward("an extension without a value", EXTENSION, chunked("4;a\r\nbody\r\n0;z\r\n\r\n"), [body()]),
        forward("an extension in quotes", EXTENSION, chunked("4;a=\"b;c\"\r\nbody\r\n0\r\n\r\n"), [body()]),
        forward("a blank before an extension", EXTENSION, chunked("4 ;a\r\nbody\r\n0\r\n\r\n"), [body()])
            .ours(),
        forward(
            "blanks before and in extensions, then another request",
            EXTENSION,
            chunked("4 \t; a = b\r\nbody\r\n0\t;z\r\n\r\nGET /next HTTP/1.1\r\nHost: site.test\r\n\r\n"),
            [body(), seen("GET /next")],
        )
        .ours(),
        forward(
            "chunks, a trailer, then another request",
            TRAILER,
            chunked("4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\nGET /next HTTP/1.1\r\nHost: site.test\r\n\r\n"),
            [body(), seen("GET /next")],
        ),
        forward(
            "a trailer that is announced passes",
            TRAILER,
            post(
                "TE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n",
                "4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n",
            ),
            [body().trailers(&["x-sum: 1"])],
        )
        .should()
        .ours(),
        refuse("a size of blanks", SIZE, chunked(" \r\nbody\r\n0\r\n\r\n")),
        refuse("an empty size", SIZE, chunked("\r\nbody\r\n0\r\n\r\n")),
        refuse("only an extension", SIZE, chunked(";a\r\nbody\r\n0\r\n\r\n")),
        refuse("a size that ends with LF only", SIZE, chunked("4\nbody\r\n0\r\n\r\n")),
        refuse("a last chunk that ends with LF only", SIZE, chunked("4\r\nbody\r\n0\n\r\n")),
        refuse("data that ends with LF only", SIZE, chunked("4\r\nbody\n0\r\n\r\n")),
        refuse("data that ends with CR only", SIZE, chunked("4\r\nbody\r0\r\n\r\n")),
        refuse("data that ends with nothing", SIZE, chunked("4\r\nbody0\r\n\r\n")),
        refuse("data longer than its size", SIZE, chunked("4\r\nbodyX\r\n0\r\n\r\n")),
        refuse(
            "data longer by two, as a reader that skips would miss",
            SIZE,
            chunked("4\r\nbodyXX\r\n0\r\n\r\n"),
        ),
        refuse("data shorter than its size", SIZE, chunked("5\r\nbody\r\n0\r\n\r\n")),
        refuse("a size ended by a bare CR", SIZE, chunked("4\rbody\r\n0\r\n\r\n")),
        refuse("a size with CR CR LF", SIZE, chunked("4\r\r\nbody\r\n0\r\n\r\n")),
        refuse("the body's end with LF only", SIZE, chunked("4\r\nbody\r\n0\r\n\n")),
        refuse("the body's end with a bare CR", SIZE, chunked("4\r\nbody\r\n0\r\n\rX")),
        refuse("a chunk ended by CR LF CR LF", SIZE, chunked("4\r\nbody\r\n\r\n0\r\n\r\n")),
        refuse("an extension that holds a bare LF (TERM.EXT)", EXTENSION, chunked("4;a\nbody\r\n0\r\n\r\n")),
        refuse(
            "an extension that ends with LF only, and a size behind it",
            EXTENSION,
            chunked("2;\nxx\r\n4c\r\n0\r\n\r\n"),
        ),
        refuse("an extension that holds a bare CR", EXTENSION, chunked("4;a\rb\r\nbody\r\n0\r\n\r\n")),
        refuse("an extension with NUL", EXTENSION, chunked(b"4;a\0b\r\nbody\r\n0\r\n\r\n")),
        refuse("an extension with a control byte", EXTENSION, chunked(b"4;a\x01b\r\nbody\r\n0\r\n\r\n")),
        refuse(
            "an extension longer than any",
            EXTENSION,
            chunked(format!("4;{}\r\nbody\r\n0\r\n\r\n", "a".repeat(100_000))),
        )
        .statuses(&[400, 413]),
        refuse("an extension at the last chunk with a bare LF", EXTENSION, chunked("4\r\nbody\r\n0;a\n\r\n")),
        refuse("a folded trailer", TRAILER, chunked("0\r\nX-Sum: 1\r\n 2\r\n\r\n")).should(),
        refuse("white space before a trailer", TRAILER, chunked("0\r\n X-Sum: 1\r\n\r\n")),
        refuse("a trailer that ends with LF only", TRAILER, chunked("0\r\nX-Sum: 1\n\r\n")),
        refuse("a trailer with a bare CR", TRAILER, chunked("0\r\nX-Sum: 1\rX: 2\r\n\r\n")),
        refuse("a trailer without a colon", TRAILER, chunked("0\r\nnonsense\r\n\r\n")),
        refuse("a trailer without a name", TRAILER, chunked("0\r\n: 1\r\n\r\n")),
        refuse("a trailer with a blank before its colon", TRAILER, chunked("0\r\nX-Sum : 1\r\n\r\n")),
        refuse("a trailer with NUL", TRAILER, chunked(b"0\r\nX-Sum: \0\r\n\r\n")),
        refuse("a request as a trailer", TRAILER, chunked("0\r\nGET /smuggled HTTP/1.1\r\n\r\n")),
        refuse(
            "trailers longer than any",
            TRAILER,
            chunked(format!("0\r\nX-Sum: {}\r\n\r\n", "1".repeat(100_000))),
        )
        .statuses(&[400, 431]),
        refuse("trailers without end", TRAILER, chunked(format!("0\r\n{}", "X-Sum: 1\r\n".repeat(20_000))))
            .statuses(&[400, 431])
            .alone(),
    ];
    for size in [
        "+4",
        "-4",
        "0x4",
        "0X4",
        "4h",
        "4.0",
        "4,4",
        "g",
        "4 ",
        " 4",
        "\t4",
        "4\t",
        "4 4",
        "4 4;a",
        " 4;a",
        " ;a",
        "4 \u{b};a",
        "_4",
        "4_",
        "\"4\"",
        "4:",
        "4\u{b}",
        "0 4",
        "\u{664}",
        "10000000000000004",
        "ffffffffffffffff",
        "fffffffffffffffff",
        "80000000000000000000000000000004",
        "100000000000000000000000000000004",
        "-1",
        "4\0",
    ] {
        let case =
            refuse(format!("the size {size:?}"), SIZE, chunked(format!("{size}\r\nbody\r\n0\r\n\r\n")));
        // RFC 9112, 7.1.1 lets blanks stand before an extension only.
        let blanks = ["4 ", "4\t"].contains(&size);
        cases.push(if blanks { case.should() } else { case.statuses(&[400, 413]) });
    }
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Cookie",
        "Authorization",
        "Sec-GPC",
        "X-Forwarded-For",
        "Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Optgate-Decision",
        "Content-Type",
        "Set-Cookie",
        "Sec_GPC",
        "Max-Forwards",
        "Cache-Control",
    ] {
        let fields = format!("TE: trailers\r\nTrailer: {name}\r\nTransfer-Encoding: chunked\r\n");
        let rest = format!("4\r\nbody\r\n0\r\n{name}: 1\r\n\r\n");
        let seen = body().trailers(&[]).has("optgate-decision", "none");
        cases.push(
            forward(
                format!("the trailer {name} never counts and does not pass"),
                "RFC 9110, 6.5.1",
                post(&fields, rest),
                [seen],
            )
            .ours(),
        );
    }
    cases.into_iter().map(Case::framing).collect()
}
