//! Texts that are judged as a whole: scripts, noscripts, style sheets.
//!
//! Pieces of a text depend on how the input was cut; only whole ones are judged.

use std::borrow::Cow;

use super::characters::{as_bytes, as_meant};
use super::context::Space;
use super::inline::Holds;
use super::json::{self, Verdict};
use super::listed::Asking;
use super::opened::{Role, Sheet};
use super::references::{Place, Resolved, decode};
use super::state::{Inside, State};
use super::tokens::{Tag, Tokens, Watch};
use super::{RewriteError, calls, inline};
use crate::registry::lists::RequestType;

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Among markup: references stand for what they mean, and more of the element's text may follow.
    Ordinary,
    /// As it is read, to the element's end.
    Raw,
    /// As it is read, in a CDATA section.
    Literal,
}

/// How many elements are open whose text is judged. In SVG one may stand inside another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sheets {
    scripts: u32,
    styles: u32,
    noscripts: u32,
}

impl Sheets {
    /// An element opens.
    pub(super) const fn open(&mut self, role: Role) {
        if let Role::Judged(sheet) = role {
            let count = self.of(sheet);
            *count = count.saturating_add(1);
        }
    }

    /// One closes.
    pub(super) const fn close(&mut self, sheet: Sheet) {
        let count = self.of(sheet);
        *count = count.saturating_sub(1);
    }

    const fn of(&mut self, sheet: Sheet) -> &mut u32 {
        match sheet {
            Sheet::Script => &mut self.scripts,
            Sheet::Style => &mut self.styles,
            Sheet::Noscript => &mut self.noscripts,
        }
    }

    /// Whether a text stands in any of them.
    pub(super) fn judge(self, form: Form) -> bool {
        self.scripts > 0 || self.styles > 0 || form == Form::Raw && self.noscripts > 0
    }
}

/// What the text of a script element is; `None` when it is nothing to a browser, or stands elsewhere.
/// `component`: inside an AMP component that is configured this way. `read` gives attributes as written.
pub(super) fn holds<'a>(
    tag: &Tag<'_>,
    component: bool,
    read: impl Fn(&str) -> Option<Cow<'a, str>>,
) -> Option<Holds> {
    let external = match tag.space {
        Space::Html => read("src").is_some(),
        _ => read("href").is_some() || read("xlink:href").is_some(),
    };
    if external {
        return None;
    }
    let decoded = |name| read(name).map(|value| decode(&value, Place::Attribute).into_owned());
    let holds = inline::holds(decoded("type").as_deref(), decoded("language").as_deref());
    let access = decoded("id").is_some_and(|id| id == "amp-access");
    holds.or((component || access).then_some(Holds::Config))
}

/// What stands in the place of a text; `None`: it stays.
///
/// # Errors
/// Markup in a noscript that cannot be rewritten.
pub(super) fn judge(
    state: &mut State,
    sheets: Sheets,
    text: &str,
    form: Form,
) -> Result<Option<String>, RewriteError> {
    let mut changed = None;
    if sheets.scripts > 0
        && let Some(holds) = state.script
    {
        let read = as_read(text, form);
        changed = script(state, holds, read.text(), form);
        if changed.is_none() && holds == Holds::Script && form == Form::Ordinary && !text.contains('&') {
            changed = with_calls_judged(state, text);
        }
    }
    if sheets.noscripts > 0 && form == Form::Raw {
        let html = changed.as_deref().unwrap_or(text);
        changed = noscript(state, html)?.or(changed);
    }
    if sheets.styles > 0 {
        let sheet = as_read(changed.as_deref().unwrap_or(text), form);
        changed = state.without_addresses(&sheet).map(|(_, sheet)| sheet).or(changed);
    }
    Ok(changed)
}

/// Whether nothing in the text of these elements has to go.
pub(super) fn is_clean(state: &mut State, sheets: Sheets, text: &str) -> bool {
    let script = match state.script.filter(|_| sheets.scripts > 0) {
        Some(Holds::Script) => {
            let unjudged = |import: inline::Import<'_>| {
                !import.whole && !text[import.at.start..].starts_with(calls::JUDGE)
            };
            let may_judge = state.is_guarded() && !state.is_sealed();
            state.strip_inline(text).is_none() && !(may_judge && inline::imports(text).any(unjudged))
        }
        // Nobody writes data in pieces.
        Some(_) => false,
        None => true,
    };
    script && (sheets.styles == 0 || state.without_addresses(&Resolved::plain(text)).is_none())
}

/// A script among markup, without references, whose imports are known at run time only: they pass through the guard.
fn with_calls_judged(state: &mut State, text: &str) -> Option<String> {
    if inline::imports(text).all(|import| import.whole) { None } else { state.without_trackers(text) }
}

/// A script's text.
fn script(state: &mut State, holds: Holds, text: &str, form: Form) -> Option<String> {
    state.asking.set(Asking::As(RequestType::Guess));
    let (stub, origin) = (state.asset("e.mjs"), state.urls.origin());
    let neutralised = state.component == Some(true);
    let said = match holds {
        Holds::Script => Cow::Borrowed(""),
        _ => state.urls.charset.meaning(text),
    };
    let mut strips = |url: &str| state.strip_text(&as_meant(url)).is_some();
    let verdict = match holds {
        // It is written as it is read, and no other text of the element follows.
        Holds::Script if form != Form::Ordinary => return state.without_trackers(text),
        Holds::Script => {
            let vendor = state.strip_inline(text)?;
            return Some(inline::emptied(state.vendor(vendor)));
        }
        Holds::ImportMap => json::import_map(&said, &stub, &mut strips),
        Holds::Rules => json::rules(&said, &origin, &mut strips),
        Holds::Config if neutralised => return Some(json::EMPTY.to_owned()),
        Holds::Config => json::config(&said, &mut strips),
        // One without a source is an error that the page would hear of.
        Holds::Bundle => match json::config(&said, &mut strips) {
            Verdict::Keep => Verdict::Keep,
            Verdict::Replace(_) => Verdict::Replace(format!("{{\"source\":\"{stub}\"}}")),
        },
    };
    match verdict {
        Verdict::Keep => None,
        Verdict::Replace(text) => Some(text),
    }
}

/// A noscript is raw text to a browser with scripts and markup to one without: a second pass reads it.
fn noscript(state: &mut State, text: &str) -> Result<Option<String>, RewriteError> {
    let html = &text[..whole_tags(text)];
    Ok(match state.inside(html, None)? {
        Inside::Same => (html.len() < text.len()).then(|| html.to_owned()),
        Inside::Changed(html) => Some(html),
        Inside::Unread => Some(String::new()),
    })
}

/// Length without a tag that is still open at the end: without scripts the browser would complete it with
/// the `</noscript>` behind, so it must not go out unread.
fn whole_tags(html: &str) -> usize {
    struct Nothing;
    impl Watch for Nothing {
        fn start(&mut self, _: &Tag<'_>) {}
        fn end(&mut self, _: &Tag<'_>) {}
        fn text(&mut self, _: &[u8], _: usize) {}
    }
    let bytes = as_bytes(html);
    let mut tokens = Tokens::new();
    let read = tokens.read(&bytes, &mut Nothing);
    if !tokens.is_in_tag() {
        return html.len();
    }
    // Every byte of the page is one character.
    html.char_indices().nth(read).map_or(html.len(), |(at, _)| at)
}

/// In SVG scripts and style sheets are ordinary text, whose references are resolved first.
pub(super) fn as_read(text: &str, form: Form) -> Resolved<'_> {
    if form == Form::Ordinary { Resolved::new(text, Place::Text) } else { Resolved::plain(text) }
}
