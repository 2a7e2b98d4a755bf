//! Packages of the npm registry, as sites ship them: pinned below `tests/browser/apps/` with a lock of their hashes, and
//! installed once below the target directory; nothing of them is in the repository.

use std::ffi::OsStr;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use super::{skipped, wait_until};

/// What npm says when the registry is not to be had, or has a version no more: no fault of the tree.
const UNREACHED: [&str; 11] = [
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ENETUNREACH",
    "EHOSTUNREACH",
    "ETIMEDOUT",
    "FETCH_ERROR",
    "ENOTCACHED",
    "E404",
    "E503",
];

/// One set of installed packages.
pub struct Packages {
    /// Where the set's own files are.
    source: PathBuf,
    /// Where it is installed and built.
    folder: PathBuf,
}

impl Packages {
    /// The packages of `tests/browser/apps/<set>/`; `None`, after a line that says why, where they cannot be had.
    pub fn installed(set: &str, test: &str) -> Option<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _only = ONE_AT_A_TIME.lock().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/apps").join(set);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm").join(set);
        let found = Self { source, folder };
        for command in ["node", "npm"] {
            if Command::new(command).arg("--version").output().is_err() {
                skipped(test, &format!("no {command} in PATH"));
                return None;
            }
        }
        match found.install() {
            Ok(()) => Some(found),
            Err(said) if UNREACHED.iter().any(|code| said.contains(code)) => {
                let said =
                    said.lines().find(|line| line.contains("npm error")).unwrap_or_default().to_owned();
                skipped(test, &format!("the npm registry does not give the packages: {said}"));
                None
            }
            Err(said) => panic!("npm ci: {said}"),
        }
    }

    /// Installs what the lock names, unless it is installed already.
    fn install(&self) -> Result<(), String> {
        let lock = fs::read(self.source.join("package-lock.json")).unwrap();
        let done = self.folder.join("installed.json");
        if fs::read(&done).is_ok_and(|installed| installed == lock) {
            return Ok(());
        }
        fs::create_dir_all(&self.folder).unwrap();
        // Its absence is what is wanted.
        let _ = fs::remove_file(&done);
        for file in ["package.json", "package-lock.json"] {
            fs::copy(self.source.join(file), self.folder.join(file)).unwrap();
        }
        let output = Command::new("npm")
            .args([
                "ci",
                "--ignore-scripts",
                "--legacy-peer-deps",
                "--no-audit",
                "--no-fund",
                "--prefer-offline",
            ])
            .args(["--loglevel=error", "--fetch-retries=2", "--fetch-timeout=60000"])
            .current_dir(&self.folder)
            .output()
            .unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        fs::write(done, lock).unwrap();
        Ok(())
    }

    /// A file of the set's own.
    pub fn source(&self, file: &str) -> PathBuf {
        self.source.join(file)
    }

    /// A file of what is built.
    pub fn file(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// A file of a package.
    pub fn package(&self, file: &str) -> PathBuf {
        self.folder.join("node_modules").join(file)
    }

    /// A folder for what is built.
    pub fn built(&self, name: &str) -> PathBuf {
        let folder = self.folder.join("built").join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A script to be run in the set's folder, as in production.
    fn script(&self, script: &Path, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new("node");
        command.arg(script).args(args).current_dir(&self.folder);
        command.env("NODE_PATH", self.folder.join("node_modules")).env("NODE_ENV", "production");
        // None of them is to tell its maker anything.
        command.envs(["NEXT_TELEMETRY_DISABLED", "ASTRO_TELEMETRY_DISABLED"].map(|name| (name, "1")));
        command
    }

    /// Runs a script, and waits for it.
    pub fn node(&self, script: &Path, args: &[impl AsRef<OsStr>]) {
        let output = self.script(script, args).output().unwrap();
        let said =
            [output.stdout, output.stderr].map(|out| String::from_utf8_lossy(&out).into_owned()).concat();
        assert!(output.status.success(), "{}: {said}", script.display());
    }

    /// Runs a script that serves on loopback, at the port of the variable `PORT`, or of an argument `$PORT`.
    pub fn serve(&self, script: &Path, args: &[&str]) -> Server {
        // Free a moment ago: the frameworks do not tell which one they chose themselves.
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
        let port = addr.port().to_string();
        let args: Vec<_> = args.iter().map(|arg| arg.replace("$PORT", &port)).collect();
        let mut command = self.script(script, &args);
        command.env("PORT", port).env("HOST", "127.0.0.1").env("HOSTNAME", "127.0.0.1");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Server { child, url: format!("http://{addr}") };
        wait_until("the framework's server listens", || TcpStream::connect(addr).is_ok());
        server
    }

    /// Copies the set's own files, all but its packages', to where they are built.
    pub fn lay(&self) {
        lay(&self.source, &self.folder);
    }

    /// Makes one script of each entry and all it imports, as a production build does, in `folder`; `more` are options of
    /// esbuild.
    pub fn bundle(&self, entries: &[PathBuf], folder: &Path, more: &[&str]) {
        let mut args: Vec<_> = entries.iter().map(|entry| entry.display().to_string()).collect();
        args.push(format!("--outdir={}", folder.display()));
        args.extend(["--bundle", "--log-level=warning"].map(str::to_owned));
        args.push("--define:process.env.NODE_ENV=\"production\"".to_owned());
        args.extend(more.iter().map(|&option| option.to_owned()));
        self.node(&self.package("esbuild/bin/esbuild"), &args);
    }
}

fn lay(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            lay(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A framework's own server; ends when dropped.
pub struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Where it listens, as `upstream` wants it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
