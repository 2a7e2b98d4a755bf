//! Step 8 for interim answers (RFC 9110, 15.2): early hints start requests before there is a page to guard.

use http::header::{ALT_SVC, HeaderMap, SET_COOKIE};

use super::response::Judge;

/// What is not for this visitor goes from an interim answer's head, in enforce mode: cookies for everybody, since a
/// browser may take them or not (RFC 6265, 3), ways around us (RFC 7838), and references to trackers for an opted-out one.
///
/// `judge`: of references for a visitor who has opted out or may turn out to have; it knows of no guard yet.
pub fn apply(headers: &mut HeaderMap, judge: Option<&Judge<'_>>) {
    headers.remove(SET_COOKIE);
    headers.remove(ALT_SVC);
    if let Some(judge) = judge {
        judge.strip_references(headers, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VendorPolicy;
    use crate::registry::{Policy, Registry};
    use std::sync::Arc;

    /// 103 Early Hints never carry a stripped host. A tag manager's container needs the guard, which is
    /// not there yet.
    #[test]
    fn hints_keep_what_leads_to_no_tracker() {
        let policy =
            Policy::resolve(Arc::new(Registry::builtin().unwrap()), &VendorPolicy::default()).unwrap();
        let page = url::Url::parse("https://site.test/").unwrap();
        let judge = Judge { policy: &policy, lists: None, page: Some(&page), guarded: false };
        for judge in [Some(&judge), None] {
            let mut headers = HeaderMap::new();
            let links = "</a.css>; rel=preload, <https://connect.facebook.net>; rel=preconnect, \
                <https://www.googletagmanager.com/gtm.js?id=GTM-1>; rel=preload; as=script";
            headers.insert("link", links.parse().unwrap());
            headers.insert("set-cookie", "_fbp=1".parse().unwrap());
            headers.insert("alt-svc", "h3=\":443\"".parse().unwrap());
            headers.insert("observe-browsing-topics", "?1".parse().unwrap());
            apply(&mut headers, judge);
            let link = headers["link"].to_str().unwrap();
            let kept = if judge.is_some() { "</a.css>; rel=preload" } else { links };
            assert_eq!((link, headers.len()), (kept, 2 - usize::from(judge.is_some())));
        }
    }
}
