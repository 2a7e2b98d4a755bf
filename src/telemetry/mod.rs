//! What happened: named events that write the log line and the counter together, metrics, access
//! lines, redaction.
//!
//! Counters are relaxed atomics in one shared table; the edge touches only those it needs.

pub mod access_log;
pub mod accounts;
pub mod durations;
pub mod events;
mod families;
pub mod limits;
pub mod memo;
pub mod metrics;
pub mod panics;
pub mod redact;
pub mod side;
pub mod sink;
mod sites;
mod stages;
pub mod upstreams;
mod vendors;

use crate::config::{Log, LogFormat, LogLevel};

/// A line of the log for whoever ends before there is one, or after: as `log.format = "json"` has it.
#[must_use]
pub fn json_line(level: tracing::Level, message: &str) -> String {
    let now = format!("{:.6}", jiff::Timestamp::now());
    serde_json::json!({ "timestamp": now, "level": level.as_str(), "message": message }).to_string()
}

/// Sends log events where the settings say, in their form, until what it gives is dropped: then what waits is written.
/// Call once; a second call does nothing.
///
/// # Errors
/// When the log file cannot be opened, which names it, or no thread can be started.
pub fn start_logging(log: &Log) -> std::io::Result<sink::Flushed> {
    use tracing_subscriber::filter::LevelFilter;
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    if let Some(file) = &log.file {
        let named = |error: std::io::Error| {
            let why = format!(
                "{}: `log.file` cannot be opened: {error}\n  next: let this user write there, or remove the setting",
                file.display()
            );
            std::io::Error::new(error.kind(), why)
        };
        sink::use_file(file).map_err(named)?;
    }
    sink::start_thread()?;
    let builder = tracing_subscriber::fmt()
        .with_writer(|| sink::Queued)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false);
    // Only the first start in a process wins: tests start many.
    let _ = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(sink::Flushed)
}
