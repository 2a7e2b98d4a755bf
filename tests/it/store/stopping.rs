//! A stop while the journal cannot write: what is queued is tried again for as long as a stop may take, and a program that
//! loses records does not say that all went well.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::process::Signal;

use super::super::support::binary::Binary;
use super::super::support::client::get;
use super::super::support::origin::Origin;
use super::super::support::proxy::proxy;
use super::{disk, records};

/// A program with a signal in its queue and a disk that is read-only: the switch of that disk, the data folder.
fn failing(drain: &str, beside: &std::path::Path) -> (Binary, SocketAddr, PathBuf, PathBuf) {
    let origin = Origin::start().on("/", |x| x.ok("text/html", b"a shop"));
    let switch = beside.join("read-only");
    let settings = format!(
        "drain_timeout = \"{drain}\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n[account]\nheader = \"x-account-id\"\n"
    );
    let builder = proxy().to(&origin).toml(&settings);
    let data = builder.settings().data_dir;
    let (binary, addr, _) = disk::serve(builder, beside, ("OPTGATE_DISK_READ_ONLY", &switch));
    std::fs::write(&switch, "").unwrap();
    get(addr, "/", "Sec-GPC: 1\r\nX-Account-Id: ann\r\n");
    binary.wait_for_line("the journal cannot write");
    (binary, addr, switch, data)
}

#[test]
fn a_stop_waits_for_a_journal_that_can_write_again_within_the_time_for_it() {
    let beside = tempfile::tempdir().unwrap();
    let (mut binary, _, switch, data) = failing("30s", beside.path());
    binary.signal(Signal::TERM);
    binary.wait_for_line("records wait for the journal");
    std::fs::remove_file(&switch).unwrap();
    assert!(binary.wait().success());
    assert_eq!(records(&data).iter().filter(|record| record.account).count(), 1);
}

#[test]
fn a_stop_that_loses_records_fails_and_says_how_many() {
    let beside = tempfile::tempdir().unwrap();
    let (mut binary, _, _switch, _) = failing("1s", beside.path());
    binary.signal(Signal::TERM);
    binary.wait_for_line("1 records are lost");
    assert_eq!(binary.wait().code(), Some(1));
}
