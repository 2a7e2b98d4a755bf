//! `optgate ledger prune`, `hold` and `erase`: what is forgotten, and what must not be.

use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Failure, Global, settings};
use crate::cli::data_folder::DataFolder;
use crate::config::{self, Settings};
use crate::privacy::{Keys, Subject};
use crate::store::{self, HoldOrder, time};

/// What to prune.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Only say what would be pruned
    #[arg(long)]
    pub dry_run: bool,
    /// Prune records of before this day (UTC); without it, those older than `store.retention`
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub before: Option<Date>,
    /// Also what is younger than 24 months and than `store.retention`: once pruned it cannot be had back
    #[arg(long, requires = "before")]
    pub force: bool,
}

/// Whom to erase.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// The site whose account or profile it is
    #[arg(long, value_name = "NAME")]
    pub site: String,
    /// The account, as the site names it. Without KEY it is read from standard input, where it stays out of the shell's
    /// history; so it is without --account and --profile
    #[arg(long, value_name = "KEY", num_args = 0..=1)]
    pub account: Option<Option<String>>,
    /// The pseudonymous profile, by the value of the cookie `account.profile_cookie`; without KEY the next line of
    /// standard input. Of a person with both, both are to be named: nothing here links them
    #[arg(long, value_name = "KEY", num_args = 0..=1)]
    pub profile: Option<Option<String>>,
    /// Erase also what is under a legal hold
    #[arg(long)]
    pub force: bool,
}

impl EraseArgs {
    /// The keys that were typed, or stand in `input`, one a line: the account's first.
    ///
    /// # Errors
    /// One is missing.
    fn keys(&self, input: impl FnOnce() -> std::io::Result<String>) -> anyhow::Result<Vec<(Level, String)>> {
        let (account, profile) = match (self.account.clone(), self.profile.clone()) {
            (None, None) => (Some(None), None),
            named => named,
        };
        let typed = [(Level::Account, account), (Level::Profile, profile)];
        let text = match typed.iter().any(|(_, key)| matches!(key, Some(None))) {
            true => input().context("standard input cannot be read")?,
            false => String::new(),
        };
        let mut lines = text.lines();
        let named = typed.into_iter().filter_map(|(level, key)| Some((level, key?)));
        named
            .map(|(level, key)| match key.or_else(|| lines.next().map(str::to_owned)) {
                Some(key) if !key.is_empty() => Ok((level, key)),
                _ => Err(level.unnamed()),
            })
            .collect()
    }
}

/// At which level somebody is known (11 CCR 7025(c)(1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Account,
    Profile,
}

impl Level {
    fn subject(self, keys: &Keys, scope: &str, key: &[u8]) -> Subject {
        match self {
            Self::Account => Subject::of_account(keys, scope, key),
            Self::Profile => Subject::of_profile(keys, scope, key),
        }
    }

    fn unnamed(self) -> anyhow::Error {
        let (word, flag) = match self {
            Self::Account => ("account", "--account"),
            Self::Profile => ("profile", "--profile"),
        };
        anyhow::anyhow!("no {word} was named: give its key with {flag}, or on standard input")
    }
}

/// `optgate ledger hold ...`
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Keep a site's records, or one record, from being pruned
    Add(HoldArgs),
    /// End a hold
    Remove {
        /// Its number in the list
        #[arg(value_name = "NUMBER")]
        id: i64,
    },
    /// Show all holds
    List,
}

/// What to hold, and why.
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// Every record of this site
    #[arg(long, value_name = "NAME", required_unless_present = "reference", conflicts_with = "reference")]
    pub site: Option<String>,
    /// The record with this reference
    #[arg(long, value_name = "REFERENCE")]
    pub reference: Option<String>,
    /// Why, for whoever reads the list
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub reason: String,
}

/// Prunes the journal, beside a running server too.
///
/// # Errors
/// It cannot be written.
pub fn prune(global: &Global, args: &PruneArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = settings(global, Vec::new(), true)?.settings;
    let now = Timestamp::now();
    if let Some(day) = args.before.filter(|_| !args.dry_run && !args.force) {
        refuse_young(day, settings.store.retention, now)?;
    }
    let before_us = match (args.before, settings.store.retention) {
        (Some(day), _) => {
            let start = TimeZone::UTC.to_timestamp(day.to_datetime(Time::midnight()));
            start.context("--before is no day that clocks know")?.as_microsecond()
        }
        (None, Some(keep)) => {
            let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
            now.as_microsecond().saturating_sub(keep)
        }
        (None, None) => return Err(anyhow::anyhow!("`store.retention` is \"none\"; give --before").into()),
    };
    let pruned = DataFolder::open(&settings)?.prune(before_us, args.dry_run)?;
    writeln!(out, "{}: {}", if args.dry_run { "would be pruned" } else { "pruned" }, pruned.records)?;
    writeln!(out, "held: {}", pruned.held)?;
    writeln!(out, "of the first format, kept whole: {}", pruned.first_format)?;
    writeln!(out, "accounts kept as opted out by their hash alone: {}", pruned.accounts_kept)?;
    Ok(())
}

/// Refuses a day that takes records which are still to be kept: for 24 months by law (11 CCR 7101), or longer by the
/// settings.
fn refuse_young(day: Date, retention: Option<Duration>, now: Timestamp) -> anyhow::Result<()> {
    let asked = config::Store::default().retention.unwrap_or_default();
    let keep = retention.unwrap_or_default().max(asked);
    let kept_from = SignedDuration::try_from(keep).ok().and_then(|keep| now.checked_sub(keep).ok());
    let kept_from = TimeZone::UTC.to_datetime(kept_from.unwrap_or(Timestamp::MIN)).date();
    if day <= kept_from {
        return Ok(());
    }
    anyhow::bail!(
        "--before {day} would prune records that are to be kept: those from {kept_from} on are younger than 24 months \
         (11 CCR 7101) or than `store.retention`, and what is pruned cannot be had back. Say --dry-run to see how many, \
         --force to prune them all the same"
    )
}

/// Refuses a site that neither the settings nor any record knows: a word misspelt would protect, or erase, nothing.
fn refuse_unknown_site(settings: &Settings, name: &str) -> anyhow::Result<()> {
    let known: Vec<&str> = settings.sites.iter().map(|site| site.name.as_str()).collect();
    if known.contains(&name) || store::has_records_of(&settings.data_dir, name)? {
        return Ok(());
    }
    anyhow::bail!(
        "no site is named {name:?}, in the settings or in a record; the settings have {}",
        known.join(", ")
    )
}

/// Erases an account, or a profile, from its records, beside a running server too.
///
/// # Errors
/// Nobody is named, or the journal cannot be written.
pub fn erase(global: &Global, args: &EraseArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = settings(global, Vec::new(), true)?.settings;
    refuse_unknown_site(&settings, &args.site)?;
    let named = args.keys(|| std::io::read_to_string(std::io::stdin()))?;
    // In a group they are kept under the group's name; under the site's own and former ones from before.
    let mut scopes = vec![args.site.as_str()];
    if let Some(site) = settings.sites.iter().find(|site| site.name == args.site) {
        scopes.extend(std::iter::once(&site.scope).chain(&site.formerly).map(String::as_str));
    }
    scopes.dedup();
    let folder = DataFolder::open(&settings)?;
    let mut subjects = Vec::new();
    for keys in std::iter::once(folder.keys()).chain(folder.keys().older()) {
        for (level, key) in &named {
            subjects.extend(scopes.iter().map(|scope| level.subject(keys, scope, key.as_bytes())));
        }
    }
    let held = store::held_records(&settings.data_dir, &subjects).map_err(anyhow::Error::new)?;
    if held > 0 && !args.force {
        return Err(anyhow::anyhow!(
            "{held} of the account's records are under a legal hold, and what ties them to it cannot be had back: nothing \
             was erased. See `optgate ledger hold list`; say --force to erase it all the same"
        )
        .into());
    }
    let erased = folder.erase(subjects)?;
    writeln!(out, "records erased from: {}", erased.records)?;
    writeln!(out, "of the first format, whose bytes hold the account's hash: {}", erased.first_format)?;
    let kept = if erased.suppressed { "yes" } else { "no" };
    writeln!(out, "kept as opted out by its hash alone: {kept}")?;
    Ok(())
}

/// Adds, ends or shows holds.
///
/// # Errors
/// The journal cannot be written, or there is no such record or hold.
pub fn hold(global: &Global, command: &HoldCommand, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = settings(global, Vec::new(), true)?.settings;
    let order = match command {
        HoldCommand::Add(HoldArgs { site: Some(site), reason, .. }) => {
            refuse_unknown_site(&settings, site)?;
            Some(HoldOrder::Site(site.clone(), reason.clone()))
        }
        HoldCommand::Add(HoldArgs { reference, reason, .. }) => {
            Some(HoldOrder::Reference(reference.clone().unwrap_or_default(), reason.clone()))
        }
        HoldCommand::Remove { id } => Some(HoldOrder::Remove(*id)),
        HoldCommand::List => None,
    };
    let holds = match order {
        Some(order) => DataFolder::open(&settings)?.hold(order)?,
        None => store::holds(&settings.data_dir).map_err(anyhow::Error::new)?,
    };
    for hold in holds {
        let what = match (&hold.site, &hold.reference) {
            (Some(site), _) => format!("site {site}"),
            (None, reference) => format!("record {}", reference.as_deref().unwrap_or_default()),
        };
        writeln!(out, "{}\t{what}\t{}\t{}", hold.id, time::to_the_second(hold.time_us), hold.reason)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What names a person may stay out of the shell's history, at either level; and neither is taken for the other.
    #[test]
    fn keys_come_from_the_command_line_or_a_line_each_of_standard_input() {
        let keys = |account: Option<Option<&str>>, profile: Option<Option<&str>>, input: &str| {
            let own = |key: Option<Option<&str>>| key.map(|key| key.map(str::to_owned));
            let (account, profile) = (own(account), own(profile));
            let args = EraseArgs { site: "shop".into(), account, profile, force: false };
            args.keys(|| Ok(input.to_owned())).map_err(|error| error.to_string())
        };
        let (account, profile) =
            (|key: &str| (Level::Account, key.to_owned()), |key: &str| (Level::Profile, key.to_owned()));
        assert_eq!(keys(None, None, "ann\nx\n"), Ok(vec![account("ann")]));
        assert_eq!(keys(Some(None), None, "ann\r\n"), Ok(vec![account("ann")]));
        assert_eq!(keys(None, Some(None), "77\n"), Ok(vec![profile("77")]));
        assert_eq!(keys(Some(None), Some(None), "ann\n77"), Ok(vec![account("ann"), profile("77")]));
        assert_eq!(keys(Some(Some("ann")), Some(None), "77"), Ok(vec![account("ann"), profile("77")]));
        assert_eq!(keys(Some(Some("ann")), Some(Some("77")), "no"), Ok(vec![account("ann"), profile("77")]));
        for (account, profile, input, word) in [
            (None, None, "", "no account"),
            (Some(Some("")), None, "ann", "no account"),
            (None, Some(None), "\n77", "no profile"),
            (Some(None), Some(None), "ann", "no profile"),
        ] {
            assert!(keys(account, profile, input).unwrap_err().starts_with(word), "{input:?}");
        }
    }
}
