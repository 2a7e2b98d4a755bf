//! The open loop: requests leave when they are due, whether or not earlier ones have been answered, and each
//! answer's time counts from when its request was due. A slow server cannot slow the schedule down and so hide
//! how slow it is ("coordinated omission").
//!
//! Requests to the two servers alternate, in turns of who goes first. All of it is one thread.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};

use super::stats::BLOCKS;
use super::target::{Connection, Target};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Before a request is due the clock is watched without a pause: timers are good to a millisecond.
const NEAR: Duration = Duration::from_millis(2);

/// Most different errors that are told apart.
const MOST_KINDS: usize = 20;

/// What is asked for.
#[derive(Debug)]
pub struct Asked {
    /// Path and query.
    pub path: Uri,
    /// Fields beside `Host`, or with it.
    pub headers: HeaderMap,
}

/// One of the two servers, its connections and its answers.
pub struct Side {
    target: Target,
    asked: Rc<Asked>,
    /// Most connections.
    most: usize,
    idle: RefCell<Vec<Connection>>,
    open: Cell<usize>,
    /// Due, without a connection.
    waiting: RefCell<VecDeque<Order>>,
    under_way: Cell<usize>,
    /// Status that an answer must have.
    expected: Cell<StatusCode>,
    answers: RefCell<Vec<Answer>>,
    errors: RefCell<BTreeMap<String, u64>>,
    /// Connections opened.
    opened: Cell<u64>,
    last_answer: Cell<Option<Instant>>,
}

/// A request on the schedule.
#[derive(Debug, Clone, Copy)]
struct Order {
    due: Instant,
    /// Piece of the schedule.
    block: usize,
}

/// A good answer.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// Nanoseconds from when the request was due to the answer's head.
    pub first: u64,
    /// The same to its last byte.
    pub last: u64,
    /// Bytes of its body, as they were sent.
    pub body: u64,
    /// Piece of the schedule.
    pub block: usize,
}

/// What came of a schedule on one side.
#[derive(Debug, Default)]
pub struct Heard {
    /// Good answers.
    pub answers: Vec<Answer>,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
    /// Connections opened.
    pub opened: u64,
    /// Bytes sent and received, TLS included.
    pub wire: (u64, u64),
    /// From the first request's due time to the last answer.
    pub took: Duration,
}

impl Side {
    /// A server of which nothing has been asked yet.
    pub fn new(target: Target, asked: Rc<Asked>, most: usize) -> Rc<Self> {
        Rc::new(Self {
            target,
            asked,
            most,
            idle: RefCell::default(),
            open: Cell::new(0),
            waiting: RefCell::default(),
            under_way: Cell::new(0),
            expected: Cell::new(StatusCode::OK),
            answers: RefCell::default(),
            errors: RefCell::default(),
            opened: Cell::new(0),
            last_answer: Cell::new(None),
        })
    }

    /// The server.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Asks once: the status of the answer.
    ///
    /// # Errors
    /// The server cannot be reached or does not answer.
    pub async fn probe(&self) -> anyhow::Result<StatusCode> {
        let asking = async {
            let mut connection = self.target.connect().await?;
            let url = &self.target.url;
            let no_answer = || format!("no answer from {url} to GET {}", self.asked.path);
            let response = connection.send_request(self.request()).await.with_context(no_answer)?;
            let status = response.status();
            response.into_body().collect().await.with_context(no_answer)?;
            Ok(status)
        };
        let late = || format!("no answer from {} in {} s", self.target.url, PATIENCE.as_secs());
        tokio::time::timeout(PATIENCE, asking).await.with_context(late)?
    }

    /// From now on any other status is an error.
    pub fn must_answer(&self, status: StatusCode) {
        self.expected.set(status);
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.asked.path.clone();
        *request.headers_mut() = self.asked.headers.clone();
        let host = request.headers_mut().entry(header::HOST);
        host.or_insert_with(|| self.target.authority.clone());
        request
    }

    fn send(self: &Rc<Self>, order: Order) {
        self.under_way.update(|n| n + 1);
        let idle = self.idle.borrow_mut().pop();
        if idle.is_none() && self.open.get() >= self.most {
            self.waiting.borrow_mut().push_back(order);
            return;
        }
        if idle.is_none() {
            self.open.update(|n| n + 1);
        }
        tokio::task::spawn_local(Rc::clone(self).work(idle, order));
    }

    /// Has requests answered over one connection while any wait.
    async fn work(self: Rc<Self>, mut connection: Option<Connection>, mut order: Order) {
        loop {
            let asked = tokio::time::timeout(PATIENCE, self.ask(&mut connection, order)).await;
            let asked = asked.unwrap_or_else(|_| {
                connection = None;
                Err(format!("no answer in {} s", PATIENCE.as_secs()))
            });
            match asked {
                Ok(answer) => self.answers.borrow_mut().push(answer),
                Err(error) => self.failed(error),
            }
            self.last_answer.set(Some(Instant::now()));
            self.under_way.update(|n| n - 1);
            match self.waiting.borrow_mut().pop_front() {
                Some(next) => order = next,
                None => break,
            }
        }
        match connection {
            Some(connection) => self.idle.borrow_mut().push(connection),
            None => self.open.update(|n| n - 1),
        }
    }

    async fn ask(&self, connection: &mut Option<Connection>, order: Order) -> Result<Answer, String> {
        let kept = match connection.take() {
            Some(mut kept) => kept.ready().await.is_ok().then_some(kept),
            None => None,
        };
        if let Some(mut kept) = kept {
            match self.exchange(&mut kept, order).await {
                // A server may close a kept connection just as a request leaves; browsers ask again, too.
                Err(Fault::Unanswered(_)) => {}
                Err(Fault::Answer(why)) => return Err(why),
                Ok(answer) => {
                    *connection = Some(kept);
                    return Ok(answer);
                }
            }
        }
        self.opened.update(|n| n + 1);
        let mut fresh = self.target.connect().await.map_err(|error| format!("{error:#}"))?;
        match self.exchange(&mut fresh, order).await {
            Ok(answer) => {
                *connection = Some(fresh);
                Ok(answer)
            }
            Err(Fault::Unanswered(why) | Fault::Answer(why)) => Err(why),
        }
    }

    async fn exchange(&self, connection: &mut Connection, order: Order) -> Result<Answer, Fault> {
        let unanswered = |error: hyper::Error| Fault::Unanswered(format!("no answer: {error}"));
        let mut response = connection.send_request(self.request()).await.map_err(unanswered)?;
        let first = since(order.due);
        let mut body = 0;
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(|error| Fault::Answer(format!("the body broke off: {error}")))?;
            body += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        let status = response.status();
        if status != self.expected.get() {
            return Err(Fault::Answer(format!("answered {status}, not {}", self.expected.get())));
        }
        Ok(Answer { first, last: since(order.due), body, block: order.block })
    }

    fn give_up_waiting(&self) {
        for _ in self.waiting.take() {
            self.under_way.update(|n| n - 1);
            self.failed("never sent: all connections were taken".to_owned());
        }
    }

    fn failed(&self, why: String) {
        let mut errors = self.errors.borrow_mut();
        let why =
            if errors.len() < MOST_KINDS || errors.contains_key(&why) { why } else { "others".to_owned() };
        *errors.entry(why).or_default() += 1;
    }

    /// What was heard since the last time, of a schedule that began at an instant.
    fn heard(&self, begun: Instant) -> Heard {
        let traffic = &self.target.traffic;
        Heard {
            answers: self.answers.take(),
            errors: self.errors.take(),
            opened: self.opened.take(),
            wire: (traffic.sent.take(), traffic.received.take()),
            took: self.last_answer.take().unwrap_or(begun).saturating_duration_since(begun),
        }
    }
}

/// Why there is no good answer.
enum Fault {
    /// The connection ended before an answer began.
    Unanswered(String),
    /// The answer is not good.
    Answer(String),
}

fn since(due: Instant) -> u64 {
    u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// What came of a schedule.
#[derive(Debug, Default)]
pub struct Measured {
    /// From the server itself.
    pub direct: Heard,
    /// Through Optgate.
    pub proxied: Heard,
    /// How late each request left, nanoseconds.
    pub lags: Vec<u64>,
}

/// Asks both sides for some time at a rate (requests a second and side), and waits for the answers.
pub async fn run(direct: &Rc<Side>, proxied: &Rc<Side>, rate: u32, duration: Duration) -> Measured {
    let pairs = ((duration.as_secs_f64() * f64::from(rate)) as u64).max(1);
    let begun = Instant::now() + NEAR;
    let mut lags = Vec::with_capacity(usize::try_from(pairs * 2).unwrap_or_default());
    for pair in 0..pairs {
        let block = usize::try_from(pair * BLOCKS as u64 / pairs).unwrap_or_default();
        let order = if pair % 2 == 0 { [direct, proxied] } else { [proxied, direct] };
        for (i, side) in order.into_iter().enumerate() {
            // From the beginning, so that roundings do not add up.
            let at = Duration::from_secs_f64((pair * 2 + i as u64) as f64 / (f64::from(rate) * 2.0));
            let due = begun + at;
            wait_until(due).await;
            lags.push(since(due));
            side.send(Order { due, block });
        }
    }
    let given_up = Instant::now() + PATIENCE;
    let under_way = || direct.under_way.get() + proxied.under_way.get() > 0;
    while under_way() {
        if Instant::now() > given_up {
            // What has left ends within its patience.
            direct.give_up_waiting();
            proxied.give_up_waiting();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Measured { direct: direct.heard(begun), proxied: proxied.heard(begun), lags }
}

async fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > NEAR {
            tokio::time::sleep(left - NEAR).await;
        } else {
            // The connections get their turn, and the clock is looked at again.
            tokio::task::yield_now().await;
        }
    }
}
