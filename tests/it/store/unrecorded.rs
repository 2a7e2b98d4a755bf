//! An account's opt-out by signal that could not be written when it came is not lost: no flood of others keeps it from the
//! journal, and where the queue was full the account's next request hands it over again, whatever that one says.

use super::super::support::client::get;
use super::super::support::origin::Origin;
use super::super::support::proxy::{Builder, proxy};
use super::super::support::wait_until;
use super::{execute, raw, records};

const GPC: &str = "Sec-GPC: 1\r\n";

fn shop(origin: &Origin, store: &str) -> Builder {
    proxy().to(origin).toml(&format!(
        "trusted_proxies = [\"127.0.0.0/8\"]\n[account]\nheader = \"x-account-id\"\n[store]\n{store}\n"
    ))
}

fn account(number: usize) -> String {
    format!("X-Account-Id: {number}\r\n")
}

/// 11 CCR 7025(c)(1): whoever floods the site with browsers' signals loses no account's.
#[test]
fn accounts_signals_above_the_record_rate_are_on_record_after_a_restart() {
    let origin = Origin::start().on("/", |x| {
        let decision = x.request().one("optgate-decision").unwrap_or_default();
        x.ok("text/html", decision.as_bytes())
    });
    let builder = shop(&origin, "records_per_second = 1\nrecord_burst = 4");
    let data = builder.settings().data_dir;
    let running = optgate::app::start(builder.settings()).unwrap();
    let addr = running.listen()[0];
    for _ in 0..50 {
        get(addr, "/", GPC);
    }
    assert!(running.store().health().flood_dropped > 0);
    for number in 0..50 {
        get(addr, "/", &format!("{GPC}{}", account(number)));
    }
    running.stop().unwrap();
    assert_eq!(records(&data).iter().filter(|record| record.account).count(), 50);
    let proxy = builder.run();
    for number in 0..50 {
        let decision = proxy.get("/", &account(number)).text();
        assert!(decision.starts_with("opted-out;basis=account"), "{number}: {decision}");
    }
}

/// A queue that was full is no end of it.
#[test]
fn an_accounts_signal_that_found_the_queue_full_is_handed_over_by_its_next_request() {
    let origin = Origin::start().on("/", |x| x.ok("text/html", b"a shop"));
    let builder = shop(&origin, "queue = 16");
    let data = builder.settings().data_dir;
    let proxy = builder.run();
    let health = || proxy.running().store().health();
    proxy.get("/", &format!("{GPC}{}", account(1_000)));
    wait_until("the journal writes", || health().records == 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut other = runtime.block_on(raw(&data));
    runtime.block_on(execute(&mut other, "BEGIN IMMEDIATE"));
    for number in 0..20 {
        proxy.get("/", &format!("{GPC}{}", account(number)));
    }
    assert_eq!(health().overflowed, 4, "{:?}", health());
    runtime.block_on(execute(&mut other, "ROLLBACK"));
    wait_until("what was kept is on record", || health().records == 17);
    for number in 0..20 {
        // Without a signal, and without a cookie.
        proxy.get("/", &account(number));
    }
    wait_until("so is what found no room", || health().records == 21);
    proxy.get("/", &account(19));
    let _folder = proxy.stop();
    assert_eq!(records(&data).iter().filter(|record| record.account && record.signal == "gpc").count(), 21);
}
