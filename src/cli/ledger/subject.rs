//! `optgate ledger subject`: the keyed hash by which the journal knows somebody, for a file to import that is to hold no names.

use std::io::{BufRead as _, Write};

use clap::Args;

use super::{Failure, Global, settings};
use crate::privacy::Subject;
use crate::store;
use crate::store::import::write_digits;

/// Whose.
#[derive(Debug, Args)]
pub struct SubjectArgs {
    /// The site at which they are known
    #[arg(long, value_name = "NAME")]
    pub site: String,
    /// They are pseudonymous profiles, no accounts
    #[arg(long)]
    pub profile: bool,
}

/// Prints, for every line of standard input, the check of the live secret and the hash of what the site calls the account.
/// Who has secret.key can tell for any name whether a hash is its own: what is printed is personal data.
///
/// # Errors
/// There is no secret, or no such site in the settings.
pub fn run(global: &Global, args: &SubjectArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = settings(global, Vec::new(), true)?.settings;
    let site = settings.sites.iter().find(|site| site.name == args.site);
    if site.is_none() && !settings.sites.is_empty() {
        return Err(anyhow::anyhow!("`{}` is no site of the settings", args.site).into());
    }
    let scope = site.map_or(args.site.as_str(), |site| site.scope.as_str());
    let (keys, check) = store::live_secret(&settings.data_dir).map_err(anyhow::Error::new)?;
    for line in std::io::stdin().lock().lines() {
        // As `ledger import` reads a value.
        let line = line?;
        let name = line.trim().as_bytes();
        let subject = match args.profile {
            false => Subject::of_account(&keys, scope, name),
            true => Subject::of_profile(&keys, scope, name),
        };
        match name {
            [] => writeln!(out)?,
            _ => writeln!(out, "{check}:{}", write_digits(&subject))?,
        }
    }
    Ok(())
}
