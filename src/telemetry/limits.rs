//! Limits that were reached: a counter for each, and now and then a line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;

/// Least seconds between two log lines about one limit: a flood must not become a flood of lines.
const PAUSE: u64 = 10;

/// A limit of visitors' doings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `limits.connections`.
    Connections,
    /// `limits.connections_per_client`.
    ConnectionsPerClient,
    /// `limits.header_bytes`.
    HeaderBytes,
    /// `limits.header_count`.
    HeaderCount,
    /// `timeouts.header_read`.
    HeaderRead,
    /// `timeouts.idle`: a visitor's connection had nothing under way for so long. Ordinary, so it has no line.
    Idle,
    /// `timeouts.tls_handshake`.
    TlsHandshake,
    /// `timeouts.proxy_header`.
    ProxyHeader,
    /// `timeouts.tunnel_idle`. Ordinary too.
    TunnelIdle,
    /// `limits.request_body`.
    RequestBody,
    /// `timeouts.between_bytes`, of a visitor's body.
    BetweenBytes,
    /// `limits.min_body_rate`.
    BodyRate,
    /// `limits.min_send_rate`.
    SendRate,
    /// `limits.http2_streams`.
    Http2Streams,
    /// `limits.http2_resets`.
    Http2Resets,
    /// `limits.http2_control_frames`.
    Http2ControlFrames,
    /// A limit of the HTTP/2 reader itself: it ended the connection with `ENHANCE_YOUR_CALM`.
    Http2Calm,
    /// `limits.http2_cookie_crumbs`.
    Http2CookieCrumbs,
    /// `limits.portal_rate`.
    PortalRate,
    /// `limits.memory`.
    Memory,
    /// Descriptors of the process (`LimitNOFILE`).
    Descriptors,
    /// `limits.rewriter_memory`.
    RewriterMemory,
    /// `limits.decode_ratio`.
    DecodeRatio,
    /// `limits.decoded_page`.
    DecodedPage,
}

const ALL: [Limit; 24] = [
    Limit::Connections,
    Limit::ConnectionsPerClient,
    Limit::HeaderBytes,
    Limit::HeaderCount,
    Limit::HeaderRead,
    Limit::Idle,
    Limit::TlsHandshake,
    Limit::ProxyHeader,
    Limit::TunnelIdle,
    Limit::RequestBody,
    Limit::BetweenBytes,
    Limit::BodyRate,
    Limit::SendRate,
    Limit::Http2Streams,
    Limit::Http2Resets,
    Limit::Http2ControlFrames,
    Limit::Http2Calm,
    Limit::Http2CookieCrumbs,
    Limit::PortalRate,
    Limit::Memory,
    Limit::Descriptors,
    Limit::RewriterMemory,
    Limit::DecodeRatio,
    Limit::DecodedPage,
];

impl Limit {
    /// The label in metrics: the setting's name where there is one.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerClient => "connections_per_client",
            Self::HeaderBytes => "header_bytes",
            Self::HeaderCount => "header_count",
            Self::HeaderRead => "header_read",
            Self::Idle => "idle",
            Self::TlsHandshake => "tls_handshake",
            Self::ProxyHeader => "proxy_header",
            Self::TunnelIdle => "tunnel_idle",
            Self::RequestBody => "request_body",
            Self::BetweenBytes => "between_bytes",
            Self::BodyRate => "min_body_rate",
            Self::SendRate => "min_send_rate",
            Self::Http2Streams => "http2_streams",
            Self::Http2Resets => "http2_resets",
            Self::Http2ControlFrames => "http2_control_frames",
            Self::Http2Calm => "http2_calm",
            Self::Http2CookieCrumbs => "http2_cookie_crumbs",
            Self::PortalRate => "portal_rate",
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
            Self::RewriterMemory => "rewriter_memory",
            Self::DecodeRatio => "decode_ratio",
            Self::DecodedPage => "decoded_page",
        }
    }

    /// The limit for which a page was not rewritten, by the reason's word; `None` where it was none.
    pub(super) fn of_page(reason: &str) -> Option<Self> {
        match reason {
            "rewriter-memory" => Some(Self::RewriterMemory),
            "coding-ratio" => Some(Self::DecodeRatio),
            "coding-size" => Some(Self::DecodedPage),
            _ => None,
        }
    }

    /// Whether it is reached in the ordinary course of things, and not worth a line.
    const fn is_ordinary(self) -> bool {
        matches!(self, Self::Idle | Self::TunnelIdle)
    }
}

/// How often each limit was reached.
#[derive(Debug)]
pub struct LimitFigures {
    counters: [Counter; ALL.len()],
    /// When a line was last written, seconds after `since` and one; 0: never.
    said: [AtomicU64; ALL.len()],
    since: Instant,
}

impl LimitFigures {
    /// With a counter for each label.
    pub(super) fn new(counter: impl Fn(&'static str) -> Counter) -> Self {
        Self {
            counters: ALL.map(|limit| counter(limit.as_str())),
            said: std::array::from_fn(|_| AtomicU64::new(0)),
            since: Instant::now(),
        }
    }

    /// Counts; true when it is worth a line again.
    pub(super) fn reached(&self, limit: Limit) -> bool {
        let at = limit as usize;
        self.counters[at].inc();
        if limit.is_ordinary() {
            return false;
        }
        let now = self.since.elapsed().as_secs() + 1;
        let last = self.said[at].load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= PAUSE;
        due && self.said[at].compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// How often so far.
    #[must_use]
    pub fn count(&self, limit: Limit) -> u64 {
        self.counters[limit as usize].get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_to_the_last_and_told_once() {
        let figures = LimitFigures::new(|_| Counter::default());
        let lines = (0..1_000).filter(|_| figures.reached(Limit::Connections)).count();
        assert_eq!((lines, figures.count(Limit::Connections)), (1, 1_000));
        assert!(figures.reached(Limit::Memory), "each limit has a line of its own");
        assert_eq!(figures.count(Limit::PortalRate), 0);
    }

    /// Browsers leave connections open and servers end them: no news.
    #[test]
    fn connections_that_were_idle_are_counted_without_a_line() {
        let figures = LimitFigures::new(|_| Counter::default());
        assert!(!figures.reached(Limit::Idle) && !figures.reached(Limit::TunnelIdle));
        assert_eq!((figures.count(Limit::Idle), figures.count(Limit::TunnelIdle)), (1, 1));
    }

    /// `limit as usize` is its place in the list.
    #[test]
    fn every_limit_has_its_own_place() {
        for (at, limit) in ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, at, "{}", limit.as_str());
        }
    }
}
