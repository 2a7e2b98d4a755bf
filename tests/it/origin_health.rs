//! Origins that fail are left out and come back: active checks, ejection, backups, panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use optgate::telemetry::upstreams::UpstreamState;

use crate::support::binary::own_address;
use crate::support::client::Client;
use crate::support::origin::Origin;
use crate::support::proxy::{Proxy, site};
use crate::support::wait_until;

/// An origin whose `/healthz` answers 503 and whose `/` breaks off while the switch is on.
fn origin() -> (Origin, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let (check, page) = (Arc::clone(&broken), Arc::clone(&broken));
    let origin = Origin::start()
        .on("/healthz", move |x| {
            let status =
                if check.load(Ordering::SeqCst) { "503 Service Unavailable" } else { "204 No Content" };
            x.cut();
            x.send(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n"))
        })
        .on("/", move |x| {
            if page.load(Ordering::SeqCst) {
                x.cut();
                return Ok(());
            }
            x.ok("text/plain", b"hello")
        });
    (origin, broken)
}

fn state(proxy: &Proxy, origin: usize) -> UpstreamState {
    proxy.running().metrics().upstreams().nth(origin).unwrap().state()
}

fn statuses(proxy: &Proxy, times: usize) -> Vec<u16> {
    (0..times).map(|_| proxy.get("/", "").status()).collect()
}

/// The admin listener's answer.
fn admin(proxy: &Proxy, path: &str) -> String {
    Client::connect(proxy.running().admin()).get_from("localhost", path, "").text()
}

/// Active checks: an origin that is unwell gets no requests until it is well again; both are to be seen.
#[test]
fn an_origin_that_fails_its_checks_gets_no_requests_until_it_passes_them() {
    let ((a, broken), (b, _)) = (origin(), origin());
    let health =
        "health = { path = \"/healthz\", interval = \"100ms\", rises = 2, falls = 2, status = \"204\" }";
    let proxy = site(&[a.toml(), b.toml()], health).run();
    wait_until("both were checked", || a.heads() > 0 && b.heads() > 0);
    let check = a.first();
    assert_eq!(check.line(), "GET /healthz HTTP/1.1");
    assert_eq!(check.one("host").as_deref(), Some("site.test"));
    assert!(check.one("user-agent").unwrap().starts_with("optgate-check/"));
    broken.store(true, Ordering::SeqCst);
    wait_until("the origin is down", || state(&proxy, 0) == UpstreamState::Down);
    assert_eq!(statuses(&proxy, 6), [200; 6], "nobody sees the broken one");
    let ready = admin(&proxy, "/readyz?verbose");
    assert!(ready.contains(&format!("[!] origins: {} of site.test is down", a.url())), "{ready}");
    let summary = admin(&proxy, "/api/summary");
    assert!(summary.contains("\"state\":\"down\"") && summary.contains("\"state\":\"up\""), "{summary}");
    broken.store(false, Ordering::SeqCst);
    wait_until("the origin is up", || state(&proxy, 0) == UpstreamState::Up);
    let pages = |origin: &Origin| {
        let seen = origin.seen(0);
        seen.iter().filter(|request| request.line() == "GET / HTTP/1.1").count()
    };
    assert_eq!(pages(&a), 0);
    assert_eq!(statuses(&proxy, 6), [200; 6]);
    assert_eq!(pages(&a), 3, "each in turn again");
    let metrics = admin(&proxy, "/metrics");
    let label = format!("site=\"site.test\",upstream=\"{}\"", a.url());
    for (to, times) in [("down", 1), ("up", 1), ("ejected", 0)] {
        let line = format!("optgate_upstream_changes_total{{{label},to=\"{to}\"}} {times}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    assert!(metrics.contains(&format!("optgate_upstream_healthy{{{label}}} 1")));
}

/// The first check counts at once: nobody need meet an origin that was never there.
#[test]
fn an_origin_that_was_never_there_is_down_from_the_first_check_on() {
    let (good, _) = origin();
    let gone = format!("\"http://{}\"", own_address());
    let proxy = site(&[gone, good.toml()], "").toml("[health]\npath = \"/healthz\"\n").run();
    wait_until("it is down", || state(&proxy, 0) == UpstreamState::Down);
    assert_eq!(statuses(&proxy, 4), [200; 4]);
}

/// Passive checks: failures in a row eject; the visitors after that see nothing of it. Its time over, it is back.
#[test]
fn an_origin_that_fails_in_the_middle_is_left_out_and_comes_back() {
    let ((a, broken), (b, _)) = (origin(), origin());
    let proxy = site(&[a.toml(), b.toml()], "")
        .toml("[outlier]\nfailures = 2\nejection = \"300ms\"\nlongest = \"300ms\"\n")
        .run();
    assert_eq!(statuses(&proxy, 4), [200; 4]);
    broken.store(true, Ordering::SeqCst);
    let seen: Vec<u16> = statuses(&proxy, 4);
    assert_eq!(seen.iter().filter(|status| **status == 502).count(), 2, "{seen:?}");
    assert_eq!(proxy.running().metrics().upstreams().next().unwrap().failures.get(), 2);
    let changes =
        |to: UpstreamState| proxy.running().metrics().upstreams().next().unwrap().changes[to as usize].get();
    assert_eq!(changes(UpstreamState::Ejected), 1);
    broken.store(false, Ordering::SeqCst);
    wait_until("it is back", || {
        assert_eq!(statuses(&proxy, 1), [200]);
        changes(UpstreamState::Up) == 1
    });
    let before = a.heads();
    assert_eq!(statuses(&proxy, 4), [200; 4]);
    assert_eq!(a.heads(), before + 2);
}

/// A client that breaks its upload off is no failure of the origin.
#[test]
fn a_visitor_that_breaks_off_ejects_nobody() {
    let ((a, _), (b, _)) = (origin(), origin());
    let proxy = site(&[a.toml(), b.toml()], "").toml("[outlier]\nfailures = 1\n").run();
    for _ in 0..4 {
        let mut client = proxy.client();
        client.send("POST /up HTTP/1.1\r\nHost: site.test\r\nContent-Length: 1000\r\n\r\npart");
        client.finish();
        client.rest();
    }
    let failures: Vec<u64> = proxy.running().metrics().upstreams().map(|u| u.failures.get()).collect();
    assert_eq!(failures, [0, 0]);
    assert_eq!((state(&proxy, 0), state(&proxy, 1)), (UpstreamState::Up, UpstreamState::Up));
}

/// 502, 503 and 504 count, 500 does not: one broken page must not take an origin out.
#[test]
fn only_a_gateways_answers_count_as_failures() {
    let origin = Origin::start()
        .answers("/500", "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
        .answers("/503", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let other = Origin::start();
    let proxy = site(&[origin.toml(), other.toml()], "").toml("[outlier]\nfailures = 1\n").run();
    for _ in 0..2 {
        proxy.get("/500", "");
    }
    assert_eq!(state(&proxy, 0), UpstreamState::Up);
    for _ in 0..2 {
        proxy.get("/503", "");
    }
    assert_eq!(state(&proxy, 0), UpstreamState::Ejected);
}

/// A backup serves while nobody else is well, and only then; the visitor of the change sees nothing.
#[test]
fn a_backup_serves_only_while_the_others_are_gone() {
    let (backup, _) = origin();
    let address = own_address();
    let (first, second) =
        (format!("\"http://{address}\""), format!("{{ url = {:?}, backup = true }}", backup.url()));
    let proxy = site(&[first, second], "")
        .toml("[outlier]\nfailures = 1\nejection = \"200ms\"\nlongest = \"200ms\"\n")
        .run();
    assert_eq!(statuses(&proxy, 4), [200; 4]);
    assert_eq!(backup.heads(), 4);
    let first = Origin::start_at(&address.to_string());
    wait_until("the first serves", || {
        assert_eq!(statuses(&proxy, 1), [200]);
        first.heads() > 0
    });
    let before = backup.heads();
    assert_eq!(statuses(&proxy, 4), [200; 4]);
    assert_eq!(backup.heads(), before);
}

/// Never nobody: when all are unwell all are asked, and who answers is used.
#[test]
fn when_all_are_unwell_all_are_asked() {
    let ((a, a_broken), (b, b_broken)) = (origin(), origin());
    let proxy = site(&[a.toml(), b.toml()], "")
        .toml("[health]\npath = \"/healthz\"\ninterval = \"100ms\"\nfalls = 1\nrises = 1000\n")
        .run();
    wait_until("both were checked", || a.heads() > 0 && b.heads() > 0);
    for broken in [&a_broken, &b_broken] {
        broken.store(true, Ordering::SeqCst);
    }
    wait_until("both are down", || {
        state(&proxy, 0) == UpstreamState::Down && state(&proxy, 1) == UpstreamState::Down
    });
    for broken in [&a_broken, &b_broken] {
        broken.store(false, Ordering::SeqCst);
    }
    assert_eq!(statuses(&proxy, 4), [200; 4]);
}

/// A reload is no pardon: who was left out stays out until its time is over, and the figures say so.
#[test]
fn an_origin_that_is_left_out_stays_out_over_a_reload() {
    let ((a, broken), (b, _)) = (origin(), origin());
    let proxy = site(&[a.toml(), b.toml()], "")
        .toml("[outlier]\nfailures = 1\nejection = \"1h\"\nlongest = \"1h\"\n")
        .run();
    broken.store(true, Ordering::SeqCst);
    statuses(&proxy, 2);
    assert_eq!(state(&proxy, 0), UpstreamState::Ejected);
    proxy.reload(|text| text.replace("failures = 1", "failures = 2")).unwrap();
    assert_eq!((state(&proxy, 0), state(&proxy, 1)), (UpstreamState::Ejected, UpstreamState::Up));
    let before = a.heads();
    assert_eq!(statuses(&proxy, 4), [200; 4]);
    assert_eq!(a.heads(), before);
}

/// Checks end with the settings that want them, and begin with others.
#[test]
fn checks_follow_a_reload() {
    let ((a, _), (b, _)) = (origin(), origin());
    let proxy = site(&[a.toml()], "").toml("[health]\npath = \"/healthz\"\ninterval = \"100ms\"\n").run();
    wait_until("the first is checked", || a.heads() > 1);
    proxy.reload(|text| text.replace(a.url(), b.url())).unwrap();
    wait_until("the second is checked", || b.heads() > 1);
    let (before, from) = (a.heads(), b.heads());
    wait_until("several checks later", || b.heads() > from + 3);
    assert!(a.heads() <= before + 1, "the first is checked no more");
}

/// How many requests for the page an origin has had.
fn pages(origin: &Origin) -> usize {
    origin.seen(0).iter().filter(|request| request.line() == "GET / HTTP/1.1").count()
}

/// `slow_start`: an origin that came back has a tenth of its share at first. (So long a start does not end meanwhile.)
#[test]
fn an_origin_that_came_back_begins_with_a_small_share() {
    for (slow_start, share) in [("1h", 1..=6), ("0s", 20..=20)] {
        let ((a, broken), (b, _)) = (origin(), origin());
        let health = format!(
            "health = {{ path = \"/healthz\", interval = \"100ms\", rises = 1, falls = 1 }}\nslow_start = \"{slow_start}\""
        );
        broken.store(true, Ordering::SeqCst);
        let proxy = site(&[a.toml(), b.toml()], &health).run();
        wait_until("the origin is down", || state(&proxy, 0) == UpstreamState::Down);
        broken.store(false, Ordering::SeqCst);
        wait_until("the origin is up", || state(&proxy, 0) == UpstreamState::Up);
        assert_eq!(statuses(&proxy, 40), [200; 40]);
        assert!(share.contains(&pages(&a)), "{slow_start}: {} of 40", pages(&a));
        assert_eq!(pages(&a) + pages(&b), 40);
    }
}

/// `outlier.most_percent`: however many origins fail, no more than this part of them is left out.
#[test]
fn no_more_than_a_part_of_the_origins_is_left_out_at_a_time() {
    for (most, left_out) in [(50, 2), (100, 3), (0, 1)] {
        let origins: Vec<_> = (0..4).map(|_| origin()).collect();
        let urls: Vec<_> = origins.iter().map(|(origin, _)| origin.toml()).collect();
        let outlier = format!(
            "[outlier]\nfailures = 1\nejection = \"1h\"\nlongest = \"1h\"\npanic_percent = 0\nmost_percent = {most}\n"
        );
        let proxy = site(&urls, "").toml(&outlier).run();
        origins.iter().take(3).for_each(|(_, broken)| broken.store(true, Ordering::SeqCst));
        statuses(&proxy, 24);
        let ejected = (0..4).filter(|at| state(&proxy, *at) == UpstreamState::Ejected).count();
        assert_eq!(ejected, left_out, "{most} %");
    }
}

/// A reload that changes what is said of an origin that is left out leaves it out, also under another name of its site.
#[test]
fn an_origin_stays_left_out_over_a_reload_that_changes_its_weight_or_its_sites_name() {
    let ((a, broken), (b, _)) = (origin(), origin());
    broken.store(true, Ordering::SeqCst);
    let weighted = |weight: u32| format!("{{ url = {}, weight = {weight} }}", a.toml());
    let more = "name = \"old\"\n[outlier]\nfailures = 1\nejection = \"1h\"\nlongest = \"1h\"\n";
    let proxy = site(&[weighted(1), b.toml()], more).run();
    wait_until("it is left out", || {
        proxy.get("/", "");
        state(&proxy, 0) == UpstreamState::Ejected
    });
    let asked = a.heads();
    proxy.reload(|text| text.replace(&weighted(1), &weighted(2))).unwrap();
    assert_eq!((statuses(&proxy, 6), state(&proxy, 0)), (vec![200; 6], UpstreamState::Ejected));
    let renamed = "name = \"new\"\nformerly = [\"old\"]";
    proxy.reload(|text| text.replace("name = \"old\"", renamed)).unwrap();
    assert_eq!((statuses(&proxy, 6), state(&proxy, 0)), (vec![200; 6], UpstreamState::Ejected));
    assert_eq!(a.heads(), asked);
}

/// Whoever watches the figures is not told for ever that an origin is down that is gone, or that was never in force.
#[test]
fn figures_of_an_origin_go_with_it() {
    let ((a, _), (b, _)) = (origin(), origin());
    let origins = |list: &[&Origin]| {
        let list: Vec<_> = list.iter().map(|origin| origin.toml()).collect();
        format!("upstream = [{}]", list.join(", "))
    };
    let proxy = site(&[a.toml(), b.toml()], "").run();
    let lines_of = |origin: &Origin| {
        let metrics = proxy.running().metrics().render();
        metrics.lines().filter(|line| line.contains(origin.url())).count()
    };
    let all = lines_of(&a);
    assert!(all > 0 && lines_of(&b) == all);
    proxy.reload(|text| text.replace(&origins(&[&a, &b]), &origins(&[&b]))).unwrap();
    assert_eq!((lines_of(&a), lines_of(&b)), (0, all));
    let roots = proxy.dir().join("roots.pem");
    std::fs::write(&roots, "no certificate").unwrap();
    let second = format!(
        "[[sites]]\nname = \"second\"\nhosts = [\"second.test\"]\n\
         upstream = {{ url = \"https://127.0.0.1:1\", roots = {roots:?} }}\n"
    );
    let refused = proxy.reload(|text| text.replace(&origins(&[&b]), &origins(&[&a, &b])) + &second);
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!((lines_of(&a), lines_of(&b)), (0, all));
}
