//! `PREFIX/receipt/{reference}`: what was recorded, for the person who holds the reference; and `PREFIX/receipt`,
//! where a reference is typed and its record held against what was signed.
//!
//! A record names nobody, so the reference opens nothing private.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use http::{Response, StatusCode};
use serde::Deserialize;

use super::{Pages, Shared, Visit, VisitOf, pages, scope};
use crate::privacy::Basis;
use crate::store::{DENIED, Denial, Held, Kind, RecordError, RecordView};

/// Longest reference worth looking up.
const MAX_REFERENCE: usize = 64;

pub(super) async fn page(
    State(portal): Shared,
    Extension(visit): VisitOf,
    Path(reference): Path<String>,
) -> Response<Body> {
    let found = if plausible(&reference) { portal.store.find(&reference).await } else { Ok(None) };
    let record = match found {
        // Another site's records are nobody's business here.
        Ok(Some(record)) if is_here(&record.site, &visit) => record,
        Ok(_) => return none(&portal),
        Err(error) => return unreadable(&portal, &error),
    };
    if record.kind == DENIED {
        return denied(&portal, &record);
    }
    let kind = Kind::parse(&record.kind);
    let page = pages::Receipt {
        frame: portal.frame("Your receipt"),
        lines: vec!["We have this choice on record."],
        honored: kind != Some(Kind::OptIn),
        except: (kind == Some(Kind::Programme)).then(|| {
            visit.site.programme.as_ref().map_or("the programme", |programme| programme.name.as_str())
        }),
        choice: choice(kind),
        reference: Some(&record.reference),
        time: pages::Time::of(record.time_us),
        scope: match kind {
            // The browser keeps none.
            Some(Kind::Programme) => super::programme::SCOPE,
            _ if record.basis == Basis::Profile.as_str() => scope(false, true),
            _ => scope(record.account, false),
        },
        // By the name that the person knows it by.
        site: if record.site == visit.site.name { &visit.host } else { &record.site },
        again: false,
        clear: None,
    };
    pages::html(StatusCode::OK, &page)
}

/// What was typed.
#[derive(Debug, Deserialize)]
pub(super) struct Typed {
    #[serde(default)]
    reference: String,
}

/// `GET PREFIX/receipt`: the field, and what became of what was typed there.
pub(super) async fn check(
    State(portal): Shared,
    Extension(visit): VisitOf,
    Query(Typed { reference }): Query<Typed>,
) -> Response<Body> {
    let reference = reference.trim();
    let checked = match reference {
        "" => None,
        typed if plausible(typed) => match portal.store.check(typed).await {
            Ok(Some((record, held))) if is_here(&record.site, &visit) => Some((record, held)),
            Ok(_) => return none(&portal),
            Err(error) => return unreadable(&portal, &error),
        },
        _ => return none(&portal),
    };
    let page = pages::Check {
        frame: portal.frame("Check a receipt"),
        found: checked.as_ref().map(|(record, held)| pages::Checked {
            choice: choice(Kind::read(&record.kind, &record.basis)),
            reference: &record.reference,
            time: pages::Time::of(record.time_us),
            signed: *held == Held::Signed,
            elsewhere: *held == Held::Elsewhere,
        }),
    };
    pages::html(StatusCode::OK, &page)
}

/// Whether what is on record there is of this site: by its name, or by one under which its accounts are looked up (those it
/// had, and in a group those of the group's other sites).
fn is_here(site: &str, visit: &Visit) -> bool {
    visit.site.name == site || visit.site.formerly.iter().any(|former| former == site)
}

const fn choice(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::OptIn) => super::choices::IN,
        Some(Kind::Programme) => super::choices::KEEP,
        Some(Kind::Denied(_)) => super::choices::DENIED,
        Some(Kind::OptOut) | None => super::choices::OUT,
    }
}

/// A request in somebody's name that was not carried out.
fn denied(portal: &Pages, record: &RecordView) -> Response<Body> {
    let why = match Denial::parse(&record.basis) {
        Some(Denial::OptedIn) => "It was not carried out, for you had opted back in after it was made.",
        Some(Denial::Fraud) => {
            "It was not carried out, for we have good reason to think that it was not you who made it."
        }
        Some(Denial::NoPermission) => {
            "It was not carried out, for it came without a permission that you signed."
        }
        None => "It was not carried out.",
    };
    let lines = [
        "We have it on record that a request to opt out of the sale and sharing of personal information reached us.",
        why,
        "You can opt out here at any time, and it takes effect at once.",
    ];
    portal.message(StatusCode::OK, "A request that was not carried out", &lines)
}

fn plausible(reference: &str) -> bool {
    let digit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b' ');
    !reference.is_empty() && reference.len() <= MAX_REFERENCE && reference.bytes().all(digit)
}

fn none(portal: &Pages) -> Response<Body> {
    let lines = [
        "We have no record with this reference.",
        "Please check that you typed all of it. Your choice itself does not depend on it.",
    ];
    portal.message(StatusCode::NOT_FOUND, "No such receipt", &lines)
}

fn unreadable(portal: &Pages, error: &RecordError) -> Response<Body> {
    tracing::error!(%error, "a receipt could not be read");
    let lines = [
        "We could not read our records just now. Please try again in a few minutes.",
        "Your choice itself stays in force.",
    ];
    portal.message(StatusCode::SERVICE_UNAVAILABLE, "Please try again", &lines)
}
