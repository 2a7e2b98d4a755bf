//! `optgate keys ...`: new keys in place of old ones.

use std::io::Write;

use clap::{Args, Subcommand};

use super::data_folder::DataFolder;
use super::{Failure, Global, settings};
use crate::store;

/// `optgate keys ...`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Show the secrets by their check values, the live one first; never themselves
    List,
    /// Put a new secret in front; the others stay, so that nobody's opt-out is lost. Taken at the next start
    Rotate(RotateArgs),
    /// Take earlier secrets away, if no opted-out account is known under them alone
    Retire,
    /// Make a signing key in place of one that is lost; no earlier key vouches for it
    NewSigner,
}

/// Which key.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// The key that signs the journal, instead of the secret
    #[arg(long)]
    pub signing: bool,
    /// Only have a new secret tried for now: copy `secret.key` to every node, start each anew, and rotate then
    #[arg(long, conflicts_with = "signing")]
    pub next: bool,
}

/// Does one of them.
///
/// # Errors
/// A key is missing or cannot be written, or is still needed.
pub fn run(global: &Global, command: &KeysCommand, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = settings(global, Vec::new(), true)?.settings;
    let folder = settings.data_dir.clone();
    let lines = match command {
        KeysCommand::List => store::key_lines(&folder),
        KeysCommand::Rotate(RotateArgs { next: true, .. }) => store::prepare_secret(&folder),
        KeysCommand::Rotate(RotateArgs { signing: false, .. }) => store::rotate_secret(&folder),
        KeysCommand::Rotate(RotateArgs { signing: true, .. }) => {
            return key(store::rotate_signer(&folder), out);
        }
        KeysCommand::NewSigner => return key(store::new_signer(&folder), out),
        KeysCommand::Retire => {
            let left = DataFolder::open(&settings)?.retire()?;
            if left > 0 {
                return Err(anyhow::anyhow!(
                    "{left} opted-out accounts are known under an earlier secret alone and would be lost; each is \
                     carried over when it is next seen"
                )
                .into());
            }
            store::forget_earlier_secrets(&folder).and_then(|()| store::key_lines(&folder))
        }
    };
    for line in lines.map_err(anyhow::Error::new)? {
        writeln!(out, "{}\t{}", line.check, line.use_of.word())?;
    }
    Ok(())
}

fn key(made: Result<store::PublicKey, store::OpenError>, out: &mut dyn Write) -> Result<(), Failure> {
    Ok(out.write_all(made.map_err(anyhow::Error::new)?.to_pem().as_bytes())?)
}
