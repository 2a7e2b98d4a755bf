//! References in response headers by which a browser starts a request: `Link`, `Refresh`, reports.
//!
//! Each filter asks `strips` about one reference as it is written. The flag says that the host alone
//! counts: for connection hints (DESIGN 4, matching), and for reports, since no path makes a tracker's
//! host a fit place for them.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, LINK, REFRESH};

/// Whether a reference is to go; the flag: its host alone counts.
pub type Strips<'a> = &'a dyn Fn(&str, bool) -> bool;

/// Filters every header of this kind; gives how many references went.
pub fn filter(headers: &mut HeaderMap, strips: Strips<'_>) -> u32 {
    let mut removed = filter_list(headers, &LINK, |entry| link_is_stripped(entry, strips));
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
        let stripped = headers.get_all(&name).iter().filter_map(|v| v.to_str().ok()).any(|value| {
            let uri = if name == REFRESH { refresh_target(value) } else { Some(value) };
            uri.is_some_and(|uri| strips(uri.trim(), false))
        });
        if stripped {
            headers.remove(&name);
            removed += 1;
        }
    }
    removed
}

/// Removes the members of a list header that `drop` names; a value without members left goes. Values
/// that are no text are kept: browsers cannot read them either.
pub fn filter_list(headers: &mut HeaderMap, name: &HeaderName, drop: impl Fn(&str) -> bool) -> u32 {
    let mut removed = 0;
    let mut fields: Vec<HeaderValue> = Vec::new();
    for value in headers.get_all(name) {
        let Ok(text) = value.to_str() else {
            fields.push(value.clone());
            continue;
        };
        let members = split_list(text);
        let kept: Vec<&str> = members.iter().copied().filter(|member| !drop(member)).collect();
        if kept.len() == members.len() {
            fields.push(value.clone());
            continue;
        }
        removed += u32::try_from(members.len() - kept.len()).unwrap_or(u32::MAX);
        if let Ok(value) = HeaderValue::try_from(kept.join(", "))
            && !kept.is_empty()
        {
            fields.push(value);
        }
    }
    if removed > 0 {
        headers.remove(name);
        for field in fields {
            headers.append(name, field);
        }
    }
    removed
}

/// Splits a list at its commas, but not within quotes, `<>`, or parentheses; members are trimmed and
/// not empty.
#[must_use]
pub fn split_list(text: &str) -> Vec<&str> {
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
            b'(' if !angle => depth += 1,
            b')' if !angle => depth = depth.saturating_sub(1),
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
fn link_is_stripped(entry: &str, strips: Strips<'_>) -> bool {
    let Some((uri, parameters)) = entry.strip_prefix('<').and_then(|rest| rest.split_once('>')) else {
        return false;
    };
    let (mut hint, mut candidates) = (false, Vec::new());
    for parameter in split_parameters(parameters) {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let value = unquote(value.trim());
        if name.trim().eq_ignore_ascii_case("rel") {
            hint |= value.split_ascii_whitespace().any(|rel| {
                rel.eq_ignore_ascii_case("preconnect") || rel.eq_ignore_ascii_case("dns-prefetch")
            });
        } else if name.trim().eq_ignore_ascii_case("imagesrcset") {
            candidates.push(value);
        }
    }
    strips(uri.trim(), hint)
        || candidates.iter().any(|set| {
            set.split_ascii_whitespace().any(|part| {
                let uri = part.trim_matches(',');
                uri.contains('/') && strips(uri, false)
            })
        })
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
                &["</a,b>; title=\"x, <https://ads.example/>; y\""],
                &["</a,b>; title=\"x, <https://ads.example/>; y\""],
            ),
            (
                &["<https://hint.example/>; rel=\"dns-prefetch x\", <https://hint.example/a>; rel=preload"],
                &["<https://hint.example/a>; rel=preload"],
            ),
            (&["<>; rel=preload; as=image; imagesrcset=\"/a.png 1x, https://ads.example/b 2x\""], &[]),
            (&["<https://ads.example>"], &[]),
            (&["nonsense, ads.example"], &["nonsense, ads.example"]),
        ] {
            assert_eq!(filtered("link", lines).1, want, "{lines:?}");
        }
        assert_eq!(filtered("link", &["<//ads.example/1>, <//ads.example/2>, </3>"]).0, 2);
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
