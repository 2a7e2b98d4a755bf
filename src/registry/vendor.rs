//! What is known about one product: facts only, no policy.

use serde::Serialize;

/// Position of a vendor entry in its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VendorId(pub u16);

impl VendorId {
    /// The position as an index.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// How a product stands to the site unless its operator says otherwise (Civil Code 1798.140(ad),
/// (ag), (ah); 11 CCR 7051).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Normally a sale, or sharing for cross-context behavioural advertising.
    SaleShare,
    /// Can be run under a service-provider contract.
    ServiceProvider,
    /// The site does not work without it, and it is not a sale as a rule.
    Essential,
}

impl Role {
    /// Every role, for messages.
    pub const ALL: [Self; 3] = [Self::SaleShare, Self::ServiceProvider, Self::Essential];

    /// The word used in registry files, listings and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SaleShare => "sale-share",
            Self::ServiceProvider => "service-provider",
            Self::Essential => "essential",
        }
    }
}

/// What a product is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Ad serving, exchanges, affiliate networks.
    Advertising,
    /// Conversion and audience tags of advertisers.
    Retargeting,
    /// Pixels, buttons and embeds of social networks.
    SocialPixel,
    /// Identity graphs and data brokers.
    DataBroker,
    /// Measurement.
    Analytics,
    /// Recording of what visitors do on a page.
    SessionReplay,
    /// Customer data, messaging, chat, experiments.
    Cdp,
    /// Loads other products; `restrict` by default.
    TagManager,
    /// Consent, security, payment, delivery.
    Essential,
}

impl Category {
    /// Every category, for messages.
    pub const ALL: [Self; 9] = [
        Self::Advertising,
        Self::Retargeting,
        Self::SocialPixel,
        Self::DataBroker,
        Self::Analytics,
        Self::SessionReplay,
        Self::Cdp,
        Self::TagManager,
        Self::Essential,
    ];

    /// The word used in registry files and listings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Advertising => "advertising",
            Self::Retargeting => "retargeting",
            Self::SocialPixel => "social_pixel",
            Self::DataBroker => "data_broker",
            Self::Analytics => "analytics",
            Self::SessionReplay => "session_replay",
            Self::Cdp => "cdp",
            Self::TagManager => "tag_manager",
            Self::Essential => "essential",
        }
    }
}

/// A host with the paths on it that belong to the product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostRule {
    /// Lower-case ASCII host; its subdomains are meant too.
    pub host: String,
    /// Path prefixes (see `registry/pattern.rs`); `/` is every path. Never empty.
    pub paths: Vec<String>,
}

/// A documented call that puts a vendor's script into its restricted mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestrictedCall {
    /// The vendor's global.
    pub global: String,
    /// How it is called.
    pub how: How,
    /// Arguments, a JSON list, ASCII.
    pub args: serde_json::Value,
}

/// How a [`RestrictedCall`] reaches the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The global is a function that queues: it is called once, before the page's first call.
    Call,
    /// The global has a command queue `cmd`: `[service, method, argument]`.
    Command,
    /// Every call whose first argument is listed gets parameters: `[[first arguments], parameters]`.
    Parameter,
    /// Google's layer: the arguments of `gtag`. The guard's own Google part makes the call.
    Gtag,
}

impl How {
    /// Every way, for messages.
    pub const ALL: [Self; 4] = [Self::Call, Self::Command, Self::Parameter, Self::Gtag];

    /// The word used in registry files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Command => "command",
            Self::Parameter => "parameter",
            Self::Gtag => "gtag",
        }
    }
}

/// One product in the registry. Lists are empty and texts absent where nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vendor {
    /// Stable id, `google-tag-manager`.
    pub id: String,
    /// Company.
    pub vendor: String,
    /// Product.
    pub product: String,
    /// How it stands to the site by default.
    pub role: Role,
    /// What it is for.
    pub category: Category,
    /// Hosts and paths it is reached at.
    pub hosts: Vec<HostRule>,
    /// Names its snippet defines or calls. They never decide alone.
    pub globals: Vec<String>,
    /// Texts that mark its inline snippet, each distinctive enough to decide alone.
    pub inline_markers: Vec<String>,
    /// Texts often seen in its snippet but too common to decide anything.
    pub weak_markers: Vec<String>,
    /// Cookies it sets for the site's own domain; `*` is a wildcard.
    pub first_party_cookies: Vec<String>,
    /// Cookies it sets for its own domains.
    pub third_party_cookies: Vec<String>,
    /// Keys it keeps in local or session storage.
    pub storage_keys: Vec<String>,
    /// URL parameters it reads or adds; `*` is a wildcard.
    pub link_params: Vec<String>,
    /// The vendor's own limited-data switch, for `restrict`.
    pub restricted_mode: Option<String>,
    /// That switch as calls that the guard makes; empty where none is documented for an opt-out in the
    /// United States.
    pub restricted_calls: Vec<RestrictedCall>,
    /// What a stand-in must offer so that page code neither throws nor waits.
    pub stub: Vec<String>,
    /// What visitors lose when it is stripped.
    pub breaks: Option<String>,
    /// Anything else an operator should know.
    pub note: Option<String>,
}
