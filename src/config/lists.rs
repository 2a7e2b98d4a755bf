//! Filter lists as they are meant: files with their roles, and how they are watched.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::key::KeyPath;
use super::meaning::{Problems, readable, within};
use super::raw::{RawList, RawListsCheck};

/// What a filter list is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListRole {
    /// What its rules match is stripped, unless the registry or an exception says otherwise.
    #[default]
    Block,
    /// What its rules match is left to the registry, whatever other lists say.
    Allow,
}

/// A filter list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct List {
    /// The file.
    pub file: PathBuf,
    /// What it is for.
    pub role: ListRole,
}

/// How lists are watched, and when a changed one is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListsCheck {
    /// Between two looks at the files.
    pub every: Duration,
    /// Least rules of a changed list, in percent of those in force.
    pub keep_percent: u32,
    /// Addresses that every site's lists must block.
    pub must_match: Vec<Url>,
    /// Addresses that no site's lists may block.
    pub must_not_match: Vec<Url>,
}

/// The lists written at `path`, in order.
pub(super) fn lists(path: &KeyPath, written: &[RawList], problems: &mut Problems<'_>) -> Vec<List> {
    if !written.is_empty() && !cfg!(feature = "lists") {
        problems.wrong(
            path,
            format!("`{path}` cannot be used by this build"),
            "Optgate was built without the cargo feature `lists`, so no list would have any effect",
            "build it with its default features, or remove the lists",
        );
        return Vec::new();
    }
    let mut lists = Vec::new();
    for (i, list) in written.iter().enumerate() {
        let path = path.at(i).key("file");
        let Some(file) = &list.file else {
            problems.missing(
                &path,
                format!("`{path}` is missing"),
                "a list is a file of rules in EasyList syntax",
                "add file = \"easyprivacy.txt\"",
            );
            continue;
        };
        let file = readable(&path, file, "a filter list", problems);
        lists.push(List { file, role: list.role });
    }
    lists
}

/// `[lists_check]`.
pub(super) fn check(written: &RawListsCheck, problems: &mut Problems<'_>) -> ListsCheck {
    if written.every.0.is_zero() {
        problems.wrong(
            &KeyPath::of("lists_check.every"),
            "`lists_check.every` is zero".to_owned(),
            "the files would be looked at without a pause",
            "write how long to wait: \"30s\"",
        );
    }
    within("lists_check.keep_percent", written.keep_percent.into(), 0, 100, problems);
    let mut urls = |name: &str, list: &[String]| -> Vec<Url> {
        let top = KeyPath::of("lists_check").key(name);
        let each = list.iter().enumerate().filter_map(|(i, text)| {
            let url = Url::parse(text).ok().filter(|url| url.has_host() && url.scheme().starts_with("http"));
            if url.is_none() {
                let path = top.at(i);
                problems.wrong(
                    &path,
                    format!("`{path}` is no address"),
                    &format!("\"{text}\" has no host that a list could be asked about"),
                    "write a whole URL: \"https://ads.example/pixel.gif\"",
                );
            }
            url
        });
        each.collect()
    };
    ListsCheck {
        every: written.every.0,
        keep_percent: written.keep_percent,
        must_match: urls("must_match", &written.must_match.0),
        must_not_match: urls("must_not_match", &written.must_not_match.0),
    }
}
