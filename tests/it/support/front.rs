//! A shared cache in front of Optgate: Debian's nginx or Varnish as a child process, with the files of `deploy/`.
//! Other proxies, too, are found, started and ended here.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::binary::own_address;
use super::{skipped, wait_until};

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// nginx with `proxy_cache`.
    Nginx,
    /// Varnish.
    Varnish,
}

/// A running cache or proxy of somebody else's; stops when dropped.
pub struct Front {
    child: Child,
    addr: SocketAddr,
    _dir: TempDir,
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Varnish => "varnishd",
        }
    }

    /// Where the program lies. `None` after a line that says so.
    pub fn find(self, test: &str) -> Option<PathBuf> {
        find(self.program(), test)
    }

    /// The sample file for this program: `vary` or `keyed`.
    pub fn sample(self, which: &str) -> String {
        let name = match self {
            Self::Nginx => format!("nginx-cache-{which}.conf"),
            Self::Varnish => format!("varnish-{which}.vcl"),
        };
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
    }

    /// Starts the program at `file` with this configuration, aimed at Optgate.
    pub fn start(self, file: &Path, config: &str, optgate: SocketAddr) -> Front {
        let dir = TempDir::with_prefix("optgate-front-").unwrap();
        let addr = own_address();
        let mut command = Command::new(file);
        match self {
            Self::Nginx => nginx(&mut command, dir.path(), config, addr, optgate),
            Self::Varnish => varnish(&mut command, dir.path(), config, addr, optgate),
        }
        spawn(command, dir, addr)
    }
}

/// Where a program lies; users' search paths often leave `sbin` out. `None` after a line that says so.
pub fn find(program: &str, test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    if found.is_none() {
        skipped(test, &format!("{program} is absent"));
    }
    found
}

/// Starts a program that keeps its files in `dir`, and waits until it listens.
pub fn spawn(mut command: Command, dir: TempDir, addr: SocketAddr) -> Front {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let front = Front { child, addr, _dir: dir };
    wait_until("it listens", || TcpStream::connect(addr).is_ok());
    front
}

fn nginx(command: &mut Command, dir: &Path, config: &str, addr: SocketAddr, optgate: SocketAddr) {
    let cache = dir.join("cache");
    let http = config
        .replace("listen 80;", &format!("listen {addr};"))
        .replace("127.0.0.1:8080", &optgate.to_string())
        .replace("/var/cache/nginx-optgate", &cache.display().to_string());
    nginx_file(command, dir, &format!("keepalive_requests 1000000;\n{http}"));
}

/// Has nginx run with this `http` block, and with all its files in `dir`.
pub fn nginx_file(command: &mut Command, dir: &Path, http: &str) {
    let dir = dir.display().to_string();
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {dir}/{name};\n"))
        .collect();
    // One process, so that its end is the end of all of it.
    let whole = format!(
        "daemon off;\nmaster_process off;\npid {dir}/pid;\nerror_log {dir}/error.log;\n\
         events {{ worker_connections 256; }}\nhttp {{\naccess_log off;\n{temp}{http}}}\n"
    );
    let file = format!("{dir}/nginx.conf");
    std::fs::write(&file, whole).unwrap();
    command.args(["-p", &dir, "-e", &format!("{dir}/error.log"), "-c", &file]);
}

fn varnish(command: &mut Command, dir: &Path, config: &str, addr: SocketAddr, optgate: SocketAddr) {
    let vcl = config
        .replace("\"127.0.0.1\"", &format!("\"{}\"", optgate.ip()))
        .replace("\"8080\"", &format!("\"{}\"", optgate.port()));
    let file = dir.join("front.vcl");
    std::fs::write(&file, vcl).unwrap();
    command.arg("-F").arg("-f").arg(&file).arg("-n").arg(dir.join("work"));
    command.args(["-a", &addr.to_string(), "-j", "none", "-s", "malloc,16m"]);
    command.args(["-p", "thread_pools=1", "-p", "thread_pool_min=8", "-p", "vsl_space=1M"]);
}

impl Front {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Varnish's own child ends with it only when it may say so; both fail when it has ended already.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
