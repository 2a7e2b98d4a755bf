//! The journal as evidence, with the program itself: proven with a public key, and the first bad record named.

mod around;
mod backups;
mod erasing;
mod importing;
mod proofs;
mod pruning;
mod rotation;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sqlx::ConnectOptions as _;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnectOptions;

use optgate::config;
use optgate::privacy::{Basis, Standing, Subject};
use optgate::store::{Change, Kind, Source, Store};

use super::support::opened;

/// A data folder, and what a person types about it.
pub(super) struct House {
    pub(super) dir: tempfile::TempDir,
}

/// What a verb said.
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl House {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn store(&self) -> Store {
        self.store_with(&config::Store::default())
    }

    /// Why the store cannot be opened.
    pub(super) fn refusal(&self) -> String {
        opened(&self.folder(), &config::Store::default()).unwrap_err().to_string()
    }

    pub(super) fn store_with(&self, limits: &config::Store) -> Store {
        opened(&self.folder(), limits).unwrap()
    }

    /// Opens the store, records so many opt-outs of accounts, closes it; their references.
    pub(super) fn records(&self, accounts: std::ops::Range<u8>) -> Vec<String> {
        let store = self.store();
        block_on(async {
            let mut references = Vec::new();
            for account in accounts {
                references.push(store.record(out(&store, account)).await.unwrap().reference);
            }
            store.close().await;
            references
        })
    }

    pub(super) fn optgate(&self, args: &[&str]) -> Said {
        self.optgate_told(args, "")
    }

    pub(super) fn optgate_told(&self, args: &[&str], stdin: &str) -> Said {
        use std::io::Write as _;
        let mut child = self.started(args);
        // A verb that asks nothing may have ended already.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A verb that runs.
    fn started(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_optgate"))
            .args(args)
            .arg("--data-dir")
            .arg(self.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Writes what a verb prints into a file.
    pub(super) fn kept(&self, name: &str, args: &[&str]) -> String {
        let said = self.optgate(args);
        assert_eq!(said.code, Some(0), "{}", said.err);
        let file = self.file(name);
        fs::write(&file, said.out).unwrap();
        file.to_str().unwrap().to_owned()
    }

    pub(super) fn sql(&self, sql: &'static str) {
        block_on(async {
            let path = self.folder().join("journal.sqlite3");
            let mut raw = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
            sqlx::raw_sql(sql).execute(&mut raw).await.unwrap();
            raw.close().await.unwrap();
        });
    }

    pub(super) fn standing(&self, account: u8) -> Standing {
        let store = self.store();
        let standing = store.lookup(&Subject::of_account(store.keys(), "shop", &[account]));
        block_on(store.close());
        standing
    }

    /// Account 7 opts out and back in.
    pub(super) fn opted_in(&self) {
        let store = self.store();
        block_on(async {
            store.record(out(&store, 7)).await.unwrap();
            let back = Change { kind: Kind::OptIn, basis: None, ..out(&store, 7) };
            store.record(back).await.unwrap();
            store.close().await;
        });
    }

    /// Records of choices in the export.
    fn exported(&self) -> usize {
        let said = self.optgate(&["ledger", "export"]).ok();
        said.out.lines().filter(|line| !line.contains("\"kind\":\"upkeep\"")).count()
    }
}

impl Said {
    pub(super) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    /// It failed, and said so with these words.
    pub(super) fn failed(self, words: &str) {
        assert_eq!(self.code, Some(1), "{}{}", self.out, self.err);
        assert!(self.err.contains(words), "{words:?} is not in {:?}", self.err);
    }
}

pub(super) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub(super) fn out(store: &Store, account: u8) -> Change {
    Change {
        time_us: 1_795_000_000_000_000,
        site: "shop".into(),
        kind: Kind::OptOut,
        source: Source::Form,
        basis: Some(Basis::Account),
        policy: "p".into(),
        subject: Some(Subject::of_account(store.keys(), "shop", &[account])),
    }
}

pub(super) fn lines(file: &str) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

pub(super) fn write(file: &Path, lines: &[String]) -> String {
    fs::write(file, lines.join("\n") + "\n").unwrap();
    file.to_str().unwrap().to_owned()
}
