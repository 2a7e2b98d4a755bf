//! Commands about a data folder that a server has: they reach it over the socket in the folder, and what they do holds
//! for the next request.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use super::acceptance_choices::{honoured, shop};
use super::support::binary::Binary;
use super::support::client::{Client, get};
use super::support::origin::Origin;
use super::support::proxy::{Builder, proxy, site};
use super::support::{Ends, wait_until};

const GPC: &str = "Sec-GPC: 1\r\n";

fn account(name: &str) -> String {
    format!("X-Account-Id: {name}\r\n")
}

/// A site whose accounts a trusted hop names, and profiles a cookie.
fn settings(url: &str) -> Builder {
    let account = "[account]\nheader = \"x-account-id\"\nprofile_cookie = \"visitor\"\n";
    site(&[format!("{url:?}")], &format!("name = \"shop\"\n{account}"))
        .toml("trusted_proxies = [\"127.0.0.0/8\"]\n")
}

/// What a person types about the folder of a settings file.
fn typed(file: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_optgate")).args(args).arg("--config").arg(file).output().unwrap()
}

/// What it prints when all is well.
fn ok(file: &Path, args: &[&str]) -> String {
    let output = typed(file, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What it says when it cannot.
fn failed(file: &Path, args: &[&str]) -> String {
    let output = typed(file, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// Prints what `ledger export` does.
fn exported(file: &Path) -> Vec<Value> {
    ok(file, &["ledger", "export"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Imports, with the server at work: who is in the file is opted out at the next request.
#[test]
fn an_import_beside_a_server_is_in_force_at_once() {
    let origin = shop(&["/"]);
    let binary = Binary::start(settings(origin.url()));
    let (addr, file) = (binary.addr(), binary.file());
    assert!(!honoured(&get(addr, "/", &account("ann"))));
    let csv = binary.file().with_file_name("drop.csv");
    fs::write(
        &csv,
        "account,site,date\nann,shop,2026-11-20\nbob,shop,2026-11-20\nann,shop,2026-11-21\n,shop,x\n",
    )
    .unwrap();
    let import = ["ledger", "import", "--source", "drop", csv.to_str().unwrap()];
    let said = typed(&file, &[&import[..], &["--dry-run"]].concat());
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("would be recorded: 2\nrecorded before: 1\n"));
    assert!(!honoured(&get(addr, "/", &account("ann"))), "a dry run records nothing");
    let said = typed(&file, &import);
    assert!(String::from_utf8_lossy(&said.stderr).contains("drop.csv:5: "), "{said:?}");
    assert!(
        String::from_utf8_lossy(&said.stdout).starts_with("recorded: 2\nrecorded before: 1\n"),
        "{said:?}"
    );
    for name in ["ann", "bob"] {
        assert!(honoured(&get(addr, "/", &account(name))), "{name}");
    }
    assert!(!honoured(&get(addr, "/", &account("carl"))));
    let said = typed(&file, &import);
    assert!(
        String::from_utf8_lossy(&said.stdout).starts_with("recorded: 0\nrecorded before: 3\n"),
        "{said:?}"
    );
    let records = exported(&file);
    assert_eq!(records.len(), 2, "{records:?}");
    assert!(records[0]["policy"].as_str().unwrap().ends_with(" line 2 of 2026-11-20"), "{records:?}");
}

/// As long as a file of opt-outs may be: it goes over in pieces, and no row is lost or doubled between two.
#[test]
fn a_long_import_beside_a_server_goes_over_whole() {
    let origin = shop(&["/"]);
    let binary = Binary::start(settings(origin.url()));
    let csv = binary.file().with_file_name("drop.csv");
    let rows: String = (0..21_000).map(|n| format!("person {n},shop,2026-11-20\n")).collect();
    fs::write(&csv, format!("account,site,date\n{rows}")).unwrap();
    let said = typed(&binary.file(), &["ledger", "import", "--source", "crm", csv.to_str().unwrap()]);
    assert!(
        String::from_utf8_lossy(&said.stdout).starts_with("recorded: 21000\nrecorded before: 0\n"),
        "{said:?}"
    );
    let told = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(told.lines().filter(|line| line.ends_with(" of 21000")).count(), 2, "{told}");
    for name in ["person 0", "person 1023", "person 1024", "person 20999"] {
        assert!(honoured(&get(binary.addr(), "/", &account(name))), "{name}");
    }
}

/// Domain 6: erased while the server works; who is opted out stays so, and nobody else is touched.
#[test]
fn an_account_is_erased_beside_a_server() {
    let origin = shop(&["/"]);
    let binary = Binary::start(settings(origin.url()));
    let (addr, file) = (binary.addr(), binary.file());
    for name in ["ann", "bob"] {
        assert!(honoured(&get(addr, "/", &(account(name) + GPC))));
    }
    // A record that nobody waited for is on disk by then.
    wait_until("both are recorded", || exported(&file).len() == 2);
    let said = ok(&file, &["ledger", "erase", "--site", "shop", "--account", "ann"]);
    assert!(said.starts_with("records erased from: 1\n") && said.ends_with("alone: yes\n"), "{said}");
    let said = ok(&file, &["ledger", "erase", "--site", "shop", "--account", "nobody"]);
    assert!(said.starts_with("records erased from: 0\n") && said.ends_with("alone: no\n"), "{said}");
    for name in ["ann", "bob"] {
        assert!(honoured(&get(addr, "/", &account(name))), "{name}");
    }
    let said = failed(&file, &["ledger", "verify"]);
    assert!(said.contains("is whole, but nothing is signed yet"), "{said}");
}

/// Domain 6, 11 CCR 7025(c)(1): a person is known at two levels, and a profile is erased like an account. What is erased
/// at one level does not reach the other.
#[test]
fn a_profile_is_erased_beside_a_server_apart_from_an_account_of_its_key() {
    let origin = shop(&["/"]);
    let binary = Binary::start(settings(origin.url()));
    let (addr, file) = (binary.addr(), binary.file());
    let profile = "Cookie: visitor=77\r\n";
    assert!(honoured(&get(addr, "/", &format!("{profile}{GPC}"))));
    assert!(honoured(&get(addr, "/", &(account("77") + GPC))));
    wait_until("both are recorded", || exported(&file).len() == 2);
    let said = ok(&file, &["ledger", "erase", "--site", "shop", "--profile", "77"]);
    assert!(said.starts_with("records erased from: 1\n") && said.ends_with("alone: yes\n"), "{said}");
    let said = ok(&file, &["ledger", "erase", "--site", "shop", "--profile", "77"]);
    assert!(said.starts_with("records erased from: 0\n") && said.ends_with("alone: yes\n"), "{said}");
    // Both at once, of which the profile has nothing left.
    let said = ok(&file, &["ledger", "erase", "--site", "shop", "--account", "77", "--profile", "77"]);
    assert!(said.starts_with("records erased from: 1\n"), "{said}");
    assert!(honoured(&get(addr, "/", profile)) && honoured(&get(addr, "/", &account("77"))));
    let said = failed(&file, &["ledger", "erase", "--site", "shop", "--profile", ""]);
    assert!(said.contains("no profile was named"), "{said}");
}

/// Whoever opts out while much is pruned does not wait for all of it, and is not pruned.
#[test]
fn opt_outs_go_on_while_a_server_prunes() {
    let origin = shop(&["/"]);
    let binary = Binary::start(settings(origin.url()));
    let (addr, file) = (binary.addr(), binary.file());
    let csv = file.with_file_name("drop.csv");
    let rows: String = (0..5_000).map(|n| format!("{n},shop,2026-11-20\n")).collect();
    fs::write(&csv, format!("account,site,date\n{rows}")).unwrap();
    ok(&file, &["ledger", "import", "--source", "crm", csv.to_str().unwrap()]);
    let tomorrow = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string();
    let prune = ["ledger", "prune", "--force", "--before", &tomorrow[..10]];
    let said = ok(&file, &[&prune[..], &["--dry-run"]].concat());
    assert!(said.starts_with("would be pruned: 5000\n"), "{said}");
    let done = AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut client, mut asked) = (Client::connect(addr), 0);
            while !done.load(Ordering::Acquire) || asked < 20 {
                assert!(honoured(&client.get("/", &(account(&format!("new {asked}")) + GPC))));
                asked += 1;
            }
            asked
        });
        let said = ok(&file, &prune);
        done.store(true, Ordering::Release);
        let pruned = said.lines().next().unwrap().strip_prefix("pruned: ").unwrap();
        assert!(pruned.parse::<u64>().unwrap() >= 5_000, "{said}");
        asking.join().unwrap()
    });
    for name in ["0", "4999", "new 0", &format!("new {}", asked - 1)] {
        assert!(honoured(&get(addr, "/", &account(name))), "{name}");
    }
    let said = failed(&file, &["ledger", "verify"]);
    assert!(said.contains("is whole, but nothing is signed yet"), "{said}");
}

/// A server that runs with the secret of before would not know whom an order is about, and needs that secret still.
#[test]
fn orders_under_a_secret_that_the_server_has_not_taken_are_refused() {
    let origin = shop(&["/"]);
    let mut binary = Binary::start(settings(origin.url()));
    let (addr, file) = (binary.addr(), binary.file());
    assert!(honoured(&get(addr, "/", &(account("ann") + GPC))));
    ok(&file, &["keys", "rotate"]);
    let said = failed(&file, &["ledger", "erase", "--site", "shop", "--account", "ann"]);
    assert!(said.contains("start it anew"), "{said}");
    assert!(failed(&file, &["keys", "retire"]).contains("start it anew"));
    binary.upgrade();
    assert!(
        failed(&file, &["keys", "retire"]).contains("1 opted-out accounts are known under an earlier secret")
    );
    assert!(honoured(&get(addr, "/", &account("ann"))), "and is carried over");
    wait_until("it is carried over", || typed(&file, &["keys", "retire"]).status.success());
    assert_eq!(ok(&file, &["keys", "list"]).lines().count(), 1);
    assert!(honoured(&get(addr, "/", &account("ann"))));
}

/// Whoever may not write the folder may not ask; what a server leaves behind is in nobody's way.
#[test]
fn the_folders_socket_is_its_owners_and_goes_with_the_server() {
    let origin = shop(&["/"]);
    let mut binary = Binary::start(settings(origin.url()));
    let file = binary.file();
    let socket = file.with_file_name("data").join("books.sock");
    let meta = fs::symlink_metadata(&socket).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    let erase = ["ledger", "erase", "--site", "shop", "--account", "ann"];
    binary.upgrade();
    ok(&file, &erase);
    binary.signal(Signal::KILL);
    wait_until("it is gone", || fs::File::open(socket.with_file_name("lock")).unwrap().try_lock().is_ok());
    assert!(socket.exists(), "nobody was there to take it away");
    ok(&file, &erase);
    drop(binary);
    let proxy = settings(origin.url()).run();
    let socket = proxy.dir().join("data/books.sock");
    assert!(socket.exists());
    let kept = proxy.stop();
    assert!(!kept.path().join("data/books.sock").exists());
}

/// A path that is too long for a socket is no reason not to serve.
#[test]
fn a_folder_whose_name_is_too_long_for_a_socket_is_served_all_the_same() {
    let origin = shop(&["/"]);
    let builder = proxy().to(&origin);
    let long = builder.dir().join("d".repeat(120));
    let data = format!("{:?}", builder.dir().join("data").display().to_string());
    let binary = Binary::start(builder.replacing(&data, &format!("{:?}", long.display().to_string())));
    assert!(honoured(&get(binary.addr(), "/", GPC)));
    let said = failed(&binary.file(), &["ledger", "prune"]);
    assert!(said.contains("does not listen at") && said.contains("stop it"), "{said}");
}

/// An order that is typed while an upgrade hands the store over is carried out by the next process, and needs no second
/// typing: whichever of the two it reaches, and whenever.
#[test]
fn orders_that_are_typed_over_upgrades_are_carried_out() {
    let origin = shop(&["/"]);
    let mut binary = Binary::start(settings(origin.url()));
    let file = binary.file();
    let (done, typed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let orders: [&[&str]; 3] = [
        &["ledger", "prune", "--dry-run"],
        &["ledger", "erase", "--site", "shop", "--account", "ann"],
        &["keys", "retire"],
    ];
    thread::scope(|scope| {
        for order in orders {
            let (done, typed, file) = (&done, &typed, &file);
            scope.spawn(move || {
                while !done.load(Ordering::Acquire) {
                    ok(file, order);
                    typed.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        let _end = Ends(&done);
        for _ in 0..4 {
            let before = typed.load(Ordering::Acquire);
            wait_until("orders are typed", || typed.load(Ordering::Acquire) > before + 3);
            binary.upgrade();
        }
    });
    println!("{} orders over 4 upgrades", typed.into_inner());
}

/// The program asks again where a server says that nothing was begun, and nowhere else: what may have been done is not
/// done twice.
#[test]
fn an_order_is_sent_again_only_where_nothing_of_it_was_begun() {
    let kept = settings(shop(&["/"]).url()).run().stop();
    let file = kept.path().join("optgate.toml");
    let refusal = |fields: &'static str| {
        format!("HTTP/1.1 503 Service Unavailable\r\n{fields}Content-Length: 15\r\n\r\n{{\"detail\":\"no\"}}")
    };
    let prune = ["ledger", "prune", "--force", "--before", "2026-01-01"];
    for (fields, asked) in [("Retry-After: 0\r\n", 3), ("", 1)] {
        let refused = AtomicUsize::new(0);
        let server = Origin::start_unix(&kept.path().join("data/books.sock")).on("/prune", move |x| {
            x.body()?;
            match refused.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => x.send(refusal(fields)),
                _ => {
                    x.ok("application/json", br#"{"records":7,"held":0,"first_format":0,"accounts_kept":0}"#)
                }
            }
        });
        match asked {
            1 => assert!(failed(&file, &prune).contains("503 Service Unavailable: no")),
            _ => assert!(ok(&file, &prune).starts_with("pruned: 7\n")),
        }
        fs::remove_file(kept.path().join("data/books.sock")).unwrap();
        let orders: Vec<_> = server.seen(asked).into_iter().map(|order| order.body).collect();
        assert_eq!(orders.len(), asked, "{fields}");
        assert!(orders.iter().all(|order| *order == orders[0]), "the same order");
    }
}

/// A hold that is typed beside a server is in its journal, with a record of who had it so; nothing of what is
/// wrong is.
#[test]
fn a_hold_beside_a_server_leaves_its_record() {
    let origin = shop(&["/"]);
    let binary = Binary::start(settings(origin.url()));
    let file = binary.file();
    assert!(honoured(&get(binary.addr(), "/", GPC)));
    wait_until("it is recorded", || exported(&file).len() == 1);
    let said = ok(&file, &["ledger", "hold", "add", "--site", "shop", "--reason", "case 12"]);
    assert!(said.starts_with("1\tsite shop\t") && said.ends_with("\tcase 12\n"), "{said}");
    assert!(
        failed(&file, &["ledger", "hold", "remove", "3"])
            .contains("404 Not Found: the journal has no hold 3")
    );
    assert_eq!(ok(&file, &["ledger", "hold", "remove", "1"]), "");
    let records = exported(&file);
    let told: Vec<_> = records[1..].iter().map(|r| (r["signal"].as_str(), r["policy"].as_str())).collect();
    assert_eq!(
        told,
        [(Some("hold"), Some("v1 hold=1 site=shop")), (Some("release"), Some("v1 hold=1"))],
        "{records:?}"
    );
    let reference = records[1]["reference"].as_str().unwrap();
    let page = get(binary.addr(), &format!("/privacy-choices/receipt/{reference}"), "");
    assert_eq!(page.status(), 404, "no visitor is shown it as a choice");
}
