//! Figures of the memo of rewritten pages, all cores together.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Exposition;

use super::families::single;

/// See the module's head. Clones count into the same figures.
#[derive(Debug, Clone, Default)]
pub struct MemoMetrics {
    /// Pages that were the same as before, to the last byte.
    pub hits: Counter<u64, AtomicU64>,
    /// Pages that were remembered, and partly others.
    pub partial: Counter<u64, AtomicU64>,
    /// Pages that were not remembered.
    pub misses: Counter<u64, AtomicU64>,
    /// Bytes of those pages that were compared, and that the rewriter read all the same.
    pub compared_bytes: Counter<u64, AtomicU64>,
    /// See [`MemoMetrics::compared_bytes`].
    pub read_bytes: Counter<u64, AtomicU64>,
    /// Pages that were coded anew, in fewer bytes.
    pub recoded: Counter<u64, AtomicU64>,
    /// Bytes that are remembered.
    pub bytes: Gauge<i64, AtomicI64>,
}

impl MemoMetrics {
    pub(super) fn new(x: &mut Exposition) -> Self {
        let bytes = Gauge::default();
        x.register("memo_bytes", "Memory of the rewritten pages that are remembered", bytes.clone());
        Self {
            hits: single(x, "memo_hits", "Rewritten pages whose bytes were the same as before"),
            partial: single(x, "memo_partial", "Rewritten pages that were remembered and partly others"),
            misses: single(x, "memo_misses", "Rewritten pages that were not remembered"),
            compared_bytes: single(
                x,
                "memo_compared_bytes",
                "Bytes of remembered pages that were the same as before",
            ),
            read_bytes: single(
                x,
                "memo_read_bytes",
                "Bytes of remembered pages that the rewriter had to read again",
            ),
            recoded: single(x, "memo_recoded", "Remembered pages that were compressed anew, in fewer bytes"),
            bytes,
        }
    }

    /// So many bytes more are remembered.
    pub fn grow(&self, bytes: usize) {
        self.bytes.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// So many bytes less are.
    pub fn shrink(&self, bytes: usize) {
        self.bytes.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
