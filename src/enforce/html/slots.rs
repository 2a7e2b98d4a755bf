//! What an attribute of an element holds: where a request can start from.

use super::css;

/// Elements before which the guard has to stand, and those that are part of the document's frame.
const FETCHES: [&str; 51] = [
    "script",
    "img",
    "image",
    "feimage",
    "use",
    "iframe",
    "frame",
    "frameset",
    "fencedframe",
    "portal",
    "link",
    "style",
    "source",
    "video",
    "audio",
    "track",
    "embed",
    "object",
    "applet",
    "param",
    "bgsound",
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
    "form",
    "button",
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

/// What an attribute holds, and what stands in its place when it has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// A script's URL; an empty script. A `data:` script is judged like an inline one.
    Script,
    /// A picture's URL; an empty picture.
    Image,
    /// A frame's URL, or a script or document in its place; `about:blank`.
    Frame,
    /// The same for a plug-in's content; the attribute goes.
    Plugin,
    /// One URL; the attribute goes.
    Url,
    /// A link's URL, by its `rel`.
    Link,
    /// Image candidates; each goes alone.
    Set,
    /// URLs between spaces or commas; the attribute goes when one is a tracker's.
    List,
    /// Hosts between spaces, commas or semicolons, in `meta`; the attribute goes.
    Hosts,
    /// A `meta refresh`; the attribute goes.
    Refresh,
    /// A `meta referrer`; at most `strict-origin-when-cross-origin`.
    Referrer,
    /// A whole document in an attribute; rewritten by a second pass.
    Document,
    /// Where a click or a form leads: only a script there counts, since the rest is the visitor's own step.
    Target,
    /// An event handler; emptied like an inline script.
    Handler,
    /// Declarations of style; single addresses go.
    Style,
    /// A picture's URL or declarations of style, as lazy loaders write backgrounds.
    Picture,
    /// Values of an animation, URLs or style, between semicolons; the attribute goes.
    Steps,
    /// Asks the browser for a feature of advertising; always goes.
    Signal,
}

/// What the `content` of a `meta` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meta {
    /// Nothing that is read here.
    Other,
    /// `http-equiv=refresh`.
    Refresh,
    /// `http-equiv=delegate-ch`.
    Hosts,
    /// `name=referrer`.
    Referrer,
}

impl Meta {
    /// By the decoded `http-equiv` and `name` of the element.
    pub(super) fn of(http_equiv: Option<&str>, name: Option<&str>) -> Self {
        let says =
            |value: Option<&str>, word: &str| value.is_some_and(|v| v.trim().eq_ignore_ascii_case(word));
        match () {
            () if says(http_equiv, "refresh") => Self::Refresh,
            () if says(http_equiv, "delegate-ch") => Self::Hosts,
            () if says(name, "referrer") => Self::Referrer,
            () => Self::Other,
        }
    }
}

/// Attributes that ask for a feature of advertising (Attribution Reporting, Topics, Shared Storage, Protected
/// Audience, Private State Tokens). They go whoever they are for, as the headers of that kind do.
const SIGNALS: [&str; 5] =
    ["attributionsrc", "browsingtopics", "sharedstoragewritable", "adauctionheaders", "privatetoken"];

/// Presentation attributes of SVG that may hold a `url()` (SVG 2, 6.6; CSS Masking; Filter Effects).
const PRESENTATION: [&str; 11] = [
    "clip-path",
    "cursor",
    "fill",
    "filter",
    "marker",
    "marker-end",
    "marker-mid",
    "marker-start",
    "mask",
    "stroke",
    "style",
];

/// SVG elements that load what their `href` names, at least in some browser.
const SVG_LOADS: [&str; 10] = [
    "filter",
    "lineargradient",
    "radialgradient",
    "pattern",
    "mpath",
    "textpath",
    "tref",
    "cursor",
    "font-face-uri",
    "animation",
];

/// All names that [`slot`] knows beside handlers (`on...`) and what lazy loaders read (`data-...`).
const NAMES: [&str; 44] = [
    "action",
    "adauctionheaders",
    "altimg",
    "archive",
    "artwork",
    "attributionsrc",
    "background",
    "browsingtopics",
    "by",
    "classid",
    "clip-path",
    "code",
    "codebase",
    "config",
    "content",
    "cursor",
    "data",
    "dynsrc",
    "fill",
    "filter",
    "formaction",
    "from",
    "href",
    "imagesrcset",
    "lowsrc",
    "manifest",
    "mask",
    "object",
    "ping",
    "poster",
    "privatetoken",
    "rtc-config",
    "sharedstoragewritable",
    "src",
    "srcdoc",
    "srcset",
    "stroke",
    "style",
    "to",
    "value",
    "values",
    "xlink:href",
    "pagespeed_lazy_src",
    "pagespeed_lazy_srcset",
];

/// The lengths of those names, by their first byte.
static LENGTHS: [u32; 256] = lengths();

const fn lengths() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < NAMES.len() {
        let name = NAMES[at].as_bytes();
        table[name[0] as usize] |= 1 << name.len();
        at += 1;
    }
    // `marker`, `marker-end`, `marker-mid`, `marker-start`.
    table[b'm' as usize] |= 1 << 6 | 1 << 10 | 1 << 12;
    table
}

/// Whether a name, in whatever case, may be one that [`slot`] knows: never false for one of them.
///
/// Cost: a look at its first bytes and its length.
pub(super) fn may_count(name: &[u8]) -> bool {
    match name {
        [first, second, _, ..] if first | 0x20 == b'o' && second | 0x20 == b'n' => true,
        [first, _, _, _, b'-', _, ..] if first | 0x20 == b'd' => true,
        [first, ..] => LENGTHS[usize::from(first | 0x20)] >> name.len().min(31) & 1 == 1,
        [] => false,
    }
}

/// What an attribute of an element holds; both names in lower case.
pub(super) fn slot(tag: &str, name: &str, meta: Meta) -> Option<Slot> {
    if name.starts_with("on") && name.len() > 2 {
        return Some(Slot::Handler);
    }
    if PRESENTATION.contains(&name) {
        return Some(Slot::Style);
    }
    if SIGNALS.contains(&name) {
        return Some(Slot::Signal);
    }
    if tag.starts_with("amp-") {
        return amp(tag, name).or_else(|| lazy(tag, name));
    }
    match (tag, name) {
        ("script", "src" | "href" | "xlink:href") => Some(Slot::Script),
        ("img" | "input", "src" | "dynsrc")
        | ("image" | "feimage", "src" | "href" | "xlink:href")
        | ("img", "lowsrc")
        | ("mglyph", "src")
        | ("math", "altimg") => Some(Slot::Image),
        ("img" | "image" | "source", "srcset") | ("link", "imagesrcset") => Some(Slot::Set),
        ("iframe" | "frame" | "portal" | "fencedframe", "src") => Some(Slot::Frame),
        ("iframe", "srcdoc" | "data-srcdoc") => Some(Slot::Document),
        ("link", "href" | "data-href") => Some(Slot::Link),
        ("embed", "src") | ("object", "data") | ("use", "href" | "xlink:href") => Some(Slot::Plugin),
        ("object" | "applet", "archive") | ("a" | "area", "ping") => Some(Slot::List),
        ("source" | "audio" | "track" | "bgsound", "src")
        | ("video", "src" | "poster")
        | ("object", "classid" | "codebase")
        | ("applet", "code" | "codebase" | "object")
        | ("param", "value")
        | ("html", "manifest")
        | (
            "body" | "table" | "thead" | "tbody" | "tfoot" | "tr" | "td" | "th" | "col" | "colgroup",
            "background",
        )
        | ("base", "href") => Some(Slot::Url),
        ("meta", "content") => match meta {
            Meta::Other => None,
            Meta::Refresh => Some(Slot::Refresh),
            Meta::Hosts => Some(Slot::Hosts),
            Meta::Referrer => Some(Slot::Referrer),
        },
        ("set" | "animate", "to" | "from" | "by" | "values") => Some(Slot::Steps),
        (svg, "href" | "xlink:href") if SVG_LOADS.contains(&svg) => Some(Slot::Url),
        (_, "href" | "xlink:href") | ("form", "action") | ("button" | "input", "formaction") => {
            Some(Slot::Target)
        }
        _ => lazy(tag, name),
    }
}

/// AMP's components load by attributes of their own.
fn amp(tag: &str, name: &str) -> Option<Slot> {
    match (tag, name) {
        ("amp-img" | "amp-anim", "src") => Some(Slot::Image),
        ("amp-img" | "amp-anim", "srcset") => Some(Slot::Set),
        // It makes an iframe of itself.
        ("amp-iframe", "src") => Some(Slot::Frame),
        ("amp-iframe", "srcdoc") => Some(Slot::Document),
        (_, "src" | "config" | "poster" | "artwork" | "data-block-on-consent-url" | "rtc-config") => {
            Some(Slot::Url)
        }
        _ => None,
    }
}

/// Attributes that lazy loaders copy to the real ones, on whatever element their page puts them.
fn lazy(tag: &str, name: &str) -> Option<Slot> {
    let rest = match name.strip_prefix("data-") {
        Some(rest) => rest,
        None if name == "pagespeed_lazy_src" => "src",
        None if name == "pagespeed_lazy_srcset" => "srcset",
        None => return None,
    };
    if rest.contains("srcset") || matches!(rest, "original-set" | "src-retina" | "lazy-set" | "bgset") {
        return Some(Slot::Set);
    }
    let medium = match tag {
        "img" | "image" => Some(Slot::Image),
        "script" => Some(Slot::Script),
        "iframe" | "frame" => Some(Slot::Frame),
        "source" | "video" | "audio" | "embed" | "object" | "amp-img" | "amp-iframe" | "amp-ad" => {
            Some(Slot::Url)
        }
        _ => None,
    };
    match rest {
        "style" | "lazy-style" => Some(Slot::Style),
        "bg" | "background" => Some(Slot::Picture),
        "original" | "poster" => medium.or(Some(Slot::Url)),
        // Elsewhere these hold what a click opens, which is no request of the page.
        "lazy" | "lazyload" | "url" | "echo" | "image" | "img" | "full" | "thumb" | "large_image" => medium,
        _ if rest.starts_with("bg-") || rest.starts_with("background-") => Some(Slot::Picture),
        _ if rest.ends_with("src") || rest.starts_with("src-") => medium.or(Some(Slot::Url)),
        _ if rest.ends_with("-bg") || rest.ends_with("-background") => Some(Slot::Picture),
        _ => None,
    }
}

/// Whether a lazy background is written as style.
pub(super) fn is_style(value: &str) -> bool {
    value.contains('(') && css::may_lead(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that the short look passes over is one that means nothing on any element.
    #[test]
    fn the_short_look_knows_every_name_that_counts() {
        let tags = [
            "script",
            "img",
            "input",
            "image",
            "feimage",
            "mglyph",
            "math",
            "source",
            "link",
            "iframe",
            "frame",
            "portal",
            "embed",
            "object",
            "use",
            "applet",
            "a",
            "area",
            "audio",
            "track",
            "bgsound",
            "video",
            "param",
            "html",
            "body",
            "td",
            "base",
            "meta",
            "set",
            "animate",
            "pattern",
            "form",
            "button",
            "amp-img",
            "amp-ad",
            "amp-video",
            "div",
        ];
        // Every word of this file that may be a name.
        let words = include_str!("slots.rs").split('"').skip(1).step_by(2).filter(|word| !word.contains(' '));
        let mut counted = 0;
        for word in words.chain(["onclick", "data-src", "on\u{e9}"]) {
            for tag in tags {
                for meta in [Meta::Other, Meta::Refresh] {
                    if slot(tag, word, meta).is_some() {
                        counted += 1;
                        assert!(may_count(word.as_bytes()), "{tag} {word}");
                        assert!(may_count(word.to_ascii_uppercase().as_bytes()), "{tag} {word}");
                    }
                }
            }
        }
        assert!(counted > 500, "{counted}");
        for name in ["class", "id", "viewBox", "alt", "width", "aria-label", "", "on", "d"] {
            assert!(!may_count(name.as_bytes()), "{name}");
        }
    }

    /// The vectors by attribute, and neighbours that start no request.
    #[test]
    fn an_attribute_counts_by_its_element() {
        use Slot::{Frame, Handler, Image, Picture, Plugin, Script, Set, Signal, Steps, Style, Target, Url};
        for (tag, name, expected) in [
            ("script", "src", Some(Script)),
            ("img", "src", Some(Image)),
            ("div", "src", None),
            ("a", "href", Some(Target)),
            ("mi", "href", Some(Target)),
            ("pattern", "xlink:href", Some(Url)),
            ("use", "href", Some(Plugin)),
            ("set", "to", Some(Steps)),
            ("div", "onclick", Some(Handler)),
            ("div", "on", None),
            ("p", "style", Some(Style)),
            ("iframe", "browsingtopics", Some(Signal)),
            ("tbody", "background", Some(Url)),
            ("div", "background", None),
            ("meta", "content", None),
            ("amp-list", "src", Some(Url)),
            ("amp-img", "srcset", Some(Set)),
            ("section", "data-bg", Some(Picture)),
            ("li", "data-lazy-bg", Some(Picture)),
            ("iframe", "data-lazy-src", Some(Frame)),
            ("div", "data-srcset-webp", Some(Set)),
            ("img", "data-src-small", Some(Image)),
            ("tr", "data-href", None),
            ("tr", "data-url", None),
            ("tr", "data-resrcx", None),
        ] {
            assert_eq!(slot(tag, name, Meta::Other), expected, "{tag} {name}");
        }
        assert_eq!(slot("meta", "content", Meta::Referrer), Some(Slot::Referrer));
    }
}
