//! How many streams an HTTP/2 origin allows at a time, read in passing: hyper holds back what is more, without a
//! word, until a stream ends; so whoever shares the connection has to know.
//!
//! An origin's first frame is its SETTINGS (RFC 9113, 3.4), and the connection is nobody's before it has come. What the
//! origin says later is hyper's to heed.

use std::rc::Rc;

use tokio::io::AsyncRead;
use tokio_util::io::InspectReader;

use super::shared::Uses;
use crate::edge::http2::frame_rules::{HEAD, SETTINGS};

/// SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113, 6.5.2).
const MAX_CONCURRENT_STREAMS: u16 = 3;
/// Largest frame that an origin may send before it was told of larger ones (RFC 9113, 6.5.2).
const MOST: usize = 16 * 1024;

/// The first frame, as far as it has come.
#[derive(Debug, Default)]
struct First(Vec<u8>);

/// What the first frame says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// Not all of it is there.
    NotYet,
    /// No limit, or no such frame: hyper ends that connection.
    Nothing,
    Streams(u32),
}

impl First {
    fn read(&mut self, bytes: &[u8]) -> Said {
        self.0.extend_from_slice(&bytes[..bytes.len().min(HEAD + MOST - self.0.len())]);
        let Some((&[a, b, c, kind, ..], settings)) = self.0.split_first_chunk::<HEAD>() else {
            return Said::NotYet;
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if kind != SETTINGS || length > MOST {
            return Said::Nothing;
        }
        let Some(settings) = settings.get(..length) else { return Said::NotYet };
        let mut values = settings.chunks_exact(6).filter_map(|setting| match *setting {
            [a, b, c, d, e, f] if u16::from_be_bytes([a, b]) == MAX_CONCURRENT_STREAMS => {
                Some(u32::from_be_bytes([c, d, e, f]))
            }
            _ => None,
        });
        // The last one counts (RFC 9113, 6.5.3).
        values.next_back().map_or(Said::Nothing, Said::Streams)
    }
}

/// A connection that nothing was read from yet; it tells its uses how many streams there may be.
pub fn announced<S: AsyncRead>(io: S, uses: Rc<Uses>) -> InspectReader<S, impl FnMut(&[u8])> {
    let mut first = Some(First::default());
    InspectReader::new(io, move |bytes| {
        let Some(reading) = &mut first else { return };
        match reading.read(bytes) {
            Said::NotYet => return,
            Said::Nothing => uses.allow(u32::MAX),
            Said::Streams(most) => uses.allow(most),
        }
        first = None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITED: &[u8] =
        &[0, 0, 18, 4, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0, 3, 0, 0, 0, 7, 0, 3, 0, 0, 1, 0];

    #[test]
    fn the_last_value_of_the_first_settings_counts_wherever_they_are_cut() {
        for cut in 0..LIMITED.len() {
            let mut first = First::default();
            assert_eq!(first.read(&LIMITED[..cut]), Said::NotYet, "{cut}");
            let rest = [&LIMITED[cut..], b"and the next frame"].concat();
            assert_eq!(first.read(&rest), Said::Streams(256), "{cut}");
        }
    }

    #[test]
    fn settings_without_it_and_what_is_no_settings_say_nothing() {
        let other = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0];
        let huge = [0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0];
        for bytes in [&other[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], b"HTTP/1.1 400 Bad Request\r\n", &huge] {
            assert_eq!(First::default().read(bytes), Said::Nothing, "{bytes:?}");
        }
    }
}
