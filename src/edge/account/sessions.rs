//! Whose account a session is: what the origin's answers have said, kept for the requests that follow.
//!
//! Only keyed hashes are kept, in memory alone. After a restart, and on another node, a session is unknown until the
//! origin names its account again; the answer that does is itself held to that account's choice.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::scope::Known;
use crate::privacy::Mark;

/// Parts of the table, each behind its own lock; a power of two.
const SHARDS: usize = 64;

/// How many sessions are looked at to find one to forget when a part is full.
const LOOKED_AT: usize = 8;

#[derive(Debug)]
struct Session {
    /// Whole: an opt-out may come to stand under any of its hashes after the session began, on another node or by a reload.
    account: Known,
    /// Seconds after `since`.
    until: u64,
}

/// Sessions of all cores.
#[derive(Debug)]
pub struct Sessions {
    shards: [Mutex<HashMap<Mark, Session>>; SHARDS],
    since: Instant,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), since: Instant::now() }
    }
}

impl Sessions {
    /// The account of a session. Cost: a short lock and one probe.
    #[must_use]
    pub fn account(&self, session: Mark) -> Option<Known> {
        self.account_at(session, self.now())
    }

    /// The origin says whose session it is. At most `most` are kept; the ones that end soonest give way.
    pub fn remember(&self, session: Mark, account: &Known, most: usize, lasts: Duration) {
        self.remember_at(session, account, most, self.now().saturating_add(lasts.as_secs()));
    }

    /// The origin says that it is nobody's.
    pub fn forget(&self, session: Mark) {
        self.with(session, |sessions| {
            sessions.remove(&session);
        });
    }

    fn account_at(&self, session: Mark, now: u64) -> Option<Known> {
        self.with(session, |sessions| {
            let known = sessions.get(&session).filter(|known| now < known.until)?;
            Some(known.account.clone())
        })
    }

    fn remember_at(&self, session: Mark, account: &Known, most: usize, until: u64) {
        self.with(session, |sessions| {
            if sessions.len() >= most.div_ceil(SHARDS) && !sessions.contains_key(&session) {
                let soonest = sessions.iter().take(LOOKED_AT).min_by_key(|(_, known)| known.until);
                if let Some(soonest) = soonest.map(|(mark, _)| *mark) {
                    sessions.remove(&soonest);
                }
            }
            sessions.insert(session, Session { account: account.clone(), until });
        });
    }

    fn with<T>(&self, session: Mark, act: impl FnOnce(&mut HashMap<Mark, Session>) -> T) -> T {
        let at = usize::try_from(session.spread() % SHARDS as u64).unwrap_or(0);
        // A map is whole after every step; a panic elsewhere spoils nothing.
        act(&mut self.shards[at].lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self) -> u64 {
        self.since.elapsed().as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::super::scope::Scope;
    use super::*;
    use crate::privacy::{Keys, Subject};

    fn mark(number: u32) -> Mark {
        Mark::of_session(&Keys::derive(b"k"), "shop", &number.to_be_bytes())
    }

    fn account(name: &str) -> Known {
        Scope::new(&Keys::derive(b"k"), "shop").account(name.as_bytes())
    }

    fn remember(sessions: &Sessions, session: Mark, name: &str, most: usize, until: u64) {
        sessions.remember_at(session, &account(name), most, until);
    }

    fn account_at(sessions: &Sessions, session: Mark, now: u64) -> Option<Subject> {
        sessions.account_at(session, now).map(|known| known.subject)
    }

    #[test]
    fn a_session_is_known_until_it_ends_or_another_logs_in() {
        let sessions = Sessions::default();
        assert_eq!(account_at(&sessions, mark(1), 0), None);
        remember(&sessions, mark(1), "ann", 100, 10);
        assert_eq!(
            (account_at(&sessions, mark(1), 9), account_at(&sessions, mark(1), 10)),
            (Some(account("ann").subject), None)
        );
        remember(&sessions, mark(1), "bob", 100, 10);
        assert_eq!(account_at(&sessions, mark(1), 0), Some(account("bob").subject));
        sessions.forget(mark(1));
        assert_eq!(account_at(&sessions, mark(1), 0), None);
    }

    /// A site's logins must not fill the memory; the newest session is always kept.
    #[test]
    fn sessions_take_no_more_room_than_the_setting_says() {
        let (sessions, ann) = (Sessions::default(), account("ann").subject);
        for number in 0..10_000 {
            remember(&sessions, mark(number), "ann", 640, 10 + u64::from(number));
            assert_eq!(account_at(&sessions, mark(number), 0), Some(ann));
        }
        let kept: usize = sessions.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(kept <= 640, "{kept}");
    }
}
