//! Steps 8 to 10: the origin's answer as the visitor gets it.
//!
//! `respond` shapes its head and has its body rewritten; `sticky` adds the cookie that names an
//! origin, `explain` the header that says why; `outcome` counts
//! what became of a signal and records a change; `stages` says how long all of it took; `finish` ends the exchange, with
//! its access line behind the last byte.

pub(super) mod explain;
pub(super) mod finish;
pub(super) mod outcome;
pub(super) mod respond;
pub(super) mod stages;
pub(super) mod sticky;
