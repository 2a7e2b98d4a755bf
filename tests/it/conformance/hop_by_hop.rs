//! Fields that end here, and fields that a client cannot end (RFC 9110, 7.6.1).

use super::case::{Case, forward, get, post, seen};

const HOP: &str = "RFC 9110, 7.6.1";

pub fn cases() -> Vec<Case> {
    let case = |name: &str, fields: &str, seen| forward(name, HOP, get(fields), [seen]);
    let mut cases = vec![
        case(
            "a field named in Connection ends here",
            "Connection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n",
            seen("GET /case").lacks("x-hop").has("x-end", "2"),
        ),
        case(
            "in any letter case",
            "Connection: keep-alive, x-HOP\r\nX-Hop: 1\r\n",
            seen("GET /case").lacks("x-hop"),
        ),
        case(
            "over two Connection lines",
            "Connection: X-One\r\nConnection: X-Two\r\nX-One: 1\r\nX-Two: 1\r\n",
            seen("GET /case").lacks("x-one").lacks("x-two"),
        ),
        case(
            "with empty elements",
            "Connection: ,, X-Hop ,\r\nX-Hop: 1\r\n",
            seen("GET /case").lacks("x-hop"),
        ),
        case(
            "named before it comes",
            "X-Hop: 1\r\nConnection: X-Hop\r\nX-Hop: 2\r\n",
            seen("GET /case").lacks("x-hop"),
        ),
        case(
            "Keep-Alive ends here",
            "Keep-Alive: timeout=5\r\nConnection: keep-alive\r\n",
            seen("GET /case").lacks("keep-alive"),
        ),
        case(
            "Keep-Alive ends here, named or not",
            "Keep-Alive: timeout=5\r\n",
            seen("GET /case").lacks("keep-alive"),
        ),
        case(
            "Proxy-Connection ends here",
            "Proxy-Connection: keep-alive\r\n",
            seen("GET /case").lacks("proxy-connection"),
        ),
        case(
            "TE: trailers passes",
            "TE: trailers\r\nConnection: TE\r\n",
            seen("GET /case").has("te", "trailers").has("connection", "te"),
        )
        .ours(),
        case("any other TE ends here", "TE: gzip;q=0.5\r\nConnection: TE\r\n", seen("GET /case").lacks("te")),
        case(
            "only trailers stays of a TE",
            "TE: gzip, trailers, deflate\r\nConnection: TE\r\n",
            seen("GET /case").has("te", "trailers"),
        )
        .ours(),
        case(
            "an Upgrade that is not named ends here",
            "Upgrade: websocket\r\n",
            seen("GET /case").lacks("upgrade"),
        ),
        case(
            "h2c is not upgraded to",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            seen("GET /case").lacks("upgrade").lacks("http2-settings"),
        )
        .should(),
        case(
            "an unknown protocol is not upgraded to",
            "Connection: Upgrade\r\nUpgrade: foo/2\r\n",
            seen("GET /case").lacks("upgrade"),
        )
        .ours(),
        case(
            "a list of protocols is not upgraded to",
            "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
            seen("GET /case").lacks("upgrade"),
        )
        .ours(),
        case(
            "Connection: close is for this connection",
            "Connection: close\r\n",
            seen("GET /case").lacks("connection"),
        )
        .ours(),
    ];
    for (name, value) in
        [("Cookie", "session=1"), ("Authorization", "Basic eDp5"), ("Content-Type", "text/plain")]
    {
        let seen = seen("GET /case").has(name, value);
        cases.push(
            case(
                &format!("{name} cannot be named away"),
                &format!("Connection: {name}\r\n{name}: {value}\r\n"),
                seen,
            )
            .ours(),
        );
    }
    let named = |name: &str| format!("Connection: close, {name}\r\n");
    cases.push(case("Host cannot be named away", &named("Host"), seen("GET /case").has("host", "site.test")));
    cases.push(
        case(
            "X-Forwarded-For cannot be named away",
            &named("X-Forwarded-For"),
            seen("GET /case").has("x-forwarded-for", "127.0.0.1"),
        )
        .ours(),
    );
    cases.push(
        case(
            "X-Forwarded-Proto cannot be named away",
            &named("X-Forwarded-Proto"),
            seen("GET /case").has("x-forwarded-proto", "SCHEME"),
        )
        .ours(),
    );
    cases.push(
        case(
            "X-Real-IP cannot be named away",
            &named("X-Real-IP"),
            seen("GET /case").has("x-real-ip", "127.0.0.1"),
        )
        .ours(),
    );
    cases.push(
        case("Via cannot be named away", &named("Via"), seen("GET /case").has("via", "1.1 optgate")).ours(),
    );
    cases.push(
        case(
            "our decision cannot be named away",
            &named("Optgate-Decision"),
            seen("GET /case").has("optgate-decision", "none"),
        )
        .ours(),
    );
    // The signal is read before fields end here.
    let signal = seen("GET /case").has("sec-gpc", "1").has("optgate-decision", "opted-out;basis=gpc");
    cases.push(
        case("the signal cannot be named away", "Connection: Sec-GPC\r\nSec-GPC: 1\r\n", signal).ours(),
    );
    let named = post("Connection: Content-Length\r\nContent-Length: 4\r\n", "body");
    cases.push(forward("Content-Length cannot be named away", HOP, named, [seen("POST /case").body("body")]));
    let named =
        post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n");
    cases.push(forward(
        "Transfer-Encoding cannot be named away",
        HOP,
        named,
        [seen("POST /case").body("body")],
    ));
    cases
}
