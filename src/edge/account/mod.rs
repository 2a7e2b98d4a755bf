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

use http::{HeaderMap, HeaderValue, header};

use self::scope::{Known, Scope, standing};
use self::token::Verdict;
use super::exchange::Exchange;
use super::house::{Core, Site, Snapshot};
use crate::config::Session;
use crate::privacy::signal::cookie_pairs;
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
        x.session = cookie(headers, &session.cookie).map(|value| scope.session(value));
    }
    let mut pending = false;
    let (given, by_session) = match key_in_header(x, headers) {
        Ok(Some(key)) => (Some(scope.account(key.as_bytes())), None),
        Ok(None) => match by_token(core, &snapshot, headers, scope, &mut pending) {
            None => (None, x.session.and_then(|session| core.house.sessions.account(session))),
            given => (given, None),
        },
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
        let key = verifier.tokens(headers).find_map(|token| verifier.account_key(token));
        key.map(|key| AccountKey::from(key.into_bytes()))
    };
    by_header.or_else(by_token)
}

/// A trusted hop names several accounts in one request.
struct Ambiguous;

/// The account's key in the header of a trusted hop. Which of several lines the hop itself set nobody can tell: a
/// visitor's own may have come through before it. Lines that a proxy on the way has joined have commas between them (RFC
/// 9110, 5.3), so that a value with one is several too, and no account is named so.
fn key_in_header<'a>(x: &Exchange, headers: &'a HeaderMap) -> Result<Option<&'a HeaderValue>, Ambiguous> {
    let name = x.snapshot.settings.account.header.as_ref().filter(|_| x.client.peer_trusted);
    let Some(name) = name else { return Ok(None) };
    let mut keys = headers.get_all(name).iter().filter(|key| !key.is_empty());
    let first = keys.next();
    let joined = first.is_some_and(|key| key.as_bytes().contains(&b','));
    if joined || keys.any(|key| Some(key) != first) { Err(Ambiguous) } else { Ok(first) }
}

fn by_token(
    core: &Core,
    snapshot: &Snapshot,
    headers: &HeaderMap,
    scope: Scope<'_>,
    pending: &mut bool,
) -> Option<Known> {
    let verifier = snapshot.verifier.as_ref()?;
    let now = jiff::Timestamp::now().as_second();
    let mut refused = None;
    for token in verifier.tokens(headers) {
        let what = match core.tokens.borrow_mut().verdict(verifier, scope, token, now) {
            Verdict::Account(account) => {
                core.house.metrics.accounts.token(Token::Verified);
                return Some(account);
            }
            Verdict::Pending => Token::Pending,
            Verdict::Refused(why) => why,
        };
        *pending |= what == Token::Pending;
        refused.get_or_insert(what);
    }
    core.house.metrics.accounts.token(refused?);
    None
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

/// Takes what an origin's answer says of the account out of its head, in every mode, and remembers it for the
/// session. True when the account is opted out and the request had not been decided so: this very answer is then for
/// somebody who has opted out.
///
/// A named account is the visitor's from here on, so that step 10 records for it what the request itself said; not where
/// the request has named one, which goes before.
pub fn heard(core: &Core, x: &mut Exchange, headers: &mut HeaderMap) -> bool {
    let Some(session) = &x.snapshot.settings.account.session else { return false };
    let Some(named) = headers.remove(&session.header) else { return false };
    let snapshot = x.snapshot.clone();
    let site = x.site_in(&snapshot);
    let Some(session) = &snapshot.settings.account.session else { return false };
    let scope = Scope::of(core.keys(), &site.settings);
    if named.is_empty() {
        // Nobody is logged in any more.
        if let Some(mark) = x.session {
            core.house.sessions.forget(mark);
        }
        return false;
    }
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
    if x.decision.opted_out() {
        return false;
    }
    x.decision = decide(signals);
    let raised = x.decision.opted_out();
    core.house.metrics.accounts.raised.inc_by(u64::from(raised));
    raised
}

/// The session that an answer begins: after a log-in it mostly has another cookie than before.
fn begun(headers: &HeaderMap, session: &Session, scope: Scope<'_>) -> Option<Mark> {
    let value_of = |line: &HeaderValue| {
        let pair = line.as_bytes().split(|&b| b == b';').next()?;
        let (name, value) = cookie_pairs(pair).next()?;
        (name == session.cookie.as_bytes() && !value.is_empty()).then(|| scope.session(value))
    };
    headers.get_all(header::SET_COOKIE).iter().filter_map(value_of).last()
}
