//! A remembered page's coded output, made anew at a better level.
//!
//! Pages are coded fast, since somebody waits for them. One that is given out again and again is worth more work,
//! once, away from its core: what goes out then says the same in fewer bytes.

use std::rc::Rc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use bytes::Bytes;

use super::{Entry, Key, Memo, Ticket};
use crate::enforce::html::coding::{Bounds, Decoder, Effort, Encoder};
use crate::enforce::html::negotiate::Coding;

/// How often a page is given out before it is coded anew.
const AFTER: u32 = 100;
/// Largest page that is, in bytes before its coding.
const MOST_DECODED: u64 = 8 << 20;

/// Work that may take some hundredths of a second.
pub type Work = Box<dyn FnOnce() + Send>;
/// Does such work where no visitor waits for it.
pub type Aside = Box<dyn Fn(Work)>;

/// What is being coded anew: one page of a core at a time.
#[derive(Debug)]
pub(super) struct Recoding {
    key: Key,
    entry: Rc<Entry>,
    made: Receiver<Bytes>,
}

impl Ticket {
    /// A page was given out whole: codes it anew, if it is time.
    pub(super) fn given(&self, entry: &Rc<Entry>) {
        let coding = self.key.recipe.to;
        let given = entry.given.get().saturating_add(1);
        entry.given.set(given);
        let memo = &mut *self.memo.borrow_mut();
        let Some(aside) = memo.aside.as_ref().filter(|_| coding != Coding::Identity && given >= AFTER) else {
            return;
        };
        if entry.recoded.get() || memo.recoding.is_some() || memo.epoch != self.epoch {
            return;
        }
        entry.recoded.set(true);
        let output = entry.output.borrow().clone();
        let (tell, made) = sync_channel(1);
        aside(Box::new(move || {
            if let Some(better) = recode(&output, coding) {
                // The core may be gone.
                let _ = tell.send(better);
            }
        }));
        memo.recoding = Some(Recoding { key: self.key.clone(), entry: Rc::clone(entry), made });
    }
}

impl Memo {
    /// Takes in what was coded anew, if it is ready. Bodies under way give out what they began with.
    pub(super) fn take_recoded(&mut self) {
        let Some(recoding) = &self.recoding else { return };
        let made = recoding.made.try_recv();
        if matches!(made, Err(TryRecvError::Empty)) {
            return;
        }
        let Some(Recoding { key, entry, .. }) = self.recoding.take() else { return };
        let Ok(better) = made else { return };
        if !self.entries.get(&key).is_some_and(|known| Rc::ptr_eq(known, &entry)) {
            return;
        }
        let saved = entry.output.borrow().len().saturating_sub(better.len());
        entry.output.replace(better);
        self.bytes -= saved;
        self.metrics.shrink(saved);
        self.metrics.recoded.inc();
    }
}

/// The same in fewer bytes; `None` where there is no such thing.
fn recode(output: &[u8], coding: Coding) -> Option<Bytes> {
    let bounds = Bounds { ratio: u32::MAX, bytes: MOST_DECODED, strict: true };
    let mut decoder = Decoder::new(coding, bounds).ok()?;
    let mut encoder = Encoder::new(coding, Effort::Best).ok()?;
    let mut better = Vec::with_capacity(output.len());
    decoder.write(output, &mut |decoded: &[u8]| encoder.write(decoded, &mut better)).ok()?;
    decoder.finish().ok()?;
    encoder.finish(&mut better).ok()?;
    (better.len() < output.len()).then(|| better.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enforce::html::coding::tests::{decode, encode};

    #[test]
    fn a_page_coded_anew_says_the_same_in_fewer_bytes() {
        let lines =
            (0..20_000u32).map(|n| format!("<p class=\"c{}\">Line {} of it.</p>", n % 7, n * 7_919 % 1_000));
        let text: String = lines.collect();
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd, Coding::Brotli] {
            let fast = encode(coding, &[text.as_bytes()]);
            let better = recode(&fast, coding).unwrap();
            assert!(better.len() < fast.len(), "{coding:?}: {} of {}", better.len(), fast.len());
            assert!(decode(coding, 1_000, [&better[..]]).unwrap() == text.as_bytes(), "{coding:?}");
        }
    }

    #[test]
    fn what_gets_no_smaller_or_is_none_stays() {
        let noise: Vec<u8> = (0..4_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let best = recode(&encode(Coding::Zstd, &[&noise]), Coding::Zstd);
        assert!(best.is_none_or(|best| recode(&best, Coding::Zstd).is_none()));
        assert!(recode(b"no such coding", Coding::Gzip).is_none());
        let cut = encode(Coding::Gzip, &[&noise]);
        assert!(recode(&cut[..cut.len() / 2], Coding::Gzip).is_none());
    }
}
