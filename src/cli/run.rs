//! `optgate run`: serve until a stop signal.

use super::{Failure, Global, RunArgs, check, settings};

/// Loads the settings, refuses what cannot be, and serves.
///
/// # Errors
/// See [`Failure`].
pub fn run(global: &Global, args: &RunArgs) -> Result<(), Failure> {
    let begun = crate::app::begin()?;
    let loaded = settings(global, args.flags(), false)?;
    check::refuse(&loaded)?;
    let (global, args) = (global.clone(), args.clone());
    crate::app::run(begun, loaded.settings, move || {
        let loaded = settings(&global, args.flags(), false).map_err(Failure::from)?;
        check::refuse(&loaded)?;
        Ok(loaded.settings)
    })?;
    Ok(())
}
