//! What Optgate changed: a page asked for with and without `Sec-GPC: 1`, and the difference as a
//! short table.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;

use http::header::{LINK, SET_COOKIE};
use http::{HeaderMap, Request, StatusCode};

use crate::cli::ask::ask;
use crate::config::{HONORED, VendorAction};
use crate::registry::{Policy, VendorId};

/// Writes the three addresses, one a line, in the form scripts rely on.
///
/// # Errors
/// When the output cannot be written.
pub fn addresses(
    out: &mut impl Write,
    origin: SocketAddr,
    optgate: SocketAddr,
    admin: SocketAddr,
) -> io::Result<()> {
    writeln!(out, "origin: http://{origin}/")?;
    writeln!(out, "optgate: http://{optgate}/")?;
    writeln!(out, "admin: http://{admin}/")
}

/// Requests a page through Optgate without and with `Sec-GPC: 1` and writes what changed. `policy`
/// names the vendors behind removed cookies and `Link` entries; `prefix` is the portal's.
///
/// # Errors
/// When the page cannot be had (the message names the address and what failed) or the output cannot
/// be written.
pub async fn print(
    out: &mut impl Write,
    optgate: SocketAddr,
    path: &str,
    prefix: &str,
    policy: Option<&Policy>,
) -> anyhow::Result<()> {
    let plain = fetch(optgate, path, false).await?;
    let signalled = fetch(optgate, path, true).await?;
    writeln!(out, "\nGET {path}, with Sec-GPC: 1 against without:\n")?;
    table(out, &changes(&plain, &signalled, policy))?;
    writeln!(out)?;
    for (name, page) in [("without the signal", &plain), ("with Sec-GPC: 1", &signalled)] {
        let has = |yes: bool| if yes { "yes" } else { "no" };
        let link = page.body.contains(&format!("href=\"{prefix}\""));
        let status = page.body.contains(HONORED);
        writeln!(
            out,
            "{name:<19} {}  opt-out link: {}  \"{HONORED}\": {}",
            page.status.as_u16(),
            has(link),
            has(status)
        )?;
    }
    Ok(())
}

/// One answer.
struct Page {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

/// One row of the table, with how often it occurred.
type Row = (String, String, String);

async fn fetch(address: SocketAddr, path: &str, gpc: bool) -> anyhow::Result<Page> {
    let mut request = Request::get(path).header("accept", "text/html");
    if gpc {
        request = request.header("sec-gpc", "1");
    }
    let (head, body) = ask(address, None, request).await?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Page { status: head.status, headers: head.headers, body })
}

fn changes(plain: &Page, signalled: &Page, policy: Option<&Policy>) -> BTreeMap<Row, usize> {
    let mut rows = BTreeMap::new();
    let mut add = |vendor: String, element: String, action: &str| {
        *rows.entry((vendor, element, action.to_owned())).or_default() += 1;
    };
    for (action, vendor, element) in marks(&signalled.body) {
        add(vendor.to_owned(), element, action);
    }
    for (vendor, element) in policy.map_or_else(Vec::new, |policy| restricted(&signalled.body, policy)) {
        add(vendor, element.to_owned(), "kept, restricted");
    }
    let kept = cookie_names(&signalled.headers);
    for name in cookie_names(&plain.headers).into_iter().filter(|name| !kept.contains(name)) {
        let hit = policy.and_then(|p| p.match_cookie(name.as_bytes()));
        add(vendor_name(policy, hit.map(|h| h.vendor)), format!("Set-Cookie {name}"), "removed");
    }
    let kept = link_targets(&signalled.headers);
    for target in link_targets(&plain.headers).into_iter().filter(|target| !kept.contains(target)) {
        let vendor = policy.and_then(|p| {
            let url = url::Url::parse(target).ok()?;
            let host = url.host_str()?;
            let hit = p.match_url(host, url.path()).or_else(|| p.match_host(host))?;
            Some(hit.vendor)
        });
        add(vendor_name(policy, vendor), format!("Link {target}"), "removed");
    }
    rows
}

fn vendor_name(policy: Option<&Policy>, vendor: Option<VendorId>) -> String {
    match (policy, vendor) {
        (Some(policy), Some(id)) => policy.registry().vendor(id).id.clone(),
        _ => "-".to_owned(),
    }
}

/// `(action, vendor, element)` of every mark the rewriter left.
fn marks(body: &str) -> Vec<(&str, &str, String)> {
    const ATTRIBUTE: &str = "data-optgate=\"";
    const COMMENT: &str = "/* optgate ";
    let attributes = body.match_indices(ATTRIBUTE).filter_map(|(at, found)| {
        let (action, vendor) = body[at + found.len()..].split('"').next()?.split_once(':')?;
        let tag = &body[body[..at].rfind('<')? + 1..];
        Some((at, action, vendor, describe(tag.split('>').next()?)))
    });
    let comments = body.match_indices(COMMENT).filter_map(|(at, found)| {
        let (action, vendor) = body[at + found.len()..].split(" */").next()?.split_once(':')?;
        Some((at, action, vendor, "inline script".to_owned()))
    });
    let mut all: Vec<_> = attributes.chain(comments).collect();
    all.sort_by_key(|&(at, ..)| at);
    all.into_iter().map(|(_, action, vendor, element)| (action, vendor, element)).collect()
}

/// Scripts of vendors that stay under restrictions: the guard holds what they load.
fn restricted(body: &str, policy: &Policy) -> Vec<(String, &'static str)> {
    let scripts = body.split("<script").skip(1).filter_map(|rest| rest.split("</script>").next());
    let hits = scripts.filter(|script| !script.starts_with(" data-optgate=\"guard\"")).filter_map(|script| {
        let (tag, text) = script.split_once('>')?;
        let source = tag.split_once("src=\"").and_then(|(_, rest)| rest.split('"').next());
        match source {
            Some(source) => {
                let url = url::Url::parse(source).ok()?;
                Some((policy.match_url(url.host_str()?, url.path())?, "<script>"))
            }
            None => Some((policy.match_inline(text.as_bytes())?, "inline script")),
        }
    });
    hits.filter(|(hit, _)| hit.action == VendorAction::Restrict)
        .map(|(hit, element)| (policy.registry().vendor(hit.vendor).id.clone(), element))
        .collect()
}

/// A tag's name, and for a link its relation.
fn describe(tag: &str) -> String {
    let name = tag.split(|c: char| c.is_ascii_whitespace() || c == '/').next().unwrap_or(tag);
    let relation = tag
        .split_once(" rel=")
        .map(|(_, value)| value.trim_start_matches(['"', '\'']))
        .and_then(|value| value.split(['"', '\'', ' ']).next());
    match relation {
        Some(relation) => format!("<{name} {relation}>"),
        None => format!("<{name}>"),
    }
}

/// Names of the cookies a response sets; expiring one is not setting it.
fn cookie_names(headers: &HeaderMap) -> Vec<&str> {
    headers
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter(|cookie| {
            !cookie.split(';').skip(1).any(|attribute| attribute.trim().eq_ignore_ascii_case("max-age=0"))
        })
        .filter_map(|cookie| cookie.split('=').next())
        .collect()
}

/// Targets of the `Link` entries (RFC 8288, 3): the text between `<` and `>`.
fn link_targets(headers: &HeaderMap) -> Vec<&str> {
    headers
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|field| field.split('<').skip(1))
        .filter_map(|entry| entry.split('>').next())
        .collect()
}

fn table(out: &mut impl Write, rows: &BTreeMap<Row, usize>) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "nothing changed");
    }
    let label = |element: &str, count: usize| {
        if count > 1 { format!("{element} x {count}") } else { element.to_owned() }
    };
    let vendor_width = rows.keys().map(|(vendor, ..)| vendor.len()).max().unwrap_or(0).max(6);
    let element_width =
        rows.iter().map(|((_, element, _), &count)| label(element, count).len()).max().unwrap_or(0).max(7);
    writeln!(out, "{:vendor_width$}  {:element_width$}  action", "vendor", "element")?;
    for ((vendor, element, action), &count) in rows {
        writeln!(out, "{vendor:vendor_width$}  {:element_width$}  {action}", label(element, count))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn page(fields: &[(http::HeaderName, &'static str)], body: &str) -> Page {
        let headers =
            fields.iter().map(|(n, v)| (n.clone(), HeaderValue::from_static(v))).collect::<HeaderMap>();
        Page { status: StatusCode::OK, headers, body: body.to_owned() }
    }

    /// The rewriter's marks: an attribute on elements, a comment in emptied inline scripts; the
    /// guard's own mark is no change of the page.
    #[test]
    fn every_mark_becomes_a_row_and_the_guard_does_not() {
        let body = r#"<script data-optgate="guard">x</script>
            <script async src="/p/assets/e.js" data-optgate="strip:meta-pixel"></script>
            <link rel="preconnect" data-optgate="strip:criteo-onetag">
            <script>/* optgate strip:tiktok-pixel */</script>
            <img data-optgate="strip:meta-pixel"><img data-optgate="strip:meta-pixel">"#;
        let rows = changes(&page(&[], ""), &page(&[], body), None);
        let mut text = Vec::new();
        table(&mut text, &rows).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "vendor         element            action\n\
             criteo-onetag  <link preconnect>  strip\n\
             meta-pixel     <img> x 2          strip\n\
             meta-pixel     <script>           strip\n\
             tiktok-pixel   inline script      strip\n"
        );
    }

    #[test]
    fn cookies_and_link_entries_that_went_are_named() {
        let plain = page(
            &[
                (SET_COOKIE, "s=1; Path=/"),
                (SET_COOKIE, "_fbp=2"),
                (LINK, "</a.css>; rel=preload, <https://x.example>; rel=preconnect"),
            ],
            "",
        );
        let signalled = page(
            &[(SET_COOKIE, "s=1; Path=/"), (SET_COOKIE, "_fbp=; Max-Age=0"), (LINK, "</a.css>; rel=preload")],
            "",
        );
        let rows: Vec<_> = changes(&plain, &signalled, None).into_keys().map(|(_, e, _)| e).collect();
        assert_eq!(rows, ["Link https://x.example", "Set-Cookie _fbp"]);
    }

    /// The shop itself does not look at the signal: that is what the demo starts from.
    #[tokio::test]
    async fn the_bare_shop_answers_both_visitors_alike() {
        let shop = crate::cli::demo::shop::spawn().await.unwrap();
        let mut text = Vec::new();
        print(&mut text, shop, "/product/1", "/privacy-choices", None).await.unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("nothing changed"), "{text}");
        assert_eq!(text.matches("opt-out link: no").count(), 2, "{text}");
    }

    /// Bad input gets a clear error: where, and what failed.
    #[tokio::test]
    async fn an_address_that_nobody_answers_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = listener.local_addr().unwrap();
        drop(listener);
        let error = print(&mut Vec::new(), closed, "/", "/p", None).await.unwrap_err();
        assert!(error.to_string().contains(&closed.to_string()), "{error}");
    }

    /// Markup that is cut off must not end the demo.
    #[test]
    fn broken_markup_gives_no_row_and_no_panic() {
        for body in ["data-optgate=\"", "<a data-optgate=\"strip", "/* optgate ", "data-optgate=\"a:b\""] {
            assert!(marks(body).len() <= 1, "{body}");
        }
        let rows = changes(&page(&[], ""), &page(&[], ""), None);
        let mut text = Vec::new();
        table(&mut text, &rows).unwrap();
        assert_eq!(text, b"nothing changed\n");
    }
}
