//! `Expect: 100-continue` (RFC 9110, 10.1.1): the visitor's body is asked for when the origin asks for it.
//!
//! hyper tells the visitor to go on as soon as the body is read. So it is read only after the origin's 100, or
//! after a wait, since an origin may know nothing of expectations.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, StatusCode, Version, header};
use http_body::Body;

use super::timer::Deadline;

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

/// What opens when the origin asks for the body.
#[derive(Debug)]
pub struct Leave {
    state: Arc<Mutex<State>>,
    deadline: Deadline,
}

#[derive(Debug, Default)]
struct State {
    given: bool,
    waiting: Option<Waker>,
}

impl Leave {
    /// Waits for the origin's 100 to this request.
    pub fn of<B>(request: &mut Request<B>) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let told = Arc::clone(&state);
        hyper::ext::on_informational(request, move |answer| {
            if answer.status() == StatusCode::CONTINUE {
                let mut state = told.lock().unwrap_or_else(PoisonError::into_inner);
                state.given = true;
                if let Some(waker) = state.waiting.take() {
                    waker.wake();
                }
            }
        });
        Self { state, deadline: Deadline::new(WAIT) }
    }

    /// Ready when the body may be read.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.given {
            return Poll::Ready(());
        }
        state.waiting = Some(cx.waker().clone());
        drop(state);
        self.deadline.poll(cx)
    }
}
