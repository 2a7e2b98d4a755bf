//! `optgate reload` and `optgate upgrade`: orders to the serving process, and what came of them.

use http::{Request, StatusCode};

use super::ask::{ask, said};
use super::{Failure, Global, RunArgs, settings};
use crate::app::AdminKey;

/// Where the serving process is asked.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ReloadArgs {
    /// Admin address of the serving process; without it, the one in the settings
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
}

/// Has settings and everything they name read again.
///
/// # Errors
/// The process cannot be reached, or it refuses the settings: then exit code 78, and nothing has changed.
pub fn run(global: &Global, args: &ReloadArgs) -> Result<(), Failure> {
    order(global, args, "/api/reload", "reloaded")
}

/// Has a new process take over.
///
/// # Errors
/// The process cannot be reached, or the new one does not come to serve: with exit code 78 where it refuses the
/// settings. The old one serves on.
pub fn upgrade(global: &Global, args: &ReloadArgs) -> Result<(), Failure> {
    order(global, args, "/api/upgrade", "upgraded")
}

fn order(global: &Global, args: &ReloadArgs, path: &'static str, done: &str) -> Result<(), Failure> {
    let flags = RunArgs { admin: args.admin.clone(), ..RunArgs::default() }.flags();
    let settings = settings(global, flags, true)?.settings;
    let (admin, key) = (settings.admin, AdminKey::of(&settings)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (head, body) = runtime.block_on(ask(admin, key.as_ref(), Request::post(path))).map_err(|error| {
        anyhow::anyhow!(
            "{error:#}\n  next: is optgate running, and is --admin (or --config FILE) the one it runs with?"
        )
    })?;
    let said = |name: &str| said(&body, name).unwrap_or_default();
    match head.status {
        StatusCode::OK => {
            eprintln!("{done}: {}", said("done"));
            Ok(())
        }
        StatusCode::UNPROCESSABLE_ENTITY => Err(Failure::Refused(vec![said("detail")])),
        StatusCode::INTERNAL_SERVER_ERROR => Err(anyhow::anyhow!(said("detail")).into()),
        other => Err(anyhow::anyhow!("{admin} answered {other}: {}", said("detail")).into()),
    }
}
