//! Host and authority (RFC 9112, 3.2; RFC 9110, 7.2), and who may say by whom and how a request came.

use super::case::{Case, forward, get, refuse, seen};

const HOST: &str = "RFC 9112, 3.2";
const FORM: &str = "RFC 9112, 3.2.2";

fn with(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\n{fields}\r\n")
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        refuse("no Host", HOST, "GET /case HTTP/1.1\r\n\r\n"),
        refuse("no Host but other fields", HOST, "GET /case HTTP/1.1\r\nX-Host: site.test\r\n\r\n"),
        refuse("two Hosts", HOST, with("GET /case", "Host: site.test\r\nHost: other.test\r\n")),
        refuse("the same Host twice", HOST, with("GET /case", "Host: site.test\r\nHost: site.test\r\n")),
        refuse(
            "two Hosts in other letter case",
            HOST,
            with("GET /case", "Host: site.test\r\nX: y\r\nhOST: site.test\r\n"),
        ),
        refuse("a second, empty Host", HOST, with("GET /case", "Host: site.test\r\nHost:\r\n")),
        refuse("no Host but an absolute target", HOST, with("GET http://site.test/case", "")),
        refuse(
            "the target's host and Host differ",
            FORM,
            with("GET http://other.test/case", "Host: site.test\r\n"),
        )
        .should(),
        refuse(
            "the target's port and Host's differ",
            FORM,
            with("GET http://site.test:81/case", "Host: site.test\r\n"),
        )
        .should(),
        refuse(
            "a target with userinfo",
            "RFC 9110, 4.2.4",
            with("GET http://me@site.test/case", "Host: site.test\r\n"),
        ),
        refuse(
            "a target and a Host with userinfo",
            "RFC 9110, 4.2.4",
            with("GET http://me@site.test/case", "Host: me@site.test\r\n"),
        ),
        refuse(
            "an absolute target of another scheme",
            FORM,
            with("GET ftp://site.test/case", "Host: site.test\r\n"),
        )
        .should(),
        refuse("a file as the target", FORM, with("GET file:///case", "Host: site.test\r\n")),
        refuse(
            "an absolute target without a host",
            "RFC 9110, 4.2.1",
            with("GET http:///case", "Host: site.test\r\n"),
        ),
        refuse(
            "an absolute target with a fragment",
            "RFC 9112, 3.2",
            with("GET http://site.test/case#a", "Host: site.test\r\n"),
        ),
        refuse(
            "an absolute target with a backslash",
            "RFC 9110, 4.2.1",
            with("GET http://site.test\\case", "Host: site.test\r\n"),
        ),
        forward(
            "an absolute target goes on in origin form",
            FORM,
            with("GET http://site.test/case?a", "Host: site.test\r\n"),
            [seen("GET /case?a").has("host", "site.test")],
        ),
        forward(
            "an absolute target in other letter case",
            FORM,
            with("GET HTTP://SITE.test/case", "Host: site.TEST\r\n"),
            [seen("GET /case")],
        )
        .ours(),
        forward(
            "an absolute target with an empty path has one of a slash",
            FORM,
            with("GET http://site.test", "Host: site.test\r\n"),
            [seen("GET /")],
        ),
        forward(
            "an absolute target with a query only",
            FORM,
            with("GET http://site.test?case", "Host: site.test\r\n"),
            [seen("GET /?case")],
        ),
        forward(
            "a target and a Host that differ by the port that says nothing",
            "RFC 9110, 4.2.3",
            with("GET http://site.test:80/case", "Host: site.test\r\n"),
            [seen("GET /case").has("host", "site.test")],
        ),
        forward(
            "the same the other way",
            "RFC 9110, 4.2.3",
            with("GET http://site.test/case", "Host: site.test:80\r\n"),
            [seen("GET /case")],
        ),
        forward(
            "a Host's port goes on",
            HOST,
            with("GET /case", "Host: site.test:8080\r\n"),
            [seen("GET /case").has("host", "site.test:8080")],
        ),
        forward(
            "an address as the Host",
            HOST,
            with("GET /case", "Host: 127.0.0.1\r\n"),
            [seen("GET /case").has("host", "127.0.0.1")],
        ),
        forward(
            "an IPv6 address as the Host",
            HOST,
            with("GET /case", "Host: [::1]:80\r\n"),
            [seen("GET /case").has("host", "[::1]:80")],
        ),
        forward(
            "blanks around a Host are no part of it",
            "RFC 9110, 5.5",
            with("GET /case", "Host: \t site.test \t\r\n"),
            [seen("GET /case").has("host", "site.test")],
        ),
    ];
    for host in [
        "",
        "site.test/case",
        "me@site.test",
        "me:pw@site.test",
        "site .test",
        "site.test, other.test",
        "site.test other.test",
        "site.test:x",
        "site.test:80:80",
        "site.test:-1",
        "site.test:99999",
        ":80",
        "[::1",
        "::1",
        "[zz]",
        "[::1]x",
        "http://site.test",
        "site.test?a",
        "site.test#a",
        "site.test\\",
        "site%2etest",
        "site..test",
        ".",
        "\"site.test\"",
        "<site>",
        "site.test;",
        "{}",
        "a|b",
        "^",
    ] {
        cases.push(
            refuse(format!("the Host {host:?}"), HOST, with("GET /case", &format!("Host: {host}\r\n")))
                .should(),
        );
    }
    for byte in [0x01, 0x1f, 0x7f, 0x80, 0xc3, 0xff] {
        let bytes = [b"GET /case HTTP/1.1\r\nHost: si".as_slice(), &[byte], b"te.test\r\n\r\n"].concat();
        cases.push(refuse(format!("the byte {byte:#04x} in a Host"), HOST, bytes));
    }
    cases.extend(claims());
    cases
}

/// A stranger says nothing about addresses, schemes, hosts and targets.
fn claims() -> Vec<Case> {
    let clause = "RFC 7239, 8";
    let case = |name: &str, fields: &str, seen| forward(name, clause, get(fields), [seen]).ours();
    let mut cases = vec![
        case(
            "a stranger's X-Forwarded-For is replaced",
            "X-Forwarded-For: 6.6.6.6\r\n",
            seen("GET /case").has("x-forwarded-for", "127.0.0.1"),
        ),
        case(
            "two of them are replaced too",
            "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\n",
            seen("GET /case").has("x-forwarded-for", "127.0.0.1"),
        ),
        case(
            "a stranger's X-Forwarded-Host is replaced",
            "X-Forwarded-Host: evil.test\r\n",
            seen("GET /case").has("x-forwarded-host", "site.test"),
        ),
        case(
            "a stranger's X-Real-IP is replaced",
            "X-Real-IP: 6.6.6.6\r\n",
            seen("GET /case").has("x-real-ip", "127.0.0.1"),
        ),
        case(
            "a stranger's Via is added to (RFC 9110, 7.6.3)",
            "Via: 1.1 a, 1.0 b\r\nVia: 2 c\r\n",
            seen("GET /case").has("via", "1.1 a, 1.0 b, 2 c, 1.1 optgate"),
        ),
        case(
            "httpoxy: Proxy never reaches an origin",
            "Proxy: http://evil.test\r\n",
            seen("GET /case").lacks("proxy"),
        ),
        case(
            "our own words are ours",
            "Optgate-Decision: opted-out;basis=gpc\r\n",
            seen("GET /case").has("optgate-decision", "none"),
        ),
        case(
            "our own words in another letter case",
            "OPTGATE-Explain: 1\r\n",
            seen("GET /case").lacks("optgate-explain"),
        ),
        case(
            "an odd Sec-GPC is no signal",
            "Sec-GPC: 1, 1\r\n",
            seen("GET /case").has("optgate-decision", "none"),
        ),
        case(
            "Sec-GPC with an underscore is no signal, for nobody",
            "Sec_GPC: 1\r\n",
            seen("GET /case").lacks("sec_gpc").has("optgate-decision", "none"),
        ),
    ];
    for name in [
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Server",
        "X-Forwarded-Ssl",
        "X-Forwarded-Scheme",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Original-Host",
        "X-Host",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-Client-IP",
        "Front-End-Https",
        "Optgate-Anything",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Proxy-Anything",
    ] {
        cases.push(case(
            &format!("a stranger's {name} ends here"),
            &format!("{name}: evil\r\n"),
            seen("GET /case").lacks(name),
        ));
    }
    for name in [
        "X_Forwarded_For",
        "X_Forwarded-For",
        "X-Forwarded_For",
        "X_Forwarded_Proto",
        "X_Forwarded_Host",
        "X_Real_IP",
        "X_Request_Id",
        "Sec_GPC",
        "Optgate_Decision",
        "Content_Length",
        "Transfer_Encoding",
        "Set_Cookie",
        "X_Original_URL",
    ] {
        cases.push(case(
            &format!("the twin {name} ends here"),
            &format!("{name}: 1\r\n"),
            seen("GET /case").lacks(name),
        ));
    }
    cases.push(case("other underscores pass", "api_key: 1\r\n", seen("GET /case").has("api_key", "1")));
    cases
}
