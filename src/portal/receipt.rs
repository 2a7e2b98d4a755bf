//! `PREFIX/receipt/{reference}`: what was recorded, for the person who holds the reference.
//!
//! A record names nobody, so the reference opens nothing private.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use http::{Response, StatusCode};

use super::{Shared, VisitOf, pages, scope};
use crate::privacy::Basis;
use crate::store::Kind;

/// Longest reference worth looking up.
const MAX_REFERENCE: usize = 64;

pub(super) async fn page(
    State(portal): Shared,
    Extension(visit): VisitOf,
    Path(reference): Path<String>,
) -> Response<Body> {
    let plausible = !reference.is_empty()
        && reference.len() <= MAX_REFERENCE
        && reference.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let found = if plausible { portal.store.find(&reference).await } else { Ok(None) };
    let record = match found {
        // Another site's records are nobody's business here.
        Ok(Some(record)) if record.site == visit.site.name => record,
        Ok(_) => {
            let lines = [
                "We have no record with this reference.",
                "Please check that you typed all of it. Your choice itself does not depend on it.",
            ];
            return portal.message(StatusCode::NOT_FOUND, "No such receipt", &lines);
        }
        Err(error) => {
            tracing::error!(%error, "a receipt could not be read");
            let lines = [
                "We could not read our records just now. Please try again in a few minutes.",
                "Your choice itself stays in force.",
            ];
            return portal.message(StatusCode::SERVICE_UNAVAILABLE, "Please try again", &lines);
        }
    };
    let kind = Kind::parse(&record.kind);
    let page = pages::Receipt {
        frame: portal.frame("Your receipt"),
        lines: vec!["We have this choice on record."],
        honored: kind != Some(Kind::OptIn),
        choice: match kind {
            Some(Kind::OptIn) => super::choices::IN,
            Some(Kind::Programme) => super::choices::KEEP,
            Some(Kind::OptOut) | None => super::choices::OUT,
        },
        reference: Some(&record.reference),
        time: pages::Time::of(record.time_us),
        scope: match record.basis == Basis::Profile.as_str() {
            true => scope(false, true),
            false => scope(record.account, false),
        },
        site: &record.site,
        again: false,
        clear: None,
    };
    pages::html(StatusCode::OK, &page)
}
