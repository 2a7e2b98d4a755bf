//! `optgate run`: serve until a stop signal.

use super::{Failure, Global, RunArgs, check, settings};
use crate::config::LogFormat;

/// Loads the settings, refuses what cannot be, and serves.
///
/// # Errors
/// See [`Failure`]; with `log.format = "json"` it is a line of that log. Settings that cannot be read do not say so, then
/// only the flag and the environment do.
pub fn run(global: &Global, args: &RunArgs) -> Result<(), Failure> {
    let told = args.log_format.clone().or_else(|| std::env::var("OPTGATE__LOG__FORMAT").ok());
    let mut format = if told.as_deref() == Some("json") { LogFormat::Json } else { LogFormat::Text };
    serve(global, args, &mut format).map_err(|failure| match format {
        LogFormat::Text => failure,
        LogFormat::Json => failure.as_log_line(),
    })
}

/// As [`run`]; `format` becomes what the settings say.
fn serve(global: &Global, args: &RunArgs, format: &mut LogFormat) -> Result<(), Failure> {
    let begun = crate::app::begin()?;
    let loaded = settings(global, args.flags(), false)?;
    *format = loaded.settings.log.format;
    check::refuse(&loaded)?;
    let (global, args) = (global.clone(), args.clone());
    crate::app::run(begun, loaded.settings, move || {
        let loaded = settings(&global, args.flags(), false).map_err(Failure::from)?;
        check::refuse(&loaded)?;
        Ok(loaded.settings)
    })?;
    Ok(())
}
