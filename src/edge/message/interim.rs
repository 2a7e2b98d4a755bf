//! Interim answers (RFC 9110, 15.2): what an origin says before its answer is passed on to the visitor.
//!
//! Between HTTP/1.1 and HTTP/1.1 only: hyper shows nobody those of an HTTP/2 origin, and can send none over HTTP/2.

use http::StatusCode;
use http::header::CONTENT_LENGTH;

use super::{hop_by_hop, wire};
use crate::edge::exchange::Exchange;
use crate::edge::strict::Link;
use crate::enforce::interim;
use crate::enforce::names::Names;
use crate::enforce::response::Judge;
use crate::privacy::Mode;

/// Where the interim answers to one request go.
#[derive(Debug, Clone, Copy)]
pub struct Interim<'a> {
    /// The visitor's connection.
    link: &'a Link,
    x: &'a Exchange,
    /// Whether the origin's `100 Continue` goes too: hyper says it itself to a visitor who waits for it.
    with_continue: bool,
}

impl<'a> Interim<'a> {
    /// To the visitor behind this connection, who speaks HTTP/1.1. `waits`: for leave to send the request's body.
    #[must_use]
    pub const fn new(link: &'a Link, x: &'a Exchange, waits: bool) -> Self {
        Self { link, x, with_continue: !waits }
    }

    /// Passes one on, without what is not for this visitor. `head`: as it came, found well-formed.
    pub fn pass(&self, head: &[u8]) {
        let Some((status, mut headers)) = wire::read_answer(head) else { return };
        if status == StatusCode::CONTINUE && !self.with_continue {
            return;
        }
        let names = Names::of_answer(&headers);
        hop_by_hop::remove_from_answer(&mut headers, names);
        // It has no body (RFC 9110, 8.6).
        headers.remove(CONTENT_LENGTH);
        let x = self.x;
        let session = x.snapshot.settings.account.session.as_ref();
        if let Some(session) = session {
            headers.remove(&session.header);
        }
        if x.mode == Mode::Enforce {
            // The answer itself may say that its visitor's account has opted out.
            let opted_out = x.decision.opted_out() || session.is_some();
            // The site's own address is enough to tell whose a reference is.
            let (page, lists) = (x.address("/"), x.page_lists());
            let judge = Judge {
                policy: &x.rule().policy,
                lists: lists.as_ref(),
                page: page.as_ref(),
                guarded: false,
            };
            interim::apply(&mut headers, opted_out.then_some(&judge));
        }
        self.link.tell(&wire::write_answer(status, &headers));
    }
}
