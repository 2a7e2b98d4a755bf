//! The consumer pages as a browser meets them, with a real store beneath.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions fail the same way

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use optgate::config::{self, LinkTitle, Settings};
use optgate::portal::{Portal, Visit};
use optgate::privacy::{Keys, Named, OwnCookie, Signals, Standing, Subject, cookie, decide};
use optgate::store::{Change, Kind, Source, Store};
use optgate::telemetry::metrics::Metrics;

use crate::support::guard::default_policy;
use crate::surface::settings;

const PREFIX: &str = "/privacy-choices";

struct House {
    portal: Portal,
    store: Store,
    settings: Settings,
    _folder: tempfile::TempDir,
}

/// What a request brings beside its address.
#[derive(Default, Clone)]
struct Ask {
    gpc: bool,
    own: Option<OwnCookie>,
    foreign: bool,
    account: Option<&'static [u8]>,
    profile: Option<&'static [u8]>,
    standing: Standing,
    secure: bool,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    fn cookies(&self) -> Vec<&str> {
        self.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap()).collect()
    }

    fn has_choice_cookie(&self, state: &str) -> bool {
        self.cookies().iter().any(|c| c.starts_with(&format!("optgate=v1.{state}.")))
    }
}

fn house(change: impl FnOnce(&mut Settings)) -> House {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    change(&mut settings);
    let store = Store::open(folder.path(), &settings.store).unwrap();
    let metrics = Arc::new(Metrics::new());
    let portal = Portal::new(&settings, store.clone(), metrics);
    House { portal, store, settings, _folder: folder }
}

impl House {
    fn keys(&self) -> &Keys {
        self.store.keys()
    }

    async fn send(&self, method: Method, path: &str, ask: Ask) -> Answer {
        let signals = Signals {
            gpc: ask.gpc,
            own: ask.own.unwrap_or(OwnCookie::Absent),
            foreign: ask.foreign,
            ours: false,
            account: ask.standing,
            profile: Standing::NoAccount,
        };
        let visit = Visit {
            aliases: optgate::privacy::Aliases::default(),
            site: self.settings.sites[0].clone(),
            signals,
            decision: decide(signals),
            named: Named {
                account: ask.account.map(|a| Subject::of_account(self.keys(), "shop", a)),
                profile: ask.profile.map(|p| Subject::of_profile(self.keys(), "shop", p)),
            },
            secure: ask.secure,
            host: "shop.example".into(),
            policy: default_policy(),
            policy_version: "0123456789ab".into(),
            month: 202_611,
            told: optgate::portal::Told::default(),
            crowding: false,
        };
        let mut request = Request::builder().method(method).uri(path).header("host", "shop.example");
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let request = request.extension(visit).body(Body::from(ask.body)).unwrap();
        let (head, body) = Response::into_parts(self.portal.answer(request).await);
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: head.status, headers: head.headers, body: String::from_utf8(body).unwrap() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Ask::default()).await
    }

    async fn post(&self, path: &str, ask: Ask) -> Answer {
        self.send(Method::POST, &format!("{PREFIX}{path}"), ask).await
    }

    /// Step one; gives the cookie and the token of step two.
    async fn ask_opt_in(&self, ask: Ask) -> (String, String) {
        let page = self.post("/opt-in", ask).await;
        assert_eq!(page.status, StatusCode::OK);
        let token = page.body.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        let cookie = page.cookies()[0].split(';').next().unwrap();
        (cookie.to_owned(), token.to_owned())
    }

    fn confirmation(cookie: &str, token: &str) -> Ask {
        Ask {
            headers: vec![
                ("cookie", cookie.to_owned()),
                ("content-type", "application/x-www-form-urlencoded".to_owned()),
            ],
            body: format!("token={token}").into_bytes(),
            ..Ask::default()
        }
    }
}

fn json() -> Ask {
    Ask { headers: vec![("accept", "application/json".into())], ..Ask::default() }
}

fn reference(answer: &Answer) -> String {
    let value: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    value["reference"].as_str().unwrap().to_owned()
}

/// W3C GPC, "GPC Support Resource": exact media type, no variance, GET and HEAD.
#[tokio::test]
async fn the_support_resource_is_json_and_the_same_for_everyone() {
    let house = house(|s| s.gpc_last_update = Some("2026-01-01".into()));
    let path = "/.well-known/gpc.json";
    let plain = house.get(path).await;
    let signal = house.send(Method::GET, path, Ask { gpc: true, ..Ask::default() }).await;
    assert_eq!(plain.status, StatusCode::OK);
    assert_eq!(plain.header("content-type"), "application/json");
    assert_eq!(plain.body, r#"{"gpc":true,"lastUpdate":"2026-01-01"}"#);
    assert_eq!((signal.body, signal.headers), (plain.body.clone(), plain.headers.clone()));
    assert!(plain.header("cache-control").contains("max-age"));
    let head = house.send(Method::HEAD, path, Ask::default()).await;
    assert_eq!((head.status, head.body.as_str()), (StatusCode::OK, ""));
    assert_eq!(head.header("content-type"), "application/json");
    let post = house.send(Method::POST, path, Ask::default()).await;
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
}

/// 11 CCR 7025(c)(6): the page says whether the signal was processed, and shows the state.
#[tokio::test]
async fn the_page_says_on_which_ground_the_visitor_is_opted_out() {
    let house = house(|_| ());
    let rows: [(Ask, &str); 6] = [
        (Ask { gpc: true, ..Ask::default() }, "Your browser sends Global Privacy Control."),
        (Ask { own: Some(OwnCookie::Out(202_611)), ..Ask::default() }, "You opted out on this browser."),
        (Ask { foreign: true, ..Ask::default() }, "A consent tool on this site says"),
        (
            Ask { account: Some(b"u1"), standing: Standing::OptedOut, ..Ask::default() },
            "Your account is opted out.",
        ),
        (
            Ask { account: Some(b"u1"), standing: Standing::OptedOutByImport, ..Ask::default() },
            "Your account is opted out.",
        ),
        (
            Ask { account: Some(b"u1"), standing: Standing::NotLoaded, ..Ask::default() },
            "so we treat you as opted out.",
        ),
    ];
    for (ask, ground) in rows {
        let page = house.send(Method::GET, PREFIX, ask).await;
        assert!(page.body.contains(ground), "{ground}: {}", page.body);
        assert!(page.body.contains(". <strong>Opt-Out Request Honored.</strong>"), "{ground}: {}", page.body);
        assert!(page.body.contains("checked> Off: you are opted out"), "{ground}");
        assert!(page.body.contains("/privacy-choices/opt-in\""), "{ground}");
    }
    let page = house.get(PREFIX).await;
    assert!(page.body.contains("You have not opted out"));
    assert!(!page.body.contains("Opt-Out Request Honored"));
    assert!(page.body.contains("checked> On: you are not opted out"));
    assert!(!page.body.contains("/privacy-choices/opt-in\""));
}

/// 11 CCR 7026(b)-(d), 7004(a)(2): one POST, nothing to fill in, no script.
#[tokio::test]
async fn opting_out_from_the_page_is_one_button_with_nothing_to_fill_in() {
    let page = house(|_| ()).get(PREFIX).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.body.matches("<form").count(), 1);
    let form = page.body.split("<form").nth(1).unwrap().split("</form>").next().unwrap();
    assert!(form.contains("method=\"post\" action=\"/privacy-choices/opt-out\""), "{form}");
    assert!(!form.contains("<input") && !form.contains("<select"), "{form}");
    assert!(!page.body.contains("<script"));
    assert!(page.body.contains("<h1>Do Not Sell or Share My Personal Information</h1>"));
    assert!(page.body.contains("<html lang=\"en\">"));
}

/// Who opted out here sees no second opt-out button, and is not asked to come back (7026(k)).
#[tokio::test]
async fn who_is_opted_out_by_cookie_sees_only_a_plain_way_back() {
    let ask = Ask { own: Some(OwnCookie::Out(202_611)), ..Ask::default() };
    let page = house(|_| ()).send(Method::GET, PREFIX, ask).await;
    assert!(!page.body.contains("/opt-out\""));
    assert_eq!(page.body.matches("<button").count(), 1);
}

/// 11 CCR 7015: the other title comes with the icon.
#[tokio::test]
async fn the_other_title_has_the_icon_beside_it() {
    let house = house(|s| s.portal.link = LinkTitle::PrivacyChoices);
    let page = house.get(PREFIX).await;
    let heading = page.body.split("<h1>").nth(1).unwrap().split("</h1>").next().unwrap();
    assert!(heading.ends_with("> Your Privacy Choices"), "{heading}");
    assert!(heading.contains("icon.svg") && heading.contains("alt=\"California Consumer"), "{heading}");
    let icon = house.get("/privacy-choices/assets/icon.svg").await;
    assert_eq!(icon.header("content-type"), "image/svg+xml");
}

/// 11 CCR 7015(b): the other title is of a page with both rights, so the page leads to the one that Optgate has not.
#[tokio::test]
async fn the_page_leads_to_the_right_to_limit_where_the_settings_say_it_is() {
    const LIMIT: &str = ">Limit the Use of My Sensitive Personal Information</a>";
    let house_with = |url: Option<&str>| {
        house(|s| {
            s.portal.link = LinkTitle::PrivacyChoices;
            s.portal.limit_url = url.map(str::to_owned);
        })
    };
    let (with, without) = (house_with(Some("/limit?a=1&b=2")), house_with(None));
    let page = with.get(PREFIX).await.body;
    assert!(page.contains(LIMIT) && page.contains("href=\"/limit?a=1&#38;b=2\""), "{page}");
    assert!(with.settings.warnings().is_empty());
    assert!(!without.get(PREFIX).await.body.contains(LIMIT));
    let warnings = without.settings.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("`portal.limit_url`"), "{warnings:?}");
    assert!(house(|_| ()).settings.warnings().is_empty());
}

/// A click of somebody who is logged in and cannot be told yet is in force and saved, for the browser; that
/// it is not the account's yet is said as plainly as on the choices page.
#[tokio::test]
async fn a_click_while_the_account_cannot_be_read_says_what_it_does_not_cover() {
    let house = house(|_| ());
    let unread = || Ask { standing: Standing::NotLoaded, ..Ask::default() };
    assert!(
        house
            .send(Method::GET, PREFIX, unread())
            .await
            .body
            .contains("We cannot read the choice of your account")
    );
    let page = house.post("/opt-out", unread()).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.has_choice_cookie("out"));
    assert!(page.body.contains("We cannot read your account just now"), "{}", page.body);
    assert!(page.body.contains("Try again") && page.body.contains("<dd>this browser</dd>"), "{}", page.body);
    let told = house.post("/opt-out", Ask { standing: Standing::NotLoaded, ..json() }).await;
    let told: serde_json::Value = serde_json::from_str(&told.body).unwrap();
    assert!(told["reference"].is_string() && told["warning"].is_string(), "{told}");
    let known = Ask { account: Some(b"ann"), standing: Standing::NotLoaded, ..Ask::default() };
    assert!(!house.post("/opt-out", known).await.body.contains("cannot read your account"), "it is saved");
    let plain = house.post("/opt-out", json()).await;
    assert!(!plain.body.contains("warning"), "{}", plain.body);
}

/// OWASP ASVS 3.4: strict headers on every answer, refusals included.
#[tokio::test]
async fn every_answer_has_the_strict_headers() {
    let house = house(|_| ());
    for (method, path) in [
        (Method::GET, PREFIX),
        (Method::GET, "/privacy-choices/nothing"),
        (Method::DELETE, "/privacy-choices/opt-out"),
        (Method::POST, "/privacy-choices/opt-out"),
        (Method::POST, "/privacy-choices/opt-in"),
        (Method::POST, "/privacy-choices/opt-in/confirm"),
        (Method::GET, "/privacy-choices/receipt/none"),
    ] {
        let answer = house.send(method.clone(), path, Ask::default()).await;
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{method} {path}");
        let clears = !answer.header("clear-site-data").is_empty();
        assert_eq!(clears, method == Method::POST && path.ends_with("/opt-out"), "{path}");
    }
    let style = house.get("/privacy-choices/assets/page.css").await;
    assert_eq!(style.header("cache-control"), "public, max-age=86400");
}

/// RFC 9110, 15.5.6: a 405 names what is allowed; GET never changes state.
#[tokio::test]
async fn a_wrong_method_is_refused_with_allow() {
    let house = house(|_| ());
    for (method, path, allow) in [
        (Method::GET, "/opt-out", "POST"),
        (Method::GET, "/opt-in/confirm", "POST"),
        (Method::PUT, "", "GET,HEAD"),
    ] {
        let answer = house.send(method, &format!("{PREFIX}{path}"), Ask::default()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(answer.header("allow"), allow, "{path}");
        assert!(answer.cookies().is_empty(), "{path}");
    }
    assert_eq!(house.get("/privacy-choices/nothing").await.status, StatusCode::NOT_FOUND);
    let slash = house.get("/privacy-choices/").await;
    assert_eq!(slash.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(slash.header("location"), PREFIX);
}

/// Acknowledged after the record is on disk, with its reference, and the cookie.
#[tokio::test]
async fn opting_out_gives_a_cookie_and_a_receipt_that_can_be_read_again() {
    let house = house(|_| ());
    let answer = house.post("/opt-out", Ask { secure: true, ..json() }).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("clear-site-data"), "\"cache\"");
    let value = cookie::value_out(202_611, house.keys());
    let question =
        "optgate-confirm=; Path=/privacy-choices/opt-in; Max-Age=0; SameSite=Strict; HttpOnly; Secure";
    assert_eq!(
        answer.cookies(),
        [
            format!("optgate={value}; Path=/; Max-Age=34560000; SameSite=Lax; HttpOnly; Secure"),
            question.to_owned()
        ],
        "and what was asked before is ended"
    );
    let reference = reference(&answer);
    let record = house.store.find(&reference).await.unwrap().unwrap();
    assert_eq!((record.kind.as_str(), record.signal.as_str(), record.account), ("opt-out", "form", false));
    let receipt = house.get(&format!("{PREFIX}/receipt/{reference}")).await;
    assert_eq!(receipt.status, StatusCode::OK);
    assert!(receipt.body.contains(&reference) && receipt.body.contains("Opt-Out Request Honored."));
    // The site's own page, and the scripts on it, need not know which receipt somebody comes from.
    assert!(receipt.body.contains("<a href=\"/\" rel=\"noreferrer\">"), "{}", receipt.body);
    let page = house.post("/opt-out", Ask::default()).await;
    assert!(page.body.contains("/privacy-choices/receipt/") && page.body.contains("role=\"status\""));
    assert!(page.has_choice_cookie("out") && !page.cookies()[0].contains("Secure"));
}

/// 11 CCR 7025(c)(1): the known person's account is opted out with the browser.
#[tokio::test]
async fn an_opt_out_with_an_account_covers_it() {
    let house = house(|_| ());
    let page = house.post("/opt-out", Ask { account: Some(b"u1"), ..Ask::default() }).await;
    assert!(page.body.contains("this browser and your account"), "{}", page.body);
    let subject = Subject::of_account(house.keys(), "shop", b"u1");
    assert_eq!(house.store.lookup(&subject), Standing::OptedOut);
}

/// A forged opt-out harms nobody: whatever comes with it, it is carried out.
#[tokio::test]
async fn an_opt_out_is_never_refused() {
    let house = house(|_| ());
    let asks = [
        vec![("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
        vec![("content-type", "text/plain"), ("origin", "null")],
        vec![("content-type", "application/json"), ("content-length", "70000")],
    ];
    for fields in asks {
        let headers = fields.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        let ask = Ask { headers, body: vec![b'x'; 70_000], ..Ask::default() };
        let answer = house.post("/opt-out", ask).await;
        assert_eq!(answer.status, StatusCode::OK, "{fields:?}");
        assert!(answer.has_choice_cookie("out"), "{fields:?}");
    }
}

/// Over the rate the choice holds, there is only no row.
#[tokio::test]
async fn a_flood_is_honoured_without_a_reference() {
    let house = house(|s| {
        s.store =
            config::Store { queue: 64, records_per_second: 1, record_burst: 1, ..config::Store::default() };
    });
    let mut without = 0;
    for _ in 0..20 {
        let answer = house.post("/opt-out", json()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.has_choice_cookie("out"));
        without += usize::from(answer.body == r#"{"reference":null}"#);
    }
    assert!(without > 0);
    // On a slow machine the next record's second may be over by now; of two in a row one has none.
    let pages = [house.post("/opt-out", Ask::default()).await, house.post("/opt-out", Ask::default()).await];
    assert!(pages.iter().any(|page| page.body.contains("in force on this browser")), "{}", pages[1].body);
}

/// The journal cannot write. The cookie is set and the page says what is missing.
#[tokio::test]
async fn an_opt_out_that_cannot_be_recorded_still_sets_the_cookie() {
    let house = house(|_| ());
    house.store.close().await;
    let page = house.post("/opt-out", Ask::default()).await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.has_choice_cookie("out"));
    assert!(page.body.contains("the record of it could not be saved"), "{}", page.body);
    assert!(page.body.contains("try again") && page.body.contains("action=\"/privacy-choices/opt-out\""));
    let answer = house.post("/opt-out", json()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.body.contains(r#""reference":null"#) && answer.has_choice_cookie("out"));
}

/// 11 CCR 7028: two separate acts; the first records nothing.
#[tokio::test]
async fn opting_back_in_takes_two_posts() {
    let house = house(|_| ());
    let before = house.store.health().records;
    let (cookie, token) = house.ask_opt_in(Ask::default()).await;
    assert_eq!(house.store.health().records, before);
    let answer = house.post("/opt-in/confirm", House::confirmation(&cookie, &token)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert!(answer.has_choice_cookie("in"));
    assert!(answer.cookies().iter().any(|c| c.starts_with("optgate-confirm=;") && c.contains("Max-Age=0")));
    assert!(!answer.body.contains("signal stays in force"));
}

/// 11 CCR 7025(c)(3): the signal beats the choice, and both pages say so.
#[tokio::test]
async fn opting_back_in_under_the_signal_says_that_the_signal_stays_in_force() {
    let house = house(|_| ());
    let page = house.post("/opt-in", Ask { gpc: true, ..Ask::default() }).await;
    assert!(page.body.contains("signal stays in force"));
    let (cookie, token) = house.ask_opt_in(Ask { gpc: true, ..Ask::default() }).await;
    let ask = Ask { gpc: true, ..House::confirmation(&cookie, &token) };
    let answer = house.post("/opt-in/confirm", ask).await;
    assert!(answer.body.contains("signal stays in force") && answer.body.contains("Honored"));
}

/// OWASP ASVS 3.5: nobody is opted in by another page, a guessed token or a missing cookie.
#[tokio::test]
async fn nobody_is_opted_in_by_another_page() {
    let house = house(|_| ());
    let (cookie, token) = house.ask_opt_in(Ask::default()).await;
    let with = |name, value: &str| {
        let mut ask = House::confirmation(&cookie, &token);
        ask.headers.push((name, value.to_owned()));
        ask
    };
    let rows = [
        (with("sec-fetch-site", "cross-site"), StatusCode::FORBIDDEN),
        (with("sec-fetch-site", "same-site"), StatusCode::FORBIDDEN),
        (with("origin", "https://evil.example"), StatusCode::FORBIDDEN),
        (with("origin", "null"), StatusCode::FORBIDDEN),
        (House::confirmation("", &token), StatusCode::FORBIDDEN),
        (House::confirmation(&cookie, "guessed"), StatusCode::FORBIDDEN),
        (House::confirmation("optgate-confirm=", ""), StatusCode::FORBIDDEN),
        (House::confirmation(&cookie, &"x".repeat(70_000)), StatusCode::PAYLOAD_TOO_LARGE),
        (Ask { body: Vec::new(), ..House::confirmation(&cookie, "") }, StatusCode::UNPROCESSABLE_ENTITY),
    ];
    let before = house.store.health().records;
    for (ask, status) in rows {
        let shown = format!("{:?}", ask.headers);
        let answer = house.post("/opt-in/confirm", ask).await;
        assert_eq!(answer.status, status, "{shown}");
        assert!(answer.cookies().is_empty(), "{shown}");
        assert!(answer.body.contains("Nothing has changed"), "{shown}");
    }
    assert_eq!(house.store.health().records, before);
    let own = with("origin", "https://shop.example");
    assert_eq!(house.post("/opt-in/confirm", own).await.status, StatusCode::OK);
    let foreign = Ask { headers: vec![("sec-fetch-site", "cross-site".into())], ..Ask::default() };
    assert_eq!(house.post("/opt-in", foreign).await.status, StatusCode::FORBIDDEN);
}

/// Whoever asks for JSON gets it also where nobody is opted in.
#[tokio::test]
async fn a_program_is_told_in_json_that_nobody_is_opted_in() {
    let house = house(|_| ());
    let (cookie, token) = house.ask_opt_in(Ask::default()).await;
    let program = |mut ask: Ask, more: &[(&'static str, &str)]| {
        ask.headers.push(("accept", "application/json".to_owned()));
        ask.headers.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        ask
    };
    let right = || House::confirmation(&cookie, &token);
    let mut text = right();
    text.headers.retain(|(name, _)| *name != "content-type");
    let rows = [
        (program(right(), &[("sec-fetch-site", "cross-site")]), StatusCode::FORBIDDEN),
        (program(House::confirmation(&cookie, "guessed"), &[]), StatusCode::FORBIDDEN),
        (program(text, &[("content-type", "text/plain")]), StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ];
    for (ask, status) in rows {
        let answer = house.post("/opt-in/confirm", ask).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert!(body["error"].as_str().unwrap().contains("Nothing has changed"), "{body}");
    }
}

/// An opt-in that is not on record does not count.
#[tokio::test]
async fn an_opt_in_that_cannot_be_recorded_changes_nothing() {
    let house = house(|_| ());
    let (cookie, token) = house.ask_opt_in(Ask::default()).await;
    house.store.close().await;
    let answer = house.post("/opt-in/confirm", House::confirmation(&cookie, &token)).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.body.contains("You are still opted out on this browser"), "{}", answer.body);
    assert!(answer.cookies().is_empty());
}

/// The consumer's receipt is checkable, by a form without script, and says nothing about who it was.
#[tokio::test]
async fn a_receipt_can_be_checked_against_the_signed_record() {
    let check = |reference: &str| format!("{PREFIX}/receipt?reference={reference}");
    let unsigned = house(|_| ());
    let field = unsigned.get(&format!("{PREFIX}/receipt")).await;
    assert_eq!(field.status, StatusCode::OK);
    assert!(
        field.body.contains("<form method=\"get\" action=\"/privacy-choices/receipt\">"),
        "{}",
        field.body
    );
    assert!(field.body.contains("name=\"reference\"") && !field.body.contains("<script"));
    let account = Ask { account: Some(b"u1"), ..json() };
    let recorded = reference(&unsigned.post("/opt-out", account).await);
    let typed = recorded.to_lowercase().replace('-', "+");
    let answer = unsigned.get(&check(&typed)).await;
    assert!(answer.body.contains("Not yet signed.") && answer.body.contains(&recorded), "{}", answer.body);
    assert!(!answer.body.contains("account"), "{}", answer.body);
    for (reference, status) in
        [("", StatusCode::OK), ("none", StatusCode::NOT_FOUND), ("%ff", StatusCode::NOT_FOUND)]
    {
        assert_eq!(unsigned.get(&check(reference)).await.status, status, "{reference}");
    }

    let signing = house(|s| s.store.checkpoint = std::time::Duration::from_millis(20));
    let recorded = reference(&signing.post("/opt-out", json()).await);
    loop {
        let answer = signing.get(&check(&recorded)).await;
        assert_eq!(answer.status, StatusCode::OK);
        if answer.body.contains("Verified against the signed record.") {
            break;
        }
        tokio::task::yield_now().await;
    }
}

/// References are looked up only when they can be one, and only for their own site.
#[tokio::test]
async fn a_strange_reference_is_not_found() {
    let house = house(|_| ());
    for reference in ["none", "%2e%2e", "a%20b", &"A".repeat(300), "%ff"] {
        let answer = house.get(&format!("{PREFIX}/receipt/{reference}")).await;
        assert!(answer.status.is_client_error(), "{reference}: {}", answer.status);
    }
    let elsewhere = Change {
        time_us: 1_795_464_000_000_000,
        site: "blog".into(),
        kind: Kind::OptOut,
        source: Source::Form,
        basis: None,
        policy: String::new(),
        subject: None,
    };
    let recorded = house.store.record(elsewhere).await.unwrap().reference;
    for path in ["receipt/", "receipt?reference="] {
        let answer = house.get(&format!("{PREFIX}/{path}{recorded}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
}

/// Words the product never uses about itself.
#[tokio::test]
async fn no_page_claims_compliance() {
    let house = house(|_| ());
    for answer in [
        house.get(PREFIX).await,
        house.post("/opt-out", Ask::default()).await,
        house.get("/privacy-choices/x").await,
    ] {
        assert!(!answer.body.to_lowercase().contains("complian"));
    }
}

/// The page after an opt-out may run exactly one script of ours.
#[tokio::test]
async fn the_page_after_an_opt_out_carries_one_script_and_a_policy_for_it_alone() {
    let house = house(|_| ());
    let first = house.post("/opt-out", Ask::default()).await;
    let tag = first.body.split("<script").nth(1).unwrap().split("</script>").next().unwrap();
    let nonce = tag.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(tag.contains("src=\"/privacy-choices/assets/clear.js\"") && tag.contains("async"), "{tag}");
    let policy = first.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(policy.ends_with(&format!("; script-src 'nonce-{nonce}'")), "{policy}");
    let second = house.post("/opt-out", Ask::default()).await;
    assert!(!second.body.contains(nonce), "a nonce serves once");
    let script = house.get("/privacy-choices/assets/clear.js").await;
    assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
    for word in ["unregister()", "caches.keys()", "text\\/html"] {
        assert!(script.body.contains(word), "{word}");
    }
    // Every other page of ours runs none.
    let page = house.get(PREFIX).await;
    assert!(!page.header("content-security-policy").contains("script-src"));
}

#[tokio::test]
async fn the_clearing_script_can_be_switched_off() {
    let house = house(|settings| settings.portal.clear_old_copies = false);
    let page = house.post("/opt-out", Ask::default()).await;
    assert!(!page.body.contains("<script") && !page.header("content-security-policy").contains("script-src"));
}
