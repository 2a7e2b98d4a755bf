//! Who is a tracker: vendors, their hosts and paths, markers, cookies; and what a site does with each.
//!
//! Pure look-ups, no I/O: `source` turns TOML text into a [`Registry`], the caller reads files.

use std::sync::Arc;

use crate::config::{VendorAction, VendorPolicy};

/// Position of a vendor entry in its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VendorId(pub u16);

/// A reference that the registry knows, with what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// Whose it is.
    pub vendor: VendorId,
    /// What the site's policy does with that vendor for an opted-out visitor.
    pub action: VendorAction,
}

/// SKELETON: vendor facts.
#[derive(Debug)]
pub struct Vendor {
    /// Stable id, `google-tag-manager`.
    pub id: String,
}

/// All vendors and their indexes; built once, shared by all sites.
#[derive(Debug)]
pub struct Registry {}

impl Registry {
    /// The registry compiled into the binary.
    ///
    /// # Errors
    /// Never for a released binary; a test loads it.
    pub fn builtin() -> Result<Self, String> {
        todo!()
    }

    /// The entry behind an id.
    #[must_use]
    pub fn vendor(&self, _id: VendorId) -> &Vendor {
        todo!()
    }

    /// Short text that changes when any entry changes (first 12 hex digits of a SHA-256); part of
    /// every rewritten page's ETag and of every record's policy version.
    #[must_use]
    pub fn version(&self) -> &str {
        todo!()
    }
}

/// A registry under one site's or path's policy: every vendor has its action.
#[derive(Debug, Clone)]
pub struct Policy {
    registry: Arc<Registry>,
    actions: Arc<[VendorAction]>,
}

impl Policy {
    /// Resolves every vendor's action under a written policy. `overrides` are a path's.
    ///
    /// # Errors
    /// An id that the registry does not hold (with the nearest one), or `restrict` for a sale/share
    /// vendor without its contract.
    pub fn resolve(_registry: Arc<Registry>, _written: &VendorPolicy) -> Result<Self, String> {
        todo!()
    }

    /// The registry underneath.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The action for a vendor.
    #[must_use]
    pub fn action(&self, id: VendorId) -> VendorAction {
        self.actions.get(usize::from(id.0)).copied().unwrap_or(VendorAction::Allow)
    }

    /// Looks up a URL by host and path-with-query. `host` is lower-case ASCII without port or trailing dot
    /// (as the WHATWG parser gives it); `path` starts with `/`.
    ///
    /// Most specific host, then longest path (DESIGN 4). `None`: not in the registry.
    ///
    /// Cost: one probe per host label, no allocation.
    #[must_use]
    pub fn match_url(&self, _host: &str, _path: &str) -> Option<Hit> {
        todo!()
    }

    /// Looks up a host alone, for connection hints and sockets: strip when any path of that host is
    /// strip and none is essential.
    #[must_use]
    pub fn match_host(&self, _host: &str) -> Option<Hit> {
        todo!()
    }

    /// Looks for a vendor's marker in the text of an inline script; the strongest action wins
    /// (strip before restrict before allow).
    #[must_use]
    pub fn match_inline(&self, _script: &[u8]) -> Option<Hit> {
        todo!()
    }

    /// Whether a first-party cookie of this name belongs to a vendor that is not allowed.
    /// Cookies on the never-delete list never match.
    #[must_use]
    pub fn match_cookie(&self, _name: &[u8]) -> Option<Hit> {
        todo!()
    }

    /// Whether a query parameter of this name is a click or person identifier.
    #[must_use]
    pub fn match_link_param(&self, _name: &str) -> bool {
        todo!()
    }
}
