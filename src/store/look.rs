//! The look over a journal that a start did not read: beside the work, at half of one core.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::OpenError;
use super::journal::audit;
use super::proof::Verifier;
use super::state::State;

/// Pieces of evidence between two pauses.
const STRETCH: u32 = 4096;

/// Verifies a journal on a thread of its own, from its first record, for as long as it is open here. What is
/// damaged is said in [`Health::damage`](super::Health): the index came from elsewhere, so that everybody's choice
/// is honoured all the same.
pub(super) fn over(journal: &Path, state: &Arc<State>) {
    let (path, weak) = (journal.to_owned(), Arc::downgrade(state));
    let begun = std::thread::Builder::new().name("optgate-look".into()).spawn(move || {
        if let Some(damage) = verify(&path, &weak)
            && let Some(state) = weak.upgrade()
        {
            state.note_damage(damage);
        }
    });
    if let Err(error) = begun {
        tracing::warn!(%error, "no thread can be started to look over the journal; `optgate ledger verify` does it");
    }
}

/// What is wrong with a journal, if anything is.
fn verify(path: &Path, state: &Weak<State>) -> Option<String> {
    let (mut verifier, mut wrong, mut left) = (Verifier::default(), None, STRETCH);
    let mut began = Instant::now();
    let read = audit::read(path, &mut |item| {
        if let Err(error) = verifier.take(&item) {
            wrong = Some(format!("{}: {error}", path.display()));
        }
        left -= 1;
        if left == 0 {
            std::thread::sleep(began.elapsed());
            (began, left) = (Instant::now(), STRETCH);
        }
        // An error ends the reading, where nobody asks any more or all is said.
        let wanted = state.upgrade().is_some_and(|state| state.open.load(Ordering::Relaxed));
        let over = wrong.is_some() || !wanted;
        if over { Err(std::io::Error::other("over")) } else { Ok(()) }
    });
    match read {
        Err(OpenError::Output(_)) => wrong,
        Err(error) => Some(error.to_string()),
        // What is not signed yet is no damage.
        Ok(()) => verifier.sealed().err().map(|error| format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::store::{Change, JOURNAL, Kind, Source, Store};

    fn open() -> Arc<State> {
        let state = State::new(None);
        state.open.store(true, Ordering::Relaxed);
        Arc::new(state)
    }

    /// A journal that was never signed, as one is in its first hour, is whole; a byte of it that is another is found.
    #[test]
    fn damage_is_found_and_what_is_not_signed_yet_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = Store::open(folder.path(), &config::Store::default()).unwrap();
        let change = Change {
            time_us: 1_795_000_000_000_000,
            site: "shop".into(),
            kind: Kind::OptOut,
            source: Source::Form,
            basis: None,
            policy: "p".into(),
            subject: None,
        };
        for _ in 0..3 {
            runtime.block_on(store.record(change.clone())).unwrap();
        }
        let state = open();
        let journal = folder.path().join(JOURNAL);
        assert_eq!(verify(&journal, &Arc::downgrade(&state)), None);
        runtime.block_on(store.close());
        assert_eq!(verify(&journal, &Arc::downgrade(&state)), None);
        let mut bytes = std::fs::read(&journal).unwrap();
        let places: Vec<usize> = memchr::memmem::find_iter(&bytes, b"shop").collect();
        places.into_iter().for_each(|at| bytes[at] ^= 1);
        std::fs::write(&journal, bytes).unwrap();
        let found = verify(&journal, &Arc::downgrade(&state)).unwrap();
        assert!(found.contains("does not fit the chain"), "{found}");
        state.open.store(false, Ordering::Relaxed);
        assert_eq!(verify(&journal, &Arc::downgrade(&state)), None, "nobody asks any more");
    }
}
