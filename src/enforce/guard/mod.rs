//! The script placed first in an opted-out document, and the harmless stand-ins for stripped files.
//!
//! It holds in the browser what the rewriter holds in the markup: whatever script does, no request,
//! connection, cookie or stored key of a vendor that the policy strips. One text for each policy, made at
//! start, so that one CSP hash admits it; what differs from request to request stands in attributes.
//!
//! - `match.js`: who is a tracker, by the same table and rule as the server
//! - `net.js`: connections that script opens, in windows and workers
//! - `dom.js`: elements, markup, styles, frames, cookies, storage
//! - `before.js`: what was there before the visitor opted out, what the guard reports, and the call of what runs once
//! - `signals.js`: what consent tools and tag managers are told
//! - `stubs.js`: globals of stripped vendors that page code may call
//! - `unknown.js`: third parties that nobody knows, for policies that strip them
//! - `worker.js`: where the part of a worker ends
//!
//! They are written to be read. `minify` and `rename` make of them the text that pages carry: one function, which a
//! page calls, and which knows its own text for the documents and workers that the page makes.

mod assets;
pub(super) mod minify;
mod rename;
mod scopes;
pub mod signals;
pub mod stubs;
mod table;
mod tokens;

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

pub use assets::{Asset, MODULE, asset, asset_as};

use crate::config::{SignalSettings, VendorAction};
use crate::registry::Policy;
use crate::registry::unknown::site_of;

/// What is the same for every policy: for windows and workers, where a worker ends, and what only windows need.
static SCRIPTS: LazyLock<[String; 3]> = LazyLock::new(|| {
    let shared = [include_str!("match.js"), include_str!("net.js")];
    let rest = [include_str!("worker.js"), include_str!("dom.js")].map(minify::minify);
    let [worker, dom] = rest;
    [shared.map(minify::minify).concat(), worker, dom]
});

/// What stands before a worker's end where unknown third parties go.
static UNKNOWN: LazyLock<String> = LazyLock::new(|| minify::minify(include_str!("unknown.js")));

/// What is run once in a page, like what consent tools are told and the stubs.
static BEFORE: LazyLock<String> = LazyLock::new(|| minify::minify(include_str!("before.js")));

/// The guard of one policy.
#[derive(Debug)]
pub struct Guard {
    /// What stands between the tags.
    text: String,
    /// `'sha256-...'` of it.
    hash: String,
    /// What stands before a worker's script, up to the last arguments of its call; one line.
    worker: String,
    /// Path of the folder with the stand-ins.
    assets: String,
    /// Unknown third parties go: it has to be told what is one site with its page.
    told_site: bool,
}

impl Guard {
    /// The guard for a policy; `prefix` is the portal's, `said` what the page's consent tools are told.
    ///
    /// Cost: some milliseconds and about a megabyte for their length; for start and reload.
    #[must_use]
    pub fn new(policy: &Policy, prefix: &str, said: &SignalSettings) -> Self {
        let names = table::names(policy);
        // Backwards, so that whoever searches pages for the names of trackers does not find them in their guard.
        let table: String = table::domains(policy).chars().rev().collect();
        let mut constants = String::new();
        for (name, value) in [
            ("TABLE", table.as_str()),
            ("NAMES", &names.hashes),
            ("PATTERNS", &names.patterns),
            ("KEPT", &names.kept),
            ("ASSETS", &format!("{prefix}/assets/e.")),
            ("REPORT", &format!("{prefix}/report")),
        ] {
            // Writing to a string cannot fail.
            let _ = write!(constants, "var {name}={};", table::literal(value));
        }
        let told_site = policy.strips_unknown();
        let unknown = if told_site { known(policy) + &*UNKNOWN } else { String::new() };
        let [shared, end, dom] = &*SCRIPTS;
        let shared = format!("{shared}{unknown}{end}");
        let mut worker = named(&format!("\"use strict\";{constants}{shared}"), "self");
        worker.truncate(worker.len() - 1);
        let stripped =
            policy.registry().vendors().filter(|(id, _)| policy.action(*id) == VendorAction::Strip);
        let stubs = stubs::script(stripped.map(|(_, vendor)| vendor.id.as_str()));
        let signals = signals::script(&signals::Signals::of(said, policy));
        let before = &*BEFORE;
        let text = format!("\"use strict\";{constants}{shared}{dom}{before}{signals}{stubs}");
        let text = named(&text, "window,document,document.currentScript");
        let hash = format!("'sha256-{}'", BASE64.encode(&Sha256::digest(text.as_bytes())));
        Self { text, hash, worker, assets: format!("{prefix}/assets/"), told_site }
    }

    /// CSP source expression of the script's text: `'sha256-...'`.
    #[must_use]
    pub fn csp_hash(&self) -> &str {
        &self.hash
    }

    /// Path of the folder with the stand-ins for stripped files; ends with a slash.
    #[must_use]
    pub fn assets(&self) -> &str {
        &self.assets
    }

    /// What stands before the script of a worker of the site's own on this host: one line, valid in classic and in
    /// module workers. Workers that a page makes of a text have the page's guard from that.
    #[must_use]
    pub fn worker(&self, host: &str) -> String {
        // Without the last argument it would read the fragment of the worker's own address.
        let site = match self.told_site {
            true => format!(",0,self.location.origin+\"#{}\"", self.site(host).unwrap_or_default()),
            false => String::new(),
        };
        format!("{}{site});", self.worker)
    }

    /// What is one site with a host, where the guard has to know it; without it, it takes its page's host. A host may
    /// be any text that its visitor sends.
    fn site<'a>(&self, host: &'a str) -> Option<&'a str> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
        self.told_site.then(|| site_of(host)).filter(|site| site.bytes().all(plain))
    }
}

/// What stays beside what is nobody's: the domains that are known whatever the registry says of their other paths,
/// and behind a slash those of the registry. Backwards, like the table.
fn known(policy: &Policy) -> String {
    let (own, staying) = policy.known_domains();
    let text: String = format!("{}/{}", own.join(" "), staying.join(" ")).chars().rev().collect();
    format!("var KNOWN={};", table::literal(&text))
}

/// The function of these statements, called with these arguments. It knows itself as `GUARD`, and gives its text to
/// the workers that a page makes.
fn named(statements: &str, arguments: &str) -> String {
    rename::rename(&minify::minify(&format!("(function GUARD(W,D,E){{{statements}}})({arguments})")))
}

/// The guard as one response carries it.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Whose text.
    pub guard: Arc<Guard>,
    /// The browser itself sent `Sec-GPC: 1`.
    pub gpc: bool,
    /// A nonce of the response's own policies.
    pub nonce: Option<Arc<str>>,
    /// Those policies know inline scripts by the hash of their text: it must stay as it is.
    pub sealed: bool,
}

impl Placement {
    /// The whole `<script>...</script>` element on a page of this host, ASCII only.
    ///
    /// Cost: one copy of about 40 kB.
    #[must_use]
    pub fn element(&self, host: &str) -> String {
        let mut element = String::with_capacity(self.guard.text.len() + 128);
        element.push_str("<script data-optgate=\"guard\"");
        if self.gpc {
            element.push_str(" data-gpc=\"1\"");
        }
        if let Some(site) = self.guard.site(host) {
            let _ = write!(element, " data-site=\"{site}\"");
        }
        if let Some(nonce) = &self.nonce {
            let _ = write!(element, " nonce=\"{nonce}\"");
        }
        element.push('>');
        element.push_str(&self.guard.text);
        element.push_str("</script>");
        element
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::config::{Unknown, VendorPolicy};
    use crate::registry::Registry;

    fn policy() -> Policy {
        let registry = Arc::new(Registry::builtin().unwrap());
        Policy::resolve(registry, &VendorPolicy::default()).unwrap()
    }

    fn guard() -> Guard {
        Guard::new(&policy(), "/privacy-choices", &SignalSettings::default())
    }

    fn gzipped(text: &str) -> usize {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap().len()
    }

    /// Core at most 8 KiB, and 10 KiB more for table, stubs and whatever else is run once: what
    /// consent tools are told, and what ends what was there before.
    #[test]
    fn each_part_of_the_guard_keeps_its_budget() {
        let core = gzipped(&named(&SCRIPTS.concat(), ""));
        let policy = policy();
        let said = signals::script(&signals::Signals::of(&SignalSettings::default(), &policy));
        let said = gzipped(&rename::rename(&said));
        let guard = guard();
        let whole = gzipped(&guard.text);
        let bare = guard.text.len();
        println!("guard: core {core}, signals {said}, whole {whole} bytes, gzip -9; {bare} as it is");
        assert!(core <= 8 * 1024, "core {core}");
        assert!(whole <= 18 * 1024, "whole {whole}");
    }

    /// README, Limits: what holds third parties that nobody knows comes to the table, and to no other policy's guard.
    #[test]
    fn only_a_policy_that_strips_what_nobody_knows_pays_for_it() {
        let written = VendorPolicy { unknown: Unknown::Strip, ..VendorPolicy::default() };
        let strict = Policy::resolve(Arc::new(Registry::builtin().unwrap()), &written).unwrap();
        let strict = Guard::new(&strict, "/privacy-choices", &SignalSettings::default());
        let (whole, plain) = (gzipped(&strict.text), gzipped(&guard().text));
        println!("guard: {whole} bytes, gzip -9, where what nobody knows goes; else {plain}");
        assert!(whole <= 19 * 1024 + 512, "whole {whole}");
        let site = |guard: &Guard, host: &str| guard.site(host).map(str::to_owned);
        assert_eq!(site(&strict, "www.shop.co.uk").as_deref(), Some("shop.co.uk"));
        assert_eq!(site(&strict, "127.0.0.1").as_deref(), Some("127.0.0.1"));
        assert_eq!(site(&strict, "a\"b"), None, "no text of a visitor's leaves its attribute");
        assert_eq!(site(&guard(), "www.shop.co.uk"), None);
        assert!(!guard().text.contains("data-site") && strict.text.contains("data-site"));
        let worker = strict.worker("www.shop.co.uk");
        assert!(
            worker.ends_with("})(self,0,self.location.origin+\"#shop.co.uk\");") && !worker.contains('\n')
        );
    }

    /// The page's charset must not matter.
    #[test]
    fn the_guard_is_ascii_and_closes_its_own_element_only() {
        let element =
            Placement { guard: Arc::new(guard()), gpc: true, nonce: Some("n".into()), sealed: false }
                .element("shop.example");
        assert!(element.is_ascii());
        assert!(element.starts_with("<script data-optgate=\"guard\" data-gpc=\"1\" nonce=\"n\">("));
        assert_eq!(element.to_ascii_lowercase().matches("</script").count(), 1);
        assert!(!element.contains("<!--"));
    }

    /// CSP3 6.7.3.3: the hash is over the text between the tags and nothing else.
    #[test]
    fn the_hash_is_of_the_text_between_the_tags() {
        let guard = Arc::new(guard());
        let element = Placement { guard: Arc::clone(&guard), gpc: false, nonce: None, sealed: false }
            .element("shop.example");
        let text = element.split_once('>').and_then(|(_, t)| t.strip_suffix("</script>")).unwrap();
        let expected = format!("'sha256-{}'", BASE64.encode(&Sha256::digest(text.as_bytes())));
        assert_eq!(guard.csp_hash(), expected);
    }

    /// A line end in it would shift every line number that a worker reports.
    #[test]
    fn the_prefix_of_workers_is_one_line() {
        let worker = guard().worker("shop.example");
        assert!(!worker.contains('\n') && worker.ends_with("})(self);"));
    }
}
