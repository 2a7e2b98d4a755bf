//! The registry's promises: its facts agree with the reference, bad files are refused with their
//! place, and one matching rule holds everywhere.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod collectors;
mod reference;
mod refusals;

use std::collections::BTreeMap;
use std::sync::Arc;

use optgate::config::{Contract, ServiceProviders, VendorAction, VendorPolicy};
use optgate::registry::{Fault, Hit, Policy, PolicyError, Registry, Role};

use super::support::guard::default_policy;

fn builtin() -> Arc<Registry> {
    Arc::new(Registry::builtin().unwrap_or_else(|error| panic!("{error}")))
}

fn contract() -> Contract {
    Contract { entity: "Acme".into(), reference: "C-1".into(), date: "2026-01-01".into() }
}

fn with_contract(id: &str) -> VendorPolicy {
    VendorPolicy { contracts: BTreeMap::from([(id.to_owned(), contract())]), ..VendorPolicy::default() }
}

fn overridden(id: &str, action: VendorAction) -> VendorPolicy {
    VendorPolicy { vendors: BTreeMap::from([(id.to_owned(), action)]), ..VendorPolicy::default() }
}

fn contracted(id: &str, action: VendorAction) -> VendorPolicy {
    VendorPolicy { contracts: with_contract(id).contracts, ..overridden(id, action) }
}

fn named(policy: &Policy, hit: Option<Hit>) -> Option<(String, VendorAction)> {
    hit.map(|hit| (policy.registry().vendor(hit.vendor).id.clone(), hit.action))
}

fn found(id: &str, action: VendorAction) -> Option<(String, VendorAction)> {
    Some((id.to_owned(), action))
}

/// A file with one entry; `body` is what follows the fixed keys.
fn entry(id: &str, role: &str, body: &str) -> String {
    format!(
        "schema = 1\n\n[[vendor]]\nid = \"{id}\"\nvendor = \"Acme\"\nproduct = \"Acme\"\n\
         role = \"{role}\"\ncategory = \"advertising\"\n{body}\n"
    )
}

/// The words of the error that a file of this name and text is refused with.
fn refusal(text: &str) -> (String, Fault) {
    let error = Registry::with_files(&[("mine.toml", text)]).expect_err("the file must be refused");
    (error.to_string(), *error.fault)
}

#[test]
fn the_built_in_registry_loads_and_its_version_is_twelve_hex_digits() {
    let registry = builtin();
    assert_eq!(registry.version().len(), 12);
    assert!(registry.version().bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(registry.version(), builtin().version(), "the version depends on the text alone");
}

/// Whoever sells or shares goes; a tag manager is held; what a site cannot do without is never touched.
#[test]
fn every_role_has_its_default_action() {
    let policy = default_policy();
    for (host, path, id, action) in [
        ("connect.facebook.net", "/en_US/fbevents.js", "meta-pixel", VendorAction::Strip),
        ("www.googletagmanager.com", "/gtm.js?id=GTM-X", "google-tag-manager", VendorAction::Restrict),
        ("www.googletagmanager.com", "/gtag/js?id=G-X", "google-gtag", VendorAction::Restrict),
        ("www.googletagmanager.com", "/td?id=AW-1", "google-tag-ads", VendorAction::Strip),
        ("static.hotjar.com", "/c/hotjar-1.js", "hotjar", VendorAction::Strip),
        ("js.stripe.com", "/v3/", "payments", VendorAction::Allow),
    ] {
        let hit = policy.match_url(host, path);
        assert_eq!(named(&policy, hit), found(id, action), "{host}{path}");
    }
    assert_eq!(policy.match_url("www.example.com", "/"), None);
}

#[test]
fn service_providers_follow_the_setting_and_tag_managers_stay_restricted() {
    for (setting, expected) in
        [(ServiceProviders::Allow, VendorAction::Allow), (ServiceProviders::Strip, VendorAction::Strip)]
    {
        let written = VendorPolicy { service_providers: setting, ..VendorPolicy::default() };
        let policy = Policy::resolve(builtin(), &written).unwrap();
        let action = |id| policy.action(policy.registry().lookup_id(id).unwrap());
        assert_eq!(action("hotjar"), expected);
        assert_eq!(action("meta-pixel"), VendorAction::Strip);
        assert_eq!(action("google-tag-manager"), VendorAction::Restrict);
        assert!(policy.contract_would_allow().is_empty(), "no contract changes anything under {setting:?}");
    }
}

#[test]
fn a_contract_allows_its_service_provider_and_the_rest_is_listed() {
    let policy = Policy::resolve(builtin(), &with_contract("hotjar")).unwrap();
    let hotjar = policy.registry().lookup_id("hotjar").unwrap();
    assert_eq!(policy.action(hotjar), VendorAction::Allow);
    let waiting = policy.contract_would_allow();
    assert!(waiting.contains(&"fullstory") && !waiting.contains(&"hotjar"));
    assert!(!waiting.contains(&"meta-pixel"), "a contract alone never turns a sale into a service");
    assert!(!waiting.contains(&"google-tag-manager"), "a tag manager is not stripped");
    let sale = Policy::resolve(builtin(), &with_contract("meta-pixel")).unwrap();
    assert_eq!(sale.action(sale.registry().lookup_id("meta-pixel").unwrap()), VendorAction::Strip);
}

#[test]
fn an_override_wins_and_a_path_may_have_its_own() {
    let policy = Policy::resolve(builtin(), &overridden("hotjar", VendorAction::Allow)).unwrap();
    let hotjar = policy.registry().lookup_id("hotjar").unwrap();
    assert_eq!(policy.action(hotjar), VendorAction::Allow);
    assert!(!policy.contract_would_allow().contains(&"hotjar"));
    let path = BTreeMap::from([("hotjar".to_owned(), VendorAction::Strip)]);
    let there = policy.with_overrides(&path).unwrap();
    assert_eq!(there.action(hotjar), VendorAction::Strip);
    assert_eq!(policy.action(hotjar), VendorAction::Allow, "the site's own policy is left as it was");
    assert!(
        there.match_cookie(b"_hjSessionUser_1").is_some()
            && policy.match_cookie(b"_hjSessionUser_1").is_none()
    );
    let sale = Policy::resolve(builtin(), &contracted("meta-pixel", VendorAction::Allow)).unwrap();
    assert_eq!(sale.allowed_sale_share(), ["meta-pixel"]);
}

/// 11 CCR 7051: without a contract a sale/share vendor stays a third party, in whatever mode it runs, and wherever the
/// setting stands.
#[test]
fn a_sale_share_vendor_stays_by_its_contract_only() {
    for action in [VendorAction::Restrict, VendorAction::Allow] {
        let written = overridden("meta-pixel", action);
        let refused = Policy::resolve(builtin(), &written).unwrap_err();
        assert_eq!(refused, PolicyError::NeedsContract { id: "meta-pixel".into(), action });
        let words = refused.to_string();
        assert!(words.contains("contracts.meta-pixel") && words.contains(action.as_str()), "{words}");
        assert_eq!(default_policy().with_overrides(&written.vendors).unwrap_err(), refused, "for a path");
        let policy = Policy::resolve(builtin(), &contracted("meta-pixel", action)).unwrap();
        let hit = policy.match_url("www.facebook.com", "/tr?id=1");
        assert_eq!(named(&policy, hit), found("meta-pixel", action));
        assert!(policy.with_overrides(&written.vendors).is_ok());
    }
    let list = Policy::resolve(builtin(), &overridden("operator-list", VendorAction::Allow)).unwrap();
    assert!(list.allowed_sale_share().is_empty(), "nobody can have a contract with a list");
}

/// 11 CCR 7025(c)(4): who keeps a programme has said so in two acts, which stands where a contract would have to.
#[test]
fn a_programmes_vendors_need_no_contract() {
    let kept = default_policy().with_programme(&["meta-pixel".to_owned()]).unwrap();
    assert_eq!(kept.allowed_sale_share(), ["meta-pixel"]);
    assert!(default_policy().with_programme(&["meta-pixle".to_owned()]).is_err());
}

#[test]
fn an_unknown_id_is_refused_with_the_nearest_one() {
    let overriding = Policy::resolve(builtin(), &overridden("meta-pixle", VendorAction::Strip)).unwrap_err();
    assert!(overriding.to_string().contains("did you mean `meta-pixel`?"), "{overriding}");
    let contracted = Policy::resolve(builtin(), &with_contract("hotjarr")).unwrap_err();
    assert!(contracted.to_string().contains("did you mean `hotjar`?"), "{contracted}");
    let path = BTreeMap::from([("zzzz".to_owned(), VendorAction::Strip)]);
    let far = default_policy().with_overrides(&path).unwrap_err();
    assert_eq!(far, PolicyError::UnknownVendor { id: "zzzz".into(), nearest: None });
}

#[test]
fn an_essential_vendor_cannot_be_stripped_or_restricted() {
    for action in [VendorAction::Strip, VendorAction::Restrict] {
        let refused = Policy::resolve(builtin(), &overridden("payments", action)).unwrap_err();
        assert_eq!(refused, PolicyError::Essential { id: "payments".into(), action });
    }
    assert!(Policy::resolve(builtin(), &overridden("payments", VendorAction::Allow)).is_ok());
}

/// Most specific host that has a rule for the path, then its longest path.
#[test]
fn the_most_specific_host_wins_and_then_the_longest_path() {
    let policy = default_policy();
    for (host, path, id) in [
        ("fls.doubleclick.net", "/activityi;src=1", "google-doubleclick"),
        ("securepubads.g.doubleclick.net", "/tag/js/gpt.js", "google-publisher-tag"),
        ("securepubads.g.doubleclick.net", "/other", "google-doubleclick"),
        ("tt.omtrdc.net", "/x", "adobe-target"),
        ("x.omtrdc.net", "/x", "adobe-analytics"),
        ("cdn.jsdelivr.net", "/npm/prebid.js@9/dist/prebid.js", "prebid"),
        ("cdn.jsdelivr.net", "/npm/jquery@3", "listing-misc-edge"),
        ("www.google.com", "/recaptcha/api.js", "recaptcha-turnstile"),
        ("www.google.com", "/pagead/1p-user-list/1", "google-ads-conversion"),
        ("www.facebook.com", "/v18.0/plugins/like.php", "facebook-sdk"),
    ] {
        let hit = policy.match_url(host, path);
        assert_eq!(named(&policy, hit).map(|(id, _)| id), Some(id.to_owned()), "{host}{path}");
    }
    for (host, path) in [
        ("www.facebook.com", "/track"),
        ("www.facebook.com", "/somebody"),
        ("www.google.com", "/search?q=/pagead/"),
        ("notfacebook.com", "/tr"),
        ("facebook.com.example.org", "/tr"),
        // Host and path of a first-party URL; the tracker stands only in its query or path.
        ("www.example.com", "/_next/image?url=https://www.facebook.com/tr"),
        ("www.example.com", "/https://www.facebook.com/tr?id=1"),
    ] {
        assert_eq!(policy.match_url(host, path), None, "{host}{path}");
    }
}

#[test]
fn an_explanation_names_the_rule() {
    let registry = builtin();
    let why = registry.explain("www.facebook.com", "/tr?id=1").unwrap();
    assert_eq!(
        (why.id, why.role, why.host, why.path),
        ("meta-pixel", Role::SaleShare, "facebook.com", "/tr")
    );
    let any = registry.explain("x.criteo.com", "/any").unwrap();
    assert_eq!((any.host, any.path), ("criteo.com", "/"));
    assert_eq!(registry.explain("www.facebook.com", "/about"), None);
    let json = serde_json::to_value(registry.vendor(why.vendor)).unwrap();
    assert_eq!((&json["role"], &json["category"]), (&"sale-share".into(), &"social_pixel".into()));
}

/// Hints without a path go when any path of that host is strip and none is essential.
#[test]
fn a_hint_goes_when_a_path_of_its_host_is_strip_and_none_is_essential() {
    let policy = default_policy();
    let action = |policy: &Policy, host: &str| policy.match_host(host).map(|hit| hit.action);
    for (host, expected) in [
        ("connect.facebook.net", Some(VendorAction::Strip)),
        ("www.facebook.com", Some(VendorAction::Strip)),
        ("ad.doubleclick.net", Some(VendorAction::Strip)),
        ("www.googletagmanager.com", Some(VendorAction::Strip)),
        ("www.google.com", Some(VendorAction::Allow)),
        ("cdn.jsdelivr.net", Some(VendorAction::Allow)),
        ("fonts.gstatic.com", Some(VendorAction::Allow)),
        ("tags.tiqcdn.com", Some(VendorAction::Restrict)),
        ("assets.adobedtm.com", Some(VendorAction::Restrict)),
        ("www.example.com", None),
    ] {
        assert_eq!(action(&policy, host), expected, "{host}");
    }
    // Adobe Analytics may stay, but every other path of the host is the audience manager's.
    let allowed = Policy::resolve(builtin(), &with_contract("adobe-analytics")).unwrap();
    assert_eq!(
        named(&allowed, allowed.match_url("dpm.demdex.net", "/id")),
        found("adobe-analytics", VendorAction::Allow)
    );
    assert_eq!(action(&allowed, "dpm.demdex.net"), Some(VendorAction::Strip));
}

#[test]
fn an_inline_snippet_is_known_by_its_marker_and_the_strongest_action_wins() {
    let policy = default_policy();
    for (script, expected) in [
        ("!function(f){f.fbq('init','1')}(window)", found("meta-pixel", VendorAction::Strip)),
        (
            "(function(w){w.push({'gtm.start':1})})(window)",
            found("google-tag-manager", VendorAction::Restrict),
        ),
        ("push({'gtm.start':1});fbq('init','1')", found("meta-pixel", VendorAction::Strip)),
        (r#"{"u":"https:\u002F\u002Fx\u002Ffbevents.js"}"#, found("meta-pixel", VendorAction::Strip)),
        ("ttq.load('C1')", found("tiktok-pixel", VendorAction::Strip)),
    ] {
        assert_eq!(named(&policy, policy.match_inline(script.as_bytes())), expected, "{script}");
    }
    for innocent in [
        "",
        "ga('send')",
        "var FB = 1, s = 2; s.t()",
        "load('chat.js'); load('format.js')",
        "status_code == 200",
        "title = 'G-Star AW-shucks DC-10'",
        "\u{fc}ber",
        "xfbq.init()",
    ] {
        assert_eq!(policy.match_inline(innocent.as_bytes()), None, "{innocent}");
    }
    assert_eq!(policy.match_inline(b"\xff\xfe\x00"), None);
}

#[test]
fn a_tracker_cookie_matches_unless_its_vendor_is_allowed_or_it_must_never_go() {
    let policy = default_policy();
    for (name, id) in [
        ("_fbp", "meta-pixel"),
        ("_gcl_au", "google-tag-ads"),
        ("_ga_ABC123", "google-analytics-4"),
        ("mp_1_mixpanel", "mixpanel"),
    ] {
        let hit = policy.match_cookie(name.as_bytes());
        assert_eq!(named(&policy, hit), found(id, VendorAction::Strip), "{name}");
    }
    for name in
        ["OptanonConsent", "usprivacy", "_px3", "_sp_v1_x", "__stripe_mid", "optgate", "session", "", "_fbpx"]
    {
        assert_eq!(policy.match_cookie(name.as_bytes()), None, "{name}");
    }
    assert_eq!(policy.match_cookie(b"\xff"), None);
    let allowed = Policy::resolve(builtin(), &with_contract("mixpanel")).unwrap();
    assert_eq!(allowed.match_cookie(b"mp_1_mixpanel"), None);
    // A contract keeps what its vendor works with: without `_ga` every page is a new visitor's.
    let kept = Policy::resolve(builtin(), &with_contract("google-analytics-4")).unwrap();
    assert_eq!((kept.match_cookie(b"_ga"), kept.match_cookie(b"_ga_ABC123")), (None, None));
    // Shared with a vendor that is not allowed: it goes all the same.
    let shared = "schema = 1\n[[vendor]]\nid = \"site-ga\"\nvendor = \"x\"\nproduct = \"x\"\nrole = \"sale-share\"\n\
                  category = \"analytics\"\nhosts = [{ host = \"ga.example\" }]\nfirst_party_cookies = [\"_ga\"]\n";
    let shared = Arc::new(Registry::with_files(&[("own.toml", shared)]).unwrap());
    let shared = Policy::resolve(shared, &with_contract("google-analytics-4")).unwrap();
    assert_eq!(named(&shared, shared.match_cookie(b"_ga")), found("site-ga", VendorAction::Strip));
}

#[test]
fn click_and_person_identifiers_match_and_campaign_labels_do_not() {
    let policy = default_policy();
    for name in ["gclid", "fbclid", "mc_eid", "_gl", "ajs_trait_email", "mkt_tok"] {
        assert!(policy.match_link_param(name), "{name}");
    }
    for name in ["utm_source", "utm_id", "q", "id", "page", "", "GCLID"] {
        assert!(!policy.match_link_param(name), "{name}");
    }
    let allowed = Policy::resolve(builtin(), &with_contract("marketo")).unwrap();
    assert!(!allowed.match_link_param("mkt_tok"), "an allowed vendor keeps its own parameter");
}
