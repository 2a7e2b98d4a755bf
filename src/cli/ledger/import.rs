//! `optgate ledger import`: opt-outs that arrived elsewhere, each with where it came from.
//!
//! A row that cannot be read is named and left out, the others are recorded: an opt-out must not wait for another's
//! slip. The record's `policy` says the source, the file's digest, its row and the date of the request. The same file
//! twice adds nothing. Between the request and now data went on leaving: see `store::recipients`.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::input::Input;
use super::table::{Row, Table, survey};
use super::{Failure, Global, settings};
use crate::cli::data_folder::DataFolder;
use crate::config::Site;
use crate::privacy::{Keys, Subject};
use crate::store;
use crate::store::Denial;
use crate::store::import::{AT_ONCE, Arrival, Imported, hashed_under, parse_subject};

/// Rows between two words about how far it is.
const PROGRESS: u64 = 10_000;

/// Bytes of names that are given at once: as JSON they stay far below what a server takes in one request.
const BYTES_AT_ONCE: usize = 1024 * 1024;

/// What to import.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Where the requests came from
    #[arg(long, value_enum, value_name = "drop|crm|agent")]
    pub source: Origin,
    /// Only say what would be recorded
    #[arg(long)]
    pub dry_run: bool,
    /// CSV with a head line, `-` for standard input: `account` (or `subject`, its keyed hash as `ledger subject` prints it), `site`, `date` (YYYY-MM-DD), and
    /// if known `requested_at` (a day or RFC 3339): who got data since then is told. A row with `denied` (`fraud`, `no-permission`) opts nobody out: that the request was denied is recorded
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

/// Records the opt-outs of a file, beside a running server too.
///
/// # Errors
/// Rows that cannot be read (the others are recorded), a file that cannot be read, a journal that cannot be written.
pub fn run(global: &Global, args: &ImportArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = settings(global, Vec::new(), true)?.settings;
    let input = Input::of(&args.file)?;
    let name = input.name.as_str();
    let found = survey(input.open()?).with_context(|| format!("{name} cannot be read"))?;
    let (mut refused, mut twice, mut seen) = (0, 0, HashSet::new());
    let mut refuse = |line: u64, why: &str| {
        refused += 1;
        eprintln!("{name}:{line}: {why}");
    };
    // First, for the head line may be one of them.
    found.unreadable.iter().for_each(|row| refuse(row.line, &row.words()));
    let mut table = Table::of(input.open()?, &found).with_context(|| format!("{name}:1"))?;
    let folder = DataFolder::open(&settings)?;
    let checks = store::key_lines(&settings.data_dir).map_err(anyhow::Error::new)?;
    let reading = Reading {
        provenance: format!("{} sha256:{}", args.source.word(), found.digest),
        keys: folder.keys(),
        checks: checks.iter().map(|line| line.check.as_str()).collect(),
        sites: settings.sites.iter().map(|site| (site.name.as_str(), &**site)).collect(),
    };
    let arrivals = std::iter::from_fn(|| {
        loop {
            let (line, row) = match table.next_row()? {
                Ok(row) => row,
                Err(error) => return Some(Err(error.context(format!("{name} cannot be read to its end")))),
            };
            match row.and_then(|row| reading.arrival(line, row)) {
                // One that was denied does not stand for one that was not.
                Ok(arrival) if arrival.denied.is_some() || is_new(&mut seen, &arrival) => {
                    return Some(Ok(arrival));
                }
                Ok(_) => twice += 1,
                Err(why) => refuse(line, &why),
            }
        }
    });
    let told = !settings.recipients.is_empty();
    let rows = found.rows.saturating_sub(1);
    // Every record names the file's digest: what the file did not have then is not recorded.
    let mut counts = record(&folder, (arrivals, rows), || input.unchanged(), (told, args.dry_run))?;
    counts.known += twice;
    if table.digest() != found.digest {
        return Err(input.changed().into());
    }
    if !args.dry_run {
        folder.plan(&settings)?;
    }
    writeln!(out, "{}: {}", if args.dry_run { "would be recorded" } else { "recorded" }, counts.recorded)?;
    writeln!(out, "recorded before: {}", counts.known)?;
    writeln!(out, "older than the account's own opt-in: {}", counts.overruled)?;
    if counts.denied > 0 {
        writeln!(out, "denied, which is on record: {}", counts.denied)?;
    }
    writeln!(out, "refused: {refused}")?;
    clear(&counts)?;
    match refused {
        0 => Ok(()),
        _ => Err(anyhow::anyhow!("{name}: {refused} rows were refused; mend them and import the file again")
            .into()),
    }
}

/// What a row is understood by.
struct Reading<'a> {
    provenance: String,
    keys: &'a Keys,
    /// Of the secrets, in their order.
    checks: Vec<&'a str>,
    /// Sites by their names.
    sites: HashMap<&'a str, &'a Site>,
}

impl Reading<'_> {
    fn arrival(&self, line: u64, row: Row) -> Result<Arrival, String> {
        let Self { provenance, keys, sites, .. } = self;
        if row.site.is_empty() || (!sites.is_empty() && !sites.contains_key(row.site.as_str())) {
            return Err(format!("`{}` is no site of the settings", row.site));
        }
        let date: Date =
            row.date.parse().map_err(|_| format!("`{}` is no date like 2026-11-26", row.date))?;
        let now = Timestamp::now();
        // A day has begun somewhere up to 14 hours before it does in UTC.
        if start_of(date) > now.as_microsecond().saturating_add(14 * 3_600_000_000) {
            return Err(format!("`{date}` in `date` is in the future"));
        }
        let requested_us = requested(&row.requested_at, date, now)?;
        let denied = denied(&row.denied)?;
        let mut policy = format!("{provenance} line {line} of {date}");
        let (mut others, mut formerly) = (Vec::new(), Vec::new());
        let (subject, account) = match (row.account, row.subject) {
            (account, subject) if account.is_empty() && subject.is_empty() => {
                return Err("it names neither an account nor a subject".into());
            }
            (account, subject) if subject.is_empty() => {
                if account.contains(['\0', '\n', '\r']) {
                    let shown = account.escape_debug();
                    return Err(format!(
                        "no site has an account `{shown}`, with the end of a line or a NUL in its name"
                    ));
                }
                let site = sites.get(row.site.as_str());
                // Accounts of a site in a group are kept under the group's name.
                let scope = site.map_or(row.site.as_str(), |site| site.scope.as_str());
                let hash = |keys: &Keys, name: &str| Subject::of_account(keys, name, account.as_bytes());
                others.extend(keys.older().iter().map(|keys| hash(keys, scope)));
                for name in site.into_iter().flat_map(|site| &site.formerly) {
                    formerly.extend(std::iter::once(*keys).chain(keys.older()).map(|keys| hash(keys, name)));
                }
                (hash(keys, scope), Some(account))
            }
            (account, subject) if account.is_empty() => {
                let (subject, under) = self.subject(&subject)?;
                if let Some(check) = under {
                    policy = hashed_under(&policy, check);
                }
                (subject, None)
            }
            _ => return Err("it names both an account and a subject".into()),
        };
        Ok(Arrival {
            subject,
            others,
            formerly,
            account,
            site: row.site,
            policy,
            requested_us,
            until_us: end_of(date),
            adopted: false,
            denied,
        })
    }

    /// A subject as it is written, `CHECK:DIGITS`, and the check of the secret that it is hashed under where that is not the
    /// live one: `keys retire` must know that it is needed.
    fn subject<'c>(&'c self, written: &str) -> Result<(Subject, Option<&'c str>), String> {
        let (check, digits) = written.split_once(':').map_or((None, written), |(c, d)| (Some(c), d));
        let subject = parse_subject(digits).ok_or("its subject is not 32 hexadecimal digits")?;
        let known = |check: &str| self.checks.iter().position(|known| known.eq_ignore_ascii_case(check));
        match check.map(|check| (check, known(check))) {
            Some((_, Some(0))) => Ok((subject, None)),
            Some((_, Some(at))) => Ok((subject, self.checks.get(at).copied())),
            Some((check, None)) => {
                Err(format!("its subject is hashed under secret {check}, which is not in secret.key, so that it is nobody"))
            }
            None if self.checks.len() > 1 => Err(
                "under which secret its subject is hashed is not said, and secret.key has several: write CHECK:DIGITS, as \
                 `optgate ledger subject` does"
                    .into(),
            ),
            None => Ok((subject, None)),
        }
    }
}

/// Why a request was denied, if it was.
fn denied(written: &str) -> Result<Option<Denial>, String> {
    if written.is_empty() {
        return Ok(None);
    }
    // That somebody opted back in, the journal knows.
    let known = [Denial::Fraud, Denial::NoPermission];
    let meant = Denial::parse(&written.to_lowercase()).filter(|denial| known.contains(denial));
    meant.map(Some).ok_or_else(|| {
        let known = known.map(|denial| format!("`{}`", denial.as_str())).join(" or ");
        format!("`{written}` in `denied` is no ground on which an opt-out may be denied: write {known}, or nothing")
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

/// Whether nobody before is the same person, under whichever secret.
fn is_new(seen: &mut HashSet<Subject>, arrival: &Arrival) -> bool {
    let mut new = true;
    for subject in std::iter::once(&arrival.subject).chain(&arrival.others) {
        // Every hash is kept, so that whichever a later row names is found.
        new &= seen.insert(*subject);
    }
    new
}

/// Records all of them, so many at a time as one commit and one request to a server take, and says how far it is. `total`:
/// about how many there are. `holds`: whether what some were read from is still what it was, asked before they are recorded.
pub(super) fn record(
    folder: &DataFolder,
    (mut arrivals, total): (impl Iterator<Item = anyhow::Result<Arrival>>, u64),
    holds: impl Fn() -> anyhow::Result<()>,
    (told, dry_run): (bool, bool),
) -> anyhow::Result<Imported> {
    let (mut imported, mut done) = (Imported::default(), 0);
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::new(total).with_style(bar_style());
    loop {
        let (mut some, mut bytes, mut failed) = (Vec::new(), 0, None);
        while some.len() < AT_ONCE && bytes < BYTES_AT_ONCE {
            match arrivals.next() {
                Some(Ok(arrival)) => {
                    let account = arrival.account.as_ref().map_or(0, String::len);
                    bytes += account + arrival.site.len() + arrival.policy.len();
                    some.push(arrival);
                }
                Some(Err(error)) => failed = Some(error),
                None => break,
            }
            if failed.is_some() {
                break;
            }
        }
        let before: u64 = done;
        if let Err(error) = holds() {
            some.clear();
            failed = Some(error);
        }
        done += some.len() as u64;
        if !some.is_empty() {
            imported.add(&folder.import(some, told, dry_run)?);
        } else if failed.is_none() {
            bar.finish_and_clear();
            return Ok(imported);
        }
        if let Some(error) = failed {
            return Err(error.context(format!("{done} rows were read and taken before that")));
        }
        bar.set_position(done);
        if bar.is_hidden() && before / PROGRESS < done / PROGRESS && done < total {
            eprintln!("{done} of {total}");
        }
    }
}

/// Whether something became of all.
pub(super) fn clear(imported: &Imported) -> anyhow::Result<()> {
    let unclear = imported.unclear;
    anyhow::ensure!(
        unclear == 0,
        "{unclear} accounts opted back in, and whether that was after the date given here cannot be known while the database \
         that nodes share is away: they were left as they are. Give the same again when it is back"
    );
    Ok(())
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
