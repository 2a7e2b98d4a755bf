//! `optgate ledger import`: opt-outs that arrived elsewhere, each with where it came from.
//!
//! A row that cannot be read is named and left out, the others are recorded: an opt-out must not wait for another's
//! slip. The record's `policy` says the source, the file's digest, its row and the date of the request. The same file
//! twice adds nothing.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::forget::with_store;
use super::{Failure, Global, settings};
use crate::privacy::{Basis, Keys, Standing, Subject};
use crate::store::{Change, Kind, Source, Store};

/// Records under way at once: what one commit takes.
const AT_ONCE: usize = 1024;

/// Rows between two words about how far it is.
const PROGRESS: usize = 10_000;

/// What to import.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Where the requests came from
    #[arg(long, value_enum, value_name = "drop|crm|agent")]
    pub source: Origin,
    /// Only say what would be recorded
    #[arg(long)]
    pub dry_run: bool,
    /// CSV with a head line: `account` (or `subject`, its keyed hash in hexadecimal), `site`, `date` (YYYY-MM-DD)
    #[arg(value_name = "FILE.csv")]
    pub file: PathBuf,
}

/// Where requests come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Origin {
    /// California's deletion and opt-out platform.
    Drop,
    /// A customer database.
    Crm,
    /// An authorised agent.
    Agent,
}

impl Origin {
    const fn word(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Crm => "crm",
            Self::Agent => "agent",
        }
    }
}

/// A row as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    #[serde(default)]
    account: String,
    #[serde(default)]
    subject: String,
    site: String,
    date: String,
}

/// A row that can be recorded.
struct Request {
    line: u64,
    subject: Subject,
    site: String,
    date: Date,
}

#[derive(Debug, Default)]
struct Counts {
    recorded: usize,
    known: usize,
    overruled: usize,
}

/// Records the opt-outs of a file in a data folder that no server uses.
///
/// # Errors
/// Rows that cannot be read (the others are recorded), a server that uses the folder, a file that cannot be read.
pub fn run(global: &Global, args: &ImportArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = settings(global, Vec::new(), true)?.settings;
    let name = args.file.display().to_string();
    let bytes = fs::read(&args.file).with_context(|| format!("{name} cannot be read"))?;
    let digest = HEXLOWER.encode(&Sha256::digest(&bytes));
    // Accounts of a site in a group are kept under the group's name.
    let sites: HashMap<&str, &str> =
        settings.sites.iter().map(|site| (site.name.as_str(), site.scope.as_str())).collect();
    let rows = rows(&bytes).with_context(|| format!("{name}:1"))?;
    let mut refused = 0;
    let counts = with_store(&settings, async |store| {
        let mut requests = Vec::new();
        for (line, row) in rows {
            match row.and_then(|row| request(row, store.keys(), &sites)) {
                Ok((subject, site, date)) => requests.push(Request { line, subject, site, date }),
                Err(why) => {
                    refused += 1;
                    eprintln!("{name}:{line}: {why}");
                }
            }
        }
        let provenance = format!("{} sha256:{digest}", args.source.word());
        record(store, requests, &provenance, args.dry_run).await
    })?;
    writeln!(out, "{}: {}", if args.dry_run { "would be recorded" } else { "recorded" }, counts.recorded)?;
    writeln!(out, "recorded before: {}", counts.known)?;
    writeln!(out, "older than the account's own opt-in: {}", counts.overruled)?;
    writeln!(out, "refused: {refused}")?;
    match refused {
        0 => Ok(()),
        _ => Err(anyhow::anyhow!("{name}: {refused} rows were refused; mend them and import the file again")
            .into()),
    }
}

/// The words of the csv reader hold the row's place in another count than ours.
fn why(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
        _ => error.to_string(),
    }
}

/// Every row with its line.
fn rows(bytes: &[u8]) -> anyhow::Result<Vec<(u64, Result<Row, String>)>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let head = reader.headers().context("the head line cannot be read")?.clone();
    let has = |column: &str| head.iter().any(|name| name == column);
    for (there, columns) in [
        (has("account") || has("subject"), "account` or `subject"),
        (has("site"), "site"),
        (has("date"), "date"),
    ] {
        anyhow::ensure!(there, "the head line has no column `{columns}`");
    }
    let row = |record: csv::Result<csv::StringRecord>| match record {
        Ok(record) => {
            let line = record.position().map_or(0, csv::Position::line);
            (line, record.deserialize(Some(&head)).map_err(|error| why(&error)))
        }
        Err(error) => (error.position().map_or(0, csv::Position::line), Err(why(&error))),
    };
    Ok(reader.records().map(row).collect())
}

fn request(row: Row, keys: &Keys, sites: &HashMap<&str, &str>) -> Result<(Subject, String, Date), String> {
    if row.site.is_empty() || (!sites.is_empty() && !sites.contains_key(row.site.as_str())) {
        return Err(format!("`{}` is no site of the settings", row.site));
    }
    let date: Date = row.date.parse().map_err(|_| format!("`{}` is no date like 2026-11-26", row.date))?;
    let subject = match (row.account.as_str(), row.subject.as_str()) {
        ("", "") => return Err("it names neither an account nor a subject".into()),
        (account, "") => {
            let scope = sites.get(row.site.as_str()).copied().unwrap_or(&row.site);
            Subject::of_account(keys, scope, account.as_bytes())
        }
        ("", subject) => {
            let bytes = HEXLOWER_PERMISSIVE.decode(subject.as_bytes()).ok().and_then(|b| b.try_into().ok());
            Subject::from_bytes(bytes.ok_or("its subject is not 32 hexadecimal digits")?)
        }
        _ => return Err("it names both an account and a subject".into()),
    };
    Ok((subject, row.site, date))
}

async fn record(
    store: &Store,
    requests: Vec<Request>,
    provenance: &str,
    dry_run: bool,
) -> Result<Counts, crate::store::RecordError> {
    let (mut counts, mut seen) = (Counts::default(), HashSet::new());
    let mut under_way = FuturesUnordered::new();
    let total = requests.len();
    for (n, Request { line, subject, site, date }) in requests.into_iter().enumerate() {
        if n > 0 && n % PROGRESS == 0 {
            eprintln!("{n} of {total}");
        }
        let change = Change {
            time_us: Timestamp::now().as_microsecond(),
            site,
            kind: Kind::OptOut,
            source: Source::Import,
            basis: Some(Basis::Import),
            policy: format!("{provenance} line {line} of {date}"),
            subject: Some(subject),
        };
        if !seen.insert(subject) || store.knows(&change) {
            counts.known += 1;
        } else if store.lookup(&subject) == Standing::OptedIn
            && store.last_record(&subject).await?.is_some_and(|last| last.time_us >= end_of(date))
        {
            counts.overruled += 1;
        } else {
            counts.recorded += 1;
            if !dry_run {
                under_way.push(store.record(change));
            }
        }
        if under_way.len() >= AT_ONCE
            && let Some(done) = under_way.next().await
        {
            done?;
        }
    }
    while let Some(done) = under_way.next().await {
        done?;
    }
    Ok(counts)
}

/// The end of a day in UTC, in microseconds since the Unix epoch: what was said within it may have been said after.
fn end_of(date: Date) -> i64 {
    let day = TimeZone::UTC.to_timestamp(date.to_datetime(Time::midnight()));
    day.map_or(i64::MAX, |start| start.as_microsecond().saturating_add(86_400_000_000))
}
