//! Which attributes of which elements lead somewhere, and how each is made harmless in place.

use std::collections::HashSet;

use lol_html::html_content::Element;

use super::references::{Place, decode, encode};
use super::state::State;
use super::{RewriteError, srcset, urls};
use crate::registry::{Hit, VendorId};

/// Elements before which the guard has to stand, and those that are part of the document's frame.
const FETCHES: [&str; 45] = [
    "script",
    "img",
    "image",
    "feimage",
    "use",
    "iframe",
    "frame",
    "frameset",
    "link",
    "style",
    "source",
    "video",
    "audio",
    "track",
    "embed",
    "object",
    "param",
    "input",
    "meta",
    "base",
    "html",
    "head",
    "body",
    "table",
    "td",
    "th",
    "tr",
    "a",
    "area",
    "svg",
    "math",
    "template",
    "noscript",
    "footer",
    "article",
    "section",
    "aside",
    "amp-img",
    "amp-pixel",
    "amp-analytics",
    "amp-ad",
    "amp-embed",
    "amp-iframe",
    "amp-video",
    "amp-audio",
];

/// Whether an element can fetch something, or stands where one can.
pub(super) fn fetches(tag: &str) -> bool {
    FETCHES.contains(&tag)
}

/// Changes to one element; each is a search through its attributes, and no page has so many.
const MOST_EDITS: usize = 1_000;

/// The mark on every changed element.
const MARK: &str = "data-optgate";

/// What an attribute holds, and what stands in its place when it has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// One URL; a stand-in from the portal's assets.
    Stub(&'static str),
    /// One URL; `about:blank`.
    Blank,
    /// One URL; the attribute goes.
    Url,
    /// A link's URL, by its `rel`.
    Link,
    /// Image candidates; each goes alone.
    Set,
    /// URLs between spaces; the attribute goes when one is a tracker's.
    List,
    /// A `meta refresh`; the attribute goes.
    Refresh,
    /// A whole document in an attribute; rewritten by a second pass.
    Document,
}

const SCRIPT: Slot = Slot::Stub("e.js");
const IMAGE: Slot = Slot::Stub("e.gif");

/// What becomes of an attribute.
pub(super) enum Edit {
    Set(String),
    Remove,
}

/// Neutralises what an element refers to. Untouched elements stay byte-identical.
///
/// Cost: one pass over the attributes; values are read only where they can lead somewhere.
pub(super) fn neutralise(state: &mut State, el: &mut Element<'_, '_>, tag: &str) {
    let rel = if tag == "link" { rel(el) } else { Rel::default() };
    let refresh = tag == "meta" && is_meta(el, "refresh");
    let mut read: HashSet<String> = HashSet::new();
    let mut edits: Vec<(String, Edit)> = Vec::new();
    let mut culprit = None;
    for attribute in el.attributes() {
        let name = attribute.name();
        let Some(slot) = slot(tag, &name, refresh) else { continue };
        // Only the first of a name counts (HTML 13.2.5.33).
        if !read.insert(name.clone()) {
            continue;
        }
        if let Some((vendor, edit)) = judge(state, slot, &rel, &attribute.value()) {
            culprit = culprit.or(vendor);
            edits.push((name, edit));
        }
    }
    if edits.is_empty() {
        return;
    }
    if edits.len() > MOST_EDITS {
        state.failed = Some(RewriteError::Memory);
        return;
    }
    for (name, edit) in edits {
        match edit {
            Edit::Set(value) => {
                // The name was read from this very tag, so it cannot be refused.
                let _ = el.set_attribute(&name, &value);
            }
            Edit::Remove => el.remove_attribute(&name),
        }
    }
    if tag == "script" || tag == "link" {
        el.remove_attribute("integrity");
    }
    if let Some(vendor) = culprit {
        let _ = el.set_attribute(MARK, &format!("strip:{}", state.vendor(vendor)));
    }
}

/// Whether a `meta` has this `http-equiv`.
pub(super) fn is_meta(el: &Element<'_, '_>, kind: &str) -> bool {
    el.get_attribute("http-equiv")
        .is_some_and(|v| decode(&v, Place::Attribute).trim().eq_ignore_ascii_case(kind))
}

/// What an attribute of an element holds; both names in lower case.
pub(super) fn slot(tag: &str, name: &str, refresh: bool) -> Option<Slot> {
    if name == "attributionsrc" {
        return matches!(tag, "a" | "area" | "img" | "script").then_some(Slot::List);
    }
    match (tag, name) {
        ("script", "src" | "href" | "xlink:href") => Some(SCRIPT),
        ("img" | "input" | "amp-img", "src")
        | ("image" | "feimage", "src" | "href" | "xlink:href")
        | ("img", "lowsrc") => Some(IMAGE),
        ("img" | "image" | "source" | "amp-img", "srcset") | ("link", "imagesrcset") => Some(Slot::Set),
        ("iframe" | "frame", "src") => Some(Slot::Blank),
        ("iframe", "srcdoc") => Some(Slot::Document),
        ("link", "href" | "data-href") => Some(Slot::Link),
        ("source" | "audio" | "track" | "embed", "src")
        | ("video", "src" | "poster")
        | ("object", "data" | "codebase")
        | ("param", "value")
        | ("use", "href" | "xlink:href")
        | ("body" | "table" | "tr" | "td" | "th", "background") => Some(Slot::Url),
        ("base", "href") => Some(Slot::Url),
        ("meta", "content") if refresh => Some(Slot::Refresh),
        ("a" | "area", "ping") => Some(Slot::List),
        ("amp-pixel" | "amp-ad" | "amp-embed" | "amp-iframe" | "amp-video" | "amp-audio", "src")
        | ("amp-analytics", "config")
        | ("amp-video", "poster") => Some(Slot::Url),
        _ => lazy(tag, name),
    }
}

/// Attributes that lazy loaders copy to the real ones, on whatever element their page puts them.
fn lazy(tag: &str, name: &str) -> Option<Slot> {
    let rest = name.strip_prefix("data-")?;
    if rest.ends_with("srcset") || matches!(rest, "original-set" | "src-retina") {
        return Some(Slot::Set);
    }
    let medium = match tag {
        "img" | "image" => Some(IMAGE),
        "script" => Some(SCRIPT),
        "iframe" | "frame" => Some(Slot::Blank),
        "source" | "video" | "audio" | "embed" | "object" | "amp-img" | "amp-iframe" | "amp-ad" => {
            Some(Slot::Url)
        }
        _ => None,
    };
    match rest {
        "original" | "bg" | "background" | "background-image" | "poster" => medium.or(Some(Slot::Url)),
        // Elsewhere these hold what a click opens, which is no request of the page.
        "lazy" | "lazyload" | "url" | "echo" => medium,
        _ if rest.ends_with("src") => medium.or(Some(Slot::Url)),
        _ => None,
    }
}

/// Judges one raw value; `None` when it stays. The vendor is `None` for a whole document in an attribute.
pub(super) fn judge(
    state: &mut State,
    slot: Slot,
    rel: &Rel,
    value: &str,
) -> Option<(Option<VendorId>, Edit)> {
    let (vendor, edit) = match slot {
        Slot::Stub(asset) => (state.strip_url(value)?, Edit::Set(state.asset(asset))),
        Slot::Blank => (state.strip_url(value)?, Edit::Set("about:blank".to_owned())),
        Slot::Url => (state.strip_url(value)?, Edit::Remove),
        Slot::Link => {
            let vendor = if rel.hint { state.strip_host(value)? } else { state.strip_url(value)? };
            let edit = if rel.sheet { Edit::Set(state.asset("e.css")) } else { Edit::Remove };
            (vendor, edit)
        }
        Slot::List => {
            let decoded = decode(value, Place::Attribute);
            let hits: Vec<_> =
                decoded.split_ascii_whitespace().filter_map(|url| state.strip_url(url)).collect();
            (*hits.first()?, Edit::Remove)
        }
        Slot::Refresh => (state.strip_url(&urls::refresh(value)?)?, Edit::Remove),
        Slot::Set => return candidates(state, value),
        Slot::Document => return Some((None, Edit::Set(state.embedded(value)?))),
    };
    Some((Some(vendor), edit))
}

fn candidates(state: &mut State, value: &str) -> Option<(Option<VendorId>, Edit)> {
    // Written references stay as written unless one of them is itself a comma or space.
    let decoded = decode(value, Place::Attribute);
    let same = srcset::candidates(&decoded).len() == srcset::candidates(value).len();
    let mut first = None;
    let mut drop = |url: &str| {
        let vendor = state.strip_url(url);
        first = first.or(vendor);
        vendor.is_some()
    };
    let left = if same {
        srcset::filter(value, &mut drop)?
    } else {
        encode(&srcset::filter(&decoded, &mut drop)?).into_owned()
    };
    Some((first, if left.is_empty() { Edit::Remove } else { Edit::Set(left) }))
}

/// What a `link` is, as far as it matters here.
#[derive(Debug, Default)]
pub(super) struct Rel {
    /// Only opens a connection: no path to match.
    hint: bool,
    /// A style sheet.
    sheet: bool,
}

fn rel(el: &Element<'_, '_>) -> Rel {
    el.get_attribute("rel").map_or_else(Rel::default, |raw| Rel::of(&decode(&raw, Place::Attribute)))
}

impl Rel {
    /// Reads a decoded `rel`.
    pub(super) fn of(value: &str) -> Self {
        let mut rel = Self::default();
        for token in value.split_ascii_whitespace() {
            rel.hint |=
                token.eq_ignore_ascii_case("preconnect") || token.eq_ignore_ascii_case("dns-prefetch");
            rel.sheet |= token.eq_ignore_ascii_case("stylesheet");
        }
        rel
    }
}

impl State {
    /// Looks a raw URL up; `Some` when the reference has to go.
    pub(super) fn strip_url(&mut self, raw: &str) -> Option<VendorId> {
        let policy = &self.policy;
        let hit: Hit = self.urls.ask(raw, |t| policy.match_url(&t.host, &t.path))?;
        self.strip(hit)
    }

    /// Whether a raw URL leads to anyone in the registry. It counts nothing.
    pub(super) fn knows(&self, raw: &str) -> bool {
        self.urls.ask(raw, |t| self.policy.match_url(&t.host, &t.path)).is_some()
    }

    /// The same for a reference that names a host only.
    pub(super) fn knows_host(&self, raw: &str) -> bool {
        self.urls.ask(raw, |t| self.policy.match_host(&t.host)).is_some()
    }

    fn strip_host(&mut self, raw: &str) -> Option<VendorId> {
        let policy = &self.policy;
        let hit: Hit = self.urls.ask(raw, |t| policy.match_host(&t.host))?;
        self.strip(hit)
    }
}
