//! `optgate check`: everything `run` would read, without serving.

use super::{Failure, Global};
use crate::config::{Settings, load::Loaded};

/// Loads everything and says `ok` with a summary on stderr.
///
/// # Errors
/// What is wrong, all of it; exit code 78.
pub fn run(global: &Global) -> Result<(), Failure> {
    let loaded = super::settings(global, Vec::new(), false)?;
    let problems = registry_problems(&loaded.settings);
    if !problems.is_empty() {
        return Err(Failure::Refused(problems));
    }
    eprintln!("ok: {}", summary(&loaded));
    Ok(())
}

fn summary(loaded: &Loaded) -> String {
    let Loaded { settings, files, .. } = loaded;
    let files = match files.as_slice() {
        [] => "no file".to_owned(),
        files => files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", "),
    };
    let sites: Vec<String> =
        settings.sites.iter().map(|site| format!("{} ({})", site.name, site.mode.as_str())).collect();
    let listen: Vec<String> =
        settings.listen.iter().chain(&settings.tls.listen).map(ToString::to_string).collect();
    format!(
        "read {files}; sites: {}; listening on {}; admin on {}; data in {}",
        sites.join(", "),
        listen.join(", "),
        settings.admin,
        settings.data_dir.display(),
    )
}

/// What the registry has to say about the settings: unreadable or contradictory registry files, vendor ids
/// it does not know, `restrict` without a contract.
///
/// TO WIRE once the registry room is in.
#[must_use]
pub fn registry_problems(_settings: &Settings) -> Vec<String> {
    Vec::new()
}
