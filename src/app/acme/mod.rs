//! Certificates fetched from an authority and renewed in time, without a restart and without dropping a connection.
//!
//! A task of the background threads. A host's first certificate is ordered at start; then the task sleeps until one
//! is due. What fails is tried again after a growing pause, with the next way of proof, and the certificate in
//! place serves on.

mod disk;
mod order;
mod validity;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use instant_acme::CertificateIdentifier;
use rustls::sign::CertifiedKey;
use tokio::sync::{Notify, watch};

use self::disk::AcmeFiles;
use self::validity::Validity;
use super::pauses;
use crate::config::Acme;
use crate::edge::downstream::connection;
use crate::edge::downstream::tls::{self, Certificates};
use crate::edge::{House, Phase};
use crate::telemetry::events;
use crate::telemetry::metrics::Metrics;

/// Longest time for one host: the account, the proof, the certificate.
const PATIENCE: Duration = Duration::from_secs(600);
/// The pause after the first failure; it doubles with each further one. Authorities count failures by the hour.
const PAUSE: Duration = Duration::from_secs(60);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3_600);
/// Longest sleep: the clock may have been set meanwhile.
const NAP: Duration = Duration::from_secs(3_600);

/// Puts certificates of earlier runs in place.
///
/// A file that cannot be used is as if it were not there, and the log says so: another is ordered.
pub fn take_up(acme: &Acme, data_dir: &Path, certificates: &Certificates, metrics: &Metrics) {
    let files = AcmeFiles::of(data_dir, &acme.directory);
    for host in &acme.hosts {
        let file = files.file(host);
        if !file.exists() {
            continue;
        }
        match read(&file) {
            Ok((key, validity)) => {
                events::certificate_in_place(metrics, host, validity.until);
                certificates.put(host, key);
            }
            Err(error) => tracing::warn!(host, "a fetched certificate cannot be used: {error:#}"),
        }
    }
}

fn read(file: &Path) -> anyhow::Result<(Arc<CertifiedKey>, Validity)> {
    let key = tls::read_key(file, file)?;
    let leaf = key.end_entity_cert()?;
    let validity = Validity::of(leaf).with_context(|| file.display().to_string())?;
    Ok((key, validity))
}

/// The task, and what it works on.
#[derive(Debug)]
pub struct Upkeep {
    /// The edge, for settings and counters.
    pub house: Arc<House>,
    /// Where certificates go.
    pub certificates: Arc<Certificates>,
    /// The settings have changed.
    pub wake: Notify,
}

/// A host's next turn.
#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    /// Unix seconds.
    due: i64,
    failures: u32,
}

impl Upkeep {
    /// Works until the process no longer serves: then another one does this.
    pub async fn work(self: Arc<Self>, phase: watch::Receiver<Phase>) {
        tokio::select! {
            () = self.rounds() => {}
            () = connection::not_serving(phase) => {}
        }
    }

    async fn rounds(&self) {
        let mut turns = HashMap::new();
        let mut authority = String::new();
        loop {
            let settings = Arc::clone(&self.house.snapshot.load().settings);
            let wanted = settings.acme.as_ref();
            self.certificates
                .keep_only(|host| wanted.is_some_and(|acme| acme.hosts.iter().any(|h| h == host)));
            if let Some(acme) = wanted {
                if authority != acme.directory {
                    turns.clear();
                    authority.clone_from(&acme.directory);
                }
                self.round(acme, &AcmeFiles::of(&settings.data_dir, &acme.directory), &mut turns).await;
            }
            let next = turns.values().map(|turn: &Turn| turn.due).min();
            let wait = next.map_or(NAP, |due| Duration::from_secs((due - now()).max(1).unsigned_abs()));
            tokio::select! {
                () = tokio::time::sleep(wait.min(NAP)) => {}
                // Whoever reloads may have repaired what failed.
                () = self.wake.notified() => {
                    turns.values_mut().filter(|turn| turn.failures > 0).for_each(|turn| turn.due = 0);
                }
            }
        }
    }

    /// Every host whose turn it is.
    async fn round(&self, acme: &Acme, files: &AcmeFiles, turns: &mut HashMap<String, Turn>) {
        turns.retain(|host, _| acme.hosts.contains(host));
        for host in &acme.hosts {
            let turn = turns.entry(host.clone()).or_default();
            if turn.due > now() {
                continue;
            }
            let attended =
                tokio::time::timeout(PATIENCE, self.attend(acme, files, host, turn.failures)).await;
            *turn =
                match attended.unwrap_or_else(|_| Err(anyhow::anyhow!("it took longer than {PATIENCE:?}"))) {
                    Ok(due) => Turn { due, failures: 0 },
                    Err(error) => {
                        let pause = pause(turn.failures);
                        events::certificate_failed(&self.house.metrics, host, &format!("{error:#}"), pause);
                        let pause = i64::try_from(pause.as_secs()).unwrap_or(i64::MAX);
                        Turn { due: now().saturating_add(pause), failures: turn.failures.saturating_add(1) }
                    }
                };
        }
    }

    /// Renews a host's certificate if it is time, and says when to look again.
    async fn attend(&self, acme: &Acme, files: &AcmeFiles, host: &str, failures: u32) -> anyhow::Result<i64> {
        // From the file: what serves now may be another authority's, until this one has given its own.
        let held = read(&files.file(host)).ok();
        if let Some((key, validity)) = &held {
            self.certificates.put(host, Arc::clone(key));
            events::certificate_in_place(&self.house.metrics, host, validity.until);
        }
        let account = order::account(acme, files).await;
        let mut replaces = None;
        if let Some((key, validity)) = &held {
            let Ok(account) = &account else {
                // Nothing to do yet, so nothing is lost; else the error below says what is wrong.
                if now() < validity.two_thirds() {
                    return Ok(now() + 3_600);
                }
                return Err(account.err().unwrap_or_else(|| anyhow::anyhow!("no account")));
            };
            let leaf = key.end_entity_cert()?;
            let renewal = order::renewal(account, leaf, *validity, now()).await;
            if now() < renewal.at {
                return Ok(renewal.at.min(renewal.ask_again));
            }
            // An authority may refuse to have one replaced twice; the next try is for a new one.
            let told = renewal.informed && failures == 0;
            replaces = told.then(|| CertificateIdentifier::try_from(leaf).ok()).flatten();
        }
        let account = account?;
        let challenge = acme.challenges.get(failures as usize % acme.challenges.len().max(1));
        let challenge = *challenge.context("no challenge is set")?;
        let proofs = self.certificates.proofs();
        let ordered = match order::order(&account, host, challenge, replaces, proofs).await {
            // Else nothing would be fetched any more until somebody removes a file.
            Err(error) if order::lacks_account(&error) => {
                tracing::warn!(host, "the authority does not have our account, another is made: {error:#}");
                files.put_account_aside()?;
                let account = order::account(acme, files).await?;
                // What it is to replace is another account's.
                order::order(&account, host, challenge, None, proofs).await
            }
            ordered => ordered,
        };
        let (key, chain) = ordered?;
        files.keep(host, &key, &chain)?;
        let (key, validity) = read(&files.file(host))?;
        self.certificates.put(host, key);
        events::certificate_in_place(&self.house.metrics, host, validity.until);
        events::certificate_issued(&self.house.metrics, host);
        // When to renew it is asked in a while, so that an authority with a strange clock is not asked for ever.
        Ok(now() + 60)
    }
}

/// Doubled with each failure.
fn pause(failures: u32) -> Duration {
    pauses::doubled(PAUSE, failures, LONGEST_PAUSE)
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let pauses: Vec<u64> = (0..12).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(&pauses[..4], [60, 120, 240, 480]);
        assert_eq!(pauses[11], 21_600);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
