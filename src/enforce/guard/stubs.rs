//! Stand-ins for the globals of stripped vendors: which parts of `stubs.js` a policy's guard carries.
//!
//! A stub stands only for a vendor that is stripped; whoever is allowed or restricted finds the page as
//! its vendor expects it. The layout of `stubs.js` is told at its head.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::sync::LazyLock;

use super::minify::minify;

/// Helpers, sections and lists of names.
const SOURCE: &str = include_str!("stubs.js");

/// What a section's head begins with, after indentation.
const HEAD: &str = "// @stub ";

/// What a line of late globals begins with.
const LATE: &str = "// @late ";

/// The line after the last section.
const END: &str = "// @end";

/// The function `function stubs(W){...}` for a guard, with the stubs of these vendors (ids of the registry)
/// and nothing else; ASCII, without comments. Calling it with a window defines them there. What is late is for
/// [`late`].
///
/// Ids without a stub are passed over.
///
/// Cost: one pass over `stubs.js`; for start and reload.
#[must_use]
pub fn script<'a>(stripped: impl Iterator<Item = &'a str>) -> String {
    let stripped: HashSet<&str> = stripped.collect();
    let mut script = String::with_capacity(SOURCE.len());
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let (sections, tail) = SOURCE.split_once(END).unwrap_or((SOURCE, "}"));
    for section in sections.split_inclusive('\n').fold(Vec::new(), by_section) {
        match section {
            Section::Always(code) => script.push_str(&code),
            Section::Stub { head, code } => {
                let (ids, lists) = head.split_once(':').unwrap_or((head, ""));
                if !asked_for(ids, &stripped) {
                    continue;
                }
                if !minify(&code).is_empty() {
                    // Writing into a `String` cannot fail.
                    let _ = writeln!(script, "try{{\n{code}\n}}catch(e){{}}");
                }
                for (kind, listed) in kinds(lists) {
                    names.entry(kind).or_default().extend(listed.split_whitespace());
                }
            }
            Section::Late => {}
        }
    }
    for (kind, mut listed) in names {
        let mut seen = HashSet::new();
        listed.retain(|name| seen.insert(*name));
        let _ = writeln!(script, "put({kind},\"{}\");", listed.join(" "));
    }
    script.push_str(tail);
    minify(&script)
}

/// Statements that define what is late of a vendor, on a page with a guard; they throw where there is none.
/// `None`: nothing is.
#[must_use]
pub fn late(id: &str) -> Option<String> {
    let lists = LATES.get(id)?;
    let put = |(kind, names)| format!("self[Symbol.for(\"optgate\")].put(\"{kind}\",\"{names}\");");
    Some(kinds(lists).map(put).collect())
}

/// The same for whichever vendor's file a script stands for, by the mark of its element.
#[must_use]
pub fn late_of_element() -> String {
    let cases = LATES.keys().filter_map(|id| Some(format!("case\"strip:{id}\":{}break;", late(id)?)));
    let cases: String = cases.collect();
    format!(
        "(function(){{try{{switch(document.currentScript.getAttribute(\"data-optgate\")){{{cases}}}}}catch(e){{}}}})();"
    )
}

/// The lists of late globals, by their vendor's id.
static LATES: LazyLock<BTreeMap<&str, &str>> = LazyLock::new(|| {
    SOURCE.lines().filter_map(|line| line.trim().strip_prefix(LATE)?.split_once(": ")).collect()
});

/// The kinds of a head's lists, each with its names.
fn kinds(lists: &str) -> impl Iterator<Item = (&str, &str)> {
    lists.split(';').filter_map(|list| list.trim().split_once(' '))
}

/// A part of `stubs.js`.
enum Section {
    /// The helpers.
    Always(String),
    /// What stands under a head.
    Stub {
        /// The head's text after `@stub`.
        head: &'static str,
        /// The lines below it.
        code: String,
    },
    /// A line of late globals.
    Late,
}

/// Puts a line to the section it stands in, or begins a new one.
fn by_section(mut sections: Vec<Section>, line: &'static str) -> Vec<Section> {
    if let Some(head) = line.trim().strip_prefix(HEAD) {
        sections.push(Section::Stub { head, code: String::new() });
        return sections;
    }
    if line.trim().starts_with(LATE) {
        sections.push(Section::Late);
        return sections;
    }
    match sections.last_mut() {
        Some(Section::Always(code) | Section::Stub { code, .. }) => code.push_str(line),
        Some(Section::Late) => {}
        None => sections.push(Section::Always(line.to_owned())),
    }
    sections
}

/// Whether one of the ids in a section's head is stripped; of ids joined by `+`, all.
fn asked_for(ids: &str, stripped: &HashSet<&str>) -> bool {
    ids.split_whitespace().any(|all| all.split('+').all(|id| stripped.contains(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeSet;
    use std::io::Write as _;
    use std::sync::Arc;

    use crate::config::{VendorAction, VendorPolicy};
    use crate::registry::{Policy, Registry, Role};

    fn heads() -> Vec<&'static str> {
        let head =
            |line: &'static str| line.trim().strip_prefix(HEAD).or_else(|| line.trim().strip_prefix(LATE));
        SOURCE.lines().filter_map(head).collect()
    }

    fn ids() -> BTreeSet<&'static str> {
        let ids = |head: &'static str| head.split(':').next().unwrap_or_default().split([' ', '+']);
        heads().into_iter().flat_map(ids).collect()
    }

    fn gzip(text: &str) -> usize {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap().len()
    }

    fn stripped_by(policy: &Policy) -> Vec<&str> {
        let stripped = |(id, _): &(_, _)| policy.action(*id) == VendorAction::Strip;
        policy.registry().vendors().filter(stripped).map(|(_, vendor)| vendor.id.as_str()).collect()
    }

    fn default_policy() -> Policy {
        Policy::resolve(Arc::new(Registry::builtin().unwrap()), &VendorPolicy::default()).unwrap()
    }

    /// The common globals have stubs of our own, and so has the rest that the registry names.
    #[test]
    fn every_vendor_whose_entry_asks_for_a_stub_has_one_and_no_id_is_unknown() {
        let registry = Registry::builtin().unwrap();
        let ids = ids();
        for (_, vendor) in registry.vendors() {
            let wants = vendor.role != Role::Essential && !vendor.stub.is_empty();
            assert!(!wants || ids.contains(vendor.id.as_str()), "{} has no stub", vendor.id);
        }
        for id in ids {
            let vendor = registry.lookup_id(id).map(|at| registry.vendor(at));
            assert!(vendor.is_some_and(|v| v.role != Role::Essential), "{id} is no vendor to strip");
        }
    }

    /// The layout told at the head of `stubs.js`: a misspelt kind would be a missing stub.
    #[test]
    fn lists_of_names_are_of_the_known_kinds_and_have_no_code() {
        for head in heads() {
            let Some((_, lists)) = head.split_once(':') else { continue };
            for list in lists.split(';') {
                let (kind, names) = list.trim().split_once(' ').expect(head);
                assert!(["any", "array", "queue"].contains(&kind), "{head}");
                let plain = |c: char| c.is_ascii_alphanumeric() || "_$ ".contains(c);
                assert!(!names.is_empty() && names.chars().all(plain), "{head}");
            }
        }
    }

    /// A vendor that is kept must find the page as it expects it.
    #[test]
    fn only_stripped_vendors_have_stubs() {
        let none = script(std::iter::empty());
        assert!(none.starts_with("function stubs(W){") && none.ends_with('}'), "{none}");
        assert!(!none.contains("fbq") && !none.contains("put(any,"), "{none}");

        let two = script(["meta-pixel", "stackadapt", "no-such-vendor"].into_iter());
        assert!(two.contains("fbq") && two.contains("put(queue,\"saq\")"), "{two}");
        assert!(!two.contains("pintrk") && !two.contains("googletag"), "{two}");
    }

    /// `window.heap` of a page without that vendor is the page's.
    #[test]
    fn a_name_that_is_a_word_waits_for_its_vendor() {
        let script = script(["heap", "appsflyer-branch-adjust"].into_iter());
        assert!(!script.contains("heap") && !script.contains("branch"), "{script}");
        let put = r#"self[Symbol.for("optgate")].put("#;
        let wanted = format!(r#"{put}"queue","AF");{put}"any","branch Adjust");"#);
        assert_eq!(late("appsflyer-branch-adjust"), Some(wanted));
        assert_eq!(late("meta-pixel"), None);
        assert!(late_of_element().contains(r#"case"strip:heap":self["#), "{}", late_of_element());
    }

    /// Names that two vendors share are written once.
    #[test]
    fn a_name_is_listed_once() {
        let script = script(["x-ads", "x-widgets"].into_iter());
        assert_eq!(script.matches("twttr").count(), 1, "{script}");
    }

    /// A container that is kept reads the data layer itself.
    #[test]
    fn the_data_layer_is_left_alone_while_both_of_its_readers_are_kept() {
        let layer = "hold(\"dataLayer\"";
        let policy = default_policy();
        assert!(!script(stripped_by(&policy).into_iter()).contains(layer));
        assert!(script(["google-tag-manager"].into_iter()).contains(layer));
        let wait = "try{var wait=0}";
        assert!(!script(["google-gtag"].into_iter()).contains(wait));
        assert!(script(["google-tag-manager", "google-gtag"].into_iter()).contains(wait));
    }

    /// ASCII, inline, classic; table and stubs within 10 KiB, of which these may take
    /// 3.5 KiB with every vendor stripped that the default policy strips.
    #[test]
    fn the_default_policys_stubs_are_ascii_close_no_element_and_stay_small() {
        let policy = default_policy();
        let default = script(stripped_by(&policy).into_iter());
        let all = script(ids().into_iter());
        for script in [&default, &all] {
            assert!(script.is_ascii());
            assert!(!script.contains("</") && !script.contains("<!--"), "{script}");
            for sink in ["eval(", "innerHTML", "document.write", "Function(", "//"] {
                assert!(!script.contains(sink), "{sink}");
            }
        }
        println!(
            "stubs: default {} bytes, gzip {}; all {} bytes, gzip {}",
            default.len(),
            gzip(&default),
            all.len(),
            gzip(&all)
        );
        assert!(gzip(&default) <= 3584, "{} bytes", gzip(&default));
    }
}
