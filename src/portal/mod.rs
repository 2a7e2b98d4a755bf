//! Consumer pages, server-rendered, no script needed: status first, one button, receipt; two steps
//! back in; `/.well-known/gpc.json`.
//!
//! Off the hot path: an `axum` router, called by the corridor's step 2.
//!
//! ```text
//! GET  PREFIX                      choices     the visitor's state, and one button
//! POST PREFIX/opt-out              choices     one act: recorded, cookie set, receipt
//! POST PREFIX/opt-in               choices     first act: asks, records nothing
//! POST PREFIX/opt-in/confirm       choices     second act: recorded, cookie set
//! POST PREFIX/programme            programme   first act of keeping a programme: asks, records nothing
//! POST PREFIX/programme/confirm    programme   second act: recorded
//! GET  PREFIX/receipt/{reference}  receipt     what was recorded
//! GET  PREFIX/receipt              receipt     a field for a reference, and whether its record is the signed one
//! POST PREFIX/report               report      violations of the second wall, counts of the guard
//! GET  PREFIX/assets/{name}        assets      style, icon, script, stand-ins for stripped files
//! GET  /.well-known/gpc.json       well_known
//! ```

mod assets;
mod choices;
mod origin;
mod pages;
mod programme;
mod receipt;
mod record;
mod report;
mod two_acts;
mod well_known;

use std::sync::Arc;

use axum::body::Body;
use axum::routing::{any, get, post};
use axum::{Extension, Router, extract::DefaultBodyLimit};
use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use tower::ServiceExt as _;

use crate::config;
use crate::config::LinkTitle;
use crate::privacy::{Aliases, Decision, Named, Signals};
use crate::registry::Policy;
use crate::store::Store;
use crate::store::recipients::AccountKey;
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
    /// Whom the request names beside the browser.
    pub named: Named,
    /// The same under the other secrets that are tried.
    pub aliases: Aliases,
    /// The effective scheme is https (cookies get `Secure`).
    pub secure: bool,
    /// Host asked, lower case and without port.
    pub host: String,
    /// Vendors and their actions here.
    pub policy: Arc<Policy>,
    /// Which registry and settings make the site's pages what they are, as records name it.
    pub policy_version: String,
    /// `YYYYMM` of now, for the cookie.
    pub month: u32,
    /// The account as the site calls it, where an opt-out may have to be told to others and it is at hand; see
    /// [`Told`].
    pub told: Told,
    /// The client asks more often than it should: its choice holds, its record must not take others' room.
    pub crowding: bool,
}

/// Whether others are told of an account's opt-out, and what the site calls the account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Told {
    /// The settings name nobody.
    #[default]
    Nobody,
    /// Recipients, who must be told whose it is; `None`: nothing but its hash is at hand.
    Recipients(Option<AccountKey>),
}

impl Visit {
    /// Whom a choice made on this visit covers, as the pages say it.
    fn scope(&self) -> &'static str {
        scope(self.named.account.is_some(), self.named.profile.is_some())
    }

    /// A question of two acts, asked on this visit.
    fn question<'a>(&'a self, portal: &'a Pages, act: two_acts::Act) -> two_acts::Question<'a> {
        let (keys, site) = (portal.store.keys(), self.site.name.as_str());
        two_acts::Question { keys, act, site, named: self.named, now: portal.store.moment() }
    }
}

const fn scope(account: bool, profile: bool) -> &'static str {
    match (account, profile) {
        (true, true) => "this browser, its profile on this site, and your account",
        (true, false) => "this browser and your account",
        (false, true) => "this browser and its profile on this site",
        (false, false) => "this browser",
    }
}

/// Everything the pages need, built once; cheap to clone.
#[derive(Debug, Clone)]
pub struct Portal {
    prefix: Arc<str>,
    router: Router,
}

/// What the handlers share.
struct Pages {
    prefix: Arc<str>,
    link: LinkTitle,
    /// Where the other right of the page is used.
    limit_url: Option<String>,
    store: Store,
    metrics: SharedMetrics,
    gpc_json: Bytes,
    clear_old_copies: bool,
}

impl Pages {
    fn frame<'a>(&'a self, heading: &'a str) -> pages::Frame<'a> {
        pages::Frame { prefix: &self.prefix, heading, icon: false, home: true }
    }

    fn message(&self, status: StatusCode, heading: &str, lines: &[&str]) -> Response<Body> {
        pages::html(status, &pages::Message { frame: self.frame(heading), lines })
    }
}

type Shared = axum::extract::State<Arc<Pages>>;

/// The router's own root for everything below the prefix: `PREFIX/x` is routed as `/page/x`, so
/// that no setting can be a bad route pattern.
const INNER: &str = "/page";

/// Below the prefix: the one act of opting out.
const OPT_OUT: &str = "/opt-out";

/// Below the prefix: the second act of opting back in.
const CONFIRM_OPT_IN: &str = "/opt-in/confirm";

/// A request to the consumer pages that changes what holds for the browser that sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It opts out.
    OptOut,
    /// It confirms opting back in.
    ConfirmOptIn,
}

impl Portal {
    /// Builds the router for these settings.
    #[must_use]
    pub fn new(settings: &config::Settings, store: Store, metrics: SharedMetrics) -> Self {
        let prefix: Arc<str> = settings.portal.prefix.as_str().into();
        let pages = Arc::new(Pages {
            prefix: prefix.clone(),
            link: settings.portal.link,
            limit_url: settings.portal.limit_url.clone(),
            store,
            metrics,
            clear_old_copies: settings.portal.clear_old_copies,
            gpc_json: well_known::body(settings.gpc_last_update.as_deref()),
        });
        let router = Router::new()
            .route("/page", get(choices::page))
            .route("/page/", any(to_prefix))
            .route(&format!("{INNER}{OPT_OUT}"), post(choices::opt_out))
            .route("/page/opt-in", post(choices::ask_opt_in))
            .route(&format!("{INNER}{CONFIRM_OPT_IN}"), post(choices::confirm_opt_in))
            .route("/page/programme", post(programme::ask))
            .route("/page/programme/confirm", post(programme::confirm))
            .route("/page/receipt", get(receipt::check))
            .route("/page/receipt/{reference}", get(receipt::page))
            .route("/page/report", post(report::take).layer(DefaultBodyLimit::max(report::BODY_BYTES)))
            .route("/page/assets/{name}", get(assets::serve))
            .route(well_known::PATH, get(well_known::serve))
            .method_not_allowed_fallback(wrong_method)
            .fallback(missing)
            .layer(DefaultBodyLimit::max(settings.portal.form_bytes))
            .with_state(pages);
        Self { prefix, router }
    }

    /// Whether a path is one of ours: `/.well-known/gpc.json`, the prefix, or below the prefix.
    ///
    /// Cost: two comparisons, no allocation.
    #[must_use]
    pub fn owns(&self, path: &str) -> bool {
        path == well_known::PATH
            || path.strip_prefix(&*self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// What such a request does.
    ///
    /// Cost: as [`Portal::owns`].
    #[must_use]
    pub fn act(&self, method: &Method, path: &str) -> Option<Act> {
        match path.strip_prefix(&*self.prefix).filter(|_| method == Method::POST)? {
            OPT_OUT => Some(Act::OptOut),
            CONFIRM_OPT_IN => Some(Act::ConfirmOptIn),
            _ => None,
        }
    }

    /// Answers a request whose path [`Portal::owns`]; [`Visit`] is in its extensions.
    ///
    /// Always answers; an opt-out whose record fails still carries its cookie.
    pub async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
        if request.uri().path() != well_known::PATH {
            let inner = self.inner_uri(request.uri());
            // Kept so that the cross-site check sees an HTTP/2 request's authority.
            let asked = std::mem::replace(request.uri_mut(), inner);
            request.extensions_mut().insert(Asked(asked));
        }
        // The router's error type is Infallible.
        let mut response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        harden(response.headers_mut());
        response
    }

    fn inner_uri(&self, asked: &Uri) -> Uri {
        asked
            .path()
            .strip_prefix(&*self.prefix)
            .and_then(|rest| match asked.query() {
                Some(query) => format!("{INNER}{rest}?{query}").parse().ok(),
                None => format!("{INNER}{rest}").parse().ok(),
            })
            .unwrap_or_else(|| Uri::from_static("/"))
    }
}

/// The URI as the visitor asked for it.
#[derive(Clone)]
struct Asked(Uri);

/// What a page of ours may do: nothing but look and send its forms.
const CSP: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                   base-uri 'none'; frame-ancestors 'self'";

/// Lets a page run the one script of this nonce.
fn admit_script(headers: &mut HeaderMap, nonce: &str) {
    if let Ok(policy) = HeaderValue::try_from(format!("{CSP}; script-src 'nonce-{nonce}'")) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
}

/// Headers of every answer that has not set its own.
fn harden(headers: &mut HeaderMap) {
    let defaults: [(HeaderName, &'static str); 4] = [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in defaults {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// `PREFIX/` is the same page as `PREFIX`, under one address.
async fn to_prefix(axum::extract::State(pages): Shared) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    if let Ok(place) = HeaderValue::try_from(&*pages.prefix) {
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

async fn missing(axum::extract::State(pages): Shared) -> Response<Body> {
    let lines = ["There is no page at this address.", "The link below leads to your choices."];
    pages.message(StatusCode::NOT_FOUND, "Page not found", &lines)
}

async fn wrong_method(axum::extract::State(pages): Shared) -> Response<Body> {
    let lines = ["This address does not work that way.", "Please use the buttons on the choices page."];
    pages.message(StatusCode::METHOD_NOT_ALLOWED, "Please use the choices page", &lines)
}

/// The visit of a request; the corridor always puts one there.
type VisitOf = Extension<Visit>;

#[cfg(test)]
mod tests {
    use super::*;

    fn portal() -> Portal {
        Portal { prefix: "/privacy-choices".into(), router: Router::new() }
    }

    /// A longer first segment is the origin's own.
    #[test]
    fn only_the_prefix_and_what_lies_below_it_is_ours() {
        for ours in ["/.well-known/gpc.json", "/privacy-choices", "/privacy-choices/", "/privacy-choices/x"] {
            assert!(portal().owns(ours), "{ours}");
        }
        for not in ["/", "/privacy-choices-2", "/.well-known/gpc.json/", "/x/privacy-choices", ""] {
            assert!(!portal().owns(not), "{not}");
        }
    }

    /// What else the address says is the page's own affair.
    #[test]
    fn only_a_post_to_its_very_address_is_an_act() {
        let act = |method, path| portal().act(&method, path);
        assert_eq!(act(Method::POST, "/privacy-choices/opt-out"), Some(Act::OptOut));
        assert_eq!(act(Method::POST, "/privacy-choices/opt-in/confirm"), Some(Act::ConfirmOptIn));
        assert_eq!(act(Method::GET, "/privacy-choices/opt-out"), None);
        for none in ["/privacy-choices/opt-in", "/privacy-choices/opt-out/", "/opt-out", "/privacy-choices"] {
            assert_eq!(act(Method::POST, none), None, "{none}");
        }
    }

    #[test]
    fn a_path_below_the_prefix_is_routed_without_it() {
        let inner = |path: &str| portal().inner_uri(&path.parse().unwrap()).to_string();
        assert_eq!(inner("/privacy-choices"), "/page");
        assert_eq!(inner("/privacy-choices/opt-out?x=1"), "/page/opt-out?x=1");
        assert_eq!(inner("http://shop.example/privacy-choices/assets/e.js"), "/page/assets/e.js");
        assert_eq!(inner("/elsewhere"), "/");
    }
}
