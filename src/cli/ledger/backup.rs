//! `optgate ledger backup` and `optgate ledger restore`.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, Global, data_dir};
use crate::store;

/// Where to.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// A new folder
    #[arg(value_name = "TO")]
    pub to: PathBuf,
    /// Take `secret.key` and `signing.key` along: who has them and the journal can tell who is in it
    #[arg(long)]
    pub with_keys: bool,
}

/// Where from.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A folder that `ledger backup` wrote
    #[arg(value_name = "FROM")]
    pub from: PathBuf,
    /// Put it in place even where it is not what it was when it was made, or nothing shows that
    #[arg(long)]
    pub force: bool,
}

/// Copies the journal beside a running server.
///
/// # Errors
/// The folder is there already, or something cannot be read or written.
pub fn backup(global: &Global, args: &BackupArgs) -> Result<(), Failure> {
    let proven = store::backup(&data_dir(global)?, &args.to, args.with_keys).map_err(anyhow::Error::new)?;
    eprintln!("{}: {} records, signed up to {}", args.to.display(), proven.records, proven.signed_to);
    if !args.with_keys {
        eprintln!(
            "without keys: keep secret.key and signing.key apart; the backup is of no use without them"
        );
    }
    Ok(())
}

/// Puts a backup in place.
///
/// # Errors
/// The data folder has a journal, or the backup is not whole.
pub fn restore(global: &Global, args: &RestoreArgs) -> Result<(), Failure> {
    let folder = data_dir(global)?;
    let proven = store::restore(&args.from, &folder, args.force).map_err(anyhow::Error::new)?;
    eprintln!("{}: {} records, signed up to {}", folder.display(), proven.records, proven.signed_to);
    Ok(())
}
