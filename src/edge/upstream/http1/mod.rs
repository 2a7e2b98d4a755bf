//! One HTTP/1.1 connection to an origin (RFC 9112): one request, its answer, and the next.
//!
//! It is no task of its own and keeps no waker: whoever waits for the answer, and then whoever reads its body, polls it,
//! and the socket wakes that task. A request stays with whoever sends it until its answer's head is there, so one that
//! could not be sent needs no copy.
//!
//! - here: the order of things, and when the connection can be used again
//! - `upload`: the request as bytes
//! - `fields`: the head of the answer
//! - `decode`: its body

mod decode;
mod fields;
mod upload;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Frame, SizeHint};
use hyper::ext::ReasonPhrase;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use self::decode::{Decoded, Decoder};
use self::fields::Fields;
use self::upload::Upload;
use super::answer_error::AnswerError;
use super::attempt::Tail;
use crate::edge::message::body::RequestBody;
use crate::edge::message::hop_by_hop;
use crate::edge::message::interim::Interim;
use crate::edge::strict::{AnswerHead, Framing, Known, Limits, Reason, Scan};

/// An answer's head, and a body's trailers, may be so large.
const LIMITS: Limits = Limits { bytes: 96 * 1024, fields: 100 };
/// Interim answers before a final one: a page of early hints has a few, one that says every second that it is still at
/// work (102) some hundreds.
const MAX_INTERIM: u16 = 1024;

/// Room for a read, bytes: at first, and at most, which is whole in the second-level cache.
const ROOM: usize = 8 * 1024;
const MAX_ROOM: usize = 128 * 1024;

/// How an exchange fails.
#[derive(Debug)]
pub enum Failure {
    /// Nothing of the request has gone, and all of it is still there.
    NotSent(AnswerError),
    /// Something has, or may have.
    Sent(AnswerError),
}

/// What a request's sender wants beside the answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wants<'a> {
    /// It may be a 101.
    pub switch: bool,
    /// What the head says behind its fields.
    pub tail: Option<Tail<'a>>,
    /// Where interim answers go.
    pub interim: Option<Interim<'a>>,
}

/// The connection.
#[derive(Debug)]
pub struct Connection<S> {
    io: S,
    upload: Upload,
    /// What has come and is not used yet.
    bytes: BytesMut,
    /// Room for the next read, and whether what is announced may have more: not where little comes at a time.
    room: usize,
    fast: bool,
    scan: Scan,
    known: Known,
    fields: Fields,
    /// Bytes of an answer to this request have come.
    heard: bool,
    interim: u16,
    /// The origin gave leave for the body, which was not asked for more since.
    leave: bool,
    decoder: Decoder,
    /// The origin goes on with the connection.
    keeps: bool,
    /// The request's method is HEAD.
    bodiless: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Over a stream of which nothing was read.
    pub fn new(io: S) -> Self {
        let (upload, bytes, scan, known, fields) = Default::default();
        let (decoder, heard, interim) = (Decoder::Ended, false, 0);
        Self {
            io,
            upload,
            bytes,
            room: ROOM,
            fast: true,
            scan,
            known,
            fields,
            heard,
            interim,
            leave: false,
            decoder,
            keeps: true,
            bodiless: false,
        }
    }

    /// A request goes out. Its target is in origin form, and its fields say how its body ends.
    pub fn begin(&mut self, request: &Request<RequestBody>, tail: Option<Tail<'_>>) {
        self.upload.begin(request, tail);
        self.scan = Scan::default();
        (self.heard, self.interim) = (false, 0);
        self.bodiless = *request.method() == Method::HEAD;
    }

    /// Whether no byte of an answer to this request has come.
    pub const fn is_unheard(&self) -> bool {
        !self.heard
    }

    /// Whether it can carry another request: the last one is answered, and nothing is left of either.
    pub fn is_idle(&self) -> bool {
        self.keeps && self.decoder.has_ended() && self.upload.is_whole() && self.bytes.is_empty()
    }

    /// The stream, and what has come behind the head of a 101.
    pub fn into_parts(self) -> (S, Bytes) {
        (self.io, self.bytes.freeze())
    }

    /// Sends the request that began, and waits for the head of its answer.
    ///
    /// What comes before a byte of the request has gone is no answer to it: an idle connection that was closed, or
    /// whose origin says something unasked, gives the request back.
    pub fn poll_head(
        &mut self,
        body: &mut RequestBody,
        wants: Wants<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Head, Failure>> {
        if !self.upload.has_begun()
            && let Poll::Ready(news) = self.poll_news(cx)
        {
            return Poll::Ready(Err(self.failed(news)));
        }
        loop {
            if let Poll::Ready(Err(error)) = self.poll_upload(body, cx) {
                return Poll::Ready(Err(Failure::Sent(error)));
            }
            if !self.upload.has_begun() {
                return match self.upload.take_fault() {
                    Some(error) => Poll::Ready(Err(self.failed(AnswerError::Io(error)))),
                    None => Poll::Pending,
                };
            }
            if let Some(head) = self.next_head(body, wants).transpose() {
                return Poll::Ready(head.map_err(Failure::Sent));
            }
            if std::mem::take(&mut self.leave) {
                // The body may go on, and nobody wakes this task for it.
                continue;
            }
            let error = match ready!(self.poll_fill(cx)) {
                Ok(0) => AnswerError::Closed,
                Ok(_) => {
                    self.heard = true;
                    continue;
                }
                Err(error) => AnswerError::Io(error),
            };
            self.keeps = false;
            // Whatever kept the request from being written came first.
            let error = self.upload.take_fault().map_or(error, AnswerError::Io);
            return Poll::Ready(Err(Failure::Sent(error)));
        }
    }

    /// The next piece of the answer's body, with the request's body driven beside it.
    pub fn poll_frame(
        &mut self,
        body: &mut RequestBody,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Poll::Ready(Err(error)) = self.poll_upload(body, cx) {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match self.decoder.decode(&mut self.bytes) {
                Ok(Decoded::Frame(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::More) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) => {
                    // Whoever wrote was told of a reset, and whoever reads is not any more.
                    let reset =
                        self.upload.take_fault().filter(|e| e.kind() == io::ErrorKind::ConnectionReset);
                    let closed = match reset {
                        Some(error) => Err(AnswerError::Io(error)),
                        None => self.decoder.closed(),
                    };
                    if let Err(error) = closed {
                        return Poll::Ready(Some(Err(error)));
                    }
                    self.keeps = false;
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(AnswerError::Io(error)))),
            }
        }
    }

    /// Whether the answer's body is at its end.
    pub const fn has_ended(&self) -> bool {
        self.decoder.has_ended()
    }

    /// The length of what is left of the answer's body.
    pub fn size_hint(&self) -> SizeHint {
        self.decoder.size_hint()
    }

    /// Builds the answer's head in the request's map, whose room is used again.
    ///
    /// # Errors
    /// The types refuse it.
    pub fn read_head(&mut self, head: &Head, mut headers: HeaderMap) -> Result<Response<()>, AnswerError> {
        headers.clear();
        self.fields.read(&head.bytes, &self.known, &mut headers).map_err(AnswerError::Malformed)?;
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.version_mut() = if head.read.old { Version::HTTP_10 } else { Version::HTTP_11 };
        self.keeps = self.keeps && keeps(head.read, &headers);
        *response.headers_mut() = headers;
        let reason = reason(&head.bytes);
        if Some(reason) != head.status.canonical_reason().map(str::as_bytes)
            && let Ok(reason) = ReasonPhrase::try_from(reason)
        {
            response.extensions_mut().insert(reason);
        }
        Ok(response)
    }

    /// What a connection brings on which nothing was asked.
    fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<AnswerError> {
        if !self.bytes.is_empty() {
            return Poll::Ready(AnswerError::Unasked);
        }
        self.poll_fill(cx).map(|came| match came {
            Ok(0) => AnswerError::Closed,
            Ok(_) => AnswerError::Unasked,
            Err(error) => AnswerError::Io(error),
        })
    }

    fn failed(&mut self, error: AnswerError) -> Failure {
        self.keeps = false;
        if self.upload.is_untouched() { Failure::NotSent(error) } else { Failure::Sent(error) }
    }

    /// Cost: nothing where all is written.
    fn poll_upload(&mut self, body: &mut RequestBody, cx: &mut Context<'_>) -> Poll<Result<(), AnswerError>> {
        if self.upload.is_whole() {
            return Poll::Ready(Ok(()));
        }
        self.upload.poll(&mut self.io, body, cx)
    }

    /// The head of the final answer, if it is there; interim ones before it are passed on.
    fn next_head(&mut self, body: &mut RequestBody, wants: Wants<'_>) -> Result<Option<Head>, AnswerError> {
        while !self.bytes.is_empty() {
            let read =
                self.scan.answer(&self.bytes, LIMITS, &mut self.known).map_err(AnswerError::Malformed)?;
            let Some(read) = read else { return Ok(None) };
            self.scan = Scan::default();
            let bytes = self.bytes.split_to(read.length).freeze();
            match read.status {
                101 if !wants.switch => return Err(AnswerError::Malformed(Reason::UnaskedSwitch)),
                100 | 102..=199 => {
                    self.interim += 1;
                    if self.interim > MAX_INTERIM {
                        return Err(AnswerError::Malformed(Reason::ManyInterim));
                    }
                    self.fields.forget();
                    if read.status == 100 {
                        body.go_on();
                        self.leave = true;
                    }
                    if let Some(interim) = wants.interim {
                        interim.pass(&bytes);
                    }
                }
                _ => return self.final_head(read, bytes).map(Some),
            }
        }
        Ok(None)
    }

    fn final_head(&mut self, read: AnswerHead, bytes: Bytes) -> Result<Head, AnswerError> {
        let status =
            StatusCode::from_u16(read.status).map_err(|_| AnswerError::Malformed(Reason::StatusLine))?;
        // RFC 9112, 6.3.
        let framing = match status {
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => {
                Some(Framing::None)
            }
            _ if self.bodiless => Some(Framing::None),
            _ => read.framing,
        };
        self.decoder = Decoder::new(framing);
        // A 204 that announces a body (RFC 9110, 8.6; RFC 9112, 6.1 forbid it) may well send one, and later.
        let contradicts =
            status == StatusCode::NO_CONTENT && !matches!(read.framing, None | Some(Framing::Length(0)));
        self.keeps = framing.is_some() && !contradicts && status != StatusCode::SWITCHING_PROTOCOLS;
        Ok(Head { bytes, status, read })
    }

    /// Reads. Cost: no system call while the socket is known to be empty.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let announced = if self.fast { self.decoder.announced() } else { 0 };
        let room = self.room.max(usize::try_from(announced).map_or(MAX_ROOM, |bytes| bytes.min(MAX_ROOM)));
        if self.bytes.capacity() - self.bytes.len() < room {
            // Moves nothing, and takes new memory only where somebody still has what was read.
            self.bytes.reserve(room);
        }
        let came = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.bytes))?;
        self.fast = came >= room / 4;
        if self.bytes.len() == self.bytes.capacity() {
            self.room = (self.room * 2).min(MAX_ROOM);
        } else if came < self.room / 4 {
            self.room = (self.room / 2).max(ROOM);
        }
        Poll::Ready(Ok(came))
    }
}

/// The head of an answer that has come.
#[derive(Debug)]
pub struct Head {
    bytes: Bytes,
    /// Its status.
    pub status: StatusCode,
    read: AnswerHead,
}

/// Whether the origin goes on with the connection (RFC 9112, 9.3).
fn keeps(read: AnswerHead, headers: &HeaderMap) -> bool {
    let usual = !read.old && hop_by_hop::only_keeps_alive(headers);
    let said = |option| hop_by_hop::connection_has(headers, option);
    usual || !said("close") && (!read.old || said("keep-alive"))
}

/// The reason phrase in a head that was found well-formed.
fn reason(head: &[u8]) -> &[u8] {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let (_, reason) = line.split_at(line.len().min("HTTP/1.1 200 ".len()));
    reason.strip_suffix(b"\r").unwrap_or(reason)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::FutureExt as _;
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf};

    use super::*;
    use crate::edge::message::body::Body;

    /// A visitor's request with a body of nine bytes, of which he has sent none; his side, and what serves him.
    async fn visitor() -> (Request<RequestBody>, DuplexStream, impl Future) {
        let (mut visitor, io) = tokio::io::duplex(1024);
        let (give, mut body) = tokio::sync::mpsc::unbounded_channel();
        let service = service_fn(move |request: Request<Incoming>| {
            give.send(request.into_body()).unwrap();
            std::future::pending::<Result<Response<Body>, std::convert::Infallible>>()
        });
        let mut serving = Box::pin(http1::Builder::new().serve_connection(TokioIo::new(io), service));
        visitor
            .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
            .await
            .unwrap();
        assert!(serving.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let body = RequestBody::unlimited(body.try_recv().unwrap());
        let request = Request::post("/").header("content-length", 9).body(body).unwrap();
        (request, visitor, serving)
    }

    /// The deadline that the leave replaces does not wake the task any more.
    #[tokio::test]
    async fn a_body_goes_on_as_soon_as_the_origin_gives_leave() {
        let (mut request, mut visitor, serving) = visitor().await;
        request.body_mut().wait_for_leave();
        let (mut connection, mut origin) = connection();
        let cx = &mut Context::from_waker(Waker::noop());
        connection.begin(&request, None);
        assert!(connection.poll_head(request.body_mut(), Wants::default(), cx).is_pending());
        origin.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        assert!(connection.poll_head(request.body_mut(), Wants::default(), cx).is_pending());
        assert!(std::pin::pin!(serving).poll(cx).is_pending());
        let mut told = [0; 64];
        let length = visitor.read(&mut told).now_or_never().unwrap().unwrap();
        assert!(
            told[..length].starts_with(b"HTTP/1.1 100 "),
            "{:?}",
            told[..length].escape_ascii().to_string()
        );
    }

    /// A socket that takes a head, is reset, and has an answer that ends with the connection.
    struct Reset {
        taken: bool,
        answer: &'static [u8],
        kind: io::ErrorKind,
    }

    impl AsyncRead for Reset {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let this = self.get_mut();
            if !this.taken {
                return Poll::Pending;
            }
            buf.put_slice(std::mem::take(&mut this.answer));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Reset {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            match std::mem::replace(&mut this.taken, true) {
                true => Poll::Ready(Err(this.kind.into())),
                false => Poll::Ready(Ok(buf.len())),
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The system tells of a reset once, and the request's body may be whom it tells. An origin that closed in good
    /// order before it was written to has said all that it wanted to say.
    #[tokio::test]
    async fn a_reset_that_only_the_upload_hears_of_is_no_end_of_an_answer() {
        for (kind, whole) in [(io::ErrorKind::ConnectionReset, false), (io::ErrorKind::BrokenPipe, true)] {
            let (mut request, mut visitor, serving) = visitor().await;
            let cx = &mut Context::from_waker(Waker::noop());
            let mut connection =
                Connection::new(Reset { taken: false, answer: b"HTTP/1.1 200 OK\r\n\r\npart", kind });
            connection.begin(&request, None);
            let head = connection.poll_head(request.body_mut(), Wants::default(), cx);
            let Poll::Ready(Ok(head)) = head else { panic!("{head:?}") };
            connection.read_head(&head, HeaderMap::new()).unwrap();
            visitor.write_all(b"abc").await.unwrap();
            assert!(std::pin::pin!(serving).poll(cx).is_pending());
            let frames = [0; 2].map(|_| connection.poll_frame(request.body_mut(), cx));
            assert!(matches!(&frames[0], Poll::Ready(Some(Ok(_)))), "{frames:?}");
            let ended = matches!(frames[1], Poll::Ready(None));
            let broken = matches!(frames[1], Poll::Ready(Some(Err(AnswerError::Io(_)))));
            assert_eq!((ended, broken), (whole, !whole), "{kind}: {frames:?}");
            assert!(!connection.is_idle());
        }
    }

    fn request(method: &str) -> Request<RequestBody> {
        let request = Request::builder().method(method).uri("/a?b").header("host", "c");
        request.body(RequestBody::empty()).unwrap()
    }

    fn connection() -> (Connection<DuplexStream>, DuplexStream) {
        let (io, origin) = tokio::io::duplex(64 * 1024);
        (Connection::new(io), origin)
    }

    /// One look at what came of a request.
    fn look(connection: &mut Connection<DuplexStream>, switch: bool) -> Poll<Result<Head, Failure>> {
        let cx = &mut Context::from_waker(Waker::noop());
        connection.poll_head(&mut RequestBody::empty(), Wants { switch, ..Wants::default() }, cx)
    }

    /// Sends a request; it is written, and nothing has come.
    async fn ask(connection: &mut Connection<DuplexStream>, origin: &mut DuplexStream, method: &str) {
        // A task that has done much is made to wait, and this one polls without an ear for its next turn.
        tokio::task::yield_now().await;
        connection.begin(&request(method), None);
        assert!(look(connection, false).is_pending());
        let whole = format!("{method} /a?b HTTP/1.1\r\nhost: c\r\n\r\n");
        let mut came = vec![0; whole.len()];
        origin.read_exact(&mut came).await.unwrap();
        assert_eq!(came, whole.as_bytes());
    }

    /// The answer's status, fields and body, and how its body ended.
    type Answer = (u16, HeaderMap, Vec<u8>, Option<bool>);

    fn read(connection: &mut Connection<DuplexStream>, head: &Head) -> Answer {
        let response = connection.read_head(head, HeaderMap::new()).unwrap();
        let (mut body, cx) = (Vec::new(), &mut Context::from_waker(Waker::noop()));
        let ended = loop {
            match connection.poll_frame(&mut RequestBody::empty(), cx) {
                Poll::Ready(Some(Ok(frame))) => body.extend(frame.into_data().unwrap_or_default()),
                Poll::Ready(Some(Err(_))) => break Some(false),
                Poll::Ready(None) => break Some(true),
                Poll::Pending => break None,
            }
        };
        (response.status().as_u16(), response.headers().clone(), body, ended)
    }

    /// What an origin answers, whether the connection can be used again, and the body that was read.
    const ANSWERS: [(&str, &str, bool, &[u8]); 16] = [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nA: b\r\n\r\nabc", true, b"abc"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true, b""),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", true, b"abc"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", false, b"abc"),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: a\r\nConnection: b, Close\r\n\r\na",
            false,
            b"a",
        ),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", false, b"abc"),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: Keep-Alive\r\n\r\nabc", true, b"abc"),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", true, b""),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", false, b""),
        ("GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false, b""),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", true, b""),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, b""),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true, b""),
        (
            "GET",
            "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
            true,
            b"a",
        ),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", false, b"abc"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", false, b""),
    ];

    #[tokio::test]
    async fn an_answer_is_read_alike_at_every_cut_and_behind_another() {
        for (method, answer, again, body) in ANSWERS {
            for cut in 0..=answer.len() {
                let (mut connection, mut origin) = connection();
                for _ in 0..2 {
                    ask(&mut connection, &mut origin, "GET").await;
                    origin.write_all(ANSWERS[0].1.as_bytes()).await.unwrap();
                    let Poll::Ready(Ok(head)) = look(&mut connection, false) else { panic!("no answer") };
                    assert_eq!(read(&mut connection, &head).2, b"abc");
                    assert!(connection.is_idle());
                }
                ask(&mut connection, &mut origin, method).await;
                origin.write_all(&answer.as_bytes()[..cut]).await.unwrap();
                let mut head = look(&mut connection, false);
                origin.write_all(&answer.as_bytes()[cut..]).await.unwrap();
                if head.is_pending() {
                    head = look(&mut connection, false);
                }
                let Poll::Ready(Ok(head)) = head else { panic!("no answer: {answer:?}, {cut}") };
                let (status, headers, read, ended) = read(&mut connection, &head);
                assert_eq!((read.as_slice(), ended), (body, Some(true)), "{answer:?}, {cut}");
                let last = answer.rfind("HTTP/1").unwrap();
                let last = if body.is_empty() && !again { 0 } else { last };
                assert!(answer[last + 9..].starts_with(&status.to_string()), "{answer:?}, {cut}");
                assert_eq!(headers.contains_key("a"), answer.contains("A: b"), "{answer:?}, {cut}");
                // What comes behind an answer may come later.
                let cx = &mut Context::from_waker(Waker::noop());
                let idle = connection.is_idle();
                assert!(idle == again || idle && connection.poll_news(cx).is_ready(), "{answer:?}, {cut}");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_short_is_an_error_and_never_a_shorter_one() {
        for (method, answer, ..) in &ANSWERS[..14] {
            for cut in 0..answer.len() {
                let (mut connection, mut origin) = connection();
                ask(&mut connection, &mut origin, method).await;
                origin.write_all(&answer.as_bytes()[..cut]).await.unwrap();
                drop(origin);
                let whole = match look(&mut connection, false) {
                    Poll::Ready(Err(Failure::Sent(AnswerError::Closed))) => false,
                    Poll::Ready(Ok(head)) => read(&mut connection, &head).3 == Some(true),
                    other => panic!("{answer:?}, {cut}: {other:?}"),
                };
                assert!(!whole, "{answer:?}, {cut}");
                assert_eq!(connection.is_unheard(), cut == 0, "{answer:?}, {cut}");
            }
        }
    }

    /// An origin must not be able to begin the answer to a request before it has it, and what it closed gives the
    /// request back.
    #[tokio::test]
    async fn what_comes_before_the_request_has_gone_is_no_answer() {
        for said in ["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "H", ""] {
            let (mut connection, mut origin) = connection();
            origin.write_all(said.as_bytes()).await.unwrap();
            origin.shutdown().await.unwrap();
            connection.begin(&request("GET"), None);
            let failure = look(&mut connection, false);
            let unasked = matches!(&failure, Poll::Ready(Err(Failure::NotSent(AnswerError::Unasked))));
            let closed = matches!(&failure, Poll::Ready(Err(Failure::NotSent(AnswerError::Closed))));
            assert_eq!((unasked, closed), (!said.is_empty(), said.is_empty()), "{failure:?}");
            assert!(connection.is_unheard() && !connection.is_idle());
            drop(connection);
            let mut written = Vec::new();
            origin.read_to_end(&mut written).await.unwrap();
            assert_eq!(written, b"", "nothing of the request went out");
        }
    }

    #[tokio::test]
    async fn a_switch_is_for_those_who_asked_and_what_follows_is_the_tunnels() {
        for switch in [false, true] {
            let (mut connection, mut origin) = connection();
            ask(&mut connection, &mut origin, "GET").await;
            origin.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nfirst").await.unwrap();
            match look(&mut connection, switch) {
                Poll::Ready(Ok(head)) if switch => {
                    assert_eq!(read(&mut connection, &head).0, 101);
                    assert!(!connection.is_idle());
                    assert_eq!(connection.into_parts().1, "first");
                }
                Poll::Ready(Err(Failure::Sent(AnswerError::Malformed(Reason::UnaskedSwitch)))) if !switch => {
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Endless ones would hold the request for ever.
    #[tokio::test]
    async fn interim_answers_have_an_end() {
        let (mut connection, mut origin) = connection();
        ask(&mut connection, &mut origin, "GET").await;
        for _ in 0..MAX_INTERIM {
            origin.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.unwrap();
        }
        assert!(look(&mut connection, false).is_pending());
        origin.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.unwrap();
        let failure = look(&mut connection, false);
        let many = |error: &AnswerError| error.reason() == Some(Reason::ManyInterim);
        assert!(matches!(&failure, Poll::Ready(Err(Failure::Sent(error))) if many(error)), "{failure:?}");
    }

    #[tokio::test]
    async fn another_reason_phrase_is_passed_on() {
        for (line, reason) in
            [("200 OK", None), ("200 Fine", Some("Fine")), ("299 x y", Some("x y")), ("404", Some(""))]
        {
            let (mut connection, mut origin) = connection();
            ask(&mut connection, &mut origin, "GET").await;
            origin
                .write_all(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let Poll::Ready(Ok(head)) = look(&mut connection, false) else { panic!("no answer") };
            let response = connection.read_head(&head, HeaderMap::new()).unwrap();
            let passed = response.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
            assert_eq!(passed, reason.map(str::as_bytes), "{line}");
        }
    }
}
