//! One list as it was read: its text, checked line by line, and what can be wrong with it.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::allows;
use super::engine::{Line, read_line};
use crate::config::ListRole;

/// A list that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListError {
    /// Files concerned, as they are named in the settings.
    pub file: String,
    /// Line, from 1, where one is to blame.
    pub line: Option<usize>,
    /// Why.
    pub fault: ListFault,
}

impl std::error::Error for ListError {}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}\n  next: {}", self.fault, self.fault.hint())
    }
}

/// Why a list was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListFault {
    /// It cannot be read.
    #[error("the list cannot be read: {0}")]
    Unreadable(String),
    /// Not UTF-8, or with bytes that no text holds.
    #[error("this is no text")]
    NoText,
    /// An HTML page, as a failed download leaves it.
    #[error("this is a web page, not a filter list")]
    WebPage,
    /// More rules that cannot be used than rules that can.
    #[error(
        "this is no filter list: `{text}` is no rule ({why}), and {wrong} lines are like it beside {rules} rules"
    )]
    Wrong {
        /// The first line of them.
        text: String,
        /// What is wrong with it.
        why: String,
        /// How many.
        wrong: usize,
        /// Usable rules.
        rules: usize,
    },
    /// A blocking list without a rule about requests.
    #[error("the list holds no rule about requests")]
    Empty,
    /// Much smaller than the one in force.
    #[error("the list has shrunk from {was} rules to {now}, below {percent} % of what it was")]
    Shrunk {
        /// Rules in force.
        was: usize,
        /// Rules it has now.
        now: usize,
        /// The least share.
        percent: u32,
    },
    /// A canary that must not match does.
    #[error("the lists would block {url}{}", .rule.as_ref().map_or(String::new(), |rule| format!(" by `{rule}`")))]
    Matches {
        /// The canary.
        url: String,
        /// The rule, where one alone is to blame.
        rule: Option<String>,
    },
    /// A canary that must match does not.
    #[error("the lists do not block {0}")]
    Misses(String),
}

impl ListFault {
    /// Word for the counter.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::NoText | Self::WebPage | Self::Wrong { .. } | Self::Empty => "malformed",
            Self::Shrunk { .. } => "shrunk",
            Self::Matches { .. } | Self::Misses(_) => "canary",
        }
    }

    /// What to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "check the path and its permissions",
            Self::NoText => "save the list as UTF-8; compressed lists are to be unpacked",
            Self::WebPage => "download the list again: the server answered with a page",
            Self::Wrong { .. } => "name a list in EasyList syntax (host lists are none), or correct the line",
            Self::Empty => "download the list again, or remove it from `lists`",
            Self::Shrunk { .. } => {
                "download the list again; if it is meant to be so, restart, or lower `lists_check.keep_percent`"
            }
            Self::Matches { .. } => "remove the rule, or except what it hits in a list of role \"allow\"",
            Self::Misses(_) => "download the list again, or correct `lists_check.must_match`",
        }
    }
}

/// A list that was read and can be used.
#[derive(Debug, Clone)]
pub struct FilterList {
    name: String,
    role: ListRole,
    text: Arc<str>,
    rules: usize,
    wrong: usize,
    digest: [u8; 32],
}

impl FilterList {
    /// Reads the bytes of a file of this name.
    ///
    /// Published lists hold some rules of other blockers' dialects; those are left out and counted, unless
    /// they are more than the rest.
    ///
    /// Cost: about 1 us a line.
    ///
    /// # Errors
    /// With the line: bytes that are no text, a web page, a file in which most is no rule; a list to block
    /// by that holds no rule.
    pub fn read(name: &str, role: ListRole, bytes: Vec<u8>) -> Result<Self, ListError> {
        let refuse = |line: Option<usize>, fault| Err(ListError { file: name.to_owned(), line, fault });
        let line_of = |bytes: &[u8]| Some(bytes.iter().filter(|b| **b == b'\n').count() + 1);
        let digest = Sha256::digest(&bytes).into();
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                return refuse(line_of(&error.as_bytes()[..good]), ListFault::NoText);
            }
        };
        // A byte order mark would hide the first rule.
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        if let Some(at) = memchr::memchr(0, text.as_bytes()) {
            return refuse(line_of(&text.as_bytes()[..at]), ListFault::NoText);
        }
        let (mut rules, mut wrong, mut first) = (0, 0, None);
        let mut begun = false;
        for (number, line) in text.lines().enumerate() {
            let bare = line.trim();
            if !begun && bare.starts_with('<') {
                return refuse(Some(number + 1), ListFault::WebPage);
            }
            begun |= !bare.is_empty();
            match read_line(bare) {
                Line::Rule => rules += 1,
                Line::Aside => {}
                Line::Wrong(why) => {
                    wrong += 1;
                    first.get_or_insert((number + 1, bare, why));
                }
            }
        }
        match first {
            Some((line, text, why)) if wrong > rules => {
                let text = text.chars().take(80).collect();
                return refuse(Some(line), ListFault::Wrong { text, why, wrong, rules });
            }
            _ if rules == 0 && !allows(role) => return refuse(None, ListFault::Empty),
            _ => {}
        }
        Ok(Self { name: name.to_owned(), role, text: text.into(), rules, wrong, digest })
    }

    /// Whether it may take the place of an earlier reading of the same file.
    ///
    /// # Errors
    /// [`ListFault::Shrunk`].
    pub fn succeeds(&self, earlier: &Self, keep_percent: u32) -> Result<(), ListError> {
        let (was, now) = (earlier.rules, self.rules);
        if (now as u64) * 100 >= (was as u64) * u64::from(keep_percent) {
            return Ok(());
        }
        let fault = ListFault::Shrunk { was, now, percent: keep_percent };
        Err(ListError { file: self.name.clone(), line: None, fault })
    }

    /// The file, as the settings name it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the list is for.
    #[must_use]
    pub const fn role(&self) -> ListRole {
        self.role
    }

    /// Usable rules about requests.
    #[must_use]
    pub const fn rules(&self) -> usize {
        self.rules
    }

    /// Rules about requests that were left out.
    #[must_use]
    pub const fn left_out(&self) -> usize {
        self.wrong
    }

    /// Whether both hold the same bytes.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// First 12 hex digits of a SHA-256 over the lists' roles and bytes, in their order.
pub(super) fn version(lists: &[&FilterList]) -> String {
    let mut hash = Sha256::new();
    for list in lists {
        hash.update([u8::from(allows(list.role))]);
        hash.update(list.digest);
    }
    let mut hex = data_encoding::HEXLOWER.encode(&hash.finalize());
    hex.truncate(12);
    hex
}
