//! References in response headers by which a browser starts a request: `Link`, `Refresh`, reports.
//!
//! Each filter asks `strips` about one reference as it is written. The flag says that the host alone
//! counts: for connection hints, and for reports, since no path makes a tracker's
//! host a fit place for them.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, LINK, LOCATION, REFRESH};

/// Whether a reference is to go; the flag: its host alone counts.
pub type Strips<'a> = &'a dyn Fn(&str, bool) -> bool;

/// Filters every header of this kind; gives how many references went. Cost: one pass over the names where there is none.
pub fn filter(headers: &mut HeaderMap, strips: Strips<'_>) -> u32 {
    if !headers.keys().any(|name| leads_on(name.as_str())) {
        return 0;
    }
    let mut removed = filter_members(headers, &LINK, split_links, |entry| link_is_stripped(entry, strips));
    for (name, host_alone) in [("reporting-endpoints", true), ("speculation-rules", false)] {
        let name = HeaderName::from_static(name);
        removed += filter_list(headers, &name, |member| quoted(member).any(|uri| strips(&uri, host_alone)));
    }
    let groups = filter_report_to(headers, strips);
    if groups > 0 {
        // It names a group by `report_to`; the group may be gone.
        headers.remove("nel");
    }
    removed += groups;
    let whole = [REFRESH, HeaderName::from_static("sourcemap"), HeaderName::from_static("x-sourcemap")];
    for name in whole {
        removed += filter_whole(headers, &name, |value| {
            let uri = if name == REFRESH { refresh_target(value) } else { Some(value) };
            uri.is_some_and(|uri| strips(uri, false))
        });
    }
    removed
}

/// Whether a field holds references that [`filter`] looks at.
fn leads_on(name: &str) -> bool {
    matches!(
        name,
        "link"
            | "refresh"
            | "reporting-endpoints"
            | "speculation-rules"
            | "report-to"
            | "sourcemap"
            | "x-sourcemap"
    )
}

/// A redirect, which a browser follows by itself: without its address it is a plain answer, and whatever
/// waited for it sees a failure. Not for a visitor's own step to another page.
pub fn filter_location(headers: &mut HeaderMap, strips: Strips<'_>) -> u32 {
    filter_whole(headers, &LOCATION, |value| strips(value, false))
}

/// Removes a header when `drop` says so of one of its values.
fn filter_whole(headers: &mut HeaderMap, name: &HeaderName, drop: impl Fn(&str) -> bool) -> u32 {
    let goes = headers.get_all(name).iter().any(|value| drop(text_of(value).trim()));
    if goes {
        headers.remove(name);
    }
    u32::from(goes)
}

/// A value as browsers read it: any byte is a character.
pub(super) fn text_of(value: &HeaderValue) -> Cow<'_, str> {
    value.to_str().map_or_else(
        |_| value.as_bytes().iter().copied().map(char::from).collect::<String>().into(),
        Cow::Borrowed,
    )
}

/// The other way. `None`: no value of a header.
pub(super) fn value_of(text: &str) -> Option<HeaderValue> {
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    HeaderValue::from_bytes(&bytes?).ok()
}

/// Removes the members of a structured field's list that `drop` names; a value without members left goes.
pub fn filter_list(headers: &mut HeaderMap, name: &HeaderName, drop: impl Fn(&str) -> bool) -> u32 {
    filter_members(headers, name, split_list, drop)
}

fn filter_members(
    headers: &mut HeaderMap,
    name: &HeaderName,
    split: fn(&str) -> Vec<&str>,
    drop: impl Fn(&str) -> bool,
) -> u32 {
    let mut removed = 0;
    let mut fields: Vec<HeaderValue> = Vec::new();
    for value in headers.get_all(name) {
        let text = text_of(value);
        let members = split(&text);
        let kept: Vec<&str> = members.iter().copied().filter(|member| !drop(member)).collect();
        if kept.len() == members.len() {
            fields.push(value.clone());
            continue;
        }
        removed += u32::try_from(members.len() - kept.len()).unwrap_or(u32::MAX);
        fields.extend(value_of(&kept.join(", ")).filter(|_| !kept.is_empty()));
    }
    if removed > 0 {
        headers.remove(name);
        for field in fields {
            headers.append(name, field);
        }
    }
    removed
}

/// Splits the list of a structured field (RFC 9651) at its commas, but not within quotes, `<>`, or parentheses;
/// members are trimmed and not empty.
#[must_use]
pub fn split_list(text: &str) -> Vec<&str> {
    split_outside(text, true)
}

/// The same for `Link`, in which a parenthesis is a character like others (RFC 8288, 3).
fn split_links(text: &str) -> Vec<&str> {
    split_outside(text, false)
}

fn split_outside(text: &str, nests: bool) -> Vec<&str> {
    let (mut members, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped, mut angle, mut depth) = (false, false, false, 0u32);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !angle => quoted = !quoted,
            _ if quoted => {}
            b'<' => angle = true,
            b'>' => angle = false,
            b'(' if nests && !angle => depth += 1,
            b')' if nests && !angle => depth = depth.saturating_sub(1),
            b',' if !angle && depth == 0 => {
                members.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    members.push(text[start..].trim());
    members.retain(|member| !member.is_empty());
    members
}

/// One `Link` entry: its target, and the candidates of an `imagesrcset` (RFC 8288, 3; HTML, 4.2.4).
///
/// Browsers differ in where an entry ends when quotes and brackets do not pair, so that what looks like the target of
/// another entry counts wherever it stands.
fn link_is_stripped(entry: &str, strips: Strips<'_>) -> bool {
    let (uri, parameters) =
        entry.strip_prefix('<').and_then(|rest| rest.split_once('>')).unwrap_or(("", entry));
    let (mut hint, mut candidates) = (false, Vec::new());
    for parameter in split_parameters(parameters) {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let value = unquote(value.trim());
        if name.trim().eq_ignore_ascii_case("rel") {
            hint |= value.split_ascii_whitespace().any(is_hint);
        } else if name.trim().eq_ignore_ascii_case("imagesrcset") {
            candidates.push(value);
        }
    }
    let uri = uri.trim();
    let in_set = |set: &String| set.split([' ', '\t', ',']).any(|part| strips(part, false));
    let words = |text: &str| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(is_hint);
    let another = |part: &str| {
        let uri = part.split('>').next().unwrap_or(part).trim();
        strips(uri, false) || words(part) && strips(uri, true)
    };
    hint && strips(uri, true)
        || strips(uri, false)
        || candidates.iter().any(in_set)
        || parameters.split('<').skip(1).any(another)
}

/// Whether a link of this relation only opens a connection.
fn is_hint(rel: &str) -> bool {
    rel.eq_ignore_ascii_case("preconnect") || rel.eq_ignore_ascii_case("dns-prefetch")
}

/// Splits `;a=b;c="d;e"` at the semicolons outside quotes.
fn split_parameters(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == ';' && !quoted
    })
}

fn unquote(value: &str) -> String {
    match value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => value.to_owned(),
    }
}

/// The quoted strings of a structured field.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned)
}

/// Removes endpoints from `Report-To` groups, and groups without endpoints (Reporting API, first
/// edition). What is no JSON goes whole: its addresses cannot be judged.
fn filter_report_to(headers: &mut HeaderMap, strips: Strips<'_>) -> u32 {
    let name = HeaderName::from_static("report-to");
    let (mut removed, mut fields) = (0, Vec::new());
    for value in headers.get_all(&name) {
        let parsed = value
            .to_str()
            .ok()
            .and_then(|text| serde_json::from_str::<Vec<serde_json::Value>>(&format!("[{text}]")).ok());
        let Some(groups) = parsed else {
            removed += 1;
            continue;
        };
        let before = removed;
        let mut kept: Vec<String> = Vec::new();
        for mut group in groups {
            if let Some(endpoints) = group.get_mut("endpoints").and_then(|e| e.as_array_mut()) {
                let count = endpoints.len();
                endpoints.retain(|e| !e.get("url").and_then(|u| u.as_str()).is_some_and(|u| strips(u, true)));
                removed += u32::try_from(count - endpoints.len()).unwrap_or(u32::MAX);
                if endpoints.is_empty() {
                    continue;
                }
            }
            kept.push(group.to_string());
        }
        if removed == before {
            fields.push(value.clone());
        } else if let Ok(value) = HeaderValue::try_from(kept.join(", "))
            && !kept.is_empty()
        {
            fields.push(value);
        }
    }
    if removed > 0 {
        headers.remove(&name);
        for field in fields {
            headers.append(&name, field);
        }
    }
    removed
}

/// The address in `5; url=https://...` (WHATWG HTML, "shared declarative refresh steps"), of the header and
/// of the `meta` alike.
///
/// Browsers differ in what they take for a number of seconds; here anything is one.
#[must_use]
pub fn refresh_target(text: &str) -> Option<&str> {
    let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0C');
    let text = text.trim_start_matches(space);
    let text = text[text.find(|c| c == ';' || c == ',' || space(c))?..].trim_start_matches(space);
    let text = text.strip_prefix([';', ',']).unwrap_or(text).trim_start_matches(space);
    let word = text.get(..3).filter(|word| word.eq_ignore_ascii_case("url"));
    let behind = word.and_then(|_| text[3..].trim_start_matches(space).strip_prefix('='));
    let text = behind.map_or(text, |behind| behind.trim_start_matches(space));
    let url = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => text[1..].split(quote).next().unwrap_or_default(),
        _ => text,
    };
    (!url.is_empty()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strips(uri: &str, hint: bool) -> bool {
        uri.contains("ads.example") || (hint && uri.contains("hint.example"))
    }

    fn filtered(name: &'static str, lines: &[&'static str]) -> (u32, Vec<String>) {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(name, HeaderValue::from_static(line));
        }
        let removed = filter(&mut map, &strips);
        (removed, map.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect())
    }

    /// RFC 8288: commas within `<>` and quotes are no separators.
    #[test]
    fn link_entries_of_trackers_go_one_by_one() {
        for (lines, want) in [
            (
                &["</a.css>; rel=preload, <https://ads.example/x,y>; rel=preload"][..],
                &["</a.css>; rel=preload"][..],
            ),
            (&["<//ads.example>; rel=preconnect", "</b>; rel=next"], &["</b>; rel=next"]),
            (
                &["</a,b>; title=\"x, <https://own.example/>; y\""],
                &["</a,b>; title=\"x, <https://own.example/>; y\""],
            ),
            // Not all browsers know where such a quote ends.
            (&["</a,b>; title=\"x\\\", <https://ads.example/>; y\""], &[]),
            (&["</a>; title='x, y\"', <https://ads.example/>; x=\""], &["</a>; title='x"]),
            (&["</a>; title=a<b, <//hint.example>; rel=preconnect"], &[]),
            (&["x\"y, <https://ads.example/>; rel=preload"], &[]),
            (&["</a>; title=a(b, <https://ads.example/>; rel=preload"], &["</a>; title=a(b"]),
            (&["</a>; title=a(b, </b>; title=c)"], &["</a>; title=a(b, </b>; title=c)"]),
            (
                &["<https://hint.example/>; rel=\"dns-prefetch x\", <https://hint.example/a>; rel=preload"],
                &["<https://hint.example/a>; rel=preload"],
            ),
            (&["<>; rel=preload; as=image; imagesrcset=\"/a.png 1x, https://ads.example/b 2x\""], &[]),
            (&["<https://ads.example>"], &[]),
            (&["<https://ads.example/>; rel=\"preconnect preload\""], &[]),
            (&["<>; rel=preload; imagesrcset=\"/a.png 1x,https://ads.example/b 2x\""], &[]),
            (&["</a>; title=\"open, <https://ads.example/b>; rel=preload"], &[]),
            (
                &["</a>; title=\"open, <https://own.example/b>"],
                &["</a>; title=\"open, <https://own.example/b>"],
            ),
            (&["nonsense, ads.example"], &["nonsense, ads.example"]),
        ] {
            assert_eq!(filtered("link", lines).1, want, "{lines:?}");
        }
        assert_eq!(filtered("link", &["<//ads.example/1>, <//ads.example/2>, </3>"]).0, 2);
    }

    /// Browsers read any byte in a value; what stays is the same bytes.
    #[test]
    fn a_value_that_is_no_ascii_is_read_all_the_same() {
        let mut map = HeaderMap::new();
        let value = b"<https://ads.example/>; rel=preload; title=caf\xe9, </a>; rel=next; title=\"\xc3\xa9\"";
        map.insert(LINK, HeaderValue::from_bytes(value).unwrap());
        map.insert(REFRESH, HeaderValue::from_bytes(b"0; url=https://ads.example/\xff").unwrap());
        assert_eq!(filter(&mut map, &strips), 2);
        assert_eq!(map[LINK].as_bytes(), b"</a>; rel=next; title=\"\xc3\xa9\"");
        assert_eq!(map.len(), 1);
    }

    #[test]
    fn a_refresh_to_a_tracker_goes_and_others_stay() {
        for gone in [
            "0; url=https://ads.example/",
            "5;URL = 'https://ads.example/x'",
            "1, https://ads.example/",
            "0 url=\"//ads.example\"",
        ] {
            assert!(filtered("refresh", &[gone]).1.is_empty(), "{gone}");
        }
        assert!(filtered("refresh", &["0\turl=https://ads.example/"]).1.is_empty());
        for kept in ["5", "5; url=/next", ""] {
            assert_eq!(filtered("refresh", &[kept]).1, [kept], "{kept}");
        }
    }

    #[test]
    fn reports_to_trackers_are_dropped() {
        assert_eq!(
            filtered("reporting-endpoints", &["a=\"https://ads.example/r\", b=\"/own\""]).1,
            ["b=\"/own\""]
        );
        let own = r#"{"group":"a","max_age":1,"endpoints":[{"url":"https://own.example/r"}]}"#;
        assert_eq!(filtered("report-to", &[own]), (0, vec![own.to_owned()]));
        let mixed = r#"{"endpoints":[{"url":"https://ads.example/"}]}, {"endpoints":[{"url":"https://ads.example/"},{"url":"/r"}]}"#;
        assert_eq!(filtered("report-to", &[mixed]), (2, vec![r#"{"endpoints":[{"url":"/r"}]}"#.to_owned()]));
        assert_eq!(filtered("report-to", &["{broken"]), (1, vec![]));
    }

    #[test]
    fn network_error_logging_goes_with_its_group() {
        let mut map = HeaderMap::new();
        map.insert("nel", HeaderValue::from_static("{\"report_to\":\"a\"}"));
        filter(&mut map, &strips);
        assert!(map.contains_key("nel"));
        let group = r#"{"group":"a","endpoints":[{"url":"https://ads.example/"}]}"#;
        map.insert("report-to", HeaderValue::from_static(group));
        filter(&mut map, &strips);
        assert!(map.is_empty());
    }
}
