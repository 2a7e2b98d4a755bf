//! `optgate ledger ...`: the journal as evidence.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;

use super::{Failure, Global, settings};
use crate::store;

pub mod adopt;
pub mod backup;
pub mod export;
pub mod forget;
pub mod import;
pub mod input;
pub mod recipients;
pub mod subject;
pub mod table;
pub mod verify;

/// `optgate ledger ...`
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Print every record, oldest first; never the account
    Export(export::ExportArgs),
    /// Prove a data folder, an export or one record, and name the first record that does not fit
    Verify(verify::VerifyArgs),
    /// Print what proves one record alone, for `ledger verify --proof`
    Proof(verify::ProofArgs),
    /// Print how many changes came by the minute, as CSV
    Counts,
    /// Print the public key that the journal is signed with
    Key,
    /// Replace records that are too old by their digests; a server does so by itself once a day
    Prune(forget::PruneArgs),
    /// Copy the journal into a new folder, beside a running server
    Backup(backup::BackupArgs),
    /// Put a backup into a data folder that has no journal, once it is proven whole
    Restore(backup::RestoreArgs),
    /// Record the opt-outs of a CSV file, each with where it came from
    Import(import::ImportArgs),
    /// Print the keyed hashes of names, a line each on standard input, for a file to import that is to hold no names
    Subject(subject::SubjectArgs),
    /// Record the opt-outs that only another data folder has: one that was cut off from the shared database for good
    Adopt(adopt::AdoptArgs),
    /// Show who is to be told of opt-outs, and note that somebody was
    Recipients(recipients::RecipientsArgs),
    /// Keep records from being pruned
    #[command(subcommand)]
    Hold(forget::HoldCommand),
    /// Take what ties an account to its records out of the journal
    Erase(forget::EraseArgs),
}

/// Does one of them.
///
/// # Errors
/// The settings are wrong, the journal cannot be read or is not what it should be, or stdout cannot be written.
pub fn run(global: &Global, command: &LedgerCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        LedgerCommand::Export(args) => export::run(global, args, out),
        LedgerCommand::Verify(args) => verify::run(global, args, out),
        LedgerCommand::Proof(args) => verify::proof(global, args, out),
        LedgerCommand::Counts => export::counts(global, out),
        LedgerCommand::Prune(args) => forget::prune(global, args, out),
        LedgerCommand::Backup(args) => backup::backup(global, args),
        LedgerCommand::Restore(args) => backup::restore(global, args),
        LedgerCommand::Import(args) => import::run(global, args, out),
        LedgerCommand::Subject(args) => subject::run(global, args, out),
        LedgerCommand::Adopt(args) => adopt::run(global, args, out),
        LedgerCommand::Recipients(args) => recipients::run(global, args, out),
        LedgerCommand::Hold(command) => forget::hold(global, command, out),
        LedgerCommand::Erase(args) => forget::erase(global, args, out),
        LedgerCommand::Key => {
            let key = store::public_key(&data_dir(global)?).map_err(anyhow::Error::new)?;
            Ok(out.write_all(key.to_pem().as_bytes())?)
        }
    }
}

fn data_dir(global: &Global) -> Result<PathBuf, Failure> {
    Ok(settings(global, Vec::new(), true)?.settings.data_dir)
}
