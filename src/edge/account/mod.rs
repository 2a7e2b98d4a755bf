//! Whom a request names: its account and its profile (step 4), and what an origin's answer says of it (before step 8).
//!
//! Memory only. Where nothing of this is configured a request costs one comparison.

mod absent;
pub mod keys;
pub mod memory;
mod recent;
pub mod scope;
pub mod sessions;
pub mod token;

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, header};

use self::scope::{Known, Scope, standing};
use self::token::{Place, Verdict};
use super::exchange::Exchange;
use super::house::{Core, Site, Snapshot};
use crate::config::Session;
use crate::privacy::signal::{cookie_pairs, cookie_pieces};
use crate::privacy::{Basis, Mark, Mode, OwnCookie, Signals, Standing, decide};
use crate::store::recipients::AccountKey;
use crate::telemetry::accounts::Token;

/// Step 4: whom a request names, and what is known of each.
pub fn look_up(core: &Core, x: &mut Exchange, headers: &HeaderMap) {
    if x.snapshot.settings.account.names_nobody() {
        return;
    }
    let snapshot = x.snapshot.clone();
    let site = x.site_in(&snapshot);
    let (settings, scope) = (&snapshot.settings.account, Scope::of(core.keys(), &site.settings));
    let recording = x.mode == Mode::Enforce;
    if let Some(session) = &settings.session {
        x.session = joined_cookies(headers, &session.cookie).map(|value| scope.session(&value));
    }
    let mut pending = false;
    let given = match key_in_header(x, headers) {
        Ok(Some(key)) => Ok(Some(scope.account(key.as_bytes()))),
        Ok(None) => by_token(core, &snapshot, headers, scope, &mut pending),
        Err(Ambiguous) => Err(Ambiguous),
    };
    let (given, by_session) = match given {
        Ok(None) => (None, x.session.and_then(|session| core.house.sessions.account(session))),
        Ok(given) => (given, None),
        Err(Ambiguous) => {
            pending = true;
            (None, None)
        }
    };
    x.account_given = given.is_some();
    let account = given.or(by_session);
    x.signals.account = match &account {
        Some(account) => held(core, site, x, (account, Basis::Account)),
        None => Standing::NoAccount,
    };
    if pending {
        // Somebody is logged in, and nobody can say yet who it is; whose the session was may be another.
        x.signals.account = unread(x, x.signals.account);
    }
    if let Some(account) = account {
        x.named.account = Some(account.subject);
        x.aliases.account = account.older().to_vec();
    }
    if recording && about_to_opt_out(x) {
        x.account_key = key(x, headers);
    }
    x.programme = !pending && site.programme.is_some() && x.signals.account == Standing::Programme;
    if let Some(value) = settings.profile_cookie.as_deref().and_then(|name| cookie(headers, name)) {
        let profile = scope.profile(value);
        x.signals.profile = held(core, site, x, (&profile, Basis::Profile));
        x.named.profile = Some(profile.subject);
        x.aliases.profile = profile.older().to_vec();
    }
}

/// What is known of somebody whom a request names. An old process after an upgrade does not hear of the opt-outs that the
/// new one takes.
fn held(core: &Core, site: &Site, x: &Exchange, known: (&Known, Basis)) -> Standing {
    let standing = standing(core, site, known, x.mode == Mode::Enforce);
    if core.house.store.is_lent() { unread(x, standing) } else { standing }
}

/// How somebody stands of whom this may not be the last word: as opted out, without a lasting mark, since not to honour an
/// opt-out is worse than to honour one that nobody made. Where the request itself says that, it is recorded as ever.
fn unread(x: &Exchange, standing: Standing) -> Standing {
    if standing.is_out() || opts_out(x) && standing != Standing::NoAccount {
        standing
    } else {
        Standing::NotLoaded
    }
}

/// Whether the request says what is recorded for those whom it names.
const fn opts_out(x: &Exchange) -> bool {
    x.signals.gpc || matches!(x.signals.own, OwnCookie::Out(_))
}

/// Whether this request opts its account out, as far as can be said before step 10, and others are told of that.
fn about_to_opt_out(x: &Exchange) -> bool {
    let new = matches!(x.signals.account, Standing::Unknown | Standing::OptedIn);
    new && opts_out(x) && x.named.account.is_some() && x.snapshot.settings.tells_of_signals()
}

/// What the site calls the account of a request, for those who must be told of its opt-out; not where the account is
/// known by its session alone.
///
/// Cost: for a token, its verification once more.
#[must_use]
pub fn key(x: &Exchange, headers: &HeaderMap) -> Option<AccountKey> {
    let by_header = key_in_header(x, headers).ok()?.map(|key| AccountKey::from(key.as_bytes()));
    let by_token = || {
        let verifier = x.snapshot.verifier.as_ref()?;
        let key = verifier.tokens(headers).find_map(|(_, token)| verifier.account_key(token));
        key.map(|key| AccountKey::from(key.into_bytes()))
    };
    by_header.or_else(by_token)
}

/// Several accounts are named where one can be: by a trusted hop, by tokens in cookies of one name, by an origin.
struct Ambiguous;

/// The account's key in the header of a trusted hop. Which of several lines the hop itself set nobody can tell: a
/// visitor's own may have come through before it. Lines that a proxy on the way has joined have commas between them (RFC
/// 9110, 5.3), so that a value with one is several too, and no account is named so.
fn key_in_header<'a>(x: &Exchange, headers: &'a HeaderMap) -> Result<Option<&'a HeaderValue>, Ambiguous> {
    let name = x.snapshot.settings.account.header.as_ref().filter(|_| x.client.peer_trusted);
    let Some(name) = name else { return Ok(None) };
    let key = only_one(headers.get_all(name))?;
    let joined = key.is_some_and(|key| key.as_bytes().contains(&b','));
    if joined { Err(Ambiguous) } else { Ok(key) }
}

/// The account of a token: a bearer's goes before cookies'. Which of several cookies of a name the site reads nobody can
/// tell: a page of another host of its domain can set one beside the site's own.
fn by_token(
    core: &Core,
    snapshot: &Snapshot,
    headers: &HeaderMap,
    scope: Scope<'_>,
    pending: &mut bool,
) -> Result<Option<Known>, Ambiguous> {
    let Some(verifier) = snapshot.verifier.as_ref() else { return Ok(None) };
    let now = jiff::Timestamp::now().as_second();
    let (mut named, mut refused): (Option<Known>, _) = (None, None);
    for (place, token) in verifier.tokens(headers) {
        let what = match core.tokens.borrow_mut().verdict(verifier, scope, token, now) {
            Verdict::Account(account) => {
                if named.as_ref().is_some_and(|named| named.subject != account.subject) {
                    return Err(Ambiguous);
                }
                if named.is_none() {
                    core.house.metrics.accounts.token(Token::Verified);
                }
                if place == Place::Bearer {
                    return Ok(Some(account));
                }
                named = Some(account);
                continue;
            }
            Verdict::Pending => Token::Pending,
            Verdict::Refused(why) => why,
        };
        *pending |= what == Token::Pending;
        refused.get_or_insert(what);
    }
    if let (None, Some(why)) = (&named, refused) {
        core.house.metrics.accounts.token(why);
    }
    Ok(named)
}

/// The values of cookies of this name that are not empty, as they stand.
fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = headers.get_all(header::COOKIE).iter().flat_map(|field| cookie_pairs(field.as_bytes()));
    pairs.filter(move |(found, value)| *found == name.as_bytes() && !value.is_empty()).map(|(_, value)| value)
}

/// The value of a cookie; the first that is not empty counts.
#[must_use]
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    cookies(headers, name).next()
}

/// The values of all cookies of this name that are not empty, as one: whoever has set one of them beside the site's own, on
/// another host of its domain, does not know the others, and so not what a session is known by.
fn joined_cookies<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, [u8]>> {
    let mut values = cookies(headers, name);
    let mut joined = Cow::Borrowed(values.next()?);
    for value in values {
        let joined = joined.to_mut();
        // No value has one in it.
        joined.push(b';');
        joined.extend_from_slice(value);
    }
    Some(joined)
}

/// Takes what an origin's answer says of the account out of its head, in every mode, and remembers it for the
/// session. True when the account is opted out and the request had not been decided so: this very answer is then for
/// somebody who has opted out.
///
/// A named account is the visitor's from here on, so that step 10 records for it what the request itself said; not where
/// the request has named one, which goes before. An answer that names several counts as for somebody who has opted out, and
/// as for none of them.
pub fn heard(core: &Core, x: &mut Exchange, headers: &mut HeaderMap) -> bool {
    let Some(session) = &x.snapshot.settings.account.session else { return false };
    if !headers.contains_key(&session.header) {
        return false;
    }
    let named = only_one(headers.get_all(&session.header)).map(|named| named.cloned());
    headers.remove(&session.header);
    let snapshot = x.snapshot.clone();
    let site = x.site_in(&snapshot);
    let Some(session) = &snapshot.settings.account.session else { return false };
    let scope = Scope::of(core.keys(), &site.settings);
    let named = match named {
        Ok(Some(named)) => named,
        Ok(None) => {
            // Nobody is logged in any more.
            if let Some(mark) = x.session {
                core.house.sessions.forget(mark);
            }
            return false;
        }
        Err(Ambiguous) => {
            if !x.account_given {
                x.signals.account = unread(x, x.signals.account);
                x.named.account = None;
                x.aliases.account.clear();
                (x.account_key, x.programme) = (None, false);
            }
            return raised(core, x, x.signals);
        }
    };
    let account = scope.account(named.as_bytes());
    if let Some(mark) = begun(headers, session, scope).or(x.session) {
        core.house.sessions.remember(mark, &account, session.most, session.lasts);
    }
    core.house.metrics.accounts.named.inc();
    if x.named.account == Some(account.subject) {
        return false;
    }
    let standing = held(core, site, x, (&account, Basis::Account));
    let standing = match x.signals.account {
        // Whom the request itself names nobody can say yet.
        Standing::NotLoaded => unread(x, standing),
        _ => standing,
    };
    let signals = Signals { account: standing, ..x.signals };
    if !x.account_given {
        x.signals = signals;
        x.named.account = Some(account.subject);
        x.aliases.account = account.older().to_vec();
        x.account_key = about_to_opt_out(x).then(|| AccountKey::from(named.as_bytes()));
        x.programme = site.programme.is_some() && x.signals.account == Standing::Programme;
    }
    raised(core, x, signals)
}

/// Decides anew, once an answer has named an account; true when its visitor is opted out by that.
fn raised(core: &Core, x: &mut Exchange, signals: Signals) -> bool {
    if x.decision.opted_out() {
        return false;
    }
    x.decision = decide(signals);
    let raised = x.decision.opted_out();
    core.house.metrics.accounts.raised.inc_by(u64::from(raised));
    raised
}

/// The one value of a field that is not empty, if there is one, however many lines have it.
fn only_one<'a>(
    values: impl IntoIterator<Item = &'a HeaderValue>,
) -> Result<Option<&'a HeaderValue>, Ambiguous> {
    let mut values = values.into_iter().filter(|value| !value.is_empty());
    let first = values.next();
    if values.any(|value| Some(value) != first) { Err(Ambiguous) } else { Ok(first) }
}

/// The session that an answer begins: after a log-in it mostly has another cookie than before. One that the browser is to
/// forget at once begins none: what stands in it is the same for everybody who logs out ("deleted").
fn begun(headers: &HeaderMap, session: &Session, scope: Scope<'_>) -> Option<Mark> {
    let value_of = |line: &HeaderValue| {
        let mut pieces = cookie_pieces(line.as_bytes());
        let pair = pieces.next()?;
        let mut attributes = pieces.filter_map(|piece| cookie_pairs(piece).next());
        if attributes.any(ends_at_once) {
            return None;
        }
        let (name, value) = cookie_pairs(pair).next()?;
        (name == session.cookie.as_bytes() && !value.is_empty()).then(|| scope.session(value))
    };
    headers.get_all(header::SET_COOKIE).iter().filter_map(value_of).last()
}

/// Whether an attribute of `Set-Cookie` says that the cookie is over (RFC 6265, 5.2.1 and 5.2.2).
fn ends_at_once((name, value): (&[u8], &[u8])) -> bool {
    let text = || std::str::from_utf8(value).ok();
    if name.eq_ignore_ascii_case(b"max-age") {
        return text().and_then(|text| text.parse::<i64>().ok()).is_some_and(|seconds| seconds <= 0);
    }
    // In the form of RFC 9110, 5.6.7, or with the dashes of its forebears.
    let date = || jiff::fmt::rfc2822::parse(&text()?.replace('-', " ")).ok();
    name.eq_ignore_ascii_case(b"expires")
        && date().is_some_and(|date| date.timestamp() <= jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threat: what a site writes into the cookie of everybody who logs out must not be known as the last one's session.
    #[test]
    fn a_cookie_that_is_to_be_forgotten_begins_no_session() {
        for (attribute, over) in [
            ("Max-Age=0", true),
            ("max-age=-1", true),
            ("Expires=Thu, 01 Jan 1970 00:00:00 GMT", true),
            ("expires=Thu, 01-Jan-1970 00:00:01 GMT", true),
            ("Max-Age=3600", false),
            ("Expires=Fri, 31 Dec 9999 23:59:59 GMT", false),
            ("Expires=soon", false),
            ("Path=/", false),
        ] {
            let pair = cookie_pairs(attribute.as_bytes()).next().unwrap();
            assert_eq!(ends_at_once(pair), over, "{attribute}");
        }
    }

    #[test]
    fn cookies_of_one_name_are_one_session_and_none_of_them_alone_is_it() {
        let joined = |field: &'static str| {
            let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static(field))]);
            joined_cookies(&headers, "sid").map(|value| String::from_utf8(value.into_owned()).unwrap())
        };
        assert_eq!(joined("a=1; sid=x; sid=; b=2").as_deref(), Some("x"));
        assert_eq!(joined("sid=x; sid=y").as_deref(), Some("x;y"));
        assert_eq!(joined("sid=; a=1"), None);
    }
}
