//! Starts under a clock that is years ahead: what it would prune cannot be had back, neither records nor counts, and that
//! holds for every start of the day, not only for the first. Debian's faketime moves the clock of the program alone.

use optgate::store::counts;
use rustix::process::Signal;

use super::super::support::binary::{Binary, own_address, serving};
use super::super::support::client::Client;
use super::super::support::origin::Origin;
use super::super::support::proxy::proxy;
use super::super::support::wall_clock::WallClock;
use super::records;

#[test]
fn two_starts_under_a_clock_that_is_years_ahead_prune_nothing() {
    let Some(clock) = WallClock::of("two_starts_under_a_clock_that_is_years_ahead_prune_nothing") else {
        return;
    };
    let origin = Origin::start();
    let builder = proxy().to(&origin);
    let (file, data) = (builder.write(), builder.settings().data_dir);
    let visited = |shift: &str| {
        clock.shift(shift);
        let addr = own_address();
        let mut command = serving(&file, addr);
        clock.under(&mut command);
        let mut binary = Binary::of(command, addr, tempfile::tempdir().unwrap());
        let click = "POST /privacy-choices/opt-out HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(Client::connect(addr).send(click).response("POST").status(), 200);
        binary.signal(Signal::TERM);
        assert!(binary.wait().success());
    };
    for (shift, made) in [("+0", 1), ("+800d", 2), ("+800d", 3)] {
        visited(shift);
        let kept = records(&data);
        assert_eq!(kept.iter().filter(|record| record.kind == "opt-out").count(), made, "{shift}: {kept:?}");
    }
    let minutes: Vec<i64> = counts(&data).unwrap().iter().map(|count| count.minute).collect();
    let days = (minutes.iter().max().unwrap() - minutes.iter().min().unwrap()) / (24 * 60);
    assert!(days >= 799, "the count of the first click is there: {minutes:?}");
}
