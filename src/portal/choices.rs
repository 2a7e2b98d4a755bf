//! The choices page, opting out (one act) and opting back in (two acts, 11 CCR 7028).
//!
//! Opting out asks for nothing and is never refused: whatever the journal says, the cookie is set.
//! Opting back in needs a same-site form, and a token from the first step ([`two_acts`]).

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use http::header::{CONTENT_TYPE, HeaderName, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::record::{record_in, record_out};
use super::two_acts::{self, Act, Confirmation};
use super::{Asked, CONFIRM_OPT_IN, Pages, Shared, Visit, VisitOf, origin, pages, programme};
use crate::config::LinkTitle;
use crate::enforce::cookies::{expire_other_forms, own_line};
use crate::privacy::{Named, OwnCookie, Standing, cookie};
use crate::store::{Receipt, RecordError, time};

pub(super) const OUT: &str = "Opt out of the sale and sharing of personal information";
pub(super) const DENIED: &str = "A request to opt out that was not carried out";
pub(super) const KEEP: &str = "Keep a programme in spite of the opt-out";
pub(super) const IN: &str = "Opt back in to the sale and sharing of personal information";

/// `GET PREFIX`.
pub(super) async fn page(State(portal): Shared, Extension(visit): VisitOf) -> Response<Body> {
    let opted_out = visit.decision.opted_out();
    let kept =
        |standing| matches!(standing, Standing::OptedOut | Standing::OptedOutByImport | Standing::Programme);
    let saved = matches!(visit.signals.own, OwnCookie::Out(_))
        && (visit.named.account.is_none() || kept(visit.signals.account))
        && (visit.named.profile.is_none() || kept(visit.signals.profile));
    let mut frame = portal.frame(portal.link.words());
    frame.icon = portal.link == LinkTitle::PrivacyChoices;
    frame.home = false;
    let page = pages::Choices {
        frame,
        state: pages::State {
            opted_out,
            grounds: grounds(&visit),
            conflict: conflict(&portal, &visit),
            except: programme::kept(&visit),
        },
        offer_out: !saved,
        signal_kept: signal_kept(&visit),
        offer_in: opted_out,
        programme: programme::shown(&visit),
        limit_url: portal.limit_url.as_deref(),
        scope: visit.scope(),
    };
    pages::html(StatusCode::OK, &page)
}

/// Whether the signal of this very request is kept at each level that it names: the answer sets the cookie, and step 10
/// records the rest, but for levels of which nobody can say yet how they stand.
fn signal_kept(visit: &Visit) -> bool {
    let levels = [visit.signals.account, visit.signals.profile];
    visit.signals.gpc && !levels.contains(&Standing::NotLoaded)
}

/// Whether somebody is logged in of whom nobody can say who it is: a choice made now is not the account's.
fn account_unread(visit: &Visit) -> bool {
    visit.named.account.is_none() && visit.signals.account == Standing::NotLoaded
}

/// An earlier opt-in that a signal has overruled (11 CCR 7025(c)(3)).
fn conflict(portal: &Pages, visit: &Visit) -> Option<&'static str> {
    let signals = visit.signals;
    let overruled =
        |standing| standing == Standing::Overruled || standing == Standing::OptedIn && signals.gpc;
    // Where a programme stands, the look-up says that.
    let beside = || {
        let programme = signals.account == Standing::Programme;
        programme && visit.named.account.is_some_and(|account| portal.store.is_overruled(&account))
    };
    if overruled(signals.account) || beside() {
        return Some(
            "You had opted your account back in, and after that your browser sent Global Privacy Control.",
        );
    }
    let here = overruled(signals.profile) || signals.gpc && matches!(signals.own, OwnCookie::In(_));
    here.then_some("You had opted back in on this browser, and now it sends Global Privacy Control.")
}

/// Every ground that holds, strongest first, each a whole sentence.
fn grounds(visit: &Visit) -> Vec<&'static str> {
    let signals = visit.signals;
    let mut grounds = Vec::new();
    if signals.gpc {
        grounds.push("Your browser sends Global Privacy Control.");
    }
    match signals.account {
        Standing::OptedOut | Standing::OptedOutByImport | Standing::Overruled | Standing::Programme => {
            grounds.push("Your account is opted out.");
        }
        Standing::NotLoaded => {
            grounds.push("We cannot read the choice of your account just now, so we treat you as opted out.")
        }
        Standing::NoAccount | Standing::Unknown | Standing::OptedIn => {}
    }
    if signals.profile.is_out() {
        grounds.push("The profile that this site keeps of your browser is opted out.");
    }
    let opted_in = matches!(signals.own, OwnCookie::In(_));
    if matches!(signals.own, OwnCookie::Out(_)) {
        grounds.push("You opted out on this browser.");
    } else if signals.foreign && !opted_in {
        grounds.push("A consent tool on this site says that you opted out.");
    }
    if grounds.is_empty() {
        grounds.push(if opted_in {
            "You opted back in on this browser."
        } else {
            "You have not opted out on this browser."
        });
    }
    grounds
}

/// `POST PREFIX/opt-out`. The body is not read, so nothing in it can be wrong.
pub(super) async fn opt_out(
    State(portal): Shared,
    Extension(visit): VisitOf,
    headers: HeaderMap,
) -> Response<Body> {
    let time_us = time::now_us();
    let recorded = record_out(&portal, &visit, time_us).await;
    let mut response = if wants_json(&headers) {
        json(out_status(&recorded), &recorded, account_unread(&visit))
    } else {
        opted_out(&portal, &visit, &recorded, time_us)
    };
    let value = cookie::value_out(visit.month, portal.store.keys());
    if let Some(line) = own_line(&value, visit.secure, visit.site.cookie_domain(&visit.host)) {
        response.headers_mut().append(SET_COOKIE, line);
    }
    // A question that was asked before is ended: its token confirms nothing any more.
    let programme = visit.site.programme.as_ref().map(|_| Act::Programme);
    for act in [Act::OptIn].into_iter().chain(programme) {
        two_acts::served(response.headers_mut(), &portal, act, visit.secure);
    }
    // Pages kept from before the opt-out would still load trackers.
    response
        .headers_mut()
        .insert(HeaderName::from_static("clear-site-data"), HeaderValue::from_static("\"cache\""));
    portal.metrics.choices.inc();
    response
}

/// A missing record is told apart from a flood: only the first is worth trying again.
const fn out_status(recorded: &Result<Receipt, RecordError>) -> StatusCode {
    match recorded {
        Ok(_) | Err(RecordError::Flood) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn opted_out(
    portal: &Pages,
    visit: &Visit,
    recorded: &Result<Receipt, RecordError>,
    time_us: i64,
) -> Response<Body> {
    const UNREAD: &str = "We cannot read your account just now, so your opt-out is not saved for your account yet. \
                          Please try again in a few minutes.";
    const IN_FORCE: &str = "Your opt-out is in force on this browser from now on.";
    let (heading, scope, mut lines) = match recorded {
        Ok(_) => {
            ("You are opted out", visit.scope(), vec!["Your opt-out is saved and in force from now on."])
        }
        Err(RecordError::Flood) => (
            "You are opted out",
            super::scope(false, false),
            vec![IN_FORCE, "We get very many requests just now, so there is no reference this time."],
        ),
        Err(_) => (
            "You are opted out on this browser",
            super::scope(false, false),
            vec![
                IN_FORCE,
                match visit.named {
                    Named::NOBODY => "But the record of it could not be saved.",
                    _ => "But the account-wide record could not be saved.",
                },
                "Please try again in a few minutes.",
            ],
        ),
    };
    let unread = account_unread(visit);
    if unread {
        lines.push(UNREAD);
    }
    let receipt = recorded.as_ref().ok();
    let nonce = portal.clear_old_copies.then(two_acts::nonce).flatten();
    let status = out_status(recorded);
    let page = pages::Receipt {
        frame: portal.frame(heading),
        lines,
        honored: true,
        // An opt-out of the account's own ends it, once it is on record.
        except: programme::kept(visit).filter(|_| recorded.is_err()),
        choice: OUT,
        reference: receipt.map(|r| r.reference.as_str()),
        time: pages::Time::of(receipt.map_or(time_us, |r| r.time_us)),
        scope,
        site: &visit.host,
        again: unread || status != StatusCode::OK,
        clear: nonce.clone(),
    };
    let mut response = pages::html(status, &page);
    if let Some(nonce) = nonce {
        super::admit_script(response.headers_mut(), &nonce);
    }
    response
}

/// `POST PREFIX/opt-in`: asks, and changes nothing.
pub(super) async fn ask_opt_in(
    State(portal): Shared,
    Extension(visit): VisitOf,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
) -> Response<Body> {
    portal.metrics.choices.inc();
    if origin::is_cross_site(&asked.0, &headers) {
        return foreign_form(&portal, &headers);
    }
    let Some(token) = visit.question(&portal, Act::OptIn).token() else {
        return not_saved(&portal, &headers);
    };
    let mut response = if wants_json(&headers) {
        json_value(
            StatusCode::OK,
            &serde_json::json!({ "confirm": format!("{}{CONFIRM_OPT_IN}", portal.prefix), "token": token }),
        )
    } else {
        let frame = portal.frame("Opt back in: please confirm");
        let page = pages::Confirm { frame, gpc: visit.signals.gpc, token: &token, scope: visit.scope() };
        pages::html(StatusCode::OK, &page)
    };
    two_acts::asked(response.headers_mut(), &portal, Act::OptIn, &token, visit.secure);
    response
}

/// `POST PREFIX/opt-in/confirm`. Only a recorded opt-in counts: without its record nothing changes.
pub(super) async fn confirm_opt_in(
    State(portal): Shared,
    Extension(visit): VisitOf,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    form: Result<axum::Form<Confirmation>, FormRejection>,
) -> Response<Body> {
    portal.metrics.choices.inc();
    if origin::is_cross_site(&asked.0, &headers) {
        return foreign_form(&portal, &headers);
    }
    let form = match form {
        Ok(axum::Form(form)) => form,
        Err(refused) => {
            let lines = [
                "Your confirmation did not arrive whole. Nothing has changed.",
                "To opt back in, start again on the choices page.",
            ];
            return refusal(&portal, &headers, refused.status(), "Nothing has changed", lines);
        }
    };
    let Some(asked) = form.asked(&headers, visit.question(&portal, Act::OptIn)) else {
        return not_confirmed(&portal, &headers);
    };
    let recorded = record_in(&portal, &visit, asked, time::now_us()).await;
    let mut response = match &recorded {
        Ok(receipt) if wants_json(&headers) => {
            json_value(StatusCode::OK, &serde_json::json!({ "reference": receipt.reference }))
        }
        Ok(receipt) => opted_in(&portal, &visit, receipt),
        Err(RecordError::OptedOut) => return not_confirmed(&portal, &headers),
        Err(RecordError::TooLong) if !visit.named.is_nobody() => return not_yet_saved(&portal, &headers),
        Err(_) => return not_saved(&portal, &headers),
    };
    let domain = visit.site.cookie_domain(&visit.host);
    // First, for to some browsers the two forms on a domain's own host are one cookie (RFC 6265, 5.3, step 11).
    expire_other_forms(response.headers_mut(), &visit.host, domain, visit.secure);
    let value = cookie::value_in(visit.month, portal.store.keys());
    if let Some(line) = own_line(&value, visit.secure, domain) {
        response.headers_mut().append(SET_COOKIE, line);
    }
    two_acts::served(response.headers_mut(), &portal, Act::OptIn, visit.secure);
    response
}

fn opted_in(portal: &Pages, visit: &Visit, receipt: &Receipt) -> Response<Body> {
    let mut lines = vec!["Your choice to opt back in is saved."];
    if visit.signals.gpc {
        lines.push(
            "Your browser still sends Global Privacy Control, and that signal stays in force. As long as your \
             browser sends it, you stay opted out.",
        );
    }
    let page = pages::Receipt {
        frame: portal.frame("You opted back in"),
        lines,
        honored: visit.signals.gpc,
        except: None,
        choice: IN,
        reference: Some(&receipt.reference),
        time: pages::Time::of(receipt.time_us),
        scope: visit.scope(),
        site: &visit.host,
        again: false,
        clear: None,
    };
    pages::html(StatusCode::OK, &page)
}

fn not_confirmed(portal: &Pages, headers: &HeaderMap) -> Response<Body> {
    let lines = [two_acts::NOT_CONFIRMED, "To opt back in, start again on the choices page."];
    refusal(portal, headers, StatusCode::FORBIDDEN, "Nothing has changed", lines)
}

fn foreign_form(portal: &Pages, headers: &HeaderMap) -> Response<Body> {
    let lines = [
        "Opting back in works only from this site's own page. Nothing has changed.",
        "To opt back in, use the button on the choices page.",
    ];
    refusal(portal, headers, StatusCode::FORBIDDEN, "Nothing has changed", lines)
}

/// Of several levels one may be on record before another cannot be: so this says of the browser alone what it knows.
fn not_saved(portal: &Pages, headers: &HeaderMap) -> Response<Body> {
    let lines = [
        "We could not save your choice to opt back in, or not all of it. You are still opted out on this browser.",
        "Please try again in a few minutes.",
    ];
    refusal(portal, headers, StatusCode::SERVICE_UNAVAILABLE, "You are still opted out", lines)
}

/// What was handed over is recorded when the disk answers, and holds for whom it names from then on.
fn not_yet_saved(portal: &Pages, headers: &HeaderMap) -> Response<Body> {
    let lines = [
        "Saving your choice to opt back in takes too long just now. You are still opted out on this browser. For your \
         account, or your profile on this site, it may still be saved: look at the choices page again in a few minutes.",
        "If you do not want to opt back in any more, use the opt-out button.",
    ];
    refusal(portal, headers, StatusCode::SERVICE_UNAVAILABLE, "Your choice is not saved yet", lines)
}

/// Why nobody is opted back in, as a page or for a program.
fn refusal(
    portal: &Pages,
    headers: &HeaderMap,
    status: StatusCode,
    heading: &'static str,
    lines: [&'static str; 2],
) -> Response<Body> {
    match wants_json(headers) {
        true => json_value(status, &serde_json::json!({ "error": lines.join(" ") })),
        false => portal.message(status, heading, &lines),
    }
}

/// Whether the client asks for JSON and not for a page.
fn wants_json(headers: &HeaderMap) -> bool {
    let accepts = |kind: &str| {
        headers.get_all(http::header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).any(|field| {
            field
                .split(',')
                .filter_map(|range| range.split(';').next())
                .any(|range| range.trim().eq_ignore_ascii_case(kind))
        })
    };
    accepts("application/json") && !accepts("text/html")
}

fn json(status: StatusCode, recorded: &Result<Receipt, RecordError>, account_unread: bool) -> Response<Body> {
    let mut body = match recorded {
        Ok(receipt) => serde_json::json!({ "reference": receipt.reference }),
        Err(RecordError::Flood) => serde_json::json!({ "reference": null }),
        Err(_) => serde_json::json!({
            "reference": null,
            "error": "the opt-out is in force on this browser, but its record could not be saved: try again",
        }),
    };
    if account_unread {
        body["warning"] = "the account cannot be read just now, so it is not opted out yet: try again".into();
    }
    json_value(status, &body)
}

fn json_value(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    /// JSON only for those who ask for it; browsers get the page.
    #[test]
    fn json_is_for_those_who_ask_for_nothing_else() {
        assert!(wants_json(&with("accept", "application/json")));
        assert!(wants_json(&with("accept", "application/json;q=1, */*;q=0.1")));
        assert!(!wants_json(&with("accept", "text/html, application/json")));
        assert!(!wants_json(&with("accept", "*/*")));
        assert!(!wants_json(&HeaderMap::new()));
    }

    /// The cookie: 400 days, server-set, `Secure` only under https.
    #[test]
    fn the_choice_cookie_has_the_designs_attributes() {
        assert_eq!(
            own_line("v", true, None).unwrap(),
            "optgate=v; Path=/; Max-Age=34560000; SameSite=Lax; HttpOnly; Secure"
        );
        assert!(!own_line("v", false, None).unwrap().to_str().unwrap().contains("Secure"));
    }
}
