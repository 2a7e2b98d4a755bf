//! JSON in script elements that makes a browser load something: import maps (HTML, 8.1.6.2), speculation
//! rules, and what AMP components are told to send.
//!
//! Texts are decoded; what is written anew is ASCII.

use serde_json::{Map, Value};

/// What becomes of JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays as it is.
    Keep,
    /// It is replaced.
    Replace(String),
}

/// Written in the place of what has to go whole.
pub(super) const EMPTY: &str = "{}";

/// Turns the addresses of an import map that have to go to `stub`.
///
/// A map that we cannot read is emptied if it has an address: browsers read a little more than we do.
pub(super) fn import_map(text: &str, stub: &str, strips: &mut impl FnMut(&str) -> bool) -> Verdict {
    let Some(mut map) = parse(text) else { return unreadable(text) };
    let mut changed = false;
    let mut imports = |imports: Option<&mut Value>| {
        for (_, address) in imports.and_then(Value::as_object_mut).into_iter().flatten() {
            if address.as_str().is_some_and(&mut *strips) {
                *address = Value::from(stub);
                changed = true;
            }
        }
    };
    imports(map.get_mut("imports"));
    for (_, scope) in map.get_mut("scopes").and_then(Value::as_object_mut).into_iter().flatten() {
        imports(Some(scope));
    }
    if changed { Verdict::Replace(ascii(&map)) } else { Verdict::Keep }
}

/// Takes the addresses that have to go out of speculation rules, and holds rules about the links of the page
/// to the page's own site: a link may lead to a tracker, and nobody has clicked.
///
/// `origin` is the page's. A set that we cannot read is emptied if it has an address.
pub(super) fn rules(text: &str, origin: &str, strips: &mut impl FnMut(&str) -> bool) -> Verdict {
    let Some(mut set) = parse(text) else { return unreadable(text) };
    let mut changed = false;
    for (_, rules) in set.as_object_mut().into_iter().flatten() {
        for rule in rules.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            changed |= without_addresses(rule, strips) | held_to_site(rule, origin);
        }
    }
    if changed { Verdict::Replace(ascii(&set)) } else { Verdict::Keep }
}

/// Empties a configuration that names an address that has to go.
pub(super) fn config(text: &str, strips: &mut impl FnMut(&str) -> bool) -> Verdict {
    let goes = match parse(text) {
        Some(value) => any_string(&value, strips),
        None => text.contains('/'),
    };
    if goes { Verdict::Replace(EMPTY.to_owned()) } else { Verdict::Keep }
}

fn without_addresses(rule: &mut Map<String, Value>, strips: &mut impl FnMut(&str) -> bool) -> bool {
    let Some(urls) = rule.get_mut("urls").and_then(Value::as_array_mut) else { return false };
    let before = urls.len();
    urls.retain(|url| !url.as_str().is_some_and(&mut *strips));
    urls.len() < before
}

fn held_to_site(rule: &mut Map<String, Value>, origin: &str) -> bool {
    let of_links = rule.contains_key("where") || rule.get("source").is_some_and(|s| s == "document");
    if !of_links || rule.get("where").is_some_and(stays_on_site) {
        return false;
    }
    let mut all = vec![serde_json::json!({ "href_matches": format!("{origin}/*") })];
    all.extend(rule.remove("where"));
    rule.insert("where".to_owned(), serde_json::json!({ "and": all }));
    true
}

/// Whether a condition can only be met by links to the page's own site.
fn stays_on_site(condition: &Value) -> bool {
    let path = |text: &str| text.starts_with('/') && !text[1..].starts_with(['/', '\\']);
    let Some((word, value)) = condition.as_object().and_then(|c| c.iter().next()) else { return false };
    match (word.as_str(), value) {
        ("href_matches", Value::String(text)) => path(text),
        ("href_matches" | "or", Value::Array(all)) if !all.is_empty() => {
            all.iter().all(|one| one.as_str().map_or_else(|| stays_on_site(one), path))
        }
        ("and", Value::Array(all)) => all.iter().any(stays_on_site),
        _ => false,
    }
}

fn any_string(value: &Value, strips: &mut impl FnMut(&str) -> bool) -> bool {
    match value {
        Value::String(text) => strips(text),
        Value::Array(all) => all.iter().any(|one| any_string(one, strips)),
        Value::Object(all) => all.values().any(|one| any_string(one, strips)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn unreadable(text: &str) -> Verdict {
    if text.contains(['/', '\\']) { Verdict::Replace(EMPTY.to_owned()) } else { Verdict::Keep }
}

/// JSON in ASCII that no script element ends in.
fn ascii(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        if c.is_ascii() && c != '<' {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strips(url: &str) -> bool {
        url.starts_with("//t")
    }

    fn replaced(text: &str) -> Verdict {
        Verdict::Replace(text.to_owned())
    }

    /// HTML 8.1.6.2: addresses in `imports` and in every scope; keys are names, not addresses.
    #[test]
    fn addresses_of_an_import_map_lead_to_the_stub() {
        for (map, expected) in [
            (r#"{"imports":{"a":"/a.js","//t/k":"/k.js"}}"#, Verdict::Keep),
            (r#"{"imports":{"a":"//t/a.js","b":"/b"}}"#, replaced(r#"{"imports":{"a":"/e.js","b":"/b"}}"#)),
            (
                r#"{"scopes":{"/x/":{"a":"\u002f/t/caf\u00e9</"}}}"#,
                replaced(r#"{"scopes":{"/x/":{"a":"/e.js"}}}"#),
            ),
            (
                "{\"imports\":{\"\u{e9}<\":\"//t/a\"}}",
                replaced("{\"imports\":{\"\\u00e9\\u003c\":\"/e.js\"}}"),
            ),
            ("{\"imports\":{\"a\":\"//t\",}}", replaced("{}")),
            ("not JSON", Verdict::Keep),
            ("[]", Verdict::Keep),
        ] {
            assert_eq!(import_map(map, "/e.js", &mut strips), expected, "{map}");
        }
    }

    /// Speculation Rules: lists lose single addresses, rules about links stay on the site.
    #[test]
    fn speculation_rules_lose_addresses_and_stay_on_the_site() {
        for (set, expected) in [
            (r#"{"prefetch":[{"urls":["/a"]}]}"#, Verdict::Keep),
            (r#"{"prefetch":[{"urls":["/a","//t/b"]}]}"#, replaced(r#"{"prefetch":[{"urls":["/a"]}]}"#)),
            (r#"{"prerender":[{"where":{"href_matches":"/*"}}]}"#, Verdict::Keep),
            (
                r#"{"prefetch":[{"where":{"and":[{"not":{"selector_matches":".x"}},{"href_matches":["/a","/b"]}]}}]}"#,
                Verdict::Keep,
            ),
            (
                r#"{"prerender":[{"where":{"selector_matches":"a"}}]}"#,
                replaced(
                    r#"{"prerender":[{"where":{"and":[{"href_matches":"https://o/*"},{"selector_matches":"a"}]}}]}"#,
                ),
            ),
            (
                r#"{"prefetch":[{"source":"document"}]}"#,
                replaced(
                    r#"{"prefetch":[{"source":"document","where":{"and":[{"href_matches":"https://o/*"}]}}]}"#,
                ),
            ),
            (
                r#"{"prefetch":[{"where":{"or":[{"href_matches":"/*"},{"href_matches":"//t/*"}]}}]}"#,
                replaced(
                    r#"{"prefetch":[{"where":{"and":[{"href_matches":"https://o/*"},{"or":[{"href_matches":"/*"},{"href_matches":"//t/*"}]}]}}]}"#,
                ),
            ),
        ] {
            assert_eq!(rules(set, "https://o", &mut strips), expected, "{set}");
        }
    }

    #[test]
    fn a_configuration_with_such_an_address_is_emptied() {
        assert_eq!(config(r#"{"requests":{"a":"https://own/"}}"#, &mut strips), Verdict::Keep);
        assert_eq!(config(r#"{"requests":{"a":[1,"//t/x"]}}"#, &mut strips), replaced("{}"));
        assert_eq!(config("{'x': '//t/x'}", &mut strips), replaced("{}"));
    }
}
