//! Named events: each writes its log line and its counter together, so that neither is forgotten.

use std::path::Path;
use std::time::Duration;

use super::limits::Limit;
use super::metrics::Metrics;
use super::redact;
use super::side::Side;
use super::upstreams::{UpstreamFigures, UpstreamState};

/// A request that Optgate answered itself because something failed. The cause is logged once: here, or `on_its_line` of
/// the access log.
pub fn request_failed(
    metrics: &Metrics,
    site: &str,
    id: &str,
    side: Side,
    label: &'static str,
    cause: &dyn std::error::Error,
    on_its_line: bool,
) {
    metrics.error(side, label);
    let from = side.as_str();
    // A visitor's mistakes are not the operator's news.
    if side == Side::Downstream {
        tracing::debug!(site, request_id = id, side = from, cause = label, "request refused: {cause}");
    } else if !on_its_line {
        tracing::warn!(site, request_id = id, side = from, cause = label, "request failed: {cause}");
    }
}

/// A site is served without anything of ours from the start.
pub fn switch_found_engaged(site: &str) {
    tracing::warn!(
        site,
        "the kill switch is engaged: nothing is enforced, the consumer pages and gpc.json go to the origin, and \
         opt-outs are not taken; POST {{\"engaged\": false}} to /api/sites/{site}/kill-switch on the admin \
         listener ends it"
    );
}

/// The admin listener can be reached from elsewhere by whoever finds it; `encrypted`: it speaks TLS.
pub fn admin_open(address: std::net::SocketAddr, encrypted: bool) {
    let how = if encrypted { "it asks for no certificate" } else { "it speaks in clear" };
    tracing::warn!(
        "admin.listen = {address} can be reached from other machines, {how}, and has no log-in: whoever reaches it \
         can throw the kill switch; listen on loopback, or set [admin.tls] with `client_roots`"
    );
}

/// A message was refused because of how it is written; `side` sent it, `reason` is from a closed set.
pub fn message_refused(metrics: &Metrics, side: Side, reason: &'static str, cause: &dyn std::error::Error) {
    metrics.refused_message(side, reason);
    tracing::debug!(side = side.as_str(), reason, "message refused: {cause}");
}

/// A page for an opted-out visitor could not be rewritten to its end.
pub fn rewrite_failed(metrics: &Metrics, site: &str, id: &str, reason: &'static str, passed: bool) {
    page_not_rewritten(metrics, reason);
    let answer = if passed { "the rest was passed unchanged" } else { "the body was stopped" };
    tracing::warn!(
        site,
        request_id = id,
        reason,
        "a page for an opted-out visitor could not be rewritten: {answer}"
    );
}

/// An HTML response was not rewritten, or not to its end, although rules exist for it.
pub fn page_not_rewritten(metrics: &Metrics, reason: &'static str) {
    if let Some(limit) = Limit::of_page(reason) {
        limit_reached(metrics, limit);
    }
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

/// A private key lies open; `mode` are its permission bits.
pub fn key_exposed(file: &Path, mode: u32) {
    let file = file.display();
    tracing::warn!(
        "{file}: every user of this machine may use this private key (mode {mode:04o}): chmod o-rwx"
    );
}

/// Seconds before a certificate's end in which its operator is warned.
const ENDS_SOON: i64 = 14 * 86_400;

/// A certificate from a file serves for these names, until a time (Unix seconds, as `now` is).
pub fn certificate_read(metrics: &Metrics, file: &Path, names: &[String], until: i64, now: i64) {
    names.iter().for_each(|name| metrics.certificate_until(name, until));
    if let Some(words) = certificate_ends(file, until, now) {
        tracing::warn!("{words}");
    }
}

/// What is to be said of a certificate in a file that ends soon, or has. Times in Unix seconds.
#[must_use]
pub fn certificate_ends(file: &Path, until: i64, now: i64) -> Option<String> {
    let (file, left) = (file.display(), until.saturating_sub(now));
    let ends = match left {
        ..=0 => "has expired, and browsers refuse it".to_owned(),
        _ if left < ENDS_SOON => format!("ends in {} days", left / 86_400),
        _ => return None,
    };
    Some(format!("{file}: this certificate {ends}: put a new one there, then reload"))
}

/// The limit of descriptors allows fewer connections than the settings.
pub fn few_descriptors(limit: u64, room: usize) {
    tracing::warn!(
        limit,
        "limits.connections: there are descriptors for {room} visitors' connections, and more get 503: raise \
         LimitNOFILE or `ulimit -n`, or lower the setting"
    );
}

/// A fetched certificate serves for a host, until a time (Unix seconds).
pub fn certificate_in_place(metrics: &Metrics, host: &str, until: i64) {
    metrics.certificate_until(host, until);
    tracing::debug!(host, until, "fetched certificate in place");
}

/// An authority has given a certificate for a host.
pub fn certificate_issued(metrics: &Metrics, host: &str) {
    metrics.certificate_order("issued");
    tracing::info!(host, "certificate issued");
}

/// A certificate for a host could not be fetched; the one in place, if there is one, serves on.
pub fn certificate_failed(metrics: &Metrics, host: &str, cause: &str, pause: Duration) {
    metrics.certificate_order("failed");
    let pause = pause.as_secs();
    tracing::error!(host, "no certificate could be fetched, tried again in {pause} seconds: {cause}");
}

/// A key set for tokens was fetched and is in force.
pub fn keys_taken(metrics: &Metrics, url: &str) {
    metrics.accounts.keys_taken.inc();
    metrics.accounts.keys_ended(None);
    tracing::debug!(url, "keys of tokens fetched");
}

/// A key set for tokens could not be fetched, or cannot be used; the one in force stays.
pub fn keys_failed(metrics: &Metrics, url: &str, cause: &str, pause: Duration) {
    metrics.accounts.keys_failed.inc();
    metrics.accounts.keys_ended(Some(cause));
    let pause = pause.as_secs();
    tracing::error!(url, "the keys of tokens could not be fetched, tried again in {pause} seconds: {cause}");
}

/// Settings were read again and are in force.
pub fn reloaded(metrics: &Metrics, said: &str) {
    metrics.reload("taken");
    tracing::info!("reloaded: {said}");
}

/// Settings were read again and cannot hold, so those in force stay.
pub fn reload_refused(metrics: &Metrics, cause: &str) {
    metrics.reload("refused");
    tracing::error!("reload refused, all stays as it was: {cause}");
}

/// Access lines were lost because they came faster than they could be written.
pub fn access_lines_dropped(lines: u64) {
    tracing::warn!(
        lines,
        "access lines were lost because the log could not keep up: optgate_access_log_lines_lost_total counts them"
    );
}

/// Lines of events were lost, so many since the process began.
pub fn log_lines_lost(lines: u64) {
    tracing::warn!(lines, "lines of the log were lost: it could not be written, or not as fast as they came");
}

/// The log cannot be written, so this goes elsewhere.
#[must_use]
pub fn access_lines_lost(error: &std::io::Error) -> String {
    format!(
        "WARN the log cannot be written: {error}; access lines are lost until it can, and \
         optgate_access_log_lines_lost_total counts them"
    )
}

/// The log can be written again.
pub fn access_lines_written_again() {
    tracing::warn!(
        "the log could not be written for a while: optgate_access_log_lines_lost_total says how many access lines \
         are lost"
    );
}

/// A new process serves in place of this one.
pub fn upgraded(process: u32) {
    tracing::info!("upgraded: process {process} serves, this one finishes what is under way");
}

/// No new process came to serve.
pub fn upgrade_failed(why: &str) {
    tracing::error!("not upgraded: {why}");
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

/// A limit was reached, and what went over it was refused or ended.
pub fn limit_reached(metrics: &Metrics, limit: Limit) {
    if metrics.limits.reached(limit) {
        let name = limit.as_str();
        tracing::warn!(limit = name, "limit reached: optgate_limit_reached_total counts how often");
    }
}

/// What `limits.memory` means on this machine, bytes; at start and whenever it is another.
pub fn memory_limit_in_force(limit: Option<u64>) {
    match limit {
        Some(limit) => tracing::info!(limit, "limits.memory: from so many bytes on new requests get 503"),
        None => tracing::info!("limits.memory: no limit, nothing is shed for want of memory"),
    }
}

/// New requests are turned away for want of memory, or no longer.
pub fn shedding_changed(begins: bool, used: u64, limit: u64) {
    if begins {
        tracing::error!(used, limit, "limits.memory reached: new requests get 503, consumer pages go on");
    } else {
        tracing::warn!(used, limit, "below limits.memory again: requests are served");
    }
}

/// A part of this process panicked at a place in the source; `words` are those of the source too. Anything else that a
/// panic says may hold what a visitor sent.
pub fn panicked(metrics: &Metrics, thread: &str, place: &str, words: &str) {
    metrics.panics.inc();
    tracing::error!(thread, place, "panicked, which is a fault in Optgate: {words}");
}

/// A job that goes on for ever had ended in a panic and was begun anew.
pub fn job_begun_anew(job: &'static str) {
    tracing::error!(job, "a job panicked and was begun anew; optgate_panics_total counts how often");
}

/// A new connection could not be accepted.
pub fn accept_failed(metrics: &Metrics, error: &std::io::Error) {
    if metrics.limits.reached(Limit::Descriptors) {
        tracing::error!(
            "cannot accept a connection: {error}; if this says too many open files, raise LimitNOFILE"
        );
    }
}

/// An origin gets requests again, or no more. `length`: of an ejection.
pub fn upstream_changed(figures: &UpstreamFigures, to: UpstreamState, why: &str, length: Option<Duration>) {
    figures.changed(to);
    let (site, upstream, state) = (figures.site.as_str(), figures.upstream.as_str(), to.as_str());
    match (to, length) {
        (UpstreamState::Up, _) => tracing::info!(site, upstream, state, "origin is back: {why}"),
        (UpstreamState::Failing, _) => {
            tracing::warn!(site, upstream, state, "origin fails, and no other can take its requests: {why}");
        }
        (_, Some(length)) => {
            let seconds = length.as_secs_f64();
            tracing::warn!(site, upstream, state, seconds, "origin left out for a while: {why}");
        }
        (_, None) => tracing::warn!(site, upstream, state, "origin left out: {why}"),
    }
}

/// The name of an origin leads to other addresses than before.
pub fn upstream_resolved(figures: &UpstreamFigures, host: &str, before: usize, addresses: usize) {
    let (site, upstream) = (figures.site.as_str(), figures.upstream.as_str());
    tracing::info!(site, upstream, host, before, addresses, "origin looked up: its addresses changed");
}

/// The name of an origin could not be looked up. `news`: it could the last time.
pub fn upstream_lookup_failed(
    figures: &UpstreamFigures,
    host: &str,
    error: &dyn std::error::Error,
    news: bool,
) {
    figures.bad_lookups.inc();
    let (site, upstream) = (figures.site.as_str(), figures.upstream.as_str());
    if news {
        tracing::warn!(
            site,
            upstream,
            host,
            "origin could not be looked up, its last addresses hold: {error}"
        );
    } else {
        tracing::debug!(site, upstream, host, "origin could still not be looked up: {error}");
    }
}

/// A visitor's TLS handshake came to nothing: what it sent is no TLS, or shares nothing with ours.
pub fn handshake_failed(metrics: &Metrics, peer: std::net::IpAddr, error: &std::io::Error) {
    metrics.handshakes_failed.inc();
    tracing::debug!(peer = %redact::address(peer), "TLS handshake failed: {error}");
}

/// An origin ended an answer before its end, or went silent in it; the visitor has what came. The operator is told on
/// the request's line, or by [`broken_answer`].
pub fn answer_broke_off(figures: &UpstreamFigures, cause: &dyn std::error::Error) {
    figures.broken_answers.inc();
    let (site, upstream) = (figures.site.as_str(), figures.upstream.as_str());
    tracing::debug!(site, upstream, "an answer broke off: {cause}");
}

/// A visitor's answer was broken off by its origin, which `cause` names, and there are no access lines to say so.
pub fn broken_answer(cause: &dyn std::error::Error) {
    tracing::warn!("an answer broke off: {cause}");
}

/// A connection to a listener that wants a PROXY protocol header was closed.
pub fn proxy_header_refused(metrics: &Metrics, peer: std::net::IpAddr, reason: &'static str) {
    metrics.proxy_header_refused(reason);
    tracing::debug!(peer = %redact::address(peer), reason, "connection refused: no usable PROXY protocol header");
}
