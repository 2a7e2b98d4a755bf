//! `optgate demo`: a small legacy shop as origin, Optgate in front of it, and what that changes.
//!
//! Everything is on loopback and in a data folder of its own; nothing leaves this machine.

pub mod shop;
pub mod show;

use std::io::Write;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::folder::Folder;
use super::{Failure, Global, settings};
use crate::app;
use crate::config::load::Flag;
use crate::registry::{Policy, Registry};

/// Page whose difference is shown.
const PAGE: &str = "/";

/// Flags of `demo`.
#[derive(Debug, Clone, Default, Args)]
pub struct DemoArgs {
    /// Address to serve on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Address of health, metrics and figures
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9180")]
    pub admin: String,
    /// Show what changes, then end instead of staying up
    #[arg(long)]
    pub once: bool,
}

/// Starts shop and Optgate, shows a page with and without the signal, and stays up until Ctrl-C.
///
/// # Errors
/// See [`Failure`].
pub fn run(global: &Global, args: &DemoArgs, out: &mut impl Write) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the demo's threads")?;
    let shop = runtime.block_on(shop::spawn()).context("cannot start the demo shop")?;
    let folder = Folder::of(global, "demo")?;
    let flag = |name, key, value: &str, list| Flag { name, key, values: vec![value.to_owned()], list };
    let flags = vec![
        flag("--listen", "listen", &args.listen, true),
        flag("--admin", "admin.listen", &args.admin, false),
        flag("--upstream", "upstream", &format!("http://{shop}"), true),
        flag("--log-level", "log.level", "warn", false),
    ];
    let own = Global { config: global.config.clone(), data_dir: Some(folder.path.clone()) };
    let loaded = settings(&own, flags, false)?;
    let _log = crate::telemetry::start_logging(&loaded.settings.log)?;
    let prefix = loaded.settings.portal.prefix.clone();
    let site_policy = loaded.settings.sites.first().map(|site| site.policy.clone()).unwrap_or_default();
    let registry = Arc::new(Registry::builtin().map_err(anyhow::Error::from)?);
    let policy = Policy::resolve(registry, &site_policy).map_err(anyhow::Error::from)?;
    let running = app::start(loaded.settings)?;
    let signals = app::StopSignals::listen(&running)?;
    let optgate = *running.listen().first().context("the demo has no address")?;
    show::addresses(out, shop, optgate, running.admin())?;
    let shown = runtime.block_on(show::print(out, optgate, PAGE, &prefix, Some(&policy)));
    if shown.is_ok() && !args.once {
        writeln!(out, "\nOpen http://{optgate}/ in a browser; the choices page is http://{optgate}{prefix}")?;
        writeln!(out, "Press Ctrl-C to stop.")?;
        out.flush()?;
        signals.wait(&running);
    }
    running.stop()?;
    Ok(shown?)
}
