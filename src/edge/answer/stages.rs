//! How long the stages of an exchange took, for `Server-Timing` and for `/metrics`.
//!
//! A look at the clock costs some 25 ns, so most exchanges are not measured: one in sixteen is, and those whose
//! answer carries `Server-Timing`. Which ones does not depend on the request.

use std::cell::Cell;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::ServerTiming;
use crate::telemetry::metrics::{Metrics, Stage};

/// W3C Server Timing, 3.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// One in so many exchanges is measured for `/metrics`.
const EVERY: u32 = 16;

/// The stages of one exchange; most are not measured.
#[derive(Debug, Default)]
pub struct Stages(Option<Box<Measured>>);

#[derive(Debug)]
struct Measured {
    started: Instant,
    /// The answer carries `Server-Timing`.
    told: bool,
    /// When the origin was first asked.
    asked: Cell<Option<Instant>>,
    /// When it was asked last, while it has not answered.
    waiting: Cell<Option<Instant>>,
    /// Waited for its answers' heads.
    origin: Cell<Option<Duration>>,
    /// What was rewritten before the head.
    rewritten: Cell<Option<Rewritten>>,
}

/// The beginning of a page, rewritten while its head waited.
#[derive(Debug, Clone, Copy, Default)]
struct Rewritten {
    /// In the rewriter.
    busy: Duration,
    /// In all, with waiting for the origin's bytes.
    whole: Duration,
}

/// The whole time a page's rewriter takes; counted when it is dropped.
#[derive(Debug)]
pub struct Rewriting {
    busy: Duration,
    histogram: Stage,
}

impl Stages {
    /// Measured or not, by the exchange's number on its core and the settings.
    #[must_use]
    pub fn of(number: u32, timing: ServerTiming, started: Instant) -> Self {
        // By an odd number near the golden section's share of the range, neighbours fall far apart, and so do every
        // second, every third: a browser's habit of asking in groups is not met by a habit of ours.
        let point = number.wrapping_mul(0x9e37_79b9);
        let told = timing.takes(point);
        if !told && point >= u32::MAX / EVERY {
            return Self::default();
        }
        let (asked, waiting, origin, rewritten) = Default::default();
        Self(Some(Box::new(Measured { started, told, asked, waiting, origin, rewritten })))
    }

    /// The origin is asked, or asked again.
    pub fn ask(&self) {
        let Some(of) = &self.0 else { return };
        let now = Instant::now();
        of.waiting.set(Some(now));
        of.asked.set(of.asked.get().or(Some(now)));
    }

    /// The head of its answer is here, or none will come.
    pub fn answered(&self) {
        let Some(of) = &self.0 else { return };
        if let Some(asked) = of.waiting.take() {
            of.origin.set(Some(of.origin.get().unwrap_or_default() + asked.elapsed()));
        }
    }

    /// Drives the rewriting of what the head waits for.
    pub async fn rewriting<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        let Some(of) = &self.0 else { return poll_fn(poll).await };
        let (begun, mut busy) = (Instant::now(), Duration::ZERO);
        let done = poll_fn(|cx| {
            let polled_at = Instant::now();
            let polled = poll(cx);
            busy += polled_at.elapsed();
            polled
        })
        .await;
        // A page that was asked for again has cost both times.
        let so_far = of.rewritten.get().unwrap_or_default();
        let whole = so_far.whole + begun.elapsed();
        of.rewritten.set(Some(Rewritten { busy: so_far.busy + busy, whole }));
        done
    }

    /// The head is ready: says so to the visitor, and counts. `rewrites`: its body is still to be rewritten, at
    /// least in part, which the value counts when it is dropped.
    pub fn head(&self, metrics: &Metrics, headers: &mut HeaderMap, rewrites: bool) -> Option<Rewriting> {
        let of = self.0.as_ref()?;
        let all = of.started.elapsed();
        let (origin, rewritten) = (of.origin.get(), of.rewritten.get());
        let elsewhere = origin.unwrap_or_default() + rewritten.map_or(Duration::ZERO, |r| r.whole - r.busy);
        if of.told {
            let own = all.saturating_sub(elsewhere);
            headers.append(SERVER_TIMING, field(own, rewritten.map(|r| r.busy), rewrites, origin));
        }
        if let (Some(asked), Some(origin)) = (of.asked.get(), origin) {
            let before = asked.saturating_duration_since(of.started);
            metrics.stages.request.observe(before);
            metrics.stages.origin.observe(origin);
            let whole = rewritten.map_or(Duration::ZERO, |r| r.whole);
            metrics.stages.head.observe(all.saturating_sub(before + origin + whole));
        }
        let busy = rewritten.map_or(Duration::ZERO, |r| r.busy);
        rewrites.then(|| Rewriting { busy, histogram: metrics.stages.rewrite.clone() })
    }
}

/// The field's value: milliseconds, to a hundredth.
fn field(
    own: Duration,
    rewritten: Option<Duration>,
    rewrites: bool,
    origin: Option<Duration>,
) -> HeaderValue {
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let mut text = format!("optgate;dur={:.2}", ms(own));
    // Writing to a String cannot fail.
    let _ = match (rewritten, rewrites) {
        (Some(busy), _) => write!(text, ", rewrite;dur={:.2}", ms(busy)),
        (None, true) => write!(text, ", rewrite;desc=\"after the head\""),
        (None, false) => Ok(()),
    };
    if let Some(origin) = origin {
        let _ = write!(text, ", origin;dur={:.2}", ms(origin));
    }
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("optgate"))
}

impl Rewriting {
    /// One look at the body, measured.
    pub fn measure<T>(&mut self, poll: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let polled = poll();
        self.busy += begun.elapsed();
        polled
    }
}

impl Drop for Rewriting {
    fn drop(&mut self) {
        self.histogram.observe(self.busy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(numbers: impl Iterator<Item = u32>, timing: ServerTiming) -> usize {
        let now = Instant::now();
        numbers.filter(|number| Stages::of(*number, timing, now).0.is_some()).count()
    }

    /// A page with fifteen pictures on one connection must not be met in one place only.
    #[test]
    fn one_exchange_in_sixteen_is_measured_also_of_every_sixteenth() {
        let off = ServerTiming::default();
        assert!((990..=1_010).contains(&measured(0..16_000, off)));
        assert!((990..=1_010).contains(&measured((0..16_000).map(|n| n * 16 + 5), off)));
        assert_eq!(measured(0..1_000, ServerTiming::ON), 1_000);
    }

    /// W3C Server Timing, 3: metrics with a duration in milliseconds, or a description.
    #[test]
    fn the_field_says_what_is_known_and_no_more() {
        let us = Duration::from_micros;
        let value = |rewritten, rewrites, origin| field(us(120), rewritten, rewrites, origin);
        assert_eq!(value(None, false, None), "optgate;dur=0.12");
        assert_eq!(value(None, false, Some(us(12_300))), "optgate;dur=0.12, origin;dur=12.30");
        assert_eq!(
            value(Some(us(50)), true, Some(us(7))),
            "optgate;dur=0.12, rewrite;dur=0.05, origin;dur=0.01"
        );
        assert_eq!(
            value(None, true, Some(us(1_000))),
            "optgate;dur=0.12, rewrite;desc=\"after the head\", origin;dur=1.00"
        );
    }
}
