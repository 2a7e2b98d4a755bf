//! A PostgreSQL cluster of the tests' own: one for all tests of a run, a database for each.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use tempfile::TempDir;

use super::{skipped, wait_until};

/// The account a cluster runs as: PostgreSQL refuses to run as root.
const ACCOUNT: &str = "postgres";

const MISSING: &str = "no PostgreSQL (Debian: postgresql)";

/// A running cluster.
pub struct Cluster {
    folder: TempDir,
    port: u16,
    server: Mutex<Child>,
}

impl Cluster {
    /// The cluster of this run; `None`, after a line that says so, where there is no PostgreSQL. It ends with the
    /// last test that holds it.
    pub fn shared(test: &str) -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        if let Some(cluster) = shared.upgrade() {
            return Some(cluster);
        }
        let Some(programs) = programs() else {
            skipped(test, MISSING);
            return None;
        };
        let cluster = Arc::new(Self::start(&programs, "off"));
        *shared = Arc::downgrade(&cluster);
        Some(cluster)
    }

    /// A cluster for one test, which may stop and start it. It syncs what it commits.
    pub fn own(test: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            skipped(test, MISSING);
            return None;
        };
        Some(Self::start(&programs, "on"))
    }

    /// A read replica that follows this one.
    pub fn replica(&self) -> Self {
        let programs = programs().unwrap();
        let (folder, data) = empty();
        let copied = as_account(&programs.join("pg_basebackup"))
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-D"])
            .arg(&data)
            .args(["-d", &self.url("postgres")])
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        Self::serving(&programs, folder, &data, "on")
    }

    /// Makes a replica the primary.
    pub fn promote(&self) {
        let program = programs().unwrap().join("pg_ctl");
        let data = self.folder.path().join("data");
        assert!(as_account(&program).arg("promote").arg("-D").arg(data).status().unwrap().success());
    }

    fn start(programs: &Path, fsync: &str) -> Self {
        let (folder, data) = empty();
        let made = as_account(&programs.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--username=optgate", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self::serving(programs, folder, &data, fsync)
    }

    fn serving(programs: &Path, folder: TempDir, data: &Path, fsync: &str) -> Self {
        let port = free_port();
        let server = Mutex::new(serve(programs, data, port, fsync));
        let cluster = Self { folder, port, server };
        cluster.wait();
        cluster
    }

    /// Its address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A new database, by its URL.
    pub async fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("d{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = connect(&self.url("postgres")).await;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut connection)
            .await
            .unwrap();
        self.url(&name)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://optgate@127.0.0.1:{}/{database}", self.port)
    }

    /// Ends the server at once and without order, as after a crash; what it had synced stays.
    pub fn crash(&self) {
        quit(&mut self.server.lock().unwrap());
    }

    /// Starts it again after [`Self::crash`].
    pub fn restart(&self) {
        let programs = programs().unwrap();
        let data = self.folder.path().join("data");
        *self.server.lock().unwrap() = serve(&programs, &data, self.port, "on");
        self.wait();
    }

    fn wait(&self) {
        let programs = programs().unwrap();
        wait_until("PostgreSQL answers", || {
            let port = self.port.to_string();
            let ready = Command::new(programs.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .status()
                .unwrap();
            ready.success()
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        quit(&mut self.server.lock().unwrap());
    }
}

/// Immediate shutdown: no checkpoint, no word to clients; its children end with it.
fn quit(server: &mut Child) {
    if matches!(server.try_wait(), Ok(None)) {
        let pid = Pid::from_child(server);
        let _ = kill_process(pid, Signal::QUIT);
        let _ = server.wait();
    }
}

/// A folder that the account may write, and the place of a cluster in it.
fn empty() -> (TempDir, PathBuf) {
    let folder = TempDir::with_prefix("optgate-postgres-").unwrap();
    assert!(Command::new("chown").arg(ACCOUNT).arg(folder.path()).status().unwrap().success());
    let data = folder.path().join("data");
    (folder, data)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A pooler that hands out connections by the transaction.
pub struct Pooler {
    child: Child,
    program: PathBuf,
    folder: TempDir,
    /// Where it listens.
    pub port: u16,
}

impl Pooler {
    /// In front of a cluster; `None`, after a line that says so, where there is no PgBouncer.
    pub fn start(test: &str, cluster: &Cluster) -> Option<Self> {
        // Debian's is older than the first that keeps prepared statements (1.21): another may be named.
        let named = std::env::var_os("OPTGATE_PGBOUNCER");
        let program = named.map_or_else(|| PathBuf::from("/usr/sbin/pgbouncer"), PathBuf::from);
        if !program.is_file() {
            skipped(test, "no PgBouncer (Debian: pgbouncer)");
            return None;
        }
        let (folder, port) = (TempDir::with_prefix("optgate-pooler-").unwrap(), free_port());
        let file = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=optgate\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 2\n",
            cluster.port
        );
        std::fs::write(&file, text).unwrap();
        assert!(Command::new("chown").args(["-R", ACCOUNT]).arg(folder.path()).status().unwrap().success());
        let child = Self::run(&program, &file, port);
        Some(Self { child, program, folder, port })
    }

    fn run(program: &Path, file: &Path, port: u16) -> Child {
        let mut command = as_account(program);
        command.arg("-q").arg(file).stderr(Stdio::null());
        let child = spawned(command);
        wait_until("PgBouncer listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        child
    }

    /// `kill -9`: every connection through it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        self.child = Self::run(&self.program, &self.folder.path().join("pgbouncer.ini"), self.port);
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection of the test's own.
pub async fn connect(url: &str) -> PgConnection {
    PgConnectOptions::from_str(url).unwrap().connect().await.unwrap()
}

/// Where Debian keeps a version's programs, the newest first.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    versions.sort();
    versions.pop()
}

/// A program run as [`ACCOUNT`], which ends with the thread that starts it, however that ends.
fn as_account(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--init-groups", "--pdeathsig", "QUIT", "--"]);
    command.arg(program).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Starts a program from a thread that stays: the kernel ends it with the thread that started it.
fn spawned(command: Command) -> Child {
    type Order = (Command, mpsc::Sender<Child>);
    static STARTER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, started) in inbox {
                let _ = started.send(command.spawn().unwrap());
            }
        });
        Mutex::new(orders)
    });
    let (started, child) = mpsc::channel();
    starter.lock().unwrap().send((command, started)).unwrap();
    child.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn serve(programs: &Path, data: &Path, port: u16, fsync: &str) -> Child {
    let mut command = as_account(&programs.join("postgres"));
    command.stderr(Stdio::null()).arg("-D").arg(data).args(["-c", &format!("port={port}")]);
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=1000",
        "shared_buffers=64MB",
        &format!("fsync={fsync}"),
        &format!("full_page_writes={fsync}"),
    ] {
        command.args(["-c", setting]);
    }
    command.process_group(0);
    spawned(command)
}
