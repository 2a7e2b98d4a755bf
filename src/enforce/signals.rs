//! Consent cookies that we write for an opted-out visitor, and take back from one who is not.
//!
//! The script on the page writes them (`guard/signals.js`); with `signals.cookies = "server"` response
//! heads do too, for pages where no script of ours can run and for browsers that soon forget what
//! scripts write. How ours are told from a platform's own: [`marks`].

use http::HeaderMap;
use http::header::{HeaderValue, SET_COOKIE};

use super::cookies::{cookie_domains, expire};
use crate::config::SignalSettings;
use crate::privacy::marks::{self, ConsentCookies, OPTANON, Words};
use crate::privacy::usp;

/// Seconds OneTrust keeps its cookie: a year.
const OPTANON_AGE: u32 = 365 * 24 * 60 * 60;

/// Seconds a mark is kept: longer than what it stands beside.
const MARK_AGE: u32 = 400 * 24 * 60 * 60;

/// Writes `usprivacy` for an opted-out visitor's document, and steers an `OptanonConsent` that is there.
///
/// Nothing is written that the browser has already.
pub fn write(
    headers: &mut HeaderMap,
    sent: &ConsentCookies,
    settings: &SignalSettings,
    host: &str,
    secure: bool,
) {
    let said: Vec<&str> =
        sent.words.iter().filter(|(words, _)| *words == Words::UsPrivacy).map(|(_, v)| v.as_str()).collect();
    if said.is_empty() || !said.iter().all(|value| Words::UsPrivacy.says_out(value.as_bytes())) {
        // A second one in another scope would leave open which is read.
        if !said.is_empty() {
            expire(headers, &[Words::UsPrivacy.cookie().into()], host, secure);
        }
        // Of several, one that says opted out is what must not be lost.
        let out = said.iter().find(|value| Words::UsPrivacy.says_out(value.as_bytes()));
        let before = out.or_else(|| said.first()).copied().unwrap_or(marks::NOTHING);
        set(headers, Words::UsPrivacy.mark(), before, "", MARK_AGE, secure);
        set(headers, Words::UsPrivacy.cookie(), usp::OPTED_OUT, "", MARK_AGE, secure);
    }
    let Some(optanon) = &sent.optanon else { return };
    // OneTrust writes at the site's own domain.
    let domain = cookie_domains(host).last().copied().unwrap_or_default();
    let steered = steered(optanon, &settings.onetrust_groups, domain);
    if steered != *optanon {
        expire(headers, &[OPTANON.into()], host, secure);
        set(headers, OPTANON, &steered, domain, OPTANON_AGE, secure);
    }
}

/// Takes back what we wrote: words of ours expire, `OptanonConsent` gets back what was turned.
///
/// For the explicit opt-in, and for any document of a visitor who is not opted out. Nothing that bears no
/// mark of ours is touched.
pub fn retract(headers: &mut HeaderMap, sent: &ConsentCookies, host: &str, secure: bool) {
    let marked = |words: &Words| sent.marks.contains(words);
    let ours = sent.words.iter().filter(|(words, v)| marked(words) && words.is_our_form(v.as_bytes()));
    // A mark goes after its cookie: alone, the cookie would speak for itself.
    let mut names: Vec<Vec<u8>> = ours.map(|(words, _)| words.cookie().into()).collect();
    names.extend(sent.marks.iter().map(|words| words.mark().into()));
    if sent.shopify {
        names.extend([b"_tracking_consent".to_vec(), b"optgate-said-s".to_vec()]);
    }
    names.dedup();
    expire(headers, &names, host, secure);
    let Some((domain, value)) = sent.optanon.as_deref().and_then(undone) else { return };
    expire(headers, &[OPTANON.into()], host, secure);
    if domain.is_empty() || cookie_domains(host).contains(&domain.as_str()) {
        set(headers, OPTANON, &value, &domain, OPTANON_AGE, secure);
    }
}

/// Appends a `Set-Cookie` line that scripts may read; `domain` empty: this host only.
fn set(headers: &mut HeaderMap, name: &str, value: &str, domain: &str, age: u32, secure: bool) {
    let domain = if domain.is_empty() { String::new() } else { format!("; Domain={domain}") };
    let secure = if secure { "; Secure" } else { "" };
    let line = format!("{name}={value}; Path=/; Max-Age={age}; SameSite=Lax{domain}{secure}");
    if let Ok(line) = HeaderValue::try_from(line) {
        headers.append(SET_COOKIE, line);
    }
}

/// OneTrust's state turned toward opt-out, with its mark: `isGpcEnabled=1`, the advertising groups off.
/// The script does the same.
fn steered(value: &str, groups: &[String], domain: &str) -> String {
    let mut turned: Vec<String> = marks::optanon_mark(value)
        .map_or_else(Vec::new, |(_, turned)| turned.into_iter().map(str::to_owned).collect());
    let mut note = |what: &str| {
        if !turned.iter().any(|known| known == what) {
            turned.push(what.to_owned());
        }
    };
    let mut pairs: Vec<String> = Vec::new();
    let enabled = value.split('&').any(|pair| pair == "isGpcEnabled=1");
    for pair in value.split('&').filter(|pair| !pair.starts_with("optgate=")) {
        if let Some(list) = pair.strip_prefix("groups=") {
            pairs.push(format!(
                "groups={}",
                turn_groups(list, |id| groups.iter().any(|g| g == id), '1', '0', &mut note)
            ));
        } else if enabled || !pair.starts_with("isGpcEnabled=") {
            pairs.push(pair.to_owned());
        }
    }
    if !enabled {
        note("gpc");
        pairs.push("isGpcEnabled=1".to_owned());
    }
    if !turned.is_empty() {
        pairs.push(format!("optgate={domain}!{}", turned.join("!")));
    }
    pairs.join("&")
}

/// The state as it was, and the domain it is kept for; `None` without a mark of ours.
fn undone(value: &str) -> Option<(String, String)> {
    let (domain, turned) = marks::optanon_mark(value)?;
    let mut pairs: Vec<String> = Vec::new();
    for pair in value.split('&').filter(|pair| !pair.starts_with("optgate=")) {
        pairs.push(match pair.strip_prefix("groups=") {
            Some(list) => {
                format!("groups={}", turn_groups(list, |id| turned.contains(&id), '0', '1', &mut |_| ()))
            }
            None if pair == "isGpcEnabled=1" && turned.contains(&"gpc") => "isGpcEnabled=0".to_owned(),
            None => pair.to_owned(),
        });
    }
    Some((domain.to_owned(), pairs.join("&")))
}

/// Turns chosen groups of a list like `C0001%3A1%2CC0004%3A1`, percent-encoded in either case, or plain. The commas
/// become alike, as the script writes them.
fn turn_groups(
    list: &str,
    chosen: impl Fn(&str) -> bool,
    from: char,
    to: char,
    note: &mut impl FnMut(&str),
) -> String {
    let list = list.replace("%2c", "%2C");
    let comma = if list.contains("%2C") { "%2C" } else { "," };
    let each = list.split("%2C").flat_map(|part| part.split(',')).map(|group| {
        let Some(head) = group.strip_suffix(from) else { return group.to_owned() };
        let id = ["%3A", "%3a", ":"].into_iter().find_map(|colon| head.strip_suffix(colon));
        match id.filter(|id| chosen(id)) {
            Some(id) => {
                note(id);
                format!("{head}{to}")
            }
            None => group.to_owned(),
        }
    });
    each.collect::<Vec<_>>().join(comma)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "isGpcEnabled=0&datestamp=Thu+Nov+26&version=202510.1.0&groups=C0001%3A1%2CC0002%3A1%2CC0004%3A1%2CSSPD_BG%3A0";

    fn groups() -> Vec<String> {
        ["C0004", "SSPD_BG"].map(str::to_owned).to_vec()
    }

    /// OneTrust: the signal on, advertising groups off, all others kept; and the way back.
    #[test]
    fn a_onetrust_state_is_turned_and_turned_back() {
        let out = steered(STATE, &groups(), "shop.example");
        assert_eq!(
            out,
            "datestamp=Thu+Nov+26&version=202510.1.0&groups=C0001%3A1%2CC0002%3A1%2CC0004%3A0%2CSSPD_BG%3A0\
             &isGpcEnabled=1&optgate=shop.example!C0004!gpc"
        );
        assert_eq!(steered(&out, &groups(), "shop.example"), out, "a second time changes nothing");
        let (domain, back) = undone(&out).unwrap();
        assert_eq!(domain, "shop.example");
        assert_eq!(
            back,
            "datestamp=Thu+Nov+26&version=202510.1.0&groups=C0001%3A1%2CC0002%3A1%2CC0004%3A1%2CSSPD_BG%3A0\
             &isGpcEnabled=0"
        );
        assert_eq!(undone(STATE), None);
    }

    /// RFC 3986, 2.1: hexadecimal digits are the same in either case.
    #[test]
    fn a_state_in_small_digits_is_turned_and_turned_back() {
        let out = steered("isGpcEnabled=1&groups=C0001%3a1%2cC0004%3a1,SSPD_BG:0", &groups(), "shop.example");
        assert_eq!(out, "isGpcEnabled=1&groups=C0001%3a1%2CC0004%3a0%2CSSPD_BG:0&optgate=shop.example!C0004");
        assert_eq!(undone(&out).unwrap().1, "isGpcEnabled=1&groups=C0001%3a1%2CC0004%3a1%2CSSPD_BG:0");
    }

    /// A platform's own opt-out needs no turning, and gets no mark.
    #[test]
    fn a_state_that_says_so_already_is_left_alone() {
        let own = "isGpcEnabled=1&groups=C0001:1,C0004:0";
        assert_eq!(steered(own, &groups(), "shop.example"), own);
    }
}
