//! `optgate demo`: a small legacy shop as origin, Optgate in front of it, and what that changes.
//!
//! Everything is on loopback and in a data folder of its own; nothing leaves this machine.

pub mod shop;
pub mod show;

use std::io::Write;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

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
    let folder = Folder::fresh(global)?;
    let flag = |name, key, value: &str, list| Flag { name, key, values: vec![value.to_owned()], list };
    let flags = vec![
        flag("--listen", "listen", &args.listen, true),
        flag("--admin", "admin.listen", &args.admin, false),
        flag("--upstream", "upstream", &format!("http://{shop}"), true),
        flag("--log-level", "log.level", "warn", false),
    ];
    let own = Global { config: global.config.clone(), data_dir: Some(folder.path.clone()) };
    let loaded = settings(&own, flags, false)?;
    crate::telemetry::start_logging(&loaded.settings.log)?;
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

/// The demo's data folder: the one that was named, or a fresh one that goes when the demo ends.
struct Folder {
    path: std::path::PathBuf,
    temporary: bool,
}

impl Folder {
    fn fresh(global: &Global) -> anyhow::Result<Self> {
        if let Some(path) = &global.data_dir {
            return Ok(Self { path: path.clone(), temporary: false });
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
        let name = format!("optgate-demo-{:016x}", u64::from_ne_bytes(random));
        Ok(Self { path: std::env::temp_dir().join(name), temporary: true })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            // Left behind it is a few kilobytes in the system's folder for such things.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
