//! Step 10: what became of a signal, counted; a state change, recorded.
//!
//! An HTML response with a signal has exactly one outcome: `enforced`, `refused`, `passed` or `observed`.

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::config::VendorAction;
use crate::edge::exchange::Exchange;
use crate::edge::house::{Core, House, Site};
use crate::enforce::html::Summary;
use crate::enforce::html::body::{Done, OnDone};
use crate::enforce::html::plan::{BodyPlan, PassReason};
use crate::enforce::request::RequestChanges;
use crate::enforce::response::ResponseChanges;
use crate::privacy::{Basis, Decision, Mode, OwnCookie, Standing, Subject, signal};
use crate::store::recipients::Request;
use crate::store::{Change, Kind, Source, ThirdParty, time};
use crate::telemetry::events;
use crate::telemetry::metrics::{CookieSide, LinkOutcome, Outcome, VendorsMetrics};

/// Counts a decision on an HTML response.
fn count(site: &Site, decision: Decision, outcome: Outcome) {
    if let Some(basis) = decision.basis {
        site.metrics.signal(basis, outcome);
    }
}

/// Counts signals that were sent and cannot be read: they are as absent (W3C GPC, "The Sec-GPC Header
/// Field").
///
/// Cost: one header look-up, unless the signal was read.
pub fn unreadable(core: &Core, x: &Exchange, headers: &HeaderMap) {
    let sec_gpc = !x.signals.gpc && signal::sec_gpc_is_malformed(headers);
    let unread = u64::from(sec_gpc) + u64::from(x.signals.own == OwnCookie::Unusable);
    if unread > 0 {
        core.house.metrics.malformed_signals.inc_by(unread);
    }
}

/// An opted-out visitor's page could not be rewritten and was not sent.
pub fn refused(core: &Core, x: &Exchange, reason: &'static str) {
    events::page_not_rewritten(&core.house.metrics, reason);
    count(x.site(), x.decision, Outcome::Refused);
}

/// What is counted at the end of a rewritten body.
#[must_use]
pub fn when_done(core: &Rc<Core>, x: &Exchange) -> OnDone {
    let house = Arc::clone(&core.house);
    let (site, decision, vendors) = (Arc::clone(x.site()), x.decision, Arc::clone(&x.snapshot.vendors));
    let id = x.id.clone();
    Box::new(move |done| {
        let metrics = &house.metrics;
        let outcome = match done {
            Done::Finished(summary) => {
                count_summary(&site, &vendors, &summary);
                house.siblings.note(&site.name, &summary.siblings);
                note_strangers(&house, &site, &summary.strangers);
                Outcome::Enforced
            }
            // What was sent was rewritten; the visitor wanted no more of it.
            Done::Aborted => Outcome::Enforced,
            Done::NotHtml => return,
            Done::Failed { reason, passed } => {
                let id = id.as_str();
                if decision.opted_out() {
                    events::rewrite_failed(metrics, &site.settings.name, id, reason, passed);
                } else {
                    events::page_not_rewritten(metrics, reason);
                }
                if passed { Outcome::Passed } else { Outcome::Refused }
            }
        };
        count(&site, decision, outcome);
    })
}

/// Third parties that nobody knows, and references to which a page lost: each is told of once by a process.
///
/// Cost: nothing where there are none; else one look-up each.
fn note_strangers(house: &House, site: &Site, hosts: &[String]) {
    for host in hosts.iter().filter(|host| house.strangers.add(&site.name, host)) {
        house.store.third_parties().note(&site.name, host, ThirdParty::MARKUP, jiff::Timestamp::now());
    }
}

/// What is counted at the end of a page that was only observed.
#[must_use]
pub fn when_observed(x: &Exchange) -> OnDone {
    let (site, vendors) = (Arc::clone(x.site()), Arc::clone(&x.snapshot.vendors));
    Box::new(move |done| {
        if let Done::Finished(summary) = done {
            for (vendor, action, times) in &summary.vendors {
                vendors.observed(vendor.0, *action, u64::from(*times));
                sighted(&site, vendor.0, *action);
            }
        }
    })
}

/// What an opted-out visitor's page lost, everybody else's page loaded (11 CCR 7026(f)(2)).
fn sighted(site: &Site, vendor: u16, action: VendorAction) {
    if action != VendorAction::Allow {
        site.sightings.note(vendor);
    }
}

fn count_summary(site: &Site, vendors: &VendorsMetrics, summary: &Summary) {
    for (vendor, action, times) in &summary.vendors {
        vendors.neutralised(vendor.0, *action, u64::from(*times));
        sighted(site, vendor.0, *action);
    }
    let site = &site.metrics;
    if !summary.document {
        return;
    }
    match (summary.link_inserted, summary.link_adopted) {
        (true, _) => site.link(LinkOutcome::Inserted),
        (_, true) => site.link(LinkOutcome::Adopted),
        _ => site.link(LinkOutcome::Unplaced),
    }
    if summary.link_duplicate {
        site.link(LinkOutcome::Duplicate);
    }
}

/// Counts HTML that was passed as it came.
pub fn passed(core: &Core, x: &Exchange, plan: &BodyPlan, headers: &HeaderMap) {
    let BodyPlan::Pass(reason) = plan else { return };
    if *reason == PassReason::Observe {
        let html = headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"text/html"));
        if html {
            count(x.site(), x.decision, Outcome::Observed);
        }
        return;
    }
    if let Some(label) = reason.label() {
        events::page_not_rewritten(&core.house.metrics, label);
        count(x.site(), x.decision, Outcome::Passed);
    }
}

/// Counts what the heads lost.
pub fn head_changed(core: &Core, asked: &RequestChanges, changes: &ResponseChanges) {
    let metrics = &core.house.metrics;
    let counted = [
        (CookieSide::Request, asked.tracker_cookies.len() as u64),
        (CookieSide::Response, changes.cookies_removed.into()),
        (CookieSide::Expired, changes.cookies_expired.into()),
    ];
    for (side, number) in counted {
        if number > 0 {
            metrics.cookies(side, number);
        }
    }
    if changes.own_cookie_resigned {
        metrics.resigned_cookies.inc();
    }
}

/// Hands the state changes to the store, which never makes a request wait: each level that the request names and that
/// is not known as opted out, as a record of its own; and once more what is honoured and could not be handed over before,
/// whatever this request says.
///
/// A browser's opt-out by signal is new when it does not carry our cookie yet. It has a record of its own where nobody
/// is named; else the records of those who are stand for it. Consent platforms' cookies count only while they are
/// present, so they make no record. `document`: the answer is one that sets our cookie.
pub fn record(core: &Core, x: &Exchange, document: bool) {
    let known = matches!(x.signals.own, OwnCookie::Out(month) if month != OwnCookie::ANEW);
    let said = match x.signals.own {
        _ if x.mode != Mode::Enforce => return,
        _ if x.signals.gpc => Some(Source::Gpc),
        // The manner of the request (11 CCR 7101(b)): nobody sent a form now.
        OwnCookie::Out(_) => Some(Source::Carried),
        _ => None,
    };
    if x.named.is_nobody() && said == Some(Source::Gpc) && document && !known {
        record_one(core, x, Source::Gpc, None, time::now_us());
    }
    let levels = [(x.named.account, x.signals.account), (x.named.profile, x.signals.profile)];
    for (subject, standing) in levels {
        let Some(subject) = subject else { continue };
        let (source, new) = match standing {
            Standing::Unknown => (said, true),
            // An older cookie holds for its own browser; it does not take a later explicit choice back.
            Standing::OptedIn => (said.filter(|source| *source == Source::Gpc), true),
            _ => (core.house.store.dropped(&subject), false),
        };
        let Some(source) = source else { continue };
        let time_us = time::now_us();
        // Of what could not be handed over they were told when it came.
        if new && Some(subject) == x.named.account {
            tell_recipients(core, x, subject, time_us);
        }
        record_one(core, x, source, Some(subject), time_us);
    }
}

/// Has those told who get the account's data whatever its pages do (11 CCR 7026(f)(2)).
fn tell_recipients(core: &Core, x: &Exchange, subject: Subject, time_us: i64) {
    if x.snapshot.settings.tells_of_signals() {
        core.house.store.recipients().note(Request {
            subject,
            site: x.site().settings.name.clone(),
            requested_us: time_us,
            who: x.account_key.clone(),
        });
    }
}

fn record_one(core: &Core, x: &Exchange, source: Source, subject: Option<Subject>, time_us: i64) {
    let basis = match source {
        Source::Gpc => Basis::Gpc,
        Source::Import => Basis::Import,
        Source::Carried | Source::Form => Basis::Cookie,
    };
    let change = Change {
        time_us,
        site: x.site().settings.name.clone(),
        kind: Kind::OptOut,
        source,
        basis: Some(basis),
        policy: x.site().version.to_string(),
        subject,
    };
    let of_profile = subject.is_some() && subject == x.named.profile && subject != x.named.account;
    match of_profile {
        true => core.house.store.record_behind_of_profile(change),
        false => core.house.store.record_behind(change),
    }
}
