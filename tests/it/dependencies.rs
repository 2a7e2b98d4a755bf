//! What is built on: every package may be passed on with the program, and every one we name says why it is there.

use std::collections::{BTreeSet, HashMap};
use std::process::Command;

use serde_json::Value;

/// Licences that ask for no more than that their text goes along (SPDX identifiers).
const PERMISSIVE: [&str; 12] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

/// The one licence that asks for more, for changes to the package's own files: it is used as it is.
const OF_FILES: &str = "MPL-2.0";

/// Who has it in the program.
const IN_PROGRAM: [&str; 1] = ["adblock"];

/// Who has it in the tests, which are passed on to nobody: what lol_html reads selectors with.
const IN_TESTS: [&str; 4] = ["cssparser", "cssparser-macros", "dtoa-short", "selectors"];

fn root() -> &'static str {
    env!("CARGO_MANIFEST_DIR")
}

/// The packages of a build on Linux; Cargo has no other to ask without a network.
fn packages() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version", "1"])
        .args(["--filter-platform", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The ids of what a build of the program takes; with `tests`, of what one of the tests takes.
fn taken(metadata: &Value, tests: bool) -> BTreeSet<&str> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: HashMap<&str, &Value> =
        nodes.iter().map(|node| (node["id"].as_str().unwrap(), node)).collect();
    let own = metadata["resolve"]["root"].as_str().unwrap();
    let (mut seen, mut next) = (BTreeSet::new(), vec![own]);
    while let Some(id) = next.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let mut kinds = dependency["dep_kinds"].as_array().unwrap().iter();
            if kinds.any(|kind| tests || kind["kind"] != "dev") {
                next.push(dependency["pkg"].as_str().unwrap());
            }
        }
    }
    seen.remove(own);
    seen
}

/// Whether an SPDX expression leaves a choice that these licences make; `/` is an old word for `OR`.
fn allows(expression: &str, licences: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let allowed = any(&words, &mut at, licences);
    allowed && at == words.len()
}

fn any(words: &[&str], at: &mut usize, licences: &[&str]) -> bool {
    let mut allowed = all(words, at, licences);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        // Read to its end in any case.
        allowed |= all(words, at, licences);
    }
    allowed
}

fn all(words: &[&str], at: &mut usize, licences: &[&str]) -> bool {
    let mut allowed = one(words, at, licences);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        allowed &= one(words, at, licences);
    }
    allowed
}

fn one(words: &[&str], at: &mut usize, licences: &[&str]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let allowed = any(words, at, licences);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return allowed && closed;
    }
    if words.get(*at) == Some(&"WITH") {
        *at += 2;
        let exception = words.get(*at - 1).copied().unwrap_or_default();
        return licences.contains(&format!("{word} WITH {exception}").as_str());
    }
    licences.contains(word)
}

#[test]
fn the_reader_of_licences_reads_them() {
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("MIT OR GPL-3.0-only", true),
        ("MIT AND GPL-3.0-only", false),
        ("GPL-2.0/MIT", true),
        ("(MIT OR GPL-2.0) AND Unicode-3.0", true),
        ("MIT AND (GPL-2.0 OR GPL-3.0)", false),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
        ("GPL-2.0 WITH LLVM-exception", false),
        ("(MIT", false),
        ("MIT MIT", false),
        ("", false),
    ] {
        assert_eq!(allows(expression, &PERMISSIVE), expected, "{expression:?}");
    }
}

#[test]
fn every_dependency_has_a_permissive_licence() {
    let metadata = packages();
    let (program, tests) = (taken(&metadata, false), taken(&metadata, true));
    assert!(program.len() > 100 && tests.len() > program.len(), "{} {}", program.len(), tests.len());
    let with_files = [&PERMISSIVE[..], &[OF_FILES]].concat();
    for package in metadata["packages"].as_array().unwrap() {
        let (id, name) = (package["id"].as_str().unwrap(), package["name"].as_str().unwrap());
        let licence = package["license"].as_str().unwrap_or_default();
        let exempt = IN_PROGRAM.contains(&name) || (!program.contains(id) && IN_TESTS.contains(&name));
        let licences = if exempt { &with_files[..] } else { &PERMISSIVE[..] };
        assert!(!tests.contains(id) || allows(licence, licences), "{name} has the licence {licence:?}");
    }
}

/// A line of a dependency ends with what it is for.
#[test]
fn every_dependency_that_we_name_says_what_it_is_for() {
    let manifest = std::fs::read_to_string(format!("{}/Cargo.toml", root())).unwrap();
    let (mut named, mut within) = (0, false);
    for line in manifest.lines() {
        if line.starts_with('[') {
            within = line.contains("dependencies");
        } else if within && !line.is_empty() && !line.starts_with('#') {
            named += 1;
            let reason = line.rsplit_once(" # ").map_or("", |(_, reason)| reason.trim());
            assert!(reason.len() > 3, "{line}: what is it for?");
        }
    }
    assert!(named > 50, "{named}");
}
