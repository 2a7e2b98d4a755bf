//! What a person types. Data goes to stdout, words to stderr; one file a verb.
//!
//! Exit codes: 0 done, 1 failure, 2 wrong usage (clap's), 3 a measurement that says nothing sure, 78 bad configuration (`EX_CONFIG` of
//! sysexits, for `RestartPreventExitStatus=78`).

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::error::{ConfigErrors, EX_CONFIG};
use crate::config::load::{Flag, Inputs, Loaded, load};
use crate::telemetry::json_line;

mod ask;
pub mod bench;
pub mod check;
pub mod completions;
mod data_folder;
pub mod demo;
mod folder;
pub mod init;
pub mod keys;
pub mod ledger;
pub mod registry;
pub mod reload;
pub mod run;
pub mod show;

/// A reverse proxy that makes a visitor's opt-out of sale and sharing true.
#[derive(Debug, Parser)]
#[command(name = "optgate", version, about, propagate_version = true)]
pub struct Cli {
    /// What every verb shares.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every verb.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// Settings file; repeat it to lay files on each other
    ///
    /// Without it, /etc/optgate/optgate.toml is read if it exists.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Folder of the journal and its keys
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until a stop signal
    Run(RunArgs),
    /// Show it at work: a small shop with trackers, and Optgate in front of it
    Demo(demo::DemoArgs),
    /// Measure what it adds to your site's answers
    Bench(bench::BenchArgs),
    /// Have the serving process take changed settings, registry, lists and certificates
    Reload(reload::ReloadArgs),
    /// Have a new process of the program file take over without losing a request
    Upgrade(reload::ReloadArgs),
    /// Load everything and say what is wrong, without serving
    #[command(alias = "validate")]
    Check,
    /// Settings in force
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Who is a tracker, and what is done about it
    #[command(subcommand)]
    Registry(registry::RegistryCommand),
    /// The record of opt-outs
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// New keys in place of old ones
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Write a commented settings file
    Init(init::InitArgs),
    /// Print shell completions
    Completions(completions::CompletionsArgs),
}

/// Settings as flags; they beat files and environment.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// Address to serve on: HOST:PORT (IPv6 in brackets), or :PORT for every interface; repeatable
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Your site: http://, https://, h2c:// or unix:/PATH; repeatable
    #[arg(long, value_name = "URL")]
    pub upstream: Vec<String>,
    /// Address of health, metrics and figures
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
    /// Carry decisions out, or only count them; holds for every site and path
    #[arg(long, value_name = "MODE", value_parser = ["enforce", "observe"])]
    pub mode: Option<String>,
    /// Form of log lines
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    pub log_format: Option<String>,
    /// Least severe level written; error and warn silence access lines
    #[arg(long, value_name = "LEVEL", value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub log_level: Option<String>,
}

/// `optgate config ...`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the settings in force
    Show(show::ShowArgs),
}

/// Form of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Why a verb did not do its work.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is wrong.
    Config(ConfigErrors),
    /// The configuration is wrong in a way that has no single place.
    Refused(Vec<String>),
    /// What was to be found out could not be; why.
    Incomplete(Vec<String>),
    /// Anything else.
    Other(anyhow::Error),
    /// Any of these, as a line of a log that is read by programs.
    Logged {
        /// The line.
        line: String,
        /// The exit code.
        code: u8,
    },
}

impl Failure {
    /// The process' exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Refused(_) => EX_CONFIG,
            Self::Incomplete(_) => 3,
            Self::Other(_) => 1,
            Self::Logged { code, .. } => *code,
        }
    }

    /// The same for whoever reads standard error as a log in JSON.
    fn as_log_line(&self) -> Self {
        let mut words = Vec::new();
        self.report(&mut words);
        let words = String::from_utf8_lossy(&words);
        Self::Logged { line: json_line(tracing::Level::ERROR, words.trim_end()), code: self.exit_code() }
    }

    /// Says what went wrong, in words. Without colour, so it reads the same everywhere.
    pub fn report(&self, out: &mut dyn Write) {
        // When stderr itself is gone there is nobody left to tell.
        let _ = match self {
            Self::Config(errors) => writeln!(out, "{errors}"),
            Self::Refused(problems) => writeln!(out, "{}", problems.join("\n\n")),
            Self::Incomplete(why) => writeln!(out, "optgate: inconclusive: {}", why.join("\n  ")),
            Self::Other(error) => writeln!(out, "optgate: {error:#}"),
            Self::Logged { line, .. } => writeln!(out, "{line}"),
        };
    }
}

impl From<Failure> for anyhow::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Config(errors) => Self::msg(errors.to_string()),
            Failure::Refused(problems) | Failure::Incomplete(problems) => Self::msg(problems.join("\n\n")),
            Failure::Other(error) => error,
            Failure::Logged { line, .. } => Self::msg(line),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::Config(errors)
    }
}

/// Does what was typed.
///
/// # Errors
/// See [`Failure`].
pub fn dispatch(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let out = &mut std::io::stdout().lock();
    let done = match command {
        Command::Run(args) => run::run(&global, &args),
        Command::Demo(args) => demo::run(&global, &args, out),
        Command::Bench(args) => bench::run(&global, &args, out),
        Command::Reload(args) => reload::run(&global, &args),
        Command::Upgrade(args) => reload::upgrade(&global, &args),
        Command::Check => check::run(&global),
        Command::Config(ConfigCommand::Show(args)) => show::run(&global, &args, out),
        Command::Registry(command) => registry::run(&global, &command, out),
        Command::Ledger(command) => ledger::run(&global, &command, out),
        Command::Keys(command) => keys::run(&global, &command, out),
        Command::Init(args) => init::run(&args, out),
        Command::Completions(args) => completions::run(&args, out),
    };
    match done {
        // A reader that has seen enough (`| head`) is no failure.
        Err(Failure::Other(error)) if is_closed_pipe(&error) => Ok(()),
        done => done,
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Loads the settings with the process' environment and these flags.
///
/// # Errors
/// Everything that is wrong with them.
pub fn settings(global: &Global, mut flags: Vec<Flag>, without_sites: bool) -> Result<Loaded, ConfigErrors> {
    flags.extend(global.data_dir.as_ref().map(|dir| Flag {
        name: "--data-dir",
        key: "data_dir",
        values: vec![dir.to_string_lossy().into_owned()],
        list: false,
    }));
    let inputs = Inputs { without_sites, ..Inputs::of_process(global.config.clone(), flags) };
    load(&inputs)
}

impl RunArgs {
    /// The flags that were given, as settings.
    #[must_use]
    pub fn flags(&self) -> Vec<Flag> {
        let list = |name, key, values: &[String]| Flag { name, key, values: values.to_vec(), list: true };
        let one = |name, key, value: &Option<String>| Flag {
            name,
            key,
            values: value.iter().cloned().collect(),
            list: false,
        };
        let all = [
            list("--listen", "listen", &self.listen),
            list("--upstream", "upstream", &self.upstream),
            one("--admin", "admin.listen", &self.admin),
            one("--mode", "mode", &self.mode),
            one("--log-format", "log.format", &self.log_format),
            one("--log-level", "log.level", &self.log_level),
        ];
        all.into_iter().filter(|flag| !flag.values.is_empty()).collect()
    }
}
