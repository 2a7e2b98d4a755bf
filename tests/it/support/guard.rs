//! The guard of the built-in registry, as pages carry it.

use std::sync::{Arc, LazyLock};

use optgate::config::{SignalSettings, VendorPolicy};
use optgate::enforce::guard::{Guard, Placement};
use optgate::registry::{Policy, Registry};

static GUARD: LazyLock<Arc<Guard>> = LazyLock::new(|| {
    let registry = Arc::new(Registry::builtin().unwrap());
    let policy = Policy::resolve(registry, &VendorPolicy::default()).unwrap();
    Arc::new(Guard::new(&policy, "/privacy-choices", &SignalSettings::default()))
});

/// Made once for all tests.
pub fn guard() -> Arc<Guard> {
    Arc::clone(&GUARD)
}

/// Without a signal of the browser and without a nonce.
pub fn placement() -> Placement {
    Placement { guard: guard(), gpc: false, nonce: None }
}

/// The text with each guard in it, also those inside attributes, as `[GUARD]`.
pub fn folded(text: &str) -> String {
    let mut element = placement().element();
    let mut folded = text.replace(&element, "[GUARD]");
    for _ in 0..3 {
        element = element.replace('&', "&amp;").replace('"', "&quot;");
        folded = folded.replace(&element, "[GUARD]");
    }
    folded
}
