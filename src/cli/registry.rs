//! `optgate registry`: who is a tracker, and what is done about it.

use std::io::Write;

use clap::{Args, Subcommand};

use super::{Failure, Global, Output};

/// `optgate registry ...`
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// List every vendor with what is done for opted-out visitors
    List(Listing),
    /// Show one vendor
    Show {
        /// Vendor id
        id: String,
        /// Form.
        #[command(flatten)]
        listing: Listing,
    },
    /// Say which vendor a URL belongs to, and why
    Match {
        /// URL, or a bare host
        url: String,
        /// Form.
        #[command(flatten)]
        listing: Listing,
    },
}

/// Form and site of a listing.
#[derive(Debug, Args)]
pub struct Listing {
    /// Form of the listing
    #[arg(long, value_enum, default_value_t, value_name = "text|json")]
    pub output: Output,
}

/// Prints what was asked for.
///
/// # Errors
/// The settings or registry files are wrong, or the vendor is unknown.
pub fn run(_global: &Global, _command: &RegistryCommand, _out: &mut dyn Write) -> Result<(), Failure> {
    Err(anyhow::anyhow!("not wired yet").into())
}
