//! A proxy under test, what a case came to there, and the totals.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::case::{Case, Level, Seen, Want};
use super::recorder::{Mark, Recorder, Request};
use super::wire::{Heard, Wire};
use crate::support::DEADLINE;

/// How the bytes of a case go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    Whole,
    Bytes,
    /// In two pieces, cut in the middle.
    Halves,
}

/// A proxy that is put to the test, and the origin behind it.
pub struct Subject {
    pub addr: SocketAddr,
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The same for HTTP/2.
    pub http2: Option<Arc<rustls::ClientConfig>>,
    pub origin: Arc<Recorder>,
    pub patience: Duration,
    /// Ours is held to the exact status and to closing; others only to what reaches the origin.
    pub exact: bool,
    /// A field that the proxy puts on every request: what comes without it was no request to the proxy.
    pub stamp: &'static str,
}

/// What a case came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail(String),
    /// One client's bytes became another request or another client's answer.
    Critical(String),
}

impl Subject {
    pub fn connect(&self) -> Wire {
        self.wire(self.tls.as_ref())
    }

    /// A connection that speaks HTTP/2.
    pub fn connect_http2(&self) -> Wire {
        self.wire(self.http2.as_ref())
    }

    fn wire(&self, tls: Option<&Arc<rustls::ClientConfig>>) -> Wire {
        match tls {
            Some(config) => Wire::tls(self.addr, config, self.patience),
            None => Wire::tcp(self.addr, self.patience),
        }
    }

    /// Looks whether two fresh clients are served, and gives the requests that reached the origin since `before`.
    /// Err: what went wrong whatever the case wants; a smuggled request is as bad as `smuggled` says.
    pub fn since(
        &self,
        before: Mark,
        heard: &dyn Debug,
        smuggled: fn(String) -> Verdict,
    ) -> Result<Vec<Request>, Verdict> {
        if let Err(what) = self.echoes() {
            let why = format!("a fresh client: {what}; the case's client heard {heard:?}");
            return Err(Verdict::Critical(why));
        }
        let mut seen = self.origin.since(before);
        seen.retain(|request| request.target() != ECHO);
        if let Some(request) = seen.iter().find(|request| request.all(self.stamp).is_empty()) {
            let why = format!("nobody's request at the origin: {:?}", request.line());
            return Err(Verdict::Critical(why));
        }
        if seen.iter().any(|request| request.target().contains("smuggled")) {
            return Err(smuggled(format!("read on behind it: the origin saw {:?}", lines(&seen))));
        }
        if let Some((reason, bytes)) = self.origin.malformed_since(before).first() {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
            return Err(Verdict::Fail(format!("the origin cannot read {reason}: {text:?}")));
        }
        Ok(seen)
    }

    /// Runs one case and looks whether two fresh clients are served.
    pub fn run(&self, case: &Case, sending: Sending) -> Verdict {
        let before = self.origin.mark();
        let heard = self.converse(case, sending);
        let seen = match self.since(before, &heard, Verdict::Fail) {
            Ok(seen) => seen,
            Err(verdict) => return verdict,
        };
        match self.judge(&case.want, &heard, &seen) {
            Ok(()) => Verdict::Pass,
            Err(why) => {
                Verdict::Fail(format!("{why}; heard {}, the origin saw {:?}", brief(&heard), lines(&seen)))
            }
        }
    }

    fn converse(&self, case: &Case, sending: Sending) -> Heard {
        let mut wire = self.connect();
        match sending {
            Sending::Whole => {
                wire.send(&case.bytes);
            }
            Sending::Bytes => wire.send_bytes(&case.bytes),
            Sending::Halves => {
                let (a, b) = case.bytes.split_at(case.bytes.len() / 2);
                wire.send(a);
                // The first half is read on its own: a round trip of somebody else's lies between.
                let _ = self.echoes();
                wire.send(b);
            }
        }
        if case.half_close {
            wire.finish();
        }
        let wanted = match &case.want {
            Want::Forwarded(seen) => seen.len(),
            Want::Answered(_) => 1,
            Want::Either(..) if !self.exact => 1,
            _ => usize::MAX,
        };
        let method = String::from_utf8_lossy(case.bytes.split(|b| *b == b' ').next().unwrap_or_default());
        wire.hear(&[method.trim()], |heard| {
            heard.answers.iter().filter(|answer| answer.whole).count() >= wanted
                // A refusal is complete with its connection's end; others may keep it open.
                || !self.exact && heard.answers.last().is_some_and(|a| a.whole && a.status >= 400)
        })
    }

    /// Two fresh clients, each with its own echo.
    pub fn echoes(&self) -> Result<(), String> {
        for _ in 0..2 {
            let mut wire = self.connect();
            wire.be_patient(DEADLINE);
            wire.send(format!("GET {ECHO} HTTP/1.1\r\nHost: site.test\r\n\r\n"));
            let heard = wire.hear(&["GET"], Heard::whole);
            let good = heard.answers.len() == 1
                && heard.answers[0].status == 200
                && heard.answers[0].body == format!("echo GET {ECHO} HTTP/1.1").as_bytes()
                && heard.rest.is_empty();
            if !good {
                return Err(format!("{heard:?}"));
            }
        }
        Ok(())
    }

    fn judge(&self, want: &Want, heard: &Heard, seen: &[Request]) -> Result<(), String> {
        match want {
            Want::Refused(statuses) => self.refused(statuses, heard, seen),
            Want::Forwarded(requests) => self.forwarded(requests, heard, seen),
            Want::ThenRefused(requests) => {
                let first = heard.answers.len().saturating_sub(1);
                let (answered, refusal) = heard.answers.split_at(first);
                let before = Heard { answers: answered.to_vec(), ..Heard::default() };
                let after = Heard { answers: refusal.to_vec(), ..heard.clone() };
                self.forwarded(requests, &before, seen)?;
                self.refused(&[400], &after, &[])
            }
            Want::Either(statuses, requests) => {
                self.refused(statuses, heard, seen).or_else(|_| self.forwarded(requests, heard, seen))
            }
            Want::Answered(status) => {
                let statuses: Vec<_> = heard.answers.iter().map(|a| a.status).collect();
                if statuses == [*status] && seen.is_empty() { Ok(()) } else { Err(format!("not {status}")) }
            }
            Want::Ended => {
                let fine = heard.answers.iter().all(|a| a.status >= 400) && heard.answers.len() < 2;
                match (fine, heard.closed || !self.exact, seen.is_empty()) {
                    (true, true, true) => Ok(()),
                    _ => Err("not ended".to_owned()),
                }
            }
        }
    }

    fn refused(&self, statuses: &[u16], heard: &Heard, seen: &[Request]) -> Result<(), String> {
        if !seen.is_empty() {
            return Err("reached the origin".to_owned());
        }
        if !self.exact {
            let refused = heard.answers.iter().all(|answer| answer.status >= 400);
            return if refused { Ok(()) } else { Err("not refused".to_owned()) };
        }
        match &heard.answers[..] {
            [answer] if !statuses.contains(&answer.status) => Err(format!("not one of {statuses:?}")),
            [answer] if !answer.whole => Err("the refusal is cut".to_owned()),
            [answer] if !answer.all("connection").iter().any(|c| c == "close") => {
                Err("does not say close".to_owned())
            }
            [_] if !heard.closed => Err("not closed".to_owned()),
            [_] if !heard.rest.is_empty() => Err("bytes behind the refusal".to_owned()),
            [_] => Ok(()),
            _ => Err("not one answer".to_owned()),
        }
    }

    fn forwarded(&self, wanted: &[Seen], heard: &Heard, seen: &[Request]) -> Result<(), String> {
        if seen.len() != wanted.len() {
            return Err(format!("{} requests reached the origin", seen.len()));
        }
        if heard.answers.len() != wanted.len() || heard.answers.iter().any(|a| a.status != 200 || !a.whole) {
            return Err("not answered".to_owned());
        }
        for (wanted, seen) in wanted.iter().zip(seen) {
            self.matches(wanted, seen)?;
        }
        Ok(())
    }

    pub fn matches(&self, wanted: &Seen, seen: &Request) -> Result<(), String> {
        if seen.line() != wanted.line {
            return Err(format!("the line is {:?}", seen.line()));
        }
        for (name, value) in &wanted.has {
            let value = match value.as_str() {
                "SCHEME" if self.tls.is_some() => "https",
                "SCHEME" => "http",
                value => value,
            };
            // What other proxies say of themselves is not ours to judge.
            let here = seen.all(name);
            if here != [value] {
                return Err(format!("{name} is {here:?}"));
            }
        }
        if let Some(name) = wanted.lacks.iter().find(|name| !seen.all(name).is_empty()) {
            return Err(format!("{name} passed"));
        }
        if wanted.body.as_ref().is_some_and(|body| *body != seen.body) {
            return Err(format!("the body is {:?}", String::from_utf8_lossy(&seen.body)));
        }
        match &wanted.trailers {
            Some(trailers) if *trailers != seen.trailer_lines() => {
                Err(format!("trailers are {:?}", seen.trailer_lines()))
            }
            _ => Ok(()),
        }
    }
}

/// What fresh clients ask for.
const ECHO: &str = "/echo";

fn brief(heard: &Heard) -> String {
    let statuses: Vec<_> = heard.answers.iter().map(|answer| answer.status).collect();
    format!("{statuses:?} closed {} and {} bytes", heard.closed, heard.rest.len())
}

pub fn lines(seen: &[Request]) -> Vec<String> {
    seen.iter().map(Request::line).collect()
}

/// Passes and cases, by level, and cases where clients' bytes mixed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub must: [usize; 2],
    pub should: [usize; 2],
    pub critical: usize,
}

impl Totals {
    pub fn add(&mut self, level: Level, verdict: &Verdict) {
        let counts = if level == Level::Must { &mut self.must } else { &mut self.should };
        counts[0] += usize::from(*verdict == Verdict::Pass);
        counts[1] += 1;
        self.critical += usize::from(matches!(verdict, Verdict::Critical(_)));
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ([must, all_must], [should, all_should]) = (self.must, self.should);
        write!(f, "MUST {must}/{all_must}, SHOULD {should}/{all_should}, critical {}", self.critical)
    }
}
