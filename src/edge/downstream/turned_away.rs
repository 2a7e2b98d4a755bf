//! Connections over a limit: each gets a short answer and no more of our time.
//!
//! A visitor who posts an opt-out must not be left with a closed connection and the belief that it was taken. So a
//! connection in clear is told that it was not, without a task, without waiting and without reading a request. The
//! answer must not be lost to a reset, which is what the system sends for whatever arrives at a closed socket
//! (RFC 9112, 9.6): a socket is closed for writing at once, and altogether a while later.
//!
//! Cost: two system calls, and two more at the end; at most 64 sockets a core are held.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::socket::Socket;
use crate::edge::timer;

/// What is said. A status whose date may be missing (RFC 9110, 6.6.1).
const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 88\r\nRetry-After: 5\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n\
    Too many connections just now. Nothing was read or saved: please try again in a moment.\n";

/// Sockets that are held for their visitors to read. In a flood the oldest goes.
const HELD: usize = 64;

/// For so long at least where there is room.
const LONG_ENOUGH: Duration = Duration::from_secs(2);

/// Bytes that are taken from a socket before it is closed: a head and the form of an opt-out fit well.
const TAKEN: usize = 16 * 1024;

/// The sockets of one core whose visitors were turned away.
#[derive(Debug, Default)]
pub struct TurnedAway(RefCell<VecDeque<(Instant, Socket)>>);

impl TurnedAway {
    /// Tells a visitor to come again. Whatever cannot be sent at once is not.
    pub fn answer(&self, socket: Socket) {
        let said = send(&socket, ANSWER, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        if said.is_err() || shutdown(&socket, Shutdown::Write).is_err() {
            return;
        }
        let mut held = self.0.borrow_mut();
        let oldest = if held.len() < HELD { None } else { held.pop_front() };
        held.push_back((timer::now(), socket));
        drop(held);
        if let Some((_, oldest)) = oldest {
            close(&oldest);
        }
    }

    /// Closes those that have been held for long enough; called now and then.
    pub fn expire(&self) {
        let now = timer::now();
        let mut held = self.0.borrow_mut();
        while let Some((_, socket)) =
            held.pop_front_if(|(since, _)| now.saturating_duration_since(*since) >= LONG_ENOUGH)
        {
            close(&socket);
        }
    }
}

/// Takes what has come, so that the system has no reason for a reset when the socket is dropped behind this.
fn close(socket: &Socket) {
    let mut taken = [0; TAKEN];
    // How the visitor went is its own affair.
    let _ = recv(socket, &mut taken, RecvFlags::DONTWAIT);
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn the_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{}", body.len());
    }

    /// RFC 9112, 9.6: the visitor has sent a request that nobody reads, and has its answer all the same, without a reset,
    /// also when others push it out.
    #[tokio::test]
    async fn who_has_sent_a_request_reads_the_answer_and_no_reset() {
        let turned_away = TurnedAway::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut visitors = Vec::new();
        for _ in 0..HELD + 8 {
            let mut visitor = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            visitor.write_all(b"POST /privacy-choices/opt-out HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            turned_away.answer(Socket::Tcp(accepted));
            visitors.push(visitor);
        }
        assert_eq!(turned_away.0.borrow().len(), HELD);
        for mut visitor in visitors {
            let mut said = Vec::new();
            visitor.read_to_end(&mut said).unwrap();
            assert_eq!(said, ANSWER);
        }
        turned_away.expire();
        assert_eq!(turned_away.0.borrow().len(), HELD, "not yet");
        turned_away.0.borrow_mut().iter_mut().take(9).for_each(|(since, _)| *since -= LONG_ENOUGH * 2);
        turned_away.expire();
        assert_eq!(turned_away.0.borrow().len(), HELD - 9);
    }
}
