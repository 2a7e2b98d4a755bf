//! Pages and what becomes of them, each whole, byte by byte and at 200 random cuts.
//!
//! `tests/fixtures/html/CASE/input.html` and `expected.html`; `plan.txt` beside them, one `key value` a
//! line, where the case is not an opted-out document at `https://shop.example/page`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use optgate::config::{LinkTitle, VendorPolicy};
use optgate::enforce::guard;
use optgate::enforce::html::{Kind, Plan, RewriteError, Rewriter, Summary};
use optgate::registry::{Policy, Registry};

static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    let registry = Arc::new(Registry::builtin().expect("the built-in registry loads"));
    Arc::new(Policy::resolve(registry, &VendorPolicy::default()).expect("the default policy resolves"))
});

fn plan(opted_out: bool) -> Plan {
    Plan {
        opted_out,
        policy: Arc::clone(&POLICY),
        page: url::Url::parse("https://shop.example/page").unwrap(),
        kind: Kind::Document,
        guard: true,
        prefix: Arc::from("/privacy-choices"),
        link: LinkTitle::DoNotSell,
        memory: 1 << 20,
    }
}

fn run(plan: &Plan, cuts: &[&[u8]]) -> Result<(Vec<u8>, Summary), RewriteError> {
    let mut out = Vec::new();
    let mut rewriter = Rewriter::new(plan.clone());
    for piece in cuts {
        rewriter.write(piece, &mut out)?;
    }
    let summary = rewriter.end(&mut out)?;
    Ok((out, summary))
}

/// A small generator so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }

    fn cut<'a>(&mut self, input: &'a [u8]) -> Vec<&'a [u8]> {
        let mut at: Vec<usize> = (0..=self.below(8)).map(|_| self.below(input.len() + 1)).collect();
        at.extend([0, input.len()]);
        at.sort_unstable();
        at.windows(2).map(|w| &input[w[0]..w[1]]).collect()
    }
}

/// Rewrites at every kind of cut and insists on one answer.
fn rewrite(plan: &Plan, input: &[u8], case: &str) -> (Vec<u8>, Summary) {
    let whole = run(plan, &[input]).unwrap_or_else(|e| panic!("{case}: {e}"));
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    let each = run(plan, &bytes).unwrap_or_else(|e| panic!("{case}, byte by byte: {e}"));
    assert!(each == whole, "{case}: byte by byte differs\n{}", text(&each.0));
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ input.len() as u64);
    for _ in 0..200 {
        let cuts = random.cut(input);
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
    String::from_utf8_lossy(bytes).replace(guard::element(), "[GUARD]")
}

fn read_plan(file: &Path) -> Plan {
    let mut plan = plan(true);
    let Ok(written) = fs::read_to_string(file) else { return plan };
    for line in written.lines() {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("opted-out", "no") => plan.opted_out = false,
            ("guard", "no") => plan.guard = false,
            ("kind", "frame") => plan.kind = Kind::Frame,
            ("kind", "fragment") => plan.kind = Kind::Fragment,
            ("kind", "unsure") => plan.kind = Kind::Unsure,
            ("link", "choices") => plan.link = LinkTitle::PrivacyChoices,
            ("page", page) => plan.page = url::Url::parse(page).unwrap(),
            other => panic!("{}: unknown line {other:?}", file.display()),
        }
    }
    plan
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/html");
    let mut cases: Vec<_> =
        fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    cases.sort();
    cases
}

/// `[GUARD]`, `[LINK]` and `[STATUS]` in an expected file stand for what the product inserts.
fn expand(expected: &str) -> String {
    let link =
        "<p class=\"ogc-line\"><a href=\"/privacy-choices\">Do Not Sell or Share My Personal Information</a>";
    let status = " <span class=\"ogc-status\" role=\"status\">Opt-Out Request Honored</span>";
    expected
        .replace("[GUARD]", guard::element())
        .replace("[LINK+STATUS]", &format!("{link}{status}</p>"))
        .replace("[LINK]", &format!("{link}</p>"))
        .replace("[STATUS]", status)
}

/// DESIGN 4, "HTML": the whole fixture set at every kind of cut.
#[test]
fn every_fixture_comes_out_as_written_however_it_was_cut() {
    let cases = cases();
    assert!(cases.len() >= 20, "only {} fixtures", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let input = fs::read(case.join("input.html")).unwrap();
        let (out, _) = rewrite(&read_plan(&case.join("plan.txt")), &input, &name);
        let expected = fs::read(case.join("expected.html")).unwrap_or_default();
        let expected = match String::from_utf8(expected) {
            Ok(expected) => expand(&expected).into_bytes(),
            Err(raw) => raw.into_bytes(),
        };
        if out != expected {
            wrong.push(format!("== {name}\n-- got\n{}\n-- expected\n{}", text(&out), text(&expected)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
