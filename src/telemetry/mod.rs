//! What happened: named events that write the log line and the counter together, metrics, access
//! lines, redaction.
//!
//! Counters are relaxed atomics in one shared table; the edge touches only those it needs.

pub mod access_log;
pub mod events;
pub mod metrics;
pub mod redact;
