//! The guard in the browser and the server judge alike: the same table, the same rule.

use std::fmt::Debug;
use std::sync::Arc;

use optgate::config::{Contract, ServiceProviders, Unknown, VendorAction, VendorPolicy};
use optgate::registry::{Policy, Registry, unknown};
use serde::Serialize;

use super::support::browser::{Browser, SIGNAL};
use super::support::guard::default_policy;
use super::support::origin::Origin;
use super::support::proxy::proxy;
use super::support::random::Random;

/// Sets each address on an element that stands nowhere, so that nothing is fetched, and notes whether the
/// guard let it stay.
const PAGE: &str = "<!doctype html><title>verdicts</title><script>
window.done = fetch('/items.json').then(answer => answer.json()).then(addresses => {
  const source = document.createElement('source'), hint = document.createElement('link');
  hint.rel = 'preconnect';
  window.verdicts = addresses.map(([kind, address]) => {
    const [element, name] = kind == 'hint' ? [hint, 'href'] : [source, 'src'];
    element.setAttribute(name, address);
    return element.getAttribute(name) == address ? '0' : '1';
  }).join('');
});
</script>";

/// Made-up addresses beside those of the registry.
const MADE_UP: usize = 10_000;

/// Every host and path of the registry with its neighbours, then made-up mixtures of their parts.
fn addresses(registry: &Registry) -> Vec<(&'static str, String)> {
    let rules: Vec<_> = registry.vendors().flat_map(|(_, vendor)| &vendor.hosts).collect();
    let mut all = Vec::new();
    for rule in &rules {
        for host in [rule.host.clone(), format!("www.{}", rule.host), format!("x{}", rule.host)] {
            all.push(("hint", format!("https://{host}")));
            all.push(("socket", format!("wss://{host}/any")));
            for path in rule.paths.iter().map(|path| path.replace('*', "any")) {
                for end in ["", "/", "?q=1", "more", "/more?q=/tr", ";q"] {
                    all.push(("url", format!("https://{host}{path}{end}")));
                }
                for spelled in spellings(&path) {
                    all.push(("url", format!("https://{host}{spelled}")));
                }
            }
        }
    }
    let hosts: Vec<&str> = rules.iter().map(|rule| rule.host.as_str()).collect();
    let paths: Vec<&str> = rules.iter().flat_map(|rule| rule.paths.iter().map(String::as_str)).collect();
    let labels: Vec<&str> = hosts.iter().flat_map(|host| host.split('.')).collect();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for _ in 0..MADE_UP {
        let before = random.one_of(&["", "", "a.", "cdn.a."]);
        let label = random.one_of(&labels);
        let host = match random.one_of(&["own", "own", "label", "cut"]) {
            "own" => format!("{before}{}", random.one_of(&hosts)),
            "label" => format!("{before}{label}.{}", random.one_of(&["com", "net", "io"])),
            _ => format!("{label}{}", random.one_of(&hosts)),
        };
        let path = random.one_of(&paths).replace('*', random.one_of(&["", "x", "x/y", "?"]));
        let more =
            random.one_of(&["", "x", "/x", "?x", "#x", "//x", "/../x", ";x", "%2f", "%78", "%zz//?%74"]);
        let path = match random.below(4) {
            3 => path,
            other => spellings(&path).swap_remove(other),
        };
        let kind = random.one_of(&["url", "url", "hint", "socket"]);
        let scheme = if kind == "socket" { "wss" } else { "https" };
        all.push((kind, format!("{scheme}://{host}{path}{more}")));
    }
    all
}

/// Other ways to write a path, which servers take for it.
fn spellings(path: &str) -> Vec<String> {
    let coded = |from: usize| -> String {
        let all = path.bytes().enumerate();
        all.map(
            |(at, b)| if at < from || b == b'/' { char::from(b).to_string() } else { format!("%{b:02x}") },
        )
        .collect()
    };
    vec![path.replace('/', "//"), coded(0), coded(path.len() - 1)]
}

/// What the server does with it, on the page's host.
fn strips(policy: &Policy, kind: &str, address: &str) -> bool {
    let url = url::Url::parse(address).unwrap();
    let host = url.host_str().unwrap().trim_end_matches('.');
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let unknown = || policy.match_unknown(host, "site.test");
    let of_path = || policy.match_url(host, &path).or_else(unknown);
    let of_host = policy.match_host(host).or_else(unknown);
    let hit = match kind {
        _ if host == "site.test" => None,
        "url" => of_path(),
        "socket" => of_host,
        // A hint goes by its host, and like any address by its path.
        _ => of_host.filter(|hit| hit.action == VendorAction::Strip).or_else(of_path),
    };
    hit.is_some_and(|hit| hit.action == VendorAction::Strip)
}

/// Has a page judge each of these under these settings of a site with these hosts, in whose place in `window.verdicts` it says whether it goes, and
/// fails unless the server says the same, and more than `margin` of them go and more than `margin` stay.
fn judged_alike<T: Serialize + Debug>(
    browser: &Arc<Browser>,
    (settings, hosts): (&str, &[String]),
    page: &'static str,
    items: &[T],
    goes: impl Fn(&T) -> bool,
    margin: usize,
) {
    let json = serde_json::to_vec(items).unwrap();
    let origin = Origin::start()
        .on("/verdicts", |x| x.ok("text/html", page.as_bytes()))
        .on("/items.json", move |x| x.ok("application/json", &json));
    let site = match hosts {
        [] => format!("upstream = {}\n", origin.toml()),
        hosts => format!("[[sites]]\nhosts = {hosts:?}\nupstream = {}\n", origin.toml()),
    };
    let proxy = proxy().toml(&site).toml(settings).run();
    let mut tab = browser.tab(proxy.addr(), SIGNAL);
    tab.open("http://site.test/verdicts");
    let verdicts = tab.text("window.verdicts");
    assert_eq!(verdicts.len(), items.len());
    let judged = items.iter().zip(verdicts.chars());
    let wrong: Vec<_> = judged.filter(|(item, verdict)| goes(item) != (*verdict == '1')).collect();
    let gone = verdicts.matches('1').count();
    println!("verdicts: {} items, {gone} go, {} differ", items.len(), wrong.len());
    assert!(gone > margin && gone < items.len() - margin);
    assert!(wrong.is_empty(), "{:#?}", &wrong[..wrong.len().min(20)]);
}

/// Every host and path of the registry, hints and sockets included, and 10,000 addresses beside them.
#[test]
fn the_guard_and_the_server_judge_every_address_alike() {
    let Some(browser) = Browser::shared("the_guard_and_the_server_judge_every_address_alike") else { return };
    let policy = default_policy();
    let addresses = addresses(policy.registry());
    judged_alike(
        &browser,
        ("", &[]),
        PAGE,
        &addresses,
        |(kind, address)| strips(&policy, kind, address),
        1_000,
    );
}

/// The same where contracts and settings of the operator's own allow, restrict and strip.
#[test]
fn the_guard_and_the_server_judge_alike_under_other_policies() {
    let Some(browser) = Browser::shared("the_guard_and_the_server_judge_alike_under_other_policies") else {
        return;
    };
    let signed = || Contract { entity: "Own".into(), reference: "1".into(), date: "2026-01-31".into() };
    let contracts = ["hotjar", "google-analytics-4", "meta-pixel"].map(|id| (id.to_owned(), signed())).into();
    let vendors = [
        ("meta-pixel", VendorAction::Restrict),
        ("google-gtag", VendorAction::Strip),
        ("microsoft-clarity", VendorAction::Allow),
    ];
    let vendors = vendors.map(|(id, action)| (id.to_owned(), action)).into();
    let contract = "{ entity = \"Own\", reference = \"1\", date = \"2026-01-31\" }";
    let own = format!(
        "[vendors]\nmeta-pixel = \"restrict\"\ngoogle-gtag = \"strip\"\nmicrosoft-clarity = \"allow\"\n[contracts]\n\
         hotjar = {contract}\ngoogle-analytics-4 = {contract}\nmeta-pixel = {contract}\n"
    );
    for (settings, policy) in [
        (
            "service_providers = \"allow\"\n",
            VendorPolicy { service_providers: ServiceProviders::Allow, ..VendorPolicy::default() },
        ),
        (
            "service_providers = \"strip\"\n",
            VendorPolicy { service_providers: ServiceProviders::Strip, ..VendorPolicy::default() },
        ),
        (own.as_str(), VendorPolicy { contracts, vendors, ..VendorPolicy::default() }),
    ] {
        let policy = Policy::resolve(Arc::new(Registry::builtin().unwrap()), &policy).unwrap();
        let addresses = addresses(policy.registry());
        judged_alike(
            &browser,
            (settings, &[]),
            PAGE,
            &addresses,
            |(kind, address)| strips(&policy, kind, address),
            1_000,
        );
    }
}

/// The same where what nobody knows goes: beside the registry's hosts those of the site and of its group, known ones, and
/// their neighbours.
#[test]
fn the_guard_and_the_server_judge_alike_where_what_nobody_knows_goes() {
    let test = "the_guard_and_the_server_judge_alike_where_what_nobody_knows_goes";
    let Some(browser) = Browser::shared(test) else { return };
    let known = ["known.example", "facebook.com", "d111.cloudfront.net", "10.0.0.7"].map(str::to_owned);
    let written = format!("unknown = \"strip\"\nknown = {known:?}\n");
    let hosts = ["site.test", "*.shop.example"].map(str::to_owned);
    let own = VendorPolicy { unknown: Unknown::Strip, known: known.to_vec(), ..VendorPolicy::default() };
    let vendors = [
        ("google-tag-manager", VendorAction::Strip),
        (unknown::VENDOR, VendorAction::Strip),
        ("operator-list", VendorAction::Allow),
    ];
    let vendors = vendors.map(|(id, action)| (id.to_owned(), action)).into();
    let allowing =
        VendorPolicy { service_providers: ServiceProviders::Allow, vendors, ..VendorPolicy::default() };
    let by_vendor = "service_providers = \"allow\"\n[vendors]\ngoogle-tag-manager = \"strip\"\n\
                     unknown-third-party = \"strip\"\noperator-list = \"allow\"\n";
    for (settings, policy, hosts) in [
        (written.as_str(), own.clone(), &[][..]),
        (written.as_str(), own, &hosts[..]),
        (by_vendor, allowing, &[]),
    ] {
        let policy = VendorPolicy { own: hosts.to_vec(), ..policy };
        let policy = Policy::resolve(Arc::new(Registry::builtin().unwrap()), &policy).unwrap();
        let mut addresses = addresses(policy.registry());
        let beside =
            ["site.test", "shop.example", "www.w3.org", "127.0.0.1", "[::1]", "localhost", "constructor"];
        for host in known.iter().map(String::as_str).chain(beside) {
            for host in
                [host.to_owned(), format!("a.b.{host}"), format!("x{host}"), format!("{host}.example")]
            {
                // Not every mixture is a host.
                if url::Url::parse(&format!("https://{host}/")).is_ok() {
                    addresses.push(("hint", format!("https://{host}")));
                    addresses.push(("socket", format!("wss://{host}/any")));
                    addresses.extend(
                        ["/", "/tr?id=1", "/any.js"].map(|path| ("url", format!("https://{host}{path}"))),
                    );
                }
            }
        }
        judged_alike(
            &browser,
            (settings, hosts),
            PAGE,
            &addresses,
            |(kind, address)| strips(&policy, kind, address),
            500,
        );
    }
}

/// Sets each cookie, notes whether it is there, and ends it.
const COOKIES: &str = "<!doctype html><title>cookies</title><script>
window.done = fetch('/items.json').then(answer => answer.json()).then(names => {
  window.verdicts = names.map(name => {
    document.cookie = name + '=1';
    const there = document.cookie.split('; ').includes(name + '=1');
    document.cookie = name + '=; max-age=0';
    return there ? '0' : '1';
  }).join('');
});
</script>";

/// The browser knows names by their hashes: those of the registry, those that stay, and neighbours.
#[test]
fn the_guard_and_the_server_judge_every_cookie_alike() {
    let Some(browser) = Browser::shared("the_guard_and_the_server_judge_every_cookie_alike") else { return };
    let policy = default_policy();
    let patterns: Vec<&String> =
        policy.registry().vendors().flat_map(|(_, vendor)| &vendor.first_party_cookies).collect();
    let mut names: Vec<String> = patterns
        .iter()
        .flat_map(|pattern| ["", "x", "a.b"].map(|any| pattern.replace('*', any)))
        .flat_map(|name| [name.clone(), format!("{name}x"), format!("x{name}"), name.to_lowercase()])
        .collect();
    // What consent tools are told, the guard writes in words of its own.
    let steered = ["usprivacy", "OTGPPConsent", "OptanonConsent", "OneTrustWPCCPAGoogleOptOut"];
    names.retain(|name| !name.is_empty() && !steered.contains(&name.as_str()));
    names.sort();
    names.dedup();
    let goes = |name: &String| {
        policy.match_cookie(name.as_bytes()).is_some_and(|hit| hit.action != VendorAction::Allow)
    };
    judged_alike(&browser, ("", &[]), COOKIES, &names, goes, 500);
}
