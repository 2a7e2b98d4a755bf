//! `optgate ledger recipients`: who got data between an opt-out's request and its effect, who is to be told of it, and
//! who was (11 CCR 7026(f)(2)). Works beside a running server.
//!
//! Lists never say whose opt-out it is. The one text that does is for the message that a person writes.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Subcommand};
use serde_json::{Value, json};

use super::{Failure, Global, settings};
use crate::cli::{Cli, Output};
use crate::config::{Settings, Way};
use crate::store::recipients::{self, Letter, OptOut, Task, TaskText};
use crate::store::{self, RecordView, time};

/// Which opt-out, or what was done.
#[derive(Debug, Args)]
pub struct RecipientsArgs {
    /// The record's reference; without it, every task that is open
    #[arg(value_name = "REFERENCE")]
    pub reference: Option<String>,
    /// Form of the list
    #[arg(long, value_enum, default_value_t, value_name = "text|json")]
    pub format: Output,
    /// Something else than a list
    #[command(subcommand)]
    pub command: Option<RecipientsCommand>,
}

/// `optgate ledger recipients ...`
#[derive(Debug, Subcommand)]
pub enum RecipientsCommand {
    /// Note that a person told a recipient
    Done {
        /// The task's id in the list
        #[arg(value_name = "TASK")]
        task: String,
        /// What shows it: a message's id, a date, a name
        #[arg(long, value_name = "TEXT")]
        receipt: String,
    },
    /// Send a message again that was refused or given up
    Retry {
        /// The task's id in the list
        #[arg(value_name = "TASK")]
        task: String,
    },
    /// Note that a mail which was taken came back later: the recipient is still to be told
    Bounced {
        /// The task's id: the mail's `Message-ID` begins with it
        #[arg(value_name = "TASK")]
        task: String,
        /// What the bounce says
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Print what to write to a recipient: it names the account
    Text {
        /// The task's id in the list
        #[arg(value_name = "TASK")]
        task: String,
    },
}

/// Longest receipt that is kept.
const MOST_RECEIPT: usize = 500;

/// Does one of them.
///
/// # Errors
/// There is no such record or task, or the data folder cannot be read.
pub fn run(global: &Global, args: &RecipientsArgs, out: &mut dyn Write) -> Result<(), Failure> {
    if args.command.is_some() && (args.reference.is_some() || args.format != Output::default()) {
        // clap's own word for it would refuse what every verb takes (`--config`) before the subcommand as well.
        let what = "REFERENCE and --format are for the list, and cannot be used with a subcommand";
        Cli::command().error(ErrorKind::ArgumentConflict, what).exit();
    }
    let settings = settings(global, Vec::new(), true)?.settings;
    let data_dir = &settings.data_dir;
    match (&args.command, &args.reference) {
        (Some(RecipientsCommand::Done { task, receipt }), _) => done(data_dir, task, receipt),
        (Some(RecipientsCommand::Retry { task }), _) => retry(&settings, task),
        (Some(RecipientsCommand::Bounced { task, reason }), _) => bounced(data_dir, task, reason),
        (Some(RecipientsCommand::Text { task }), _) => text(data_dir, task, out),
        (None, Some(reference)) => one(&settings, reference, args.format, out),
        (None, None) => open(&settings, args.format, out),
    }
    .map_err(Failure::from)
}

/// Whether a text can be kept as it is.
fn is_kept(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= MOST_RECEIPT && !text.chars().any(char::is_control)
}

fn bounced(data_dir: &Path, task: &str, reason: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        is_kept(reason),
        "--reason is 1 to {MOST_RECEIPT} characters on one line: what the bounce says"
    );
    let found = recipients::bounced(data_dir, task, reason)?;
    anyhow::ensure!(
        found,
        "there is no mail {task} that was taken; `optgate ledger recipients REFERENCE` shows what became of each"
    );
    eprintln!(
        "{task}: open again, and it waits for you: put the address right and type `optgate ledger recipients retry {task}`, \
         or write to the recipient and note it with `done`"
    );
    Ok(())
}

fn done(data_dir: &Path, task: &str, receipt: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        is_kept(receipt),
        "--receipt is 1 to {MOST_RECEIPT} characters on one line: what shows that it was told"
    );
    let found = recipients::done(data_dir, task, receipt)?;
    anyhow::ensure!(found, "there is no open task {task}; `optgate ledger recipients` lists them");
    Ok(())
}

fn retry(settings: &Settings, task: &str) -> anyhow::Result<()> {
    let tasks = recipients::open_tasks(&settings.data_dir)?;
    let sent = tasks.iter().any(|open| open.task == task && is_sent(open, settings));
    let found = sent && recipients::retry(&settings.data_dir, task)?;
    anyhow::ensure!(found, "no message {task} can be sent again: it was taken, or a person writes it");
    eprintln!("{task}: a running server sends it again within a minute");
    Ok(())
}

fn open(settings: &Settings, format: Output, out: &mut dyn Write) -> anyhow::Result<()> {
    let tasks = recipients::open_tasks(&settings.data_dir)?;
    if format == Output::Json {
        for task in &tasks {
            serde_json::to_writer(&mut *out, &shown(task)?)?;
            writeln!(out)?;
        }
        return Ok(());
    }
    for task in &tasks {
        writeln!(out, "{} {}", task.reference, line(task, settings))?;
    }
    eprintln!("{} open", tasks.len());
    Ok(())
}

/// What became of one opt-out.
fn one(settings: &Settings, reference: &str, format: Output, out: &mut dyn Write) -> anyhow::Result<()> {
    let record = store::record(&settings.data_dir, reference)?;
    let record = record.with_context(|| format!("there is no record {reference} that is not pruned"))?;
    anyhow::ensure!(
        record.is_opt_out(),
        "{} is no opt-out, but {}: nobody is told",
        record.reference,
        record.kind
    );
    let found = recipients::of_record(&settings.data_dir, &record.reference)?;
    let shown = Shown::of(&record, found, settings);
    match format {
        Output::Text => shown.text(out),
        Output::Json => {
            serde_json::to_writer(&mut *out, &shown.json()?)?;
            Ok(writeln!(out)?)
        }
    }
}

/// An opt-out as it is shown.
struct Shown<'a> {
    record: &'a RecordView,
    requested_us: i64,
    effective_us: i64,
    vendors: Vec<String>,
    /// Those of them for whom no recipient of the settings stands.
    nobody: Vec<String>,
    tasks: Vec<Task>,
    /// Why nobody is told, or not yet.
    why: Option<&'static str>,
    settings: &'a Settings,
}

impl<'a> Shown<'a> {
    fn of(record: &'a RecordView, found: Option<OptOut>, settings: &'a Settings) -> Self {
        let at_once = OptOut {
            requested_us: record.time_us,
            effective_us: record.time_us,
            vendors: Vec::new(),
            planned: true,
            tasks: Vec::new(),
        };
        let OptOut { requested_us, effective_us, vendors, planned, tasks } = found.unwrap_or(at_once);
        let why = if !planned {
            Some("who is to be told is worked out within a minute while a server runs")
        } else if !tasks.is_empty() {
            None
        } else if !record.account {
            Some(
                "a browser has no name, so that nobody can be told whose data it is; from its own next page on it gets none of them",
            )
        } else if record.basis == "profile" {
            Some(
                "a browser's profile has no name outside the site, so that nobody can be told whose data it is",
            )
        } else if settings.recipients.is_empty() {
            Some("the settings name no [[recipients]]")
        } else if requested_us >= effective_us {
            Some("nobody got data in between, and no [[recipients]] gets any beside the pages")
        } else {
            Some("no [[recipients]] got data in between")
        };
        let stands = |vendor: &String| settings.recipients.iter().any(|r| r.vendors.contains(vendor));
        let nobody = vendors.iter().filter(|vendor| !stands(vendor)).cloned().collect();
        Self { record, requested_us, effective_us, vendors, nobody, tasks, why, settings }
    }

    fn text(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let at_once = self.requested_us >= self.effective_us;
        writeln!(out, "reference: {}", self.record.reference)?;
        writeln!(out, "site: {}", self.record.site)?;
        writeln!(out, "requested: {}", time::to_the_second(self.requested_us))?;
        let how = if at_once { " (effective at once)" } else { "" };
        writeln!(out, "effective: {}{how}", time::to_the_second(self.effective_us))?;
        let or_none = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        writeln!(out, "vendors that got data in between: {}", or_none(&self.vendors))?;
        if !self.nobody.is_empty() {
            writeln!(out, "for whom no [[recipients]] stands: {}", self.nobody.join(", "))?;
        }
        match self.why {
            Some(why) => writeln!(out, "to be told: nobody ({why})")?,
            None => writeln!(out, "to be told:")?,
        }
        for task in &self.tasks {
            writeln!(out, "  {}", line(task, self.settings))?;
        }
        Ok(())
    }

    fn json(&self) -> anyhow::Result<Value> {
        let tasks = self.tasks.iter().map(shown).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(json!({
            "reference": self.record.reference,
            "site": self.record.site,
            "requested_at": time::to_the_second(self.requested_us),
            "effective_at": time::to_the_second(self.effective_us),
            "at_once": self.requested_us >= self.effective_us,
            "vendors": self.vendors,
            "vendors_without_recipient": self.nobody,
            "recipients": tasks,
            "why_nobody": self.why,
        }))
    }
}

fn shown(task: &Task) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(task)?)
}

/// Whether a running server can send a task's message.
fn is_sent(task: &Task, settings: &Settings) -> bool {
    let sends = |way: &Way| matches!(way, Way::Webhook(_)) || settings.mail.is_some();
    settings.recipients.iter().any(|r| r.name == task.recipient && r.way.word() == task.way && sends(&r.way))
}

fn line(task: &Task, settings: &Settings) -> String {
    let Task { task: id, recipient, way, address, state, tries, .. } = task;
    let more = match (state.as_str(), &task.receipt, &task.error) {
        ("done", receipt, _) => {
            let told = task.told_us.map(time::to_the_second).unwrap_or_default();
            format!("told {told} ({})", receipt.as_deref().unwrap_or("no receipt"))
        }
        ("unnamed", _, _) => {
            "nothing to call the account by is kept: tell it by the reference, then note `done`".to_owned()
        }
        ("open", _, None) if way == "mail" && !is_sent(task, settings) => {
            format!("write to it: optgate ledger recipients text {id}")
        }
        ("open", _, _) if way == "webhook" && !is_sent(task, settings) => {
            "the settings have no webhook for it any more: tell it, then note `done`".to_owned()
        }
        (_, _, Some(error)) => format!("{tries} tries, the last: {error}"),
        (_, _, None) => format!("{tries} tries"),
    };
    format!("{id} {state} {recipient:?} {way} {address}: {more}")
}

/// The message that a person sends.
fn text(data_dir: &Path, task: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    let found = recipients::account_text(data_dir, task)?;
    let TaskText { task, account } =
        found.with_context(|| format!("there is no task {task}; `optgate ledger recipients` lists them"))?;
    let (requested_us, effective_us, until_us) = task.times();
    let letter = Letter {
        task: &task.task,
        reference: &task.reference,
        vendors: &task.vendors,
        requested_us,
        effective_us,
        until_us,
        account: account.as_deref(),
    };
    write!(out, "To: {}\nSubject: {}\n\n{}", task.address, letter.subject(), letter.text())?;
    Ok(())
}
