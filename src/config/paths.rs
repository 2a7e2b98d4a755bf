//! Paths that settings name: rules for some, and those behind which a tracker collects.

use super::PathRule;
use super::key::KeyPath;
use super::meaning::Problems;
use super::raw::RawSite;
use crate::privacy::Mode;

/// A site's rules, the longest prefix first; `forced` is a mode that the command line gives to all.
pub(super) fn paths(
    path: &KeyPath,
    site: &RawSite,
    forced: Option<Mode>,
    problems: &mut Problems<'_>,
) -> Vec<PathRule> {
    let top = path.key("paths");
    let mut rules: Vec<PathRule> = Vec::new();
    for (i, rule) in site.paths.iter().enumerate() {
        let path = top.at(i).key("prefix");
        if rule.prefix.is_empty() {
            problems.missing(
                &path,
                format!("`{path}` is missing"),
                "a rule holds for the paths that begin with it",
                "write a path like \"/checkout\"",
            );
        } else if !is_request_path(&rule.prefix) {
            problems.wrong(
                &path,
                format!("`{path}` cannot be used"),
                &format!(
                    "\"{}\" is no path as it stands in a request: it starts with a slash and holds no query",
                    rule.prefix
                ),
                "write a path like \"/checkout\"",
            );
        }
        if rules.iter().any(|earlier| earlier.prefix == rule.prefix) {
            problems.wrong(
                &path,
                format!("`{path}` is given twice"),
                &format!("two rules for \"{}\" leave open which holds", rule.prefix),
                "put both into one [[sites.paths]]",
            );
        }
        rules.push(PathRule {
            prefix: rule.prefix.clone(),
            mode: rule.mode.map(Mode::from).map(|mode| forced.unwrap_or(mode)),
            rewrite: rule.rewrite,
            vendors: rule.vendors.clone(),
        });
    }
    rules.sort_by_key(|rule| std::cmp::Reverse(rule.prefix.len()));
    rules
}

/// Whether a text is a path as it stands in a request.
fn is_request_path(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !b"?#\"<>\\".contains(&b);
    text.starts_with('/') && text.bytes().all(plain)
}

/// Refuses collector paths, or such as look like one, that no request has, or every request.
pub(super) fn check_collectors(path: &KeyPath, written: &[String], problems: &mut Problems<'_>) {
    for (i, collector) in written.iter().enumerate() {
        let why = if !is_request_path(collector) {
            "it is no path as it stands in a request: it starts with a slash and holds no query"
        } else if collector.bytes().all(|b| matches!(b, b'/' | b'*')) {
            "that is every request of an opted-out visitor"
        } else {
            continue;
        };
        let path = path.at(i);
        problems.wrong(
            &path,
            format!("`{path}` cannot be used"),
            &format!("\"{collector}\": {why}"),
            "write the path it is about, like \"/metrics/collect\" or \"/cdp*\"",
        );
    }
}
