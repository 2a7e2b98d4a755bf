//! What is done with a body, decided from the two heads.

use encoding_rs::Encoding;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION,
};
use http::{HeaderMap, Method, StatusCode};

use super::negotiate::{Accepts, Coding};
pub use super::target::{Target, is_prefetch, target};
use super::{Kind, charset};
use crate::enforce::fields;
use crate::enforce::references::text_of;

/// What is done with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyPlan {
    /// It goes to the visitor as it came.
    Pass(PassReason),
    /// It goes through the rewriter.
    Rewrite(Recipe),
    /// An opted-out visitor may not have it: ask again with [`crate::enforce::request::ask_again`] (GET
    /// and HEAD), else 502.
    Refuse(Refusal),
}

impl BodyPlan {
    /// Whether the body differs by the visitor's choice, so that caches must keep the variants apart.
    #[must_use]
    pub const fn has_variants(&self) -> bool {
        match self {
            Self::Rewrite(_) => true,
            Self::Pass(reason) => {
                matches!(
                    reason,
                    PassReason::Nothing | PassReason::Coding | PassReason::Partial | PassReason::NoTransform
                )
            }
            Self::Refuse(_) => false,
        }
    }

    /// Whether the answer is HTML that a browser shows (not a fragment).
    #[must_use]
    pub const fn is_document(&self) -> bool {
        match self {
            Self::Rewrite(recipe) => !matches!(recipe.kind, Kind::Fragment | Kind::Worker) && !recipe.sniff,
            Self::Pass(reason) => {
                matches!(reason, PassReason::Coding | PassReason::PathRule | PassReason::NoTransform)
            }
            Self::Refuse(_) => false,
        }
    }
}

/// Why a body passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassReason {
    /// Observe mode.
    Observe,
    /// Not HTML.
    NotHtml,
    /// The request wants an image, a script or the like.
    Resource,
    /// The status has no body (1xx, 204, 205).
    NoBody,
    /// 304: what the client has is what it would get; the head still carries the variant's tag.
    NotModified,
    /// A part of a body, for a visitor who is not opted out.
    Partial,
    /// A download.
    Attachment,
    /// HTML, but nothing in it is to be changed for this visitor.
    Nothing,
    /// A coding that cannot be taken off, for a visitor who is not opted out.
    Coding,
    /// The origin forbids changes (RFC 9111, 5.2.2.6), for a visitor who is not opted out.
    NoTransform,
    /// HTML on a path where bodies are not rewritten, by setting.
    PathRule,
}

impl PassReason {
    /// Word for metrics and logs; `None` where the body is none of ours.
    #[must_use]
    pub const fn label(self) -> Option<&'static str> {
        match self {
            Self::Partial => Some("partial"),
            Self::Attachment => Some("attachment"),
            Self::Coding => Some("coding-unknown"),
            Self::NoTransform => Some("no-transform"),
            Self::PathRule => Some("path-rule"),
            Self::Observe => Some("observe"),
            Self::NotHtml | Self::Resource | Self::NoBody | Self::NotModified | Self::Nothing => None,
        }
    }
}

/// Why an opted-out visitor may not have a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// An unknown coding, or several on top of each other.
    Coding,
    /// A part of a page; parts cannot be rewritten.
    Partial,
    /// 304, though none of our own tags was sent: the client's copy may hold the trackers.
    NotModified,
    /// One document after another in one answer, each in its own type.
    Parts,
}

impl Refusal {
    /// Word for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Coding => "coding-unknown",
            Self::Partial => "partial",
            Self::NotModified => "not-modified-unasked",
            Self::Parts => "multipart",
        }
    }
}

/// How a body is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Recipe {
    /// The visitor has opted out.
    pub opted_out: bool,
    /// Document, frame or fragment.
    pub kind: Kind,
    /// The type does not say that it is a page: its first bytes do, or with `xml` its root.
    pub sniff: bool,
    /// Served as XML: read by XML's rules, and the guard is not placed.
    pub xml: bool,
    /// Encoding named by `Content-Type`.
    pub charset: Option<&'static Encoding>,
    /// Coding the origin put on.
    pub from: Coding,
    /// Coding the client gets.
    pub to: Coding,
    /// No body follows (HEAD): the head is as for GET, nothing is rewritten.
    pub bodiless: bool,
}

/// What [`plan`] needs to know beside the response head.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// What the request wants.
    pub target: Target,
    /// The visitor has opted out.
    pub opted_out: bool,
    /// Enforce mode.
    pub enforce: bool,
    /// Bodies are rewritten on this path.
    pub rewrite: bool,
    /// An origin's `no-transform` holds for a visitor who is not opted out.
    pub keep_untransformed: bool,
    /// An uncoded page of a visitor who has opted out goes out coded: the guard makes it larger.
    pub compress: bool,
    /// What the client said it accepts, before narrowing.
    pub accepts: Accepts,
    /// Whether narrowing took something the client accepts away.
    pub narrowed: bool,
    /// A 304 is about the variant this visitor gets: the request's condition was not dropped.
    pub conditional_ours: bool,
}

/// Decides what is done with a response body.
///
/// Pages of any status are rewritten: `text/html`, `application/xhtml+xml`, Turbo's streams as
/// fragments, and what has no usable `Content-Type` when browsers may sniff it; for an opted-out visitor
/// `image/svg+xml` too, when it is not shown as an image. Other XML only when the request wants a page, since
/// a browser shows XHTML and SVG under any XML type; its root then says what it is, and feeds stay as they
/// are.
///
/// Cost: a few header look-ups, no allocation unless `Content-Type` is repeated or in capitals.
#[must_use]
pub fn plan(question: &Question<'_>, status: StatusCode, headers: &HeaderMap) -> BodyPlan {
    let Target::Page(mut kind) = question.target else { return BodyPlan::Pass(PassReason::Resource) };
    if !question.enforce {
        return BodyPlan::Pass(PassReason::Observe);
    }
    if status == StatusCode::NOT_MODIFIED {
        let stale = question.opted_out && !question.conditional_ours;
        return match question.rewrite {
            true if stale => BodyPlan::Refuse(Refusal::NotModified),
            true => BodyPlan::Pass(PassReason::NotModified),
            // What it renews was the same for everybody.
            false => BodyPlan::Pass(PassReason::NotHtml),
        };
    }
    if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) {
        return BodyPlan::Pass(PassReason::NoBody);
    }
    if kind == Kind::Worker {
        return plan_worker(question, status, headers);
    }
    let media = Media::read(headers);
    match media.form {
        Form::Other => return BodyPlan::Pass(PassReason::NotHtml),
        Form::Xml if !matches!(kind, Kind::Document | Kind::Frame) => {
            return BodyPlan::Pass(PassReason::NotHtml);
        }
        Form::TurboStream => kind = Kind::Fragment,
        // A script that fetches a drawing has the guard behind it.
        Form::Svg if kind == Kind::Fragment => return BodyPlan::Pass(PassReason::NotHtml),
        // A drawing gets no link.
        Form::Svg if !question.opted_out => return BodyPlan::Pass(PassReason::Nothing),
        // What a script or a picture gets of it is no page.
        Form::Parts if !question.opted_out || !matches!(kind, Kind::Document | Kind::Frame) => {
            return BodyPlan::Pass(PassReason::NotHtml);
        }
        Form::Html | Form::Xhtml | Form::Svg | Form::Xml | Form::Unstated | Form::Parts => {}
    }
    if is_attachment(headers) {
        return BodyPlan::Pass(PassReason::Attachment);
    }
    if media.form == Form::Parts && question.rewrite {
        return BodyPlan::Refuse(Refusal::Parts);
    }
    let sniff = media.form == Form::Unstated;
    // A redirect or an empty body without a type is nothing a browser shows.
    let empty = headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
    if sniff && (empty || leads_on(status, headers) || !question.rewrite) {
        return BodyPlan::Pass(PassReason::NotHtml);
    }
    let sure = matches!(media.form, Form::Html | Form::Xhtml | Form::TurboStream);
    if !question.rewrite {
        return BodyPlan::Pass(if sure { PassReason::PathRule } else { PassReason::NotHtml });
    }
    if !Target::Page(kind).may_be_rewritten(question.opted_out) {
        return BodyPlan::Pass(if sure { PassReason::Nothing } else { PassReason::NotHtml });
    }
    if status == StatusCode::PARTIAL_CONTENT {
        // Without a type it is most likely media that a script reads in parts. A page has been asked for whole, and is
        // shown all the same.
        let page = matches!(kind, Kind::Document | Kind::Frame);
        return match (question.opted_out, sniff) {
            (true, sniff) if page || !sniff => BodyPlan::Refuse(Refusal::Partial),
            (_, true) => BodyPlan::Pass(PassReason::NotHtml),
            (_, false) => BodyPlan::Pass(PassReason::Partial),
        };
    }
    // For a visitor who has opted out, that stands over it: a page with trackers in it is the worst outcome.
    if question.keep_untransformed && !question.opted_out && forbids_changes(headers) {
        return BodyPlan::Pass(if sure { PassReason::NoTransform } else { PassReason::Nothing });
    }
    let Some(from) = content_coding(headers) else {
        return if question.opted_out {
            BodyPlan::Refuse(Refusal::Coding)
        } else {
            BodyPlan::Pass(PassReason::Coding)
        };
    };
    // What came uncoded goes uncoded, unless it did so only because we asked for less than the client, or grows by
    // the guard. Some servers code nothing for a request with `Via`, which ours must have (RFC 9110, 7.6.3).
    let guarded = question.opted_out && sure && matches!(kind, Kind::Document | Kind::Frame | Kind::Unsure);
    let code = from != Coding::Identity || question.narrowed || question.compress && guarded;
    BodyPlan::Rewrite(Recipe {
        opted_out: question.opted_out,
        kind,
        sniff: !sure,
        xml: matches!(media.form, Form::Xhtml | Form::Svg | Form::Xml),
        charset: media.charset,
        from,
        to: if code { question.accepts.choose() } else { Coding::Identity },
        bodiless: question.method == Method::HEAD,
    })
}

/// Whether a browser goes on to another address and shows no body (WHATWG Fetch, 4.4: with a `Location`, and no other
/// status).
fn leads_on(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) && headers.contains_key(LOCATION)
}

/// Whether the origin says `no-transform` (RFC 9111, 5.2.2.6).
fn forbids_changes(headers: &HeaderMap) -> bool {
    fields::has(headers, &CACHE_CONTROL, "no-transform")
}

/// A worker's script. Its type does not matter: a browser that runs it despite a wrong one runs it with
/// our statements before it. Nothing but a success is run (HTML, "fetch a classic worker script").
fn plan_worker(question: &Question<'_>, status: StatusCode, headers: &HeaderMap) -> BodyPlan {
    if !status.is_success() || !question.rewrite {
        return BodyPlan::Pass(PassReason::NotHtml);
    }
    if !question.opted_out {
        return BodyPlan::Pass(PassReason::Nothing);
    }
    if status == StatusCode::PARTIAL_CONTENT {
        return BodyPlan::Refuse(Refusal::Partial);
    }
    let Some(from) = content_coding(headers) else { return BodyPlan::Refuse(Refusal::Coding) };
    let code = from != Coding::Identity || question.narrowed;
    let types = headers.get_all(CONTENT_TYPE).iter().filter_map(|value| value.to_str().ok());
    BodyPlan::Rewrite(Recipe {
        opted_out: true,
        kind: Kind::Worker,
        sniff: false,
        xml: false,
        charset: types.rev().find_map(charset::of_content_type),
        from,
        to: if code { question.accepts.choose() } else { Coding::Identity },
        bodiless: question.method == Method::HEAD,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Html,
    Xhtml,
    Svg,
    /// Any other XML.
    Xml,
    TurboStream,
    /// Documents that take each other's place (`multipart/x-mixed-replace`). WebKit shows pages so, Chromium pictures.
    Parts,
    /// Missing or broken, and the browser may sniff.
    Unstated,
    Other,
}

struct Media {
    form: Form,
    charset: Option<&'static Encoding>,
}

impl Media {
    /// The last valid type of all fields counts, as in browsers (WHATWG Fetch, "extract a MIME type").
    fn read(headers: &HeaderMap) -> Self {
        let mut media = Self { form: Form::Unstated, charset: None };
        let fields = headers.get_all(CONTENT_TYPE);
        let mut alone = fields.iter();
        if let (Some(field), None) = (alone.next(), alone.next())
            && is_plainly_other(field.as_bytes())
        {
            return Self { form: Form::Other, ..media };
        }
        for text in fields.iter().map(text_of) {
            for item in text.split(',') {
                let Some(form) = form(essence(item)) else { continue };
                // A repeated type without a charset keeps the one named before.
                let charset = charset::of_content_type(item);
                media.charset = charset.or(media.charset.filter(|_| form == media.form));
                media.form = form;
            }
        }
        if media.form == Form::Unstated && is_nosniff(headers) {
            media.form = Form::Other;
        }
        media
    }
}

/// Whether a field is, as most answers write it, one type that is no page. Anything else is read with care.
fn is_plainly_other(field: &[u8]) -> bool {
    let end = field.iter().position(|byte| *byte == b';').unwrap_or(field.len());
    let known = matches!(
        &field[..end],
        b"text/plain"
            | b"text/css"
            | b"text/javascript"
            | b"application/javascript"
            | b"application/json"
            | b"image/png"
            | b"image/jpeg"
            | b"image/gif"
            | b"image/webp"
            | b"image/avif"
            | b"font/woff2"
    );
    // A list may end with another type.
    known && !field[end..].contains(&b',')
}

/// The type without its parameters. The standard calls `text/html charset=utf-8` broken and lets the
/// browser sniff; Chromium reads it as HTML. Both read the page.
fn essence(item: &str) -> &str {
    let item = item.trim();
    &item[..item.find(|c: char| matches!(c, ';' | '(') || c.is_ascii_whitespace()).unwrap_or(item.len())]
}

/// `None`: broken, as if it were not there.
fn form(essence: &str) -> Option<Form> {
    let is = |known: &str| essence.eq_ignore_ascii_case(known);
    let suffix = essence.len().checked_sub(4).and_then(|at| essence.get(at..));
    match () {
        () if is("text/html") => Some(Form::Html),
        () if is("application/xhtml+xml") => Some(Form::Xhtml),
        () if is("image/svg+xml") => Some(Form::Svg),
        () if is("text/vnd.turbo-stream.html") => Some(Form::TurboStream),
        () if is("multipart/x-mixed-replace") => Some(Form::Parts),
        () if is("*/*") || !is_media_type(essence) => None,
        // The last by browsers alone, as a name of XML's.
        () if is("text/xml") || is("application/xml") || is("text/xsl") => Some(Form::Xml),
        () if suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+xml")) => Some(Form::Xml),
        () if is("unknown/unknown") || is("application/unknown") => Some(Form::Unstated),
        () => Some(Form::Other),
    }
}

/// Two tokens with a slash between (RFC 9110, 8.3.1).
fn is_media_type(essence: &str) -> bool {
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    essence.split_once('/').is_some_and(|(kind, rest)| token(kind) && token(rest))
}

fn is_nosniff(headers: &HeaderMap) -> bool {
    headers
        .get("x-content-type-options")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(',').next())
        .is_some_and(|first| first.trim().eq_ignore_ascii_case("nosniff"))
}

fn is_attachment(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_DISPOSITION).is_some_and(|value| {
        let kind = value.as_bytes().split(|&b| b == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"attachment")
    })
}

/// Words that origins write for no coding. Browsers ignore a coding that they do not know.
const NO_CODING: [&str; 6] = ["none", "utf-8", "utf8", "binary", "null", "\"\""];

/// The one coding of a body; `None` for an unknown coding or more than one.
fn content_coding(headers: &HeaderMap) -> Option<Coding> {
    let mut found = Coding::Identity;
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in value.to_str().ok()?.split(',') {
            let name = name.trim();
            if NO_CODING.iter().any(|none| name.eq_ignore_ascii_case(none)) {
                continue;
            }
            match (Coding::of(name)?, found) {
                (Coding::Identity, _) => {}
                (coding, Coding::Identity) => found = coding,
                _ => return None,
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn question(opted_out: bool) -> Question<'static> {
        Question {
            method: &Method::GET,
            target: Target::Page(Kind::Document),
            opted_out,
            enforce: true,
            rewrite: true,
            keep_untransformed: true,
            compress: false,
            accepts: Accepts::NONE,
            narrowed: false,
            conditional_ours: true,
        }
    }

    #[test]
    fn html_of_any_status_is_rewritten_and_other_types_pass() {
        for status in [200, 201, 301, 403, 404, 500, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            let got = plan(&question(true), status, &headers(&[("content-type", "text/html")]));
            assert!(matches!(got, BodyPlan::Rewrite(r) if !r.sniff && !r.xml), "{status}");
        }
        for other in [
            "application/json",
            "text/plain",
            "text/plain; charset=ISO-8859-1",
            "application/json;",
            "text/html, text/plain; charset=utf-8",
            "text/html+x",
            "text/html, text/css",
            "multipart/mixed; boundary=text/html",
            "application/octet-stream",
        ] {
            let mut map = HeaderMap::new();
            map.insert(CONTENT_TYPE, HeaderValue::from_static(other));
            assert_eq!(
                plan(&question(true), StatusCode::OK, &map),
                BodyPlan::Pass(PassReason::NotHtml),
                "{other}"
            );
        }
    }

    /// WHATWG Fetch, "extract a MIME type"; MIME Sniffing with and without nosniff.
    #[test]
    fn a_missing_or_broken_type_may_be_html_unless_nosniff() {
        for broken in [
            "",
            "html",
            "*/*",
            "text/",
            "/html",
            "te xt/html",
            "text/ht\"ml",
            "unknown/unknown",
            "application/unknown",
        ] {
            let plain = [("content-type", broken)];
            let fields = if broken.is_empty() { &[][..] } else { &plain };
            let got = plan(&question(true), StatusCode::OK, &headers(fields));
            assert!(matches!(got, BodyPlan::Rewrite(r) if r.sniff && !r.xml), "{broken}");
            let mut nosniff = headers(fields);
            nosniff.insert("x-content-type-options", HeaderValue::from_static("NoSniff, x"));
            let got = plan(&question(true), StatusCode::OK, &nosniff);
            assert_eq!(got, BodyPlan::Pass(PassReason::NotHtml), "{broken}");
        }
        for loose in ["text/html charset=utf-8", "text/html(x)", " TEXT/html ;x"] {
            let got = plan(&question(true), StatusCode::OK, &headers(&[("content-type", loose)]));
            assert!(matches!(got, BodyPlan::Rewrite(r) if !r.sniff), "{loose}");
        }
    }

    /// Which XML a browser may show as a page.
    #[test]
    fn xml_is_read_where_a_browser_may_show_it() {
        use Kind::{Document, Fragment, Frame, Unsure};
        for (media, kinds, sure) in [
            ("application/xhtml+xml", &[Document, Frame, Unsure, Fragment][..], true),
            ("image/svg+xml", &[Document, Frame, Unsure], false),
            ("text/xml", &[Document, Frame], false),
            ("text/xsl", &[Document, Frame], false),
            ("application/xml;charset=utf-8", &[Document, Frame], false),
            ("application/atom+XML", &[Document, Frame], false),
        ] {
            for kind in [Document, Frame, Unsure, Fragment] {
                let q = Question { target: Target::Page(kind), ..question(true) };
                let got = plan(&q, StatusCode::OK, &headers(&[("content-type", media)]));
                match got {
                    BodyPlan::Rewrite(r) => {
                        assert!(kinds.contains(&kind) && r.xml && r.sniff != sure, "{media}")
                    }
                    got => assert!(
                        !kinds.contains(&kind) && got == BodyPlan::Pass(PassReason::NotHtml),
                        "{media}"
                    ),
                }
            }
        }
        let svg = headers(&[("content-type", "image/svg+xml")]);
        let other = plan(&question(false), StatusCode::OK, &svg);
        assert_eq!(other, BodyPlan::Pass(PassReason::Nothing));
        let part = plan(&question(true), StatusCode::PARTIAL_CONTENT, &svg);
        assert_eq!(part, BodyPlan::Refuse(Refusal::Partial));
    }

    /// What is read at a glance is read no otherwise than with care.
    #[test]
    fn a_type_that_most_answers_have_hides_no_page_behind_it() {
        for list in
            ["text/plain, text/html", "text/css;a=b, text/html", "text/plain;,text/html;charset=utf-8"]
        {
            let got = plan(&question(true), StatusCode::OK, &headers(&[("content-type", list)]));
            assert!(matches!(got, BodyPlan::Rewrite(r) if !r.sniff), "{list}");
        }
        let two = headers(&[("content-type", "text/plain"), ("content-type", "text/html")]);
        assert!(matches!(plan(&question(true), StatusCode::OK, &two), BodyPlan::Rewrite(_)));
    }

    #[test]
    fn the_last_type_counts_and_keeps_its_charset() {
        let fields =
            [("content-type", "text/plain"), ("content-type", "TEXT/HTML;charset=utf-16le, text/html")];
        let BodyPlan::Rewrite(recipe) = plan(&question(false), StatusCode::OK, &headers(&fields)) else {
            panic!("not rewritten");
        };
        assert_eq!(recipe.charset, Some(encoding_rs::UTF_16LE));
    }

    /// Refused for an opted-out visitor, passed and counted for others.
    #[test]
    fn what_cannot_be_read_is_refused_only_to_an_opted_out_visitor() {
        for (coding, status) in [("gzip, br", 200), ("compress", 200), ("dcb", 200), ("identity", 206)] {
            let map = headers(&[("content-type", "text/html"), ("content-encoding", coding)]);
            let status = StatusCode::from_u16(status).unwrap();
            assert!(matches!(plan(&question(true), status, &map), BodyPlan::Refuse(_)), "{coding}");
            let pass = plan(&question(false), status, &map);
            assert!(matches!(pass, BodyPlan::Pass(_)) && pass.has_variants(), "{coding}");
        }
        let map = headers(&[("content-type", "text/html"), ("content-encoding", "identity, X-GZIP")]);
        assert!(
            matches!(plan(&question(true), StatusCode::OK, &map), BodyPlan::Rewrite(r) if r.from == Coding::Gzip)
        );
    }

    /// An origin's 304 would bring the copy with the trackers back.
    #[test]
    fn a_304_counts_only_when_it_answers_our_own_tag() {
        let mut q = question(true);
        let ask = |q: &Question<'_>| plan(q, StatusCode::NOT_MODIFIED, &HeaderMap::new());
        assert_eq!(ask(&q), BodyPlan::Pass(PassReason::NotModified));
        q.conditional_ours = false;
        assert_eq!(ask(&q), BodyPlan::Refuse(Refusal::NotModified));
        q.opted_out = false;
        assert_eq!(ask(&q), BodyPlan::Pass(PassReason::NotModified));
        q.rewrite = false;
        assert_eq!(ask(&q), BodyPlan::Pass(PassReason::NotHtml));
    }

    #[test]
    fn bodies_that_are_none_of_ours_pass() {
        let html = ("content-type", "text/html");
        let pass = |q: &Question<'_>, status: u16, fields: &[(&'static str, &'static str)], why| {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(plan(q, status, &headers(fields)), BodyPlan::Pass(why), "{status} {fields:?}");
        };
        let q = question(true);
        pass(&q, 204, &[html], PassReason::NoBody);
        pass(&q, 205, &[html], PassReason::NoBody);
        pass(&q, 200, &[html, ("content-disposition", "Attachment; filename=x")], PassReason::Attachment);
        pass(&Question { rewrite: false, ..q }, 200, &[html], PassReason::PathRule);
        pass(&Question { enforce: false, ..q }, 200, &[html], PassReason::Observe);
        pass(&Question { target: Target::Resource, ..q }, 200, &[html], PassReason::Resource);
        for kind in [Kind::Fragment, Kind::Frame] {
            let part = Question { target: Target::Page(kind), ..question(false) };
            pass(&part, 200, &[html], PassReason::Nothing);
        }
        pass(&q, 302, &[("location", "/x")], PassReason::NotHtml);
        pass(&q, 200, &[("content-length", "0")], PassReason::NotHtml);
        let part = |kind| Question { target: Target::Page(kind), ..q };
        pass(&part(Kind::Unsure), 206, &[], PassReason::NotHtml);
        pass(&part(Kind::Fragment), 206, &[], PassReason::NotHtml);
    }

    /// WHATWG Fetch, 4.4 and 4.6: a part that nobody asked for is shown like a whole, and so is what names another
    /// address in no way that a browser follows. Without a type it may be a page.
    #[test]
    fn what_a_browser_shows_without_a_type_is_no_less_a_page_for_its_status() {
        for kind in [Kind::Document, Kind::Frame] {
            let ask = |opted_out, status: u16, fields: &[(&'static str, &'static str)]| {
                let q = Question { target: Target::Page(kind), ..question(opted_out) };
                plan(&q, StatusCode::from_u16(status).unwrap(), &headers(fields))
            };
            assert_eq!(ask(true, 206, &[]), BodyPlan::Refuse(Refusal::Partial));
            assert_eq!(ask(true, 206, &[("content-type", "video/mp4")]), BodyPlan::Pass(PassReason::NotHtml));
            for (status, location) in [(302, None), (300, Some("/x")), (305, Some("/x")), (399, None)] {
                let field = location.map(|location| ("location", location));
                let got = ask(true, status, field.as_slice());
                assert!(matches!(got, BodyPlan::Rewrite(r) if r.sniff), "{status} {location:?}");
            }
        }
        assert_eq!(
            plan(&question(false), StatusCode::PARTIAL_CONTENT, &headers(&[])),
            BodyPlan::Pass(PassReason::NotHtml)
        );
    }

    /// A part of it may be a page, and WebKit shows it as one.
    #[test]
    fn documents_that_follow_each_other_in_one_answer_are_refused_as_a_page() {
        let parts = ("content-type", "multipart/x-mixed-replace; boundary=x");
        let ask = |opted_out, kind, fields: &[(&'static str, &'static str)]| {
            let q = Question { target: Target::Page(kind), ..question(opted_out) };
            plan(&q, StatusCode::OK, &headers(fields))
        };
        for kind in [Kind::Document, Kind::Frame] {
            assert_eq!(ask(true, kind, &[parts]), BodyPlan::Refuse(Refusal::Parts));
            assert_eq!(ask(false, kind, &[parts]), BodyPlan::Pass(PassReason::NotHtml));
            let saved = [parts, ("content-disposition", "attachment")];
            assert_eq!(ask(true, kind, &saved), BodyPlan::Pass(PassReason::Attachment));
        }
        for kind in [Kind::Fragment, Kind::Unsure] {
            assert_eq!(ask(true, kind, &[parts]), BodyPlan::Pass(PassReason::NotHtml));
        }
        let elsewhere = Question { rewrite: false, ..question(true) };
        assert_eq!(plan(&elsewhere, StatusCode::OK, &headers(&[parts])), BodyPlan::Pass(PassReason::NotHtml));
    }

    /// Browsers read any byte in a field.
    #[test]
    fn a_type_with_bytes_that_are_no_ascii_behind_it_is_that_type() {
        let named = |value: &[u8]| {
            let mut map = HeaderMap::new();
            map.insert(CONTENT_TYPE, HeaderValue::from_bytes(value).unwrap());
            plan(&question(true), StatusCode::OK, &map)
        };
        for html in [&b"text/html; name=caf\xe9"[..], b"text/html; charset=utf-8; name=\"\xc3\xa9\""] {
            assert!(matches!(named(html), BodyPlan::Rewrite(r) if !r.sniff), "{html:?}");
        }
        assert_eq!(named(b"text/plain; name=\xe9"), BodyPlan::Pass(PassReason::NotHtml));
    }

    /// RFC 9111, 5.2.2.6: an origin's wish, which an opt-out stands over.
    #[test]
    fn no_transform_holds_unless_the_visitor_has_opted_out() {
        let html = ("content-type", "text/html");
        let ask =
            |q: &Question<'_>, cache| plan(q, StatusCode::OK, &headers(&[html, ("cache-control", cache)]));
        for cache in ["no-transform", "max-age=60, No-Transform", "public,no-transform"] {
            let kept = ask(&question(false), cache);
            assert_eq!(kept, BodyPlan::Pass(PassReason::NoTransform), "{cache}");
            assert!(kept.is_document() && kept.has_variants());
            assert!(matches!(ask(&question(true), cache), BodyPlan::Rewrite(_)), "{cache}");
            let set = Question { keep_untransformed: false, ..question(false) };
            assert!(matches!(ask(&set, cache), BodyPlan::Rewrite(_)), "{cache}");
        }
        assert!(matches!(ask(&question(false), "no-transformers"), BodyPlan::Rewrite(_)));
        let unstated = plan(&question(false), StatusCode::OK, &headers(&[("cache-control", "no-transform")]));
        assert_eq!(unstated, BodyPlan::Pass(PassReason::Nothing));
        assert!(unstated.has_variants(), "an opted-out visitor gets another body");
    }

    /// A worker's script is for an opted-out visitor what a page is; a browser runs only a success.
    #[test]
    fn a_workers_script_is_prefixed_for_an_opted_out_visitor_only() {
        let ask = |opted_out, status: u16, fields: &[(&'static str, &'static str)]| {
            let q = Question { target: Target::Page(Kind::Worker), ..question(opted_out) };
            plan(&q, StatusCode::from_u16(status).unwrap(), &headers(fields))
        };
        let script = ("content-type", "text/javascript");
        let got = ask(true, 200, &[script, ("content-encoding", "gzip")]);
        assert!(matches!(got, BodyPlan::Rewrite(r) if r.kind == Kind::Worker && r.from == Coding::Gzip));
        assert!(!got.is_document() && got.has_variants());
        assert_eq!(ask(true, 404, &[script]), BodyPlan::Pass(PassReason::NotHtml));
        assert_eq!(ask(true, 206, &[script]), BodyPlan::Refuse(Refusal::Partial));
        let stacked = [script, ("content-encoding", "br, gzip")];
        assert_eq!(ask(true, 200, &stacked), BodyPlan::Refuse(Refusal::Coding));
        let other = ask(false, 200, &stacked);
        assert!(other == BodyPlan::Pass(PassReason::Nothing) && other.has_variants());
    }

    /// Coded stays coded, uncoded stays uncoded unless we narrowed.
    #[test]
    fn the_client_gets_a_coding_when_the_origin_sent_one_or_we_asked_for_less() {
        let accepts = Accepts::read(&headers(&[("accept-encoding", "gzip, br, dcb")]));
        let to = |narrowed, coding: &'static str| {
            let q = Question { accepts, narrowed, ..question(false) };
            let map = headers(&[("content-type", "text/html"), ("content-encoding", coding)]);
            match plan(&q, StatusCode::OK, &map) {
                BodyPlan::Rewrite(recipe) => recipe.to,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(to(false, "identity"), Coding::Identity);
        for none in ["none", "UTF-8", "utf8, gzip", "binary", "null", "\"\"", ""] {
            assert_eq!(
                to(false, none),
                if none.contains("gzip") { Coding::Brotli } else { Coding::Identity },
                "{none}"
            );
        }
        assert_eq!(to(true, "identity"), Coding::Brotli);
        assert_eq!(to(false, "gzip"), Coding::Brotli);
    }

    /// The setting `compress`: the guard must not make a page larger on its way than it need be, and some servers
    /// code nothing once a request has `Via`.
    #[test]
    fn a_page_that_grows_by_the_guard_goes_out_coded() {
        let accepts = Accepts::read(&headers(&[("accept-encoding", "gzip")]));
        let to = |opted_out, compress, kind, media| {
            let q = Question { accepts, compress, target: Target::Page(kind), ..question(opted_out) };
            match plan(&q, StatusCode::OK, &headers(&[("content-type", media)])) {
                BodyPlan::Rewrite(recipe) => Some(recipe.to),
                _ => None,
            }
        };
        let (gzip, plain) = (Some(Coding::Gzip), Some(Coding::Identity));
        assert_eq!(to(true, true, Kind::Document, "text/html"), gzip);
        assert_eq!(to(true, true, Kind::Frame, "text/html"), gzip);
        assert_eq!(to(true, true, Kind::Fragment, "text/html"), plain);
        assert_eq!(to(true, true, Kind::Document, "image/svg+xml"), plain);
        assert_eq!(to(true, false, Kind::Document, "text/html"), plain);
        assert_eq!(to(false, true, Kind::Document, "text/html"), plain);
    }
}
