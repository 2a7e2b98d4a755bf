//! Settings as they are meant: every value here makes sense, nobody asks again.
//!
//! Written settings live in [`raw`]; [`load`] lays the layers on each other, `meaning` and `sites` are
//! the one conversion that can fail. Weakest first: compiled defaults, files in order, environment,
//! flags. Every complaint says where, what, why and what to do next ([`error`]).

mod account;
mod acme;
pub mod csp;
mod dates;
mod environment;
pub mod error;
mod formerly;
pub mod groups;
mod key;
mod known;
mod layer;
mod listen;
mod lists;
pub mod load;
mod mail;
mod meaning;
mod names;
pub mod nearest;
pub mod origins;
mod paths;
mod policy;
mod programme;
pub mod raw;
mod recipients;
mod server_timing;
mod sharing;
mod site;
mod sites;
mod store;
mod tls;
pub mod units;
mod upstream;
mod upstreams;
mod warnings;
mod words;
pub mod written;

pub mod switches;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use account::{Account, JwksUrl, Jwt, JwtAlgorithm, JwtKeys, Session};
pub use acme::{Acme, Challenge};
pub use csp::{Csp, CspMode, CspSource};
pub use listen::{Listen, ListenAt};
pub use lists::{List, ListRole, ListsCheck};
pub use mail::{Mail, MailTls};
pub use names::{Blind, Names};
pub use policy::{Contract, ServiceProviders, UNKNOWN_VENDOR, Unknown, VendorAction, VendorPolicy};
pub use programme::Programme;
pub use recipients::{Recipient, Way, Webhook};
pub use server_timing::ServerTiming;
pub use sharing::{BadAnswers, Balance, HashOn, Health, Outlier, Sharing};
pub use site::{CacheFront, Compress, NoTransform, OnRewriteFailure, PathRule, Site};
pub use store::{DatabaseUrl, Engine, Shared, Store, parse_url as parse_database};
pub use switches::Switches;
pub use tls::{AdminTls, CertificateFiles, Hsts, Tls};
pub use upstream::{OriginUrl, ProxyProtocol, Upstream, UpstreamAddress, UpstreamTls, parse as parse_origin};

use crate::privacy::gpp::Section;

/// Everything a running Optgate was told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Cleartext listeners: HTTP/1.1, and HTTP/2 with prior knowledge.
    pub listen: Vec<Listen>,
    /// TLS listeners with their certificates; none by default.
    pub tls: Tls,
    /// Certificates that are fetched; `None`: none are.
    pub acme: Option<Acme>,
    /// The admin listener.
    pub admin: SocketAddr,
    /// Names by which it may be asked in cleartext, beside its addresses.
    pub admin_names: Vec<String>,
    /// TLS there; `None` is cleartext.
    pub admin_tls: Option<AdminTls>,
    /// Where journal and keys live.
    pub data_dir: PathBuf,
    /// Threads that serve; one per usable core by default.
    pub workers: usize,
    /// How long requests under way may take after a stop signal.
    pub drain_timeout: Duration,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Addresses that may ask why (`Optgate-Explain: 1`); loopback by default.
    pub explain_to: Vec<IpNet>,
    /// Which answers say how long they took.
    pub server_timing: ServerTiming,
    /// Log output.
    pub log: Log,
    /// Every time limit.
    pub timeouts: Timeouts,
    /// Every size and count limit.
    pub limits: Limits,
    /// When visitors' requests show that an origin fails.
    pub outlier: Outlier,
    /// Consumer pages and link.
    pub portal: Portal,
    /// What pages, vendors and consent platforms are told.
    pub signals: SignalSettings,
    /// `lastUpdate` of `/.well-known/gpc.json`: an RFC 3339 date of the operator's statement.
    pub gpc_last_update: Option<String>,
    /// Whom a request names.
    pub account: Account,
    /// `/readyz` turns red when the journal cannot write.
    pub ready_requires_journal: bool,
    /// Store limits.
    pub store: Store,
    /// Look-ups of hosts that hide a tracker behind a name of the site.
    pub dns: Dns,
    /// Registry files that override or extend the built-in ones.
    pub registry_files: Vec<PathBuf>,
    /// How filter lists are watched.
    pub lists_check: ListsCheck,
    /// The sites, in file order; at least one.
    pub sites: Vec<Arc<Site>>,
    /// Index into `sites` for hosts nobody named; `None` answers 421.
    pub default_site: Option<usize>,
    /// Names of sites and groups that were shut down: what is kept under them is nobody's any more.
    pub retired_sites: Vec<String>,
    /// Who is told of opt-outs, in file order.
    pub recipients: Vec<Arc<Recipient>>,
    /// By which mails to recipients go out; without it a person writes.
    pub mail: Option<Mail>,
}

impl Settings {
    /// Whether somebody is told of every opt-out of an account, also of one that took effect at once.
    #[must_use]
    pub fn tells_of_signals(&self) -> bool {
        self.recipients.iter().any(|recipient| recipient.always || !recipient.delay.is_zero())
    }
}

/// Where log lines go and in what form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// One line of text or one JSON object a line.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`; the first two silence access lines.
    pub level: LogLevel,
    /// The file that lines are added to; standard error by default.
    pub file: Option<PathBuf>,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Least severe level written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Errors only; no access lines.
    Error,
    /// And warnings.
    Warn,
    /// And access lines (the default).
    Info,
    /// And details.
    Debug,
    /// Everything.
    Trace,
}

/// Every time limit of the proxied path.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// From accepting a TLS connection to the end of its handshake.
    pub tls_handshake: Duration,
    /// To receive a PROXY protocol header, where a listener wants one.
    pub proxy_header: Duration,
    /// To receive a whole request head.
    pub header_read: Duration,
    /// An HTTP connection without a request.
    pub idle: Duration,
    /// To connect to an origin (TCP and TLS).
    pub upstream_connect: Duration,
    /// To wait for a place at an origin whose `max_connections` are taken.
    pub upstream_queue: Duration,
    /// From the request sent, its body too, to the origin's response head.
    pub first_byte: Duration,
    /// Between two pieces of a body, in either direction.
    pub between_bytes: Duration,
    /// A pooled origin connection without a request.
    pub upstream_idle: Duration,
    /// A tunnel (WebSocket) without traffic.
    pub tunnel_idle: Duration,
    /// How long a visitor's body may stay below `limits.min_body_rate`.
    pub slow_body: Duration,
    /// How long a visitor may take less than `limits.min_send_rate` of what waits to be sent.
    pub slow_send: Duration,
}

/// Every size and count limit of the proxied path.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request head, all fields together.
    pub header_bytes: usize,
    /// Fields of a request head.
    pub header_count: usize,
    /// Downstream connections at a time, all cores together.
    pub connections: usize,
    /// Of these, connections of one client (an IPv4 address, an IPv6 /64); `None` is no limit.
    pub connections_per_client: Option<usize>,
    /// Bytes of a request body; `None` is no limit.
    pub request_body: Option<u64>,
    /// Bytes a second that a visitor must send of a body; 0 is any.
    pub min_body_rate: u64,
    /// Bytes a second that a visitor must take of an answer; 0 is any.
    pub min_send_rate: u64,
    /// Concurrent HTTP/2 streams a connection.
    pub http2_streams: u32,
    /// Streams that an HTTP/2 client may reset at once; a tenth as many more each second.
    pub http2_resets: u32,
    /// Frames that carry no request or data, beyond what the traffic explains, that an HTTP/2 client may
    /// send at once; a tenth as many more each second.
    pub http2_control_frames: u32,
    /// Pieces of an HTTP/2 request's `Cookie`.
    pub http2_cookie_crumbs: usize,
    /// Requests a second of one client for consumer pages; 0 is any number.
    pub portal_rate: u32,
    /// Requests above that rate at once.
    pub portal_burst: u32,
    /// Memory of the process from which on new requests are turned away.
    pub memory: ProcessMemory,
    /// Idle origin connections kept, per core and origin.
    pub upstream_idle: usize,
    /// Requests that may wait for a place at one origin, all cores together.
    pub upstream_queue: usize,
    /// Memory one page's rewriter may hold, bytes; a tag, a script or a style sheet five sixteenths of it.
    pub rewriter_memory: usize,
    /// Memory in which each core remembers rewritten pages, bytes; 0: none.
    pub rewrite_memo: usize,
    /// Largest decoded body of a compressed page, as a multiple of its coded size.
    pub decode_ratio: u32,
    /// Largest decoded body of a compressed page, bytes.
    pub decoded_page: usize,
}

/// How much memory the process may use before it turns new requests away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessMemory {
    /// Four fifths of what the process's cgroup may use or three fifths of the machine's memory, whichever is less.
    Auto,
    /// Any.
    Unlimited,
    /// So many bytes.
    Bytes(u64),
}

/// Consumer pages.
#[derive(Debug, Clone)]
pub struct Portal {
    /// First path segment of all consumer pages, without a trailing slash.
    pub prefix: String,
    /// Which prescribed title the link has.
    pub link: LinkTitle,
    /// Where the right to limit the use of sensitive personal information is used: a path of the site, or a URL.
    pub limit_url: Option<String>,
    /// Largest form body, bytes.
    pub form_bytes: usize,
    /// The page after an opt-out carries a script that removes service workers and cached pages.
    pub clear_old_copies: bool,
}

/// The link's title; the words are prescribed (Civil Code 1798.135(a), 11 CCR 7015).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkTitle {
    /// `Do Not Sell or Share My Personal Information`.
    DoNotSell,
    /// `Your Privacy Choices`, with the opt-out icon beside it.
    PrivacyChoices,
}

impl LinkTitle {
    /// The prescribed words (Civil Code 1798.135(a)(1); 11 CCR 7015(b)).
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::DoNotSell => "Do Not Sell or Share My Personal Information",
            Self::PrivacyChoices => "Your Privacy Choices",
        }
    }
}

/// What is said where an opt-out is in force (11 CCR 7025(c)(6)).
pub const HONORED: &str = "Opt-Out Request Honored";

/// What an opted-out visitor's page, its vendors and its consent platform are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalSettings {
    /// Sections of the GPP string, each once; one or two.
    pub sections: Vec<Section>,
    /// Who writes consent cookies.
    pub cookies: SignalCookies,
    /// OneTrust's groups that are advertising: turned off.
    pub onetrust_groups: Vec<String>,
    /// Deny `analytics_storage` too.
    pub deny_analytics: bool,
}

impl Default for SignalSettings {
    /// What holds without settings.
    fn default() -> Self {
        Self {
            sections: vec![Section::UsNat],
            cookies: SignalCookies::default(),
            onetrust_groups: ["C0004", "C0005", "SPD_BG", "SSPD_BG"].map(str::to_owned).to_vec(),
            deny_analytics: false,
        }
    }
}

/// Who writes `usprivacy` and steers the cookies of a consent platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignalCookies {
    /// The script on the page, and the answer to an opt-out form.
    #[default]
    Page,
    /// The script, and response heads of documents.
    Server,
    /// Nobody.
    Off,
}

/// Look-ups of CNAMEs, never on a request's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Hosts are looked up at all.
    pub enabled: bool,
    /// Servers asked; the system's when empty.
    pub servers: Vec<SocketAddr>,
    /// Time between two look-ups of one host.
    pub interval: Duration,
    /// How long one question may take.
    pub timeout: Duration,
    /// Hosts seen in pages that are kept, all sites together.
    pub hosts: usize,
    /// Longest time between two look-ups of an origin's name; also where `enabled` is off.
    pub upstream_interval: Duration,
}
