//! A proxy that serves while its disk turns read-only, as ext4 makes it after an error, and is mounted anew.

use std::fs;

use optgate::store::{RecordView, export};

use super::disk;
use crate::acceptance_choices::{honoured, post, shop};
use crate::support::client::{Client, get, metrics};
use crate::support::proxy::{figure, proxy};
use crate::support::wait_until;

const GPC: &str = "Sec-GPC: 1\r\n";
const ANN: &str = "X-Account-Id: ann\r\n";
const BOB: &str = "X-Account-Id: bob\r\n";

/// A click is in force on its browser, and the page says that the
/// account's record is missing and to try again; a signal is honoured, kept, and recorded once the disk takes it. Readiness is
/// red only where the settings want that. With the disk back all goes on by itself, and what was kept is on record once.
#[test]
fn a_proxy_whose_disk_turns_read_only_honours_everybody_says_so_and_goes_on() {
    for (requires, ready_then) in [(false, 200), (true, 503)] {
        let origin = shop(&["/"]);
        let builder = proxy().to(&origin).toml(&format!(
            "trusted_proxies = [\"127.0.0.0/8\"]\n[account]\nheader = \"x-account-id\"\n[ready]\nrequires_journal = {requires}\n"
        ));
        let data = builder.settings().data_dir;
        let beside = tempfile::tempdir().unwrap();
        let switch = beside.path().join("read-only");
        let (_binary, addr, admin) = disk::serve(builder, beside.path(), ("OPTGATE_DISK_READ_ONLY", &switch));
        let figure = |name: &str| figure(&metrics(admin), name).unwrap();
        let ready = || Client::connect(admin).get_from(&admin.to_string(), "/readyz?verbose", "");
        assert_eq!(post(addr, "/privacy-choices/opt-out", "", "").status(), 200);
        assert_eq!((ready().status(), figure("optgate_journal_up")), (200, 1));

        fs::write(&switch, "").unwrap();
        let answer = post(addr, "/privacy-choices/opt-out", ANN, "");
        assert_eq!(answer.status(), 503);
        let text = answer.text();
        assert!(text.contains("could not be saved") && text.contains("try again"), "{text}");
        let cookie = answer.head.all("set-cookie")[0].split(';').next().unwrap().to_owned();
        assert!(cookie.starts_with("optgate=v1.out."), "{cookie}");
        assert!(honoured(&get(addr, "/", &format!("Cookie: {cookie}\r\n"))), "in force on this browser");
        assert!(!honoured(&get(addr, "/", ANN)), "nobody was told that the account's was saved");
        assert!(honoured(&get(addr, "/", &format!("{GPC}{BOB}"))));
        assert!(honoured(&get(addr, "/", BOB)), "a signal is kept, and counts");
        let answer = ready();
        assert_eq!(answer.status(), ready_then, "{}", answer.text());
        assert!(answer.text().contains("journal: cannot write"), "{}", answer.text());
        assert_eq!((figure("optgate_journal_up"), figure("optgate_ledger_backlog")), (0, 1));

        fs::remove_file(&switch).unwrap();
        wait_until("the journal writes again", || {
            (figure("optgate_journal_up"), figure("optgate_ledger_backlog")) == (1, 0)
        });
        assert_eq!(ready().status(), 200);
        assert_eq!(post(addr, "/privacy-choices/opt-out", ANN, "").status(), 200);
        assert!(honoured(&get(addr, "/", ANN)));
        let mut records = Vec::new();
        let mut keep = |RecordView { kind, signal, account, .. }| {
            records.push((kind, signal, account));
            Ok(())
        };
        export(&data, &mut keep).unwrap();
        let want = [("form", false), ("gpc", true), ("form", true)];
        assert_eq!(records, want.map(|(signal, account)| ("opt-out".to_owned(), signal.to_owned(), account)));
    }
}
