//! The built program as its own process: for signals, exit codes and memory.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::DEADLINE;
use super::proxy::Builder;

/// A running program.
pub struct Binary {
    child: Child,
    lines: mpsc::Receiver<String>,
    addr: SocketAddr,
    /// Processes that took over.
    successors: Vec<Pid>,
    dir: TempDir,
}

/// An address in a part of loopback that nothing else takes ports of: a port that is merely free for a
/// moment may be another test's in the next.
pub fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let ip = [127, 77, 0, NEXT.fetch_add(1, Ordering::Relaxed)];
    TcpListener::bind(SocketAddr::from((ip, 0))).unwrap().local_addr().unwrap()
}

/// The program: what was built with the tests, or what `OPTGATE_PROGRAM` names.
pub fn program() -> OsString {
    std::env::var_os("OPTGATE_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_optgate").into())
}

/// The program with a settings file, its output to be read.
pub fn command(file: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg("run").arg("--config").arg(file);
    piped(command)
}

fn piped(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// As [`command`], to listen at an address and to say what it does.
pub fn serving(file: &Path, addr: SocketAddr) -> Command {
    let mut command = command(file);
    command.args(["--listen", &addr.to_string(), "--log-level", "info"]);
    command
}

/// A shell with this script, which starts the command as `exec "$@"`.
pub fn in_shell(script: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    piped(shell)
}

/// Runs the program to its end: its exit code, and what it said.
pub fn optgate(args: &[impl AsRef<OsStr>]) -> (Option<i32>, String) {
    let output = Command::new(program()).args(args).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

impl Binary {
    /// Starts `optgate run` and waits until it says where it listens.
    pub fn start(builder: Builder) -> Self {
        let addr = own_address();
        Self::of(serving(&builder.write(), addr), addr, builder.into_dir())
    }

    /// Starts a command that serves on an address and waits until it says so.
    pub fn of(command: Command, addr: SocketAddr, dir: TempDir) -> Self {
        let binary = Self::spawn(command, addr, dir);
        binary.wait_for_line(&format!("listening on http://{addr}"));
        binary
    }

    /// Starts `optgate run` with an admin listener, whose address comes with it.
    pub fn observed(builder: Builder) -> (Self, SocketAddr) {
        let (addr, admin) = (own_address(), own_address());
        let mut command = serving(&builder.write(), addr);
        command.args(["--admin", &admin.to_string()]);
        (Self::of(command, addr, builder.into_dir()), admin)
    }

    /// Starts a command that is to serve on an address.
    pub fn spawn(mut command: Command, addr: SocketAddr, dir: TempDir) -> Self {
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let outputs: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            // Read to the end even when nobody listens any more: a full pipe would stop the program.
            thread::spawn(move || {
                BufReader::new(output).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
            });
        }
        drop(sender);
        Self { child, lines, addr, successors: Vec::new(), dir }
    }

    /// Waits for a line of output that holds this text.
    pub fn wait_for_line(&self, text: &str) -> String {
        self.lines_until(text).pop().unwrap()
    }

    /// Lines of output up to one that holds this text.
    pub fn lines_until(&self, text: &str) -> Vec<String> {
        let seen = self.lines_until_or_end(text);
        assert!(seen.last().is_some_and(|line| line.contains(text)), "no line with {text:?} in {seen:#?}");
        seen
    }

    /// Lines of output up to one that holds this text, or all of them when it ends without.
    pub fn lines_until_or_end(&self, text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return seen,
                Err(RecvTimeoutError::Timeout) => panic!("no line with {text:?} in {seen:#?}"),
            }
            if seen.last().is_some_and(|line| line.contains(text)) {
                return seen;
            }
        }
    }

    /// What it has said since it was last listened to.
    pub fn said(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Waits until it says where its admin listener is.
    pub fn admin(&self, scheme: &str) -> String {
        let mark = format!("admin on {scheme}://");
        self.wait_for_line(&mark).split(&mark).nth(1).unwrap().trim().to_owned()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends a signal to the process that serves.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.latest(), signal).unwrap();
    }

    /// Id of the process that serves.
    pub fn serving(&self) -> i32 {
        self.latest().as_raw_nonzero().get()
    }

    fn latest(&self) -> Pid {
        self.successors.last().copied().unwrap_or_else(|| Pid::from_child(&self.child))
    }

    /// Has a new process take over and waits until it serves.
    pub fn upgrade(&mut self) {
        self.signal(Signal::USR2);
        self.upgraded();
    }

    /// Waits until a new process serves that was ordered already.
    pub fn upgraded(&mut self) {
        let line = self.wait_for_line("upgraded: process ");
        let id = line.split("upgraded: process ").nth(1).unwrap().split(' ').next().unwrap();
        self.successors.push(Pid::from_raw(id.parse().unwrap()).unwrap());
    }

    /// Its settings file.
    pub fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("optgate.toml")
    }

    /// Waits until new connections are refused.
    pub fn wait_until_refusing(&self) {
        let start = Instant::now();
        while std::net::TcpStream::connect(self.addr).is_ok() {
            assert!(start.elapsed() < DEADLINE, "still accepting");
            thread::yield_now();
        }
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < DEADLINE, "still running");
            thread::yield_now();
        }
    }

    /// Most memory it ever held, bytes.
    pub fn peak_memory(&self) -> u64 {
        self.memory("VmHWM") * 1024
    }

    /// Descriptors it has open, but for those of a file that is opened in the background when it is first needed.
    pub fn descriptors(&self) -> usize {
        let late = |path: &Path| path.to_string_lossy().contains("/recipients.sqlite3");
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.serving())).unwrap().flatten();
        // One that is closed meanwhile has no link any more.
        open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).filter(|path| !late(path)).count()
    }

    /// A figure of its `/proc/<id>/status` (proc_pid_status(5)), KiB.
    pub fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.serving())).unwrap();
        let figure = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        figure.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        for successor in &self.successors {
            // Fails when it has ended already, as the next two do.
            let _ = kill_process(*successor, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
