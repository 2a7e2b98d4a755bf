//! An outside judge of rewritten pages. It imports nothing of Optgate: html5ever reads the pages, and
//! the tracker reference is read as JSON, with host and path matching written here once more.

use std::path::Path;

use url::Url;

use super::dom::{Element, Node, parse, push};
use super::vectors::{
    SIGNALS, candidates, css, css_skeleton, document_of, is_style, json_strings, script_of, urls_of,
};

/// What the reference says of a vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Must never be stripped.
    Essential,
    /// A tag manager, which stays under the guard.
    Managed,
    /// Is stripped where no contract says that it serves the site alone.
    Service,
    /// Must be stripped.
    SaleShare,
}

struct Rule {
    host: String,
    paths: Vec<String>,
    vendor: String,
    class: Class,
}

/// The tracker reference.
pub struct Trackers {
    rules: Vec<Rule>,
    markers: Vec<(String, Class)>,
}

/// A reference from a page to a vendor.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Element name.
    pub element: String,
    /// Attribute name.
    pub attr: String,
    /// The URL as written.
    pub url: String,
    /// Whose it is.
    pub vendor: String,
    /// The vendor's class.
    pub class: Class,
}

/// Hosts that the reference does not have, or not as a whole, and that the usual public lists block: they must go as well.
const BEYOND: [&str; 28] = [
    "adlightning.com",
    "adsymptotic.com",
    "an.facebook.com",
    "analytics.tiktok.com",
    "bat.bing.com",
    "brandmetrics.com",
    "c.bing.com",
    "connect.facebook.net",
    "dc.ads.linkedin.com",
    "districtm.io",
    "getclicky.com",
    "google-analytics.com",
    "googleadservices.com",
    "googletagservices.com",
    "heap-api.com",
    "htlbid.com",
    "imasdk.googleapis.com",
    "journeymv.com",
    "logr-ingest.com",
    "merchant-center-analytics.goog",
    "platform.twitter.com",
    "platform.x.com",
    "pubnation.com",
    "segmentapis.com",
    "snap.licdn.com",
    "static.ads-twitter.com",
    "stats.wordpress.com",
    "syndicatedsearch.goog",
];

impl Trackers {
    /// Reads `trackers.json`, and adds what is [`BEYOND`] it.
    pub fn read(path: &Path) -> Self {
        let mut all = Self::of(&serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap());
        all.rules.extend(BEYOND.map(|host| Rule {
            host: host.to_owned(),
            paths: Vec::new(),
            vendor: host.to_owned(),
            class: Class::SaleShare,
        }));
        let search = ["/adsense/", "/afs/"].map(str::to_owned).into();
        let vendor = "google-adsense".to_owned();
        all.rules.push(Rule {
            host: "google.com".to_owned(),
            paths: search,
            vendor,
            class: Class::SaleShare,
        });
        all
    }

    /// Reads a reference of the form of `trackers.json`.
    pub fn of(json: &serde_json::Value) -> Self {
        let list = |value: &serde_json::Value| -> Vec<String> {
            let values = value.as_array().map(Vec::as_slice).unwrap_or_default();
            values.iter().map(|v| v.as_str().unwrap().to_owned()).collect()
        };
        let (mut rules, mut markers) = (Vec::new(), Vec::new());
        for entry in json["trackers"].as_array().unwrap() {
            let class = match entry["ccpa_class"].as_str().unwrap() {
                "service_provider_possible" if entry["category"] == "tag_manager" => Class::Managed,
                "sale_share" => Class::SaleShare,
                "service_provider_possible" => Class::Service,
                "essential" => Class::Essential,
                other => panic!("a class that the judge does not know: {other}"),
            };
            let vendor = entry["id"].as_str().unwrap();
            for host in entry["hosts"].as_array().unwrap() {
                let name = host["host"].as_str().unwrap().to_owned();
                rules.push(Rule {
                    host: name,
                    paths: list(&host["paths"]),
                    vendor: vendor.to_owned(),
                    class,
                });
            }
            markers.extend(list(&entry["inline_markers"]).into_iter().map(|marker| (marker, class)));
        }
        Self { rules, markers }
    }

    /// Rules for a host, most specific first.
    fn for_host<'a>(&'a self, host: &str) -> Vec<&'a Rule> {
        let covers = |rule: &str| {
            host == rule || (host.ends_with(rule) && host[..host.len() - rule.len()].ends_with('.'))
        };
        let mut rules: Vec<_> = self.rules.iter().filter(|rule| covers(&rule.host)).collect();
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.host.len()));
        rules
    }

    /// Most specific host, then longest path; of equals the stricter class.
    fn of_url(&self, url: &Url) -> Option<(&str, Class)> {
        let host = url.host_str()?.trim_end_matches('.');
        let path =
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let ranked = self.for_host(host).into_iter().filter_map(|rule| {
            let longest = if rule.paths.is_empty() {
                Some(0)
            } else {
                rule.paths.iter().filter(|p| path_matches(p, &path)).map(String::len).max()
            };
            longest.map(|length| ((rule.host.len(), length, rule.class), rule))
        });
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, rule)| (rule.vendor.as_str(), rule.class))
    }

    /// For hints that name no path: the strictest class of the most specific host, none if one is essential.
    fn of_host(&self, url: &Url) -> Option<(&str, Class)> {
        let rules = self.for_host(url.host_str()?.trim_end_matches('.'));
        let most = rules.first()?.host.len();
        let rules: Vec<_> = rules.into_iter().filter(|rule| rule.host.len() == most).collect();
        if rules.iter().any(|rule| rule.class == Class::Essential) {
            return None;
        }
        rules.into_iter().max_by_key(|rule| rule.class).map(|rule| (rule.vendor.as_str(), rule.class))
    }

    /// Whether a request for this URL must not be made under the default policy, with no contract.
    pub fn goes(&self, url: &Url) -> bool {
        self.of_url(url).is_some_and(|(_, class)| class >= Class::Service)
    }

    /// Whether a connection to this URL's host must not be made.
    pub fn host_goes(&self, url: &Url) -> bool {
        self.of_host(url).is_some_and(|(_, class)| class >= Class::Service)
    }

    /// Whether an inline script holds a marker of a vendor that may be stripped.
    pub fn marked(&self, script: &str, at_least: Class) -> bool {
        self.markers.iter().any(|(marker, class)| *class >= at_least && script.contains(marker.as_str()))
    }

    /// The strictest class of a marker in a script, if it may be stripped.
    fn marker(&self, script: &str) -> Option<Class> {
        let classes = self.markers.iter().filter(|(marker, _)| script.contains(marker.as_str()));
        classes.map(|(_, class)| *class).max().filter(|class| *class > Class::Essential)
    }

    /// The vendor behind one URL of a page.
    fn judge(&self, page: &Page, text: &str, hint: bool) -> Option<(&str, Class)> {
        let url = page.base.join(text).ok()?;
        if url.host_str() == page.url.host_str() {
            return None;
        }
        if hint { self.of_host(&url) } else { self.of_url(&url) }
    }

    /// Every reference of one element to a vendor that is not essential, documents in its attributes included.
    pub fn references(&self, page: &Page, element: &Element) -> Vec<Reference> {
        let hint = element.name == "link" && is_hint(element.attr("rel").unwrap_or_default());
        let mut found = Vec::new();
        let mut refer = |attr: &str, url: String| {
            let Some((vendor, class)) = self.judge(page, &url, hint) else { return };
            if class > Class::Essential {
                let (element, vendor) = (element.name.clone(), vendor.to_owned());
                found.push(Reference { element, attr: attr.to_owned(), url, vendor, class });
            }
        };
        for (attr, value) in &element.attrs {
            urls_of(element, attr, value).into_iter().for_each(|url| refer(attr, url));
        }
        if element.name == "style" {
            css(&element.text()).into_iter().for_each(|address| refer("", address.text));
        }
        json_strings(element).into_iter().for_each(|url| refer("", url));
        for (attr, value) in &element.attrs {
            if let Some(html) = document_of(element, attr, value) {
                let inner = parse(&html, true);
                let page = Page::of(&page.base, &inner).seen_from(page);
                inner.walk(&mut |inner| {
                    let inner = self.references(&page, inner).into_iter();
                    found.extend(inner.map(|r| Reference { attr: attr.clone(), ..r }));
                });
            }
            if let Some(script) = script_of(element, attr, value)
                && let Some(class) = self.marker(&script)
            {
                let (element, url) = (element.name.clone(), script);
                found.push(Reference { element, attr: attr.clone(), url, vendor: "a marker".into(), class });
            }
        }
        found
    }

    /// Every reference of a parsed page that the default policy strips.
    pub fn stripped(&self, page: &Page, root: &Element) -> Vec<Reference> {
        let mut found = Vec::new();
        root.walk(&mut |element| {
            found.extend(self.references(page, element).into_iter().filter(|r| r.class >= Class::Service));
        });
        found
    }
}

/// A prefix ends at `/`, `?` or the end, unless it ends in `*`; `*` stands for anything inside.
fn path_matches(pattern: &str, path: &str) -> bool {
    let (first, rest) = pattern.split_once('*').map_or((pattern, None), |(first, rest)| (first, Some(rest)));
    let Some(after) = path.strip_prefix(first) else { return false };
    match rest {
        None => after.is_empty() || first.ends_with('/') || after.starts_with(['/', '?']),
        Some("") => true,
        Some(rest) => {
            (0..=after.len()).any(|at| after.is_char_boundary(at) && path_matches(rest, &after[at..]))
        }
    }
}

/// Where a page stands: references resolve against `base`.
pub struct Page {
    /// Its own address.
    pub url: Url,
    /// Its first `<base href>`, or its own address.
    pub base: Url,
}

impl Page {
    /// Finds the base of a parsed page. One in a template has no effect.
    pub fn of(url: &Url, root: &Element) -> Self {
        fn base(url: &Url, element: &Element) -> Option<Url> {
            if element.name == "base"
                && let Some(href) = element.attr("href")
            {
                return url.join(href).ok();
            }
            let inside = element.children.iter().filter(|_| element.name != "template");
            inside.filter_map(|n| if let Node::Element(e) = n { base(url, e) } else { None }).next()
        }
        Self { url: url.clone(), base: base(url, root).unwrap_or_else(|| url.clone()) }
    }

    /// A document inside another: the outer one's own host stays first party.
    fn seen_from(self, outer: &Self) -> Self {
        Self { url: outer.url.clone(), ..self }
    }
}

fn is_hint(rel: &str) -> bool {
    rel.split_ascii_whitespace()
        .any(|r| r.eq_ignore_ascii_case("preconnect") || r.eq_ignore_ascii_case("dns-prefetch"))
}

/// What may be added to a page: the guard, the link's line and its keeper, the status.
fn injected(element: &Element) -> bool {
    let class = element.attr("class").unwrap_or_default();
    match element.name.as_str() {
        "script" => matches!(element.attr("data-optgate"), Some("guard" | "keeper")),
        "p" => class == "ogc-line",
        "span" => class == "ogc-status",
        _ => false,
    }
}

/// A copy of a tree without what may be added, and without `<a>` that has no attribute (its content stays): a
/// parser makes those behind an `<a>` that nobody closed, until the next `<a>`, which is our link.
pub fn without_injected(root: &Element) -> Element {
    let mut children = Vec::new();
    for child in &root.children {
        match child {
            Node::Element(element) if injected(element) => {
                // The status stands behind an adopted link, after a blank of its own.
                if let (Some(Node::Text(text)), "span") = (children.last_mut(), element.name.as_str()) {
                    text.truncate(text.strip_suffix(' ').unwrap_or(text).len());
                }
                if children.last() == Some(&Node::Text(String::new())) {
                    children.pop();
                }
            }
            Node::Element(element) if element.name == "a" && element.attrs.is_empty() => {
                without_injected(element)
                    .children
                    .into_iter()
                    .for_each(|node| push(&mut children, Some(node)));
            }
            Node::Element(element) => push(&mut children, Some(Node::Element(without_injected(element)))),
            other => push(&mut children, Some(other.clone())),
        }
    }
    Element { name: root.name.clone(), attrs: root.attrs.clone(), children }
}

/// Compares a page with its rewriting and collects every difference that nothing explains.
pub struct Comparison<'a> {
    /// The reference.
    pub trackers: &'a Trackers,
    /// The page.
    pub page: &'a Page,
    /// What was found, each with its place.
    pub unexplained: Vec<String>,
}

impl Comparison<'_> {
    /// Compares two trees, both [`without_injected`].
    pub fn compare(&mut self, before: &Element, after: &Element, place: &str) {
        let place = format!("{place}/{}", before.name);
        if before.name != after.name {
            self.unexplained.push(format!("{place} became {}", after.name));
            return;
        }
        self.compare_attrs(before, after, &place);
        if before.name == "script" {
            return self.compare_script(before, after, &place);
        }
        self.compare_children(before, after, &place);
    }

    fn compare_children(&mut self, before: &Element, after: &Element, place: &str) {
        let mut rest = after.children.iter().peekable();
        for child in &before.children {
            match (child, rest.peek()) {
                (Node::Element(a), Some(Node::Element(b))) if a.name == b.name => self.compare(a, b, place),
                // With scripting on a noscript is one text: the other parse reads it as markup.
                (Node::Text(_), Some(Node::Text(_))) if before.name == "noscript" => {}
                (Node::Text(a), Some(Node::Text(b)))
                    if before.name == "style" && css_skeleton(a) == css_skeleton(b) => {}
                (a, Some(b)) if a == *b => {}
                (Node::Element(a), _) if !self.trackers.references(self.page, a).is_empty() => continue,
                (a, b) => {
                    self.unexplained.push(format!(
                        "{place}: {} became {}",
                        short(Some(a)),
                        short(b.copied())
                    ));
                    return;
                }
            }
            rest.next();
        }
        if let Some(more) = rest.next() {
            self.unexplained.push(format!("{place}: {} was added", short(Some(more))));
        }
    }

    fn compare_script(&mut self, before: &Element, after: &Element, place: &str) {
        let (text, new) = (before.text(), after.text());
        if text == new {
            return;
        }
        if !self.trackers.references(self.page, before).is_empty() {
            return; // An import map or speculation rules.
        }
        // What defines a late stub is ours, wherever it stands first.
        let late = "try{self[Symbol.for(\"optgate\")].put(";
        let own = new.find(late).filter(|at| *at < 60).and_then(|at| {
            let (mark, rest) = new.split_at(at);
            Some(format!("{mark}{}", rest.split_once("}catch(e){}")?.1))
        });
        let new = own.unwrap_or(new);
        let emptied = new.trim().is_empty() || (new.starts_with("/* optgate strip:") && new.len() < 100);
        if text != new && !(emptied && self.trackers.marked(&text, Class::Service)) {
            let (text, new) =
                (text.chars().take(80).collect::<String>(), new.chars().take(80).collect::<String>());
            self.unexplained.push(format!("{place}: script {text:?} became {new:?}"));
        }
    }

    fn compare_attrs(&mut self, before: &Element, after: &Element, place: &str) {
        let marked = after.attr("data-optgate").is_some_and(|mark| mark.starts_with("strip:"));
        let known: Vec<_> = self.trackers.references(self.page, before).into_iter().map(|r| r.attr).collect();
        // A component of AMP names its vendor by a word.
        let component = marked && before.name.starts_with("amp-") && before.attr("type").is_some();
        for (attr, value) in &before.attrs {
            let new = after.attr(attr);
            if new == Some(value.as_str()) || is_bounded(before, attr, new) {
                continue;
            }
            if component && new.is_none() && (attr == "type" || attr.starts_with("data-")) {
                continue;
            }
            let document = document_of(before, attr, value).is_some();
            let allowed = match new {
                _ if !(marked || document) || known.is_empty() => false,
                None => known.contains(attr) || attr == "integrity",
                Some(new) => known.contains(attr) && self.is_replacement(after, attr, value, new),
            };
            if !allowed {
                self.unexplained.push(format!("{place} {attr}: {value:?} became {new:?}"));
            }
        }
        for (attr, value) in &after.attrs {
            let mark = attr == "data-optgate" && (component || !known.is_empty());
            if before.attr(attr).is_none() && !mark {
                self.unexplained.push(format!("{place}: {attr}={value:?} was added"));
            }
        }
    }

    /// Whether a value may stand in the place of one that referred to a vendor.
    fn is_replacement(&self, after: &Element, attr: &str, old: &str, new: &str) -> bool {
        let emptied = new.starts_with("/* optgate strip:") || new == "javascript:void 0";
        is_stand_in(new)
            || script_of(after, attr, old).is_some() && emptied
            || is_style(attr) && css_skeleton(old) == css_skeleton(new)
            || document_of(after, attr, new).is_some()
                && !self.trackers.references(self.page, after).iter().any(|r| r.attr == attr)
            || is_subset(new, old)
    }
}

/// What goes or becomes weaker whoever it is for.
fn is_bounded(before: &Element, attr: &str, new: Option<&str>) -> bool {
    let referrer = before.name == "meta"
        && attr == "content"
        && before.attr("name").is_some_and(|name| name.eq_ignore_ascii_case("referrer"));
    SIGNALS.contains(&attr) && new.is_none() || referrer && new == Some("strict-origin-when-cross-origin")
}

fn is_stand_in(value: &str) -> bool {
    value == "about:blank" || value.contains("/privacy-choices/assets/e.")
}

fn is_subset(new: &str, old: &str) -> bool {
    let old = candidates(old);
    candidates(new).iter().all(|candidate| old.contains(candidate))
}

fn short(node: Option<&Node>) -> String {
    match node {
        None => "nothing".to_owned(),
        Some(Node::Element(e)) => format!("<{} {:?}>", e.name, e.attrs).chars().take(160).collect(),
        Some(other) => format!("{other:?}").chars().take(100).collect(),
    }
}
