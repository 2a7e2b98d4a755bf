//! First-party roads: a vendor's data behind a path of the site is known, and the site's
//! own requests are left alone.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use optgate::config::VendorAction;
use optgate::registry::{FirstParty, Hit, Policy};

use super::{builtin, named, with_contract};
use crate::support::guard::default_policy;

/// Looks up `METHOD /path?query`, with header fields.
fn ask(policy: &Policy, request: &str, fields: &[(&str, &str)]) -> Option<Hit> {
    let (method, target) = request.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: HeaderMap = fields
        .iter()
        .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    let method: Method = method.parse().unwrap();
    policy.match_collector(FirstParty { method: &method, path, query, headers: &headers })
}

const TEXT: (&str, &str) = ("content-type", "text/plain;charset=UTF-8");

#[test]
fn a_first_party_collector_is_known() {
    let policy = default_policy();
    for (request, fields, id) in [
        ("POST /g/collect?v=2&tid=G-1&gtm=4&cid=1", &[][..], "google-analytics-4"),
        ("GET /metrics/g/collect?v=2&tid=G-1", &[], "google-analytics-4"),
        ("POST /metrics/ag/g/c?v=2&tid=G-1&gcs=G111", &[], "google-analytics-4"),
        ("GET /hidden?v=2&tid=G-1&cid=1.2", &[], "google-analytics-4"),
        ("GET /g/%63ollect?v=2&tid=G-1", &[], "google-analytics-4"),
        ("GET /metrics//g/colle%63%74?v=2&tid=G-1", &[], "google-analytics-4"),
        ("GET /sst/gtm.js?id=GTM-ABC123", &[], "google-tag-manager"),
        ("GET /gtm/ns.html?id=GTM-ABC123", &[], "google-tag-manager"),
        ("GET /gtag/js?id=G-ABC123&l=dataLayer", &[], "google-gtag"),
        ("GET /metrics/gtag/js?id=AW-123", &[], "google-tag-ads"),
        ("GET /metrics/as/d/ccm/conversion?gtm=45", &[], "google-tag-ads"),
        ("POST /j/collect?v=1&tid=UA-1-1", &[], "google-universal-analytics"),
        ("POST /collect?v=1&tid=UA-1-1&t=pageview", &[], "google-universal-analytics"),
        ("GET /r/collect?v=1&tid=UA-1-1", &[], "google-universal-analytics"),
        ("GET /m/tr/?id=1&ev=PageView&dl=https%3A", &[], "meta-pixel"),
        ("GET /events/5d41402abc?id=1&ev=PageView&dl=x", &[], "meta-pixel"),
        ("GET /px/fbevents.js", &[], "meta-pixel"),
        ("POST /api/v2/pixel/act", &[], "tiktok-pixel"),
        ("GET /tt/i18n/pixel/events.js?sdkid=C1&lib=ttq", &[], "tiktok-pixel"),
        ("GET /s/scevent.min.js", &[], "snap-pixel"),
        ("GET /ct/v3/?event=init&tid=26&cb=1", &[], "pinterest-tag"),
        ("GET /li/collect/?v=2&fmt=js&pid=1&time=2", &[], "linkedin-insight"),
        ("GET /i/adsct?txn_id=o1&p_id=Twitter", &[], "x-ads"),
        ("GET /rp.gif?id=t2_a&event=PageVisit", &[], "reddit-pixel"),
        ("GET /action/0?ti=1&Ver=2&mid=3", &[], "microsoft-uet"),
        ("GET /b/ss/suite/1/JS-2?AQB=1&ndh=1", &[], "adobe-analytics"),
        ("GET /cdp/analytics.js/v1/KEY/analytics.min.js", &[], "segment"),
        ("POST /v1/p", &[TEXT], "segment"),
        ("POST /seg/v1/t", &[TEXT], "segment"),
        ("POST /rs/v1/track", &[("anonymousid", "YQ==")], "rudderstack"),
        ("POST /com.snowplowanalytics.snowplow/tp2", &[], "snowplow"),
        ("GET /i?stm=1&e=pv&p=web&tv=js-3.5", &[], "snowplow"),
        ("POST /mp/track/?verbose=1&ip=1&_=17", &[], "mixpanel"),
        ("POST /amp/2/httpapi", &[], "amplitude"),
        ("POST /ingest/e/?ip=0&_=17&ver=1.9", &[], "posthog"),
        ("POST /relay/rec/bundle/v2?OrgId=A&UserId=1&SessionId=2", &[], "fullstory"),
        ("POST /stats/matomo.php?action_name=x&idsite=1&rec=1", &[], "matomo"),
    ] {
        let hit = named(&policy, ask(&policy, request, fields));
        let (found, action) = hit.unwrap_or_else(|| panic!("{request} is not known"));
        assert_eq!(found, id, "{request}");
        assert_ne!(action, VendorAction::Allow, "{request}");
    }
}

/// What ordinary sites have: shops, APIs, monitoring, media. None of it may be answered empty.
#[test]
fn an_ordinary_request_of_a_site_is_no_collector() {
    let policy = default_policy();
    for (request, fields) in [
        ("GET /", &[][..]),
        ("GET /collect", &[]),
        ("GET /collect?item=5", &[]),
        ("POST /collect/?pid=5", &[]),
        ("POST /g/collect?v=2", &[]),
        ("GET /g/collect/more?v=2&tid=G-1", &[]),
        ("GET /tr", &[]),
        ("GET /tr?id=5&ev=1", &[]),
        ("GET /tr/haberler?id=5", &[]),
        ("GET /events/summer?id=1", &[]),
        ("GET /metrics", &[]),
        ("GET /metrics/health?v=2", &[]),
        ("GET /api/v1/track?order=5", &[]),
        ("POST /api/v1/track", &[("content-type", "application/json")]),
        ("POST /v1/t", &[("content-type", "application/json")]),
        ("GET /v1/p?id=5", &[]),
        ("GET /v1/products/5", &[]),
        ("POST /v1/batch", &[("content-type", "application/json")]),
        ("GET /i?page=2", &[]),
        ("GET /e/?ver=2", &[]),
        ("POST /event", &[]),
        ("GET /event?id=7", &[]),
        ("GET /flags/?country=de", &[]),
        ("GET /track/?order=5", &[]),
        ("GET /v3/?event=concert&tid=4", &[]),
        ("GET /action/0?ti=5", &[]),
        ("GET /assets/app.js?id=G-STAR", &[]),
        ("GET /js/gtm.js", &[]),
        ("GET /gtag/js", &[]),
        ("GET /rp.gif", &[]),
        ("GET /shop/item?id=GTM-5", &[]),
        ("GET /pixel/art", &[]),
        ("GET /api/v2/pixels/5", &[]),
        ("GET /search?q=tid%3DG-1&v=2", &[]),
        ("POST /graphql", &[TEXT]),
        ("GET /matomo.php", &[]),
        ("GET /rec/bundle?id=1", &[]),
        ("POST /checkout/v1/pay", &[TEXT]),
        ("GET /watch/5?v=1", &[]),
    ] {
        let hit = ask(&policy, request, fields);
        assert_eq!(named(&policy, hit), None, "{request}");
    }
}

#[test]
fn an_allowed_vendors_collector_is_left_alone() {
    let allowed = Policy::resolve(builtin(), &with_contract("google-analytics-4")).unwrap();
    assert_eq!(ask(&allowed, "GET /g/collect?v=2&tid=G-1", &[]), None);
}
