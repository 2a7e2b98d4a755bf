//! What systemd is told (sd_notify(3)); nothing where it does not ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

/// This process serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Settings are read again; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!("no monotonic time for systemd: {error}"),
    }
}

/// This process finishes.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Another process serves from now on.
pub fn new_main_process(id: u32) {
    tell(&[NotifyState::MainPid(id)]);
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::debug!("systemd could not be told: {error}");
    }
}

/// One count for each core, which its event loop drives.
pub type Pulses = Arc<[AtomicU64]>;

/// Whether every core's count has moved between two looks.
fn all_beat(before: &[u64], now: &[u64]) -> bool {
    before.iter().zip(now).all(|(before, now)| before != now)
}

/// Tells systemd's watchdog that every core is alive, for as long as every core is (WatchdogSec=).
pub async fn watchdog(pulses: Pulses) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let read = || pulses.iter().map(|pulse| pulse.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let mut before = read();
    loop {
        tokio::time::sleep(limit.min(Duration::from_secs(3600)) / 2).await;
        let now = read();
        match all_beat(&before, &now) {
            true => tell(&[NotifyState::Watchdog]),
            false => tracing::error!("a core does not answer; the watchdog is not told that all is well"),
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_that_stands_still_is_enough_for_silence() {
        assert!(all_beat(&[1, 7], &[2, 9]));
        assert!(all_beat(&[u64::MAX], &[0]), "a count may begin anew");
        assert!(!all_beat(&[1, 7], &[2, 7]));
        assert!(!all_beat(&[0, 0], &[0, 0]));
    }
}
