//! The registry against the reference list, host by host and path by path.

use std::path::Path;

use optgate::registry::Role;
use serde_json::Value;

use super::builtin;

/// Where ours is stricter on purpose: `(host, path of the reference, our entry)`.
const SPLITS: [(&str, &str, &str); 7] = [
    ("googletagmanager.com", "/td", "google-tag-ads"),
    ("google.com", "/ccm/collect", "google-tag-ads"),
    ("google.com", "/ccm/form-data", "google-tag-ads"),
    ("google.com", "/measurement/conversion", "google-tag-ads"),
    ("google.com", "/rmkt/collect", "google-tag-ads"),
    ("stats.g.doubleclick.net", "/g/collect", "google-doubleclick"),
    ("paypal.com", "/tagmanager/", "paypal-marketing"),
];

/// A whole host that is stricter on purpose.
const HOST_SPLITS: [(&str, &str); 1] = [("hsadspixel.net", "hubspot-ads-pixel")];

/// The reference's products, or `None` with a line when the file is absent.
fn reference() -> Option<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference/trackers.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: {} is absent", path.display());
        return None;
    };
    let whole: Value = serde_json::from_str(&text).unwrap();
    Some(whole["trackers"].as_array().unwrap().clone())
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

fn role(product: &Value) -> Role {
    match product["ccpa_class"].as_str().unwrap() {
        "sale_share" => Role::SaleShare,
        "service_provider_possible" => Role::ServiceProvider,
        "essential" => Role::Essential,
        other => panic!("unknown class {other}"),
    }
}

/// A path that a prefix of the reference means.
fn sample(prefix: &str) -> String {
    let path = prefix.replace('*', "1.2");
    if prefix.ends_with('/') { format!("{path}x") } else { path }
}

#[test]
fn every_product_of_the_reference_is_in_the_registry_with_its_class() {
    let Some(products) = reference() else { return };
    let registry = builtin();
    assert_eq!(products.len(), 217);
    for product in &products {
        let id = product["id"].as_str().unwrap();
        let ours = registry.lookup_id(id).unwrap_or_else(|| panic!("{id} is missing"));
        assert_eq!(registry.vendor(ours).role, role(product), "{id}");
    }
}

#[test]
fn every_host_and_path_of_the_reference_is_found_with_its_class_or_a_stricter_one() {
    let Some(products) = reference() else { return };
    let registry = builtin();
    let (mut checked, mut split) = (0, 0);
    for product in &products {
        let id = product["id"].as_str().unwrap();
        for rule in product["hosts"].as_array().unwrap() {
            let host = rule["host"].as_str().unwrap();
            let paths = texts(&rule["paths"]);
            for prefix in if paths.is_empty() { vec!["/"] } else { paths } {
                for host_seen in [host.to_owned(), format!("sub.{host}")] {
                    for path in [sample(prefix), format!("{}?q=1", sample(prefix))] {
                        let ours = registry
                            .explain(&host_seen, &path)
                            .unwrap_or_else(|| panic!("{id}: {host_seen}{path} is not found"));
                        let deliberate = SPLITS.contains(&(host, prefix, ours.id))
                            || HOST_SPLITS.contains(&(host, ours.id));
                        if deliberate {
                            split += 1;
                            assert_eq!(ours.role, Role::SaleShare, "{host_seen}{path}");
                        } else {
                            assert_eq!(ours.role, role(product), "{id}: {host_seen}{path} is {}", ours.id);
                        }
                        checked += 1;
                    }
                }
            }
        }
    }
    println!("{checked} URLs compared with the reference, {split} stricter on purpose");
    assert_eq!(split, 4 * (SPLITS.len() + HOST_SPLITS.len()), "every deliberate split is still one");
}

#[test]
fn every_cookie_and_parameter_of_the_reference_is_in_the_registry() {
    let Some(products) = reference() else { return };
    let registry = builtin();
    let known = |list: fn(&optgate::registry::Vendor) -> &[String], name: &str| {
        registry.vendors().any(|(_, vendor)| list(vendor).iter().any(|ours| ours == name))
    };
    for product in &products {
        let id = product["id"].as_str().unwrap();
        for name in texts(&product["first_party_cookies"]) {
            assert!(known(|v| &v.first_party_cookies, name), "{id}: cookie {name}");
        }
        for name in texts(&product["third_party_cookies"]) {
            assert!(known(|v| &v.third_party_cookies, name), "{id}: cookie {name}");
        }
        for name in texts(&product["link_params"]) {
            assert!(known(|v| &v.link_params, name), "{id}: parameter {name}");
        }
        for name in texts(&product["globals"]) {
            assert!(known(|v| &v.globals, name), "{id}: global {name}");
        }
    }
}
