//! `optgate ledger adopt`: opt-outs that only a data folder has that was moved away.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::import::{clear, record};
use super::{Failure, Global, settings};
use crate::cli::data_folder::DataFolder;
use crate::store::adopt::left_behind;
use crate::store::recipients;

/// Whose opt-outs.
#[derive(Debug, Args)]
pub struct AdoptArgs {
    /// Only say what would be recorded
    #[arg(long)]
    pub dry_run: bool,
    /// The data folder that was moved away; it is only read
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// Records the opt-outs of another data folder that are not known here, each with where it came from, beside a running
/// server too. Doing it again adds nothing.
///
/// # Errors
/// The folder is this node's own, of another secret, or cannot be read; a journal that cannot be written. One that is not
/// what was written is adopted, and said to be so at the end.
pub fn run(global: &Global, args: &AdoptArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = settings(global, Vec::new(), true)?.settings;
    let left = left_behind(&args.folder, &settings.data_dir).map_err(anyhow::Error::new)?;
    let folder = DataFolder::open(&settings)?;
    let (told, total) = (!settings.recipients.is_empty(), left.arrivals.len() as u64);
    let counts =
        record(&folder, (left.arrivals.into_iter().map(Ok), total), || Ok(()), (told, args.dry_run))?;
    if !args.dry_run {
        folder.plan(&settings)?;
    }
    writeln!(out, "{}: {}", if args.dry_run { "would be recorded" } else { "recorded" }, counts.recorded)?;
    writeln!(out, "opted out here already: {}", counts.known)?;
    writeln!(out, "older than the account's own opt-in: {}", counts.overruled)?;
    writeln!(out, "of browsers alone, which keep their own: {}", left.of_browsers)?;
    let untold = recipients::open_tasks(&args.folder).map_err(anyhow::Error::new)?.len();
    writeln!(out, "recipients that are still to be told, by `ledger recipients` on that folder: {untold}")?;
    clear(&counts)?;
    match left.unproven {
        None => Ok(()),
        Some(why) => Err(anyhow::anyhow!(
            "{why}; what it says was taken all the same, and opt-outs that are missing there are missing here: adopt a copy of \
             the folder of before, if there is one"
        )
        .into()),
    }
}
