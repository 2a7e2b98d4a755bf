//! How many streams an HTTP/2 origin allows at a time, read in passing: hyper holds back what is more, without a
//! word, until a stream ends; so whoever shares the connection has to know.
//!
//! An origin's first frame is its SETTINGS (RFC 9113, 3.4). What it says later is hyper's to heed.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shared::Uses;

/// Bytes of a frame's head (RFC 9113, 4.1).
const HEAD: usize = 9;
const SETTINGS: u8 = 4;
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

/// A connection to an HTTP/2 origin that tells its uses how many streams there may be.
#[derive(Debug)]
pub struct Announced<S> {
    io: S,
    /// `None` once it is known.
    first: Option<First>,
    uses: Rc<Uses>,
}

impl<S> Announced<S> {
    /// Of a connection that nothing was read from.
    pub fn new(io: S, uses: Rc<Uses>) -> Self {
        Self { io, first: Some(First::default()), uses }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Announced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        if let Some(first) = &mut this.first {
            let said = first.read(&buf.filled()[start..]);
            if said != Said::NotYet {
                this.uses.allow(if let Said::Streams(most) = said { most } else { u32::MAX });
                this.first = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Announced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
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
