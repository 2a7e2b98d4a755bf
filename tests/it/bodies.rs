//! Rewritten bodies: what comes out never depends on how, or in which coding, it came in.

// Helpers outside `#[test]` functions unwrap as well.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};
use optgate::config::{LinkTitle, OnRewriteFailure};
use optgate::enforce::html::body::{BodyError, Done, Primed, RewriteBody};
use optgate::enforce::html::coding::{Bounds, CodingError, Decoder};
use optgate::enforce::html::negotiate::Coding;
use optgate::enforce::html::plan::Recipe;
use optgate::enforce::html::{Kind, Plan, RewriteError, Rewriter};

use super::support::coding::{decoded, encoded};
use super::support::guard::{default_policy, placement};

const CODINGS: [Coding; 5] = [Coding::Identity, Coding::Gzip, Coding::Brotli, Coding::Zstd, Coding::Deflate];
const PAGE: &str = "<!doctype html><html><head><meta charset=utf-8><title>S\u{e9}</title>\
    <script src=\"https://connect.facebook.net/en_US/fbevents.js\"></script></head>\
    <body><p>\u{3042}<img src=\"https://www.facebook.com/tr?id=1&amp;ev=PageView\"></p></body></html>";

/// What a body gives when it is polled.
enum Step {
    Data(Vec<u8>),
    Trailers,
    /// Nothing now, once.
    Pause,
    Fail,
}

/// A body that follows a script.
struct Script(VecDeque<Step>);

impl Body for Script {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.0.pop_front() {
            None => Poll::Ready(None),
            Some(Step::Data(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
            Some(Step::Trailers) => Poll::Ready(Some(Ok(Frame::trailers(http::HeaderMap::new())))),
            Some(Step::Fail) => Poll::Ready(Some(Err(std::io::Error::other("origin gone")))),
            Some(Step::Pause) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

fn pieces(bytes: &[u8], size: usize) -> Script {
    Script(bytes.chunks(size.max(1)).map(|piece| Step::Data(piece.to_vec())).collect())
}

fn recipe(opted_out: bool) -> Recipe {
    Recipe {
        opted_out,
        kind: Kind::Document,
        sniff: false,
        xml: false,
        charset: None,
        from: Coding::Identity,
        to: Coding::Identity,
        bodiless: false,
    }
}

fn html_plan(recipe: &Recipe) -> Plan {
    Plan {
        opted_out: recipe.opted_out,
        keeps_programme: false,
        policy: default_policy(),
        page: "https://shop.example/".parse().unwrap(),
        kind: recipe.kind,
        guard: Some(placement()),
        keeper: Some(Default::default()),
        prefix: "/privacy-choices".into(),
        link: LinkTitle::DoNotSell,
        memory: 4096,
        lists: None,
    }
}

fn body<B>(inner: B, recipe: &Recipe) -> RewriteBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    RewriteBody::new(inner, recipe, html_plan(recipe), Bounds::ratio(100), OnRewriteFailure::Close)
}

/// The rewriter alone, on the whole text.
fn plainly(recipe: &Recipe, text: &[u8]) -> Vec<u8> {
    let (mut rewriter, mut out) = (Rewriter::new(html_plan(recipe)), Vec::new());
    rewriter.write(text, &mut out).unwrap();
    rewriter.end(&mut out).unwrap();
    out
}

/// One poll; `None` when the body waits.
fn poll<B: Body<Data = Bytes, Error = BodyError> + Unpin>(
    body: &mut B,
) -> Option<Option<Result<Frame<Bytes>, BodyError>>> {
    match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(item) => Some(item),
        Poll::Pending => None,
    }
}

/// Everything a body gives, and its error.
fn drain<B: Body<Data = Bytes, Error = BodyError> + Unpin>(body: &mut B) -> (Vec<u8>, Option<BodyError>) {
    let mut out = Vec::new();
    loop {
        match poll(body) {
            None => {}
            Some(None) => return (out, None),
            Some(Some(Err(error))) => return (out, Some(error)),
            Some(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    assert!(!data.is_empty(), "an empty frame");
                    out.extend_from_slice(&data);
                }
            }
        }
    }
}

fn prime<B>(body: &mut RewriteBody<B>) -> Result<Primed, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        if let Poll::Ready(primed) = body.poll_prime(&mut Context::from_waker(Waker::noop())) {
            return primed;
        }
    }
}

/// Keeps every report of a body's end.
fn listen<B>(body: RewriteBody<B>) -> (RewriteBody<B>, Rc<RefCell<Vec<Done>>>)
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let heard = Rc::new(RefCell::new(Vec::new()));
    let ear = Rc::clone(&heard);
    (body.with_on_done(Box::new(move |done| ear.borrow_mut().push(done))), heard)
}

/// Output must not depend on chunk boundaries; here also not on the coding.
#[test]
fn every_coding_at_every_cut_gives_the_plain_rewriting() {
    for opted_out in [false, true] {
        let want = plainly(&recipe(opted_out), PAGE.as_bytes());
        assert_ne!(want, PAGE.as_bytes());
        for from in CODINGS {
            let coded = encoded(from, PAGE.as_bytes());
            let recipe = Recipe { from, ..recipe(opted_out) };
            for cut in 0..=coded.len() {
                let (a, b) = coded.split_at(cut);
                let script = [Step::Data(a.to_vec()), Step::Pause, Step::Data(b.to_vec())];
                let (got, error) = drain(&mut body(Script(script.into()), &recipe));
                assert!(error.is_none() && got == want, "{from:?} cut at {cut}: {error:?}");
            }
            let (got, _) = drain(&mut body(pieces(&coded, 1), &recipe));
            assert!(got == want, "{from:?} by bytes");
        }
    }
}

#[test]
fn every_pair_of_codings_arrives_whole() {
    let text = PAGE.repeat(40);
    for from in CODINGS {
        for to in CODINGS {
            let recipe = Recipe { from, to, ..recipe(true) };
            let want = plainly(&recipe, text.as_bytes());
            for size in [100, 1500, 1 << 20] {
                let mut body = body(pieces(&encoded(from, text.as_bytes()), size), &recipe);
                let (got, error) = drain(&mut body);
                assert!(error.is_none(), "{error:?}");
                assert!(decoded(to, &got).as_deref() == Ok(&want[..]), "{from:?} to {to:?} by {size}");
            }
        }
    }
}

/// Streamed pages stream: when the origin pauses, the client can read all that is due.
#[test]
fn what_came_before_a_pause_can_be_read() {
    for to in CODINGS {
        let charset = Some(encoding_rs::UTF_8);
        let recipe = Recipe { to, charset, ..recipe(false) };
        let steps = [
            Step::Data(b"<!doctype html><html><body><p>one</p>".to_vec()),
            Step::Pause,
            Step::Data(b"x".into()),
        ];
        let mut body = body(Script(steps.into()), &recipe);
        let mut got = Vec::new();
        while let Some(item) = poll(&mut body) {
            got.extend_from_slice(&item.unwrap().unwrap().into_data().unwrap());
            if body.is_end_stream() || got.len() > 200 {
                break;
            }
        }
        let mut plain = Vec::new();
        let mut decoder = Decoder::new(to, Bounds::ratio(100)).unwrap();
        decoder
            .write::<CodingError>(&got, &mut |piece| {
                plain.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        assert!(plain.starts_with(b"<!doctype html><html><body><p>one"), "{to:?}: {plain:?}");
    }
}

/// UTF-16 and ISO-2022-JP are transcoded, and a byte order mark says so.
#[test]
fn utf_16_pages_become_utf_8_with_and_without_a_byte_order_mark() {
    let want = [b"\xef\xbb\xbf", &plainly(&recipe(true), PAGE.as_bytes())[..]].concat();
    for (big, bom) in [(false, false), (false, true), (true, false), (true, true)] {
        let unit = |u: u16| if big { u.to_be_bytes() } else { u.to_le_bytes() };
        let mut bytes: Vec<u8> = if bom { unit(0xfeff).to_vec() } else { Vec::new() };
        bytes.extend(PAGE.encode_utf16().flat_map(unit));
        let named = if big { encoding_rs::UTF_16BE } else { encoding_rs::UTF_16LE };
        let recipe = Recipe { charset: (!bom).then_some(named), ..recipe(true) };
        for size in [1, 3, 1000, 10_000] {
            let (got, error) = drain(&mut body(pieces(&bytes, size), &recipe));
            assert!(error.is_none() && got == want, "big {big}, mark {bom}, by {size}");
        }
    }
}

#[test]
fn iso_2022_jp_is_found_by_its_meta() {
    let page = "<!doctype html><html><head><meta charset=iso-2022-jp></head><body><p>\u{3042}</p></body>";
    let (bytes, _, _) = encoding_rs::ISO_2022_JP.encode(page);
    let want = [b"\xef\xbb\xbf", &plainly(&recipe(true), page.as_bytes())[..]].concat();
    for size in [1, 50, 10_000] {
        let (got, _) = drain(&mut body(pieces(&bytes, size), &recipe(true)));
        assert!(got == want, "by {size}: {}", String::from_utf8_lossy(&got));
    }
}

#[test]
fn a_utf_8_byte_order_mark_stays_first() {
    let page = format!("\u{feff}{PAGE}");
    let want = [b"\xef\xbb\xbf", &plainly(&recipe(true), PAGE.as_bytes())[..]].concat();
    for size in [1, 2, 3, 10_000] {
        assert!(drain(&mut body(pieces(page.as_bytes(), size), &recipe(true))).0 == want, "by {size}");
    }
}

/// Without a type only what browsers would read as HTML is touched.
#[test]
fn a_body_without_a_type_is_rewritten_only_when_it_is_html() {
    let untyped = Recipe { sniff: true, to: Coding::Gzip, ..recipe(true) };
    for size in [1, 7, 10_000] {
        let (mut pdf, heard) = listen(body(pieces(b"%PDF-1.7 <script>", size), &untyped));
        let (got, _) = drain(&mut pdf);
        assert_eq!(decoded(Coding::Gzip, &got).unwrap(), b"%PDF-1.7 <script>");
        assert_eq!(*heard.borrow(), [Done::NotHtml]);
        let (got, _) = drain(&mut body(pieces(PAGE.as_bytes(), size), &untyped));
        assert!(decoded(Coding::Gzip, &got).unwrap() == plainly(&recipe(true), PAGE.as_bytes()));
        // What the browser goes to is a document, however little of one is there: it has the guard and the link.
        let (got, _) = drain(&mut body(pieces(b"<p>hello</p>", size), &untyped));
        assert!(decoded(Coding::Gzip, &got).unwrap() == plainly(&recipe(true), b"<p>hello</p>"));
    }
}

/// Before the first byte an opted-out visitor's body can still become another answer.
#[test]
fn a_body_that_cannot_be_read_is_an_error_before_its_first_byte() {
    for from in CODINGS.into_iter().skip(1) {
        let recipe = Recipe { from, ..recipe(true) };
        let (mut bad, heard) = listen(body(pieces(b"<p>this is not coded</p>", 5), &recipe));
        let error = prime(&mut bad).expect_err("it cannot be read");
        assert!(error.label().starts_with("coding-"), "{from:?}: {error}");
        assert!(poll(&mut bad).unwrap().is_none(), "nothing follows an error");
        assert_eq!(*heard.borrow(), [Done::Failed { reason: error.label(), passed: false }]);
    }
}

#[test]
fn a_body_that_ends_early_never_ends_well_for_an_opted_out_visitor() {
    for from in CODINGS.into_iter().skip(1) {
        let coded = encoded(from, PAGE.as_bytes());
        let recipe = Recipe { from, ..recipe(true) };
        for cut in 1..coded.len() {
            let (_, error) = drain(&mut body(pieces(&coded[..cut], 64), &recipe));
            let label = error.map(|e| e.label());
            assert_eq!(label, Some("coding-truncated"), "{from:?} cut at {cut}");
        }
    }
}

/// The same fault passes unchanged for a visitor who is not opted out.
#[test]
fn a_body_that_cannot_be_read_passes_raw_for_other_visitors() {
    let text = b"<p>this is not gzip</p>";
    let recipe = Recipe { from: Coding::Gzip, to: Coding::Brotli, ..recipe(false) };
    let (mut raw, heard) = listen(body(pieces(text, 5), &recipe));
    assert_eq!(prime(&mut raw).unwrap(), Primed::Raw);
    assert_eq!(prime(&mut raw).unwrap(), Primed::Raw, "asking twice changes nothing");
    let (got, error) = drain(&mut raw);
    assert!(error.is_none() && got == text);
    assert_eq!(*heard.borrow(), [Done::Failed { reason: "coding-corrupt", passed: true }]);
}

/// A tag above the memory limit: the visitor without an opt-out loses no byte, at any cut.
#[test]
fn a_tag_that_is_too_large_passes_for_other_visitors() {
    let tag = format!("<!doctype html><html><body><a href=\"data:{}\">x</a></body>", "A".repeat(2_000_000));
    for size in [1000, 50_000, 4 << 20] {
        let (mut big, heard) = listen(body(pieces(tag.as_bytes(), size), &recipe(false)));
        let (got, error) = drain(&mut big);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(*heard.borrow(), [Done::Failed { reason: "rewriter-memory", passed: true }]);
        assert!(got == tag.as_bytes(), "by {size}: {} of {} bytes", got.len(), tag.len());
    }
}

#[test]
fn a_script_that_is_too_large_stops_an_opted_out_body_or_passes_by_choice() {
    let open = format!("<!doctype html><html><body><p>{}</p>", "first ".repeat(300));
    let huge = format!("<script>{}</script><p>last</p>", "x;".repeat(50_000));
    let script = || {
        let mut steps = VecDeque::from([Step::Data(open.clone().into_bytes()), Step::Pause]);
        steps.extend(huge.as_bytes().chunks(10_000).map(|piece| Step::Data(piece.to_vec())));
        Script(steps)
    };
    let (got, error) = drain(&mut body(script(), &recipe(true)));
    assert!(matches!(error, Some(BodyError::Rewrite(RewriteError::Memory))), "{error:?}");
    assert!(!got.is_empty() && !got.ends_with(b"<p>last</p>"));
    let passing = RewriteBody::new(
        script(),
        &recipe(true),
        html_plan(&recipe(true)),
        Bounds::ratio(100),
        OnRewriteFailure::Pass,
    );
    let (mut passing, heard) = listen(passing);
    let (got, error) = drain(&mut passing);
    assert!(error.is_none() && got.ends_with(b"<p>last</p>"));
    assert_eq!(*heard.borrow(), [Done::Failed { reason: "rewriter-memory", passed: true }]);
    // Before the first byte even that choice is an error: another answer is still possible.
    let first = RewriteBody::new(
        pieces(huge.as_bytes(), 1 << 20),
        &recipe(true),
        html_plan(&recipe(true)),
        Bounds::ratio(100),
        OnRewriteFailure::Pass,
    );
    let (mut first, _) = listen(first);
    assert!(prime(&mut first).is_err());
}

#[test]
fn an_origin_that_fails_ends_the_body_with_an_error_once() {
    let steps = [Step::Data(PAGE.as_bytes().to_vec()), Step::Pause, Step::Fail, Step::Data(b"x".to_vec())];
    let (mut failing, heard) = listen(body(Script(steps.into()), &recipe(true)));
    assert_eq!(prime(&mut failing).unwrap(), Primed::Rewritten);
    let (got, error) = drain(&mut failing);
    assert!(!got.is_empty());
    assert_eq!(error.map(|e| e.label()), Some("origin-body"));
    assert!(poll(&mut failing).unwrap().is_none());
    drop(failing);
    assert_eq!(*heard.borrow(), [Done::Failed { reason: "origin-body", passed: false }]);
}

#[test]
fn priming_loses_no_byte_and_the_end_is_told_once() {
    for to in CODINGS {
        let recipe = Recipe { to, ..recipe(true) };
        let (mut page, heard) = listen(body(pieces(PAGE.as_bytes(), 50), &recipe));
        assert_eq!(prime(&mut page).unwrap(), Primed::Rewritten);
        assert!(heard.borrow().is_empty(), "nothing was given out yet");
        let (got, _) = drain(&mut page);
        assert!(decoded(to, &got).unwrap() == plainly(&recipe, PAGE.as_bytes()), "{to:?}");
        assert!(page.is_end_stream());
        drop(page);
        assert!(matches!(heard.borrow()[..], [Done::Finished(ref s)] if s.document), "{heard:?}");
    }
}

#[test]
fn a_body_that_is_dropped_is_told_as_aborted() {
    for primed in [false, true] {
        let (mut page, heard) = listen(body(pieces(PAGE.as_bytes(), 50), &recipe(true)));
        if primed {
            prime(&mut page).unwrap();
        }
        drop(page);
        assert_eq!(*heard.borrow(), [Done::Aborted], "primed {primed}");
    }
}

#[test]
fn trailers_are_dropped_and_head_has_no_body() {
    let steps = [Step::Data(PAGE.as_bytes().to_vec()), Step::Trailers];
    let mut page = body(Script(steps.into()), &recipe(true));
    while let Some(item) = poll(&mut page).unwrap() {
        assert!(item.unwrap().is_data());
    }
    let bodiless = Recipe { bodiless: true, to: Coding::Gzip, ..recipe(true) };
    let (mut none, heard) = listen(body(Script([].into()), &bodiless));
    assert!(none.is_end_stream());
    assert_eq!(prime(&mut none).unwrap(), Primed::Rewritten);
    assert!(poll(&mut none).unwrap().is_none());
    drop(none);
    assert_eq!(heard.borrow().len(), 1);
}

/// A body of an error type that never occurs works too (fixed pages).
#[test]
fn an_infallible_body_is_taken() {
    struct Fixed(Option<Bytes>);
    impl Body for Fixed {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
        }
    }
    let fixed = Fixed(Some(Bytes::from_static(b"<!doctype html><p>x</p>")));
    let (got, error) = drain(&mut body(fixed, &recipe(false)));
    assert!(error.is_none() && got.starts_with(b"<!doctype html>"));
}
