//! Registry files of an operator: what they may do, and how a bad one is refused.

use std::sync::Arc;

use optgate::config::{VendorAction, VendorPolicy};
use optgate::registry::{Fault, Policy, PolicyError, Registry, Role};

use super::{builtin, contracted, entry, refusal};

/// Whether a fault is the one that a case must bring.
type Expected = fn(&Fault) -> bool;

#[test]
fn a_file_adds_entries_and_replaces_whole_ones() {
    let mine =
        entry("acme-pixel", "sale-share", "hosts = [{ host = \"px.acme-ads.com\", paths = [\"/p*\"] }]");
    let hotjar = entry("hotjar", "essential", "hosts = [{ host = \"hotjar.com\" }]");
    let registry = Registry::with_files(&[("a.toml", &mine), ("b.toml", &hotjar)]).unwrap();
    assert_eq!(registry.explain("px.acme-ads.com", "/pixel").map(|why| why.id), Some("acme-pixel"));
    assert_eq!(registry.explain("hotjar.com", "/").map(|why| why.role), Some(Role::Essential));
    assert_eq!(registry.explain("hotjar.io", "/"), None, "the earlier entry is gone as a whole");
    assert_eq!(registry.vendors().len(), builtin().vendors().len() + 1);
    assert_eq!(registry.lookup_id("hotjar"), builtin().lookup_id("hotjar"), "it keeps its position");
    assert_ne!(registry.version(), builtin().version());
}

#[test]
fn the_last_of_several_files_is_on_top_and_lists_are_added_to() {
    let first = entry("acme", "sale-share", "first_party_cookies = [\"_acme\", \"_keep\"]");
    let second = format!(
        "never_delete = [\"_keep\"]\n{}",
        entry("acme", "service-provider", "first_party_cookies = [\"_acme\", \"_keep\"]")
    );
    let registry = Registry::with_files(&[("a.toml", &first), ("b.toml", &second)]).unwrap();
    assert_eq!(registry.vendor(registry.lookup_id("acme").unwrap()).role, Role::ServiceProvider);
    let policy = Policy::resolve(Arc::new(registry), &VendorPolicy::default()).unwrap();
    assert!(policy.match_cookie(b"_acme").is_some() && policy.match_cookie(b"_keep").is_none());
}

#[test]
fn comments_do_not_change_the_version_but_facts_do() {
    let plain = entry("acme", "sale-share", "hosts = [{ host = \"acme-ads.com\" }]");
    let version = |text: &str| Registry::with_files(&[("a.toml", text)]).unwrap().version().to_owned();
    assert_eq!(version(&plain), version(&format!("# a comment\n{plain}")));
    assert_ne!(version(&plain), version(&plain.replace("acme-ads.com", "acme-ads.net")));
}

/// Refused with file and line when two entries of equal rank ask for different actions.
#[test]
fn a_collision_is_refused_with_both_places() {
    let text =
        entry("acme", "essential", "hosts = [\n  { host = \"facebook.com\", paths = [\"/x\", \"/tr\"] },\n]");
    let (words, fault) = refusal(&text);
    assert!(words.starts_with("mine.toml:10:43: `facebook.com/tr` is essential for `acme`"), "{words}");
    assert!(words.contains("but sale-share for `meta-pixel` at config/registry/social.toml:"), "{words}");
    assert!(words.contains("  10 |   { host = \"facebook.com\", paths = [\"/x\", \"/tr\"] },"), "{words}");
    assert!(words.contains("hint: "), "{words}");
    assert!(matches!(fault, Fault::Collision { here: Role::Essential, there: Role::SaleShare, .. }));
    let same = entry("acme", "essential", "hosts = [{ host = \"criteo.com\", paths = [\"/*\"] }]");
    assert!(matches!(refusal(&same).1, Fault::Collision { .. }), "`/*` and every path are the same rule");
}

#[test]
fn entries_of_one_role_may_share_a_path_until_their_actions_differ() {
    let text = entry("acme", "sale-share", "hosts = [{ host = \"criteo.com\" }]");
    let registry = Arc::new(Registry::with_files(&[("a.toml", &text)]).unwrap());
    let policy = Policy::resolve(registry.clone(), &VendorPolicy::default()).unwrap();
    assert_eq!(policy.match_url("criteo.com", "/").map(|hit| hit.action), Some(VendorAction::Strip));
    let differing = Policy::resolve(registry, &contracted("acme", VendorAction::Allow)).unwrap_err();
    assert!(matches!(&differing, PolicyError::Shared { host, .. } if host == "criteo.com"), "{differing}");
}

#[test]
fn a_mixed_use_host_without_a_path_is_refused() {
    for host in [
        "facebook.com",
        "www.google.com",
        "google.de",
        "s3-eu-west-1.amazonaws.com",
        "cloudfront.net",
        "x.com",
    ] {
        for paths in ["", ", paths = [\"/\"]", ", paths = [\"/ok\", \"/*\"]"] {
            let text = entry("acme", "sale-share", &format!("hosts = [{{ host = \"{host}\"{paths} }}]"));
            let (words, fault) = refusal(&text);
            assert_eq!(fault, Fault::MixedUse(host.into()), "{words}");
            assert!(words.starts_with("mine.toml:9:19: "), "{words}");
        }
    }
    let own = entry("acme", "sale-share", "hosts = [{ host = \"d123.cloudfront.net\" }]");
    assert!(
        Registry::with_files(&[("a.toml", &own)]).is_ok(),
        "a customer's own name there is one product's"
    );
}

#[test]
fn a_malformed_host_is_refused_where_it_stands() {
    for host in [
        "Acme.com",
        "https://acme.com",
        "*.acme.com",
        "acme.com:443",
        "acme..com",
        "com",
        "co.uk",
        "10.0.0.1",
    ] {
        let text = entry("acme", "sale-share", &format!("hosts = [{{ host = \"{host}\" }}]"));
        let (words, fault) = refusal(&text);
        assert!(matches!(fault, Fault::Host { .. }), "{words}");
        assert!(words.starts_with(&format!("mine.toml:9:19: `{host}` is not a host: ")), "{words}");
    }
}

#[test]
fn a_bad_path_is_refused() {
    for path in ["", "pixel", "/p?x=1", "/p#x", "/p q"] {
        let text = entry(
            "acme",
            "sale-share",
            &format!("hosts = [{{ host = \"acme.com\", paths = [\"{path}\"] }}]"),
        );
        let (words, fault) = refusal(&text);
        assert!(matches!(fault, Fault::Path { .. }), "{words}");
        assert!(words.starts_with("mine.toml:9:40: "), "{words}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    for (body, place, nearest) in [
        ("host = []", "9:1", "hosts"),
        ("hosts = [{ hosst = \"a.com\" }]", "9:12", "host"),
        ("inline_marker = []", "9:1", "inline_markers"),
    ] {
        let (words, _) = refusal(&entry("acme", "sale-share", body));
        assert!(words.starts_with(&format!("mine.toml:{place}: unknown key ")), "{words}");
        assert!(words.contains(&format!("did you mean `{nearest}`?")), "{words}");
    }
    let (words, _) = refusal("schema = 1\nnever_deleted = []\n");
    assert!(words.starts_with("mine.toml:2:1: ") && words.contains("`never_delete`"), "{words}");
}

#[test]
fn an_id_twice_in_one_file_is_refused_with_both_places() {
    let one = entry("acme", "sale-share", "");
    let twice = format!("{one}{}", one.replace("schema = 1\n", ""));
    let (words, fault) = refusal(&twice);
    assert!(matches!(fault, Fault::DuplicateId { .. }), "{words}");
    assert!(words.starts_with("mine.toml:12:6: ") && words.contains("mine.toml:4:6"), "{words}");
}

#[test]
fn wrong_types_missing_keys_and_bad_words_are_refused() {
    let whole = entry("acme", "sale-share", "");
    let cases: [(String, Expected); 12] = [
        (whole.replace("schema = 1", ""), |f| *f == Fault::Schema),
        (whole.replace("schema = 1", "schema = 2"), |f| *f == Fault::Schema),
        ("schema = 1\nx = = 2".into(), |f| matches!(f, Fault::Syntax(_))),
        (whole.replace("role = \"sale-share\"\n", ""), |f| *f == Fault::Missing("role")),
        (whole.replace("\"sale-share\"", "\"sale\""), |f| *f == Fault::Role("sale".into())),
        (whole.replace("\"advertising\"", "\"ads\""), |f| *f == Fault::Category("ads".into())),
        (whole.replace("\"acme\"", "\"Acme Pixel\""), |f| matches!(f, Fault::Id(_))),
        (whole.replace("vendor = \"Acme\"", "vendor = \"\""), |f| *f == Fault::Empty("vendor")),
        (whole.replace("vendor = \"Acme\"", "vendor = 3"), |f| {
            matches!(f, Fault::Type { key: "vendor", .. })
        }),
        (entry("acme", "sale-share", "hosts = \"a.com\""), |f| matches!(f, Fault::Type { key: "hosts", .. })),
        (entry("acme", "sale-share", "globals = [1]"), |f| matches!(f, Fault::Type { key: "globals", .. })),
        (entry("acme", "sale-share", "inline_markers = [\"acme\"]"), |f| matches!(f, Fault::ShortMarker(_))),
    ];
    for (text, expected) in cases {
        let (words, fault) = refusal(&text);
        assert!(expected(&fault), "{words}");
        assert!(words.contains("hint: "), "{words}");
    }
}

#[test]
fn a_collector_must_name_a_known_vendor_and_be_told_from_the_sites_own_pages() {
    let (words, _) = refusal("schema = 1\n[[collector]]\nvendor = \"hotjat\"\npath = \"/hj/collect\"\n");
    assert!(words.starts_with("mine.toml:3:10: ") && words.contains("did you mean `hotjar`?"), "{words}");
    let (words, fault) = refusal("schema = 1\n[[collector]]\nvendor = \"hotjar\"\npath = \"/hj\"\n");
    assert!(matches!(fault, Fault::Path { .. }), "{words}");
}
