//! The header that says why, for those who may ask (`explain_to`), on every answer with a site.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::edge::exchange::Exchange;
use crate::privacy::OwnCookie;
use crate::registry::lists::VENDOR;
use crate::registry::unknown;

const WHY: HeaderName = HeaderName::from_static("optgate-why");

/// Says it on an answer, whoever gave that.
pub fn tell(x: &Exchange, headers: &mut HeaderMap) {
    if !x.explain {
        return;
    }
    let cookie = match x.signals.own {
        OwnCookie::Absent => "absent",
        OwnCookie::Unusable => "unusable",
        OwnCookie::Out(OwnCookie::ANEW) => "out-unsigned",
        OwnCookie::Out(_) => "out",
        OwnCookie::In(_) => "in",
    };
    let lists = x.site().lists.and_then(|at| x.snapshot.lists.get(at));
    let lists =
        lists.map_or_else(String::new, |set| format!("; {VENDOR}={} rules={}", set.version(), set.rules()));
    let unknown = match x.rule().policy.strips_unknown() {
        true => format!("; {}=strip known={}", unknown::VENDOR, x.site().settings.policy.known.len()),
        false => String::new(),
    };
    let text = format!(
        "{}; site={}; mode={}; gpc={}; cookie={cookie}; cmp={}; account={}; profile={}; policy={}{lists}{unknown}",
        x.decision.header_value(),
        x.site().settings.name,
        x.mode.as_str(),
        u8::from(x.signals.gpc),
        u8::from(x.signals.foreign),
        x.signals.account.as_str(),
        x.signals.profile.as_str(),
        x.site().version,
    );
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(WHY, value);
    }
}
