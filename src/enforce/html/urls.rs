//! Which host and path does an attribute's value lead to? (WHATWG URL.)

use std::borrow::Cow;
use std::cell::RefCell;

use url::Url;

use super::characters::Charset;
use super::references::{Place, Resolved};
use crate::enforce::references::refresh_target;

/// Resolves the references of one document.
#[derive(Debug, Clone)]
pub(super) struct Urls {
    /// In which the document's characters are written.
    pub charset: Charset,
    page: Url,
    page_host: String,
    /// What relative references count from while there is no base.
    fallback: Url,
    base: Option<Url>,
    foreign: bool,
    siblings: Hosts,
}

/// Hosts that one page has to tell of, each once, and no more than [`MOST_HOSTS`].
#[derive(Debug, Clone, Default)]
pub(super) struct Hosts(RefCell<Vec<String>>);

/// Its bound.
const MOST_HOSTS: usize = 16;

impl Hosts {
    /// Remembers a host.
    pub(super) fn note(&self, host: &str) {
        let mut hosts = self.0.borrow_mut();
        if hosts.len() < MOST_HOSTS && !hosts.iter().any(|known| known == host) {
            hosts.push(host.to_owned());
        }
    }

    /// Remembers those of another list.
    pub(super) fn take_in(&self, other: &Self) {
        other.0.borrow().iter().for_each(|host| self.note(host));
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

/// A third-party reference that could be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Lower-case ASCII, without port and trailing dot.
    pub host: Cow<'a, str>,
    /// Path with query; starts with `/`.
    pub path: Cow<'a, str>,
}

impl Urls {
    /// References of a page with this effective address.
    pub(super) fn new(page: Url) -> Self {
        let page_host = bare_host(page.host_str().unwrap_or_default()).to_owned();
        let siblings = Hosts::default();
        let charset = Charset::default();
        Self { charset, fallback: page.clone(), page, page_host, base: None, foreign: false, siblings }
    }

    /// Takes the value of the first `base href` (raw attribute text); later ones are ignored.
    pub(super) fn set_base(&mut self, raw: &str) {
        if self.base.is_some() {
            return;
        }
        let base = Resolved::new(raw, Place::Attribute);
        let base = self.fallback.join(&self.charset.meaning(base.text())).ok();
        // `data:` and `javascript:` bases fall back to the page (HTML 4.2.3).
        let base = base.filter(|u| !matches!(u.scheme(), "data" | "javascript") && !u.cannot_be_a_base());
        let base = base.unwrap_or_else(|| self.fallback.clone());
        self.foreign |= bare_host(base.host_str().unwrap_or_default()) != self.page_host;
        self.base = Some(base);
    }

    /// Whether relative references of the page lead to another host.
    pub(super) const fn base_is_foreign(&self) -> bool {
        self.foreign
    }

    /// Whether both resolve references alike, for the same page.
    pub(super) fn stand_as(&self, other: &Self) -> bool {
        self.charset == other.charset && self.base == other.base && self.foreign == other.foreign
    }

    /// The page's address.
    pub(super) fn page(&self) -> &Url {
        &self.page
    }

    /// The page's host, as [`Target::host`] is written.
    pub(super) fn page_host(&self) -> &str {
        &self.page_host
    }

    /// The page's origin, `https://host[:port]`.
    pub(super) fn origin(&self) -> String {
        self.page.origin().ascii_serialization()
    }

    /// The same for a document inside this one: its own base counts from this one's.
    pub(super) fn nested(&self) -> Self {
        let fallback = self.base.clone().unwrap_or_else(|| self.fallback.clone());
        Self { fallback, base: None, ..self.clone() }
    }

    /// For a document that has no address of its own: ours must be written in full there.
    pub(super) fn opaque(&self, charset: Charset) -> Self {
        Self { charset, foreign: true, ..self.nested() }
    }

    /// Reads a raw attribute value and, if it leads to another host, asks `ask`.
    ///
    /// Cost: a look at the first bytes for a relative reference; no allocation for a plain absolute
    /// one; else a URL parse (about 1 us).
    pub(super) fn ask<R>(&self, raw: &str, ask: impl Fn(&Target<'_>) -> Option<R>) -> Option<R> {
        if !raw.contains('&') {
            return self.ask_text(raw, ask);
        }
        if !self.foreign && surely_relative(raw.as_bytes()) {
            return None;
        }
        self.ask_text(Resolved::new(raw, Place::Attribute).text(), ask)
    }

    /// The same for a text in which references are resolved.
    pub(super) fn ask_text<R>(&self, text: &str, ask: impl Fn(&Target<'_>) -> Option<R>) -> Option<R> {
        if !self.foreign && surely_relative(text.as_bytes()) || is_data(text) {
            return None;
        }
        if let Some(target) = simple(text) {
            return if target.host == self.page_host { None } else { self.asked(&target, ask) };
        }
        let text = self.charset.meaning(text);
        let base = self.base.as_ref().unwrap_or(&self.fallback);
        let url = base.join(&text).ok()?;
        let found = self.ask_url(&url, &ask);
        if found.is_some() || url.host() != base.host() {
            return found;
        }
        // `https:a/b` names a host for every base but one of its own scheme, and scripts may change which base counts.
        let other = Url::parse(&text).ok().filter(|other| *other != url)?;
        self.ask_url(&other, &ask)
    }

    fn ask_url<R>(&self, url: &Url, ask: impl Fn(&Target<'_>) -> Option<R>) -> Option<R> {
        if !matches!(url.scheme(), "http" | "https" | "ws" | "wss" | "ftp") {
            return None;
        }
        let host = bare_host(url.host_str()?);
        if host == self.page_host {
            return None;
        }
        let path = match url.query() {
            Some(query) => Cow::Owned(format!("{}?{query}", url.path())),
            None => Cow::Borrowed(url.path()),
        };
        self.asked(&Target { host: Cow::Borrowed(host), path }, ask)
    }

    fn asked<R>(&self, target: &Target<'_>, ask: impl Fn(&Target<'_>) -> Option<R>) -> Option<R> {
        let found = ask(target);
        if found.is_none() {
            self.remember(&target.host);
        }
        found
    }

    /// Remembers a host that nobody knows when it is of the page's own domain: it may be a tracker's under
    /// the site's name, which only its CNAME tells.
    ///
    /// Cost: a comparison for hosts of other domains.
    fn remember(&self, host: &str) {
        // Two labels in common are the least; they keep most hosts from the list of public suffixes.
        let tail = |name: &str| name.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
        if host[tail(host)..] != self.page_host[tail(&self.page_host)..] {
            return;
        }
        if psl::domain_str(host).is_some_and(|own| psl::domain_str(&self.page_host) == Some(own)) {
            self.siblings.note(host);
        }
    }

    /// Hosts of the page's own domain that it refers to and nobody knows, each once.
    pub(super) fn siblings(&self) -> Vec<String> {
        self.siblings.all()
    }
}

/// Whether a value is a `data:` address as they are commonly written; a long picture need not be parsed.
pub(super) fn is_data(text: &str) -> bool {
    text.as_bytes().first_chunk().is_some_and(|scheme: &[u8; 5]| scheme.eq_ignore_ascii_case(b"data:"))
}

/// Whether a value may be a script or a document of its own (`javascript:`, `data:`), seen without decoding.
pub(super) fn may_be_content(raw: &str) -> bool {
    let first = raw.bytes().find(|b| *b > b' ');
    matches!(first, Some(b'j' | b'J' | b'd' | b'D' | b'&'))
}

fn bare_host(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether a value cannot name a host, seen without decoding: nothing here allocates.
fn surely_relative(raw: &[u8]) -> bool {
    let start = raw.iter().position(|b| *b > b' ').unwrap_or(raw.len());
    let rest = &raw[start..];
    match rest.first() {
        None | Some(b'#' | b'?') => true,
        Some(b'/' | b'\\') => {
            // Tabs and line ends inside are dropped by the parser; a reference may hide a slash.
            let second = rest[1..].iter().find(|b| !matches!(b, b'\t' | b'\n' | b'\r'));
            !matches!(second, Some(b'/' | b'\\' | b'&'))
        }
        Some(_) => {
            let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#' | b':' | b'&' | b'\\'));
            !matches!(end.and_then(|at| rest.get(at)), Some(b':' | b'&'))
        }
    }
}

/// The common form `https://host/path` that needs no parser: a lower-case DNS name, and a path of
/// characters that every parser leaves alone.
fn simple(raw: &str) -> Option<Target<'_>> {
    let rest = raw.strip_prefix("https://").or_else(|| raw.strip_prefix("http://"))?;
    let slash = rest.find('/')?;
    let (host, path) = rest.split_at(slash);
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with("xn--")
            && l.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    let named = host.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_lowercase()));
    let kept = |b: u8| {
        b.is_ascii_alphanumeric()
            || matches!(b, b'/' | b'-' | b'_' | b'.' | b'=' | b'?' | b',' | b'~' | b'+' | b'@')
    };
    // A dot segment would have to be resolved.
    let plain = path.bytes().all(kept) && !path.contains("/.");
    (named && plain && host.split('.').all(label))
        .then_some(Target { host: Cow::Borrowed(host), path: Cow::Borrowed(path) })
}

/// The URL in a `meta refresh` content (HTML, "shared declarative refresh steps").
///
/// `content` is the raw attribute text; references are resolved in the answer.
pub(super) fn refresh(content: &str) -> Option<String> {
    refresh_target(Resolved::new(content, Place::Attribute).text()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls() -> Urls {
        Urls::new(Url::parse("https://shop.example/a/b.html?q").unwrap())
    }

    fn read(urls: &Urls, raw: &str) -> Option<(String, String)> {
        urls.ask(raw, |t| Some((t.host.to_string(), t.path.to_string())))
    }

    /// Hosts of the site's own are looked up later.
    #[test]
    fn unknown_hosts_of_the_pages_own_domain_are_remembered() {
        let urls = Urls::new(Url::parse("https://www.shop.co.uk/").unwrap());
        for raw in [
            "https://metrics.shop.co.uk/a",
            "//METRICS.shop.co.uk/b",
            "https://shop.co.uk/",
            "https://other.co.uk/x",
            "https://www.shop.co.uk/own",
            "/relative",
        ] {
            let _ = urls.ask(raw, |_| None::<()>);
        }
        let _ = urls.ask("https://known.shop.co.uk/", |_| Some(()));
        assert_eq!(urls.siblings(), ["metrics.shop.co.uk", "shop.co.uk"]);
    }

    /// The many ways to write the same third-party address.
    #[test]
    fn every_spelling_of_a_third_party_address_is_read() {
        let urls = urls();
        for raw in [
            "https://t.example/p?x=1",
            "http://t.example/p?x=1",
            "//t.example/p?x=1",
            "HTTPS://T.EXAMPLE/p?x=1",
            "https://t.example./p?x=1",
            "https://t.example:8443/p?x=1",
            "https://u:p@t.example/p?x=1",
            " \t\n//t.example/p?x=1 ",
            "\u{1}//t.example/p?x=1",
            "ht\ntps://t.exa\tmple/p?x=1",
            "/\t/t.example/p?x=1",
            "\\\\t.example/p?x=1",
            "/\\t.example/p?x=1",
            "https:\\\\t.example\\p?x=1",
            "https&#58;//t.example/p?x=1",
            "https&#x3a//t.example/p?x=1",
            "&#47;&#47;t.example/p?x=1",
            "/&sol;t.example/p?x=1",
            "https://t&period;example/p?x=1",
            "https://t%2eexample/p?x=1",
            "https://t.example/./a/../p?x=1",
            "https://t.example/p?x=1#fragment",
            "https:////t.example/p?x=1",
            "http:/t.example/p?x=1",
            "https:t.example/p?x=1",
            "ht\ttps:t.example/p?x=1",
            "https://t&#12290;example/p?x=1",
            "https://\u{e2}\u{201c}\u{a3}.example/p?x=1",
        ] {
            assert_eq!(read(&urls, raw), Some(("t.example".into(), "/p?x=1".into())), "{raw:?}");
        }
    }

    /// First-party, relative and hostless references are never looked up.
    #[test]
    fn what_stays_with_the_page_is_not_a_third_party() {
        let urls = urls();
        for raw in [
            "",
            "   ",
            "#x",
            "?u=https://t.example/",
            "p.png",
            "./p:q",
            "a/b:c",
            "/p",
            "/_next/image?url=https%3A%2F%2Ft.example%2Fp",
            "https://shop.example/x?u=//t.example/",
            "https://SHOP.example:99/x",
            "//shop.example./x",
            "data:text/html,<b>",
            "javascript:void(0)",
            "blob:https://t.example/1",
            "mailto:a@t.example",
            "about:blank",
            "https://",
        ] {
            assert_eq!(read(&urls, raw), None, "{raw:?}");
        }
    }

    /// HTML 4.2.3: the first base decides, and a foreign one makes relative references foreign.
    #[test]
    fn the_first_base_decides_where_relative_references_lead() {
        let mut urls = urls();
        urls.set_base("//cdn.example/x/");
        urls.set_base("/");
        assert!(urls.base_is_foreign());
        assert_eq!(read(&urls, "p.js"), Some(("cdn.example".into(), "/x/p.js".into())));
        assert_eq!(read(&urls, "/p.js"), Some(("cdn.example".into(), "/p.js".into())));
        assert_eq!(read(&urls, "https://shop.example/p.js"), None);
        let mut urls = self::urls();
        urls.set_base("data:text/html,x");
        assert!(!urls.base_is_foreign());
        let mut urls = self::urls();
        urls.set_base("/sub/");
        assert!(!urls.base_is_foreign());
        assert_eq!(urls.origin(), "https://shop.example");
    }

    /// The short path must read what the parser reads.
    #[test]
    fn the_short_path_agrees_with_the_parser() {
        for raw in [
            "https://t.example/",
            "https://t.example/a/b.js?c=d,e~f+g@h",
            "https://a-b.t.example/..a",
            "https://t.example/a/.b",
            "https://1.2.3.4/x",
            "https://t.example",
            "https://T.example/x",
            "https://t.example/a b",
            "https://xn--80ak6aa92e.com/x",
        ] {
            let Some(short) = simple(raw) else { continue };
            let url = Url::parse(raw).unwrap();
            let path = url.query().map_or_else(|| url.path().to_owned(), |q| format!("{}?{q}", url.path()));
            assert_eq!(
                (short.host.as_ref(), short.path.as_ref()),
                (url.host_str().unwrap(), path.as_str()),
                "{raw}"
            );
        }
    }

    /// HTML 4.2.5.3, the loose grammar.
    #[test]
    fn a_refresh_is_read_as_loosely_as_browsers_read_it() {
        for (content, expected) in [
            ("0;url=//t.example/", Some("//t.example/")),
            ("  5 ; URL = '//t.example/ x' y", Some("//t.example/ x")),
            ("0,//t.example/", Some("//t.example/")),
            ("1.5.5 //t.example/", Some("//t.example/")),
            (".5;url=\"a", Some("a")),
            ("0;ur=x", Some("ur=x")),
            ("0;url x", Some("url x")),
            ("0;url&#61;x", Some("x")),
            ("0", None),
            ("0;", None),
            ("x;url=y", Some("y")),
            ("1e0;url='y", Some("y")),
            (" \t3\tuRl\n=\r'y", Some("y")),
            (";url=y", Some("y")),
            ("0url=y", None),
            ("", None),
        ] {
            assert_eq!(refresh(content).as_deref(), expected, "{content:?}");
        }
    }
}
