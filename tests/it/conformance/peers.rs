//! What the same requests and answers come to at Debian's nginx and HAProxy, side by side: a table to print. Of them it is only
//! asserted that they ran, of Optgate that it passes every case.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::case::Level;
use super::recorder::Recorder;
use super::{Sending, Subject, Totals, Verdict, answers, optgate, requests};
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

/// Name, clause and level of a case, for a line of the table.
type Row<'a> = (&'a str, &'a str, Level);

/// A proxy's name, and its verdicts.
type Column = (&'static str, Vec<Verdict>);

/// What a judge says of Optgate, and of the peers that are there.
fn columns(test: &str, judge: impl Fn(&Subject) -> Vec<Verdict>) -> Vec<Column> {
    let of = |addr, origin, stamp| {
        // Some keep a connection open behind a refusal, or wait for more.
        let patience = Duration::from_millis(1500);
        judge(&Subject { addr, tls: None, http2: None, origin, patience, exact: false, stamp })
    };
    let (proxy, subject) = optgate();
    let mut columns = vec![("optgate", of(subject.addr, Arc::clone(&subject.origin), "via"))];
    drop(proxy);
    for (name, start) in [("nginx", nginx as fn(&Path, SocketAddr) -> Front), ("haproxy", haproxy)] {
        let Some(program) = find(name, test) else { continue };
        let origin = Arc::new(Recorder::start());
        let peer = start(&program, origin.addr());
        columns.push((name, of(peer.addr(), origin, "x-stamp")));
    }
    columns
}

/// Prints the table, and holds Optgate to every case.
fn show(what: &str, rows: &[Row<'_>], columns: &[Column]) {
    println!("conformance, side by side, {} {what}:", rows.len());
    for (name, verdicts) in columns {
        let mut totals = Totals::default();
        rows.iter().zip(verdicts).for_each(|((.., level), verdict)| totals.add(*level, verdict));
        println!("  {name:<8} {totals}");
    }
    println!("  MUST cases that one of them fails:");
    for (at, (name, clause, _)) in rows.iter().enumerate().filter(|(_, row)| row.2 == Level::Must) {
        let marks: Vec<_> = columns.iter().map(|(_, verdicts)| mark(&verdicts[at])).collect();
        if marks.iter().any(|mark| *mark != "pass") {
            println!("  {name:<60} {clause:<20} {}", marks.join("  "));
        }
    }
    assert!(columns[0].1.iter().all(|verdict| *verdict == Verdict::Pass));
}

/// The bar: what Debian's nginx and HAProxy make of the same requests. Cases about rules of ours are left out.
#[test]
fn the_same_requests_at_nginx_and_haproxy() {
    let cases: Vec<_> = requests().into_iter().filter(|case| case.general).collect();
    let judge = |subject: &Subject| cases.iter().map(|case| subject.run(case, Sending::Whole)).collect();
    let columns = columns("the_same_requests_at_nginx_and_haproxy", judge);
    let rows: Vec<Row<'_>> = cases.iter().map(|case| (case.name.as_str(), case.clause, case.level)).collect();
    show("requests over HTTP/1.1 (a refusal may have any status)", &rows, &columns);
}

/// The same of the answers of a hostile origin.
#[test]
fn the_same_answers_at_nginx_and_haproxy() {
    let columns = columns("the_same_answers_at_nginx_and_haproxy", answers::verdicts);
    let rows = answers::rows();
    let rows: Vec<Row<'_>> =
        rows.iter().map(|(name, clause, level)| (name.as_str(), *clause, *level)).collect();
    show("answers of an origin over HTTP/1.1", &rows, &columns);
}

fn mark(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail(_) => "FAIL",
        Verdict::Critical(_) => "CRITICAL",
    }
}
