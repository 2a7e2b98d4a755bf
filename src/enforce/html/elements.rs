//! How what an element refers to is made harmless in place.

use std::collections::HashSet;

use super::characters::Charset;
use super::content::{self, Data, Form};
use super::element::Element;
use super::listed::{self, Asking};
use super::references::{Place, Resolved, decode, encode};
use super::slots::{Meta, Slot, is_style, slot};
use super::snippet::is_snippet;
use super::state::{Inside, State};
use super::urls::Target;
use super::{RewriteError, amp, calls, css, inline, srcset, urls};
use crate::enforce::guard::stubs;
use crate::registry::lists::RequestType;
use crate::registry::{Hit, VendorId};

/// Changes to one element; each is a search through its attributes, and no page has so many.
const MOST_EDITS: usize = 1_000;

/// The mark on every changed element.
const MARK: &str = "data-optgate";

/// Where a script stands in the place of an address, and nothing else may happen.
const NO_SCRIPT: &str = "javascript:void 0";

/// What becomes of an attribute.
#[derive(Debug)]
pub(super) enum Edit {
    Set(String),
    Remove,
}

/// What has to be done, and on whose account; `None` where it goes whoever it is for.
pub(super) type Judgement = (Option<VendorId>, Edit);

/// Neutralises what an element refers to. Untouched elements stay byte-identical.
///
/// Cost: one pass over the attributes; values are read only where they can lead somewhere.
///
/// # Errors
/// A document in an attribute that cannot be rewritten.
pub(super) fn neutralise(state: &mut State, el: &mut Element<'_>) -> Result<(), RewriteError> {
    let tag = el.name.clone();
    let read = |el: &Element<'_>, name: &str| Some(decode(el.get(name)?, Place::Attribute).into_owned());
    let rel = if tag == "link" { Rel::of(&read(el, "rel").unwrap_or_default()) } else { Rel::default() };
    let meta = match &*tag {
        "meta" => Meta::of(read(el, "http-equiv").as_deref(), read(el, "name").as_deref()),
        _ => Meta::Other,
    };
    let mut seen: HashSet<&str> = HashSet::new();
    let mut edits: Vec<(usize, Edit)> = Vec::new();
    let mut culprit = if tag.starts_with("amp-") { component(state, el) } else { None };
    let link = match &*tag {
        "link" if state.asks_beyond_registry() => {
            listed::of_link(&read(el, "rel").unwrap_or_default(), &read(el, "as").unwrap_or_default())
        }
        _ => RequestType::Guess,
    };
    for (at, item) in el.items().iter().enumerate() {
        let Some(slot) = slot(&tag, &item.name, meta) else { continue };
        // Only the first of a name counts (HTML 13.2.5.33).
        if !seen.insert(&item.name) {
            continue;
        }
        if state.asks_beyond_registry() {
            state.asking.set(listed::asking(&tag, &item.name, link));
        }
        if let Some((vendor, edit)) = judge(state, slot, &rel, &item.value)? {
            culprit = culprit.or(vendor);
            edits.push((at, edit));
        }
    }
    if edits.len() > MOST_EDITS {
        return Err(RewriteError::Memory);
    }
    apply(el, edits);
    if let Some(vendor) = culprit {
        el.set(MARK, format!("strip:{}", state.vendor(vendor)));
    }
    Ok(())
}

/// Makes changes to attributes, by their places.
fn apply(el: &mut Element<'_>, edits: Vec<(usize, Edit)>) {
    let (mut gone, mut moved) = (Vec::new(), false);
    for (at, edit) in edits {
        let name = el.items().get(at).map(|item| item.name.to_string()).unwrap_or_default();
        moved |= matches!(name.as_str(), "src" | "href" | "xlink:href");
        match edit {
            Edit::Set(value) => el.set_at(at, value),
            Edit::Remove => gone.push(name),
        }
    }
    if moved && matches!(&*el.name, "script" | "link") {
        gone.push("integrity".to_owned());
    }
    if !gone.is_empty() {
        el.remove(|name| gone.iter().any(|gone| gone == name));
    }
}

/// An AMP component that names its vendor by a word: without the word it does nothing.
fn component(state: &mut State, el: &mut Element<'_>) -> Option<VendorId> {
    let kind = el.get("type").map(|v| decode(v, Place::Attribute).trim().to_ascii_lowercase());
    let vendor = state.strip_url(amp::address(&el.name, kind.as_deref().unwrap_or_default())?)?;
    el.remove(|name| name == "type" || name.starts_with("data-"));
    Some(vendor)
}

/// Whether the `http-equiv` of a `meta`, as it stands there, is this one.
pub(super) fn is_kind(raw: &str, kind: &str) -> bool {
    decode(raw, Place::Attribute).trim().eq_ignore_ascii_case(kind)
}

/// Judges one raw value; `None` when it stays. The vendor is `None` for a whole document in an attribute.
///
/// # Errors
/// A document in an attribute that cannot be rewritten.
pub(super) fn judge(
    state: &mut State,
    slot: Slot,
    rel: &Rel,
    value: &str,
) -> Result<Option<Judgement>, RewriteError> {
    let resolved = || Resolved::new(value, Place::Attribute);
    Ok(match slot {
        Slot::Script => by(state.strip_script(value), || Edit::Set(state.asset("e.js"))),
        Slot::Image => by(state.strip_url(value), || Edit::Set(state.asset("e.gif"))),
        Slot::Url => by(state.strip_url(value), || Edit::Remove),
        Slot::Frame => content(state, value, || Edit::Set("about:blank".to_owned()))?,
        Slot::Plugin => content(state, value, || Edit::Remove)?,
        Slot::Link => link(state, rel, value),
        Slot::Set => candidates(state, &resolved()),
        Slot::List => list(&resolved(), |url| state.strip_text(url)),
        Slot::Hosts => list(&resolved(), |url| state.strip_host(url)),
        Slot::Refresh => by(urls::refresh(value).and_then(|url| state.strip_text(&url)), || Edit::Remove),
        Slot::Referrer => referrer(resolved().text()),
        Slot::Document => document(state, value)?,
        Slot::Target => {
            by(state.strip_code(value), || Edit::Set(NO_SCRIPT.to_owned())).or_else(|| code(state, value))
        }
        Slot::Handler => handler(state, value, resolved().text()),
        Slot::Picture if !is_style(value) => by(state.strip_url(value), || Edit::Remove),
        Slot::Style | Slot::Picture => style(state, &resolved()),
        Slot::Steps => steps(state, &resolved()),
        Slot::Signal => Some(signal(state, &resolved())),
    })
}

/// An event handler is emptied like an inline script. What it imports and only it knows passes through the guard, where
/// that stands before it.
fn handler(state: &mut State, raw: &str, script: &str) -> Option<Judgement> {
    if let Some(vendor) = state.strip_inline(script) {
        return Some((Some(vendor), Edit::Set(inline::emptied(state.vendor(vendor)))));
    }
    if !state.is_guarded() || inline::imports(script).all(|import| import.whole) {
        return None;
    }
    // What is no ASCII stays as it is written; where references stand for it, nothing can.
    let plain = !raw.contains('&');
    let judged = state.without_trackers(script).filter(|_| plain || script.is_ascii())?;
    Some((None, Edit::Set(if plain { judged } else { encode(&judged).into_owned() })))
}

/// The same for a script in an address.
fn code(state: &mut State, value: &str) -> Option<Judgement> {
    if !state.is_guarded() || !urls::may_be_content(value) {
        return None;
    }
    let script = content::script(&state.meaning(value))?;
    if inline::imports(&script).all(|import| import.whole) {
        return None;
    }
    Some((None, Edit::Set(content::address(&state.without_trackers(&script)?))))
}

fn by(vendor: Option<VendorId>, edit: impl FnOnce() -> Edit) -> Option<Judgement> {
    vendor.map(|vendor| (Some(vendor), edit()))
}

fn link(state: &mut State, rel: &Rel, value: &str) -> Option<Judgement> {
    let host = if rel.hint { state.strip_host(value) } else { None };
    if let Some(vendor) = host.or_else(|| state.strip_url(value)) {
        let edit = if rel.sheet { Edit::Set(state.asset("e.css")) } else { Edit::Remove };
        return Some((Some(vendor), edit));
    }
    if !urls::may_be_content(value) {
        return None;
    }
    let data = Data::read(&state.meaning(value))?;
    if !data.is_readable() && Data::may_be_code(&state.meaning(value)) {
        return Some((None, Edit::Remove));
    }
    let charset = data.charset(state.urls.charset);
    let text = data.text(charset);
    match state.within(charset, |inside| inside.without_addresses(&Resolved::plain(&text))) {
        Some(changed) => changed.map(|(vendor, text)| (vendor, Edit::Set(data.with(&text)))),
        None => Some((None, Edit::Remove)),
    }
}

/// Whether the address of a style sheet has to go, or what it brings, and on whose account.
pub(super) fn sheet(state: &mut State, value: &str) -> Option<Option<VendorId>> {
    link(state, &Rel { hint: false, sheet: true }, value).map(|(vendor, _)| vendor)
}

/// What stands in a frame: an address, a script, or a document of its own.
fn content(
    state: &mut State,
    value: &str,
    empty: impl FnOnce() -> Edit,
) -> Result<Option<Judgement>, RewriteError> {
    if let Some(vendor) = state.strip_url(value).or_else(|| state.strip_code(value)) {
        return Ok(Some((Some(vendor), empty())));
    }
    if !urls::may_be_content(value) {
        return Ok(None);
    }
    let Some(data) = Data::read(&state.meaning(value)) else { return Ok(code(state, value)) };
    let inside = match data.form() {
        Some(Form::Other) => return Ok(None),
        None => Inside::Unread,
        Some(Form::Html | Form::Xml) => {
            let charset = data.charset(Charset::default());
            let text = data.text(charset);
            state.inside(&text, Some(charset))?
        }
    };
    Ok(match inside {
        Inside::Same => None,
        // The tags of XML mean something else: what was cut out of them need not be all.
        Inside::Changed(text) if data.form() == Some(Form::Html) => Some((None, Edit::Set(data.with(&text)))),
        Inside::Changed(_) | Inside::Unread => Some((None, empty())),
    })
}

fn document(state: &mut State, value: &str) -> Result<Option<Judgement>, RewriteError> {
    Ok(match state.embedded(value)? {
        Inside::Same => None,
        Inside::Changed(html) => Some((None, Edit::Set(html))),
        Inside::Unread => Some((None, Edit::Remove)),
    })
}

fn list(value: &Resolved<'_>, strip: impl FnMut(&str) -> Option<VendorId>) -> Option<Judgement> {
    let urls = value.text().split(|c: char| c.is_ascii_whitespace() || matches!(c, ',' | ';'));
    let hits: Vec<_> = urls.filter_map(strip).collect();
    by(hits.first().copied(), || Edit::Remove)
}

/// It goes whoever it is for; a tracker's is counted as one.
fn signal(state: &mut State, value: &Resolved<'_>) -> Judgement {
    list(value, |url| state.strip_text(url)).unwrap_or((None, Edit::Remove))
}

/// Weaker policies than the header may have (`response::bound_referrer`), old words included.
fn referrer(value: &str) -> Option<Judgement> {
    let weak = value.split(',').any(|word| {
        let word = word.trim().to_ascii_lowercase();
        matches!(
            word.as_str(),
            "always"
                | "origin"
                | "origin-when-cross-origin"
                | "origin-when-crossorigin"
                | "no-referrer-when-downgrade"
                | "unsafe-url"
        )
    });
    weak.then(|| (None, Edit::Set("strict-origin-when-cross-origin".to_owned())))
}

fn style(state: &mut State, value: &Resolved<'_>) -> Option<Judgement> {
    let (vendor, text) = state.without_addresses(value)?;
    Some((vendor, Edit::Set(text)))
}

/// SVG Animation, 2.3: a value, or several between semicolons, of an attribute that may be any.
fn steps(state: &mut State, value: &Resolved<'_>) -> Option<Judgement> {
    let mut first = None;
    for step in value.text().split(';') {
        let mut strip =
            |url: &str| state.strip_text(url).inspect(|vendor| first = first.or(Some(*vendor))).is_some();
        if !strip(step) {
            css::addresses(step, strip);
        }
    }
    by(first, || Edit::Remove)
}

fn candidates(state: &mut State, value: &Resolved<'_>) -> Option<Judgement> {
    let mut first = None;
    let left = srcset::filter(value, |url| {
        let vendor = state.strip_text(url);
        first = first.or(vendor);
        vendor.is_some()
    })?;
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
        let hit = self.match_url(raw)?;
        self.strip(hit)
    }

    /// The same for a text in which references are resolved, or mean nothing.
    pub(super) fn strip_text(&mut self, text: &str) -> Option<VendorId> {
        let hit = self.urls.ask_text(text, |t| self.match_target(t))?;
        self.strip(hit)
    }

    /// Looks an inline script up: by the markers of vendors, and by what it imports.
    pub(super) fn strip_inline(&mut self, script: &str) -> Option<VendorId> {
        self.asking.set(Asking::As(RequestType::Script));
        if let Some(hit) = self.policy.match_inline(script.as_bytes())
            && let Some(vendor) = self.strip(hit)
        {
            return Some(vendor);
        }
        inline::imports(script).find_map(|import| self.strip_import(&import.address))
    }

    /// The same for what a script imports, which may be a script in its address.
    fn strip_import(&mut self, address: &str) -> Option<VendorId> {
        self.strip_text(address)
            .or_else(|| self.strip_data(&Data::read(&self.urls.charset.meaning(address))?))
    }

    /// The script in a `data:` address: as a module, which is UTF-8 whatever its type says, and as its type says.
    fn strip_data(&mut self, data: &Data) -> Option<VendorId> {
        let charset = data.charset(self.urls.charset);
        let (script, decoded) = (data.text(charset), data.decoded());
        self.within(charset, |inside| {
            inside.strip_inline(&script).or_else(|| inside.strip_inline(decoded.as_deref()?))
        })?
    }

    /// A value as written, decoded.
    fn meaning(&self, raw: &str) -> String {
        self.urls.charset.meaning(Resolved::new(raw, Place::Attribute).text()).into_owned()
    }

    /// What stands in the place of an inline script; `None`: it stays.
    ///
    /// Where the guard stands before it, only a vendor's snippet goes, which a stub answers for, and what
    /// no guard can hold. The rest is the site's own code too: it keeps everything but the addresses it
    /// imports from a tracker; those it makes up at run time pass through the guard.
    pub(super) fn without_trackers(&mut self, script: &str) -> Option<String> {
        if !self.is_guarded() {
            return self.strip_inline(script).map(|vendor| inline::emptied(self.vendor(vendor)));
        }
        self.asking.set(Asking::As(RequestType::Script));
        let imports: Vec<_> = inline::imports(script).collect();
        let calls = match imports.iter().all(|import| import.whole) {
            true => Some(Vec::new()),
            false if self.is_sealed() => None,
            false => calls::addresses(script),
        };
        let mut late = String::new();
        if let Some(hit) = self.policy.match_inline(script.as_bytes())
            && let Some(id) = self.strip(hit)
        {
            let vendor = self.policy.registry().vendor(id);
            let stubs = stubs::late(&vendor.id);
            // Where the page's policy knows its scripts by their hash, no changed one would run.
            let runs = stubs.is_none() || !self.is_sealed();
            let answered = !vendor.stub.is_empty() && is_snippet(script, &vendor.globals) && runs;
            late =
                stubs.filter(|_| runs).map_or_else(String::new, |late| format!("try{{{late}}}catch(e){{}}"));
            if answered || calls.is_none() || inline::moves_frames(script) {
                return Some(inline::emptied(&vendor.id) + &late);
            }
        }
        // What begins an address that the guard is asked about stays, or the guard would be asked about another.
        let mut stubs = Vec::new();
        for inline::Import { at, address, whole } in imports {
            if (whole || calls.is_none()) && self.strip_import(&address).is_some() {
                let stub = self.asset(inline::stand_in(&script[at.end..]));
                stubs.push((at, stub));
            }
        }
        let mut edits: Vec<_> = stubs.iter().map(|(at, stub)| (at.clone(), stub.as_str())).collect();
        if !late.is_empty() {
            edits.insert(0, (0..0, late.as_str()));
        }
        for address in calls.unwrap_or_default() {
            edits.push((address.start..address.start, calls::JUDGE));
            edits.push((address.end..address.end, ")"));
        }
        (!edits.is_empty()).then(|| calls::edited(script, edits))
    }

    /// A `javascript:` address.
    fn strip_code(&mut self, raw: &str) -> Option<VendorId> {
        if !urls::may_be_content(raw) {
            return None;
        }
        self.strip_inline(&content::script(&self.meaning(raw))?)
    }

    /// The address of a script, which may be the script itself.
    fn strip_script(&mut self, raw: &str) -> Option<VendorId> {
        if let Some(vendor) = self.strip_url(raw) {
            return Some(vendor);
        }
        if !urls::may_be_content(raw) {
            return None;
        }
        self.strip_data(&Data::read(&self.meaning(raw))?)
    }

    /// A style sheet without the addresses that have to go, and on whose account. `None`: there are none.
    pub(super) fn without_addresses(&mut self, sheet: &Resolved<'_>) -> Option<(Option<VendorId>, String)> {
        self.asking.set(Asking::As(RequestType::OfStyle));
        let mut first = None;
        let found = css::addresses(sheet.text(), |url| {
            let vendor = self.strip_text(url);
            first = first.or(vendor);
            vendor.is_some() || self.brings_addresses(url, &mut first)
        });
        (!found.is_empty()).then(|| (first, sheet.replace(&found, css::NOTHING)))
    }

    /// Whether a `data:` address of a style sheet brings another with addresses that have to go, or one that
    /// lies too deep or is in a charset that is not read here.
    fn brings_addresses(&mut self, url: &str, first: &mut Option<VendorId>) -> bool {
        if !Data::may_be_code(url) {
            return false;
        }
        let Some(data) = Data::read(&self.urls.charset.meaning(url)) else { return false };
        if !data.is_readable() {
            return true;
        }
        let charset = data.charset(self.urls.charset);
        let sheet = data.text(charset);
        match self.within(charset, |inside| inside.without_addresses(&Resolved::plain(&sheet))) {
            Some(None) => false,
            Some(Some((vendor, _))) => {
                *first = first.or(vendor);
                true
            }
            None => true,
        }
    }

    /// Whether a raw URL leads to anyone in the registry or the lists. It counts nothing.
    pub(super) fn knows(&self, raw: &str) -> bool {
        self.match_url(raw).is_some()
    }

    /// The same for a reference that names a host only.
    pub(super) fn knows_host(&self, raw: &str) -> bool {
        self.match_host(raw).is_some()
    }

    /// The same for an inline script.
    pub(super) fn knows_inline(&self, script: &str) -> bool {
        self.policy.match_inline(script.as_bytes()).is_some()
            || inline::imports(script)
                .any(|i| !i.whole || urls::is_data(&i.address) || self.knows(&i.address))
    }

    fn strip_host(&mut self, raw: &str) -> Option<VendorId> {
        let hit = self.match_host(raw)?;
        self.strip(hit)
    }

    fn match_url(&self, raw: &str) -> Option<Hit> {
        self.urls.ask(raw, |t| self.match_target(t))
    }

    fn match_target(&self, target: &Target<'_>) -> Option<Hit> {
        let beyond = || {
            let Asking::As(kind) = self.asking.get() else { return None };
            let listed =
                self.lists.as_ref().and_then(|lists| lists.match_url(&target.host, &target.path, kind));
            listed.or_else(|| self.match_unknown(&target.host))
        };
        self.policy.match_url(&target.host, &target.path).or_else(beyond)
    }

    fn match_host(&self, raw: &str) -> Option<Hit> {
        self.urls.ask(raw, |t| {
            let listed = || self.lists.as_ref()?.match_host(&t.host);
            self.policy.match_host(&t.host).or_else(listed).or_else(|| self.match_unknown(&t.host))
        })
    }

    /// A third party that nobody knows, where those go.
    fn match_unknown(&self, host: &str) -> Option<Hit> {
        let hit = self.policy.match_unknown(host, self.urls.page_host())?;
        self.strangers.note(host);
        Some(hit)
    }

    /// Whether it matters what an address would be fetched for.
    pub(super) fn asks_beyond_registry(&self) -> bool {
        self.lists.is_some() || self.policy.strips_unknown()
    }
}
