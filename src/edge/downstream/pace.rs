//! Least rates: a peer that is waited for must move so many bytes in each window, or is given up.
//!
//! A limit on the time between two bytes is none: a byte a minute holds a connection for ever. Here time
//! counts only while we wait for the peer, never while an origin lets it wait.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::OverSocket;
use crate::edge::timer::{self, Deadline};
use crate::telemetry::events;
use crate::telemetry::limits::Limit;
use crate::telemetry::metrics::SharedMetrics;

/// The pace of one direction.
///
/// Cost: nothing until the peer is waited for; then a timer's slot for as long as the wait.
#[derive(Debug)]
pub struct Pace {
    /// Bytes to be moved in a window; 0: any number.
    least: u64,
    window: Duration,
    /// End of the window that runs, and what was moved in it.
    until: Option<Instant>,
    moved: u64,
    armed: Option<Deadline>,
}

impl Pace {
    /// At least `rate` bytes a second, over each `window` of waiting.
    #[must_use]
    pub fn new(rate: u64, window: Duration) -> Self {
        let least = u128::from(rate) * window.as_millis() / 1_000;
        // However short the window: a limit that is set is none of nothing.
        let least = u64::try_from(least).unwrap_or(u64::MAX).max(rate.min(1));
        Self { least, window, until: None, moved: 0, armed: None }
    }

    /// Bytes were moved.
    pub fn moved(&mut self, bytes: usize) {
        let Some(until) = self.until else { return };
        if timer::now() < until {
            self.moved += bytes as u64;
            self.armed = None;
        } else {
            // Long after the last wait: what was slow then says nothing now.
            self.rest();
        }
    }

    /// Nobody waits for the peer any more.
    pub fn rest(&mut self) {
        (self.until, self.moved, self.armed) = (None, 0, None);
    }

    /// The peer is waited for. Ready once it is too slow.
    pub fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.least == 0 {
            return Poll::Pending;
        }
        let mut until = *self.until.get_or_insert_with(|| timer::after(self.window));
        if timer::now() >= until {
            if self.moved < self.least {
                return Poll::Ready(());
            }
            until = timer::now() + self.window;
            (self.until, self.moved, self.armed) = (Some(until), 0, None);
        }
        self.armed.get_or_insert_with(|| Deadline::at(until)).poll(cx)
    }
}

/// How often it is looked whether a visitor whom nobody reads from is still there.
const LOOK: Duration = Duration::from_secs(1);

/// A visitor's connection whose writes keep a least pace, and which ends when it is reset while its visitor waits:
/// hyper does not read then, since who has ended only the sending side still wants the answer.
///
/// Cost: a timer's slot from the first wait on, and a system call in each second of waiting.
#[derive(Debug)]
pub struct Paced<S> {
    io: S,
    pace: Pace,
    metrics: SharedMetrics,
    /// Somebody waits for bytes, and hears of a reset.
    reading: bool,
    look: Option<Deadline>,
}

impl<S> Paced<S> {
    /// With the pace of what is sent.
    pub const fn new(io: S, pace: Pace, metrics: SharedMetrics) -> Self {
        Self { io, pace, metrics, reading: false, look: None }
    }

    /// What came of a write, or an error once the visitor is too slow.
    fn paced<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        match &polled {
            Poll::Ready(Ok(done)) => self.pace.moved(bytes(done)),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if self.pace.poll_slow(cx).is_ready() {
                    events::limit_reached(&self.metrics, Limit::SendRate);
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        this.reading = polled.is_pending();
        if this.reading {
            // One that has run out would wake this connection again and again.
            this.look.take_if(|look| look.is_over());
        }
        polled
    }
}

impl<S: OverSocket> Paced<S> {
    /// An error once the visitor is found to have reset the connection.
    fn check_reset(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.reading {
            return Ok(());
        }
        let look = self.look.get_or_insert_with(|| Deadline::new(LOOK));
        while look.poll(cx).is_ready() {
            if self.io.socket().is_reset() {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            look.restart(LOOK);
        }
        Ok(())
    }
}

impl<S: AsyncWrite + OverSocket + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(cx, buf);
        this.paced(cx, polled, |bytes| *bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.paced(cx, polled, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_flush(cx);
        // hyper comes here whenever it has done what it can.
        this.check_reset(cx)?;
        this.paced(cx, polled, |()| 0)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_shutdown(cx);
        this.paced(cx, polled, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const WINDOW: Duration = Duration::from_millis(300);

    fn wait(pace: &mut Pace) -> Poll<()> {
        pace.poll_slow(&mut Context::from_waker(Waker::noop()))
    }

    /// As [`wait`], some time later. No sweeper runs here, so the clock is the system's.
    fn wait_after(pace: &mut Pace, time: Duration) -> Poll<()> {
        // Stands for time that passes: the end of the window comes nearer.
        pace.until = pace.until.map(|until| until.checked_sub(time).unwrap());
        pace.armed = None;
        wait(pace)
    }

    #[test]
    fn a_peer_that_trickles_is_too_slow_whatever_its_last_byte() {
        let mut pace = Pace::new(1_000, WINDOW);
        assert!(wait(&mut pace).is_pending());
        for _ in 0..10 {
            pace.moved(1);
            assert!(wait(&mut pace).is_pending());
        }
        assert!(wait_after(&mut pace, WINDOW * 2).is_ready(), "ten bytes of three hundred");
    }

    #[test]
    fn a_peer_at_its_pace_goes_on_for_ever() {
        let mut pace = Pace::new(1_000, WINDOW);
        assert!(wait(&mut pace).is_pending());
        for _ in 0..10 {
            pace.moved(300);
            assert!(wait_after(&mut pace, WINDOW * 2).is_pending());
        }
        assert!(wait_after(&mut pace, WINDOW * 2).is_ready());
    }

    /// An origin that lets a visitor wait must not cost it its connection.
    #[test]
    fn time_in_which_nobody_waits_does_not_count() {
        let mut pace = Pace::new(1_000, WINDOW);
        assert!(wait(&mut pace).is_pending());
        pace.until = pace.until.map(|until| until.checked_sub(WINDOW * 2).unwrap());
        pace.moved(1);
        assert!(wait(&mut pace).is_pending());
    }

    #[test]
    fn a_rate_of_nothing_is_none() {
        let mut pace = Pace::new(0, WINDOW);
        assert!(wait(&mut pace).is_pending());
        assert!(wait_after(&mut pace, WINDOW * 2).is_pending());
    }
}
