//! Filter lists of the operator's, in EasyList syntax: candidates to strip beside the registry.
//!
//! The registry is asked first and its word holds, whatever it says: a list adds references that no entry
//! knows, and can take nothing away. All of them count as the pseudo-vendor [`VENDOR`].
//!
//! [`FilterList`] is one file read; [`ListSet`] the matching engines of the files that hold together on a
//! site, one for each core; [`Matcher`] a core's engine with its verdicts; [`PageLists`] the question as one
//! page asks it. Text in, verdicts out: files are read and watched by `app::lists`.
//!
//! ```text
//! app::lists  FilterList ─┐                         core  Matcher ── PageLists, one a page
//!             FilterList ─┴─ ListSet ── Snapshot ──<
//!                                                   core  Matcher ── PageLists
//! ```

#![cfg_attr(not(feature = "lists"), allow(dead_code, reason = "what only the engine needs"))]

mod canaries;
#[cfg_attr(not(feature = "lists"), path = "no_engine.rs")]
mod engine;
mod file;
mod verdicts;

use std::fmt;
use std::hash::{BuildHasher as _, DefaultHasher, Hasher as _, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Hit, Policy};
use crate::config::{self, ListRole, VendorAction};

pub use canaries::Canaries;
use engine::Engine;
pub use file::{FilterList, ListError, ListFault};
use verdicts::Verdicts;

/// Registry id under which everything counts that only a list names.
pub const VENDOR: &str = "operator-list";

/// What a reference would fetch, as far as lists tell kinds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestType {
    /// A page in a window.
    Document,
    /// A font.
    Font,
    /// A picture.
    Image,
    /// Sound, video and their text tracks.
    Media,
    /// A plug-in's.
    Object,
    /// None of these.
    Other,
    /// A report that nothing waits for.
    Ping,
    /// A script.
    Script,
    /// A style sheet.
    Stylesheet,
    /// A page in a frame.
    Subdocument,
    /// What a script fetches.
    Xhr,
    /// Where the element does not say: told by the path's ending, else [`RequestType::Other`].
    Guess,
    /// As [`RequestType::Guess`] in a style sheet: without an ending it is a picture.
    OfStyle,
}

impl RequestType {
    /// The word of the list syntax.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Font => "font",
            Self::Image => "image",
            Self::Media => "media",
            Self::Object => "object",
            Self::Ping => "ping",
            Self::Script => "script",
            Self::Stylesheet => "stylesheet",
            Self::Subdocument => "subdocument",
            Self::Xhr => "xmlhttprequest",
            Self::Other | Self::Guess | Self::OfStyle => "other",
        }
    }

    /// Settles a guess by what the path ends in.
    fn settled(self, path: &str) -> Self {
        let otherwise = match self {
            Self::Guess => Self::Other,
            Self::OfStyle => Self::Image,
            known => return known,
        };
        let file = path.split('?').next().unwrap_or_default();
        match file.rsplit_once('.').map_or("", |(_, ending)| ending) {
            "js" | "mjs" => Self::Script,
            "css" => Self::Stylesheet,
            "woff" | "woff2" | "ttf" | "otf" => Self::Font,
            "avif" | "gif" | "ico" | "jpeg" | "jpg" | "png" | "svg" | "webp" => Self::Image,
            "m3u8" | "mp3" | "mp4" | "ogg" | "vtt" | "webm" => Self::Media,
            _ => otherwise,
        }
    }
}

/// One question to an engine.
#[derive(Debug, Clone, Copy)]
struct Question<'a> {
    /// Absolute, as https: no rule that matters here tells the schemes apart.
    url: &'a str,
    /// Lower case, as in the URL.
    host: &'a str,
    /// Host of the page.
    source: &'a str,
    kind: RequestType,
}

impl Question<'_> {
    /// Whether the two hosts have different registrable domains.
    fn third_party(&self) -> bool {
        let domain = |host: &str| psl::domain_str(host).map(str::len);
        match (domain(self.host), domain(self.source)) {
            (Some(a), Some(b)) => self.host[self.host.len() - a..] != self.source[self.source.len() - b..],
            _ => self.host != self.source,
        }
    }
}

/// The lists that hold together on a site, built for every core.
pub struct ListSet {
    engines: Box<[Engine]>,
    next: AtomicUsize,
    version: String,
    rules: usize,
}

impl fmt::Debug for ListSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListSet")
            .field("version", &self.version)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl ListSet {
    /// Builds an engine for each of `cores` cores, and asks the canaries.
    ///
    /// Cost: about 100 ms for EasyList and EasyPrivacy, and 3 ms and 5 MB for each further core: never on a
    /// request's way.
    ///
    /// # Errors
    /// [`ListFault::Matches`] and [`ListFault::Misses`], when a canary fails.
    pub fn build(lists: &[&FilterList], canaries: &Canaries, cores: usize) -> Result<Self, ListError> {
        let first = Engine::build(lists, false);
        canaries.ask(&first, lists)?;
        let copies = (1..cores).map(|_| first.copy(lists)).collect::<Vec<_>>();
        let engines = std::iter::once(first).chain(copies).collect();
        let rules = lists.iter().map(|list| list.rules()).sum();
        Ok(Self { engines, next: AtomicUsize::new(0), version: file::version(lists), rules })
    }

    /// Short text that changes with any rule of any list; part of the `ETag` of rewritten pages.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Rules of all its lists.
    #[must_use]
    pub const fn rules(&self) -> usize {
        self.rules
    }

    /// An engine for one core. Should more ask than there are cores, some share one, which is slower and
    /// otherwise the same.
    #[must_use]
    pub fn matcher(self: &Arc<Self>) -> Matcher {
        let engine = self.next.fetch_add(1, Ordering::Relaxed) % self.engines.len().max(1);
        Matcher { set: Arc::clone(self), engine, verdicts: Verdicts::new(), keys: RandomState::new() }
    }
}

/// One core's engine and what it has said so far.
pub struct Matcher {
    set: Arc<ListSet>,
    engine: usize,
    verdicts: Verdicts,
    /// Nobody outside can aim at another page's verdict.
    keys: RandomState,
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher")
            .field("set", &self.set)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

impl Matcher {
    /// The lists as a page on `host` (lower case, without port) asks them, under the policy of its path.
    ///
    /// `None` where the registry has no [`VENDOR`].
    #[must_use]
    pub fn for_page(
        self: &Rc<Self>,
        site: &Arc<config::Site>,
        host: &str,
        policy: &Policy,
    ) -> Option<PageLists> {
        let vendor = policy.registry().lookup_id(VENDOR)?;
        let action = match policy.action(vendor) {
            // Nothing is known of such a reference that could be restricted.
            VendorAction::Restrict => VendorAction::Strip,
            action => action,
        };
        let mut key = self.keys.build_hasher();
        key.write(site.name.as_bytes());
        key.write_u8(0xff);
        key.write(host.as_bytes());
        key.write_u8(0xff);
        let hit = Hit { vendor, action };
        Some(PageLists { matcher: Rc::clone(self), site: Arc::clone(site), host: host.into(), key, hit })
    }

    fn judge(&self, question: &Question<'_>) -> bool {
        self.set.engines.get(self.engine).is_some_and(|engine| engine.matches(question))
    }
}

/// The lists, as one page asks them.
#[derive(Debug, Clone)]
pub struct PageLists {
    matcher: Rc<Matcher>,
    site: Arc<config::Site>,
    host: Rc<str>,
    key: DefaultHasher,
    hit: Hit,
}

impl PageLists {
    /// What the lists say of a reference that the registry does not know; host and path as for
    /// [`Policy::match_url`].
    ///
    /// Hosts that the site is configured with are first party and never match. Other hosts of the same
    /// registrable domain are asked as first party: collectors behind a CNAME live there.
    ///
    /// Cost: some 50 ns where this core has been asked the same before, else about 5 us.
    #[must_use]
    pub fn match_url(&self, host: &str, path: &str, kind: RequestType) -> Option<Hit> {
        let kind = kind.settled(path);
        let mut key = self.key.clone();
        key.write_u8(kind as u8);
        key.write(host.as_bytes());
        key.write(path.as_bytes());
        let key = key.finish();
        let listed = self.matcher.verdicts.get(key).unwrap_or_else(|| {
            let listed = self.judge(host, path, kind);
            self.matcher.verdicts.put(key, listed);
            listed
        });
        listed.then_some(self.hit)
    }

    /// The same for a host alone, for connection hints.
    #[must_use]
    pub fn match_host(&self, host: &str) -> Option<Hit> {
        self.match_url(host, "/", RequestType::Other)
    }

    fn judge(&self, host: &str, path: &str, kind: RequestType) -> bool {
        if host == &*self.host || self.site.has_host(host) {
            return false;
        }
        let url = format!("https://{host}{path}");
        self.matcher.judge(&Question { url: &url, host, source: &self.host, kind })
    }
}

/// The role of a list as the engine needs it.
const fn allows(role: ListRole) -> bool {
    matches!(role, ListRole::Allow)
}
