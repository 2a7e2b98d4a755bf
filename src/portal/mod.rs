//! Consumer pages, server-rendered, no script needed: status first, one button, receipt; two steps
//! back in; `/.well-known/gpc.json`.
//!
//! Off the hot path: an `axum` router, called by the corridor's step 2.

use std::sync::Arc;

use crate::config;
use crate::privacy::{Decision, Signals, Subject};
use crate::store::Store;
use crate::telemetry::metrics::SharedMetrics;

/// What the corridor knows about a portal request; put into the request's extensions.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The site asked.
    pub site: Arc<config::Site>,
    /// Signals of this request, account included.
    pub signals: Signals,
    /// The decision of this request.
    pub decision: Decision,
    /// The account, if one was named.
    pub subject: Option<Subject>,
    /// The effective scheme is https (cookies get `Secure`).
    pub secure: bool,
    /// Registry version, for records.
    pub policy: String,
    /// `YYYYMM` of now, for the cookie.
    pub month: u32,
}

/// SKELETON. Everything the pages need, built once.
#[derive(Clone)]
pub struct Portal {}

impl Portal {
    /// Builds the router for these settings.
    #[must_use]
    pub fn new(_settings: &config::Settings, _store: Store, _metrics: SharedMetrics) -> Self {
        todo!()
    }

    /// Whether a path is one of ours: `/.well-known/gpc.json`, the prefix, or below the prefix.
    #[must_use]
    pub fn owns(&self, _path: &str) -> bool {
        todo!()
    }

    /// Answers a request whose path [`Portal::owns`]; [`Visit`] is in its extensions.
    pub async fn answer(
        &self,
        _request: http::Request<axum::body::Body>,
    ) -> http::Response<axum::body::Body> {
        todo!()
    }
}
