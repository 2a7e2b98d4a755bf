//! Whom a request names: its account and its profile (step 4), and what an origin's answer says of it (before step 8).
//!
//! Memory only. Where nothing of this is configured a request costs one comparison.

pub mod keys;
pub mod sessions;
pub mod token;

use http::{HeaderMap, header};

use self::token::Verdict;
use super::exchange::Exchange;
use super::house::Core;
use crate::config::Session;
use crate::privacy::signal::cookie_pairs;
use crate::privacy::{Keys, Mark, Standing, Subject, decide};
use crate::telemetry::accounts::Token;

/// Step 4: whom a request names, and what is known of each.
pub fn look_up(core: &Core, x: &mut Exchange, headers: &HeaderMap) {
    let snapshot = x.snapshot.clone();
    let settings = &snapshot.settings.account;
    if settings.names_nobody() {
        return;
    }
    let (keys, site) = (core.keys(), std::sync::Arc::clone(x.site()));
    let scope = site.settings.name.as_str();
    if let Some(session) = &settings.session {
        let value = cookie(headers, &session.cookie);
        x.session = value.map(|value| Mark::of_session(keys, scope, value));
    }
    let by_header = || {
        let name = settings.header.as_ref().filter(|_| x.client.peer_trusted)?;
        let key = headers.get(name).filter(|key| !key.is_empty())?;
        Some(Subject::of_account(keys, scope, key.as_bytes()))
    };
    let mut pending = false;
    let account = by_header().or_else(|| by_token(core, x, headers, scope, &mut pending));
    x.named.account = account.or_else(|| core.house.sessions.account(x.session?));
    x.signals.account = match x.named.account {
        Some(account) => core.house.store.lookup(&account),
        // Somebody is logged in, and nobody can say yet who it is (DESIGN 5).
        None if pending => Standing::NotLoaded,
        None => Standing::NoAccount,
    };
    if let Some(value) = settings.profile_cookie.as_deref().and_then(|name| cookie(headers, name)) {
        let profile = Subject::of_profile(keys, scope, value);
        x.named.profile = Some(profile);
        x.signals.profile = core.house.store.lookup(&profile);
    }
}

fn by_token(
    core: &Core,
    x: &Exchange,
    headers: &HeaderMap,
    scope: &str,
    pending: &mut bool,
) -> Option<Subject> {
    let verifier = x.snapshot.verifier.as_ref()?;
    let token = verifier.token(headers)?;
    let now = jiff::Timestamp::now().as_second();
    let figures = &core.house.metrics.accounts;
    match core.tokens.borrow_mut().verdict(verifier, core.keys(), scope, token, now) {
        Verdict::Account(subject) => {
            figures.token(Token::Verified);
            Some(subject)
        }
        Verdict::Pending => {
            *pending = true;
            figures.token(Token::Pending);
            None
        }
        Verdict::Refused(why) => {
            figures.token(why);
            None
        }
    }
}

/// The value of a cookie; the first that is not empty counts.
#[must_use]
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs = headers.get_all(header::COOKIE).iter().flat_map(|field| cookie_pairs(field.as_bytes()));
    pairs
        .filter(|(found, value)| *found == name.as_bytes() && !value.is_empty())
        .map(|(_, value)| value)
        .next()
}

/// Takes what an origin's answer says of the account out of its head, in every mode, and remembers it for the
/// session. True when the account is opted out and the request had not been decided so: this very answer is then for
/// somebody who has opted out.
///
/// A named account is the visitor's from here on, so that step 10 records for it what the request itself said.
pub fn heard(core: &Core, x: &mut Exchange, headers: &mut HeaderMap) -> bool {
    let snapshot = x.snapshot.clone();
    let Some(session) = &snapshot.settings.account.session else { return false };
    let Some(named) = headers.remove(&session.header) else { return false };
    let (keys, site) = (core.keys(), std::sync::Arc::clone(x.site()));
    let scope = site.settings.name.as_str();
    let mark = begun(headers, session, keys, scope).or(x.session);
    if named.is_empty() {
        // Nobody is logged in any more.
        if let Some(mark) = x.session {
            core.house.sessions.forget(mark);
        }
        return false;
    }
    let account = Subject::of_account(keys, scope, named.as_bytes());
    if let Some(mark) = mark {
        core.house.sessions.remember(mark, account, session.most, session.lasts);
    }
    core.house.metrics.accounts.named.inc();
    if x.named.account == Some(account) {
        return false;
    }
    x.named.account = Some(account);
    x.signals.account = core.house.store.lookup(&account);
    if x.decision.opted_out() {
        return false;
    }
    x.decision = decide(x.signals);
    let raised = x.decision.opted_out();
    if raised {
        core.house.metrics.accounts.raised.inc();
    }
    raised
}

/// The session that an answer begins: after a login it mostly has another cookie than before.
fn begun(headers: &HeaderMap, session: &Session, keys: &Keys, scope: &str) -> Option<Mark> {
    let lines = headers.get_all(header::SET_COOKIE).iter();
    lines
        .filter_map(|line| {
            let pair = line.as_bytes().split(|&b| b == b';').next()?;
            cookie_pairs(pair).find(|(name, value)| *name == session.cookie.as_bytes() && !value.is_empty())
        })
        .last()
        .map(|(_, value)| Mark::of_session(keys, scope, value))
}
