//! The registry's promises: its facts agree with the reference, bad files are refused with their
//! place, and one matching rule holds everywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use optgate::config::{Contract, ServiceProviders, VendorAction, VendorPolicy};
use optgate::registry::{Fault, Hit, Policy, PolicyError, Registry, Role};

fn builtin() -> Arc<Registry> {
    Arc::new(Registry::builtin().unwrap_or_else(|error| panic!("{error}")))
}

fn default_policy() -> Policy {
    Policy::resolve(builtin(), &VendorPolicy::default()).unwrap()
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
    (error.to_string(), error.fault)
}

mod reference;

#[test]
fn the_built_in_registry_loads_and_its_version_is_twelve_hex_digits() {
    let registry = builtin();
    assert_eq!(registry.version().len(), 12);
    assert!(registry.version().bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(registry.version(), builtin().version(), "the version depends on the text alone");
}
