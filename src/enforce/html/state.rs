//! What is known of one document while it is read.

use std::cell::Cell;
use std::sync::Arc;

use super::characters::{Charset, as_bytes};
use super::inject::{self, Link};
use super::inline::Holds;
use super::listed::Asking;
use super::pass::Pass;
use super::references::{Place, decode, decode_ascii, encode};
use super::urls::{Hosts, Urls};
use super::{Plan, RewriteError};
use crate::config::{LinkTitle, VendorAction};
use crate::enforce::csp::{self, InMeta};
use crate::enforce::guard::Placement;
use crate::enforce::keeper::{self, Keeper};
use crate::registry::lists::{PageLists, RequestType};
use crate::registry::{Hit, Policy, VendorId};

/// How deep documents inside documents are followed; what lies deeper goes.
const MAX_DEPTH: u8 = 3;

/// How deep style sheets and scripts in `data:` addresses of one another are.
const MAX_DATA_DEPTH: u8 = 16;

/// See the module's head.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// Trackers are neutralised.
    pub opted_out: bool,
    /// The account keeps a programme in spite of that.
    keeps_programme: bool,
    /// What to do with whom.
    pub policy: Arc<Policy>,
    /// The operator's filter lists, for what the policy does not know.
    pub lists: Option<PageLists>,
    /// What the lists are asked about while a reference is judged.
    pub asking: Cell<Asking>,
    /// Third parties that nobody knows, and that went.
    pub strangers: Hosts,
    /// Where references lead.
    pub urls: Urls,
    /// The link and its place.
    pub link: Link,
    /// References met, by vendor and action taken.
    pub counts: Vec<(VendorId, VendorAction, u32)>,
    /// The guard of this document, still to be placed.
    pub guard: Option<Placement>,
    /// What comes behind the link to keep it there.
    keeper: Option<Keeper>,
    /// The end of the input has come; only the probe may act.
    pub probing: bool,
    /// Why the pass stopped.
    pub failed: Option<RewriteError>,
    /// The guard of documents inside attributes, and what `restrict` rests on.
    pub inner_guard: Option<Placement>,
    title: LinkTitle,
    prefix: Arc<str>,
    /// Bytes one text may take.
    pub memory: usize,
    depth: u8,
    /// Open templates: what is in them is not shown and not run.
    pub templates: u32,
    /// What the script under way is to a browser; `None`: its text is not read.
    pub script: Option<Holds>,
    /// Inside an AMP component that a script element configures; true when it is neutralised.
    pub component: Option<bool>,
    /// Every tag takes the long way.
    #[cfg(test)]
    pub thorough: bool,
}

/// Whether a document may hold script: an element, a handler or an address. Errs on the side of yes.
fn may_run(html: &str) -> bool {
    let html = html.as_bytes();
    let holds = |word: &[u8]| html.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    let handler = |w: &[u8]| matches!(w, [before, o, n, ..] if !before.is_ascii_alphanumeric() && o.eq_ignore_ascii_case(&b'o') && n.eq_ignore_ascii_case(&b'n'));
    holds(b"script") || holds(b"<svg") || html.windows(3).any(handler)
}

/// What became of markup inside a document.
#[derive(Debug)]
pub(super) enum Inside {
    /// Nothing in it has to go.
    Same,
    /// The markup without what had to go.
    Changed(String),
    /// Too deep, or unreadable: it must not go out.
    Unread,
}

impl State {
    /// The state before the first byte; `document` is whether the link is wanted, `page` whether the guard is.
    pub(super) fn new(plan: Plan, document: bool, page: bool) -> Self {
        let guard = plan.guard.filter(|_| plan.opted_out && page);
        Self {
            opted_out: plan.opted_out,
            keeps_programme: plan.keeps_programme,
            policy: plan.policy,
            lists: plan.lists,
            asking: Cell::new(Asking::As(RequestType::Guess)),
            strangers: Hosts::default(),
            urls: Urls::new(plan.page),
            link: Link::new(document),
            counts: Vec::new(),
            inner_guard: guard.clone(),
            guard,
            keeper: plan.keeper.filter(|_| document && page),
            probing: false,
            failed: None,
            title: plan.link,
            prefix: plan.prefix,
            memory: plan.memory,
            depth: 0,
            templates: 0,
            script: None,
            component: None,
            #[cfg(test)]
            thorough: false,
        }
    }

    /// For markup inside this document, its references as given; without a guard no script of ours runs
    /// there.
    fn inner(&self, urls: Urls, guard: Option<Placement>) -> Self {
        Self {
            opted_out: true,
            keeps_programme: self.keeps_programme,
            policy: Arc::clone(&self.policy),
            lists: self.lists.clone(),
            asking: Cell::new(Asking::As(RequestType::Guess)),
            strangers: Hosts::default(),
            urls,
            link: Link::new(false),
            counts: Vec::new(),
            inner_guard: guard.clone(),
            guard,
            keeper: None,
            probing: false,
            failed: None,
            title: self.title,
            prefix: Arc::clone(&self.prefix),
            memory: self.memory,
            depth: self.depth + 1,
            templates: 0,
            script: None,
            component: None,
            #[cfg(test)]
            thorough: self.thorough,
        }
    }

    /// Counts a hit; `Some` when it has to go.
    pub(super) fn strip(&mut self, hit: Hit) -> Option<VendorId> {
        let action = match hit.action {
            VendorAction::Restrict if self.inner_guard.is_none() => VendorAction::Strip,
            action => action,
        };
        self.count(hit.vendor, action, 1);
        (action == VendorAction::Strip).then_some(hit.vendor)
    }

    fn count(&mut self, vendor: VendorId, action: VendorAction, by: u32) {
        match self.counts.iter_mut().find(|(v, a, _)| *v == vendor && *a == action) {
            Some((_, _, count)) => *count += by,
            None => self.counts.push((vendor, action, by)),
        }
    }

    /// References that had to go so far.
    pub(super) fn stripped(&self) -> u32 {
        self.counts.iter().filter(|(_, action, _)| *action == VendorAction::Strip).map(|(.., n)| n).sum()
    }

    /// Whether both would make the same of whatever comes next, in the same page under the same plan.
    pub(super) fn stands_as(&self, other: &Self) -> bool {
        let sealed = |guard: &Option<Placement>| guard.as_ref().map(|guard| guard.sealed);
        self.urls.stand_as(&other.urls)
            && self.link == other.link
            && sealed(&self.guard) == sealed(&other.guard)
            && sealed(&self.inner_guard) == sealed(&other.inner_guard)
            && self.keeper.is_some() == other.keeper.is_some()
            && self.failed == other.failed
            && self.templates == other.templates
            && self.script == other.script
            && self.component == other.component
    }

    /// The registry id of a vendor.
    pub(super) fn vendor(&self, id: VendorId) -> &str {
        &self.policy.registry().vendor(id).id
    }

    /// The address of a stand-in; absolute when the page's base is elsewhere.
    pub(super) fn asset(&self, name: &str) -> String {
        self.own(&format!("{}/assets/{name}", self.prefix))
    }

    fn own(&self, path: &str) -> String {
        if self.urls.base_is_foreign() { format!("{}{path}", self.urls.origin()) } else { path.to_owned() }
    }

    /// The line that is inserted, and the keeper behind it.
    pub(super) fn line(&self) -> String {
        let keeper = self.keeper.as_ref();
        let mut line = String::with_capacity(256 + keeper.map_or(0, Keeper::room));
        let status = if self.opted_out { self.status() } else { "" };
        inject::line(self.title, &self.own(&self.prefix), status, &mut line);
        if let Some(keeper) = keeper {
            keeper.append_to(&mut line);
        }
        line
    }

    /// What is said beside the link of an opted-out page.
    pub(super) fn status(&self) -> &'static str {
        inject::status(self.keeps_programme)
    }

    /// Whether the guard stands before what is read now.
    pub(super) const fn is_guarded(&self) -> bool {
        self.inner_guard.is_some() && self.guard.is_none()
    }

    /// Whether the page's policies know its inline scripts by their text, which must stay then.
    pub(super) fn is_sealed(&self) -> bool {
        self.inner_guard.as_ref().is_some_and(|guard| guard.sealed)
    }

    /// No script of ours may stand on this page: what was to be restricted is stripped.
    pub(super) fn forbid_scripts(&mut self) {
        (self.guard, self.inner_guard, self.keeper) = (None, None, None);
    }

    /// A `meta` with a policy: from its place on it applies to the keeper, and to the stand-ins of an opted-out page.
    /// Gives the content that lets them in, where the page may be changed; else, under a policy that does not let it
    /// run, there is no keeper.
    ///
    /// Only within the head a `meta` sets a policy (HTML, 4.2.5.3). `raw` is its content as it stands there.
    pub(super) fn policy_begins(&mut self, raw: &str) -> Option<String> {
        let content = decode(raw, Place::Attribute);
        if let Some(guard) = &mut self.inner_guard {
            guard.sealed |= csp::knows_scripts_by_hash(&content);
        }
        if self.templates > 0 || self.link.body {
            return None;
        }
        let may = self.opted_out && content.is_ascii();
        let admitted = if may { self.with_stand_ins(&content) } else { None };
        let runs = self.with_keeper(admitted.as_deref().unwrap_or(&content), may);
        Some(encode(&runs.or(admitted)?).into_owned())
    }

    fn with_stand_ins(&self, policy: &str) -> Option<String> {
        csp::with_stand_ins(policy, &csp::folder(self.urls.page(), &format!("{}/assets/", self.prefix))?)
    }

    /// A policy that lets the keeper run, where the one in the page does not and may be changed.
    fn with_keeper(&mut self, policy: &str, may: bool) -> Option<String> {
        let keeper = self.keeper.as_ref()?;
        match csp::admit_in_meta(policy, &[keeper::csp_hash()], keeper.nonce.as_deref()) {
            InMeta::Runs => None,
            InMeta::Edited(edited) if may => Some(edited),
            InMeta::Edited(_) | InMeta::Cannot => {
                self.keeper = None;
                None
            }
        }
    }

    /// Rewrites markup that stands inside the document: `data`, a document of a `data:` address in this charset,
    /// else a noscript's text.
    ///
    /// # Errors
    /// As [`super::Rewriter::write`].
    pub(super) fn inside(&mut self, html: &str, data: Option<Charset>) -> Result<Inside, RewriteError> {
        let urls = match data {
            Some(charset) => self.urls.opaque(charset),
            None => self.urls.clone(),
        };
        let guard = self.inner_guard.clone().filter(|_| data.is_some() && may_run(html));
        self.second_pass(html, urls, guard, data.is_none() && self.link.body)
    }

    /// Reads what stands inside the document in a charset of its own, unless it lies too deep.
    pub(super) fn within<R>(&mut self, charset: Charset, read: impl FnOnce(&mut Self) -> R) -> Option<R> {
        if self.depth >= MAX_DATA_DEPTH {
            return None;
        }
        let own = std::mem::replace(&mut self.urls.charset, charset);
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        self.urls.charset = own;
        Some(read)
    }

    /// Rewrites a document in an attribute (`srcdoc`).
    ///
    /// # Errors
    /// As [`super::Rewriter::write`].
    pub(super) fn embedded(&mut self, raw: &str) -> Result<Inside, RewriteError> {
        let html = decode_ascii(raw);
        // Where nothing runs a guard has nothing to hold, and it is fifty kilobytes in an attribute.
        let guard = self.inner_guard.clone().filter(|_| may_run(&html));
        Ok(match self.second_pass(&html, self.urls.nested(), guard, false)? {
            Inside::Changed(html) => Inside::Changed(encode(&html).into_owned()),
            other => other,
        })
    }

    fn second_pass(
        &mut self,
        html: &str,
        urls: Urls,
        guard: Option<Placement>,
        in_body: bool,
    ) -> Result<Inside, RewriteError> {
        if !html.contains('<') {
            return Ok(Inside::Same);
        }
        if self.depth >= MAX_DEPTH {
            return Ok(Inside::Unread);
        }
        let (bytes, charset) = (as_bytes(html), urls.charset);
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let mut inner = self.inner(urls, guard);
        inner.link.body = in_body;
        let mut pass = Pass::new(inner);
        pass.write(&bytes, &mut out)?;
        let inner = pass.end(&mut out)?;
        for (vendor, action, count) in inner.counts {
            self.count(vendor, action, count);
        }
        self.strangers.take_in(&inner.strangers);
        if out == *bytes {
            return Ok(Inside::Same);
        }
        Ok(Inside::Changed(charset.text(&out).into_owned()))
    }

    /// Whether the end of the input is the last chance for guard or link.
    pub(super) fn wants_probe(&self) -> bool {
        self.templates == 0 && (self.guard.is_some() || self.link.is_awaited())
    }
}
