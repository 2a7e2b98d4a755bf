//! Field lines (RFC 9112, 5; RFC 9110, 5).

use super::case::{Case, forward, get, refuse, seen};

const LINE: &str = "RFC 9112, 5";
const END: &str = "RFC 9112, 2.2";

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        forward(
            "values pass byte by byte",
            "RFC 9110, 5.5",
            get("X-A: a,  b;\"c\" \\ (d)\t!\r\n"),
            [seen("GET /case").has("x-a", "a,  b;\"c\" \\ (d)\t!")],
        ),
        forward("a field without a blank", LINE, get("X-A:b\r\n"), [seen("GET /case").has("x-a", "b")]),
        forward("an empty value", "RFC 9110, 5.5", get("X-A:\r\n"), [seen("GET /case").has("x-a", "")]),
        forward(
            "a value of blanks is empty",
            "RFC 9112, 5.1",
            get("X-A: \t \r\n"),
            [seen("GET /case").has("x-a", "")],
        ),
        forward(
            "blanks around a value are no part of it",
            "RFC 9112, 5.1",
            get("X-A: \t b \t\r\n"),
            [seen("GET /case").has("x-a", "b")],
        ),
        forward(
            "a name of every token mark",
            "RFC 9110, 5.6.2",
            get("!#$%&'*+-.^`|~9a: b\r\n"),
            [seen("GET /case").has("!#$%&'*+-.^`|~9a", "b")],
        ),
        forward("a colon in a value", LINE, get("X-A: b: c\r\n"), [seen("GET /case").has("x-a", "b: c")]),
        forward(
            "what looks like a request in a value",
            LINE,
            get("X-A: GET / HTTP/1.1\r\n"),
            [seen("GET /case")],
        ),
        refuse(
            "white space before the first field",
            "RFC 9112, 2.2",
            "GET /case HTTP/1.1\r\n Host: site.test\r\n\r\n",
        ),
        refuse(
            "white space before the first field, then another",
            "RFC 9112, 2.2",
            "GET /case HTTP/1.1\r\n X: y\r\nHost: site.test\r\n\r\n",
        ),
        refuse(
            "a tabulator before the first field",
            "RFC 9112, 2.2",
            "GET /case HTTP/1.1\r\n\tX: y\r\nHost: site.test\r\n\r\n",
        ),
        refuse("a folded field", "RFC 9112, 5.2", get("X-A: b\r\n c\r\n")),
        refuse("a field folded with a tabulator", "RFC 9112, 5.2", get("X-A: b\r\n\tc\r\n")),
        refuse("a field folded into an empty line", "RFC 9112, 5.2", get("X-A: b\r\n \r\n")),
        refuse("a folded Host", "RFC 9112, 5.2", "GET /case HTTP/1.1\r\nHost:\r\n site.test\r\n\r\n"),
        refuse("a folded Transfer-Encoding", "RFC 9112, 5.2", get("Transfer-Encoding:\r\n chunked\r\n")),
        refuse("a blank before the colon", "RFC 9112, 5.1", get("X-A : b\r\n")),
        refuse("a tabulator before the colon", "RFC 9112, 5.1", get("X-A\t: b\r\n")),
        refuse("a blank before the colon of a length", "RFC 9112, 5.1", get("Content-Length : 0\r\n")),
        refuse(
            "a blank before the colon of a coding",
            "RFC 9112, 5.1",
            get("Transfer-Encoding : chunked\r\n"),
        ),
        refuse("a blank in a name", "RFC 9110, 5.1", get("X A: b\r\n")),
        refuse("no colon", LINE, get("nonsense\r\n")),
        refuse("no name", LINE, get(": b\r\n")),
        refuse("only a colon", LINE, get(":\r\n")),
        refuse("a pseudo-field", "RFC 9110, 5.1", get(":path: /other\r\n")),
        refuse("a field name in quotes", "RFC 9110, 5.1", get("\"X-A\": b\r\n")),
        refuse("lines that end with LF only", END, "GET /case HTTP/1.1\nHost: site.test\n\n").should(),
        refuse("a request line that ends with LF only", END, "GET /case HTTP/1.1\nHost: site.test\r\n\r\n")
            .should(),
        refuse("one field that ends with LF only", END, get("X-A: b\nX-B: c\r\n")).should(),
        refuse("a head that ends with LF only", END, "GET /case HTTP/1.1\r\nHost: site.test\r\n\n").should(),
        refuse("a head that ends with LF CR LF", END, "GET /case HTTP/1.1\r\nHost: site.test\n\r\n").should(),
        refuse("a bare CR in a value", END, get("X-A: b\rc\r\n")),
        refuse("a bare CR that begins another field", END, get("X-A: b\rX-B: c\r\n")),
        refuse("a bare CR in a name", END, get("X-\rA: b\r\n")),
        refuse("a bare CR before a name", END, get("\rX-A: b\r\n")),
        refuse("two CRs before an LF", END, get("X-A: b\r\r\n")),
        refuse("lines that end with CR only", END, "GET /case HTTP/1.1\rHost: site.test\r\r"),
        refuse("CR CR LF as the end of a head", END, "GET /case HTTP/1.1\r\nHost: site.test\r\n\r\r\n"),
        refuse("LF CR as a line end", END, "GET /case HTTP/1.1\n\rHost: site.test\n\r\n\r"),
        refuse(
            "a field longer than a head may be",
            "RFC 6585, 5",
            get(&format!("X-A: {}\r\n", "b".repeat(200_000))),
        )
        .statuses(&[431, 400]),
        refuse(
            "a name longer than a head may be",
            "RFC 6585, 5",
            get(&format!("X-{}: b\r\n", "a".repeat(200_000))),
        )
        .statuses(&[431, 400]),
        refuse("more fields than a head may have", "RFC 6585, 5", get(&"X-A: b\r\n".repeat(5_000)))
            .statuses(&[431, 400]),
        refuse(
            "many small fields, all together too large",
            "RFC 6585, 5",
            get(&format!("X-A: {}\r\n", "b".repeat(1_000)).repeat(90)),
        )
        .statuses(&[431, 400])
        .ours(),
        refuse(
            "a head that never ends",
            "RFC 6585, 5",
            format!("GET /case HTTP/1.1\r\nHost: site.test\r\n{}", "X-A: b\r\n".repeat(20_000)),
        )
        .statuses(&[431, 400])
        .alone(),
    ];
    // A body behind the refusal of a HEAD would be the next answer's.
    let head = |rest: &str| format!("HEAD /case HTTP/1.1\r\nHost: site.test\r\n{rest}\r\n");
    for (what, statuses, bytes) in [
        ("a bad field", &[400][..], head("X A: b\r\n")),
        ("a bad length", &[400], head("Content-Length: x\r\n")),
        ("too many fields", &[431], head(&"X-A: b\r\n".repeat(120))),
        ("a target that is too long", &[414], format!("HEAD /{} HTTP/1.1\r\n", "a".repeat(100_000))),
        ("a version that is not spoken", &[505], "HEAD /case HTTP/1.2\r\nHost: site.test\r\n\r\n".into()),
        ("no host", &[400], "HEAD /case HTTP/1.1\r\n\r\n".into()),
    ] {
        cases.push(refuse(format!("a HEAD with {what}"), "RFC 9110, 9.3.2", bytes).statuses(statuses).ours());
    }
    let named = |byte: u8| {
        let name =
            [b"GET /case HTTP/1.1\r\nHost: site.test\r\nX-".as_slice(), &[byte], b"A: b\r\n\r\n"].concat();
        refuse(format!("the byte {byte:#04x} in a name"), "RFC 9110, 5.1", name)
    };
    for byte in (0..0x20).chain([0x7f]) {
        if matches!(byte, b'\t' | b'\n' | b'\r') {
            continue;
        }
        let value =
            [b"GET /case HTTP/1.1\r\nHost: site.test\r\nX-A: b".as_slice(), &[byte], b"c\r\n\r\n"].concat();
        // Others are asked about a few of them, so that one leniency does not count thirty times.
        let general = [0, 1, 0xb, 0x1f, 0x7f].contains(&byte);
        let case = refuse(format!("the byte {byte:#04x} in a value"), "RFC 9110, 5.5", value);
        cases.push(Case { general, ..case });
        cases.push(Case { general, ..named(byte) });
    }
    cases.extend([0x80, 0xc3, 0xff].map(named));
    for mark in ["(", ")", "/", ";", "<", "=", ">", "?", "@", "[", "\\", "]", "{", "}", ","] {
        let general = ["(", "/", "@", "{"].contains(&mark);
        let line = get(&format!("X{mark}A: b\r\n"));
        cases.push(Case { general, ..refuse(format!("the mark {mark} in a name"), "RFC 9110, 5.1", line) });
    }
    cases
}
