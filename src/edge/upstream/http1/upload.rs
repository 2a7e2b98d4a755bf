//! A request on its way to the origin: its head, and its body in the framing that the head announces.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{Request, header};
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite;

use super::super::answer_error::AnswerError;
use super::super::attempt::Tail;
use crate::edge::message::body::{BodyError, RequestBody};
use crate::edge::message::wire::write_fields;
use crate::edge::strict::{Framing, decimal};

/// A head larger than this takes its room with it, bytes.
const ROOM: usize = 8 * 1024;

/// What is to be written, and how the rest of the body will be.
#[derive(Debug)]
pub(super) struct Upload {
    /// The head, lines of chunks, or trailers; `sent` bytes of them are written.
    lines: Vec<u8>,
    sent: usize,
    /// A piece of the body behind them, and what ends it.
    data: Bytes,
    tail: &'static [u8],
    framing: Framing,
    /// The body is not at its end.
    more: bool,
    /// A byte of the request has gone.
    begun: bool,
    /// Something was taken of the body.
    touched: bool,
    /// What was written has left whatever lies over the socket: TLS may hold some of it.
    flushed: bool,
    /// Why nothing more can be written.
    broken: Option<io::Error>,
}

impl Default for Upload {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            sent: 0,
            data: Bytes::new(),
            tail: b"",
            framing: Framing::None,
            more: false,
            begun: false,
            touched: false,
            flushed: true,
            broken: None,
        }
    }
}

impl Upload {
    /// A request goes out next. Its fields are written as they stand: they say how its body ends.
    pub(super) fn begin(&mut self, request: &Request<RequestBody>, tail: Option<Tail<'_>>) {
        let lines = std::mem::take(&mut self.lines);
        let framing = framing(request);
        let more = !matches!(framing, Framing::None | Framing::Length(0)) || !request.body().is_end_stream();
        *self = Self { lines, framing, more, ..Self::default() };
        self.lines.clear();
        write_head(&mut self.lines, request, framing, tail);
    }

    /// Whether nothing of it can have reached the origin, and all of it is still at hand.
    pub(super) const fn is_untouched(&self) -> bool {
        !self.begun && !self.touched
    }

    /// Whether a byte of it has gone.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether all of it has gone.
    pub(super) const fn is_whole(&self) -> bool {
        !self.more && self.lines.is_empty() && self.flushed && self.broken.is_none()
    }

    /// Why it could not be written to its end.
    pub(super) fn take_fault(&mut self) -> Option<io::Error> {
        self.broken.take()
    }

    /// Writes on. An origin that takes no more of it may have answered all the same, so that is only noted.
    ///
    /// # Errors
    /// The body's.
    pub(super) fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
        body: &mut RequestBody,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), AnswerError>> {
        loop {
            if self.broken.is_some() {
                return Poll::Ready(Ok(()));
            }
            let mut waits = false;
            if self.more && self.data.is_empty() && self.tail.is_empty() {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Pending => waits = true,
                    Poll::Ready(frame) => {
                        self.touched = true;
                        self.stage(frame).map_err(|error| AnswerError::Request(Box::new(error)))?;
                    }
                }
            }
            match ready!(self.poll_write(io, cx)) {
                Err(error) => self.broken = Some(error),
                Ok(()) if waits => return Poll::Pending,
                Ok(()) if !self.more => return Poll::Ready(Ok(())),
                Ok(()) => {}
            }
        }
    }

    /// Takes a frame of the body, or its end.
    fn stage(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) -> Result<(), BodyError> {
        let frame = frame.transpose()?.map(Frame::into_data);
        match (frame, &mut self.framing) {
            (Some(Ok(data)), _) if data.is_empty() => {}
            (Some(Ok(data)), Framing::Chunked) => {
                // Writing to memory does not fail.
                let _ = write!(self.lines, "{:x}\r\n", data.len());
                (self.data, self.tail) = (data, b"\r\n");
            }
            (Some(Ok(data)), Framing::Length(left)) => {
                *left = left.checked_sub(data.len() as u64).ok_or(BodyError::TooLarge)?;
                self.data = data;
            }
            (Some(Err(frame)), Framing::Chunked) => {
                self.lines.extend_from_slice(b"0\r\n");
                if let Ok(trailers) = frame.into_trailers() {
                    write_fields(&mut self.lines, &trailers);
                }
                self.lines.extend_from_slice(b"\r\n");
                self.more = false;
            }
            (None, Framing::Chunked) => {
                self.lines.extend_from_slice(b"0\r\n\r\n");
                self.more = false;
            }
            // There is no place for trailers; the end is still to come.
            (Some(Err(_)), Framing::Length(_)) => {}
            (None, Framing::Length(0) | Framing::None) => self.more = false,
            (None, Framing::Length(_)) | (Some(_), Framing::None) => return Err(BodyError::Unfinished),
        }
        Ok(())
    }

    /// Writes what is staged, to its last byte, and on through what lies over the socket.
    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut io = Pin::new(io);
        loop {
            let lines = &self.lines[self.sent..];
            let written = match (lines, &*self.data, self.tail) {
                ([], [], []) => break,
                (lines, [], []) => ready!(io.as_mut().poll_write(cx, lines))?,
                ([], data, []) => ready!(io.as_mut().poll_write(cx, data))?,
                (lines, data, tail) => {
                    let slices = [IoSlice::new(lines), IoSlice::new(data), IoSlice::new(tail)];
                    ready!(io.as_mut().poll_write_vectored(cx, &slices))?
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            (self.begun, self.flushed) = (true, false);
            let of_lines = written.min(lines.len());
            let of_data = (written - of_lines).min(self.data.len());
            self.sent += of_lines;
            self.data.advance(of_data);
            self.tail = &self.tail[written - of_lines - of_data..];
        }
        self.lines.clear();
        self.lines.shrink_to(ROOM);
        self.sent = 0;
        if !self.flushed {
            ready!(io.poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// How the head says that the body ends (RFC 9112, 6.3), whatever the body says: the origin reads by the head. A body
/// without a word of it there is sent in chunks.
fn framing(request: &Request<RequestBody>) -> Framing {
    let headers = request.headers();
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Framing::Chunked;
    }
    match headers.get(header::CONTENT_LENGTH).map(|length| decimal(length.as_bytes())) {
        Some(Some(length)) => Framing::Length(length),
        None if !request.body().is_end_stream() => Framing::Chunked,
        // Of a body whose length nobody can read nothing is sent.
        Some(None) | None => Framing::None,
    }
}

/// The bytes of a request's head (RFC 9112, 3).
fn write_head(out: &mut Vec<u8>, request: &Request<RequestBody>, framing: Framing, tail: Option<Tail<'_>>) {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    // An absolute target may have no path (RFC 9112, 3.2.2).
    let slash = if target.starts_with(['/', '*']) { "" } else { "/" };
    for part in [request.method().as_str(), " ", slash, target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if framing == Framing::Chunked && !request.headers().contains_key(header::TRANSFER_ENCODING) {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    write_fields(out, request.headers());
    if let Some(tail) = tail {
        for part in [tail.lines, b"x-request-id: ", tail.id, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// What is written of a request without a body, and how that ends.
    fn written(request: http::request::Builder) -> (String, Poll<Result<(), AnswerError>>) {
        let mut request = request.body(RequestBody::empty()).unwrap();
        let (mut upload, mut out) = (Upload::default(), Vec::new());
        upload.begin(&request, None);
        let cx = &mut Context::from_waker(Waker::noop());
        let ended = upload.poll(&mut out, request.body_mut(), cx);
        assert_eq!(upload.is_whole(), matches!(ended, Poll::Ready(Ok(()))));
        (String::from_utf8(out).unwrap(), ended)
    }

    #[test]
    fn a_head_is_written_as_it_stands() {
        let request =
            Request::post("/a?b").header("host", "c").header("x", "\u{e4}").header("content-length", 0);
        let (text, ended) = written(request.header("x", ""));
        assert_eq!(text, "POST /a?b HTTP/1.1\r\nhost: c\r\nx: \u{e4}\r\nx: \r\ncontent-length: 0\r\n\r\n");
        assert!(matches!(ended, Poll::Ready(Ok(()))));
        for (target, line) in [("?a", "GET /?a "), ("*", "GET * "), ("/", "GET / ")] {
            let target = http::uri::PathAndQuery::from_static(target);
            assert!(written(Request::get(http::Uri::from(target))).0.starts_with(line), "{line}");
        }
    }

    #[test]
    fn what_is_said_behind_the_fields_belongs_to_the_head() {
        let request = Request::get("/").header("host", "c").body(RequestBody::empty()).unwrap();
        let mut upload = Upload::default();
        upload.begin(&request, Some(Tail { lines: b"via: 1.1 optgate\r\nx-real-ip: ::1\r\n", id: b"7" }));
        let head =
            "GET / HTTP/1.1\r\nhost: c\r\nvia: 1.1 optgate\r\nx-real-ip: ::1\r\nx-request-id: 7\r\n\r\n";
        assert_eq!(upload.lines, head.as_bytes());
    }

    /// A stream that holds what it is given until it is flushed for the third time, as TLS does behind a full socket.
    #[derive(Default)]
    struct Holding {
        held: Vec<u8>,
        gone: Vec<u8>,
        flushes: u8,
    }

    impl AsyncWrite for Holding {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.get_mut().held.extend_from_slice(buf);
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            let this = self.get_mut();
            this.flushes += 1;
            if this.flushes < 3 {
                return Poll::Pending;
            }
            this.gone.append(&mut this.held);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Else the origin waits for the rest, and everybody for the origin.
    #[test]
    fn a_request_is_whole_when_its_last_byte_has_left_tls() {
        let mut request = Request::get("/").body(RequestBody::empty()).unwrap();
        let (mut upload, mut out) = (Upload::default(), Holding::default());
        upload.begin(&request, None);
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..2 {
            assert!(upload.poll(&mut out, request.body_mut(), cx).is_pending() && !upload.is_whole());
        }
        assert!(matches!(upload.poll(&mut out, request.body_mut(), cx), Poll::Ready(Ok(()))));
        assert_eq!((upload.is_whole(), out.gone.as_slice()), (true, &b"GET / HTTP/1.1\r\n\r\n"[..]));
    }

    /// The origin reads by the head: what it announces must come, or the next request would be read for it.
    #[test]
    fn a_body_that_is_announced_and_not_there_is_an_error_and_never_another_request() {
        let (_, ended) = written(Request::post("/").header("content-length", 3));
        assert!(matches!(ended, Poll::Ready(Err(AnswerError::Request(_)))), "{ended:?}");
        let (text, ended) = written(Request::post("/").header("transfer-encoding", "chunked"));
        assert!(text.ends_with("\r\n\r\n0\r\n\r\n") && matches!(ended, Poll::Ready(Ok(()))), "{text}");
    }
}
