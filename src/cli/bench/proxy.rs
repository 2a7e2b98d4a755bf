//! The Optgate that is measured: one of our own, as a process of its own, or one that runs already.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::{Request, StatusCode};

use super::BenchArgs;
use super::process::Used;
use crate::app::AdminKey;
use crate::cli::ask::ask;
use crate::cli::folder::Folder;
use crate::cli::{Failure, Global, settings};
use crate::config::load::Flag;
use crate::store::files::make_folder;

/// How long our own may take to serve: with large filter lists some seconds.
const START: Duration = Duration::from_secs(60);

/// Between two looks whether it serves.
const LOOK: Duration = Duration::from_millis(20);

/// Settings laid over the user's: this process serves one tester for a while, in clear, and must not do what the
/// one that serves visitors does.
const OVERLAY: &str = "\
drain_timeout = \"1s\"
[tls]
listen = []
redirect = false
[acme]
hosts = []
";

/// A running Optgate.
pub struct Proxy {
    /// Where visitors reach it.
    pub url: String,
    /// Its process, if that is known.
    pub pid: Option<u32>,
    /// Where it tells its figures.
    admin: Option<(SocketAddr, Option<AdminKey>)>,
    own: Option<Own>,
}

/// A child process; ends with this value, and its folder with it.
struct Own {
    child: Child,
    words: Option<JoinHandle<String>>,
    _folder: Folder,
}

/// What `/metrics` says of the rewrite memo, as counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memo {
    /// Pages, or parts of them, that were known.
    pub hits: u64,
    /// Those that were not.
    pub misses: u64,
}

impl Proxy {
    /// One that runs already.
    ///
    /// # Errors
    /// An admin address that is none, settings that cannot be read, or no such process.
    pub fn running(global: &Global, args: &BenchArgs, url: &str) -> Result<Self, Failure> {
        let admin = match &args.admin {
            None => None,
            Some(admin) => {
                let settings = settings(global, vec![flag("--admin", "admin.listen", admin)], true)?.settings;
                Some((settings.admin, AdminKey::of(&settings)?))
            }
        };
        if let Some(pid) = args.pid {
            Used::of(pid)
                .with_context(|| format!("--pid {pid}: no process of this machine that may be looked at"))?;
        }
        Ok(Self { url: url.to_owned(), pid: args.pid, admin, own: None })
    }

    /// Starts one in front of the site, with the user's settings if there are any.
    ///
    /// # Errors
    /// The settings are wrong, or it does not come to serve; what it said is in the message.
    pub async fn start(global: &Global, args: &BenchArgs) -> Result<Self, Failure> {
        if let Some(named) = &global.data_dir {
            let why = "test visits would be recorded among real ones; leave the flag away, a folder for a while is made";
            return Err(anyhow::anyhow!("--data-dir {}: {why}", named.display()).into());
        }
        let folder = Folder::of(global, "bench")?;
        make_folder(&folder.path)
            .with_context(|| format!("cannot make the folder {}", folder.path.display()))?;
        let overlay = folder.path.join("bench.toml");
        std::fs::write(&overlay, OVERLAY).with_context(|| format!("cannot write {}", overlay.display()))?;
        let (listen, admin) = free_addresses()?;
        // The system's file is for the one that serves visitors; only what was named counts here.
        let layers = global.config.iter().map(std::path::PathBuf::as_path).chain([overlay.as_path()]);
        let layers: Vec<&Path> = layers.collect();
        let with = Global {
            config: layers.iter().map(|path| path.to_path_buf()).collect(),
            data_dir: Some(folder.path.clone()),
        };
        let written = settings(&with, vec![flag("--admin", "admin.listen", &admin.to_string())], true)?;
        let mut command =
            Command::new(std::env::current_exe().context("this program's own file is not known")?);
        command.arg("run");
        for layer in layers {
            command.arg("--config").arg(layer);
        }
        command.arg("--data-dir").arg(&folder.path);
        command.args([
            "--listen",
            &listen.to_string(),
            "--admin",
            &admin.to_string(),
            "--log-level",
            "error",
        ]);
        // Settings with sites say themselves where these are.
        let has_sites =
            written.written.get("sites").and_then(|s| s.as_array()).is_some_and(|s| !s.is_empty());
        if !has_sites {
            command.args(["--upstream", &args.upstream]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start an Optgate of its own")?;
        let words = child.stderr.take().map(|stderr| {
            std::thread::spawn(move || {
                let mut said = Vec::new();
                // Read to the end, so that it is never stopped by a full pipe; the beginning tells why it ended.
                let mut stderr = stderr;
                let _ = stderr.by_ref().take(64 << 10).read_to_end(&mut said);
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
                String::from_utf8_lossy(&said).into_owned()
            })
        });
        let pid = child.id();
        let mut own = Own { child, words, _folder: folder };
        let admin = (admin, AdminKey::of(&written.settings)?);
        own.wait_until_ready(&admin).await?;
        Ok(Self { url: format!("http://{listen}"), pid: Some(pid), admin: Some(admin), own: Some(own) })
    }

    /// Whether it is one of our own.
    pub const fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// What its process has used so far; `None`: it is not known which that is.
    pub fn used(&self) -> Option<Used> {
        Used::of(self.pid?).ok()
    }

    /// What it says of its rewrite memo; `None`: nothing.
    pub async fn memo(&self) -> Option<Memo> {
        let (address, key) = self.admin.as_ref()?;
        let (head, text) = ask(*address, key.as_ref(), Request::get("/metrics")).await.ok()?;
        (head.status == StatusCode::OK).then(|| Memo::read(&String::from_utf8_lossy(&text)))?
    }
}

impl Memo {
    /// From the text of `/metrics`.
    fn read(text: &str) -> Option<Self> {
        let partial = counter(text, "optgate_memo_partial_total").unwrap_or_default();
        let hits = counter(text, "optgate_memo_hits_total")? + partial;
        Some(Self { hits, misses: counter(text, "optgate_memo_misses_total")? })
    }
}

/// A counter, all its labels together; `None`: there is none.
fn counter(text: &str, name: &str) -> Option<u64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = if rest.starts_with('{') { rest.rsplit_once('}')?.1 } else { rest };
        value.strip_prefix(' ')?.split(' ').next()?.parse::<u64>().ok()
    });
    values.fold(None, |sum: Option<u64>, value| Some(sum.unwrap_or_default() + value))
}

fn flag(name: &'static str, key: &'static str, value: &str) -> Flag {
    Flag { name, key, values: vec![value.to_owned()], list: false }
}

/// Two addresses of loopback that are free now; that somebody takes one in the moment before Optgate does shows
/// as its complaint.
fn free_addresses() -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port of loopback is free");
    let (a, b) = (bind()?, bind()?);
    Ok((a.local_addr()?, b.local_addr()?))
}

impl Own {
    async fn wait_until_ready(
        &mut self,
        (admin, key): &(SocketAddr, Option<AdminKey>),
    ) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                let said = self.words.take().and_then(|words| words.join().ok()).unwrap_or_default();
                let what = "the Optgate to be measured did not start";
                return Err(match status.code() {
                    Some(78) => Failure::Refused(vec![what.to_owned(), said.trim_end().to_owned()]),
                    _ => anyhow::anyhow!("{what} ({status}): {}", said.trim_end()).into(),
                });
            }
            if let Ok((head, _)) = ask(*admin, key.as_ref(), Request::get("/readyz")).await
                && head.status == StatusCode::OK
            {
                return Ok(());
            }
            if started.elapsed() > START {
                let why = format!("the Optgate to be measured was not ready in {} s", START.as_secs());
                return Err(anyhow::Error::msg(why).into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Nobody but this tester was served, and its records go with the folder. Both fail when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OpenMetrics: a counter may have labels, and a timestamp behind its value.
    #[test]
    fn the_memos_counters_are_found_or_said_to_be_absent() {
        let text = "# TYPE optgate_memo_hits counter\n\
                    optgate_memo_hits_total{site=\"a b\"} 3\n\
                    optgate_memo_hits_total{site=\"c\"} 4\n\
                    optgate_memo_misses_total 5 1700000000\n\
                    optgate_memo_misses_total_other 9\n";
        assert_eq!(Memo::read(text), Some(Memo { hits: 7, misses: 5 }));
        assert_eq!(Memo::read("optgate_memo_hits_total 3\n"), None);
    }
}
