//! What the same requests come to at Debian's nginx and HAProxy, side by side. A table to print; nothing of it is
//! asserted but that the proxies ran.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::case::{Case, Level};
use super::recorder::Recorder;
use super::{Sending, Subject, Totals, Verdict, optgate, requests};
use crate::support::binary::own_address;
use crate::support::{skipped, wait_until};

/// A running proxy of somebody else's; ends with the value.
struct Peer {
    child: Child,
    addr: SocketAddr,
    _dir: TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    if found.is_none() {
        skipped("the_same_requests_at_nginx_and_haproxy", &format!("{program} is absent"));
    }
    found
}

fn start(program: &Path, dir: TempDir, addr: SocketAddr, arguments: &[String]) -> Peer {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let peer = Peer { child, addr, _dir: dir };
    wait_until("the other proxy listens", || TcpStream::connect(addr).is_ok());
    peer
}

fn nginx(program: &Path, origin: SocketAddr) -> Peer {
    let (dir, addr) = (TempDir::with_prefix("optgate-nginx-").unwrap(), own_address());
    let place = dir.path().display().to_string();
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {place}/{name};\n"))
        .collect();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {place}/pid;\nerror_log {place}/error.log;\n\
         events {{ worker_connections 256; }}\nhttp {{\naccess_log off;\n{temp}\
         client_header_timeout 1s; client_body_timeout 1s;\n\
         upstream origin {{ server {origin}; keepalive 16; }}\n\
         server {{ listen {addr}; location / {{ proxy_pass http://origin; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header X-Stamp 1; proxy_set_header Host $http_host; }} }} }}\n"
    );
    let file = format!("{place}/nginx.conf");
    std::fs::write(&file, text).unwrap();
    let arguments = ["-p", &place, "-e", &format!("{place}/error.log"), "-c", &file].map(str::to_owned);
    start(program, dir, addr, &arguments)
}

fn haproxy(program: &Path, origin: SocketAddr) -> Peer {
    let (dir, addr) = (TempDir::with_prefix("optgate-haproxy-").unwrap(), own_address());
    let text = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 2s\n timeout server 5s\n timeout http-request 2s\n\
         \x20http-reuse always\nfrontend front\n bind {addr}\n http-request set-header X-Stamp 1\n default_backend back\nbackend back\n server origin {origin}\n"
    );
    let file = dir.path().join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let arguments = ["-db".to_owned(), "-f".to_owned(), file.display().to_string()];
    start(program, dir, addr, &arguments)
}

/// Every verdict on these cases; ours held to no more than theirs.
fn verdicts(addr: SocketAddr, origin: Arc<Recorder>, cases: &[Case], stamp: &'static str) -> Vec<Verdict> {
    // Some keep a connection open behind a refusal, or wait for more.
    let patience = Duration::from_millis(1500);
    let subject = Subject { addr, tls: None, http2: None, origin, patience, exact: false, stamp };
    cases.iter().map(|case| subject.run(case, Sending::Whole)).collect()
}

fn totals(cases: &[Case], verdicts: &[Verdict]) -> Totals {
    let mut totals = Totals::default();
    for (case, verdict) in cases.iter().zip(verdicts) {
        totals.add(case.level, verdict);
    }
    totals
}

/// The bar: what Debian's nginx and HAProxy make of the same requests. Cases about rules of ours are left out.
#[test]
fn the_same_requests_at_nginx_and_haproxy() {
    let cases: Vec<_> = requests().into_iter().filter(|case| case.general).collect();
    let mut columns = Vec::new();
    let (proxy, subject) = optgate();
    columns.push(("optgate", verdicts(subject.addr, Arc::clone(&subject.origin), &cases, "via")));
    drop(proxy);
    if let Some(program) = find("nginx") {
        let origin = Arc::new(Recorder::start());
        let peer = nginx(&program, origin.addr());
        columns.push(("nginx", verdicts(peer.addr, origin, &cases, "x-stamp")));
    }
    if let Some(program) = find("haproxy") {
        let origin = Arc::new(Recorder::start());
        let peer = haproxy(&program, origin.addr());
        columns.push(("haproxy", verdicts(peer.addr, origin, &cases, "x-stamp")));
    }
    println!(
        "conformance, side by side, {} requests over HTTP/1.1 (a refusal may have any status):",
        cases.len()
    );
    for (name, verdicts) in &columns {
        println!("  {name:<8} {}", totals(&cases, verdicts));
    }
    println!("  MUST cases that one of them fails:");
    for (at, case) in cases.iter().enumerate().filter(|(_, case)| case.level == Level::Must) {
        let marks: Vec<_> = columns.iter().map(|(_, verdicts)| mark(&verdicts[at])).collect();
        if marks.iter().any(|mark| *mark != "pass") {
            println!("  {:<60} {:<20} {}", case.name, case.clause, marks.join("  "));
        }
    }
    assert_eq!(totals(&cases, &columns[0].1).critical, 0);
    assert!(columns[0].1.iter().all(|verdict| *verdict == Verdict::Pass));
}

fn mark(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail(_) => "FAIL",
        Verdict::Critical(_) => "CRITICAL",
    }
}
