//! Fields as lists (RFC 9110, 5.6.1), and their removal by what their names are.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The items of a comma-separated list over all lines of a field, without blanks around them and without empty ones.
///
/// An item that is not all ASCII counts as absent, and no other with it: a line may hold such bytes in a quoted string.
/// For fields whose items hold no quoted commas.
pub fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let items = headers.get_all(name).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let text = items.filter(|item| item.is_ascii()).filter_map(|item| std::str::from_utf8(item).ok());
    text.map(str::trim).filter(|item| !item.is_empty())
}

/// Whether a word, in whatever case, is one of the items of [`items`].
#[must_use]
pub fn has(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(word))
}

/// Sets a field. `absent`: it is known not to be there, which makes it a third cheaper.
pub fn set(headers: &mut HeaderMap, absent: bool, name: &HeaderName, value: HeaderValue) {
    if absent {
        headers.append(name, value);
    } else {
        headers.insert(name, value);
    }
}

/// Removes every field whose name goes; says how many there were.
///
/// Cost: one pass over the names; a list is made only where one goes.
pub fn remove_where(headers: &mut HeaderMap, goes: impl Fn(&str) -> bool) -> u32 {
    let names: Vec<HeaderName> = headers.keys().filter(|name| goes(name.as_str())).cloned().collect();
    let mut removed = 0;
    for name in names {
        headers.remove(name);
        removed += 1;
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static [u8])| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    /// RFC 9110, 5.6.1 and 5.6.4: what stands beside bytes that nobody reads is said all the same, as `no-store` or a
    /// name in `Connection`.
    #[test]
    fn a_list_goes_on_over_lines_and_skips_items_that_are_empty_or_no_text() {
        let map =
            headers(&[("vary", b"a, ,b ,"), ("vary", b"\xff, x=\"\xe4\",d"), ("vary", b""), ("vary", b"c")]);
        assert_eq!(items(&map, &http::header::VARY).collect::<Vec<_>>(), ["a", "b", "d", "c"]);
    }

    #[test]
    fn a_name_goes_with_all_its_lines_and_counts_once() {
        let mut map = headers(&[("x-a", b"1"), ("x-a", b"2"), ("x-b", b"1"), ("y", b"1")]);
        assert_eq!(remove_where(&mut map, |name| name.starts_with("x-")), 2);
        assert_eq!(map, headers(&[("y", b"1")]));
    }
}
