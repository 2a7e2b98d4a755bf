//! Named events: each writes its log line and its counter together, so that neither is forgotten.

use super::metrics::Metrics;

/// A request that Optgate answered itself because something failed. The cause is logged here, once.
pub fn request_failed(
    metrics: &Metrics,
    site: &str,
    id: &str,
    side: &'static str,
    label: &'static str,
    cause: &dyn std::error::Error,
) {
    metrics.error(side, label);
    // A visitor's mistakes are not the operator's news.
    if side == "downstream" {
        tracing::debug!(site, request_id = id, side, cause = label, "request refused: {cause}");
    } else {
        tracing::warn!(site, request_id = id, side, cause = label, "request failed: {cause}");
    }
}

/// A message was refused because of how it is written; `side` sent it, `reason` is from a closed set.
pub fn message_refused(
    metrics: &Metrics,
    side: &'static str,
    reason: &'static str,
    cause: &dyn std::error::Error,
) {
    metrics.refused_message(side, reason);
    tracing::debug!(side, reason, "message refused: {cause}");
}

/// A page for an opted-out visitor could not be rewritten to its end.
pub fn rewrite_failed(metrics: &Metrics, site: &str, id: &str, reason: &'static str, passed: bool) {
    metrics.bypass(reason);
    let answer = if passed { "the rest was passed unchanged" } else { "the body was stopped" };
    tracing::warn!(
        site,
        request_id = id,
        reason,
        "a page for an opted-out visitor could not be rewritten: {answer}"
    );
}

/// An HTML response was passed although rules exist for it.
pub fn rewrite_bypassed(metrics: &Metrics, reason: &'static str) {
    metrics.bypass(reason);
}

/// A filter list is in force from the start.
pub fn list_read(metrics: &Metrics, file: &str, rules: usize, left_out: usize) {
    metrics.list_rules(file, rules);
    tracing::info!(file, rules, left_out, "filter list read");
}

/// A changed filter list has taken the place of the one before.
pub fn list_taken(metrics: &Metrics, file: &str, rules: usize, was: usize) {
    metrics.list_rules(file, rules);
    metrics.list_change("taken");
    tracing::info!(file, rules, was, "changed filter list taken");
}

/// A changed filter list was refused, and the one in force stays.
pub fn list_kept(metrics: &Metrics, file: &str, reason: &'static str, cause: &dyn std::error::Error) {
    metrics.list_change(reason);
    tracing::error!(file, reason, "changed filter list refused, the one in force stays: {cause}");
}

/// A first-party host turned out to be a vendor's.
pub fn cloaked_host_found(site: &str, host: &str, cname: &str, vendor: &str) {
    tracing::info!(site, host, cname, vendor, "a first-party host leads to a vendor and is treated as it");
}

/// A first-party host could not be looked up.
pub fn cname_lookup_failed(metrics: &Metrics, site: &str, host: &str, error: &dyn std::error::Error) {
    metrics.dns_failures.inc();
    tracing::debug!(site, host, "a first-party host could not be looked up, its last answer holds: {error}");
}

/// A new connection could not be accepted.
pub fn accept_failed(error: &std::io::Error) {
    tracing::error!(
        "cannot accept a connection: {error}; if this says too many open files, raise LimitNOFILE"
    );
}
