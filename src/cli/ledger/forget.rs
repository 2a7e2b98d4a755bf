//! `optgate ledger prune`, `hold` and `erase`: what is forgotten, and what must not be.

use std::io::{Read as _, Write};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::{Failure, Global, settings};
use crate::cli::books::Books;
use crate::privacy::Subject;
use crate::store::{self, HoldOrder};

/// What to prune.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Only say what would be pruned
    #[arg(long)]
    pub dry_run: bool,
    /// Prune records of before this day (UTC); without it, those older than `store.retention`
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub before: Option<Date>,
}

/// Which account.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// The site whose account it is
    #[arg(long, value_name = "NAME")]
    pub site: String,
    /// The account, as `account.header` names it; without it, the first line of standard input, which stays out
    /// of the shell's history
    #[arg(long, value_name = "KEY")]
    pub account: Option<String>,
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
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Prunes the journal, beside a running server too.
///
/// # Errors
/// It cannot be written.
pub fn prune(global: &Global, args: &PruneArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = settings(global, Vec::new(), true)?.settings;
    let now = Timestamp::now();
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
    let pruned = Books::open(&settings)?.prune(before_us, args.dry_run)?;
    writeln!(out, "{}: {}", if args.dry_run { "would be pruned" } else { "pruned" }, pruned.records)?;
    writeln!(out, "held: {}", pruned.held)?;
    writeln!(out, "of the first format, kept whole: {}", pruned.first_format)?;
    writeln!(out, "accounts kept as opted out by their hash alone: {}", pruned.accounts_kept)?;
    Ok(())
}

/// Erases an account from its records, beside a running server too.
///
/// # Errors
/// The journal cannot be written.
pub fn erase(global: &Global, args: &EraseArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = settings(global, Vec::new(), true)?.settings;
    let account = match &args.account {
        Some(account) => account.clone(),
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
            text.lines().next().unwrap_or_default().to_owned()
        }
    };
    if account.is_empty() {
        return Err(
            anyhow::anyhow!("no account was named: give --account, or its key on standard input").into()
        );
    }
    // In a group the account is kept under the group's name, and under the site's own from before.
    let mut scopes = vec![args.site.as_str()];
    scopes.extend(settings.sites.iter().find(|site| site.name == args.site).map(|site| site.scope.as_str()));
    scopes.dedup();
    let books = Books::open(&settings)?;
    let (account, keys) = (account.as_bytes(), std::iter::once(books.keys()).chain(books.keys().older()));
    let of = |keys| scopes.iter().map(move |scope| Subject::of_account(keys, scope, account));
    let subjects = keys.flat_map(of).collect();
    let erased = books.erase(subjects)?;
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
    let data_dir = super::data_dir(global)?;
    let order = match command {
        HoldCommand::Add(HoldArgs { site: Some(site), reason, .. }) => {
            HoldOrder::Site(site.clone(), reason.clone())
        }
        HoldCommand::Add(HoldArgs { reference, reason, .. }) => {
            HoldOrder::Reference(reference.clone().unwrap_or_default(), reason.clone())
        }
        HoldCommand::Remove { id } => HoldOrder::Remove(*id),
        HoldCommand::List => HoldOrder::List,
    };
    for hold in store::holds(&data_dir, order).map_err(anyhow::Error::new)? {
        let what = match (&hold.site, &hold.reference) {
            (Some(site), _) => format!("site {site}"),
            (None, reference) => format!("record {}", reference.as_deref().unwrap_or_default()),
        };
        let since = Timestamp::from_microsecond(hold.time_us).unwrap_or_default();
        writeln!(out, "{}\t{what}\t{since:.0}\t{}", hold.id, hold.reason)?;
    }
    Ok(())
}
