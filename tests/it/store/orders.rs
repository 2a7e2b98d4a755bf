//! An order is at work when the process is killed, the power goes or a sync fails: whoever was told that they are opted out
//! is so after. Orders are to prune, to erase, to rotate and retire a secret, to back up and to restore.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use optgate::store::{self, Kind, Source, Store};
use tempfile::TempDir;

use super::super::support::opened;
use super::super::support::random::Random;
use super::child::{child, lines, record, say};
use super::disk::{Cut, Disk, Event, events, preload};
use super::oracle::{block_on, rounds, seed};
use super::{PACKED, change, subject};

/// A folder beside that of the store, for what a child is told and its backups.
const BESIDE: &str = "OPTGATE_TEST_STORE_BESIDE";

/// The other hash of an account, as under a later secret.
const LATER: u64 = 1 << 63;

fn beside() -> PathBuf {
    std::env::var_os(BESIDE).unwrap().into()
}

/// Before the store is opened.
pub(super) fn rotate(folder: &Path) {
    if store::key_lines(folder).is_ok_and(|lines| lines.len() == 1) {
        say("ORDER rotate");
        store::rotate_secret(folder).unwrap();
        say("DONE rotate");
    }
}

/// Callers without end, and every order there is, one after the other.
pub(super) async fn work(store: &Store, folder: &Path) {
    let out = |account| change(Kind::OptOut, Source::Form, Some(account));
    let told = std::fs::read_to_string(beside().join("accounts")).unwrap_or_default();
    let known: Vec<u64> = told.lines().map(|line| line.parse().unwrap()).collect();
    let known_before = known.len();
    let first = known.iter().max().map_or(0, |last| last + 1);
    let (next, recorded) = (RefCell::new(first), RefCell::new(known));
    let caller = async || loop {
        let account = next.replace_with(|next| *next + 1);
        if record(store, out(account), account).await {
            recorded.borrow_mut().push(account);
        }
    };
    let orders = async {
        // Another one first in every life.
        for turn in known_before.. {
            let accounts = recorded.borrow().clone();
            let done = match turn % 4 {
                0 => ordered("prune", store.prune(i64::MAX, false).await.is_ok()),
                1 => {
                    let some = accounts.iter().rev().take(3).map(|account| subject(*account));
                    ordered("erase", store.erase(some.collect()).await.is_ok())
                }
                2 => {
                    for account in &accounts {
                        store.carry(&[subject(*account)], out(account | LATER));
                    }
                    let left = store.retire().await;
                    ordered(
                        "retire",
                        left.is_ok_and(|left| left == 0) && store::forget_earlier_secrets(folder).is_ok(),
                    )
                }
                _ => {
                    let to = beside().join(format!("backup-{turn}"));
                    say(&format!("ORDER {}", to.display()));
                    let (from, into) = (folder.to_owned(), to.clone());
                    let backup =
                        tokio::task::spawn_blocking(move || store::backup(&from, &into, true).is_ok());
                    ordered(&to.display().to_string(), backup.await.unwrap())
                }
            };
            say(&done);
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(caller(), caller(), orders);
}

fn ordered(what: &str, done: bool) -> String {
    format!("{} {what}", if done { "DONE" } else { "FAILED" })
}

/// Restores the backup that stands beside.
pub(super) fn restored(folder: &Path) {
    match store::restore(&beside().join("backup"), folder, false) {
        Ok(_) => say("DONE restore"),
        Err(error) => say(&format!("REFUSED {error}")),
    }
}

/// What was promised in the lives of one folder.
#[derive(Debug, Default, Clone)]
struct Promises {
    out: HashSet<u64>,
    /// Backups that were begun, with who was opted out then, and whether they were done.
    backups: Vec<(PathBuf, HashSet<u64>, bool)>,
    done: Vec<String>,
}

impl Promises {
    fn hear(&mut self, line: &str) {
        let line = line.trim_start_matches(|c: char| !c.is_ascii_uppercase());
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("ACK"), _, Some(account)) => _ = self.out.insert(account.parse().unwrap()),
            (Some("ORDER"), Some(to), _) if to.starts_with('/') => {
                self.backups.push((to.into(), self.out.clone(), false));
            }
            (Some("DONE"), Some(what), _) => {
                self.done.push(if what.starts_with('/') { "backup".into() } else { what.to_owned() });
                for (to, _, done) in &mut self.backups {
                    *done |= to == Path::new(what);
                }
            }
            _ => {}
        }
    }

    /// How many of those who were told so are not opted out by a folder.
    fn lost(out: &HashSet<u64>, folder: &Path, what: &str) -> usize {
        if out.is_empty() {
            // There may be no journal yet, or half of one.
            return 0;
        }
        let store = opened(folder, &PACKED).unwrap_or_else(|error| panic!("{what}: {error}"));
        let lost = out.iter().filter(|account| !store.lookup(&subject(**account)).is_out()).count();
        block_on(store.close());
        lost
    }

    /// Holds every backup of the last life against who was opted out when it was begun, and takes it away.
    fn assert_backups(&mut self, what: &str) {
        for (from, out, done) in std::mem::take(&mut self.backups) {
            let to = TempDir::new().unwrap();
            match store::restore(&from, to.path(), false) {
                Ok(_) => assert_eq!(Self::lost(&out, to.path(), what), 0, "{what}: {}", from.display()),
                Err(error) => assert!(!done, "{what}: {error}"),
            }
            let _ = std::fs::remove_dir_all(from);
        }
    }

    fn told(&self, beside: &Path) {
        let text: String = self.out.iter().map(|account| format!("{account}\n")).collect();
        std::fs::write(beside.join("accounts"), text).unwrap();
    }
}

/// Lets a child work and kills it after so many of its lines.
fn killed(mut command: Command, beside: &Path, after: usize) -> Vec<String> {
    let mut victim = command.env(BESIDE, beside).spawn().unwrap();
    let mut said = lines(&mut victim);
    let mut heard: Vec<String> = said.by_ref().take(after).collect();
    victim.kill().unwrap();
    heard.extend(said);
    victim.wait().unwrap();
    heard
}

/// Lines of a life: sometimes it ends while it rotates or opens.
fn moment(random: &mut Random) -> usize {
    if random.below(5) == 0 { 1 + random.below(6) } else { 20 + random.below(800) }
}

#[test]
fn a_process_that_is_killed_while_an_order_is_at_work_loses_nobody() {
    let seed = seed();
    let mut random = Random(seed);
    let (folder, beside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut promises = Promises::default();
    let rounds = rounds(12);
    for round in 0..rounds {
        promises.told(beside.path());
        // The first makes the folder.
        let after = if round == 0 { 1_000 } else { moment(&mut random) };
        let heard = killed(child("orders", folder.path()), beside.path(), after);
        heard.iter().for_each(|line| promises.hear(line));
        let what = format!("round {round}, seed {seed}");
        assert_eq!(Promises::lost(&promises.out, folder.path(), &what), 0, "{what}: {:?}", heard.last());
        promises.assert_backups(&what);
    }
    let count = |order: &str| promises.done.iter().filter(|done| *done == order).count();
    println!(
        "kill -9 within orders: {rounds} rounds, {} acknowledged, 0 lost; done: {} prunes, {} erasures, {} rotations, {} \
         retirements, {} backups",
        promises.out.len(),
        count("prune"),
        count("erase"),
        count("rotate"),
        count("retire"),
        count("backup"),
    );
    // Which of them a round comes to is chance; a secret that accounts are under that nobody was told of does not retire.
    assert!(promises.done.len() >= 5, "{:?}", promises.done);
}

/// A restore that is killed leaves a folder that it can be done into again, or one that is whole.
#[test]
fn a_restore_that_is_killed_can_be_done_again() {
    let seed = seed();
    let mut random = Random(seed);
    let (folder, beside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let heard = killed(child("orders", folder.path()), beside.path(), 400);
    let mut promises = Promises::default();
    heard.iter().for_each(|line| promises.hear(line));
    store::backup(folder.path(), &beside.path().join("backup"), true).unwrap();
    let (rounds, mut whole) = (rounds(8), 0);
    for round in 0..rounds {
        let to = TempDir::new().unwrap();
        let mut victim = child("restore", to.path()).env(BESIDE, beside.path()).spawn().unwrap();
        assert!(lines(&mut victim).any(|line| line.contains("OPENING")));
        // Any moment of it.
        std::thread::sleep(Duration::from_micros(random.below(400_000) as u64));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let what = format!("round {round}, seed {seed}");
        if let Err(error) = store::restore(&beside.path().join("backup"), to.path(), false) {
            assert!(error.to_string().contains("is there already"), "{what}: {error}");
            whole += 1;
        }
        assert_eq!(Promises::lost(&promises.out, to.path(), &what), 0, "{what}");
    }
    println!(
        "kill -9 within a restore: {rounds} rounds, {whole} done by then, {} acknowledged, 0 lost",
        promises.out.len()
    );
}

/// Lives of one folder, each ended by a power cut within an order and begun on what that left. `failing`: in every other
/// one a sync of such a file fails, once or from then on.
fn lives(test: &str, failing: Option<&str>) {
    let seed = seed();
    let mut random = Random(seed);
    let beside = TempDir::new().unwrap();
    let (mut folder, mut promises) = (TempDir::new().unwrap(), Promises::default());
    let (rounds, mut cuts) = (rounds(4), 0);
    for round in 0..rounds {
        promises.told(beside.path());
        let cut = if failing.is_none() && round % 2 == 1 { Cut::Mixed } else { Cut::Synced };
        let mut disk = Disk::of(folder.path(), cut, random.draw());
        let kept = TempDir::new().unwrap();
        let log = kept.path().join("log");
        let mut command = child("orders", folder.path());
        let fault = failing
            .filter(|_| round % 2 == 1)
            .map(|of| (1 + random.below(60) as u64, if random.below(2) == 0 { 1 } else { 1_000_000 }, of));
        preload(&mut command, folder.path(), &log, fault);
        let after = if round == 0 { 300 } else { moment(&mut random) };
        killed(command, beside.path(), after);
        let events = events(&log);
        let mut moments: Vec<usize> = (0..4).map(|_| random.below(events.len() + 1)).collect();
        moments.push(events.len());
        moments.sort_unstable();
        let mut done = 0;
        for moment in moments {
            for event in &events[done..moment] {
                disk.follow(event);
                if let Event::Say(text) = event {
                    text.lines().for_each(|line| promises.hear(line));
                }
            }
            done = moment;
            let (left, again) = (TempDir::new().unwrap(), TempDir::new().unwrap());
            disk.cut_power(left.path());
            disk.cut_power(again.path());
            let what = format!("round {round}, cut at {moment} of {}, {fault:?}, seed {seed}", events.len());
            assert_eq!(Promises::lost(&promises.out, left.path(), &what), 0, "{what}");
            cuts += 1;
            folder = again;
        }
        for (backup, ..) in promises.backups.drain(..) {
            let _ = std::fs::remove_dir_all(backup);
        }
    }
    println!("{test}: {rounds} rounds, {cuts} power cuts, {} acknowledged, 0 lost", promises.out.len());
    assert!(!promises.out.is_empty());
}

#[test]
fn a_power_cut_within_an_order_loses_nobody() {
    lives("power cut within orders", None);
}

#[test]
fn a_sync_that_fails_within_an_order_loses_nobody() {
    lives("failing syncs of the WAL within orders", Some("-wal"));
    lives("failing syncs of the secret within orders", Some("secret.key"));
}
