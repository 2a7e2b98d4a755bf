//! Documents served as XML and what becomes of them (DESIGN 5: "XHTML as XML, SVG documents").
//!
//! `tests/fixtures/xml/CASE/input.xml` and `expected.xml`, each whole, byte by byte and at random cuts;
//! `plan.txt` beside them where the case is not an opted-out document at `https://shop.example/page`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use optgate::config::{LinkTitle, VendorPolicy};
use optgate::enforce::html::{Kind, Plan, RewriteError, Rewriter, Summary};
use optgate::registry::{Policy, Registry};

use super::support::origin::Origin;
use super::support::proxy::proxy;

static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    let registry = Arc::new(Registry::builtin().unwrap());
    Arc::new(Policy::resolve(registry, &VendorPolicy::default()).unwrap())
});

fn plan(opted_out: bool) -> Plan {
    Plan {
        opted_out,
        policy: Arc::clone(&POLICY),
        page: "https://shop.example/page".parse().unwrap(),
        kind: Kind::Document,
        guard: true,
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
    let (mut rewriter, mut out) = (Rewriter::xml(plan.clone(), false), Vec::new());
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

/// DESIGN 4 and 5: every fixture at every kind of cut; what was well-formed stays so.
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
