//! Optgate and nginx of the system before one origin, for benches that hold one against the other.
//!
//! Each proxy is a process with one worker on the first core; clients and origin, in the bench's own process, have
//! the second. What is measured is CPU time and memory of the proxy's processes, since on a shared machine the clock
//! tells more of others than of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

#[path = "../../tests/it/support/pki.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod pki;

/// With this variable of the environment proxies run before everything else on their core (`chrt -f`, which needs the
/// right to): on a shared machine the slowest hundredth of answers would tell of others only.
const REALTIME: &str = "OPTGATE_REALTIME";

/// The name on the certificate.
pub const NAME: &str = "site.test";

/// What both proxies stand before, and with what they show themselves.
pub struct Stage {
    /// Where the origin answers.
    pub origin: SocketAddr,
    authority: pki::Authority,
    leaf: pki::Leaf,
}

impl Stage {
    /// An origin, and a certificate (ECDSA with P-256) of an authority of its own.
    pub fn new() -> Self {
        Self::before(origin())
    }

    /// The same before an origin that runs already.
    pub fn before(origin: SocketAddr) -> Self {
        let authority = pki::Authority::new();
        let leaf = authority.leaf(NAME);
        Self { origin, authority, leaf }
    }

    /// A client of TLS 1.3 that offers one suite and one group, which both proxies know: whoever chooses, it is the
    /// same work.
    pub fn client(&self, protocol: &str) -> ClientConfig {
        self.client_offering(protocol, kx_group::X25519)
    }

    /// As [`Self::client`], with another group.
    pub fn client_offering(
        &self,
        protocol: &str,
        group: &'static dyn rustls::crypto::SupportedKxGroup,
    ) -> ClientConfig {
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![group],
            ..aws_lc_rs::default_provider()
        };
        let folder = tempfile::tempdir().unwrap();
        let mut roots = RootCertStore::empty();
        let pem = std::fs::read(self.authority.write(folder.path())).unwrap();
        let certificate = rustls::pki_types::pem::PemObject::from_pem_slice(&pem).unwrap();
        roots.add(certificate).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        config
    }

    /// Optgate, the [`program`] under test.
    pub fn optgate(&self) -> Proxy {
        let folder = TempDir::with_prefix("optgate-bench-").unwrap();
        let (clear, tls) = (free(), free());
        let file = folder.path().join("optgate.toml");
        let data = folder.path().join("data").display().to_string();
        let text = format!(
            "listen = [\"{clear}\"]\nworkers = 1\ndata_dir = {data:?}\nupstream = \"http://{}\"\n\
             [tls]\nlisten = [\"{tls}\"]\n{}\
             [limits]\nconnections_per_client = 0\n[timeouts]\nidle = \"1h\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"error\"\n",
            self.origin,
            self.leaf.toml(folder.path(), "site"),
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program());
        command.args(["run", "--config"]).arg(file);
        Proxy::start("optgate", command, clear, tls, folder)
    }

    /// HAProxy, doing the same; `None` after a line that says that it is not there.
    pub fn haproxy(&self) -> Option<Proxy> {
        let program = installed("haproxy", "-v")?;
        let folder = TempDir::with_prefix("haproxy-bench-").unwrap();
        let (clear, tls) = (free(), free());
        let pem = folder.path().join("site.both.pem");
        std::fs::write(&pem, self.leaf.pem()).unwrap();
        let text = format!(
            "global\n  nbthread 1\ndefaults\n  mode http\n  http-reuse always\n  option forwardfor\n\
             \x20 timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
             frontend f\n  bind {clear}\n  bind {tls} ssl crt {pem} alpn h2,http/1.1\n\
             \x20 http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]\n\
             \x20 http-request set-header X-Forwarded-Host %[req.hdr(Host)]\n  default_backend b\n\
             backend b\n  server o {origin}\n",
            pem = pem.display(),
            origin = self.origin,
        );
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(file);
        Some(Proxy::start("haproxy", command, clear, tls, folder))
    }

    /// nginx, doing the same; `None` after a line that says that it is not there.
    pub fn nginx(&self) -> Option<Proxy> {
        self.nginx_with("nginx", "")
    }

    /// [`Self::nginx`] under a name of its own, with more directives for what it passes on.
    pub fn nginx_with(&self, name: &'static str, more: &str) -> Option<Proxy> {
        let program = installed("nginx", "-v")?;
        let folder = TempDir::with_prefix("nginx-bench-").unwrap();
        let (clear, tls) = (free(), free());
        let (chain, key) = self.leaf.write(folder.path(), "site");
        let at = folder.path().display();
        // An origin that is asked again on one connection, the same fields added, no log: what Optgate does too.
        let text = format!(
            "daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 1000000;\n\
             pid {at}/pid; error_log {at}/error;\n\
             events {{ worker_connections 65536; }}\n\
             http {{ access_log off; keepalive_timeout 1h; keepalive_requests 100000000;\n\
             client_body_temp_path {at}/1; proxy_temp_path {at}/2; fastcgi_temp_path {at}/3;\n\
             uwsgi_temp_path {at}/4; scgi_temp_path {at}/5;\n\
             upstream o {{ server {origin}; keepalive 64; keepalive_requests 100000000; }}\n\
             ssl_certificate {chain}; ssl_certificate_key {key};\n\
             ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;\n\
             server {{ listen {clear} backlog=4096; listen {tls} ssl http2 backlog=4096;\n\
             location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
             proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;\n\
             proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host;\n\
             {more} }} }} }}\n",
            origin = self.origin,
            chain = chain.display(),
            key = key.display(),
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        command.arg("-c").arg(file);
        Some(Proxy::start(name, command, clear, tls, folder))
    }
}

/// The program under test: as built with the bench, or the one that `--program PATH` names.
pub fn program() -> String {
    let mut words = std::env::args().skip_while(|word| word != "--program").skip(1);
    words.next().unwrap_or_else(|| env!("CARGO_BIN_EXE_optgate").to_owned())
}

/// A running proxy; ended when dropped.
pub struct Proxy {
    /// Its name.
    pub name: &'static str,
    /// Where it speaks HTTP in clear.
    pub clear: SocketAddr,
    /// Where it speaks TLS.
    pub tls: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Proxy {
    /// Starts it on the first core and waits until it answers.
    fn start(
        name: &'static str,
        mut command: Command,
        clear: SocketAddr,
        tls: SocketAddr,
        folder: TempDir,
    ) -> Self {
        if std::env::var_os(REALTIME).is_some() {
            // chrt becomes the program, so its id stays.
            let program = std::mem::replace(&mut command, Command::new("chrt"));
            command.args(["-f", "5"]).arg(program.get_program()).args(program.get_args());
        }
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // A child has its parent's core.
        pin(0);
        let child = command.spawn().unwrap();
        pin(1);
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(clear).is_err() || TcpStream::connect(tls).is_err() {
            let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
            assert!(Instant::now() < until, "{name} does not start: {}", log());
            thread::sleep(Duration::from_millis(50));
        }
        Self { name, clear, tls, child, _folder: folder }
    }

    /// Id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all its threads so far (schedstat, in nanoseconds: a stat's ticks are too coarse).
    pub fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().flatten();
        // A thread that ends meanwhile has no file any more.
        let read = |task: &Path| std::fs::read_to_string(task.join("schedstat")).ok();
        let nanos = tasks.filter_map(|task| read(&task.path())?.split(' ').next()?.parse::<u64>().ok());
        Duration::from_nanos(nanos.sum())
    }

    /// Memory of its own that is resident, in KiB. The kernel's part of a connection is not in it.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of the system, where daemons are too; `None` after a line that says that it is not there.
pub fn installed(name: &str, asks: &str) -> Option<String> {
    let runs = |program: &String| {
        Command::new(program).arg(asks).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    let found = [name.to_owned(), format!("/usr/sbin/{name}")].into_iter().find(runs);
    if found.is_none() {
        println!("skipped: {name} is not beside it: it is not installed");
    }
    found
}

/// An address of loopback that nobody has yet.
pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Keeps what this thread starts from now on, and the thread itself, on the first or second of the machine's cores;
/// where there is one only, on that.
pub fn pin(which: usize) {
    static CORES: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();
    let cores = CORES.get_or_init(|| {
        let all = sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).collect()
    });
    let mut one = CpuSet::new();
    one.set(cores[which.min(cores.len() - 1)]);
    sched_setaffinity(None, &one).unwrap();
}

/// An origin on a thread a connection: `/large` is 1 MiB, everything else 1 KiB.
fn origin() -> SocketAddr {
    pin(1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |length: usize| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Fri, 27 Nov 2026 07:00:00 GMT\r\nContent-Type: text/plain\r\n\
             Content-Length: {length}\r\nConnection: keep-alive\r\nETag: \"65a1b2c3-400\"\r\n\r\n"
        );
        Arc::new([head.into_bytes(), vec![b'x'; length]].concat())
    };
    let (small, large) = (answer(1024), answer(1 << 20));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (small, large) = (Arc::clone(&small), Arc::clone(&large));
            thread::spawn(move || serve(stream, &small, &large));
        }
    });
    address
}

fn serve(mut stream: TcpStream, small: &[u8], large: &[u8]) {
    stream.set_nodelay(true).unwrap();
    let mut request = [0; 8192];
    while let Ok(read @ 1..) = stream.read(&mut request) {
        assert!(request[..read].ends_with(b"\r\n\r\n"), "a request in pieces");
        let answer = if request.starts_with(b"GET /large ") { large } else { small };
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

/// Reads one answer of HTTP/1.1 into `room`, which is to be large enough, and nothing beyond it.
pub fn read_answer(from: &mut impl Read, room: &mut [u8]) {
    let mut have = 0;
    loop {
        let read = from.read(&mut room[have..]).unwrap();
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(&room[..have]));
        have += read;
        let Some(end) = memchr::memmem::find(&room[..have], b"\r\n\r\n").map(|at| at + 4) else { continue };
        let head = String::from_utf8_lossy(&room[..end]).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
        let length: usize = length.unwrap_or_else(|| panic!("no length: {head}")).parse().unwrap();
        if have >= end + length {
            assert_eq!(have, end + length, "more than an answer");
            return;
        }
    }
}
