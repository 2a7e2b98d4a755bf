//! `Clear-Site-Data` of an origin (W3C, 3.1): what it says of cookies would take a person's opt-out along.
//!
//! Browsers clear what the same answer sets, too, so that ours could not be put back. Instead each cookie that the
//! request carried is ended by name, where it can be: for the host and its domains at `/`, and for the host at every
//! folder of the address. All else that the field clears is cleared as ever.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, SET_COOKIE};
use url::Url;

use super::cookies::{cookie_domains, expiry_line};
use super::fields;
use crate::privacy::cookie;
use crate::privacy::signal::cookie_pairs;

const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

/// What `"*"` stands for, but for cookies.
const ALL_ELSE: &str =
    "\"cache\", \"clientHints\", \"executionContexts\", \"prefetchCache\", \"prerenderCache\", \"storage\"";

/// Bytes of lines that a head may gain. Of more, the field stays as it is: a log-out that leaves a session behind
/// would be worse.
const MOST_BYTES: usize = 16 * 1024;

/// Keeps our own cookie from being cleared with the site's, on an answer to a request at `page` with these cookies;
/// gives whether anything was changed.
///
/// Over https alone: elsewhere browsers pass over the field.
pub(super) fn spare_ours(headers: &mut HeaderMap, sent: &HeaderValue, page: &Url) -> bool {
    if page.scheme() != "https" || !headers.contains_key(CLEAR_SITE_DATA) {
        return false;
    }
    let kinds: Vec<&str> = fields::items(headers, &CLEAR_SITE_DATA).collect();
    if !kinds.iter().any(|kind| matches!(*kind, "\"cookies\"" | "\"*\"")) {
        return false;
    }
    let kept: Vec<&str> = kinds
        .into_iter()
        .filter(|kind| *kind != "\"cookies\"")
        .map(|kind| if kind == "\"*\"" { ALL_ELSE } else { kind })
        .collect();
    let Some(lines) = endings(sent, page) else { return false };
    match HeaderValue::try_from(kept.join(", ")) {
        Ok(field) if !kept.is_empty() => drop(headers.insert(CLEAR_SITE_DATA, field)),
        _ => drop(headers.remove(CLEAR_SITE_DATA)),
    }
    for line in lines {
        headers.append(SET_COOKIE, line);
    }
    true
}

/// Lines that end every cookie but ours; `None`: they are too many.
fn endings(sent: &HeaderValue, page: &Url) -> Option<Vec<HeaderValue>> {
    let domains = cookie_domains(page.host_str().unwrap_or_default());
    let scopes: Vec<(Option<&str>, &str)> = std::iter::once((None, "/"))
        .chain(domains.iter().map(|domain| (Some(*domain), "/")))
        .chain(folders(page.path()).map(|folder| (None, folder)))
        .collect();
    let (mut lines, mut bytes) = (Vec::new(), 0);
    for (name, _) in cookie_pairs(sent.as_bytes()).filter(|(name, _)| *name != cookie::NAME.as_bytes()) {
        for (domain, path) in &scopes {
            let Some(line) = expiry_line(name, *domain, path, true) else { continue };
            bytes += line.len();
            lines.push(line);
        }
        if bytes > MOST_BYTES {
            return None;
        }
    }
    Some(lines)
}

/// The paths below the root that a cookie may have and come to this one (RFC 6265, 5.1.4): every beginning of it that
/// ends at a slash, with the slash and without it, and itself. None in a `Set-Cookie` line goes on behind a semicolon.
fn folders(path: &str) -> impl Iterator<Item = &str> {
    let path = path.split(';').next().unwrap_or_default();
    let slashes = path.char_indices().filter(|(at, c)| *c == '/' && *at > 0).map(|(at, _)| at);
    let whole = Some(path).filter(|path| !path.ends_with('/'));
    slashes.flat_map(|at| [&path[..at], &path[..=at]]).chain(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIES: &str = "sid=1; optgate=v1.out.202611.x; __Host-a=2";

    fn spared(field: &'static str, page: &str) -> (Option<String>, Vec<String>) {
        let mut map = HeaderMap::from_iter([(CLEAR_SITE_DATA, HeaderValue::from_static(field))]);
        spare_ours(&mut map, &HeaderValue::from_static(COOKIES), &Url::parse(page).unwrap());
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        (map.get(CLEAR_SITE_DATA).map(text), map.get_all(SET_COOKIE).iter().map(text).collect())
    }

    /// Cookies alone go by name, whatever else the field clears.
    #[test]
    fn every_cookie_but_ours_is_ended_and_the_rest_is_cleared_as_ever() {
        let (field, lines) = spared("\"cookies\"", "https://shop.example/");
        assert_eq!(field, None);
        let of = |name: &str| {
            [
                format!("{name}=; Path=/; Max-Age=0; Secure"),
                format!("{name}=; Path=/; Max-Age=0; Domain=shop.example; Secure"),
            ]
        };
        assert_eq!(lines, [of("sid"), of("__Host-a")].concat());
        for (field, rest) in
            [("\"cache\", \"cookies\" ,\"storage\"", "\"cache\", \"storage\""), ("\"*\"", ALL_ELSE)]
        {
            assert_eq!(spared(field, "https://shop.example/").0.as_deref(), Some(rest), "{field}");
        }
    }

    #[test]
    fn what_clears_no_cookie_and_what_no_browser_reads_stays() {
        for (field, page) in [
            ("\"cache\", \"storage\"", "https://shop.example/"),
            ("cookies", "https://shop.example/"),
            ("\"cookies\"", "http://shop.example/"),
        ] {
            assert_eq!(spared(field, page), (Some(field.to_owned()), Vec::new()), "{field} {page}");
        }
    }

    /// RFC 6265, 5.1.4: a cookie is another one under another path.
    #[test]
    fn cookies_of_the_folders_on_the_way_are_ended_too() {
        assert_eq!(folders("/").count(), 0);
        assert_eq!(folders("/app/;x=/y").collect::<Vec<_>>(), ["/app", "/app/"]);
        assert_eq!(folders("/app/").collect::<Vec<_>>(), ["/app", "/app/"]);
        assert_eq!(
            folders("/app/x/out").collect::<Vec<_>>(),
            ["/app", "/app/", "/app/x", "/app/x/", "/app/x/out"]
        );
        let lines = spared("\"cookies\"", "https://shop.example/app/out").1;
        assert!(lines.contains(&"sid=; Path=/app; Max-Age=0; Secure".to_owned()), "{lines:?}");
    }

    /// A log-out that leaves a session behind is worse than a choice that is lost.
    #[test]
    fn a_head_that_would_grow_too_large_stays_as_it_is() {
        let long = format!("https://shop.example{}/", "/folder".repeat(2_000));
        assert_eq!(spared("\"cookies\"", &long), (Some("\"cookies\"".to_owned()), Vec::new()));
    }
}
