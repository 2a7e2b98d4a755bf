//! What an element's reference would fetch, for the operator's filter lists.

use super::tag::attribute;
use crate::registry::lists::RequestType;

/// How the reference under judgement is put to the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// Not at all: nothing is fetched from it.
    Nothing,
    /// As this.
    As(RequestType),
}

/// What an attribute of an element would fetch; names in lower case. `link`: what a `link` of this kind would, by
/// [`of_link`], which is asked once an element.
pub(super) fn asking(tag: &str, name: &str, link: RequestType) -> Asking {
    use RequestType as R;
    Asking::As(match (tag, name) {
        // References are judged where they lead; what is left of a page without its base leads elsewhere.
        ("base", _) => return Asking::Nothing,
        (_, "ping" | "attributionsrc") | ("amp-analytics", _) => R::Ping,
        (_, "style") => R::OfStyle,
        ("script", _) => R::Script,
        ("link", "imagesrcset") => R::Image,
        ("link", _) => link,
        ("meta", _) => R::Document,
        ("iframe" | "frame" | "amp-iframe" | "amp-ad" | "amp-embed", _) => R::Subdocument,
        ("object" | "embed" | "param", _) => R::Object,
        ("source" | "img" | "image" | "feimage" | "input" | "amp-img" | "amp-pixel" | "use", name) => {
            if tag == "source" && !name.ends_with("srcset") { R::Media } else { R::Image }
        }
        ("video" | "amp-video", "poster") => R::Image,
        ("video" | "audio" | "track" | "amp-video" | "amp-audio", _) => R::Media,
        ("body" | "table" | "tr" | "td" | "th", _) => R::Image,
        _ => R::OfStyle,
    })
}

/// What a `link` would fetch: by `rel`, then by `as` (HTML 4.6.7; Fetch, destinations).
pub(super) fn of_link(rel: &str, destination: &str) -> RequestType {
    let rel = rel.to_ascii_lowercase();
    let is = |word: &str| rel.split_ascii_whitespace().any(|token| token == word);
    if is("stylesheet") {
        return RequestType::Stylesheet;
    }
    if is("icon") || is("apple-touch-icon") {
        return RequestType::Image;
    }
    match destination.to_ascii_lowercase().as_str() {
        "script" | "worker" | "sharedworker" | "serviceworker" => RequestType::Script,
        "style" => RequestType::Stylesheet,
        "image" => RequestType::Image,
        "font" => RequestType::Font,
        "audio" | "video" | "track" => RequestType::Media,
        "document" | "iframe" | "frame" => RequestType::Subdocument,
        "fetch" | "json" => RequestType::Xhr,
        _ if is("modulepreload") => RequestType::Script,
        _ => RequestType::Guess,
    }
}

/// As [`of_link`], from the bytes of a start tag, for any element; `None` where they would have to be decoded first.
pub(super) fn of_tag(tag: &str, raw: &[u8]) -> Option<RequestType> {
    if tag != "link" {
        return Some(RequestType::Guess);
    }
    let read = |wanted: &[u8]| {
        let value = attribute(raw, wanted).unwrap_or_default();
        let plain = value.is_ascii() && !value.contains(&b'&');
        plain.then(|| String::from_utf8_lossy(value))
    };
    Some(of_link(&read(b"rel")?, &read(b"as")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The request type is that of the element that is judged.
    #[test]
    fn every_element_is_asked_as_what_it_fetches() {
        use RequestType as R;
        for (tag, expected) in [
            ("<script src=x>", R::Script),
            ("<img src=x>", R::Image),
            ("<img data-lazy-src=x>", R::Image),
            ("<source src=x>", R::Media),
            ("<source srcset=x>", R::Image),
            ("<video poster=x>", R::Image),
            ("<video src=x>", R::Media),
            ("<iframe src=x>", R::Subdocument),
            ("<object data=x>", R::Object),
            ("<a ping=x>", R::Ping),
            ("<link href=x rel=stylesheet>", R::Stylesheet),
            ("<link href=x rel='SHORTCUT ICON'>", R::Image),
            ("<link href=x rel=preload as=font>", R::Font),
            ("<link href=x rel=preload as=fetch>", R::Xhr),
            ("<link href=x rel=modulepreload>", R::Script),
            ("<link href=x rel=prefetch>", R::Guess),
            ("<div data-bg=x>", R::OfStyle),
            ("<meta content=x>", R::Document),
        ] {
            let name = tag[1..].split(['=', ' ']).nth(1).unwrap();
            let element = tag[1..].split(' ').next().unwrap();
            let link = of_tag(element, tag.as_bytes()).unwrap();
            assert_eq!(asking(element, name, link), Asking::As(expected), "{tag}");
        }
        assert_eq!(asking("base", "href", R::Guess), Asking::Nothing);
        assert_eq!(of_tag("link", b"<link href=x rel=style&#115;heet>"), None);
    }
}
