//! The pages as types: askama checks every template against them when compiling.

use askama::Template;
use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use crate::store::time;

/// What every page has around its content.
pub(super) struct Frame<'a> {
    /// Portal prefix; never ends in a slash.
    pub(super) prefix: &'a str,
    /// The `<h1>` and `<title>`.
    pub(super) heading: &'a str,
    /// The opt-out icon stands before the heading.
    pub(super) icon: bool,
    /// A way back to the choices page.
    pub(super) home: bool,
}

/// What a visitor's state is, in words.
pub(super) struct State<'a> {
    pub(super) opted_out: bool,
    /// Why, strongest ground first.
    pub(super) grounds: Vec<&'static str>,
    /// An earlier choice to the contrary, which a signal has overruled.
    pub(super) conflict: Option<&'static str>,
    /// The programme that is kept in spite of the opt-out.
    pub(super) except: Option<&'a str>,
}

/// `GET PREFIX`.
#[derive(Template)]
#[template(path = "choices.html", config = "src/portal/pages/askama.toml")]
pub(super) struct Choices<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) state: State<'a>,
    pub(super) offer_out: bool,
    /// What this very request signals is kept at every level that it names.
    pub(super) signal_kept: bool,
    pub(super) offer_in: bool,
    pub(super) programme: Option<Programme<'a>>,
    /// Where the right to limit is used.
    pub(super) limit_url: Option<&'a str>,
    pub(super) scope: &'a str,
}

/// A programme that stands against an opt-out.
pub(super) struct Programme<'a> {
    pub(super) name: &'a str,
    pub(super) text: Option<&'a str>,
    pub(super) url: Option<&'a str>,
    /// Names of the companies, in a row.
    pub(super) vendors: String,
    /// The account keeps it.
    pub(super) kept: bool,
}

/// Step one of keeping a programme.
#[derive(Template)]
#[template(path = "programme.html", config = "src/portal/pages/askama.toml")]
pub(super) struct KeepProgramme<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) programme: Programme<'a>,
    pub(super) token: &'a str,
}

/// A moment for people and for machines.
pub(super) struct Time {
    /// RFC 3339.
    pub(super) machine: String,
    /// To the minute, UTC.
    pub(super) human: String,
}

impl Time {
    /// From microseconds since the Unix epoch.
    pub(super) fn of(us: i64) -> Self {
        Self { machine: time::to_the_second(us), human: time::to_the_minute(us) }
    }
}

/// The answer to a choice, and `GET PREFIX/receipt/{reference}`.
#[derive(Template)]
#[template(path = "receipt.html", config = "src/portal/pages/askama.toml")]
pub(super) struct Receipt<'a> {
    pub(super) frame: Frame<'a>,
    /// What happened, one paragraph each.
    pub(super) lines: Vec<&'a str>,
    /// Show the regulation's label (11 CCR 7025(c)(6)).
    pub(super) honored: bool,
    /// The programme that is kept in spite of the opt-out.
    pub(super) except: Option<&'a str>,
    pub(super) choice: &'a str,
    pub(super) reference: Option<&'a str>,
    pub(super) time: Time,
    pub(super) scope: &'a str,
    pub(super) site: &'a str,
    /// Offer the same button again: the record could not be saved.
    pub(super) again: bool,
    /// Nonce of the script that removes old copies; `None` leaves the script out.
    pub(super) clear: Option<String>,
}

/// `GET PREFIX/receipt`.
#[derive(Template)]
#[template(path = "check.html", config = "src/portal/pages/askama.toml")]
pub(super) struct Check<'a> {
    pub(super) frame: Frame<'a>,
    /// The record of what was typed.
    pub(super) found: Option<Checked<'a>>,
}

/// A record that was held against what is signed.
pub(super) struct Checked<'a> {
    pub(super) choice: &'a str,
    pub(super) reference: &'a str,
    pub(super) time: Time,
    /// A signed state of the records holds it.
    pub(super) signed: bool,
    /// Another node has it, and only that one can hold it against what is signed.
    pub(super) elsewhere: bool,
}

/// Step one of opting back in.
#[derive(Template)]
#[template(path = "confirm.html", config = "src/portal/pages/askama.toml")]
pub(super) struct Confirm<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) gpc: bool,
    pub(super) token: &'a str,
    pub(super) scope: &'a str,
}

/// A refusal or a missing page.
#[derive(Template)]
#[template(path = "message.html", config = "src/portal/pages/askama.toml")]
pub(super) struct Message<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) lines: &'a [&'a str],
}

/// Renders a page. A template that fails still gives an answer, so that its cookies reach the browser.
pub(super) fn html(status: StatusCode, page: &impl Template) -> Response<Body> {
    let (kind, text) = match page.render() {
        Ok(text) => ("text/html; charset=utf-8", text),
        Err(error) => {
            tracing::error!(%error, "a consumer page could not be rendered");
            ("text/plain; charset=utf-8", "This page could not be shown. Please try again.\n".to_owned())
        }
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_to_the_minute_in_utc() {
        let time = Time::of(1_795_464_000_000_000);
        assert_eq!(time.human, "2026-11-23 20:00 UTC");
        assert_eq!(time.machine, "2026-11-23T20:00:00Z");
        assert_eq!(Time::of(i64::MAX).human, format!("{}us", i64::MAX));
    }

    /// Whatever reaches a page is escaped (OWASP ASVS 1.2.1).
    #[test]
    fn text_in_a_page_cannot_become_markup() {
        let frame = Frame { prefix: "/privacy-choices", heading: "<b>", icon: false, home: true };
        let text = Message { frame, lines: &["<script>\"x\""] }.render().unwrap();
        assert!(!text.contains("<script>") && !text.contains("<b>"), "{text}");
    }
}
