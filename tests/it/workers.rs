//! Same-origin workers and service workers of an opted-out visitor get our statements before their own.

use optgate::enforce::html::negotiate::Coding;

use crate::support::coding::{decoded, encoded};
use crate::support::guard::guard;
use crate::support::origin::{Origin, answer};
use crate::support::proxy::proxy;

const GPC: &str = "Sec-GPC: 1\r\n";
const SCRIPT: &str = "/* shop */'use strict';\nself.onmessage = e => postMessage(e.data);";

fn prefixed() -> String {
    SCRIPT.replace("'use strict'", &format!("'use strict';{}", guard().worker("")))
}

#[test]
fn our_statements_come_first_in_every_kind_of_worker_and_nowhere_else() {
    let script = answer("Content-Type: text/javascript\r\nETag: \"1\"\r\n", SCRIPT);
    let origin = Origin::start().answers("/w.js", script);
    let proxy = proxy().to(&origin).run();
    let get = |fields: &str| proxy.get("/w.js", fields);
    for fields in [
        "Sec-Fetch-Dest: worker\r\n",
        "Sec-Fetch-Dest: sharedworker\r\n",
        "Sec-Fetch-Dest: serviceworker\r\nService-Worker: script\r\n",
        "Service-Worker: script\r\n",
    ] {
        let got = get(&format!("{fields}{GPC}"));
        assert_eq!(got.text(), prefixed(), "{fields}");
        assert_ne!(got.head.one("etag"), Some("\"1\""), "{fields}");
        assert!(got.head.one("set-cookie").is_none(), "{fields}");
        assert_eq!(get(fields).text(), SCRIPT, "{fields}");
    }
    for dest in ["script", "audioworklet", "empty"] {
        assert_eq!(get(&format!("Sec-Fetch-Dest: {dest}\r\n{GPC}")).text(), SCRIPT, "{dest}");
    }
}

/// RFC 9110, 8.4: the answer keeps a coding the client takes, and its length is right.
#[test]
fn a_coded_script_is_decoded_prefixed_and_coded_again() {
    for (coding, name) in [(Coding::Gzip, "gzip"), (Coding::Brotli, "br"), (Coding::Zstd, "zstd")] {
        let head = format!("Content-Type: application/javascript\r\nContent-Encoding: {name}\r\n");
        let origin = Origin::start().answers("/w.js", answer(&head, encoded(coding, SCRIPT.as_bytes())));
        let proxy = proxy().to(&origin).run();
        let asked = format!("Sec-Fetch-Dest: worker\r\nAccept-Encoding: {name}\r\n{GPC}");
        let got = proxy.get("/w.js", &asked);
        assert_eq!(got.head.one("content-encoding"), Some(name));
        assert_eq!(decoded(coding, &got.body).unwrap(), prefixed().into_bytes(), "{name}");
    }
}

/// A coding nobody can take off is asked for again without, then refused.
#[test]
fn a_script_that_cannot_be_read_is_not_given_to_an_opted_out_visitor() {
    let script = answer("Content-Type: text/javascript\r\nContent-Encoding: compress\r\n", b"x");
    let origin = Origin::start().answers("/w.js", script);
    let proxy = proxy().to(&origin).run();
    assert_eq!(proxy.get("/w.js", &format!("Sec-Fetch-Dest: worker\r\n{GPC}")).status(), 502);
    assert_eq!(origin.heads(), 2);
    assert_eq!(proxy.get("/w.js", "Sec-Fetch-Dest: worker\r\n").body, b"x");
}

/// A prefix is one line of whole ASCII statements without a directive or an import, so that it is legal in
/// classic and module workers and changes no line number.
#[test]
fn the_prefix_is_one_line_that_any_script_can_bear() {
    let guard = guard();
    let prefix = guard.worker("");
    assert!(prefix.is_ascii() && !prefix.contains(['\n', '\r']));
    assert!(prefix.ends_with(['}', ';']), "whole statements");
    assert!(
        !prefix.contains("use strict;\"")
            && !prefix.starts_with(['"', '\''])
            && !prefix.starts_with("import")
    );
    assert!(prefix.contains("globalPrivacyControl"));
}

/// Chromium reads a classic worker's script by its mark and its head, which the standard does not: it goes out in UTF-8
/// with a mark, whatever its head goes on to say.
#[test]
fn a_script_in_utf_16_goes_out_in_utf_8() {
    for (head, marked) in [("text/javascript", true), ("text/javascript; charset=utf-16le", false)] {
        let mark = if marked { "\u{feff}" } else { "" };
        let wide: Vec<u8> = format!("{mark}{SCRIPT}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let origin = Origin::start().answers("/w.js", answer(&format!("Content-Type: {head}\r\n"), wide));
        let proxy = proxy().to(&origin).run();
        let got = proxy.get("/w.js", &format!("Sec-Fetch-Dest: worker\r\n{GPC}"));
        assert_eq!(got.text(), format!("\u{feff}{}", prefixed()), "{head}");
    }
}
