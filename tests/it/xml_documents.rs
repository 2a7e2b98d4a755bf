//! Documents served as XML and what becomes of them.
//!
//! `tests/fixtures/xml/CASE/input.xml` and `expected.xml`, each whole, byte by byte and at random cuts;
//! `plan.txt` beside them where the case is not an opted-out document at `https://shop.example/page`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::support::guard::{default_policy, placement};
use super::support::random::Random;
use optgate::config::LinkTitle;
use optgate::enforce::html::{Kind, Plan, RewriteError, Rewriter, Summary};

fn plan(opted_out: bool) -> Plan {
    Plan {
        opted_out,
        keeps_programme: false,
        policy: default_policy(),
        page: "https://shop.example/page".parse().unwrap(),
        kind: Kind::Document,
        guard: Some(placement()),
        keeper: Some(Default::default()),
        lists: None,
        prefix: Arc::from("/privacy-choices"),
        link: LinkTitle::DoNotSell,
        memory: 1 << 20,
    }
}

fn read_plan(file: &Path) -> Plan {
    let mut plan = plan(true);
    for line in fs::read_to_string(file).unwrap_or_default().lines() {
        match line {
            "opted-out no" => plan.opted_out = false,
            "kind frame" => plan.kind = Kind::Frame,
            "link choices" => plan.link = LinkTitle::PrivacyChoices,
            other => panic!("{}: unknown line {other:?}", file.display()),
        }
    }
    plan
}

type Rewritten = Result<(Vec<u8>, Summary, bool), RewriteError>;

fn run<'a>(plan: &Plan, pieces: impl IntoIterator<Item = &'a [u8]>) -> Rewritten {
    let (mut rewriter, mut out) = (Rewriter::xml(plan.clone(), None, false), Vec::new());
    for piece in pieces {
        rewriter.write(piece, &mut out)?;
    }
    let untouched = rewriter.is_untouched();
    let summary = rewriter.end(&mut out)?;
    Ok((out, summary, untouched))
}

/// Rewrites at many cuts and insists on one answer.
fn rewrite(plan: &Plan, input: &[u8], case: &str) -> (Vec<u8>, Summary, bool) {
    let whole = run(plan, [input]).unwrap_or_else(|e| panic!("{case}: {e}"));
    for size in [1, 2, 3, 7, 64] {
        let cut = run(plan, input.chunks(size)).unwrap_or_else(|e| panic!("{case} by {size}: {e}"));
        assert!(cut == whole, "{case} by {size} differs\n{}", String::from_utf8_lossy(&cut.0));
    }
    for at in (0..input.len()).step_by(1 + input.len() / 200) {
        let cut = run(plan, [&input[..at], &input[at..]]).unwrap_or_else(|e| panic!("{case}, {at}: {e}"));
        assert!(cut == whole, "{case} cut at {at} differs\n{}", String::from_utf8_lossy(&cut.0));
    }
    whole
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/xml");
    let mut cases: Vec<_> = fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    cases
}

/// Whether a strict parser takes it.
fn is_well_formed(bytes: &[u8]) -> bool {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    std::str::from_utf8(bytes)
        .is_ok_and(|text| roxmltree::Document::parse_with_options(text, options).is_ok())
}

/// Every fixture at every kind of cut; what was well-formed stays so.
#[test]
fn every_xml_fixture_comes_out_as_written_and_well_formed() {
    let cases = cases();
    assert!(cases.len() >= 20, "only {} fixtures", cases.len());
    let (mut wrong, mut parsed) = (Vec::new(), 0);
    for case in cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let input = fs::read(case.join("input.xml")).unwrap();
        let (out, ..) = rewrite(&read_plan(&case.join("plan.txt")), &input, &name);
        let expected = fs::read(case.join("expected.xml")).unwrap_or_default();
        if out != expected {
            let text = String::from_utf8_lossy;
            wrong.push(format!("== {name}\n-- got\n{}\n-- expected\n{}", text(&out), text(&expected)));
        }
        if is_well_formed(&input) {
            parsed += 1;
            assert!(is_well_formed(&out), "{name}: {}", String::from_utf8_lossy(&out));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(parsed >= 14, "only {parsed} fixtures are well-formed XML");
}

/// What cannot be read is an error at every cut, of which an
/// opted-out visitor sees nothing behind the fault, and others every byte.
#[test]
fn a_fault_stops_an_opted_out_document_and_loses_nobody_elses_bytes() {
    let head = "<html xmlns=\"http://www.w3.org/1999/xhtml\"><body><p>x</p>";
    let bomb: String =
        (1..9).map(|n| format!("<!ENTITY e{n} '{}'>", format!("&e{};", n - 1).repeat(20))).collect();
    let image = "<img alt=\"\" src=\"https://dis.criteo.com/1\"/>";
    for (fault, reason) in [
        (format!("{head}<img src=https://dis.criteo.com/1 />"), RewriteError::Xml),
        (format!("{head}<img alt=\"<\" src=\"https://dis.criteo.com/1\"/>"), RewriteError::Xml),
        (format!("{head}a < b {image}"), RewriteError::Xml),
        (format!("{head}<!ELEMENT {image}>"), RewriteError::Xml),
        (format!("<!DOCTYPE html [<!ENTITY e '<b/>'>]>{head}{image}"), RewriteError::Xml),
        (format!("<!DOCTYPE html [%e;]>{head}{image}"), RewriteError::Xml),
        (
            format!("<!DOCTYPE html [<!ATTLIST img src CDATA '//dis.criteo.com/1'>]>{head}<img/>"),
            RewriteError::Xml,
        ),
        (format!("<!DOCTYPE html [<!ENTITY e0 ''>{bomb}]>{head}<img src=\"&e8;\"/>"), RewriteError::Xml),
        (
            format!("{head}<img alt=\"{}\" src=\"https://dis.criteo.com/1\"/>", "x".repeat(400_000)),
            RewriteError::Memory,
        ),
        (format!("{head}<script>{}fbq('init')</script>", "x".repeat(40_000)), RewriteError::Memory),
        (format!("<!--{}-->{head}{image}", "x".repeat(400_000)), RewriteError::Memory),
    ] {
        for opted_out in [true, false] {
            let small = Plan { memory: 20_000, ..plan(opted_out) };
            for size in [1, 7, 5_000, fault.len()] {
                let (mut rewriter, mut out, mut given) =
                    (Rewriter::xml(small.clone(), None, false), Vec::new(), 0);
                let error = fault.as_bytes().chunks(size).find_map(|piece| {
                    given += piece.len();
                    rewriter.write(piece, &mut out).err()
                });
                let text = String::from_utf8_lossy(&out);
                if opted_out {
                    assert_eq!(error, Some(reason), "by {size}: {fault:.200}");
                    assert!(!text.contains("criteo") && !text.contains("fbq("), "by {size}: {text}");
                } else if error.is_some() {
                    assert!(out == fault.as_bytes()[..given], "by {size}: {fault:.200}");
                } else {
                    rewriter.end(&mut out).unwrap();
                    assert!(out == fault.as_bytes(), "by {size}: {fault:.200}");
                }
            }
        }
    }
}

/// Counted once each; `restrict` as the `strip` it was; feeds and drawings are no documents.
#[test]
fn the_summary_says_what_the_document_was() {
    let vendors = |summary: &Summary| summary.vendors.iter().map(|(_, _, count)| count).sum::<u32>();
    let read = |case: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/xml").join(case);
        rewrite(&read_plan(&folder.join("plan.txt")), &fs::read(folder.join("input.xml")).unwrap(), case)
    };
    for (case, document, inserted, adopted, untouched, count) in [
        ("page", true, true, false, false, 10),
        ("not-opted-out", true, true, false, false, 0),
        ("adopted", true, false, true, false, 0),
        ("svg", false, false, false, false, 7),
        ("other-root", false, false, false, false, 1),
        ("feed", false, false, false, true, 0),
        ("frame", false, false, false, false, 1),
        ("tag-manager", true, true, false, false, 2),
    ] {
        let (_, summary, passed) = read(case);
        let got = (summary.document, summary.link_inserted, summary.link_adopted, passed, vendors(&summary));
        assert_eq!(got, (document, inserted, adopted, untouched, count), "{case}");
    }
}

/// Pieces that documents go wrong with.
const SOUP: [&str; 30] = [
    "<html xmlns='http://www.w3.org/1999/xhtml'>",
    "</html>",
    "<body>",
    "</body>",
    "<footer>",
    "</footer>",
    "<p/>",
    "<svg xmlns='http://www.w3.org/2000/svg'>",
    "</svg>",
    "<script>",
    "</script>",
    "<style>",
    "</style>",
    "fbq('init')",
    "url(//dis.criteo.com/x)",
    "<img src='//dis.criteo.com/1'/>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?xml-stylesheet href='//dis.criteo.com/1'?>",
    "<?x",
    "?>",
    "<!DOCTYPE html [",
    "<!ENTITY a 'b'>",
    "]>",
    "&a;",
    "'",
    "<a href='/x'>Your Privacy Choices</a>",
    "<",
];

/// Malformed documents: nothing panics, and neither the answer nor the fault depends on the cuts.
#[test]
fn soup_of_xml_is_read_alike_however_it_was_cut() {
    let mut random = Random(0x5DEE_CE66_D1CE_4E5B);
    let mut below = |limit: usize| random.below(limit);
    for round in 0..2_000 {
        let mut input: String = if round % 4 == 0 { String::new() } else { SOUP[0].to_owned() };
        input.extend((0..below(20)).map(|_| SOUP[below(SOUP.len())]));
        for opted_out in [true, false] {
            let plan = plan(opted_out);
            let whole = run(&plan, [input.as_bytes()]);
            for size in [1, 1 + below(9)] {
                let cut = run(&plan, input.as_bytes().chunks(size));
                assert!(cut == whole, "{round} by {size}: {input:?}\n{cut:?}\n{whole:?}");
            }
            if let (true, Ok((out, _, false))) = (opted_out, &whole) {
                let text = String::from_utf8_lossy(out);
                let well = is_well_formed(input.as_bytes());
                assert!(!well || is_well_formed(out), "{round}: {input:?}\n{text}");
            }
        }
    }
}
