//! Made-up input by a seeded generator: each target's head says what must hold whatever comes.
//!
//! A run has a fixed number of rounds, the same ones each time. `OPTGATE_FUZZ_SECONDS` runs each target that
//! long instead, from a new seed, which is printed; `OPTGATE_FUZZ_SEED` runs one again. Findings become fixtures.

mod csv;
mod frames;
mod messages;
mod pages;
mod settings;
mod urls;
mod values;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::guard::placement;
use optgate::config::{LinkTitle, VendorPolicy};
use optgate::enforce::html::{Kind, Plan, Rewriter};
use optgate::registry::{Policy, Registry};

use crate::support::checker::Trackers;

static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    let registry = Arc::new(Registry::builtin().expect("the built-in registry loads"));
    Arc::new(Policy::resolve(registry, &VendorPolicy::default()).expect("the default policy resolves"))
});

/// What the judge is told of the vendors that the generators write of; the registry knows the same.
static TRACKERS: LazyLock<Trackers> = LazyLock::new(|| {
    Trackers::of(&serde_json::json!({ "trackers": [
        { "id": "criteo", "ccpa_class": "sale_share", "inline_markers": [],
          "hosts": [{ "host": "criteo.com" }, { "host": "criteo.net" }] },
        { "id": "meta", "ccpa_class": "sale_share", "inline_markers": ["fbq('init'"],
          "hosts": [{ "host": "facebook.com", "paths": ["/tr"] }] },
    ]}))
});

/// A small generator (xorshift), so that a round can be run again.
pub struct Random(u64);

impl Random {
    fn seeded(seed: u64) -> Self {
        // Neighbouring seeds must not begin alike.
        Self((seed ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % limit.max(1) as u64).unwrap_or_default()
    }

    /// True once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// Cuts an input at a few places.
    fn cut<'a>(&mut self, input: &'a [u8]) -> Vec<&'a [u8]> {
        let mut at: Vec<usize> = (0..=self.below(8)).map(|_| self.below(input.len() + 1)).collect();
        at.extend([0, input.len()]);
        at.sort_unstable();
        at.windows(2).map(|w| &input[w[0]..w[1]]).collect()
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a target.
fn rounds(target: &str, usual: u64, mut round: impl FnMut(&mut Random)) {
    let seconds = setting("OPTGATE_FUZZ_SECONDS");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs() << 20);
    let first = setting("OPTGATE_FUZZ_SEED").unwrap_or_else(|| seconds.map_or(0, |_| now()));
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut seed = first;
    while until.map_or(seed < first + usual, |until| Instant::now() < until) {
        // Captured, and shown only when the round fails.
        println!("fuzz {target}: OPTGATE_FUZZ_SEED={seed}");
        round(&mut Random::seeded(seed));
        seed += 1;
    }
    println!("fuzz {target}: {} rounds from seed {first}", seed - first);
    assert!(seed > first, "no round was run");
}

fn plan(opted_out: bool) -> Plan {
    Plan {
        opted_out,
        keeps_programme: false,
        policy: Arc::clone(&POLICY),
        page: url::Url::parse("https://shop.example/page").unwrap(),
        kind: Kind::Document,
        guard: opted_out.then(placement),
        keeper: Some(Default::default()),
        lists: None,
        prefix: Arc::from("/privacy-choices"),
        link: LinkTitle::DoNotSell,
        memory: 1 << 20,
    }
}

/// Rewrites pieces of a page.
fn rewritten(opted_out: bool, pieces: &[&[u8]]) -> Vec<u8> {
    let (mut out, mut rewriter) = (Vec::new(), Rewriter::new(plan(opted_out)));
    for piece in pieces {
        rewriter.write(piece, &mut out).unwrap();
    }
    rewriter.end(&mut out).unwrap();
    out
}

/// Rewrites a page and gives back its text.
fn page(html: &str) -> String {
    String::from_utf8_lossy(&rewritten(true, &[html.as_bytes()])).into_owned()
}

/// A text as it may stand in a double-quoted attribute: characters as they are or as references.
fn as_attribute(random: &mut Random, text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let code = u32::from(c);
        match random.below(12) {
            0 => out.push_str(&format!("&#{code};")),
            1 => out.push_str(&format!("&#x{code:X};")),
            _ if matches!(c, '"' | '&' | '\r' | '\0') => out.push_str(&format!("&#{code};")),
            _ => out.push(c),
        }
    }
    out
}
