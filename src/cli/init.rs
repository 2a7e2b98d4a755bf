//! `optgate init [FILE]`: a commented settings file to start from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::Failure;

/// What most sites set, commented; every setting is in `config/optgate.toml`.
pub const STARTER: &str = include_str!("../../config/starter.toml");

/// Where to write.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// File to write, or - for stdout
    #[arg(default_value = "optgate.toml")]
    pub file: PathBuf,
    /// Overwrite the file if it exists
    #[arg(long)]
    pub force: bool,
}

/// Writes the starter file.
///
/// # Errors
/// The file exists and `--force` was not given, or it cannot be written.
pub fn run(args: &InitArgs, out: &mut dyn Write) -> Result<(), Failure> {
    if args.file.as_os_str() == "-" {
        out.write_all(STARTER.as_bytes())?;
        return Ok(());
    }
    let shown = args.file.display();
    let mut options = OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let mut file = match options.open(&args.file) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let next = "it was left as it is; name another file, or overwrite it with --force";
            return Err(anyhow::anyhow!("{shown} exists; {next}").into());
        }
        Err(error) => {
            return Err(anyhow::Error::new(error).context(format!("cannot write {shown}")).into());
        }
    };
    file.write_all(STARTER.as_bytes()).with_context(|| format!("cannot write {shown}"))?;
    eprintln!("wrote {shown}: set `upstream` in it, then `optgate run --config {shown}`");
    Ok(())
}
