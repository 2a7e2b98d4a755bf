//! Content-Security-Policy: our inline scripts admitted, reports to trackers dropped, a second wall.
//!
//! All policies of all fields apply at once (CSP3, 2.4), and those of `meta` elements in the head too, from
//! their place on. So a script of ours runs only when every one of them lets it. Report-only policies block
//! nothing and are left as they are, but for reports to trackers.
//!
//! Which policies are edited:
//!
//! * the head's, for the guard and the keeper: a nonce that is there is used, else a hash is added;
//! * a `meta`'s, for the keeper of an opted-out visitor: the guard stands before it, so that it does not
//!   apply to it. For a visitor who is not opted out the body stays as it is but for its one insertion:
//!   behind such a `meta` their keeper does not run.

mod policy;
mod reports;
mod wall;

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue};

use policy::{Verdict, directives, find, judge, policies};

pub use reports::drop_reports;
pub use wall::{NeverAllowed, Wall};

/// The name of the guard's Trusted Types policy.
pub const TRUSTED_TYPES_POLICY: &str = "optgate";

/// Whether inline scripts of ours run on a page, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// They run; with a nonce, only when every one of their elements carries it.
    Runs {
        /// The page's own nonce: base64 characters only, so that it may stand in an attribute as it is.
        nonce: Option<String>,
    },
    /// No policy we may write lets them.
    Cannot,
}

/// Inline scripts of ours that come after the guard, where a `meta` may have set a policy meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Later {
    /// Their hash sources; empty when there are none.
    pub hashes: Arc<[String]>,
    /// The nonce on their elements, from [`Admission::Runs`].
    pub nonce: Option<Arc<str>>,
}

/// Makes every enforced policy of the head admit the inline scripts with these hashes (`'sha256-...'`,
/// quotes included).
///
/// A nonce of the page is used where one policy or more need something and have one; the policies that do
/// not hold it get the hashes. Nothing is added where inline scripts are allowed already: beside
/// `'unsafe-inline'` a hash would switch that off for the page's own scripts. A policy without any script
/// (`'none'`, an empty list, a sandbox without scripts) stays as it is, and then so does every other.
#[must_use]
pub fn admit(headers: &mut HeaderMap, hashes: &[&str]) -> Admission {
    admit_with(headers, hashes, true)
}

/// As [`admit`], for elements that carry no nonce: every policy that needs something gets the hashes.
///
/// For a 304, too: the page it renews has the nonce of its own time.
#[must_use]
pub fn admit_by_hash(headers: &mut HeaderMap, hashes: &[&str]) -> bool {
    admit_with(headers, hashes, false) != Admission::Cannot
}

/// [`admit_by_hash`] for the guard alone.
#[must_use]
pub fn admit_guard(headers: &mut HeaderMap, hash: &str) -> bool {
    admit_by_hash(headers, &[hash])
}

fn admit_with(headers: &mut HeaderMap, hashes: &[&str], reuse: bool) -> Admission {
    let mut fields = Vec::new();
    for value in headers.get_all(CONTENT_SECURITY_POLICY) {
        // Bytes that are no text cannot be judged, so that nothing is promised.
        let Ok(text) = value.to_str() else { return Admission::Cannot };
        fields.push(text);
    }
    let mut needs = Vec::new();
    for (field, text) in fields.iter().enumerate() {
        for (start, policy) in policies(text) {
            match judge(policy, hashes, true) {
                Verdict::Runs => {}
                Verdict::Cannot => return Admission::Cannot,
                Verdict::Needs { nonces, missing, end } => needs.push((field, start + end, nonces, missing)),
            }
        }
    }
    let nonce = reuse.then(|| commonest(needs.iter().map(|(_, _, nonces, _)| nonces.as_slice()))).flatten();
    let mut edited: Vec<Cow<'_, str>> = fields.iter().map(|text| Cow::Borrowed(*text)).collect();
    // From the last to the first, so that places found earlier stay right.
    for (field, end, nonces, missing) in needs.iter().rev() {
        if nonce.is_none_or(|nonce| !nonces.contains(&nonce)) {
            edited[*field].to_mut().insert_str(*end, &list(hashes, missing));
        }
    }
    let nonce = nonce.map(str::to_owned);
    let changed = edited.iter().any(|text| matches!(text, Cow::Owned(_)));
    let values: Result<Vec<_>, _> = edited.into_iter().map(|text| HeaderValue::try_from(&*text)).collect();
    match values {
        Err(_) => return Admission::Cannot,
        Ok(values) if changed => replace(headers, CONTENT_SECURITY_POLICY, values),
        Ok(_) => {}
    }
    Admission::Runs { nonce }
}

/// The nonce that most of the lists hold; of equals the first.
fn commonest<'a>(lists: impl Iterator<Item = &'a [&'a str]>) -> Option<&'a str> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for nonce in lists.flatten() {
        match counts.iter_mut().find(|(known, _)| known == nonce) {
            Some((_, count)) => *count += 1,
            None => counts.push((nonce, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(nonce, _)| nonce)
}

fn list(hashes: &[&str], which: &[usize]) -> String {
    let mut out = String::new();
    for at in which {
        out.push(' ');
        out.push_str(hashes[*at]);
    }
    out
}

/// The content of a `meta` policy that admits later scripts of ours; `None` when nothing has to be, or
/// may be, changed.
///
/// The directives that a `meta` cannot set, `sandbox` among them, mean nothing here (HTML, 4.2.5.3). The
/// guard's Trusted Types policy is made before the `meta` is read, so that its name need not be added.
#[must_use]
pub fn admit_in_meta(content: &str, later: &Later) -> Option<String> {
    let hashes: Vec<&str> = later.hashes.iter().map(String::as_str).collect();
    let mut edited = content.to_owned();
    let mut changed = false;
    for (start, policy) in policies(content).into_iter().rev() {
        match judge(policy, &hashes, false) {
            Verdict::Runs => {}
            Verdict::Cannot => return None,
            Verdict::Needs { nonces, missing, end } => {
                if !later.nonce.as_deref().is_some_and(|nonce| nonces.contains(&nonce)) {
                    edited.insert_str(start + end, &list(&hashes, &missing));
                    changed = true;
                }
            }
        }
    }
    changed.then_some(edited)
}

/// Lets the guard make its Trusted Types policy: its name is added to every list of names in the head.
///
/// The guard makes it before any other script runs, and a name is given once; so nobody else gains a
/// policy. Beside `'allow-duplicates'` that would not hold, and nothing is added. Lists count without
/// `require-trusted-types-for` too: a `meta` may still bring that.
pub fn admit_policy_name(headers: &mut HeaderMap) {
    edit(headers, &CONTENT_SECURITY_POLICY, with_policy_name);
}

/// `None` when nothing is to be added.
fn with_policy_name(text: &str) -> Option<String> {
    let mut edited = text.to_owned();
    let mut changed = false;
    for (start, policy) in policies(text).into_iter().rev() {
        let directives = directives(policy);
        let Some(directive) = find(&directives, "trusted-types") else { continue };
        let settled = |value: &str| {
            matches!(value, "*" | TRUSTED_TYPES_POLICY) || value.eq_ignore_ascii_case("'allow-duplicates'")
        };
        if !directive.values().any(settled) {
            edited.insert_str(start + directive.end, &format!(" {TRUSTED_TYPES_POLICY}"));
            changed = true;
        }
    }
    changed.then_some(edited)
}

/// Changes the values of a field; those that are no text, or for which `change` gives nothing, stay.
fn edit(headers: &mut HeaderMap, name: &HeaderName, change: impl Fn(&str) -> Option<String>) {
    let mut changed = false;
    let mut fields: Vec<HeaderValue> = Vec::new();
    for value in headers.get_all(name) {
        let edited = value.to_str().ok().and_then(&change);
        match edited.map(HeaderValue::try_from) {
            Some(Ok(value)) => {
                changed = true;
                fields.push(value);
            }
            _ => fields.push(value.clone()),
        }
    }
    if changed {
        replace(headers, name.clone(), fields);
    }
}

fn replace(headers: &mut HeaderMap, name: HeaderName, fields: Vec<HeaderValue>) {
    headers.remove(&name);
    for field in fields {
        headers.append(&name, field);
    }
}

#[cfg(test)]
mod tests;
