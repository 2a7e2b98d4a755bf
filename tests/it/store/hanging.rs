//! A disk that hangs fails nothing and answers nothing. A click gets its cookie and a plain word all the same,
//! whoever looks is told, and what was handed over is on record once the disk answers.

use std::net::SocketAddr;

use super::super::support::client::{Client, Response, get, metrics};
use super::super::support::origin::Origin;
use super::super::support::proxy::{figure, proxy};
use super::super::support::wait_until;
use super::disk;

fn opt_out(addr: SocketAddr, account: &str) -> Response {
    let head = format!(
        "POST /privacy-choices/opt-out HTTP/1.1\r\nHost: site.test\r\nX-Account-Id: {account}\r\nContent-Length: 0\r\n\r\n"
    );
    Client::connect(addr).send(head).response("POST")
}

#[test]
fn a_disk_that_hangs_leaves_nobody_without_an_answer() {
    let origin = Origin::start().on("/", |x| x.ok("text/plain", b"a shop"));
    let beside = tempfile::tempdir().unwrap();
    let hang = beside.path().join("hang");
    let trusted = "trusted_proxies = [\"127.0.0.0/8\"]\n[account]\nheader = \"x-account-id\"\n";
    let builder = proxy().to(&origin).toml(trusted);
    let (binary, addr, admin) = disk::serve(builder, beside.path(), ("OPTGATE_DISK_HANG", &hang));
    assert_eq!(opt_out(addr, "ann").status(), 200);

    std::fs::write(&hang, "").unwrap();
    let told = opt_out(addr, "bob");
    assert_eq!(told.status(), 503);
    assert!(told.head.all("set-cookie").iter().any(|line| line.starts_with("optgate=v1.out.")));
    assert!(told.text().contains("But the account-wide record could not be saved."), "{}", told.text());
    let ready = || Client::connect(admin).get_from(&admin.to_string(), "/readyz?verbose", "").text();
    wait_until("the journal is said to fail", || {
        ready().contains("journal: cannot write: it takes too long")
    });
    assert_eq!(figure(&metrics(admin), "optgate_journal_up"), Some(0));
    let receipt = get(addr, "/privacy-choices/receipt/AAAA-AAAA-AAAA-AAAA", "");
    assert_eq!(receipt.status(), 503, "{}", receipt.text());

    std::fs::remove_file(&hang).unwrap();
    wait_until("the journal writes again", || ready().contains("journal: writing; 0 waiting, 2 records"));
    let seen = origin.heads();
    assert_eq!(get(addr, "/", "X-Account-Id: bob\r\n").status(), 200);
    let decision = origin.seen(seen + 1).last().unwrap().one("optgate-decision");
    assert_eq!(decision.as_deref(), Some("opted-out;basis=account"), "it went on behind");
    assert_eq!(opt_out(addr, "carl").status(), 200);
    drop(binary);
}

/// An opt-in that the disk holds up is recorded when it answers, and then it holds on the account's other browsers. So nobody
/// is told that nothing has changed.
#[test]
fn an_opt_in_that_a_disk_holds_up_is_not_called_undone() {
    let origin = Origin::start().on("/", |x| x.ok("text/plain", b"a shop"));
    let beside = tempfile::tempdir().unwrap();
    let hang = beside.path().join("hang");
    let trusted = "trusted_proxies = [\"127.0.0.0/8\"]\n[account]\nheader = \"x-account-id\"\n";
    let builder = proxy().to(&origin).toml(trusted);
    let (binary, addr, admin) = disk::serve(builder, beside.path(), ("OPTGATE_DISK_HANG", &hang));
    assert_eq!(opt_out(addr, "ann").status(), 200);
    let form = |path: &str, fields: &str, body: &str| {
        let head = format!(
            "POST /privacy-choices/{path} HTTP/1.1\r\nHost: site.test\r\nX-Account-Id: ann\r\n{fields}\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Client::connect(addr).send(head).response("POST")
    };
    let asked = form("opt-in", "Accept: application/json\r\n", "").text();
    let asked: serde_json::Value = serde_json::from_str(&asked).unwrap();
    let token = asked["token"].as_str().unwrap();

    std::fs::write(&hang, "").unwrap();
    let told =
        form("opt-in/confirm", &format!("Cookie: optgate-confirm={token}\r\n"), &format!("token={token}"));
    assert_eq!(told.status(), 503);
    assert!(told.text().contains("it may still be saved"), "{}", told.text());
    assert!(!told.text().contains("Nothing has changed"), "{}", told.text());
    assert!(told.head.all("set-cookie").is_empty(), "{:?}", told.head);
    std::fs::remove_file(&hang).unwrap();
    let ready = || Client::connect(admin).get_from(&admin.to_string(), "/readyz?verbose", "").text();
    wait_until("the journal writes again", || ready().contains("journal: writing; 0 waiting, 3 records"));
    let seen = origin.heads();
    assert_eq!(get(addr, "/", "X-Account-Id: ann\r\n").status(), 200);
    let decision = origin.seen(seen + 1).last().unwrap().one("optgate-decision");
    assert_eq!(decision.as_deref(), Some("none"), "it was saved");
    drop(binary);
}
