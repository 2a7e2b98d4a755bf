//! `optgate reload`: asks the serving process to read its settings again, and says what came of it.

use http::Request;

use super::ask::ask;
use super::{Failure, Global, RunArgs, settings};

/// Where the serving process is asked.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ReloadArgs {
    /// Admin address of the serving process; without it, the one in the settings
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
}

/// Prints what the process says on stderr.
///
/// # Errors
/// The process cannot be reached, or it refuses the settings: then exit code 78, and nothing has changed.
pub fn run(global: &Global, args: &ReloadArgs) -> Result<(), Failure> {
    let flags = RunArgs { admin: args.admin.clone(), ..RunArgs::default() }.flags();
    let admin = settings(global, flags, true)?.settings.admin;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(ask(admin, Request::post("/api/reload")));
    let (head, body) = answer.map_err(|error| {
        error.context("is optgate running, and is --admin (or --config FILE) the one it runs with?")
    })?;
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let said = |key: &str| answer.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    match head.status.is_success() {
        true => eprintln!("reloaded: {}", said("done")),
        false if head.status == http::StatusCode::UNPROCESSABLE_ENTITY => {
            return Err(Failure::Refused(vec![said("detail")]));
        }
        false => {
            return Err(anyhow::anyhow!("http://{admin} answered {}: {}", head.status, said("detail")).into());
        }
    }
    Ok(())
}
