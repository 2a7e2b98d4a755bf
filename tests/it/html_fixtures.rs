//! Pages and what becomes of them, each whole, byte by byte and at 200 random cuts.
//!
//! `tests/fixtures/html/CASE/input.html` and `expected.html`; `plan.txt` beside them, one `key value` a
//! line, where the case is not an opted-out document at `https://shop.example/page` that names no charset.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions fail the same way

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use encoding_rs::Encoding;
use optgate::config::{LinkTitle, VendorAction};
use optgate::enforce::html::{Kind, Plan, RewriteError, Rewriter, Summary};
use optgate::enforce::keeper::{self, Keeper};

use super::support::guard::{default_policy, folded, placement};
use super::support::random::Random;

/// What a page is in; `None`: it does not say.
type Charset = Option<&'static Encoding>;

fn plan(opted_out: bool) -> Plan {
    Plan {
        opted_out,
        keeps_programme: false,
        policy: default_policy(),
        page: url::Url::parse("https://shop.example/page").unwrap(),
        kind: Kind::Document,
        guard: Some(placement()),
        keeper: Some(Keeper::default()),
        prefix: Arc::from("/privacy-choices"),
        link: LinkTitle::DoNotSell,
        memory: 1 << 20,
        lists: None,
    }
}

fn run(plan: &Plan, cuts: &[&[u8]]) -> Result<(Vec<u8>, Summary), RewriteError> {
    run_in(None, plan, cuts)
}

/// The same for a page in a charset.
fn run_in(charset: Charset, plan: &Plan, cuts: &[&[u8]]) -> Result<(Vec<u8>, Summary), RewriteError> {
    let mut out = Vec::new();
    let mut rewriter = Rewriter::in_charset(plan.clone(), charset);
    for piece in cuts {
        rewriter.write(piece, &mut out)?;
    }
    let summary = rewriter.end(&mut out)?;
    Ok((out, summary))
}

/// Cuts an input at a few places.
fn cut<'a>(random: &mut Random, input: &'a [u8]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = (0..=random.below(8)).map(|_| random.below(input.len() + 1)).collect();
    at.extend([0, input.len()]);
    at.sort_unstable();
    at.windows(2).map(|w| &input[w[0]..w[1]]).collect()
}

/// Rewrites at every kind of cut and insists on one answer.
fn rewrite(plan: &Plan, input: &[u8], case: &str) -> (Vec<u8>, Summary) {
    rewrite_in(None, plan, input, case)
}

/// The same for a page in a charset.
fn rewrite_in(charset: Charset, plan: &Plan, input: &[u8], case: &str) -> (Vec<u8>, Summary) {
    let run = |plan, cuts: &[&[u8]]| run_in(charset, plan, cuts);
    let whole = run(plan, &[input]).unwrap_or_else(|e| panic!("{case}: {e}"));
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    let each = run(plan, &bytes).unwrap_or_else(|e| panic!("{case}, byte by byte: {e}"));
    assert!(each == whole, "{case}: byte by byte differs\n{}", text(&each.0));
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ input.len() as u64);
    for _ in 0..200 {
        let cuts = cut(&mut random, input);
        let got = run(plan, &cuts).unwrap_or_else(|e| panic!("{case}, cut: {e}"));
        assert!(
            got == whole,
            "{case}: cut at {:?} differs\n{}",
            cuts.iter().map(|c| c.len()).collect::<Vec<_>>(),
            text(&got.0)
        );
    }
    whole
}

fn text(bytes: &[u8]) -> String {
    folded(&String::from_utf8_lossy(bytes))
}

fn read_plan(file: &Path) -> (Charset, Plan) {
    let (mut charset, mut plan) = (None, plan(true));
    let Ok(written) = fs::read_to_string(file) else { return (charset, plan) };
    for line in written.lines() {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("opted-out", "no") => plan.opted_out = false,
            ("guard", "no") => plan.guard = None,
            ("kind", "frame") => plan.kind = Kind::Frame,
            ("kind", "fragment") => plan.kind = Kind::Fragment,
            ("kind", "unsure") => plan.kind = Kind::Unsure,
            ("link", "choices") => plan.link = LinkTitle::PrivacyChoices,
            ("keeper", "no") => plan.keeper = None,
            ("keeper", nonce) => plan.keeper = Some(Keeper { nonce: Some(Arc::from(nonce)) }),
            ("charset", label) => charset = Encoding::for_label(label.as_bytes()),
            ("page", page) => plan.page = url::Url::parse(page).unwrap(),
            other => panic!("{}: unknown line {other:?}", file.display()),
        }
    }
    (charset, plan)
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/html");
    let mut cases: Vec<_> =
        fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    cases.sort();
    cases
}

/// `[LINK]`, `[STATUS]` and `[ICON]` in an expected file stand for what the product inserts, `[LINE]` for the link
/// without its keeper, and `[KEEPER HASH]` for what admits that. So do `[GUARD]` and `[KEEPER]`, which [`folded`]
/// puts into the output.
fn expand(expected: &[u8]) -> Vec<u8> {
    let link =
        "<p class=\"ogc-line\"><a href=\"/privacy-choices\">Do Not Sell or Share My Personal Information</a>";
    let status = " <span class=\"ogc-status\" role=\"status\">Opt-Out Request Honored</span>";
    let text = chars(expected)
        .replace("[LINK+STATUS]", "[LINE+STATUS][KEEPER]")
        .replace("[LINK]", "[LINE][KEEPER]")
        .replace("[LINE+STATUS]", &format!("{link}{status}</p>"))
        .replace("[LINE]", &format!("{link}</p>"))
        .replace("[KEEPER HASH]", keeper::csp_hash())
        .replace("[STATUS]", status)
        .replace("[ICON]", ICON);
    bytes_of(&text)
}

/// One character a byte, so that bytes that are no UTF-8 survive.
fn chars(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn bytes_of(chars: &str) -> Vec<u8> {
    chars.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// 11 CCR 7015(b): the icon beside the words, 30 x 14, with the published alternative text.
const ICON: &str = concat!(
    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"30\" height=\"14\" viewBox=\"0 0 30 14\" role=\"img\" ",
    "aria-label=\"California Consumer Privacy Act (CCPA) Opt-Out Icon\">",
    "<rect x=\".5\" y=\".5\" width=\"29\" height=\"13\" rx=\"6.5\" fill=\"#fff\" stroke=\"#06f\"/>",
    "<path d=\"M17 .5h6a6.5 6.5 0 0 1 0 13H13.5z\" fill=\"#06f\"/>",
    "<path d=\"M6 7.2l2.2 2.3 4-5\" fill=\"none\" stroke=\"#06f\" stroke-width=\"1.6\"/>",
    "<path d=\"M19.5 4.5l5 5m0-5l-5 5\" fill=\"none\" stroke=\"#fff\" stroke-width=\"1.6\"/>",
    "</svg>"
);

/// The whole fixture set at every kind of cut.
#[test]
fn every_fixture_comes_out_as_written_however_it_was_cut() {
    let cases = cases();
    assert!(cases.len() >= 20, "only {} fixtures", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let input = fs::read(case.join("input.html")).unwrap();
        let (charset, plan) = read_plan(&case.join("plan.txt"));
        let (out, _) = rewrite_in(charset, &plan, &input, &name);
        let expected = expand(&fs::read(case.join("expected.html")).unwrap());
        let out = bytes_of(&folded(&chars(&out)));
        if out != expected {
            wrong.push(format!("== {name}\n-- got\n{}\n-- expected\n{}", text(&out), text(&expected)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whatever the vector, a visitor who has not opted out gets the page as
/// it is, apart from the link.
#[test]
fn every_fixture_is_unchanged_but_for_the_link_when_nobody_opted_out() {
    let mut with_link = 0;
    for case in cases() {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let input = fs::read(case.join("input.html")).unwrap();
        let (out, _) = run(&plan(false), &[&input]).unwrap();
        let (left, found) = without_line(&out);
        assert!(left == input, "{name}\n{}", text(&out));
        with_link += usize::from(found);
    }
    assert!(with_link > 50, "the link is in {with_link} pages only");
}

/// A page without the line, its address near or far, and without the keeper behind it; whether it was there.
fn without_line(page: &[u8]) -> (Vec<u8>, bool) {
    let near = chars(&expand(b"[LINE]"));
    let far = near.replace("\"/privacy", "\"https://shop.example/privacy");
    let mut keeper = String::new();
    Keeper::default().append_to(&mut keeper);
    let page = chars(page);
    let found = [&near, &far].into_iter().find_map(|line| page.split_once(line.as_str()));
    let Some((before, behind)) = found else { return (bytes_of(&page), false) };
    let behind = behind.strip_prefix(&keeper).unwrap_or(behind);
    (bytes_of(&format!("{before}{behind}")), true)
}

fn counted(summary: &Summary) -> Vec<(String, VendorAction, u32)> {
    let mut all: Vec<_> = summary
        .vendors
        .iter()
        .map(|(id, action, count)| (default_policy().registry().vendor(*id).id.clone(), *action, *count))
        .collect();
    all.sort();
    all
}

/// What was done is counted once for each reference, in a noscript as outside, and
/// `restrict` is counted as the `strip` it was carried out as where no guard runs.
#[test]
fn every_reference_is_counted_once_with_the_action_taken() {
    let page = concat!(
        "<html><head><script src=//static.criteo.net/a.js></script>",
        "<script src=\"https://www.googletagmanager.com/gtm.js?id=GTM-X\"></script></head>",
        "<body><noscript><img src=https://www.facebook.com/tr><img src=//dis.criteo.com/x>",
        "<iframe src=https://www.googletagmanager.com/ns.html?id=GTM-X></iframe></noscript>",
        "<img srcset='//dis.criteo.com/1 1x, //dis.criteo.com/2 2x'></body></html>"
    );
    let (_, summary) = rewrite(&plan(true), page.as_bytes(), "counts");
    let strip = VendorAction::Strip;
    assert_eq!(
        counted(&summary),
        [
            ("criteo-onetag".to_owned(), strip, 4),
            ("google-tag-manager".to_owned(), VendorAction::Restrict, 1),
            ("google-tag-manager".to_owned(), strip, 1),
            ("meta-pixel".to_owned(), strip, 1),
        ]
    );
    assert!(summary.document && summary.link_inserted && !summary.link_adopted);
}

/// One before our place is adopted, one after it is a duplicate.
#[test]
fn the_summary_says_whose_link_the_page_has() {
    let own = "<a href=/x>Your Privacy Choices</a>";
    for (page, inserted, adopted, duplicate) in [
        (format!("<body>{own}<footer></footer></body>"), false, true, false),
        (format!("<body><footer></footer>{own}</body>"), true, false, true),
        ("<body></body>".to_owned(), true, false, false),
        ("<body><!--".to_owned(), false, false, false),
        ("<frameset><frame></frameset>".to_owned(), false, false, false),
    ] {
        let (_, got) = rewrite(&plan(false), page.as_bytes(), &page);
        let expected = Summary {
            link_inserted: inserted,
            link_adopted: adopted,
            link_duplicate: duplicate,
            document: true,
            vendors: Vec::new(),
            siblings: Vec::new(),
            strangers: Vec::new(),
        };
        assert_eq!(got, expected, "{page}");
    }
}

/// A tag, script or noscript above the limit ends the body of an opted-out visitor, and none
/// of it has gone out.
#[test]
fn what_is_larger_than_the_limit_is_refused_and_never_sent_raw() {
    let filler = "x".repeat(700_000);
    for page in [
        format!("<body><script>fbq('init');{filler}</script>"),
        format!("<body><noscript><img src=//www.facebook.com/tr>{filler}</noscript>"),
        format!("<body><img alt='{filler}{filler}' src=//www.facebook.com/tr>"),
    ] {
        let small = Plan { memory: 600_000, ..plan(true) };
        for size in [1_000, 100_000, page.len()] {
            let mut out = Vec::new();
            let mut rewriter = Rewriter::new(small.clone());
            let error = page.as_bytes().chunks(size).find_map(|c| rewriter.write(c, &mut out).err());
            assert_eq!(error, Some(RewriteError::Memory));
            assert!(!text(&out).contains("facebook") && !text(&out).contains("fbq("));
            assert_eq!(rewriter.write(b"x", &mut out), Err(RewriteError::Memory));
        }
    }
}

/// For a visitor who is not opted out a fault loses no byte.
#[test]
fn a_fault_passes_every_byte_when_nobody_opted_out() {
    let page = format!("<body><p>a<a href='{}'>b</a><p>c</body>", "x".repeat(900_000));
    let small = Plan { memory: 1_000, ..plan(false) };
    for size in [1_000, 100_000, page.len()] {
        let mut out = Vec::new();
        let mut rewriter = Rewriter::new(small.clone());
        let mut given = 0;
        for chunk in page.as_bytes().chunks(size) {
            given += chunk.len();
            if rewriter.write(chunk, &mut out).is_err() {
                break;
            }
        }
        assert!(given <= page.len());
        assert!(out == page.as_bytes()[..given], "{size}: {} of {given} bytes", out.len());
    }
}

/// Real pages without the signal are byte-identical apart from the one insertion, and
/// with it the answer does not depend on the cuts.
#[test]
fn real_pages_are_untouched_apart_from_the_one_insertion() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let Ok(entries) = fs::read_dir(&corpus) else {
        println!("skipped: no pages at {}", corpus.display());
        return;
    };
    let (mut pages, mut inserted, mut adopted) = (0, 0, 0);
    for path in entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "html")) {
        let input = fs::read(&path).unwrap();
        let (out, summary) = run(&plan(false), &[&input]).unwrap();
        // A page with a foreign base has the absolute address.
        let (left, found) = without_line(&out);
        assert!(left == input && found == summary.link_inserted, "{}", path.display());
        let whole = run(&plan(true), &[&input]).unwrap();
        let cuts: Vec<&[u8]> = input.chunks(4093).collect();
        assert!(run(&plan(true), &cuts).unwrap() == whole, "{}", path.display());
        pages += 1;
        inserted += usize::from(summary.link_inserted);
        adopted += usize::from(summary.link_adopted);
    }
    println!("{pages} pages: link inserted in {inserted}, adopted in {adopted}");
    assert_eq!(pages == 0, inserted + adopted == 0);
}

/// Pieces that pages go wrong with.
const SOUP: [&str; 54] = [
    "<html>",
    "<html amp>",
    "<meta http-equiv=content-security-policy content=\"script-src 'self'\">",
    "<head>",
    "</head>",
    "<body>",
    "</body>",
    "</html>",
    "<p>",
    "</p>",
    "<div>",
    "</div>",
    "<footer>",
    "</footer>",
    "<article>",
    "</article>",
    "<template>",
    "</template>",
    "<a href=/x>",
    "</a>",
    "Your Privacy Choices",
    "<svg>",
    "</svg>",
    "<math>",
    "</math>",
    "<title>",
    "</title>",
    "<script>",
    "</script>",
    "fbq('init')",
    "<!--",
    "-->",
    "<noscript>",
    "</noscript>",
    "<img src=//www.facebook.com/tr>",
    "<style>",
    "</style>",
    "url(//dis.criteo.com/x)",
    "<iframe src=//gum.criteo.com>",
    "</iframe>",
    "<textarea>",
    "</textarea>",
    "<a href='",
    "\"",
    "'",
    "<",
    "&amp;",
    "\u{e9}\u{4e2d}",
    "\0",
    "<select>",
    "</select>",
    "<base href=//cdn.example/>",
    "<frameset>",
    "<![CDATA[",
];

/// Malformed pages: nothing panics, the cuts never matter, and without the signal only the line is added.
#[test]
fn tag_soup_is_rewritten_alike_however_it_was_cut() {
    let mut random = Random(0x5DEE_CE66_D1CE_4E5B);
    for round in 0..1_500 {
        let input: String = (0..random.below(30)).map(|_| SOUP[random.below(SOUP.len())]).collect();
        for opted_out in [false, true] {
            let plan = plan(opted_out);
            let whole = run(&plan, &[input.as_bytes()]).unwrap();
            let bytes: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
            assert!(run(&plan, &bytes).unwrap() == whole, "{round}: {input:?}");
            let cuts = cut(&mut random, input.as_bytes());
            assert!(run(&plan, &cuts).unwrap() == whole, "{round}: {input:?}");
            if !opted_out {
                let (out, summary) = whole;
                let (left, found) = without_line(&out);
                assert_eq!(found, summary.link_inserted, "{round}: {input:?}");
                assert!(left == input.as_bytes(), "{round}: {input:?}\n{}", text(&out));
            }
        }
    }
}
