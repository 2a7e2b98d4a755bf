//! Keeping a financial incentive programme in spite of an opt-out (11 CCR 7025(c)(4)): for an account, in two acts, on
//! record. Without that record a signal is processed fully; the account's own opt-out ends it.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use http::{HeaderMap, Response, StatusCode};

use super::two_acts::{self, Act, Confirmation};
use super::{Asked, Pages, Shared, Visit, VisitOf, choices, origin, pages, record};
use crate::config::Programme;
use crate::privacy::Standing;
use crate::store::{RecordError, time};

/// Whom keeping it covers, as the pages say it.
pub(super) const SCOPE: &str = "your account";

/// What the choices page says of the programme: to an account that is opted out, and to nobody else.
pub(super) fn shown(visit: &Visit) -> Option<pages::Programme<'_>> {
    let programme = open_to(visit)?;
    Some(pages::Programme {
        name: &programme.name,
        text: programme.text.as_deref(),
        url: programme.url.as_deref(),
        vendors: companies(visit, programme),
        kept: kept(visit).is_some(),
    })
}

/// The programme that this visit's account keeps: to its vendors the opt-out does not apply.
pub(super) fn kept(visit: &Visit) -> Option<&str> {
    let keeps = visit.signals.account == Standing::Programme;
    visit.site.programme.as_ref().filter(|_| keeps).map(|programme| programme.name.as_str())
}

/// To whom it sells or shares, each company once, by its name.
fn companies(visit: &Visit, programme: &Programme) -> String {
    let registry = visit.policy.registry();
    let mut names: Vec<&str> = Vec::new();
    for id in &programme.vendors {
        let name = registry.lookup_id(id).map_or(id.as_str(), |at| registry.vendor(at).vendor.as_str());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// The site's programme, where this visit may keep it.
fn open_to(visit: &Visit) -> Option<&Programme> {
    // Opted out by this browser's cookie alone, the account has no opt-out that a programme could be kept in spite of; a
    // signal opts it out with this request.
    let out = visit.signals.account.is_out() || visit.signals.gpc;
    let known = visit.named.account.is_some() && out && visit.decision.opted_out();
    visit.site.programme.as_ref().filter(|_| known)
}

/// `POST PREFIX/programme`: asks, and changes nothing.
pub(super) async fn ask(
    State(portal): Shared,
    Extension(visit): VisitOf,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
) -> Response<Body> {
    portal.metrics.choices.inc();
    let Some(shown) = shown(&visit) else { return not_for_you(&portal) };
    if origin::is_cross_site(&asked.0, &headers) {
        return foreign_form(&portal);
    }
    let Some(token) = visit.question(&portal, Act::Programme).token() else { return not_saved(&portal) };
    let page =
        pages::KeepProgramme { frame: portal.frame("Please confirm"), programme: shown, token: &token };
    let mut response = pages::html(StatusCode::OK, &page);
    two_acts::asked(response.headers_mut(), &portal, Act::Programme, &token, visit.secure);
    response
}

/// `POST PREFIX/programme/confirm`. Only what is recorded counts.
pub(super) async fn confirm(
    State(portal): Shared,
    Extension(visit): VisitOf,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    form: Result<axum::Form<Confirmation>, FormRejection>,
) -> Response<Body> {
    portal.metrics.choices.inc();
    if open_to(&visit).is_none() {
        return not_for_you(&portal);
    }
    if origin::is_cross_site(&asked.0, &headers) {
        return foreign_form(&portal);
    }
    let question = visit.question(&portal, Act::Programme);
    let Some(asked) = form.ok().and_then(|axum::Form(form)| form.asked(&headers, question)) else {
        return not_confirmed(&portal);
    };
    let recorded = record::record_programme(&portal, &visit, asked, time::now_us()).await;
    let receipt = match recorded {
        Ok(receipt) => receipt,
        Err(RecordError::OptedOut) => return not_confirmed(&portal),
        Err(RecordError::TooLong) => return not_yet_saved(&portal),
        Err(_) => return not_saved(&portal),
    };
    let page = pages::Receipt {
        frame: portal.frame("You keep the programme"),
        lines: vec![
            "Your choice is saved, for your account. What the programme does not need stays opted out.",
            "To leave it, use the opt-out button on the choices page.",
        ],
        honored: true,
        except: visit.site.programme.as_ref().map(|programme| programme.name.as_str()),
        choice: choices::KEEP,
        reference: Some(&receipt.reference),
        time: pages::Time::of(receipt.time_us),
        scope: SCOPE,
        site: &visit.host,
        again: false,
        clear: None,
    };
    let mut response = pages::html(StatusCode::OK, &page);
    two_acts::served(response.headers_mut(), &portal, Act::Programme, visit.secure);
    response
}

fn not_confirmed(portal: &Pages) -> Response<Body> {
    let lines = [two_acts::NOT_CONFIRMED, "To keep the programme, start again on the choices page."];
    portal.message(StatusCode::FORBIDDEN, "Nothing has changed", &lines)
}

fn not_for_you(portal: &Pages) -> Response<Body> {
    let lines = [
        "This choice is for people who are logged in and opted out, on a site with such a programme.",
        "Nothing has changed.",
    ];
    portal.message(StatusCode::FORBIDDEN, "Nothing has changed", &lines)
}

fn foreign_form(portal: &Pages) -> Response<Body> {
    let lines = ["This works only from this site's own page. Nothing has changed."];
    portal.message(StatusCode::FORBIDDEN, "Nothing has changed", &lines)
}

fn not_saved(portal: &Pages) -> Response<Body> {
    let lines = ["We could not save your choice. Nothing has changed.", "Please try again in a few minutes."];
    portal.message(StatusCode::SERVICE_UNAVAILABLE, "Nothing has changed", &lines)
}

/// What was handed over is recorded when the disk answers, and holds from then on.
fn not_yet_saved(portal: &Pages) -> Response<Body> {
    let lines = [
        "Saving your choice takes too long just now. It may still be saved: look at the choices page again in a few \
         minutes.",
        "If you do not want to keep the programme any more, use the opt-out button.",
    ];
    portal.message(StatusCode::SERVICE_UNAVAILABLE, "Your choice is not saved yet", &lines)
}
