//! `Expect: 100-continue` (RFC 9110, 10.1.1): the visitor's body is asked for when the origin asks for it.
//!
//! hyper tells the visitor to go on as soon as the body is read. So it is read only after the origin's 100, or
//! after a wait, since an origin may know nothing of expectations.

use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Version, header};
use http_body::Body;

use crate::edge::timer::Deadline;

/// How long an origin may say nothing before the body is sent all the same; clients wait as long for us.
const WAIT: Duration = Duration::from_secs(1);

/// Whether a request waits for leave to send its body; only HTTP/1.1 can be given it here.
pub fn expected<B: Body>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && !request.body().is_end_stream()
        && request.headers().get(header::EXPECT).is_some_and(is_continue)
}

/// Removes an expectation that will not be waited for: it would make the origin wait in vain.
pub fn forget(headers: &mut http::HeaderMap) {
    if headers.get(header::EXPECT).is_some_and(is_continue) {
        headers.remove(header::EXPECT);
    }
}

fn is_continue(value: &http::HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// What the body waits for beside the origin's leave.
#[derive(Debug)]
pub struct Leave(Deadline);

impl Default for Leave {
    fn default() -> Self {
        Self(Deadline::new(WAIT))
    }
}

impl Leave {
    /// Ready when the body is sent all the same.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}
