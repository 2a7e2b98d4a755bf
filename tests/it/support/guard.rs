//! The built-in registry under the default policy; its guard and the keeper, as pages carry them.

use std::sync::{Arc, LazyLock};

use optgate::config::{SignalSettings, VendorPolicy};
use optgate::enforce::guard::{Guard, Placement};
use optgate::enforce::keeper::Keeper;
use optgate::registry::{Policy, Registry};

static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    let registry = Arc::new(Registry::builtin().unwrap());
    Arc::new(Policy::resolve(registry, &VendorPolicy::default()).unwrap())
});

static GUARD: LazyLock<Arc<Guard>> =
    LazyLock::new(|| Arc::new(Guard::new(&POLICY, "/privacy-choices", &SignalSettings::default())));

/// Resolved once for all tests.
pub fn default_policy() -> Arc<Policy> {
    Arc::clone(&POLICY)
}

/// Made once for all tests.
pub fn guard() -> Arc<Guard> {
    Arc::clone(&GUARD)
}

/// Without a signal of the browser and without a nonce.
pub fn placement() -> Placement {
    Placement { guard: guard(), gpc: false, nonce: None, sealed: false }
}

/// The text with each guard in it, also those inside attributes and `data:` addresses, as `[GUARD]`, and the keeper
/// as `[KEEPER]`, or `[KEEPER n1]` with that nonce.
pub fn folded(text: &str) -> String {
    let mut element = placement().element("");
    let mut folded = text.replace(&element, "[GUARD]");
    for (nonce, name) in [(None, "[KEEPER]"), (Some("n1"), "[KEEPER n1]")] {
        let mut keeper = String::new();
        Keeper { nonce: nonce.map(Arc::from) }.append_to(&mut keeper);
        folded = folded.replace(&keeper, name);
    }
    for _ in 0..3 {
        element = element.replace('&', "&amp;").replace('"', "&quot;");
        folded = folded.replace(&element, "[GUARD]");
    }
    // In an address its bytes are percent-encoded, but for those that need not be.
    const BEGIN: &str = "%3Cscript%20data-optgate=%22guard%22";
    const END: &str = "%3C/script%3E";
    while let Some(begin) = folded.find(BEGIN) {
        let Some(length) = folded[begin..].find(END) else { break };
        folded.replace_range(begin..begin + length + END.len(), "[GUARD]");
    }
    folded
}
