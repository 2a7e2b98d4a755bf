//! Where a page's elements start requests from, for the outside judge: written from the standards once
//! more, in a way of its own, and without anything of Optgate.

use super::dom::Element;

/// Attributes for features of advertising, which may go from any page.
pub const SIGNALS: [&str; 5] =
    ["attributionsrc", "browsingtopics", "sharedstoragewritable", "adauctionheaders", "privatetoken"];

/// The URLs of an attribute, if it is one that starts a request.
pub fn urls_of(element: &Element, attr: &str, value: &str) -> Vec<String> {
    let one = || vec![value.to_owned()];
    let name = element.name.to_ascii_lowercase();
    if is_style(attr) || attr.starts_with("data-bg") && value.contains('(') {
        return css(value).into_iter().map(|address| address.text).collect();
    }
    match attr {
        // On other elements these names mean nothing: a mangled tag is full of them.
        "srcset" if !matches!(name.as_str(), "img" | "image" | "source" | "amp-img" | "amp-anim") => {
            Vec::new()
        }
        "imagesrcset" if name != "link" => Vec::new(),
        "srcset" | "imagesrcset" | "data-srcset" | "data-lazy-srcset" | "data-bgset" => {
            candidates(value).into_iter().map(|c| c.0).collect()
        }
        "poster" if name != "video" && name != "amp-video" => Vec::new(),
        "lowsrc" | "dynsrc" if name != "img" && name != "input" => Vec::new(),
        "lowsrc" if name == "input" => Vec::new(),
        "altimg" if name != "math" => Vec::new(),
        "archive" if name != "object" && name != "applet" => Vec::new(),
        "code" | "classid" if name == "object" && attr == "code" || name == "applet" && attr == "classid" => {
            Vec::new()
        }
        "src" if !loads_src(&name) => Vec::new(),
        "background" if name != "body" && !is_table(&name) => Vec::new(),
        "src" | "poster" | "background" | "lowsrc" | "dynsrc" | "altimg" => one(),
        "href" | "xlink:href" if loads_href(&name) => one(),
        "data" | "codebase" | "classid" | "code" if name == "object" || name == "applet" => one(),
        "archive" => value.split([' ', ',']).map(str::to_owned).collect(),
        "value" if name == "param" => one(),
        "config" if name.starts_with("amp-") => one(),
        "ping" if name != "a" && name != "area" => Vec::new(),
        "ping" | "attributionsrc" => value.split_ascii_whitespace().map(str::to_owned).collect(),
        "content" if name == "meta" => refresh(element, value).into_iter().collect(),
        "to" | "from" | "by" | "values" if name == "set" || name == "animate" => {
            let steps = value.split(';').map(|step| step.trim().to_owned());
            steps.chain(css(value).into_iter().map(|address| address.text)).collect()
        }
        lazy if is_lazy(lazy) => one(),
        _ => Vec::new(),
    }
}

fn loads_src(name: &str) -> bool {
    const LOAD: [&str; 15] = [
        "audio",
        "bgsound",
        "embed",
        "fencedframe",
        "frame",
        "iframe",
        "image",
        "img",
        "input",
        "mglyph",
        "portal",
        "script",
        "source",
        "track",
        "video",
    ];
    name.starts_with("amp-") || LOAD.contains(&name)
}

fn is_table(name: &str) -> bool {
    matches!(name, "table" | "thead" | "tbody" | "tfoot" | "tr" | "td" | "th" | "col" | "colgroup")
}

fn loads_href(name: &str) -> bool {
    matches!(
        name,
        "link"
            | "image"
            | "use"
            | "feimage"
            | "script"
            | "filter"
            | "pattern"
            | "lineargradient"
            | "radialgradient"
            | "textpath"
            | "mpath"
    )
}

/// Attributes that hold style.
pub fn is_style(attr: &str) -> bool {
    const PRESENTATION: [&str; 8] =
        ["style", "fill", "stroke", "filter", "mask", "clip-path", "cursor", "data-style"];
    PRESENTATION.contains(&attr) || attr.starts_with("marker")
}

/// Attributes that lazy loaders turn into `src`: `data-src`, `data-lazy-src`, `data-rocket-src` and the like.
fn is_lazy(attr: &str) -> bool {
    const OTHERS: [&str; 6] = [
        "data-original",
        "data-bg",
        "data-background",
        "data-background-image",
        "data-poster",
        "data-lazy-bg",
    ];
    attr.starts_with("data-") && attr.ends_with("src") || OTHERS.contains(&attr)
}

/// Whether an attribute names what a frame or plug-in shows.
fn is_frame(element: &Element, attr: &str) -> bool {
    match element.name.as_str() {
        "iframe" | "frame" | "embed" | "portal" => attr == "src",
        "object" => attr == "data",
        _ => false,
    }
}

/// The script in an attribute: a handler's, or a `javascript:` address.
pub fn script_of(element: &Element, attr: &str, value: &str) -> Option<String> {
    if attr.len() > 2 && attr.starts_with("on") {
        return Some(value.to_owned());
    }
    let address: String = value.trim_matches(|c| c <= ' ').replace(['\t', '\n', '\r'], "");
    let runs = match attr {
        "href" | "xlink:href" => true,
        "action" => element.name == "form",
        "formaction" => element.name == "button" || element.name == "input",
        _ => is_frame(element, attr),
    };
    let script = address.get(..11).filter(|s| runs && s.eq_ignore_ascii_case("javascript:"));
    script.map(|_| percent_decoded(&address[11..]))
}

/// The document in an attribute: a `srcdoc`, or a `data:` address of HTML or XML.
pub fn document_of(element: &Element, attr: &str, value: &str) -> Option<String> {
    if element.name == "iframe" && (attr == "srcdoc" || attr == "data-srcdoc")
        || element.name == "amp-iframe" && attr == "srcdoc"
    {
        return Some(value.to_owned());
    }
    let frame = is_frame(element, attr);
    let rest = value.get(..5).filter(|s| frame && s.eq_ignore_ascii_case("data:")).map(|_| &value[5..])?;
    let (media, body) = rest.split_once(',')?;
    let body = percent_decoded(body);
    let markup = media.contains("html") || media.contains("xml");
    if !media.ends_with("base64") {
        return markup.then_some(body);
    }
    let bytes = data_encoding::BASE64.decode(body.as_bytes()).ok()?;
    markup.then(|| String::from_utf8_lossy(&bytes).into_owned())
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The target of a `meta refresh`.
fn refresh(element: &Element, value: &str) -> Option<String> {
    if !element.attr("http-equiv")?.eq_ignore_ascii_case("refresh") {
        return None;
    }
    let at = value.find([';', ',', ' ', '\t', '\n'])?;
    let rest = value[at..].trim_start_matches([';', ',', ' ', '\t', '\n']);
    let named = rest.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("url"));
    let target = if named { rest[3..].trim_start().strip_prefix('=').unwrap_or(rest).trim() } else { rest };
    Some(target.trim_matches(['"', '\'']).to_owned())
}

/// The candidates of a `srcset`: URL and descriptor (HTML, "parse a srcset attribute").
pub fn candidates(value: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',');
        if rest.is_empty() {
            return found;
        }
        let end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
        let (url, after) = rest.split_at(end);
        let bare = url.trim_end_matches(',');
        if bare.len() < url.len() {
            found.push((bare.to_owned(), String::new()));
            rest = after;
            continue;
        }
        // Brackets do not nest.
        let mut inside = false;
        let stop = after.find(|c| {
            inside = c == '(' || inside && c != ')';
            c == ',' && !inside
        });
        let (descriptor, after) = after.split_at(stop.unwrap_or(after.len()));
        found.push((url.to_owned(), descriptor.trim().to_owned()));
        rest = after;
    }
}

/// An address in style, with what its escapes stand for.
pub struct Address {
    /// The address.
    pub text: String,
    /// Where it stands, in characters.
    place: std::ops::Range<usize>,
}

/// The addresses of a style sheet or of declarations: strings and `url()` (CSS Syntax 3, section 4).
pub fn css(text: &str) -> Vec<Address> {
    let chars: Vec<char> = text.chars().collect();
    let (mut found, mut word, mut at) = (Vec::new(), String::new(), 0);
    while at < chars.len() {
        match chars[at] {
            '/' if chars.get(at + 1) == Some(&'*') => {
                at += 2;
                while at < chars.len() && !(chars[at] == '*' && chars.get(at + 1) == Some(&'/')) {
                    at += 1;
                }
                at += 2;
                word.clear();
            }
            quote @ ('"' | '\'') => {
                at = take(&chars, at + 1, |c| c == quote || c == '\n', &mut found);
                at += 1;
                word.clear();
            }
            // No escape: what follows is a word of its own (CSS Syntax 3, 4.3.8).
            '\\' if chars.get(at + 1) == Some(&'\n') => {
                at += 1;
                word.clear();
            }
            '\\' => at = escape(&chars, at, &mut word),
            '(' if word.eq_ignore_ascii_case("url") => {
                at += 1;
                while chars.get(at).is_some_and(|c| c.is_ascii_whitespace()) {
                    at += 1;
                }
                if !matches!(chars.get(at), Some('"' | '\'')) {
                    at = take(&chars, at, |c| c == ')' || c.is_ascii_whitespace(), &mut found);
                    // Whatever else stands in it belongs to it.
                    while chars.get(at).is_some_and(|c| *c != ')') {
                        at += if chars[at] == '\\' { 2 } else { 1 };
                    }
                    at = at.min(chars.len());
                }
                word.clear();
            }
            c => {
                let named = c.is_alphanumeric() || matches!(c, '-' | '_');
                if named {
                    word.push(c)
                } else {
                    word.clear()
                }
                at += 1;
            }
        }
    }
    found
}

fn take(chars: &[char], start: usize, ends: impl Fn(char) -> bool, found: &mut Vec<Address>) -> usize {
    let (mut text, mut at) = (String::new(), start);
    while at < chars.len() && !ends(chars[at]) {
        if chars[at] == '\\' {
            at = escape(chars, at, &mut text);
        } else {
            text.push(chars[at]);
            at += 1;
        }
    }
    let at = at.min(chars.len());
    found.push(Address { text, place: start..at });
    at
}

fn escape(chars: &[char], at: usize, text: &mut String) -> usize {
    let hex: String = chars[at + 1..].iter().take(6).take_while(|c| c.is_ascii_hexdigit()).collect();
    match u32::from_str_radix(&hex, 16) {
        Ok(code) => {
            text.push(char::from_u32(code).unwrap_or('\u{fffd}'));
            let end = at + 1 + hex.len();
            end + usize::from(chars.get(end).is_some_and(|c| c.is_ascii_whitespace()))
        }
        Err(_) => {
            text.extend(chars.get(at + 1).filter(|c| **c != '\n'));
            at + 2
        }
    }
}

/// Style without its addresses: what must stay the same when some of them go.
pub fn css_skeleton(text: &str) -> String {
    let addresses = css(text);
    let outside = |at: usize| !addresses.iter().any(|address| address.place.contains(&at));
    text.chars().enumerate().filter(|(at, _)| outside(*at)).map(|(_, c)| c).collect()
}

/// Strings of an import map, speculation rules or an AMP configuration that may be addresses.
pub fn json_strings(element: &Element) -> Vec<String> {
    fn strings(value: &serde_json::Value, into: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) => into.push(text.clone()),
            serde_json::Value::Array(all) => all.iter().for_each(|one| strings(one, into)),
            serde_json::Value::Object(all) => all.values().for_each(|one| strings(one, into)),
            _ => {}
        }
    }
    let kind = element.attr("type").unwrap_or_default().trim().to_ascii_lowercase();
    let mut found = Vec::new();
    if element.name == "script"
        && matches!(kind.as_str(), "importmap" | "speculationrules")
        && let Ok(json) = serde_json::from_str(&element.text())
    {
        strings(&json, &mut found);
    }
    found
}
