//! A request body that can be sent a second time: what has been given of it is kept, up to a bound.
//!
//! For origins that say of a request that they did not begin it (RFC 9113, 8.7): it may be sent again whatever its
//! method, if its body is still at hand.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::body::{BodyError, hint_behind};

/// Bytes of a body that are kept; a longer one is sent once.
const MOST: usize = 64 * 1024;

/// One way to read the body: of several, only the last that was begun.
///
/// Nothing is kept any more once there is no other.
#[derive(Debug)]
pub struct Kept<B> {
    shared: Rc<RefCell<Shared<B>>>,
    /// Pieces that this one has given.
    at: usize,
    /// Which reading this is; 0 before its beginning.
    turn: u32,
}

#[derive(Debug)]
struct Shared<B> {
    body: B,
    pieces: Vec<Bytes>,
    bytes: usize,
    /// The pieces are all that has been given.
    whole: bool,
    ended: bool,
    /// The reading under way.
    turn: u32,
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Kept<B> {
    /// Keeps a body of which nothing has been read.
    pub fn new(body: B) -> Self {
        let shared = Shared { body, pieces: Vec::new(), bytes: 0, whole: true, ended: false, turn: 0 };
        Self { shared: Rc::new(RefCell::new(shared)), at: 0, turn: 0 }
    }

    /// Another reading, from the start. From its first piece on this one gives no more.
    pub fn again(&self) -> Self {
        Self { shared: Rc::clone(&self.shared), at: 0, turn: 0 }
    }

    /// Whether a reading that has not begun would be whole.
    pub fn is_whole(&self) -> bool {
        self.shared.borrow().whole
    }

    /// What is behind it.
    pub fn with<R>(&self, change: impl FnOnce(&mut B) -> R) -> R {
        change(&mut self.shared.borrow_mut().body)
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Body for Kept<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let is_last = Rc::strong_count(&this.shared) == 1;
        let mut shared = this.shared.borrow_mut();
        if this.turn == 0 {
            shared.turn += 1;
            this.turn = shared.turn;
        }
        if this.turn != shared.turn {
            return Poll::Ready(Some(Err(BodyError::Unfinished)));
        }
        if let Some(piece) = shared.pieces.get(this.at) {
            this.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if shared.ended {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut shared.body).poll_frame(cx);
        match &polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => shared.ended = true,
            Poll::Ready(Some(Ok(frame))) if shared.whole && !is_last => match frame.data_ref() {
                Some(data) if shared.bytes + data.len() <= MOST => {
                    shared.bytes += data.len();
                    shared.pieces.push(data.clone());
                    this.at += 1;
                    return polled;
                }
                _ => {}
            },
            Poll::Ready(_) => {}
        }
        if !shared.ended || is_last {
            shared.whole = false;
            shared.pieces = Vec::new();
            this.at = 0;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.shared.borrow();
        self.at >= shared.pieces.len() && (shared.ended || shared.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.shared.borrow();
        let kept = shared.pieces.iter().skip(self.at).map(Bytes::len).sum::<usize>() as u64;
        hint_behind(kept, &shared.body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// Pieces; `None`: nothing for now.
    #[derive(Debug)]
    struct Pieces(VecDeque<Option<&'static [u8]>>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            match self.0.pop_front() {
                Some(Some(piece)) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece))))),
                Some(None) => Poll::Pending,
                None => Poll::Ready(None),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0.iter().flatten().map(|piece| piece.len() as u64).sum())
        }
    }

    /// Polls so often; what came, and whether it ended well (`Some(true)`), badly, or not yet.
    fn read(body: &mut Kept<Pieces>, polls: usize) -> (String, Option<bool>) {
        let mut text = String::new();
        for _ in 0..polls {
            match Pin::new(&mut *body).poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(frame))) => {
                    text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
                }
                Poll::Ready(Some(Err(_))) => return (text, Some(false)),
                Poll::Ready(None) => return (text, Some(true)),
                Poll::Pending => {}
            }
        }
        (text, None)
    }

    const ALL: [Option<&[u8]>; 5] = [Some(b"ab"), None, Some(b"cd"), Some(b"e"), None];

    #[test]
    fn a_second_reading_gives_all_wherever_the_first_one_stopped() {
        for polls in 0..=7 {
            let mut first = Kept::new(Pieces(ALL.into()));
            let mut second = first.again();
            assert_eq!(second.size_hint().exact(), Some(5));
            read(&mut first, polls);
            assert!(second.is_whole() && !second.is_end_stream());
            assert_eq!(second.size_hint().exact(), Some(5), "{polls}");
            assert_eq!(read(&mut second, 9), ("abcde".to_owned(), Some(true)), "{polls}");
            assert!(second.is_end_stream());
            if polls > 0 {
                assert_eq!(read(&mut first, 1), (String::new(), Some(false)), "only one reads on");
            }
        }
    }

    #[test]
    fn what_is_too_long_is_given_once() {
        let long: &'static [u8] = vec![b'x'; MOST].leak();
        let mut first = Kept::new(Pieces([Some(long), Some(b"y"), Some(b"z")].into()));
        let second = first.again();
        read(&mut first, 1);
        assert!(second.is_whole());
        assert_eq!(read(&mut first, 1).0, "y");
        assert!(!second.is_whole() && first.shared.borrow().pieces.is_empty());
        assert_eq!(read(&mut first, 9), ("z".to_owned(), Some(true)));
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let mut first = Kept::new(Pieces(ALL.into()));
        let second = first.again();
        read(&mut first, 1);
        drop(second);
        assert_eq!(read(&mut first, 2).0, "cd");
        assert!(first.shared.borrow().pieces.is_empty());
        assert_eq!(read(&mut first, 9), ("e".to_owned(), Some(true)));
    }
}
