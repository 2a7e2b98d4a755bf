//! Contexts of finished bodies, kept by their thread for its next ones: a coder's tables are hundreds of kilobytes, and
//! to make them anew takes as long as to code a small page.

use std::cell::RefCell;

/// Contexts kept of one kind; more bodies than that at once are rare, and make their own.
const MOST: usize = 2;

/// Contexts that wait for a body, each with what it was made for. One of each thread.
#[derive(Debug)]
pub(super) struct ContextPool<K, T>(RefCell<Vec<(K, T)>>);

impl<K: PartialEq, T> ContextPool<K, T> {
    pub(super) const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// A context made for the same; `None` where none waits.
    pub(super) fn take(&self, made_for: &K) -> Option<T> {
        let mut waiting = self.0.borrow_mut();
        let at = waiting.iter().rposition(|(key, _)| key == made_for)?;
        Some(waiting.swap_remove(at).1)
    }

    /// Keeps a context for another body. The oldest goes for it: what is asked for now is what will be asked for next.
    pub(super) fn keep(&self, made_for: K, context: T) {
        let mut waiting = self.0.borrow_mut();
        if waiting.len() == MOST {
            waiting.remove(0);
        }
        waiting.push((made_for, context));
    }
}

#[cfg(test)]
mod tests {
    use super::super::coding::tests::{decode, encode};
    use super::super::coding::{Bounds, CodingError, Decoder, Effort, Encoder};
    use super::super::negotiate::Coding;

    const CODINGS: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Zstd, Coding::Brotli];

    fn lines(from: u32) -> Vec<u8> {
        (from..from + 3_000)
            .flat_map(|n| format!("<li>{} of {n}", n.wrapping_mul(7_919)).into_bytes())
            .collect()
    }

    /// Whatever became of the body before, whole, cut off or flushed, the next one is coded as with a context that was made for it.
    #[test]
    fn what_a_body_leaves_is_as_good_as_new() {
        let (before, text) = (lines(7), lines(90_000));
        for coding in CODINGS {
            // Nothing waits yet: each test has a thread of its own.
            let fresh = encode(coding, &[&text]);
            for ends in 0..3 {
                let (mut encoder, mut out) = (Encoder::new(coding, Effort::Fast).unwrap(), Vec::new());
                encoder.write(&before, &mut out).unwrap();
                if ends > 0 {
                    encoder.flush(&mut out).unwrap();
                }
                if ends > 1 {
                    encoder.finish(&mut out).unwrap();
                }
                drop(encoder);
                assert!(encode(coding, &[&text]) == fresh, "{coding:?}, {ends}");
            }
        }
    }

    #[test]
    fn a_body_after_one_that_was_cut_off_or_corrupt_is_read_whole() {
        let (before, text) = (lines(7), lines(90_000));
        for coding in CODINGS {
            let coded = encode(coding, &[&before]);
            let mut corrupt = coded.clone();
            for byte in corrupt.iter_mut().skip(40).step_by(61) {
                *byte = !*byte;
            }
            for spoilt in [&coded[..coded.len() / 2], &corrupt] {
                let mut decoder = Decoder::new(coding, Bounds::ratio(1_000)).unwrap();
                let read = decoder.write(spoilt, &mut |_: &[u8]| Ok::<(), CodingError>(()));
                assert!(read.is_err() || decoder.finish().is_err(), "{coding:?}");
                drop(decoder);
                assert!(
                    decode(coding, 1_000, [&encode(coding, &[&text])[..]]).unwrap() == text,
                    "{coding:?}"
                );
            }
        }
    }

    /// Bodies at once do not share a context, and what an effort asks for is kept apart.
    #[test]
    fn bodies_at_once_have_contexts_of_their_own() {
        let texts: Vec<_> = (0..6).map(|n| lines(n * 10_000)).collect();
        for coding in CODINGS {
            for _ in 0..2 {
                let efforts = [Effort::Fast, Effort::Better];
                let mut bodies: Vec<_> = texts
                    .iter()
                    .zip(efforts.iter().cycle())
                    .map(|(text, effort)| (text, Encoder::new(coding, *effort).unwrap(), Vec::new()))
                    .collect();
                for at in 0..3 {
                    for (text, encoder, out) in &mut bodies {
                        encoder.write(&text[at * text.len() / 3..(at + 1) * text.len() / 3], out).unwrap();
                    }
                }
                for (text, mut encoder, mut out) in bodies {
                    encoder.finish(&mut out).unwrap();
                    assert!(decode(coding, 1_000, [&out[..]]).unwrap() == *text, "{coding:?}");
                }
            }
        }
    }
}
