//! Composition root: builds every part in order, binds, runs, reloads, drains.
//!
//! STUB: the integrator replaces this.

use crate::config::Settings;

/// STUB: serves until a stop signal.
///
/// # Errors
/// Always, until the rooms are joined here.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let _ = settings;
    anyhow::bail!("not wired yet")
}
