//! A store in a process of its own: this binary is started again with a role, to be killed, traced, starved or to lose
//! its disk. It speaks on standard output, one line in one write:
//!
//! ```text
//! OPENING | OPENED | REFUSED why     the folder
//! ASK account out|in                 handed over
//! ACK reference account out|in       acknowledged
//! ERR account out|in fenced: why     refused; whether the store's health says that the journal cannot write
//! LOOK standing                      what the index says
//! ```

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use optgate::store::{Change, Kind, Source, Store};

use super::super::support::random::Random;
use super::{PACKED, change, signal, subject};

const ROLE: &str = "OPTGATE_TEST_STORE_ROLE";
const FOLDER: &str = "OPTGATE_TEST_STORE_FOLDER";

/// Not a test: the process that other tests kill, trace and starve.
#[test]
#[ignore = "started by other tests with a role"]
fn child_process() {
    let (Ok(role), Some(folder)) = (std::env::var(ROLE), std::env::var_os(FOLDER)) else { return };
    let folder = PathBuf::from(folder);
    say("OPENING");
    if role == "orders" {
        super::orders::rotate(&folder);
    }
    if role == "restore" {
        return super::orders::restored(&folder);
    }
    let store = match Store::open(&folder, &PACKED) {
        Ok(store) => store,
        Err(error) => return say(&format!("REFUSED {error}")),
    };
    say("OPENED");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match role.as_str() {
        "load" => runtime.block_on(load(&store)),
        "orders" => runtime.block_on(super::orders::work(&store, &folder)),
        "asked" => asked(&store, &runtime),
        _ => runtime.block_on(store.close()),
    }
}

/// One line in one write, so that a killed process leaves no half word.
pub(super) fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("{line}\n").as_bytes()).unwrap();
    stdout.flush().unwrap();
}

/// Sixteen callers without end. Of the accounts most opt out, some change their mind, some twice.
async fn load(store: &Store) {
    let mut callers = Vec::new();
    for caller in 0..16 {
        callers.push(async move {
            for turn in 0.. {
                store.record_behind(signal());
                let account = caller << 32 | turn;
                let changes = [Kind::OptOut, Kind::OptIn, Kind::OptOut];
                for kind in &changes[..[1, 1, 2, 3][usize::try_from(turn % 4).unwrap()]] {
                    record(store, change(*kind, Source::Form, Some(account)), account).await;
                }
            }
        });
    }
    futures_util::future::join_all(callers).await;
}

pub(super) async fn record(store: &Store, change: Change, account: u64) -> bool {
    let word = word(change.kind);
    say(&format!("ASK {account} {word}"));
    match store.record(change).await {
        Ok(receipt) => {
            say(&format!("ACK {} {account} {word}", receipt.reference));
            true
        }
        Err(error) => {
            let fenced = store.health().journal_error.is_some();
            say(&format!("ERR {account} {word} {fenced}: {error}"));
            false
        }
    }
}

pub(super) const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::OptOut => "out",
        Kind::OptIn => "in",
        Kind::Programme => "programme",
        Kind::Denied(_) => "denied",
    }
}

/// Does what each line of standard input says ([`Asked`] writes them), and closes at its end.
fn asked(store: &Store, runtime: &tokio::runtime::Runtime) {
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap();
        let (verb, account) = (next(), next().parse().unwrap());
        if verb == "look" {
            say(&format!("LOOK {:?}", store.lookup(&subject(account))));
            continue;
        }
        let kind = if next() == "out" { Kind::OptOut } else { Kind::OptIn };
        let change = Change {
            time_us: next().parse().unwrap(),
            ..change(kind, Source::parse(next()).unwrap(), Some(account))
        };
        if verb == "behind" {
            store.record_behind(change);
        } else {
            runtime.block_on(record(store, change, account));
        }
    }
    runtime.block_on(store.close());
    say("CLOSED");
}

/// The command that starts a child.
pub(super) fn child(role: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    as_child(&mut command, role, folder);
    command
}

/// The same, in a command that starts this binary in its own way.
pub(super) fn as_child(command: &mut Command, role: &str, folder: &Path) {
    command.args(["--exact", "store::child::child_process", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(FOLDER, folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
}

/// What a child says.
pub(super) fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok)
}

/// After how many answers a child is struck: sometimes while it opens.
pub(super) fn strike(random: &mut Random) -> usize {
    if random.below(6) == 0 { 0 } else { 1 + random.below(400) }
}

/// Lets a child work under load and kills it after so many answers; after none, while it opens. Returns what it said.
pub(super) fn kill_under_load(mut command: Command, mut answers: usize) -> Vec<String> {
    let mut victim = command.spawn().unwrap();
    let mut said = lines(&mut victim);
    let mut heard = Vec::new();
    for line in said.by_ref() {
        let begun = line.contains("OPENING");
        answers -= usize::from(line.contains("ACK ") && answers > 0);
        heard.push(line);
        if answers == 0 && (begun || heard.len() > 2) {
            break;
        }
    }
    victim.kill().unwrap();
    heard.extend(said);
    victim.wait().unwrap();
    heard
}

/// A child that does what it is asked.
pub(super) struct Asked {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Box<dyn Iterator<Item = String>>,
}

impl Asked {
    /// Starts it.
    ///
    /// # Errors
    /// What it said, when the store did not open.
    pub(super) fn start(mut command: Command) -> Result<Self, String> {
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let mut said = lines(&mut child);
        let first = said.find(|l| l.contains("OPENED") || l.contains("REFUSED"));
        if first.as_ref().is_some_and(|l| l.contains("OPENED")) {
            return Ok(Self { child, stdin, said: Box::new(said) });
        }
        child.wait().unwrap();
        Err(first.unwrap_or_else(|| "it ended without a word".into()))
    }

    /// The process.
    pub(super) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    fn tell(&mut self, line: &str) {
        self.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn tell_change(&mut self, verb: &str, account: u64, change: &Change) {
        let (kind, source) = (word(change.kind), change.source.as_str());
        self.tell(&format!("{verb} {account} {kind} {} {source}", change.time_us));
    }

    /// Has a change recorded; the lines that it said.
    pub(super) fn record(&mut self, account: u64, change: &Change) -> [String; 2] {
        self.tell_change("record", account, change);
        std::array::from_fn(|_| self.said.next().expect("an answer"))
    }

    /// Has a change recorded behind.
    pub(super) fn behind(&mut self, account: u64, change: &Change) {
        self.tell_change("behind", account, change);
    }

    /// What the index says, as `Debug` writes it.
    pub(super) fn look(&mut self, account: u64) -> String {
        self.tell(&format!("look {account}"));
        self.said.next().expect("an answer").split_once("LOOK ").unwrap().1.to_owned()
    }

    /// Lets it close the store and end.
    pub(super) fn close(mut self) {
        drop(self.stdin.take());
        assert!(self.said.any(|l| l.contains("CLOSED")), "it closed");
        self.child.wait().unwrap();
    }

    /// `kill -9`.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
