//! Addresses that a set of lists must or must not match: lists that fail are not taken.

use super::engine::Engine;
use super::{FilterList, ListError, ListFault, Question, RequestType, allows};

/// Host of the made-up site that the built-in canaries belong to.
const SITE: &str = "site.example";

/// Parts of any site, under its own host.
const FIRST_PARTY: [(&str, RequestType); 5] = [
    ("/", RequestType::Document),
    ("/style.css", RequestType::Stylesheet),
    ("/app.js", RequestType::Script),
    ("/photo.jpg", RequestType::Image),
    ("/.well-known/gpc.json", RequestType::Xhr),
];

/// Below the portal's prefix: a blocked opt-out page would be no way to opt out.
const PORTAL: [(&str, RequestType); 12] = [
    ("", RequestType::Document),
    ("/opt-out", RequestType::Document),
    ("/opt-in", RequestType::Document),
    ("/opt-in/confirm", RequestType::Document),
    ("/receipt/5358-K6S6-G4HH-2G5R", RequestType::Document),
    ("/assets/e.js", RequestType::Script),
    ("/assets/e.mjs", RequestType::Script),
    ("/assets/e.gif", RequestType::Image),
    ("/assets/e.css", RequestType::Stylesheet),
    ("/assets/page.css", RequestType::Stylesheet),
    ("/assets/icon.svg", RequestType::Image),
    ("/report", RequestType::Ping),
];

/// What a shop cannot do without, whoever serves it.
const ESSENTIAL: [(&str, RequestType); 6] = [
    ("https://js.stripe.com/v3/", RequestType::Script),
    ("https://www.paypal.com/sdk/js?client-id=x", RequestType::Script),
    ("https://challenges.cloudflare.com/turnstile/v0/api.js", RequestType::Script),
    ("https://www.google.com/recaptcha/api.js", RequestType::Script),
    ("https://cdn.jsdelivr.net/npm/jquery@3/dist/jquery.min.js", RequestType::Script),
    ("https://images.example.net/photo.jpg", RequestType::Image),
];

/// The kinds an operator's canary is asked as.
const ANY: [RequestType; 5] =
    [RequestType::Script, RequestType::Image, RequestType::Subdocument, RequestType::Xhr, RequestType::Other];

/// Addresses with what a set of lists must say of them.
#[derive(Debug, Clone)]
pub struct Canaries {
    must_match: Vec<url::Url>,
    must_not_match: Vec<(url::Url, RequestType)>,
}

impl Canaries {
    /// The built-in ones for a portal at `prefix`, and the operator's.
    ///
    /// An address of the operator's counts as matched when any of script, image, frame, fetch and other is.
    #[must_use]
    pub fn new(prefix: &str, must_match: &[url::Url], must_not_match: &[url::Url]) -> Self {
        let first_party = FIRST_PARTY.iter().map(|(path, kind)| (format!("https://{SITE}{path}"), *kind));
        let portal = PORTAL.iter().map(|(path, kind)| (format!("https://{SITE}{prefix}{path}"), *kind));
        let essential = ESSENTIAL.iter().map(|(url, kind)| ((*url).to_owned(), *kind));
        let built_in = first_party.chain(portal).chain(essential);
        let mut all: Vec<_> =
            built_in.filter_map(|(url, kind)| Some((url::Url::parse(&url).ok()?, kind))).collect();
        let operators = must_not_match.iter().flat_map(|url| ANY.map(|kind| (url.clone(), kind)));
        all.extend(operators);
        Self { must_match: must_match.to_vec(), must_not_match: all }
    }

    /// Asks the engine of these lists.
    ///
    /// # Errors
    /// The first canary that fails, with the rule where one alone is to blame.
    pub(super) fn ask(&self, engine: &Engine, lists: &[&FilterList]) -> Result<(), ListError> {
        let all = || lists.iter().map(|list| list.name()).collect::<Vec<_>>().join(", ");
        for (url, kind) in &self.must_not_match {
            if engine.matches(&question(url, *kind)) {
                let found = Engine::build(lists, true).rule(&question(url, *kind));
                let blocking = || lists.iter().filter(|list| !allows(list.role()));
                let (file, line, rule) =
                    match found.and_then(|(at, line, rule)| Some((blocking().nth(at)?, line, rule))) {
                        Some((list, line, rule)) => (list.name().to_owned(), Some(line), Some(rule)),
                        None => (all(), None, None),
                    };
                return Err(ListError {
                    file,
                    line,
                    fault: ListFault::Matches { url: url.to_string(), rule },
                });
            }
        }
        for url in &self.must_match {
            if !ANY.iter().any(|kind| engine.matches(&question(url, *kind))) {
                return Err(ListError { file: all(), line: None, fault: ListFault::Misses(url.to_string()) });
            }
        }
        Ok(())
    }
}

fn question(url: &url::Url, kind: RequestType) -> Question<'_> {
    Question { url: url.as_str(), host: url.host_str().unwrap_or_default(), source: SITE, kind }
}
