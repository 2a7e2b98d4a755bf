//! Who is a tracker: vendors, their hosts and paths, markers, cookies; and what a site does with each.
//!
//! Pure look-ups, no I/O: `source` turns TOML text into a [`Registry`], the caller reads files.
//! One rule matches everywhere: most specific host, then longest path.

mod assemble;
mod builtin;
mod collectors;
mod error;
mod host_index;
mod hosts;
pub mod lists;
mod markers;
mod names;
mod pattern;
mod policy;
mod source;
pub mod unknown;
mod vendor;
mod verdicts;

use std::collections::HashMap;

use collectors::CollectorRule;
use host_index::{HostIndex, Node, Rule};
use markers::MarkerIndex;
use names::NameIndex;

use crate::config::nearest::nearest;

pub use collectors::FirstParty;
pub use error::{Fault, Place, RegistryError};
pub use policy::{CloakedHosts, Hit, Policy, PolicyError};
pub use source::Collector;
pub use vendor::{Category, HostRule, How, RestrictedCall, Role, Vendor, VendorId};
pub use verdicts::DomainVerdicts;

/// All vendors and their indexes; built once, shared by all sites.
#[derive(Debug)]
pub struct Registry {
    vendors: Vec<Vendor>,
    ids: HashMap<String, VendorId>,
    index: HostIndex,
    shared: Vec<SharedRule>,
    markers: MarkerIndex,
    cookies: NameIndex,
    never_delete: NameIndex,
    params: NameIndex,
    person_params: NameIndex,
    collectors: Vec<CollectorRule>,
    version: String,
}

/// A host and path that several entries of one role name.
#[derive(Debug)]
struct SharedRule {
    host: String,
    path: String,
    owners: Vec<VendorId>,
}

/// Why a URL matched: the rule behind a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Explanation<'a> {
    /// The entry.
    #[serde(skip)]
    pub vendor: VendorId,
    /// Its id.
    pub id: &'a str,
    /// Its role.
    pub role: Role,
    /// The host of the rule; the URL's host is this one or below it.
    pub host: &'a str,
    /// The path prefix of the rule.
    pub path: &'a str,
}

impl Registry {
    /// The registry compiled into the binary.
    ///
    /// # Errors
    /// Never for a released binary; a test loads it.
    pub fn builtin() -> Result<Self, RegistryError> {
        assemble::assemble(&[builtin::FILES])
    }

    /// The built-in registry under files of `(name, text)`, the last on top: an entry replaces the
    /// whole earlier one of the same id, or is added; lists are added to.
    ///
    /// # Errors
    /// File, line and column, the line, why, and what to do: malformed TOML, unknown keys, malformed
    /// hosts and paths, mixed-use hosts without paths, an id twice in one file, entries of equal rank
    /// with different roles, short markers.
    pub fn with_files(files: &[(&str, &str)]) -> Result<Self, RegistryError> {
        let layers: Vec<&[assemble::Named<'_>]> =
            std::iter::once(builtin::FILES).chain(files.chunks(1)).collect();
        assemble::assemble(&layers)
    }

    /// The entry behind an id of this registry.
    ///
    /// An id of another, larger registry gives the first entry.
    #[must_use]
    pub fn vendor(&self, id: VendorId) -> &Vendor {
        self.vendors.get(id.index()).unwrap_or(&self.vendors[0])
    }

    /// Every entry with its position, in order of position.
    pub fn vendors(&self) -> impl ExactSizeIterator<Item = (VendorId, &Vendor)> {
        self.vendors
            .iter()
            .enumerate()
            .map(|(at, vendor)| (VendorId(u16::try_from(at).unwrap_or(u16::MAX)), vendor))
    }

    /// The position of an entry by its text id.
    #[must_use]
    pub fn lookup_id(&self, id: &str) -> Option<VendorId> {
        self.ids.get(id).copied()
    }

    /// The text id nearest to one that does not exist, for "did you mean".
    #[must_use]
    pub fn nearest_id(&self, id: &str) -> Option<&str> {
        // In order of position, so that equal likeness always gives the same answer.
        nearest(id, self.vendors.iter().map(|vendor| vendor.id.as_str()))
    }

    /// Short text that changes when any entry changes (first 12 hex digits of a SHA-256); part of
    /// every rewritten page's `ETag` and of every record's policy version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The rule that decides for a URL, given as for [`Policy::match_url`].
    #[must_use]
    pub fn explain(&self, host: &str, path: &str) -> Option<Explanation<'_>> {
        let (node, rule) = self.rule(host, path)?;
        let vendor = *rule.vendors.first()?;
        let entry = self.vendor(vendor);
        Some(Explanation {
            vendor,
            id: &entry.id,
            role: entry.role,
            host: node.name(),
            path: rule.path.as_str(),
        })
    }

    /// Most specific host with a rule for the path, then its longest.
    fn rule(&self, host: &str, path: &str) -> Option<(&Node, &Rule)> {
        let mut known = self.index.chain(host).peekable();
        known.peek()?;
        let path = pattern::plain(path);
        known
            .find_map(|node| node.rules.iter().find(|rule| rule.path.matches(&path)).map(|rule| (node, rule)))
    }
}
