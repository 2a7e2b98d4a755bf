//! `/livez` and `/readyz`, in the form Kubernetes' own have; `?verbose` lists the checks.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::State;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode, Uri};

use super::AdminState;
use crate::config::JwtKeys;
use crate::store::FeedHealth;
use crate::telemetry::upstreams::UpstreamState;

/// One thing looked at.
struct Check {
    name: &'static str,
    fine: bool,
    /// A failure turns the whole answer red.
    required: bool,
    detail: String,
}

pub(super) async fn live() -> Response<Body> {
    plain(StatusCode::OK, "ok\n".to_owned())
}

pub(super) async fn ready(State(state): State<AdminState>, uri: Uri) -> Response<Body> {
    let checks = checks(&state);
    let ready = checks.iter().all(|c| c.fine || !c.required);
    let verbose = uri
        .query()
        .is_some_and(|q| q.split('&').any(|pair| pair == "verbose" || pair.starts_with("verbose=")));
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    plain(status, report(&checks, ready, verbose))
}

fn checks(state: &AdminState) -> Vec<Check> {
    let health = state.store.health();
    let draining = state.draining.load(Ordering::Relaxed);
    let journal = match (&health.journal_error, &health.damage) {
        (None, Some(damage)) => format!("writing; damaged: {damage}"),
        (None, None) => format!("writing; {} waiting, {} records", health.backlog, health.records),
        (Some(error), _) => format!("cannot write: {error}; opt-outs are enforced by cookie meanwhile"),
    };
    let mut checks = vec![
        Check {
            name: "serving",
            fine: !draining,
            required: true,
            detail: if draining { "stopping: finishing what is under way" } else { "yes" }.to_owned(),
        },
        Check {
            name: "state",
            fine: health.loaded,
            required: true,
            detail: if health.loaded { "loaded" } else { "not all records of other nodes are here yet" }
                .to_owned(),
        },
        Check {
            name: "journal",
            fine: health.journal_error.is_none(),
            required: state.in_force.load().settings.ready_requires_journal,
            detail: journal,
        },
        Check {
            name: "data folder",
            fine: health.lost.is_none(),
            required: true,
            detail: health.lost.unwrap_or_else(|| "at its place".to_owned()),
        },
        nodes(health.feed.as_ref(), state.in_force.load().settings.ready_requires_journal),
        names(health.feed.as_ref()),
        origins(state),
        kill_switches(state),
    ];
    checks.extend(account_keys(state));
    checks
}

/// Keys of tokens, where they are fetched. Never red: nobody's opt-out is undone for want of them, and another Optgate
/// would be refused as well.
fn account_keys(state: &AdminState) -> Option<Check> {
    let in_force = state.in_force.load();
    let jwt = in_force.settings.account.jwt.as_ref()?;
    matches!(jwt.keys, JwtKeys::Url(_)).then_some(())?;
    let accounts = &state.metrics.accounts;
    let error = accounts.keys_error();
    let detail = match &error {
        Some(error) => format!(
            "cannot be fetched: {error}; tokens of keys that are not here count as opted out meanwhile"
        ),
        None if accounts.keys_taken.get() == 0 => {
            "on their way; tokens count as opted out meanwhile".to_owned()
        }
        None => "fetched".to_owned(),
    };
    Some(Check { name: "account keys", fine: error.is_none(), required: false, detail })
}

/// What passes between nodes. Not red by itself: what a node knows it honours, and another would be cut off as well. A
/// node that is fenced cannot save what it records, and one that lacks a secret does not know what others recorded: both are
/// red where the journal is asked for.
fn nodes(feed: Option<&FeedHealth>, requires_journal: bool) -> Check {
    let Some(feed) = feed else {
        let detail = "this node is alone".to_owned();
        return Check { name: "nodes", fine: true, required: false, detail };
    };
    let FeedHealth { unshipped, lag, nodes, .. } = feed;
    let mut detail = match &feed.error {
        Some(error) if feed.fenced => format!(
            "fenced: {error}; {unshipped} records are on this node's disk only, opt-outs here are honoured and answered \
             as not saved"
        ),
        Some(error) => format!(
            "cut off: {error}; {unshipped} records wait on this node's disk, opt-outs here are honoured"
        ),
        None => {
            let lag = lag.map_or(0, |lag| lag.as_millis());
            format!("{nodes} others, heard {lag} ms ago; {unshipped} records on their way")
        }
    };
    if let Some(first) = &feed.first_missing {
        detail.push_str(&format!("; {} records are missing from the database, first {first}", feed.missing));
    }
    if let Some(first) = &feed.first_unproven {
        let unproven = feed.unproven;
        detail.push_str(&format!(
            "; {unproven} records in the database are proven by nothing and count as opt-outs, first {first}"
        ));
    }
    if let Some(check) = feed.unknown_secrets.first() {
        detail.push_str(&format!(
            "; accounts that opted out on a node with secret {check} are not known here: copy its secret.key and start anew"
        ));
    }
    let whole = feed.first_missing.is_none() && feed.first_unproven.is_none();
    let fine = feed.error.is_none() && whole && feed.unknown_secrets.is_empty();
    let red = feed.fenced || !feed.unknown_secrets.is_empty();
    Check { name: "nodes", fine, required: red && requires_journal, detail }
}

/// Opt-outs of other nodes that nobody would be honoured by. Never red by itself: while sites are renamed node by node,
/// all of them are in this state.
fn names(feed: Option<&FeedHealth>) -> Check {
    let lost = feed.map_or_else(String::new, |feed| feed.lost_names.join("; ").replace("\n ", ";"));
    let fine = lost.is_empty();
    let detail = if fine { "every name that opt-outs are kept under is known".to_owned() } else { lost };
    Check { name: "names", fine, required: false, detail }
}

/// Origins that get no requests. Never red: another Optgate would see the same.
fn origins(state: &AdminState) -> Check {
    let away: Vec<String> = state
        .metrics
        .upstreams()
        .filter(|figures| figures.state() != UpstreamState::Up)
        .map(|figures| format!("{} of {} is {}", figures.upstream, figures.site, figures.state().as_str()))
        .collect();
    let detail = if away.is_empty() { "all get requests".to_owned() } else { away.join("; ") };
    Check { name: "origins", fine: away.is_empty(), required: false, detail }
}

/// Sites that are served as if there were no Optgate. Never red: somebody wanted it so.
fn kill_switches(state: &AdminState) -> Check {
    let engaged: Vec<String> =
        state.switches.list().into_iter().filter(|(_, engaged)| *engaged).map(|(site, _)| site).collect();
    let detail = match engaged.as_slice() {
        [] => "none is engaged".to_owned(),
        sites => {
            format!("engaged for {}: nothing is enforced there, and opt-outs are not taken", sites.join(", "))
        }
    };
    Check { name: "kill switch", fine: engaged.is_empty(), required: false, detail }
}

/// Failed checks are always named, the others with `?verbose`.
fn report(checks: &[Check], ready: bool, verbose: bool) -> String {
    let mut text = String::new();
    for check in checks.iter().filter(|c| verbose || (!ready && !c.fine)) {
        let mark = match (check.fine, check.required) {
            (true, _) => '+',
            (false, true) => '-',
            (false, false) => '!',
        };
        text.push_str(&format!("[{mark}] {}: {}\n", check.name, check.detail));
    }
    text.push_str(if ready { "ok\n" } else { "not ready\n" });
    text
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fine: bool, required: bool) -> Check {
        Check { name: "journal", fine, required, detail: "detail".to_owned() }
    }

    /// The journal shows in `?verbose` even where it does not turn the answer red.
    #[test]
    fn a_failed_optional_check_is_shown_only_when_asked() {
        let checks = [check(false, false)];
        assert_eq!(report(&checks, true, false), "ok\n");
        assert_eq!(report(&checks, true, true), "[!] journal: detail\nok\n");
    }

    #[test]
    fn a_failed_required_check_is_always_named() {
        let checks = [check(false, true), check(true, true)];
        assert_eq!(report(&checks, false, false), "[-] journal: detail\nnot ready\n");
    }
}
