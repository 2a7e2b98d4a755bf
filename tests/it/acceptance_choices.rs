//! A person's choice from the click to the origin, through a running proxy.

use html5ever::tendril::TendrilSink as _;
use markup5ever_rcdom::RcDom;
use optgate::app;
use optgate::privacy::cookie;
use optgate::store::{RecordView, export};

use super::support::client::{Client, Response, get};
use super::support::dom::{Element, parse};
use super::support::origin::Origin;
use super::support::proxy::{Builder, Proxy, proxy};

/// A page with the Meta pixel, as sites embed it.
pub const PAGE: &[u8] = b"<!doctype html><html><head><title>Shop</title>\
    <script src=\"https://connect.facebook.net/en_US/fbevents.js\"></script></head>\
    <body><h1>Shop</h1><footer>Shop</footer></body></html>";

/// The pixel's address; in a page that reached the visitor it is live.
pub const PIXEL: &str = "connect.facebook.net";

const GPC: &str = "Sec-GPC: 1\r\n";
const HONORED: &str = "Opt-Out Request Honored";

/// An origin whose every path here is that page.
pub fn shop(paths: &[&str]) -> Origin {
    paths.iter().fold(Origin::start(), |origin, path| origin.on(path, |x| x.ok("text/html", PAGE)))
}

/// One `POST` without a body, unless given.
pub fn post(addr: std::net::SocketAddr, path: &str, fields: &str, body: &str) -> Response {
    let length = body.len();
    let form = "Content-Type: application/x-www-form-urlencoded";
    let head = format!("POST {path} HTTP/1.1\r\nHost: site.test\r\n{form}\r\nContent-Length: {length}\r\n");
    Client::connect(addr).send(format!("{head}{fields}\r\n{body}")).response("POST")
}

/// The value of the choice cookie that an answer sets.
pub fn choice(answer: &Response) -> Option<String> {
    let values: Vec<&str> =
        answer.head.all("set-cookie").into_iter().filter_map(|line| line.strip_prefix("optgate=")).collect();
    // An opt-in ends what the browser may have in another form.
    let values: Vec<&str> = values.into_iter().filter(|line| !line.contains("Max-Age=0")).collect();
    assert!(values.len() < 2, "{values:?}");
    values.first().map(|line| line.split(';').next().unwrap().to_owned())
}

/// Whether a page reached the visitor as for somebody who opted out.
pub fn honoured(answer: &Response) -> bool {
    let (honored, live) = (answer.text().contains(HONORED), answer.text().contains(PIXEL));
    assert_ne!(honored, live, "a page says that it is honoured exactly when its trackers are gone");
    honored
}

/// Stops the proxy's parts and reads what they wrote.
pub fn records_of(running: app::Running, data: &std::path::Path) -> Vec<RecordView> {
    running.stop().unwrap();
    let mut records = Vec::new();
    export(data, &mut |record| {
        records.push(record);
        Ok(())
    })
    .unwrap();
    records
}

fn with_accounts(origin: &Origin) -> Builder {
    proxy().to(origin).toml("trusted_proxies = [\"127.0.0.1\"]\n[account]\nheader = \"x-account-id\"\n")
}

/// An account's opt-out holds on every browser, and over a restart.
#[test]
fn an_account_opted_out_on_one_browser_is_honoured_on_another_and_after_a_restart() {
    let origin = shop(&["/"]);
    let builder = with_accounts(&origin);
    let (ann, bob) = ("X-Account-Id: ann\r\n", "X-Account-Id: bob\r\n");
    let first = app::start(builder.settings()).unwrap();
    assert!(!honoured(&get(first.listen()[0], "/", ann)));
    assert_eq!(post(first.listen()[0], "/privacy-choices/opt-out", ann, "").status(), 200);
    // Another browser: no cookie comes with it.
    assert!(honoured(&get(first.listen()[0], "/", ann)));
    first.stop().unwrap();
    let second = app::start(builder.settings()).unwrap();
    let answer = get(second.listen()[0], "/", ann);
    assert!(honoured(&answer));
    assert!(choice(&answer).unwrap().starts_with("v1.out."), "the browser learns it too");
    assert!(!honoured(&get(second.listen()[0], "/", bob)));
    let decisions: Vec<_> = origin.seen(4).iter().map(|r| r.one("optgate-decision").unwrap()).collect();
    assert_eq!(decisions, ["none", "opted-out;basis=account", "opted-out;basis=account", "none"]);
    second.stop().unwrap();
}

/// RFC 9110, 5.3: a proxy on the way may join two lines of a field. Whose such a request is nobody can tell, whichever way
/// it says so, and in doubt it is opted out.
#[test]
fn two_accounts_in_one_line_are_as_ambiguous_as_in_two() {
    let origin = shop(&["/"]);
    let proxy = with_accounts(&origin).run();
    for account in [
        "X-Account-Id: ann\r\nX-Account-Id: bob\r\n",
        "X-Account-Id: ann, bob\r\n",
        "X-Account-Id: ann,ann\r\n",
        "X-Account-Id: ,ann\r\n",
    ] {
        assert!(honoured(&proxy.get("/", account)), "{account}");
        let answer = post(proxy.addr(), "/privacy-choices/opt-out", account, "");
        assert_eq!(answer.status(), 200);
        assert!(answer.text().contains("We cannot read your account just now"), "{}", answer.text());
    }
    for account in
        ["X-Account-Id: ann\r\n", "X-Account-Id: ann\r\nX-Account-Id: ann\r\n", "X-Account-Id: a%2Cb\r\n"]
    {
        assert!(!honoured(&proxy.get("/", account)), "{account}");
    }
}

/// A rotated secret loses neither an account's opt-out nor a browser's; both are known under the new one
/// from the first request on, so that the old one can go.
#[test]
fn a_rotated_secret_loses_neither_accounts_nor_browsers() {
    let origin = shop(&["/"]);
    let builder = with_accounts(&origin);
    let folder = builder.settings().data_dir;
    let keys = |verb: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_optgate"));
        let said = command.args(["keys", verb, "--data-dir"]).arg(&folder).output().unwrap();
        said.status.code()
    };
    let running = app::start(builder.settings()).unwrap();
    let ann = "X-Account-Id: ann\r\n";
    let old = choice(&post(running.listen()[0], "/privacy-choices/opt-out", ann, "")).unwrap();
    running.stop().unwrap();
    assert_eq!(keys("rotate"), Some(0));
    assert_eq!(keys("retire"), Some(1));
    let running = app::start(builder.settings()).unwrap();
    let addr = running.listen()[0];
    assert!(honoured(&get(addr, "/", ann)), "the account, on another browser");
    assert!(!honoured(&get(addr, "/", "X-Account-Id: bob\r\n")));
    let renewed = get(addr, "/", &format!("Cookie: optgate={old}\r\n"));
    assert!(honoured(&renewed));
    let new = choice(&renewed).expect("the cookie is signed anew");
    assert_ne!(new, old);
    running.stop().unwrap();
    assert_eq!(keys("retire"), Some(0));
    let running = app::start(builder.settings()).unwrap();
    let addr = running.listen()[0];
    assert!(honoured(&get(addr, "/", ann)));
    assert_eq!(
        choice(&get(addr, "/", &format!("Cookie: optgate={new}\r\n"))),
        None,
        "signed with the live one"
    );
    let records = records_of(running, &folder);
    let choices = records.iter().filter(|record| record.kind != "upkeep");
    let basis: Vec<_> = choices.map(|r| (r.signal.as_str(), r.basis.as_str(), r.account)).collect();
    assert_eq!(basis, [("form", "account", true), ("carried", "account", true)]);
}

/// What was recorded after the backup is not in it, and the person comes back with what they
/// carry. A signal, the cookie or a visit of the account each record anew, other browsers follow, and the receipt of what is
/// lost is of nothing that is on record.
#[test]
fn after_an_old_backup_is_restored_whoever_returns_is_on_record_again() {
    let origin = shop(&["/"]);
    let builder = with_accounts(&origin);
    let folder = builder.settings().data_dir;
    let (old, account) = (builder.dir().join("old"), |name: &str| format!("X-Account-Id: {name}\r\n"));
    let running = app::start(builder.settings()).unwrap();
    let addr = running.listen()[0];
    let kept = post(addr, "/privacy-choices/opt-out", &account("early"), "");
    assert_eq!(kept.status(), 200);
    running.stop().unwrap();
    optgate::store::backup(&folder, &old, true).unwrap();
    let running = app::start(builder.settings()).unwrap();
    let addr = running.listen()[0];
    let mut references = Vec::new();
    let mut cookies = Vec::new();
    for name in ["gpc", "cookie", "nobody"] {
        let answer = post(
            addr,
            "/privacy-choices/opt-out",
            &format!("{}Accept: application/json\r\n", account(name)),
            "",
        );
        let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        references.push(said["reference"].as_str().unwrap().to_owned());
        cookies.push(choice(&answer).unwrap());
    }
    running.stop().unwrap();
    std::fs::rename(&folder, builder.dir().join("lost")).unwrap();
    optgate::store::restore(&old, &folder, false).unwrap();
    let running = app::start(builder.settings()).unwrap();
    let addr = running.listen()[0];
    for reference in &references {
        for path in [format!("receipt/{reference}"), format!("receipt?reference={reference}")] {
            assert_eq!(get(addr, &format!("/privacy-choices/{path}"), "").status(), 404, "{path}");
        }
    }
    assert!(honoured(&get(addr, "/", &account("early"))), "what is in the backup");
    for name in ["gpc", "cookie", "nobody"] {
        assert!(!honoured(&get(addr, "/", &account(name))), "{name}, on another browser");
    }
    assert!(honoured(&get(addr, "/", &format!("{}Sec-GPC: 1\r\n", account("gpc")))));
    assert!(honoured(&get(addr, "/", &format!("{}Cookie: optgate={}\r\n", account("cookie"), cookies[1]))));
    for name in ["gpc", "cookie"] {
        assert!(honoured(&get(addr, "/", &account(name))), "{name}, on another browser");
    }
    assert!(!honoured(&get(addr, "/", &account("nobody"))), "who carries nothing is to choose again");
    let again = post(addr, "/privacy-choices/opt-out", &account("nobody"), "");
    assert_eq!(again.status(), 200);
    assert!(honoured(&get(addr, "/", &account("nobody"))));
    let records = records_of(running, &folder);
    let choices = records.iter().filter(|record| record.kind == "opt-out");
    let basis: Vec<_> = choices.map(|r| (r.signal.as_str(), r.basis.as_str(), r.account)).collect();
    assert_eq!(basis.len(), 4, "{basis:?}");
    assert!(basis.contains(&("gpc", "gpc", true)) && basis.iter().all(|(.., account)| *account), "{basis:?}");
}

/// Threat: anybody could opt anybody's account out, or read its state, by sending the header.
#[test]
fn an_account_header_from_a_stranger_is_not_believed() {
    let origin = shop(&["/"]);
    let builder =
        proxy().to(&origin).toml("trusted_proxies = [\"127.0.0.9\"]\n[account]\nheader = \"x-account-id\"\n");
    let data = builder.settings().data_dir;
    let running = app::start(builder.settings()).unwrap();
    let addr = running.listen()[0];
    assert_eq!(post(addr, "/privacy-choices/opt-out", "X-Account-Id: ann\r\n", "").status(), 200);
    assert!(!honoured(&get(addr, "/", "X-Account-Id: ann\r\nX-Account_Id: ann\r\n")));
    // An origin that believes the header would take a stranger for the account's owner.
    let heads = origin.seen(1);
    assert!(heads.iter().all(|head| !format!("{head:?}").to_lowercase().contains("account")), "{heads:?}");
    let accounts: Vec<bool> = records_of(running, &data).iter().map(|r| r.account).collect();
    assert_eq!(accounts, [false]);
}

/// 11 CCR 7028: two acts, and a signal that comes later beats the opt-in.
#[test]
fn opting_back_in_takes_two_posts_and_the_signal_beats_it() {
    let origin = shop(&["/"]);
    let proxy = proxy().to(&origin).run();
    let out = choice(&post(proxy.addr(), "/privacy-choices/opt-out", "", "")).unwrap();
    let out = format!("Cookie: optgate={out}\r\n");
    assert!(honoured(&proxy.get("/", &out)));
    let asked =
        post(proxy.addr(), "/privacy-choices/opt-in", &format!("Accept: application/json\r\n{out}"), "");
    assert_eq!(choice(&asked), None, "the first act changes nothing");
    let asked: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
    let token = asked["token"].as_str().unwrap();
    let both = format!("{}; optgate-confirm={token}\r\n", out.trim_end());
    let confirmed = post(proxy.addr(), asked["confirm"].as_str().unwrap(), &both, &format!("token={token}"));
    assert_eq!(confirmed.status(), 200);
    let back = format!("Cookie: optgate={}\r\n", choice(&confirmed).unwrap());
    assert!(!honoured(&proxy.get("/", &back)));
    let signalled = proxy.get("/", &format!("Sec-GPC: 1\r\n{back}"));
    assert!(honoured(&signalled));
    let again = format!("Cookie: optgate={}\r\n", choice(&signalled).unwrap());
    assert!(honoured(&proxy.get("/", &again)), "and stays, without the signal");
}

/// An explicit choice is undone by a later signal, not by the cookie another browser kept from before.
#[test]
fn an_accounts_opt_in_is_undone_by_the_signal_and_not_by_an_older_cookie() {
    let origin = shop(&["/"]);
    let proxy = with_accounts(&origin).run();
    let ann = "X-Account-Id: ann\r\n";
    let old = choice(&post(proxy.addr(), "/privacy-choices/opt-out", ann, "")).unwrap();
    let json = format!("{ann}Accept: application/json\r\n");
    let asked = post(proxy.addr(), "/privacy-choices/opt-in", &json, "");
    let asked: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
    let token = asked["token"].as_str().unwrap();
    let fields = format!("{ann}Cookie: optgate-confirm={token}\r\n");
    let confirmed = post(proxy.addr(), "/privacy-choices/opt-in/confirm", &fields, &format!("token={token}"));
    assert_eq!(confirmed.status(), 200);
    let kept = format!("{ann}Cookie: optgate={old}\r\n");
    assert!(honoured(&proxy.get("/", &kept)), "the cookie holds on its own browser");
    assert!(!honoured(&proxy.get("/", ann)), "and on no other");
    assert!(honoured(&proxy.get("/", &format!("{ann}{GPC}"))));
    assert!(honoured(&proxy.get("/", ann)), "the signal opted the account out again");
}

/// `Secure` when the visitor's own connection is https, as a trusted proxy says.
#[test]
fn the_choice_cookie_is_secure_behind_a_proxy_that_speaks_https() {
    let proxy = with_accounts(&shop(&["/"])).run();
    for (proto, secure) in [("https", true), ("http", false)] {
        let fields = format!("X-Forwarded-Proto: {proto}\r\n");
        for answer in [
            proxy.get("/", &format!("{GPC}{fields}")),
            post(proxy.addr(), "/privacy-choices/opt-out", &fields, ""),
        ] {
            let lines = answer.head.all("set-cookie");
            assert!(lines[0].starts_with("optgate=v1.out."), "{lines:?}");
            assert!(lines.iter().all(|line| line.ends_with("; Secure") == secure), "{proto}: {lines:?}");
        }
    }
}

/// 400 days from the last month in which the browser came.
#[test]
fn a_choice_cookie_of_an_earlier_month_is_renewed_and_a_current_one_left_alone() {
    let origin = shop(&["/"]);
    let proxy = proxy().to(&origin).run();
    let keys = proxy.running().store().keys();
    let carry = |value: &str| proxy.get("/", &format!("Cookie: optgate={value}\r\n"));
    for (old, state) in
        [(cookie::value_out(202_501, keys), "v1.out."), (cookie::value_in(202_501, keys), "v1.in.")]
    {
        let renewed = choice(&carry(&old)).unwrap();
        assert!(renewed.starts_with(state) && renewed != old, "{renewed}");
        assert_eq!(choice(&carry(&renewed)), None);
    }
    let line = carry("v1.out.202611.forged");
    assert!(honoured(&line), "a person's opt-out counts whoever signed it");
    let line = line.head.one("set-cookie").unwrap();
    for part in ["; Path=/", "; Max-Age=34560000", "; SameSite=Lax", "; HttpOnly"] {
        assert!(line.contains(part), "{line}");
    }
}

/// Foreign strings may only add, and only while they are present.
#[test]
fn a_consent_tools_cookie_counts_while_it_is_there_and_never_creates_ours() {
    let origin = shop(&["/"]);
    let proxy = proxy().to(&origin).run();
    let answer = proxy.get("/", "Cookie: usprivacy=1YYN\r\n");
    assert!(honoured(&answer));
    assert_eq!(choice(&answer), None);
    assert!(!honoured(&proxy.get("/", "Cookie: usprivacy=1YNN\r\n")));
    let back = cookie::value_in(202_611, proxy.running().store().keys());
    assert!(!honoured(&proxy.get("/", &format!("Cookie: usprivacy=1YYN; optgate={back}\r\n"))));
    assert!(honoured(&proxy.get("/", "Cookie: usprivacy=1YYN; optgate=v1.in.202611.forged\r\n")));
}

/// The page sets our cookie, after which no later page is the first: it must make the record itself.
#[test]
fn a_signal_first_seen_on_a_consumer_page_is_recorded() {
    let origin = Origin::start();
    let builder = proxy().to(&origin);
    let data = builder.settings().data_dir;
    let running = app::start(builder.settings()).unwrap();
    let answer = get(running.listen()[0], "/privacy-choices", "Sec-GPC: 1\r\n");
    let known = format!("Sec-GPC: 1\r\nCookie: optgate={}\r\n", choice(&answer).unwrap());
    assert_eq!(get(running.listen()[0], "/privacy-choices", &known).status(), 200);
    let records: Vec<_> =
        records_of(running, &data).into_iter().map(|r| (r.kind, r.signal, r.basis)).collect();
    assert_eq!(records, [("opt-out".into(), "gpc".into(), "gpc".into())]);
}

/// A form that never ends holds no connection for ever; an opt-out needs no form at all.
#[test]
fn a_form_that_does_not_arrive_is_ended_and_an_opt_out_waits_for_none() {
    let proxy = proxy().to(&Origin::start()).toml("[timeouts]\nbetween_bytes = \"200ms\"\n").run();
    let head = "HTTP/1.1\r\nHost: site.test\r\nContent-Length: 9\r\n\
                Content-Type: application/x-www-form-urlencoded\r\n\r\n";
    let mut client = proxy.client();
    client.send(format!("POST /privacy-choices/opt-in/confirm {head}"));
    assert_eq!(client.final_head().status, 408);
    let mut client = proxy.client();
    client.send(format!("POST /privacy-choices/opt-out {head}"));
    assert_eq!(client.final_head().status, 200);
}

/// From the very answer to the click on: its trackers' cookies go, and pages kept from before.
#[test]
fn an_opt_out_post_expires_tracker_cookies_and_clears_the_cache() {
    let proxy = proxy().to(&Origin::start()).run();
    let answer = post(proxy.addr(), "/privacy-choices/opt-out", "Cookie: _fbp=1; session=2\r\n", "");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.head.one("clear-site-data"), Some("\"cache\""));
    assert_eq!(answer.head.one("cache-control"), Some("no-store"));
    let lines = answer.head.all("set-cookie");
    assert!(lines.iter().any(|l| l.starts_with("_fbp=;") && l.contains("Max-Age=0")), "{lines:?}");
    assert!(!lines.iter().any(|l| l.starts_with("session")), "{lines:?}");
    let signalled = proxy.get("/privacy-choices", "Sec-GPC: 1\r\n");
    assert_eq!(signalled.head.one("clear-site-data"), None, "never on first sight of a signal");
}

/// With `Accept: application/json` the answer is `{"reference": ...}`, and the receipt is there.
#[test]
fn a_program_gets_the_reference_as_json_and_the_receipt_under_it() {
    let proxy = proxy().to(&Origin::start()).run();
    let answer = post(proxy.addr(), "/privacy-choices/opt-out", "Accept: application/json\r\n", "");
    assert_eq!(answer.head.one("content-type"), Some("application/json"));
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let reference = json["reference"].as_str().unwrap();
    let receipt = proxy.get(&format!("/privacy-choices/receipt/{reference}"), "");
    assert_eq!(receipt.status(), 200);
    assert!(receipt.text().contains(reference), "{}", receipt.text());
}

/// Every page a person can reach by the buttons.
fn consumer_pages(proxy: &Proxy) -> Vec<(&'static str, String)> {
    let out = post(proxy.addr(), "/privacy-choices/opt-out", "", "");
    let text = out.text();
    let start = text.find("/privacy-choices/receipt/").unwrap();
    let receipt = text[start..].split('"').next().unwrap().to_owned();
    vec![
        ("choices", proxy.get("/privacy-choices", "").text()),
        ("choices, opted out", proxy.get("/privacy-choices", "Sec-GPC: 1\r\n").text()),
        ("opted out", text),
        ("receipt", proxy.get(&receipt, "").text()),
        ("confirm", post(proxy.addr(), "/privacy-choices/opt-in", "", "").text()),
        ("missing", proxy.get("/privacy-choices/nowhere", "").text()),
    ]
}

/// WCAG 2.2, 1.3.1, 2.4.2, 3.1.1, 4.1.2, in the terms of a text browser.
#[test]
fn the_consumer_pages_are_valid_and_read_in_order() {
    for link in ["do-not-sell", "privacy-choices"] {
        let proxy = proxy().to(&Origin::start()).toml(&format!("[portal]\nlink = \"{link}\"\n")).run();
        for (name, text) in consumer_pages(&proxy) {
            let dom = html5ever::parse_document(RcDom::default(), Default::default()).one(text.as_str());
            assert!(dom.errors.borrow().is_empty(), "{name}: {:?}", dom.errors);
            // The one after an opt-out may clear old copies; nothing in it waits for that.
            let scripts = usize::from(name == "opted out");
            assert_eq!(text.matches("<script").count(), scripts, "{name} works without scripts");
            read_in_order(name, &parse(&text, false));
        }
    }
}

fn read_in_order(name: &str, page: &Element) {
    let (mut level, mut firsts, mut ids) = (0, 0, Vec::new());
    page.walk(&mut |element| {
        let tag = element.name.as_str();
        if let Some(number) = tag.strip_prefix('h').and_then(|n| n.parse::<u32>().ok()) {
            assert!(number <= level + 1, "{name}: <{tag}> after <h{level}>");
            (level, firsts) = (number, firsts + u32::from(number == 1));
        }
        ids.extend(element.attr("id").map(str::to_owned));
        match tag {
            "html" => assert_eq!(element.attr("lang"), Some("en"), "{name}"),
            "title" | "button" | "legend" => {
                assert!(!element.text().trim().is_empty(), "{name}: empty <{tag}>")
            }
            "img" => assert!(element.attr("alt").is_some_and(|alt| !alt.is_empty()), "{name}"),
            "form" => assert_eq!(element.attr("method"), Some("post"), "{name}"),
            _ => {}
        }
    });
    assert_eq!(firsts, 1, "{name} has one <h1>");
    let unique: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "{name}");
    let (mut inputs, mut labelled) = (0, 0);
    page.walk(&mut |element| {
        let is_field = |e: &Element| e.name == "input" && e.attr("type") != Some("hidden");
        inputs += u32::from(is_field(element));
        if element.name == "label" {
            element.walk(&mut |inner| labelled += u32::from(is_field(inner)));
        }
    });
    assert_eq!(inputs, labelled, "{name}: every field has its label");
}
