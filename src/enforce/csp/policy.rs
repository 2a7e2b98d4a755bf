//! The text of a policy: directives with their places, and what a source list says of inline scripts.

/// The policies of one field value, or of a `meta`'s content, with their places. All of them apply.
///
/// Chromium splits a `meta`'s content at commas as it does a field's.
pub(super) fn policies(text: &str) -> Vec<(usize, &str)> {
    let mut start = 0;
    text.split(',')
        .map(|policy| {
            let at = start;
            start += policy.len() + 1;
            (at, policy)
        })
        .collect()
}

/// One directive of a policy.
pub(super) struct Directive<'a> {
    pub(super) name: &'a str,
    rest: &'a str,
    /// Where it begins and ends within its policy, white space around it left out.
    pub(super) start: usize,
    pub(super) end: usize,
}

impl<'a> Directive<'a> {
    /// Its values, in order.
    pub(super) fn values(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.rest.split_ascii_whitespace()
    }
}

/// The directives of a policy in order, repeated ones too.
pub(super) fn directives(policy: &str) -> Vec<Directive<'_>> {
    let mut at = 0;
    policy
        .split(';')
        .filter_map(|raw| {
            let begins = at;
            at += raw.len() + 1;
            let text = raw.trim_ascii();
            let start = begins + raw.len() - raw.trim_ascii_start().len();
            let (name, rest) = text.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((text, ""));
            (!name.is_empty()).then_some(Directive { name, rest, start, end: start + text.len() })
        })
        .collect()
}

/// A directive by name; of a repeated one the first counts (CSP3, 2.2.1).
pub(super) fn find<'d, 'a>(directives: &'d [Directive<'a>], name: &str) -> Option<&'d Directive<'a>> {
    directives.iter().find(|directive| directive.name.eq_ignore_ascii_case(name))
}

/// What one policy says about inline scripts of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    /// They run as they are.
    Runs,
    /// They run with one of these nonces on their elements, or once the hashes that are not listed yet
    /// stand at this byte, behind `opening`.
    Needs { nonces: Vec<&'a str>, missing: Vec<usize>, end: usize, opening: String },
    /// Nothing we may add makes them run.
    Cannot,
}

/// Judges one policy. `sandboxes`: its `sandbox` directive counts (in a `meta` it does not).
pub(super) fn judge<'a>(policy: &'a str, hashes: &[&str], sandboxes: bool) -> Verdict<'a> {
    let mut directives = directives(policy);
    // Browsers pass over one with other letters in it (CSP3, 2.2.1).
    directives.retain(|directive| directive.name.is_ascii() && directive.rest.is_ascii());
    if sandboxes
        && let Some(sandbox) = find(&directives, "sandbox")
        && !sandbox.values().any(|token| token.eq_ignore_ascii_case("allow-scripts"))
    {
        return Verdict::Cannot;
    }
    let Some(directive) = governing(&directives) else { return Verdict::Runs };
    let (mut inline, mut narrowed, mut any, mut exact) = (false, false, false, false);
    let (mut nonces, mut listed) = (Vec::new(), vec![false; hashes.len()]);
    for source in directive.values() {
        let is = |known: &str| source.eq_ignore_ascii_case(known);
        if is("'none'") {
            continue;
        }
        any = true;
        inline |= is("'unsafe-inline'");
        narrowed |= is("'strict-dynamic'");
        if let Some(nonce) = nonce(source) {
            (narrowed, exact) = (true, true);
            nonces.push(nonce);
        }
        if is_hash(source) {
            (narrowed, exact) = (true, true);
            for (at, hash) in hashes.iter().enumerate() {
                listed[at] |= same_hash(source, hash);
            }
        }
    }
    let missing: Vec<usize> = (0..hashes.len()).filter(|at| !listed[*at]).collect();
    match () {
        () if !any => Verdict::Cannot,
        // A nonce, a hash or 'strict-dynamic' switches it off ("allow all inline behavior", CSP3 6.7.3.2).
        () if inline && !narrowed => Verdict::Runs,
        () if missing.is_empty() => Verdict::Runs,
        () => {
            let opening = if inline && !exact { of_its_own(directive, &directives) } else { String::new() };
            Verdict::Needs { nonces, missing, end: directive.end, opening }
        }
    }
}

/// Effective directive of script elements (CSP3, 6.8.3).
fn governing<'d, 'a>(directives: &'d [Directive<'a>]) -> Option<&'d Directive<'a>> {
    ["script-src-elem", "script-src", "default-src"].into_iter().find_map(|name| find(directives, name))
}

/// Whether inline scripts are let in by their text.
pub(super) fn lists_hashes(policy: &str) -> bool {
    governing(&directives(policy)).is_some_and(|directive| directive.values().any(is_hash))
}

/// A directive for scripts with the sources of `default-src`, where that governs styles as well: those do not
/// care for `'strict-dynamic'`, but a hash would switch the page's inline styles off (CSP3 6.7.3.2).
fn of_its_own(directive: &Directive<'_>, directives: &[Directive<'_>]) -> String {
    let has = |name: &str| find(directives, name).is_some();
    let styled = has("style-src") || has("style-src-elem") && has("style-src-attr");
    if styled || !directive.name.eq_ignore_ascii_case("default-src") {
        return String::new();
    }
    format!("; script-src {}", directive.rest.trim_ascii())
}

/// The value of a nonce source. What only looks like one is none, and leaves `'unsafe-inline'` in force.
fn nonce(source: &str) -> Option<&str> {
    let value = quoted(source, "nonce-")?;
    is_base64(value).then_some(value)
}

fn is_hash(source: &str) -> bool {
    ["sha256-", "sha384-", "sha512-"].iter().any(|kind| quoted(source, kind).is_some_and(is_base64))
}

/// Whether two hash sources are of the same text: the algorithm's case and the base64 alphabet do not
/// matter.
fn same_hash(a: &str, b: &str) -> bool {
    let fold = |byte: u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    };
    let Some((a, b)) = quoted(a, "sha256-").zip(quoted(b, "sha256-")) else { return false };
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| fold(a) == fold(b))
}

/// The value behind a kind, without the quotes: `abc` of `'nonce-abc'`.
fn quoted<'a>(source: &'a str, kind: &str) -> Option<&'a str> {
    let inner = source.strip_prefix('\'')?.strip_suffix('\'')?;
    let (head, value) = inner.split_at_checked(kind.len())?;
    head.eq_ignore_ascii_case(kind).then_some(value)
}

/// CSP3, 2.3.1, `base64-value`.
fn is_base64(value: &str) -> bool {
    let bare = value.strip_suffix("==").or_else(|| value.strip_suffix('=')).unwrap_or(value);
    !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/-_".contains(&b))
}
