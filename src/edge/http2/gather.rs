//! What an HTTP/2 connection writes while it is polled once, sent as one.
//!
//! hyper's HTTP/2 writes each piece of a body as soon as it comes to it. Behind TLS that is a record and a system call
//! for each of the answers that are ready together. Here they are kept until the connection has been polled, and go out
//! in as few records as they need. Large pieces are not kept: they would only be copied.
//!
//! Cost: a copy of small writes; a buffer that is there only while it holds something.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::edge::downstream::unsent::Unsent;

/// What is kept at most: a TLS record (RFC 8446, 5.1).
const ROOM: usize = 16 * 1024;

/// Parts a writer and the one who sends what it wrote.
pub fn gather<S>(io: S) -> (Gathering<S>, Gathered<S>) {
    let shared = Rc::new(RefCell::new(Shared { io, kept: Unsent::default(), broken: false, failure: None }));
    (Gathering(Rc::clone(&shared)), Gathered(shared))
}

#[derive(Debug)]
struct Shared<S> {
    io: S,
    /// An idle connection holds none.
    kept: Unsent,
    /// Sending failed; why, until somebody was told.
    broken: bool,
    failure: Option<io::Error>,
}

impl<S> Shared<S> {
    /// An error once sending has failed.
    fn whole(&mut self) -> io::Result<()> {
        if !self.broken {
            return Ok(());
        }
        Err(self.failure.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()))
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    /// Sends what is kept.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.whole()?;
        self.kept.poll_write(&mut self.io, cx)
    }

    fn poll_send_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        length: usize,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.whole()?;
        if self.kept.held() + length > ROOM {
            ready!(self.poll_send(cx))?;
        }
        if length > ROOM {
            return Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        }
        if self.kept.capacity() == 0 {
            self.kept.reserve(ROOM);
        }
        bufs.iter().for_each(|buf| self.kept.push(buf));
        Poll::Ready(Ok(length))
    }
}

/// The writer: what is small is kept, and flushing waits for nothing.
#[derive(Debug)]
pub struct Gathering<S>(Rc<RefCell<Shared<S>>>);

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.borrow_mut();
        shared.whole()?;
        Pin::new(&mut shared.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, buf.len(), &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, bufs.iter().map(|buf| buf.len()).sum(), bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever drives the connection sends.
        Poll::Ready(self.0.borrow_mut().whole())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.borrow_mut();
        ready!(shared.poll_send_all(cx))?;
        Pin::new(&mut shared.io).poll_shutdown(cx)
    }
}

/// Sends what a connection has written.
#[derive(Debug)]
pub struct Gathered<S>(Rc<RefCell<Shared<S>>>);

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Drives a connection that writes to the other half, and sends what it wrote each time.
    pub async fn drive<F: Future>(&self, mut connection: Pin<&mut F>) -> F::Output {
        poll_fn(|cx| {
            let polled = connection.as_mut().poll(cx);
            let mut shared = self.0.borrow_mut();
            // Where it cannot all be sent now, this is polled again once it can.
            if !shared.broken
                && let Poll::Ready(Err(error)) = shared.poll_send_all(cx)
            {
                (shared.broken, shared.failure) = (true, Some(error));
                // The connection hears of it with what it reads or writes next.
                cx.waker().wake_by_ref();
            }
            polled
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::pin;
    use std::task::Waker;

    use super::*;

    /// Takes so many bytes at a time, and keeps each write; with none left it has to be waited for.
    #[derive(Default)]
    struct Peer {
        takes: VecDeque<io::Result<usize>>,
        writes: Vec<Vec<u8>>,
        shut: bool,
    }

    impl AsyncWrite for Peer {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            let Some(takes) = this.takes.pop_front() else { return Poll::Pending };
            let taken = buf.len().min(takes?);
            this.writes.push(buf[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.get_mut().shut = true;
            Poll::Ready(Ok(()))
        }
    }

    fn halves(takes: impl IntoIterator<Item = io::Result<usize>>) -> (Gathering<Peer>, Gathered<Peer>) {
        gather(Peer { takes: takes.into_iter().collect(), ..Peer::default() })
    }

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn write(half: &mut Gathering<Peer>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *half).poll_write(&mut context(), bytes);
        // hyper's writer flushes after each piece.
        assert!(Pin::new(half).poll_flush(&mut context()).is_ready());
        polled
    }

    /// Polls a connection that writes nothing once, so that what was written before goes out.
    fn drive(half: &Gathered<Peer>) {
        let connection = pin!(std::future::pending::<()>());
        assert!(pin!(half.drive(connection)).poll(&mut context()).is_pending());
    }

    fn written(half: &Gathered<Peer>) -> Vec<Vec<u8>> {
        half.0.borrow().io.writes.clone()
    }

    #[test]
    fn answers_that_are_ready_together_go_out_as_one() {
        let (mut writer, sender) = halves([Ok(usize::MAX), Ok(usize::MAX)]);
        for piece in [&b"head "[..], b"body ", b"head again"] {
            assert!(matches!(write(&mut writer, piece), Poll::Ready(Ok(n)) if n == piece.len()));
        }
        assert!(written(&sender).is_empty());
        drive(&sender);
        assert_eq!(written(&sender), [b"head body head again".to_vec()]);
        assert_eq!(sender.0.borrow().kept.capacity(), 0, "nothing is held");
    }

    #[test]
    fn large_pieces_go_out_behind_what_is_kept_and_are_not_copied() {
        let (mut writer, sender) = halves([Ok(usize::MAX), Ok(7)]);
        let large = vec![b'x'; ROOM + 1];
        assert!(write(&mut writer, b"head").is_ready());
        assert!(matches!(write(&mut writer, &large), Poll::Ready(Ok(7))));
        assert_eq!(written(&sender), [b"head".to_vec(), large[..7].to_vec()]);
    }

    /// A visitor that takes nothing makes us hold a record's worth, and no more.
    #[test]
    fn whoever_writes_waits_for_a_peer_that_takes_nothing() {
        let (mut writer, sender) = halves([Ok(1)]);
        let half = vec![b'x'; ROOM / 2];
        assert!(write(&mut writer, &half).is_ready());
        drive(&sender);
        assert!(write(&mut writer, &half).is_ready());
        assert!(write(&mut writer, b"y").is_pending());
        assert!(Pin::new(&mut writer).poll_shutdown(&mut context()).is_pending());
        sender.0.borrow_mut().io.takes.extend([Ok(10), Ok(usize::MAX)]);
        assert!(Pin::new(&mut writer).poll_shutdown(&mut context()).is_ready());
        assert_eq!(written(&sender).concat(), [half.as_slice(), &half].concat());
        assert!(sender.0.borrow().io.shut);
    }

    #[test]
    fn a_connection_hears_that_what_it_wrote_could_not_be_sent() {
        let (mut writer, sender) = halves([Err(io::ErrorKind::TimedOut.into()), Ok(usize::MAX)]);
        assert!(write(&mut writer, b"head").is_ready());
        drive(&sender);
        let told = Pin::new(&mut writer).poll_flush(&mut context());
        assert!(matches!(told, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut));
        drive(&sender);
        assert!(matches!(Pin::new(&mut writer).poll_write(&mut context(), b"x"), Poll::Ready(Err(_))));
        assert!(written(&sender).is_empty());
    }
}
