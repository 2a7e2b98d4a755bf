//! Optgate in this process, in front of an origin.

use std::net::SocketAddr;
use std::path::Path;

use optgate::app::{self, Running};
use optgate::config::Settings;
use tempfile::TempDir;

use super::client::{Client, Response, get};
use super::origin::Origin;
use super::wait_until;

/// Settings for one test, written as TOML.
pub struct Builder {
    top: String,
    tables: String,
    dir: TempDir,
}

/// Optgate with one core, loopback listeners and a data folder of its own.
pub fn proxy() -> Builder {
    let dir = TempDir::with_prefix("optgate-test-").unwrap();
    let top = format!(
        "listen = [\"127.0.0.1:0\"]\nworkers = 1\ndata_dir = {:?}\n",
        dir.path().join("data").display().to_string()
    );
    Builder { top, tables: "[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"error\"\n".to_owned(), dir }
}

/// `site.test` with several origins, each in the words of a settings file; `more` of its settings.
pub fn site(origins: &[String], more: &str) -> Builder {
    let origins = origins.join(", ");
    proxy().toml(&format!("[[sites]]\nhosts = [\"site.test\"]\nupstream = [{origins}]\n{more}\n"))
}

impl Builder {
    /// The origin behind it.
    pub fn to(self, origin: &Origin) -> Self {
        self.upstream(origin.url())
    }

    /// The origin behind it, as a URL.
    pub fn upstream(self, url: &str) -> Self {
        self.toml(&format!("upstream = {url:?}\n"))
    }

    /// More settings: lines before the first table are top-level keys.
    pub fn toml(mut self, text: &str) -> Self {
        let at = text.lines().take_while(|l| !l.trim_start().starts_with('[')).map(|l| l.len() + 1).sum();
        let (top, tables) = text.split_at(text.len().min(at));
        self.top.push_str(top);
        self.top.push('\n');
        self.tables.push_str(tables);
        self.tables.push('\n');
        self
    }

    /// Other words in place of some of the settings so far.
    pub fn replacing(mut self, old: &str, new: &str) -> Self {
        assert!(self.top.contains(old) || self.tables.contains(old), "no {old:?}");
        self.top = self.top.replace(old, new);
        self.tables = self.tables.replace(old, new);
        self
    }

    /// A folder for certificates and sockets that lives as long as the proxy.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The settings as they are meant.
    pub fn settings(&self) -> Settings {
        let file = self.write();
        settings(&file)
    }

    /// Writes the settings file.
    pub fn write(&self) -> std::path::PathBuf {
        let file = self.dir.path().join("optgate.toml");
        std::fs::write(&file, format!("{}{}", self.top, self.tables)).unwrap();
        file
    }

    /// Starts it.
    pub fn run(self) -> Proxy {
        self.try_run().unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Starts it, or says why not.
    pub fn try_run(self) -> anyhow::Result<Proxy> {
        Ok(Proxy { running: Some(app::start(self.settings())?), dir: self.dir })
    }

    /// Gives up the folder to somebody who starts the binary on it.
    pub fn into_dir(self) -> TempDir {
        self.dir
    }
}

fn settings(file: &Path) -> Settings {
    use optgate::config::load::{Inputs, load};
    let inputs = Inputs { files: vec![file.to_owned()], ..Inputs::default() };
    load(&inputs).unwrap_or_else(|errors| panic!("{errors}")).settings
}

/// The running proxy; stops when dropped.
pub struct Proxy {
    running: Option<Running>,
    dir: TempDir,
}

impl Proxy {
    /// The cleartext address.
    pub fn addr(&self) -> SocketAddr {
        self.running().listen()[0]
    }

    /// The TLS address.
    pub fn tls(&self) -> SocketAddr {
        self.running().tls()[0]
    }

    /// Everything that runs.
    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Its folder, with the settings file.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Edits the settings file and has it read again.
    pub fn reload(&self, edit: impl FnOnce(String) -> String) -> anyhow::Result<String> {
        let file = self.dir.path().join("optgate.toml");
        std::fs::write(&file, edit(std::fs::read_to_string(&file)?))?;
        self.running().reload(settings(&file))
    }

    /// Stops it and gives up its folder.
    pub fn stop(mut self) -> TempDir {
        self.running.take().unwrap().stop().unwrap();
        std::mem::replace(&mut self.dir, TempDir::with_prefix("optgate-test-").unwrap())
    }

    /// A connection to it.
    pub fn client(&self) -> Client {
        Client::connect(self.addr())
    }

    /// How often a limit was reached; the name is its label.
    pub fn limit_reached(&self, limit: &str) -> u64 {
        let series = format!("optgate_limit_reached_total{{limit=\"{limit}\"}}");
        figure(&self.running().metrics().render(), &series).expect(&series)
    }

    /// Waits until `/metrics` has this line.
    pub fn wait_for_line(&self, line: &str) {
        wait_until(line, || self.running().metrics().render().lines().any(|found| found == line));
    }

    /// One `GET` with more fields, each line ended by CR LF.
    pub fn get(&self, path: &str, fields: &str) -> Response {
        get(self.addr(), path, fields)
    }
}

/// A figure of `/metrics` by its whole name with labels; `None` when it is not there.
pub fn figure(metrics: &str, series: &str) -> Option<u64> {
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // A test that already failed must not fail a second time here.
            let stopped = running.stop();
            if !std::thread::panicking() {
                stopped.unwrap();
            }
        }
    }
}
