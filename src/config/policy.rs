//! How vendors are treated, as meant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How vendors are treated on a site or path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VendorPolicy {
    /// For vendors that can be a service provider.
    pub service_providers: ServiceProviders,
    /// For third parties that are not in the registry.
    pub unknown: Unknown,
    /// Third parties that the operator knows, with their subdomains, in the form of look-ups: they stay where
    /// others go as unknown.
    pub known: Vec<String>,
    /// Hosts of the site, and of the sites in its group; `*.` stands for any subdomain.
    pub own: Vec<String>,
    /// Explicit actions, by registry id.
    pub vendors: BTreeMap<String, VendorAction>,
    /// Contracts on file, by registry id.
    pub contracts: BTreeMap<String, Contract>,
    /// Paths of the site behind which a tracker collects, beside those the registry knows; path prefixes
    /// as in the registry.
    pub collectors: Vec<String>,
    /// Paths of the site's own that look like a collector's to the registry and are none; written likewise.
    pub not_collectors: Vec<String>,
}

/// Treatment of vendors that can be run under a service-provider contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceProviders {
    /// Allowed only with a contract entry; stripped otherwise.
    #[default]
    Contract,
    /// Allowed.
    Allow,
    /// Stripped.
    Strip,
}

/// Registry id under which third parties count that nobody knows.
pub const UNKNOWN_VENDOR: &str = "unknown-third-party";

/// Treatment of third parties that are not in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// Allowed, shown as unknown.
    #[default]
    Allow,
    /// Stripped, on the server and in the browser.
    Strip,
}

/// What is done with a vendor for an opted-out visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VendorAction {
    /// Left alone.
    Allow,
    /// Kept under the vendor's restricted mode, where the guard runs; stripped elsewhere.
    Restrict,
    /// Neutralised.
    Strip,
}

impl VendorAction {
    /// Each of them, in their order.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Restrict, Self::Strip];

    /// The word used in configuration, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Restrict => "restrict",
            Self::Strip => "strip",
        }
    }
}

/// A contract that makes a vendor a service provider (11 CCR 7051).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// Legal entity.
    pub entity: String,
    /// Where the contract is filed.
    pub reference: String,
    /// Date of the contract, RFC 3339 full-date.
    pub date: String,
}
