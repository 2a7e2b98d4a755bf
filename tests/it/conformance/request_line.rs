//! The request line: method, target, version (RFC 9112, 2 and 3).

use super::case::{Case, Want, forward, get, refuse, seen};

const LINE: &str = "RFC 9112, 3";
const TARGET: &str = "RFC 9112, 3.2";

fn line(text: impl AsRef<[u8]>) -> Vec<u8> {
    [text.as_ref(), b"\r\nHost: site.test\r\n\r\n"].concat()
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        forward("a plain request passes", LINE, get(""), [seen("GET /case").has("host", "site.test")]),
        forward(
            "a query passes byte by byte",
            TARGET,
            line("GET /case?a=%20&b=[1]&&=z;/?@: HTTP/1.1"),
            [seen("GET /case?a=%20&b=[1]&&=z;/?@:")],
        ),
        forward(
            "dots and double slashes in a path are not resolved",
            TARGET,
            line("GET /case//b/%2e%2E/../c HTTP/1.1"),
            [seen("GET /case//b/%2e%2E/../c")],
        ),
        forward(
            "a path that begins with two slashes is a path",
            TARGET,
            line("GET //case HTTP/1.1"),
            [seen("GET //case")],
        ),
        forward("an empty query keeps its mark", TARGET, line("GET /case? HTTP/1.1"), [seen("GET /case?")]),
        forward(
            "an unknown method passes",
            "RFC 9110, 9.1",
            line("BREW /case HTTP/1.1"),
            [seen("BREW /case")],
        ),
        forward(
            "a method with every token mark passes",
            "RFC 9110, 5.6.2",
            line("A!#$%&'*+-.^_`|~9 /case HTTP/1.1"),
            [seen("A!#$%&'*+-.^_`|~9 /case")],
        ),
        forward(
            "one empty line before a request is passed over",
            "RFC 9112, 2.2",
            format!("\r\n{}", get("")),
            [seen("GET /case")],
        )
        .should(),
        forward(
            "a request in HTTP/1.0 goes on as HTTP/1.1",
            "RFC 9110, 2.5",
            line("GET /case HTTP/1.0"),
            [seen("GET /case")],
        )
        .ours(),
        forward(
            "an asterisk is for OPTIONS",
            "RFC 9112, 3.2.4",
            line("OPTIONS * HTTP/1.1"),
            [seen("OPTIONS *")],
        )
        .should()
        .ours(),
        refuse(
            "ten empty lines are no request",
            "RFC 9112, 2.2",
            format!("{}{}", "\r\n".repeat(10), get("")),
        )
        .should()
        .ours(),
        refuse("an empty line of one LF is no line", "RFC 9112, 2.2", format!("\n{}", get("")))
            .should()
            .ours(),
        refuse("a blank before the method", LINE, line(" GET /case HTTP/1.1")),
        refuse("two blanks behind the method", LINE, line("GET  /case HTTP/1.1")),
        refuse("a tabulator behind the method", LINE, line("GET\t/case HTTP/1.1")),
        refuse("two blanks before the version", LINE, line("GET /case  HTTP/1.1")),
        refuse("a tabulator before the version", LINE, line("GET /case\tHTTP/1.1")),
        refuse("a blank behind the version", LINE, line("GET /case HTTP/1.1 ")),
        refuse("a word behind the version", LINE, line("GET /case HTTP/1.1 more")),
        refuse("a blank in the target", TARGET, line("GET /case a HTTP/1.1")),
        refuse("a request hidden in the target", TARGET, line("GET /case HTTP/1.1 HTTP/1.1")),
        refuse("no target", LINE, line("GET HTTP/1.1")),
        refuse("no target but two blanks", LINE, line("GET  HTTP/1.1")),
        refuse("no version: HTTP/0.9", "RFC 9112, 3", line("GET /case")),
        refuse("HTTP/0.9 alone", "RFC 9112, 3", "GET /case\r\n"),
        refuse("only a method", LINE, line("GET")),
        refuse("no method", LINE, line("/case HTTP/1.1")),
        refuse("an empty request line of blanks", LINE, line("   ")),
        refuse("a fragment in the target", TARGET, line("GET /case#top HTTP/1.1")),
        refuse("a relative target", TARGET, line("GET case HTTP/1.1")),
        refuse("a target of a query only", TARGET, line("GET ?case HTTP/1.1")),
        refuse("an asterisk is for no GET", "RFC 9112, 3.2.4", line("GET * HTTP/1.1")),
        refuse("an asterisk is for no POST", "RFC 9112, 3.2.4", line("POST * HTTP/1.1")),
        forward(
            "an address without a path is an asterisk for OPTIONS",
            "RFC 9112, 3.2.4",
            line("OPTIONS http://site.test HTTP/1.1"),
            [seen("OPTIONS *").has("host", "site.test")],
        )
        .ours(),
        forward(
            "an address with a root is the root",
            "RFC 9112, 3.2.4",
            line("OPTIONS http://site.test/ HTTP/1.1"),
            [seen("OPTIONS /").has("host", "site.test")],
        )
        .ours(),
        refuse(
            "an address without a path that is not the host's",
            "RFC 9112, 3.2.2",
            line("OPTIONS http://other.test HTTP/1.1"),
        )
        .ours(),
        refuse("an asterisk with a path", "RFC 9112, 3.2.4", line("OPTIONS */case HTTP/1.1")),
        refuse("authority form with GET", "RFC 9112, 3.2.3", line("GET site.test:80 HTTP/1.1")),
        refuse("CONNECT is for forward proxies", "RFC 9110, 9.3.6", line("CONNECT site.test:443 HTTP/1.1"))
            .statuses(&[400, 405, 501]),
        refuse("CONNECT with a path", "RFC 9110, 9.3.6", line("CONNECT /case HTTP/1.1"))
            .statuses(&[400, 405, 501]),
        refuse("TRACE would show credentials", "RFC 9110, 9.3.8", line("TRACE /case HTTP/1.1"))
            .statuses(&[405, 501])
            .should()
            .ours(),
        refuse(
            "a method longer than any",
            "RFC 9112, 3",
            line(format!("{} /case HTTP/1.1", "GET".repeat(11))),
        )
        .statuses(&[400, 405, 501])
        .should(),
        refuse("angle brackets in the target", "RFC 3986, 3.3", line("GET /case<script> HTTP/1.1")),
        refuse("a quotation mark in the query", "RFC 3986, 3.4", line("GET /case?a=\"b\" HTTP/1.1")),
        refuse("a method with a colon", "RFC 9110, 9.1", line("GET: /case HTTP/1.1")),
        refuse("a method with a slash", "RFC 9110, 9.1", line("GE/T /case HTTP/1.1")),
        refuse("a method in quotes", "RFC 9110, 9.1", line("\"GET\" /case HTTP/1.1")),
        refuse(
            "a method of 33 letters is no method known",
            "RFC 9110, 9.1",
            line(format!("{} /case HTTP/1.1", "A".repeat(33))),
        )
        .statuses(&[400, 501])
        .should()
        .ours(),
        refuse(
            "TLS on a port of clear text",
            LINE,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03".as_slice(),
        )
        .alone(),
        refuse("SSH on a port of HTTP", LINE, "SSH-2.0-OpenSSH_9.2\r\n"),
        refuse(
            "a PROXY line that nobody expects",
            LINE,
            format!("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n{}", get("")),
        ),
        refuse(
            "the HTTP/2 preface with a request behind its first line",
            "RFC 9113, 3.4",
            "PRI * HTTP/2.0\r\nHost: site.test\r\n\r\n",
        )
        .statuses(&[400, 505]),
        refuse("a target longer than any", LINE, line(format!("GET /case{} HTTP/1.1", "a".repeat(200_000))))
            .statuses(&[414]),
        refuse("a target longer than any, never ended", LINE, format!("GET /case{}", "a".repeat(200_000)))
            .statuses(&[414])
            .alone(),
    ];
    for version in [
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/11",
        "HTTP 1.1",
        "http/1.1",
        "Http/1.1",
        "HTTPS/1.1",
        "XTTP/1.1",
        "HTTP/1,1",
        "HTTP/1.1x",
        "HTTP/1.9x",
        "HTTP/-1.1",
        "HTTP/+1.1",
        "HTTP/1.a",
        "HTTP/a.1",
        "1.1",
        "HTTP//1.1",
        "HTTP/1.1/",
        "HTTP/1 .1",
        "HTTP/1. 1",
    ] {
        cases.push(
            refuse(format!("the version {version}"), "RFC 9112, 2.3", line(format!("GET /case {version}")))
                .statuses(&[400, 505]),
        );
    }
    for version in ["HTTP/0.9", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9", "HTTP/1.2", "HTTP/1.9"] {
        let case = refuse(
            format!("{version} is not spoken in this form"),
            "RFC 9110, 15.6.6",
            line(format!("GET /case {version}")),
        );
        cases.push(case.statuses(&[400, 505]).should().ours());
    }
    for byte in (0..=0x20).chain([0x7f, 0x80, 0xa0, 0xc3, 0xff]) {
        if byte == b'\n' {
            continue;
        }
        let target = [b"GET /ca".as_slice(), &[byte], b"se HTTP/1.1"].concat();
        // Others are asked about a few of them, so that one leniency does not count thirty times.
        let general = [0, 1, b'\t', b' ', 0x7f, 0xff].contains(&byte);
        cases.push(Case {
            general,
            ..refuse(format!("the byte {byte:#04x} in a target"), TARGET, line(target))
        });
        if !matches!(byte, b' ' | b'\r') {
            let method = [b"GE".as_slice(), &[byte], b"T /case HTTP/1.1"].concat();
            cases.push(Case {
                general,
                ..refuse(format!("the byte {byte:#04x} in a method"), "RFC 9110, 9.1", line(method))
            });
        }
    }
    cases.push(refuse("a line feed in a target", TARGET, line("GET /ca\nse HTTP/1.1")));
    cases.push(refuse("a bare CR behind the version", "RFC 9112, 2.2", line("GET /case HTTP/1.1\rX: y")));
    cases.push(
        refuse("a bare CR before a request", "RFC 9112, 2.2", format!("\r{}", get(""))).should().ours(),
    );
    let tail = "Host: site.test\r\nMax-Forwards: 0\r\n\r\n";
    cases.push(
        forward(
            "OPTIONS ends where Max-Forwards says",
            "RFC 9110, 7.6.2",
            format!("OPTIONS /case HTTP/1.1\r\n{tail}"),
            [],
        )
        .want(Want::Answered(200))
        .ours(),
    );
    cases.push(
        forward(
            "Max-Forwards is one less at the next hop",
            "RFC 9110, 7.6.2",
            "OPTIONS /case HTTP/1.1\r\nHost: site.test\r\nMax-Forwards: 7\r\n\r\n",
            [seen("OPTIONS /case").has("max-forwards", "6")],
        )
        .ours(),
    );
    for (value, left) in
        [("99999999999", "4294967294"), ("+0", "+0"), ("-1", "-1"), ("7 ", "6"), ("1, 2", "1, 2")]
    {
        cases.push(
            forward(
                format!("Max-Forwards of {value:?}"),
                "RFC 9110, 7.6.2",
                format!("OPTIONS /case HTTP/1.1\r\nHost: site.test\r\nMax-Forwards: {value}\r\n\r\n"),
                [seen("OPTIONS /case").has("max-forwards", left)],
            )
            .ours(),
        );
    }
    cases.push(forward(
        "Max-Forwards says nothing of a GET",
        "RFC 9110, 7.6.2",
        get("Max-Forwards: 0\r\n"),
        [seen("GET /case").has("max-forwards", "0")],
    ));
    cases
}
