//! Key sets of tokens that are published at an address: fetched in the background, never while a request waits.
//!
//! A set holds until another one has come. It is fetched every `account.jwt.refresh`, and at once when a token names a
//! key that is not in it (not more often than the verifier asks for). A failure keeps what is in force and is tried
//! again after a growing pause; meanwhile a token of a key that nobody knows has its bearer count as opted out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::Full;
use tokio::runtime::Handle;

use super::jobs::Jobs;
use super::outward;
use super::pauses;
use crate::config::{JwksUrl, JwtKeys};
use crate::edge::House;
use crate::edge::account::keys::KeySet;
use crate::edge::account::token::Verifier;
use crate::telemetry::events;

/// Longest time for one fetch.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest set; issuers publish a few KiB.
const MOST_BYTES: usize = 256 << 10;
/// The pause after the first failure; it doubles with each further one, up to the refresh or `LONGEST_PAUSE`.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The job for the settings in force; it ends when others are.
#[derive(Debug)]
pub struct KeyFetcher {
    runtime: Handle,
    working: Mutex<(Option<Arc<Verifier>>, Jobs)>,
}

impl KeyFetcher {
    /// No job yet.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        let working = Mutex::new((None, Jobs::new(runtime.clone())));
        Self { runtime, working }
    }

    /// Starts what this verifier wants, in place of what was started for another.
    pub fn follow(&self, house: &Arc<House>, verifier: Option<&Arc<Verifier>>) {
        // Whatever another thread left in it goes.
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        let same = match (&working.0, verifier) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        let mut jobs = Jobs::new(self.runtime.clone());
        if let Some(verifier) = verifier {
            let (house, verifier) = (Arc::clone(house), Arc::clone(verifier));
            jobs.keep("the fetching of keys", move || keep_fresh(Arc::clone(&house), Arc::clone(&verifier)));
        }
        *working = (verifier.cloned(), jobs);
    }
}

async fn keep_fresh(house: Arc<House>, verifier: Arc<Verifier>) {
    let JwtKeys::Url(source) = verifier.settings.keys.clone() else { return };
    let mut failures: u32 = 0;
    loop {
        let asked_for = verifier.moment();
        let fetched = tokio::time::timeout(PATIENCE, fetch(&source)).await;
        let fetched = fetched.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {PATIENCE:?}")));
        let set = fetched.and_then(|json| KeySet::of_jwks(&json, &verifier.settings.algorithms, false));
        let wait = match set {
            Ok(set) => {
                verifier.take(set, asked_for);
                events::keys_taken(&house.metrics, source.url.as_str());
                failures = 0;
                source.refresh
            }
            Err(error) => {
                let pause = pauses::doubled(PAUSE, failures, LONGEST_PAUSE).min(source.refresh);
                events::keys_failed(&house.metrics, source.url.as_str(), &format!("{error:#}"), pause);
                failures = failures.saturating_add(1);
                pause
            }
        };
        verifier.fetched();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = verifier.wanted() => {}
        }
    }
}

/// The body at an address. Redirects are not followed: the keys are where the settings say, or nowhere.
async fn fetch(source: &JwksUrl) -> anyhow::Result<Bytes> {
    let request = outward::request(Method::GET, &source.url)
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .body(Full::default())?;
    let (status, body) = outward::ask(&source.url, source.roots.as_deref(), request, MOST_BYTES).await?;
    ensure!(status == StatusCode::OK, "its server answers {}", status.as_u16());
    body
}
