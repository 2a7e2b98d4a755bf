//! `optgate config show`: what is in force, and where each setting came from.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use serde_json::{Value as Json, json};

use super::{Failure, Global, Output};
use crate::config::origins::Entry;

/// What to show.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Say where each setting came from: default, FILE:LINE, env NAME, or the flag
    #[arg(long)]
    pub origins: bool,
    /// Form of the listing
    #[arg(long, value_enum, default_value_t, value_name = "text|json")]
    pub output: Output,
}

/// Prints the settings: as TOML that can be used again, or one line a setting with its origin. Values
/// that came from `_FILE` variables are redacted.
///
/// # Errors
/// What is wrong with the settings, or with stdout.
pub fn run(global: &Global, args: &ShowArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let loaded = super::settings(global, Vec::new(), true)?;
    let text = match (args.origins, args.output) {
        (false, Output::Text) => as_toml(&loaded.written)?,
        (false, Output::Json) => pretty(&loaded.written)?,
        (true, Output::Text) => as_lines(&loaded.origins),
        (true, Output::Json) => pretty(&Json::from_iter(loaded.origins.iter().map(as_json)))?,
    };
    out.write_all(text.as_bytes())?;
    Ok(())
}

fn pretty(value: &Json) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value).context("cannot write the settings as JSON")? + "\n")
}

fn as_toml(written: &Json) -> anyhow::Result<String> {
    toml_edit::ser::to_string_pretty(written).context("cannot write the settings as TOML")
}

fn as_json(entry: &Entry) -> Json {
    json!({ "key": entry.key, "value": entry.value, "origin": entry.place.to_string() })
}

fn as_lines(origins: &[Entry]) -> String {
    let lines: Vec<(String, String)> = origins
        .iter()
        .map(|entry| (format!("{} = {}", entry.key, entry.value), entry.place.to_string()))
        .collect();
    // One long list must not push every origin out of sight.
    let width = lines.iter().map(|(left, _)| left.chars().count()).filter(|w| *w <= 60).max().unwrap_or(0);
    lines.into_iter().map(|(left, place)| format!("{left:width$}  # {place}\n")).collect()
}
