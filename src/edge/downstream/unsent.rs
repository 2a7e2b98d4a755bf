//! Bytes on their way to a socket that may take them in parts.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// Bytes that are to be written; no memory is held when there are none.
#[derive(Debug, Default)]
pub struct Unsent {
    bytes: Vec<u8>,
    /// So many of them are written.
    sent: usize,
}

impl Unsent {
    /// Whether all is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that are held, written or not, until the last of them is written.
    #[must_use]
    pub fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Room for so many bytes, where none is held.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Makes room for so many bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve_exact(bytes);
    }

    /// Adds bytes behind the others.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes; ready when nothing is left.
    ///
    /// # Errors
    /// The socket's, or that it takes nothing any more.
    pub fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            match ready!(Pin::new(&mut *io).poll_write(cx, &self.bytes[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => self.sent += more,
            }
        }
        *self = Self::default();
        Poll::Ready(Ok(()))
    }
}

impl From<Vec<u8>> for Unsent {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, sent: 0 }
    }
}
