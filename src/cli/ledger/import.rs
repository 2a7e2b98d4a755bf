//! `optgate ledger import`: opt-outs that arrived elsewhere, each with where it came from.
//!
//! A row that cannot be read is named and left out, the others are recorded: an opt-out must not wait for another's
//! slip. The record's `policy` says the source, the file's digest, its row and the date of the request. The same file
//! twice adds nothing. Between the request and now data went on leaving: see `store::recipients`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use data_encoding::HEXLOWER;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Failure, Global, settings};
use crate::cli::books::Books;
use crate::config::nearest::nearest;
use crate::privacy::{Keys, Subject};
use crate::store::import::{AT_ONCE, Arrival, Imported, parse_subject};

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
    /// CSV with a head line, `-` for standard input: `account` (or `subject`, its keyed hash in hexadecimal), `site`, `date` (YYYY-MM-DD), and
    /// if known `requested_at` (a day or RFC 3339): who got data since then is told
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
    #[serde(default)]
    requested_at: String,
}

/// Records the opt-outs of a file, beside a running server too.
///
/// # Errors
/// Rows that cannot be read (the others are recorded), a file that cannot be read, a journal that cannot be written.
pub fn run(global: &Global, args: &ImportArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = settings(global, Vec::new(), true)?.settings;
    let (name, bytes) = read(&args.file)?;
    let digest = HEXLOWER.encode(&Sha256::digest(&bytes));
    // Accounts of a site in a group are kept under the group's name.
    let sites: HashMap<&str, &str> =
        settings.sites.iter().map(|site| (site.name.as_str(), site.scope.as_str())).collect();
    let rows = rows(&bytes).with_context(|| format!("{name}:1"))?;
    let mut refused = 0;
    let books = Books::open(&settings)?;
    let provenance = format!("{} sha256:{digest}", args.source.word());
    let (mut arrivals, mut seen, mut twice) = (Vec::new(), HashSet::new(), 0);
    for (line, row) in rows {
        match row.and_then(|row| arrival(line, row, &provenance, books.keys(), &sites)) {
            Ok(arrival) if seen.insert(arrival.subject) => arrivals.push(arrival),
            Ok(_) => twice += 1,
            Err(why) => {
                refused += 1;
                eprintln!("{name}:{line}: {why}");
            }
        }
    }
    let told = !settings.recipients.is_empty();
    let mut counts = record(&books, arrivals, told, args.dry_run)?;
    counts.known += twice;
    if !args.dry_run {
        books.plan(&settings)?;
    }
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

/// A file's name and bytes; `-` is standard input.
fn read(file: &Path) -> anyhow::Result<(String, Vec<u8>)> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).context("standard input cannot be read")?;
        return Ok(("standard input".to_owned(), bytes));
    }
    let name = file.display().to_string();
    let bytes = fs::read(file).with_context(|| format!("{name} cannot be read"))?;
    Ok((name, bytes))
}

/// The words of the csv reader hold the row's place in another count than ours.
fn why(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
        _ => error.to_string(),
    }
}

/// What a row may hold.
const COLUMNS: [&str; 5] = ["account", "subject", "site", "date", "requested_at"];

/// Every row with its line.
fn rows(bytes: &[u8]) -> anyhow::Result<Vec<(u64, Result<Row, String>)>> {
    // Spreadsheets put it in front.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let head = head(reader.headers().context("the head line cannot be read")?)?;
    let row = |record: csv::Result<csv::StringRecord>| match record {
        Ok(record) => {
            let line = record.position().map_or(0, csv::Position::line);
            (line, record.deserialize(Some(&head)).map_err(|error| why(&error)))
        }
        Err(error) => (error.position().map_or(0, csv::Position::line), Err(why(&error))),
    };
    let mut rows: Vec<_> = reader.records().map(row).collect();
    if let (Some(opened), Some((line, last))) = (unclosed_quote(bytes), rows.last_mut()) {
        *line = opened;
        *last = Err(
            "the quote that opens here is never closed, so nothing from here on can be read; close it, or \
                     write a quote within a value twice"
                .into(),
        );
    }
    Ok(rows)
}

/// The columns, whatever their letters' case. Each must be known: one that was meant for another would be lost.
fn head(written: &csv::StringRecord) -> anyhow::Result<csv::StringRecord> {
    let head: csv::StringRecord =
        written.iter().map(|name| name.to_lowercase().replace([' ', '-'], "_")).collect();
    let found = || written.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let separator = written.iter().flat_map(str::chars).find(|c| matches!(c, ';' | '\t'));
    if let (1, Some(separator)) = (head.len(), separator) {
        anyhow::bail!("the columns are separated by {separator:?}; save the file with commas between them");
    }
    for (number, (column, name)) in head.iter().zip(written).enumerate() {
        anyhow::ensure!(
            head.iter().take(number).all(|earlier| earlier != column),
            "the head line has the column `{column}` twice; remove one of them"
        );
        if COLUMNS.contains(&column) {
            continue;
        }
        let near = nearest(column, COLUMNS);
        let hint = near.map(|known| format!("did you mean `{known}`? ")).unwrap_or_default();
        anyhow::bail!(
            "the head line has a column `{name}`, which none is; {hint}Leave only {} in the file",
            COLUMNS.map(|known| format!("`{known}`")).join(", ")
        );
    }
    let has = |column: &str| head.iter().any(|name| name == column);
    for (there, columns) in [
        (has("account") || has("subject"), "account` or `subject"),
        (has("site"), "site"),
        (has("date"), "date"),
    ] {
        anyhow::ensure!(there, "the head line has no column `{columns}`; it has {}", found());
    }
    Ok(head)
}

/// The line at which a value's quote opens that nothing closes.
fn unclosed_quote(bytes: &[u8]) -> Option<u64> {
    let (mut line, mut opened, mut at_start) = (1, None, true);
    let mut bytes = bytes.iter().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, opened) {
            (b'"', None) if at_start => opened = Some(line),
            (b'"', Some(_)) if bytes.next_if_eq(&&b'"').is_none() => opened = None,
            _ => {}
        }
        line += u64::from(*byte == b'\n');
        at_start = opened.is_none() && matches!(byte, b',' | b'\n' | b'\r');
    }
    opened
}

fn arrival(
    line: u64,
    row: Row,
    provenance: &str,
    keys: &Keys,
    sites: &HashMap<&str, &str>,
) -> Result<Arrival, String> {
    if row.site.is_empty() || (!sites.is_empty() && !sites.contains_key(row.site.as_str())) {
        return Err(format!("`{}` is no site of the settings", row.site));
    }
    let date: Date = row.date.parse().map_err(|_| format!("`{}` is no date like 2026-11-26", row.date))?;
    let now = Timestamp::now();
    // A day has begun somewhere up to 14 hours before it does in UTC.
    if start_of(date) > now.as_microsecond().saturating_add(14 * 3_600_000_000) {
        return Err(format!("`{date}` in `date` is in the future"));
    }
    let requested_us = requested(&row.requested_at, date, now)?;
    let (subject, account) = match (row.account, row.subject) {
        (account, subject) if account.is_empty() && subject.is_empty() => {
            return Err("it names neither an account nor a subject".into());
        }
        (account, subject) if subject.is_empty() => {
            let scope = sites.get(row.site.as_str()).copied().unwrap_or(&row.site);
            (Subject::of_account(keys, scope, account.as_bytes()), Some(account))
        }
        (account, subject) if account.is_empty() => {
            (parse_subject(&subject).ok_or("its subject is not 32 hexadecimal digits")?, None)
        }
        _ => return Err("it names both an account and a subject".into()),
    };
    let policy = format!("{provenance} line {line} of {date}");
    Ok(Arrival {
        subject,
        account,
        site: row.site,
        policy,
        requested_us,
        until_us: end_of(date),
        adopted: false,
    })
}

/// When a request was made, in microseconds since the Unix epoch: at the time that is written, or from the start of the
/// day (UTC) that is, or else of the row's date.
fn requested(written: &str, date: Date, now: Timestamp) -> Result<i64, String> {
    let start = |date: Date| TimeZone::UTC.to_timestamp(date.to_datetime(Time::midnight())).ok();
    let day = |text: &str| (text.len() == 10).then(|| text.parse::<Date>().ok().and_then(start)).flatten();
    if written.is_empty() {
        return Ok(start(date).map_or(i64::MAX, Timestamp::as_microsecond));
    }
    let time = written.parse::<Timestamp>().ok().or_else(|| day(written));
    let time = time.ok_or_else(|| {
        format!(
            "`{written}` in `requested_at` is no time like 2026-11-26T09:30:00Z, and no date like 2026-11-26"
        )
    })?;
    if time > now {
        return Err(format!("`{written}` in `requested_at` is in the future"));
    }
    // 24 months, whichever they are (11 CCR 7101).
    if now.as_second() - time.as_second() > 731 * 86_400 {
        return Err(format!("`{written}` in `requested_at` is more than 24 months ago"));
    }
    Ok(time.as_microsecond())
}

/// Records all of them, a commit's worth at a time, and says how far it is.
pub(super) fn record(
    books: &Books,
    arrivals: Vec<Arrival>,
    told: bool,
    dry_run: bool,
) -> anyhow::Result<Imported> {
    let total = arrivals.len();
    let (mut imported, mut done, mut arrivals) = (Imported::default(), 0, arrivals.into_iter());
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::new(total as u64).with_style(bar_style());
    loop {
        let some: Vec<_> = arrivals.by_ref().take(AT_ONCE).collect();
        if some.is_empty() {
            bar.finish_and_clear();
            return Ok(imported);
        }
        let before = done;
        done += some.len();
        imported.add(&books.import(some, told, dry_run)?);
        bar.set_position(done as u64);
        if bar.is_hidden() && before / PROGRESS < done / PROGRESS && done < total {
            eprintln!("{done} of {total}");
        }
    }
}

fn bar_style() -> ProgressStyle {
    let style = "{wide_bar} {human_pos} of {human_len} rows, {per_sec}, {eta} left";
    ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The start of a day in UTC, in microseconds since the Unix epoch.
fn start_of(date: Date) -> i64 {
    let day = TimeZone::UTC.to_timestamp(date.to_datetime(Time::midnight()));
    day.map_or(i64::MAX, Timestamp::as_microsecond)
}

/// The end of that day: what was said within it may have been said after.
fn end_of(date: Date) -> i64 {
    start_of(date).saturating_add(86_400_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 11 CCR 7026(f)(2): the gap begins with the request. The earliest moment that fits what is written counts.
    #[test]
    fn a_request_is_dated_by_its_time_its_day_or_the_rows_date() {
        let now: Timestamp = "2026-11-26T12:00:00Z".parse().unwrap();
        let date = Date::constant(2026, 11, 20);
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_microsecond();
        for (written, expected) in [
            ("", "2026-11-20T00:00:00Z"),
            ("2026-11-19", "2026-11-19T00:00:00Z"),
            ("2026-11-19T09:30:00Z", "2026-11-19T09:30:00Z"),
            ("2026-11-19T09:30:00+02:00", "2026-11-19T07:30:00Z"),
            ("2026-11-26T12:00:00Z", "2026-11-26T12:00:00Z"),
        ] {
            assert_eq!(requested(written, date, now), Ok(at(expected)), "{written}");
        }
        for (written, word) in [
            ("yesterday", "no time like"),
            ("2026-11-19T09:30:00", "no time like"),
            ("2026-02-30", "no time like"),
            ("2026-11-26T12:00:01Z", "in the future"),
            ("2026-11-27", "in the future"),
            ("2024-11-24", "more than 24 months ago"),
        ] {
            assert!(requested(written, date, now).unwrap_err().contains(word), "{written}");
        }
    }
}
