//! One line a request, written when its last byte has been handed over.
//!
//! Lines never hold a query, a cookie or a whole address. A thread of its own writes them, so that a slow
//! terminal or pipe stops no core; when it cannot keep up, or the log cannot be written, lines are lost and counted.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use super::side::BrokenBy;
use super::sink::{self, Sink};
use super::{events, redact};
use crate::config::LogFormat;

/// Lines that may wait.
const QUEUE: usize = 8192;

/// Least time between two log lines about lost ones.
const PAUSE: Duration = Duration::from_secs(10);

/// What an access line says.
#[derive(Debug)]
pub struct Line {
    /// The client, whole; it is cut here.
    pub client: IpAddr,
    /// Method.
    pub method: http::Method,
    /// Path, as [`redact::path`] has it: thousands of lines may wait.
    pub path: String,
    /// Site name; `None` where none was named.
    pub site: Option<Arc<str>>,
    /// Status; 499 where the exchange was given up before its answer had a head.
    pub status: u16,
    /// Body bytes handed to the connection.
    pub bytes: u64,
    /// Microseconds from request head to the body's end.
    pub duration_us: u64,
    /// `none` or `opted-out;basis=...`, as the origin is told.
    pub decision: &'static str,
    /// Enforce or observe.
    pub mode: &'static str,
    /// Request id.
    pub id: String,
    /// Who broke off before the body's end, if somebody did.
    pub broken_by: Option<BrokenBy>,
    /// What the answer is for that Optgate gave in the origin's place, as `optgate_errors_total` labels it.
    pub failed: Option<&'static str>,
    /// Why it failed, or the origin broke it off: where that is not the visitor's doing.
    pub why: Option<Box<str>>,
}

/// What the writing thread is handed.
enum Entry {
    Line(Line),
    /// To be answered when all lines before it are written.
    Flush(SyncSender<()>),
}

/// Where lines go; cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessLog {
    sender: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Starts the writing thread; lines go where the log goes, and `lost` counts those that do not.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(format: LogFormat, lost: Counter) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let losses = Losses { dropped: Arc::clone(&dropped), counted: lost, failed: false, told: None };
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_lines(&receiver, losses, format))?;
        Ok(Self { sender, dropped })
    }

    /// Hands a line over; never waits.
    pub fn write(&self, line: Line) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Entry::Line(line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until every line handed over so far is written, for at most so long: a reader that stopped
    /// must not keep the process from ending. Blocks; never on a core.
    pub fn flush(&self, limit: Duration) {
        let (done, written) = sync_channel(1);
        if self.sender.try_send(Entry::Flush(done)).is_ok() {
            let _ = written.recv_timeout(limit);
        }
    }
}

/// Lines that nobody will read.
struct Losses {
    /// For want of room in the queue, not counted yet.
    dropped: Arc<AtomicU64>,
    counted: Counter,
    /// The last write failed.
    failed: bool,
    /// When it was said that the log cannot keep up.
    told: Option<Instant>,
}

impl Losses {
    /// Counts what was lost up to a write, and says so, not for each.
    fn note(&mut self, lines: u64, written: std::io::Result<()>) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        self.counted.inc_by(dropped);
        if dropped > 0 && self.told.is_none_or(|told| told.elapsed() >= PAUSE) {
            self.told = Some(Instant::now());
            events::access_lines_dropped(dropped);
        }
        match written {
            Ok(()) if self.failed => {
                self.failed = false;
                events::access_lines_written_again();
            }
            Ok(()) => {}
            Err(error) => {
                self.counted.inc_by(lines);
                if !self.failed {
                    self.failed = true;
                    sink::say_beside(&events::access_lines_lost(&error));
                }
            }
        }
    }
}

fn write_lines(receiver: &Receiver<Entry>, mut losses: Losses, format: LogFormat) {
    let mut text = String::new();
    while let Ok(first) = receiver.recv() {
        text.clear();
        let mut lines = 0;
        let now = moment(jiff::Timestamp::now(), format);
        let mut waiting = None;
        // Whatever else is waiting goes out in the same write.
        for entry in std::iter::once(first).chain(receiver.try_iter().take(256)) {
            match entry {
                Entry::Line(line) => {
                    render(&line, &now, format, &mut text);
                    lines += 1;
                }
                Entry::Flush(done) => waiting = Some(done),
            }
        }
        losses.note(lines, Sink.write_all(text.as_bytes()));
        if let Some(done) = waiting {
            let _ = done.send(());
        }
    }
}

/// The time of a batch of lines, as they say it.
fn moment(now: jiff::Timestamp, format: LogFormat) -> String {
    match format {
        LogFormat::Text => format!("{now:.3}"),
        LogFormat::Json => format!("{now:.6}"),
    }
}

/// Text is put together by hand: with the formatting machinery a line cost four times as much.
fn render(line: &Line, now: &str, format: LogFormat, out: &mut String) {
    let site = line.site.as_deref().unwrap_or("-");
    let id = line.id.as_str();
    if format == LogFormat::Json {
        let value = serde_json::json!({
            "timestamp": now, "level": if line.why.is_some() { "WARN" } else { "INFO" }, "message": "access",
            "client": redact::address(line.client).to_string(), "method": line.method.as_str(),
            "path": line.path, "status": line.status, "bytes": line.bytes,
            "duration_us": line.duration_us, "site": site, "mode": line.mode,
            "decision": line.decision, "request_id": id, "complete": line.broken_by.is_none(),
            "broken_by": line.broken_by.map(BrokenBy::as_str), "failed": line.failed, "why": line.why,
        });
        let result = writeln!(out, "{value}");
        debug_assert!(result.is_ok(), "writing to a String cannot fail");
        return;
    }
    out.push_str(now);
    out.push(' ');
    push_address(out, redact::address(line.client));
    for word in [" ", line.method.as_str(), " "] {
        out.push_str(word);
    }
    out.push_str(&line.path);
    out.push(' ');
    push_number(out, line.status.into());
    out.push(' ');
    push_number(out, line.bytes);
    out.push_str("B ");
    push_number(out, line.duration_us);
    for word in ["us site=", site, " mode=", line.mode, " decision=", line.decision, " id=", id] {
        out.push_str(word);
    }
    if let Some(by) = line.broken_by {
        out.push_str(" broken-off=");
        out.push_str(by.as_str());
    }
    if let Some(label) = line.failed {
        out.push_str(" failed=");
        out.push_str(label);
    }
    if let Some(why) = &line.why {
        // In quotes, on one line whatever it holds. Writing to a String cannot fail.
        let _ = write!(out, " why={why:?}");
    }
    out.push('\n');
}

fn push_address(out: &mut String, address: IpAddr) {
    let IpAddr::V4(v4) = address else {
        // Writing to a String cannot fail.
        let _ = write!(out, "{address}");
        return;
    };
    for (at, octet) in v4.octets().into_iter().enumerate() {
        if at > 0 {
            out.push('.');
        }
        push_number(out, octet.into());
    }
}

fn push_number(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            client: "203.0.113.77".parse().unwrap(),
            method: http::Method::GET,
            path: redact::path("/a?secret=1"),
            site: Some("shop".into()),
            status: 200,
            bytes: 12,
            duration_us: 345,
            decision: "none",
            mode: "enforce",
            id: "1f".into(),
            broken_by: None,
            failed: None,
            why: None,
        }
    }

    /// 11 CCR 7025(d) and our own promise: no address, no query in a line.
    #[test]
    fn a_line_holds_neither_a_whole_address_nor_a_query() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let mut out = String::new();
            render(&line(), &moment(jiff::Timestamp::UNIX_EPOCH, format), format, &mut out);
            assert!(
                out.contains("203.0.113.0") && !out.contains("113.77") && !out.contains("secret"),
                "{out}"
            );
        }
    }

    /// Scripts of operators read it: word by word, as the README shows it.
    #[test]
    fn a_text_line_reads_as_it_always_has() {
        let now = moment(jiff::Timestamp::UNIX_EPOCH, LogFormat::Text);
        let said = |line: &Line| {
            let mut out = String::new();
            render(line, &now, LogFormat::Text, &mut out);
            out
        };
        assert_eq!(
            said(&line()),
            "1970-01-01T00:00:00.000Z 203.0.113.0 GET /a 200 12B 345us site=shop mode=enforce decision=none id=1f\n"
        );
        let other = Line {
            client: "2001:db8:1:2::3".parse().unwrap(),
            bytes: u64::MAX,
            duration_us: 0,
            site: None,
            broken_by: Some(BrokenBy::Visitor),
            ..line()
        };
        assert_eq!(
            said(&other),
            format!(
                "1970-01-01T00:00:00.000Z 2001:db8:1:: GET /a 200 {}B 0us site=- mode=enforce decision=none id=1f \
                 broken-off=visitor\n",
                u64::MAX
            )
        );
    }

    /// One line for one request, also where it failed: a second would have to be found by its id.
    #[test]
    fn a_line_says_why_its_request_failed() {
        let failed =
            Line { status: 502, failed: Some("connect"), why: Some("no \"route\"\nto it".into()), ..line() };
        let said = |format| {
            let mut out = String::new();
            render(&failed, &moment(jiff::Timestamp::UNIX_EPOCH, format), format, &mut out);
            assert_eq!(out.lines().count(), 1, "{out}");
            out
        };
        let text = said(LogFormat::Text);
        assert!(text.ends_with(" id=1f failed=connect why=\"no \\\"route\\\"\\nto it\"\n"), "{text}");
        let value: serde_json::Value = serde_json::from_str(&said(LogFormat::Json)).unwrap();
        assert_eq!(
            (&value["level"], &value["failed"], &value["why"]),
            (&"WARN".into(), &"connect".into(), &"no \"route\"\nto it".into())
        );
    }

    #[test]
    fn a_json_line_is_one_json_object() {
        let mut out = String::new();
        let now = moment(jiff::Timestamp::UNIX_EPOCH, LogFormat::Json);
        render(&line(), &now, LogFormat::Json, &mut out);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["status"], 200);
        // As `tracing` names them, whose lines stand in the same file.
        assert_eq!(value["timestamp"], "1970-01-01T00:00:00.000000Z");
        assert_eq!((&value["level"], &value["message"]), (&"INFO".into(), &"access".into()));
        assert_eq!(out.lines().count(), 1);
    }
}
