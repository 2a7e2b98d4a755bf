//! What pages, vendors and consent platforms are told about an opt-out, in a real browser and over the
//! way out -> in -> out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use optgate::config::{Contract, SignalCookies, SignalSettings, VendorAction, VendorPolicy};
use optgate::enforce::guard::Placement;
use optgate::enforce::guard::signals::{Signals, script};

use optgate::privacy::gpp::Section;
use optgate::registry::{Policy, PolicyError, Registry};
use serde_json::{Value, json};

use super::support::browser::chromium;
use super::support::client::Response;
use super::support::guard::placement;
use super::support::origin::{Origin, answer};
use super::support::proxy::{Proxy, proxy};
use super::support::skipped;

const PAGE: &str = include_str!("../browser/signals.html");
const CRAWLED: &str = include_str!("../browser/crawled.html");
const OUT: &str = "DBABLA~CVQVAAAAAACA.QA";
const OUT_GPC: &str = "DBABLA~CVQVAAAAAACA.YA";

fn contract() -> Contract {
    Contract { entity: "Example Ltd".into(), reference: "legal/2026-1".into(), date: "2026-01-31".into() }
}

fn restricting(ids: &[&str]) -> Result<Policy, PolicyError> {
    let mut written = VendorPolicy::default();
    for id in ids {
        written.vendors.insert((*id).to_owned(), VendorAction::Restrict);
        written.contracts.insert((*id).to_owned(), contract());
    }
    Policy::resolve(Arc::new(Registry::builtin().unwrap()), &written)
}

/// The script with every vendor's calls in it.
fn full_script() -> String {
    let settings = SignalSettings {
        sections: vec![Section::UsNat],
        cookies: SignalCookies::Page,
        onetrust_groups: vec!["C0004".to_owned()],
        deny_analytics: false,
    };
    let policy =
        restricting(&["meta-pixel", "x-ads", "google-publisher-tag", "google-ads-conversion"]).unwrap();
    script(&Signals::of(&settings, &policy))
}

/// What the page with the script saw.
fn seen(browser: &PathBuf, gpc: bool, set_cookie: &'static str) -> Value {
    let page = PAGE.replace("/*SCRIPT*/", &full_script()).replace("/*GPC*/", &gpc.to_string());
    result_of(browser, page, set_cookie)
}

/// What a page wrote into its `data-result`.
fn result_of(browser: &PathBuf, page: String, set_cookie: &'static str) -> Value {
    let answer = answer(&format!("Content-Type: text/html\r\n{set_cookie}"), page);
    let site = Origin::start().answers("/", answer);
    let profile = tempfile::tempdir().unwrap();
    let at = site.url().trim_start_matches("http://").to_owned();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--host-resolver-rules=MAP site.test {at}, MAP * ~NOTFOUND"))
        .args(["--virtual-time-budget=10000", "--dump-dom", "http://site.test/"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let result = dom.split("data-result=\"").nth(1).and_then(|rest| rest.split('"').next());
    let result = result.unwrap_or_else(|| panic!("the page wrote no result: {dom}"));
    serde_json::from_str(&result.replace("&quot;", "\"").replace("&lt;", "<").replace("&amp;", "&")).unwrap()
}

/// Cookies as a page reads them.
fn jar(text: &Value) -> BTreeMap<String, String> {
    let pairs = text.as_str().unwrap().split("; ").filter_map(|pair| pair.split_once('='));
    let jar: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let map: BTreeMap<_, _> = jar.iter().cloned().collect();
    assert_eq!(map.len(), jar.len(), "no cookie twice: {text}");
    map
}

/// IAB US Privacy API 1 and GPP CMP API 1.1: the functions answer at once, in every command, and only
/// the browser's own signal makes the GPC sub-section true.
#[test]
fn a_page_asking_by_any_function_hears_the_opt_out() {
    let Some(browser) = chromium() else {
        return skipped("a_page_asking_by_any_function_hears_the_opt_out", "no chromium in PATH");
    };
    for (gpc, string) in [(false, OUT), (true, OUT_GPC)] {
        let r = seen(&browser, gpc, "");
        assert_eq!(r["errors"], json!([]), "{r}");
        assert_eq!(r["usp"], json!({ "value": { "version": 1, "uspString": "1YYN" }, "ok": true }));
        assert_eq!(r["uspUnknown"], json!({ "value": null, "ok": false }));
        let ping = &r["ping"]["value"];
        for (key, want) in [
            ("gppVersion", json!("1.1")),
            ("cmpStatus", json!("loaded")),
            ("cmpDisplayStatus", Value::Null),
            ("signalStatus", json!("ready")),
            ("supportedAPIs", json!(["7:usnat"])),
            ("cmpId", json!(1)),
            ("sectionList", json!([7])),
            ("applicableSections", json!([7])),
            ("gppString", json!(string)),
        ] {
            assert_eq!(ping[key], want, "{key}");
        }
        let core = &ping["parsedSections"]["usnat"][0];
        for field in ["SaleOptOut", "SharingOptOut", "TargetedAdvertisingOptOut"] {
            assert_eq!(core[field], 1, "{field}");
        }
        assert_eq!(core["MspaCoveredTransaction"], 2);
        assert_eq!(r["has"]["value"], true);
        assert_eq!(r["hasNot"]["value"], false);
        assert_eq!(r["section"]["value"][1]["Gpc"], gpc);
        assert_eq!(r["sectionNot"], json!({ "value": null, "ok": false }));
        assert_eq!(r["field"]["value"], 1);
        assert_eq!(r["fieldGpc"]["value"], gpc);
        assert_eq!(r["returns"], "undefined", "1.1 has no return values");
        assert_eq!(r["removed"]["value"]["data"], true);
        assert_eq!(r["heard"][0], json!(["listenerRegistered", 1, string]));
        assert_eq!(r["google"], true);
        assert_eq!(r["locators"], json!([true, true]));
        assert_eq!(r["replies"].as_array().unwrap().len(), 3, "one answer each: {r}");
        assert_eq!(r["replies"][0]["__uspapiReturn"]["returnValue"]["uspString"], "1YYN");
        let text: Value = serde_json::from_str(r["replies"][1].as_str().unwrap()).unwrap();
        assert_eq!(text["__gppReturn"], json!({ "returnValue": gpc, "success": true, "callId": "a" }));
        let text: Value = serde_json::from_str(r["replies"][2].as_str().unwrap()).unwrap();
        assert_eq!(text["__gppReturn"]["returnValue"]["gppString"], string, "JSON on several lines");
    }
}

/// A platform that is there is steered, not replaced: its own commands still
/// work, what it says and writes is turned toward the opt-out, and no assignment of it fails.
#[test]
fn a_consent_platform_is_steered_and_not_replaced() {
    let Some(browser) = chromium() else {
        return skipped("a_consent_platform_is_steered_and_not_replaced", "no chromium in PATH");
    };
    let r = seen(&browser, false, "");
    assert_eq!(r["errors"], json!([]), "{r}");
    // GPP 1.0 has it, 1.1 no more: platforms still answer it, and vendors still ask.
    assert_eq!((&r["old"]["value"]["gppString"], &r["oldReturned"]["gppString"]), (&json!(OUT), &json!(OUT)));
    assert_eq!(r["passedGpp"]["value"], "theirs x");
    assert_eq!(r["passedUsp"]["value"], "own theirs");
    assert_eq!(r["uspAfter"]["value"]["uspString"], "1YYN");
    assert_eq!(r["pingAfter"]["value"]["gppString"], OUT);
    assert!(r["heard"].as_array().unwrap().contains(&json!(["sectionChange", 1, OUT])), "{r}");
    let before = jar(&r["jar"]);
    assert_eq!(before["usprivacy"], "1YYN");
    assert_eq!(before["optgate-said-u"], "-");
    assert!(!before.contains_key("OptanonConsent"), "nothing of a platform is made up");
    let after = jar(&r["jarAfter"]);
    assert_eq!(after["optgate-said-s"], "1", "Shopify was called");
    for (name, want) in [
        ("usprivacy", "1YYN"),
        ("optgate-said-u", "1YNN"),
        ("OTGPPConsent", OUT),
        ("optgate-said-g", "DBABLA~CVQqAAAAAACA.QA"),
        ("OneTrustWPCCPAGoogleOptOut", "true"),
        ("optgate-said-t", "false"),
        ("own", "1"),
        (
            "OptanonConsent",
            "datestamp=x&groups=C0001%3A1%2CC0002%3A1%2CC0004%3A0&isGpcEnabled=1&optgate=site.test!gpc!C0004",
        ),
    ] {
        assert_eq!(after[name], want, "{name}");
    }
}

/// A platform's cookie that is there already is turned where it is: one more in another scope would leave
/// open which is read. Its expiry for a host and for a domain are two cookies to a browser (RFC 6265, 5.3).
#[test]
fn a_cookie_that_is_there_is_turned_in_its_own_scope() {
    let Some(browser) = chromium() else {
        return skipped("a_cookie_that_is_there_is_turned_in_its_own_scope", "no chromium in PATH");
    };
    for (scope, domain) in [("; Domain=site.test", "site.test"), ("", "")] {
        let line = format!(
            "Set-Cookie: OptanonConsent=isGpcEnabled=0&groups=C0001:1,C0004:1; Path=/{scope}\r\n\
             Set-Cookie: usprivacy=1YNN; Path=/{scope}\r\n"
        );
        let r = seen(&browser, false, Box::leak(line.into_boxed_str()));
        let jar = jar(&r["jar"]);
        assert_eq!(
            jar["OptanonConsent"],
            format!("groups=C0001:1,C0004:0&isGpcEnabled=1&optgate={domain}!gpc!C0004")
        );
        assert_eq!((jar["usprivacy"].as_str(), jar["optgate-said-u"].as_str()), ("1YYN", "1YNN"));
    }
}

/// Google's consent mode: consent is denied first in every layer and never granted later.
#[test]
fn googles_layer_denies_first_and_grants_nothing() {
    let Some(browser) = chromium() else {
        return skipped("googles_layer_denies_first_and_grants_nothing", "no chromium in PATH");
    };
    let r = seen(&browser, false, "");
    let layer = r["layer"].as_array().unwrap();
    let denied = json!({ "ad_storage": "denied", "ad_user_data": "denied", "ad_personalization": "denied" });
    assert_eq!(layer[0], json!(["consent", "default", denied]));
    for call in [
        json!(["set", "ads_data_redaction", true]),
        json!(["set", "restricted_data_processing", true]),
        json!(["set", "allow_ad_personalization_signals", false]),
        json!(["set", "allow_google_signals", false]),
    ] {
        let at = layer.iter().position(|entry| *entry == call);
        assert!(at.is_some_and(|at| at < 5), "{call}: {layer:?}");
    }
    assert!(layer.contains(&json!({ "page": "shop" })), "the page's own entry stays");
    assert!(layer.contains(&json!(["consent", "update", denied])));
    assert!(layer.contains(&json!(["set", { "allow_ad_personalization_signals": false }])));
    assert!(
        layer.contains(
            &json!(["consent", "default", { "ad_storage": "denied", "security_storage": "granted" }])
        ),
        "other storage is the page's"
    );
    assert_eq!(r["pushed"], 4, "the container's own push still runs");
}

/// Tag Manager and gtag.js read a layer of another name where their address says so (`l=`): it is denied as well, before
/// the container can come.
#[test]
fn a_layer_of_another_name_is_denied_too() {
    let Some(browser) = chromium() else {
        return skipped("a_layer_of_another_name_is_denied_too", "no chromium in PATH");
    };
    let r = seen(&browser, false, "");
    assert_eq!(r["errors"], json!([]), "{r}");
    let denied = json!({ "ad_storage": "denied", "ad_user_data": "denied", "ad_personalization": "denied" });
    let others = r["others"].as_array().unwrap();
    for layer in others {
        assert_eq!(layer[0], json!(["consent", "default", denied]), "{others:?}");
        assert!(layer.as_array().unwrap().contains(&json!(["set", "restricted_data_processing", true])));
    }
    let first = others[0].as_array().unwrap();
    assert!(
        first.contains(&json!({ "gtm.start": 1, "event": "gtm.js" })),
        "the page's own entry stays: {first:?}"
    );
    assert_eq!(first.last(), Some(&json!(["consent", "update", { "ad_storage": "denied" }])));
}

/// Each documented call comes before the page's own first one.
#[test]
fn restricted_vendors_are_switched_before_their_first_use() {
    let Some(browser) = chromium() else {
        return skipped("restricted_vendors_are_switched_before_their_first_use", "no chromium in PATH");
    };
    let r = seen(&browser, false, "");
    assert_eq!(r["errors"], json!([]), "{r}");
    let limited = json!(["dataProcessingOptions", ["LDU"], 0, 0]);
    let stricter = json!(["dataProcessingOptions", ["LDU"], 1, 1000]);
    assert_eq!(
        r["fbq"],
        json!([limited, limited, ["init", "1"], ["track", "PageView"], limited, stricter]),
        "what takes the limit back says it again, and one of the page's own stays"
    );
    let rdu = json!("restrict_optimization");
    assert_eq!(
        r["twq"],
        json!([
            ["config", "x1", { "restricted_data_use": rdu }],
            ["event", "e1", { "value": 1, "restricted_data_use": rdu }],
        ])
    );
    assert_eq!(
        r["gpt"],
        json!([{ "restrictDataProcessing": true }, { "restrictDataProcessing": true, "limitedAds": true }])
    );
    assert_eq!(r["chained"], true);
    let denied = json!({ "marketing": false, "sale_of_data": false });
    let wished = json!({ "marketing": false, "sale_of_data": false, "preferences": true });
    assert_eq!(r["shopify"], json!([denied, wished]));
}

/// What the public GPC crawler looks at on a site with a consent platform, before the signal
/// is sent and after; and the site's statement, which does not vary.
#[test]
fn the_public_crawlers_checks_fail_before_and_pass_after() {
    let Some(browser) = chromium() else {
        return skipped("the_public_crawlers_checks_fail_before_and_pass_after", "no chromium in PATH");
    };
    let guard = Placement { gpc: true, ..placement() }.element("");
    let run = |head: &str| result_of(&browser, CRAWLED.replace("<!--GUARD-->", head), "");
    let (before, after) = (run(""), run(&guard));
    for (check, was, is) in [
        ("gpc", Value::Null, json!(true)),
        ("uspapi", json!("1YNN"), json!("1YYN")),
        ("usprivacy", json!("1YNN"), json!("1YYN")),
        ("optanon", json!("0"), json!("1")),
        ("groups", json!("C0001:1,C0004:1"), json!("C0001:1,C0004:0")),
        ("google", json!("false"), json!("true")),
        ("gpp", json!("DBABLA~CVQqAAAAAACA.QA"), json!(OUT_GPC)),
        ("gppCookie", json!("DBABLA~CVQqAAAAAACA.QA"), json!(OUT_GPC)),
    ] {
        assert_eq!((&before[check], &after[check]), (&was, &is), "{check}");
    }
    let said = optgate::privacy::gpp::decode(after["gpp"].as_str().unwrap()).unwrap();
    assert_eq!(said[0].entries[6..9], [1, 1, 1], "sale, sharing, targeted advertising");

    let origin = shop();
    let proxy = proxy().to(&origin).run();
    for fields in ["", "Sec-GPC: 1\r\n"] {
        let answer = proxy.get("/.well-known/gpc.json", fields);
        assert_eq!((answer.status(), answer.head.one("content-type")), (200, Some("application/json")));
        assert_eq!(serde_json::from_str::<Value>(&answer.text()).unwrap()["gpc"], true);
    }
}

/// 11 CCR 7051: no contract, or no documented mode: refused at start.
#[test]
fn restrict_needs_a_contract_and_a_documented_mode() {
    for id in ["tiktok-pixel", "linkedin-insight", "criteo-onetag"] {
        assert_eq!(restricting(&[id]).unwrap_err(), PolicyError::NoRestrictedMode { id: id.into() });
    }
    for id in ["meta-pixel", "x-ads", "google-publisher-tag", "google-ads-conversion"] {
        assert!(restricting(&[id]).is_ok(), "{id}");
        let written = VendorPolicy {
            vendors: BTreeMap::from([(id.to_owned(), VendorAction::Restrict)]),
            ..VendorPolicy::default()
        };
        let refused = Policy::resolve(Arc::new(Registry::builtin().unwrap()), &written).unwrap_err();
        let action = VendorAction::Restrict;
        assert_eq!(refused, PolicyError::NeedsContract { id: id.into(), action });
    }
}

const SHOP: &str = "<!doctype html><html><head><title>Shop</title>\
     <script src=\"https://connect.facebook.net/en_US/fbevents.js\"></script></head><body>Hello</body></html>";
const STATE: &str = "isGpcEnabled=0&groups=C0001%3A1%2CC0004%3A1";

/// A browser's cookies for one host: a name may stand once for the host and once for each domain.
#[derive(Default)]
struct Browser {
    cookies: BTreeMap<(String, String), String>,
    gpc: bool,
}

impl Browser {
    fn put(&mut self, name: &str, domain: &str, value: &str) {
        self.cookies.insert((name.to_owned(), domain.to_owned()), value.to_owned());
    }

    fn value(&self, name: &str) -> Option<&str> {
        let mut all = self.cookies.iter().filter(|((known, _), _)| known == name);
        let found = all.next().map(|(_, value)| value.as_str());
        assert_eq!(all.next(), None, "{name} is there twice");
        found
    }

    /// What the page's script does for an opted-out visitor.
    fn run_script(&mut self) {
        let string = if self.gpc { OUT_GPC } else { OUT };
        if self.value("usprivacy").is_none() {
            self.put("usprivacy", "", "1YYN");
            self.put("optgate-said-u", "", "-");
        }
        if self.value("OTGPPConsent").is_some_and(|value| value != OUT && value != OUT_GPC) {
            let before = self.value("OTGPPConsent").unwrap().to_owned();
            self.put("optgate-said-g", "", &before);
            self.put("OTGPPConsent", "", string);
        }
        if self.value("OptanonConsent").is_some_and(|value| value.contains("isGpcEnabled=0")) {
            let turned = "groups=C0001%3A1%2CC0004%3A0&isGpcEnabled=1&optgate=site.test!gpc!C0004";
            self.put("OptanonConsent", "site.test", turned);
        }
    }

    fn fields(&self) -> String {
        let pairs: Vec<_> = self.cookies.iter().map(|((name, _), value)| format!("{name}={value}")).collect();
        let gpc = if self.gpc { "Sec-GPC: 1\r\n" } else { "" };
        format!("{gpc}Sec-Fetch-Dest: document\r\nAccept: text/html\r\nCookie: {}\r\n", pairs.join("; "))
    }

    fn keep(&mut self, answer: &Response) {
        for line in answer.head.all("set-cookie") {
            let mut parts = line.split("; ");
            let (name, value) = parts.next().unwrap().split_once('=').unwrap();
            let rest: Vec<_> = parts.collect();
            let domain = rest.iter().find_map(|part| part.strip_prefix("Domain=")).unwrap_or_default();
            let key = (name.to_owned(), domain.to_owned());
            if rest.contains(&"Max-Age=0") {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, value.to_owned());
            }
        }
    }

    /// Loads the shop; gives whether its answer is that of an opted-out visitor.
    fn load(&mut self, proxy: &Proxy) -> bool {
        let answer = proxy.get("/", &self.fields());
        assert_eq!(answer.status(), 200, "{}", answer.text());
        self.keep(&answer);
        let out = answer.text().contains("Opt-Out Request Honored");
        assert_eq!(out, !answer.text().contains("facebook"), "{}", answer.text());
        if out {
            self.run_script();
        }
        out
    }

    fn post(&mut self, proxy: &Proxy, path: &str, body: &str) -> Response {
        let fields = self.fields().replace("Accept: text/html", "Accept: application/json");
        let mut client = proxy.client();
        client.send(format!(
            "POST /privacy-choices/{path} HTTP/1.1\r\nHost: site.test\r\n{fields}\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let answer = client.response("POST");
        assert_eq!(answer.status(), 200, "{}", answer.text());
        self.keep(&answer);
        answer
    }

    fn opt_in(&mut self, proxy: &Proxy) {
        let asked: Value = serde_json::from_str(&self.post(proxy, "opt-in", "").text()).unwrap();
        self.post(proxy, "opt-in/confirm", &format!("token={}", asked["token"].as_str().unwrap()));
    }

    /// Fails while anything of ours is left, or the platform's state is not as it was.
    fn assert_nothing_of_ours(&self) {
        assert_eq!(self.value("usprivacy"), None);
        assert!(!self.cookies.keys().any(|(name, _)| name.starts_with("optgate-said")), "{:?}", self.cookies);
        let state = self.value("OptanonConsent").unwrap();
        assert!(state.contains("isGpcEnabled=0") && state.contains("C0004%3A1"), "{state}");
        assert!(!state.contains("optgate"), "{state}");
    }
}

fn shop() -> Origin {
    Origin::start().on("/", |x| x.ok("text/html", SHOP.as_bytes()))
}

/// The full round out -> in -> out. Our own words never hold a
/// person who opted back in, and the confirmation takes them back.
#[test]
fn the_full_round_of_choices_is_never_held_by_our_own_words() {
    let (origin, mut browser) = (shop(), Browser::default());
    let proxy = proxy().to(&origin).run();
    browser.put("OptanonConsent", "site.test", STATE);
    assert!(!browser.load(&proxy));
    for _ in 0..2 {
        browser.post(&proxy, "opt-out", "");
        assert!(browser.load(&proxy));
        assert_eq!(browser.value("usprivacy"), Some("1YYN"));
        assert!(browser.value("OptanonConsent").unwrap().contains("C0004%3A0"));
        assert!(browser.load(&proxy), "it stays so");
        browser.opt_in(&proxy);
        browser.assert_nothing_of_ours();
        assert!(!browser.load(&proxy), "opted back in");
        assert!(!browser.load(&proxy));
    }
    let sent = origin.seen(1).into_iter().filter_map(|head| head.one("cookie")).collect::<String>();
    assert!(!sent.contains("optgate-said"), "marks are between the browser and us: {sent}");
}

/// 11 CCR 7025(c)(3) and (5): the signal beats the opt-in before it, and leaves its own mark; an opt-in
/// after it holds.
#[test]
fn an_explicit_opt_in_waits_behind_the_browsers_signal() {
    let (origin, mut browser) = (shop(), Browser { gpc: true, ..Browser::default() });
    let proxy = proxy().to(&origin).run();
    browser.put("OptanonConsent", "site.test", STATE);
    assert!(browser.load(&proxy));
    browser.opt_in(&proxy);
    assert!(browser.load(&proxy), "the signal is still sent");
    assert_eq!(browser.value("usprivacy"), Some("1YYN"), "and the page says so again");
    browser.gpc = false;
    assert!(browser.load(&proxy), "its absence is no opt-in");
    browser.opt_in(&proxy);
    assert!(!browser.load(&proxy));
    browser.assert_nothing_of_ours();
}

/// A lost cookie of ours is no opt-out by a platform: what we wrote does not count, and goes. What a
/// platform wrote itself counts, also after we wrote over it.
#[test]
fn only_a_platforms_own_words_outlive_our_cookie() {
    let (origin, mut browser) = (shop(), Browser::default());
    let proxy = proxy().to(&origin).run();
    browser.put("OptanonConsent", "site.test", STATE);
    browser.post(&proxy, "opt-out", "");
    assert!(browser.load(&proxy));
    browser.cookies.retain(|(name, _), _| name != "optgate");
    assert!(!browser.load(&proxy), "our own words");
    browser.assert_nothing_of_ours();

    browser.put("OTGPPConsent", "", "DBABLA~CVQVAAAAAACA");
    assert!(browser.load(&proxy), "the platform's own string");
    assert_eq!(browser.value("OTGPPConsent"), Some(OUT), "we wrote over it");
    assert_eq!(browser.value("optgate"), None, "it never creates ours");
    assert!(browser.load(&proxy), "and it still counts");
    browser.put("OTGPPConsent", "", "DBABLA~CVQqAAAAAACA.QA");
    browser.put("optgate-said-g", "", "DBABLA~CVQqAAAAAACA.QA");
    assert!(!browser.load(&proxy), "the platform took it back");
}

/// `signals.cookies = "server"`: heads of documents carry the words too, once, and only for the opted out.
#[test]
fn a_head_carries_the_words_where_the_operator_asks() {
    let origin = shop().on("/part", |x| x.ok("text/html", b"<p>part</p>"));
    let proxy = proxy().to(&origin).toml("[signals]\ncookies = \"server\"\n").run();
    let set = |path: &str, fields: &str| proxy.get(path, fields).head.all("set-cookie").join("\n");
    let document = "Accept: text/html\r\nSec-Fetch-Dest: document\r\n";
    let first = set("/", &format!("{document}Sec-GPC: 1\r\nCookie: OptanonConsent={STATE}\r\n"));
    assert!(first.contains("usprivacy=1YYN; Path=/"), "{first}");
    assert!(first.contains("optgate-said-u=-; Path=/"), "{first}");
    let turned = "isGpcEnabled=1&optgate=site.test!C0004!gpc; Path=/; Max-Age=31536000; SameSite=Lax; Domain=site.test";
    assert!(first.contains(turned), "{first}");
    let again = set(
        "/",
        &format!(
            "{document}Sec-GPC: 1\r\nCookie: usprivacy=1YYN; optgate-said-u=-; OptanonConsent=isGpcEnabled=1\r\n"
        ),
    );
    assert!(!again.contains("usprivacy") && !again.contains("Optanon"), "{again}");
    assert!(!set("/", document).contains("usprivacy"));
    let fragment = set("/part", "Accept: */*\r\nSec-Fetch-Dest: empty\r\nSec-GPC: 1\r\n");
    assert!(!fragment.contains("usprivacy"), "{fragment}");
}
