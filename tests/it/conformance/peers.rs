//! What the same requests come to at Debian's nginx and HAProxy, side by side: a table to print. Of them it is only
//! asserted that they ran, of Optgate that it passes every case.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::case::{Case, Level};
use super::recorder::Recorder;
use super::{Sending, Subject, Totals, Verdict, optgate, requests};
use crate::support::binary::own_address;
use crate::support::front::{Front, find, nginx_file, spawn};

fn nginx(program: &Path, origin: SocketAddr) -> Front {
    let (dir, addr) = (TempDir::with_prefix("optgate-nginx-").unwrap(), own_address());
    let http = format!(
        "client_header_timeout 1s; client_body_timeout 1s;\n\
         upstream origin {{ server {origin}; keepalive 16; }}\n\
         server {{ listen {addr}; location / {{ proxy_pass http://origin; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header X-Stamp 1; proxy_set_header Host $http_host; }} }}\n"
    );
    let mut command = Command::new(program);
    nginx_file(&mut command, dir.path(), &http);
    spawn(command, dir, addr)
}

fn haproxy(program: &Path, origin: SocketAddr) -> Front {
    let (dir, addr) = (TempDir::with_prefix("optgate-haproxy-").unwrap(), own_address());
    let text = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 2s\n timeout server 5s\n timeout http-request 2s\n\
         \x20http-reuse always\nfrontend front\n bind {addr}\n http-request set-header X-Stamp 1\n default_backend back\nbackend back\n server origin {origin}\n"
    );
    let file = dir.path().join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(file);
    spawn(command, dir, addr)
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
    for (name, start) in [("nginx", nginx as fn(&Path, SocketAddr) -> Front), ("haproxy", haproxy)] {
        let Some(program) = find(name, "the_same_requests_at_nginx_and_haproxy") else { continue };
        let origin = Arc::new(Recorder::start());
        let peer = start(&program, origin.addr());
        columns.push((name, verdicts(peer.addr(), origin, &cases, "x-stamp")));
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
