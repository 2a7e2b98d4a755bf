//! The figures in the form that was asked for: OpenMetrics, or the older text form of Prometheus.

use std::fmt::Write as _;

use axum::body::Body;
use axum::extract::State;
use http::header::{ACCEPT, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Response};

use super::AdminState;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(State(state): State<AdminState>, headers: HeaderMap) -> Response<Body> {
    let figures = state.metrics.render();
    let (figures, form) =
        if wants_text(&headers) { (as_text(&figures), TEXT) } else { (figures, OPEN_METRICS) };
    let mut response = Response::new(Body::from(figures));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form));
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// Whether a client takes the older form and not the other.
fn wants_text(headers: &HeaderMap) -> bool {
    let named = |form: &str| {
        let fields = headers.get_all(ACCEPT).iter().filter_map(|field| field.to_str().ok());
        fields.flat_map(|field| field.split(',')).any(|range| range.trim().starts_with(form))
    };
    named("text/plain") && !named("application/openmetrics-text")
}

/// OpenMetrics in the older form, where a counter's family has the name of its samples, and nothing marks the end.
fn as_text(figures: &str) -> String {
    let mut out = String::with_capacity(figures.len());
    let mut help = None;
    for line in figures.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let ending = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                // Writing to a String cannot fail.
                let _ = writeln!(out, "# HELP {name}{ending} {help}");
            }
            let _ = writeln!(out, "# TYPE {name}{ending} {kind}");
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prometheus' exposition formats: the TYPE line names what the samples are called.
    #[test]
    fn a_counter_is_named_as_its_samples_in_the_older_form() {
        let figures = "# HELP a_b Counted.\n# TYPE a_b counter\na_b_total{x=\"y\"} 1\n# HELP c Held.\n# TYPE c gauge\n\
                       c 2\n# EOF\n";
        assert_eq!(
            as_text(figures),
            "# HELP a_b_total Counted.\n# TYPE a_b_total counter\na_b_total{x=\"y\"} 1\n# HELP c Held.\n\
             # TYPE c gauge\nc 2\n"
        );
    }

    /// RFC 9110, 12.5.1, as far as two forms need it.
    #[test]
    fn the_older_form_is_for_whoever_names_it_alone() {
        let asks = |accept: &'static str| {
            wants_text(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))
        };
        assert!(asks("text/plain;version=0.0.4") && asks("text/plain;version=0.0.4;q=1,*/*;q=0.1"));
        assert!(!asks("*/*") && !wants_text(&HeaderMap::new()));
        assert!(!asks("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"));
    }
}
