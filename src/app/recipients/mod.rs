//! Tells the recipients of opt-outs, and keeps what that needs up to date: a task of the background threads.
//!
//! A message is a `POST` after Standard Webhooks 1.0.0: `webhook-id` is the same on every try, `webhook-timestamp` is
//! the try's, and `webhook-signature` is `v1a,` with the Ed25519 signature of both and the body by the key that
//! `optgate ledger key` prints. A 2xx is the receipt. What fails is tried again after a growing pause, for three days;
//! 410 says that no more are wanted. While a recipient fails, or takes its time, its other messages wait, and nobody
//! else's do.
//!
//! A mail, where `[mail]` names a server, has one `Message-ID` on every try; what the server said when it took it is the
//! receipt. One whose mailbox it refuses for good is a person's to see to; all else is tried again like a message.

mod message;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::{Method, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;
use tokio::sync::watch;

use self::message::{body, letter, receipt, short};
use super::outward;
use super::pauses;
use super::smtp::{self, NotTaken};
use crate::config::{Mail, Recipient, Settings, Way, Webhook};
use crate::edge::downstream::connection;
use crate::edge::{House, Phase};
use crate::privacy::Standing;
use crate::store::recipients::{Due, Failed, RecipientsError, Recorded, Settled};
use crate::store::{Store, time};

/// Longest time between two rounds: how old a sighting may be that a crash takes along.
const ROUND: Duration = Duration::from_secs(60);
/// Longest time for one message.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest time for one mail, whose server may look at it before it takes it.
const MAIL_PATIENCE: Duration = Duration::from_secs(120);
/// Largest answer that is read.
const MOST_BYTES: usize = 64 << 10;
/// The pause after the first failure; it doubles with each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// Shortest time between two rounds that nobody asked for.
const LEAST_WAIT: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(4 * 3_600);
/// Longest time for which a recipient that fails is asked nothing at all.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Messages to one recipient in one go.
const AT_ONCE: i64 = 64;
/// How long one recipient's go may last before the rest is left to its next, by the settings of then.
const LONG: Duration = Duration::from_secs(20);
/// How long a request may wait for its own record before an earlier one of its account is taken for it.
const OWN_RECORD_US: i64 = 3_600 * 1_000_000;
/// How long after a request its record is looked for every second.
const SOON_US: i64 = 60 * 1_000_000;
/// Between two rounds that prune.
const DAY: Duration = Duration::from_secs(86_400);

/// Works until the process no longer serves: then another one does this.
pub(super) async fn tell(house: Arc<House>, phase: watch::Receiver<Phase>) {
    tokio::select! {
        () = Teller::of(house).rounds() => {}
        () = connection::not_serving(phase) => {}
    }
}

struct Teller {
    house: Arc<House>,
    /// Recipients that failed, and until when they are left alone.
    waits: HashMap<String, Instant>,
    /// Messages on their way, in one go for each recipient: nobody waits for another's.
    under_way: FuturesUnordered<BoxFuture<'static, Went>>,
    /// Who has one.
    busy: HashSet<String>,
    pruned: Option<Instant>,
}

/// What came of a recipient's go: its name, and how long it is to be left alone, if it failed.
type Went = (String, Result<Option<Duration>, RecipientsError>);

impl Teller {
    fn of(house: Arc<House>) -> Self {
        let (waits, under_way, busy) = Default::default();
        Self { house, waits, under_way, busy, pruned: None }
    }

    async fn rounds(mut self) {
        let mut failing = false;
        loop {
            let wait = match self.round().await {
                Ok(wait) => {
                    failing = false;
                    wait
                }
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "recipients cannot be told just now");
                    }
                    failing = true;
                    ROUND
                }
            };
            let store = self.house.store.clone();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = store.recipients().changed() => {}
                Some((name, went)) = self.under_way.next() => self.came_back(name, went),
            }
        }
    }

    /// A recipient's go is over.
    fn came_back(&mut self, name: String, went: Result<Option<Duration>, RecipientsError>) {
        self.busy.remove(&name);
        let pause = went.unwrap_or_else(|error| {
            tracing::error!(recipient = name, %error, "what came of a message could not be kept");
            Some(LONGEST_WAIT)
        });
        if let Some(pause) = pause {
            self.waits.insert(name, Instant::now() + pause);
        }
    }

    /// Everything there is to do; how long until there is more.
    async fn round(&mut self) -> Result<Duration, RecipientsError> {
        let settings = Arc::clone(&self.house.snapshot.load().settings);
        let store = self.house.store.clone();
        let recipients = store.recipients();
        recipients.keep_sightings().await?;
        let awaited = find_records(&store).await?;
        recipients.plan(&settings).await?;
        let wait = self.send(&settings).await?;
        recipients.count().await?;
        if let Some(keep) = settings.store.retention
            && self.pruned.is_none_or(|at| at.elapsed() >= DAY)
        {
            let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
            recipients.prune(time::now_us().saturating_sub(keep)).await?;
            self.pruned = Some(Instant::now());
        }
        Ok(if awaited { wait.min(PAUSE) } else { wait })
    }

    /// Has what is due sent, to all recipients at once, but for those who are being told and those who are left alone; how
    /// long until the next message. One whose recipient is no longer in the settings is no reason to hurry.
    async fn send(&mut self, settings: &Arc<Settings>) -> Result<Duration, RecipientsError> {
        self.waits.retain(|_, until| *until > Instant::now());
        let mut wait = ROUND;
        for recipient in settings.recipients.iter().filter(|r| Route::of(r, settings).is_some()) {
            let (name, way) = (&recipient.name, recipient.way.word());
            if self.busy.contains(name) {
                continue;
            }
            let Some(due) = self.house.store.recipients().next_due(name.clone(), way).await? else {
                continue;
            };
            let due = u64::try_from(due.saturating_sub(time::now_us())).unwrap_or(0);
            let left = self
                .waits
                .get(name)
                .map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            let left = left.max(Duration::from_micros(due));
            if left.is_zero() {
                self.busy.insert(name.clone());
                let (sender, recipient) = (Sender(Arc::clone(&self.house)), Arc::clone(recipient));
                let settings = Arc::clone(settings);
                self.under_way.push(Box::pin(async move {
                    let went = sender.send_to(&recipient, &settings).await;
                    (recipient.name.clone(), went)
                }));
            } else {
                wait = wait.min(left);
            }
        }
        Ok(wait.max(LEAST_WAIT))
    }
}

/// Requests whose record nobody named: what a crash left, and what was recorded without waiting. Whether a record is
/// on its way.
async fn find_records(store: &Store) -> Result<bool, RecipientsError> {
    let (mut found, mut awaited) = (Vec::new(), false);
    for pending in store.recipients().pending().await? {
        let age_us = time::now_us().saturating_sub(pending.requested_us);
        awaited |= age_us < SOON_US;
        let standing = store.lookup(&pending.subject);
        if standing == Standing::NotLoaded || !standing.is_out() {
            continue;
        }
        // One that cannot be read is looked for again.
        let Ok(Some(last)) = store.last_record(&pending.subject).await else { continue };
        let own = last.time_us >= pending.requested_us || age_us > OWN_RECORD_US;
        if last.is_opt_out() && own {
            let (subject, reference, effective_us) = (pending.subject, last.reference, last.time_us);
            found.push(Recorded { subject, reference, effective_us });
        }
    }
    if !found.is_empty() {
        store.recipients().recorded(found).await?;
    }
    Ok(awaited)
}

/// Sends messages.
struct Sender(Arc<House>);

impl Sender {
    /// Sends a recipient's messages in turn, up to one that fails, and no more once that has taken [`LONG`]. How long it is to
    /// be left alone, if one failed.
    async fn send_to(
        &self,
        recipient: &Recipient,
        settings: &Settings,
    ) -> Result<Option<Duration>, RecipientsError> {
        let Some(route) = Route::of(recipient, settings) else { return Ok(None) };
        let (recipients, name) = (self.0.store.recipients(), recipient.name.as_str());
        let due = recipients.due(name.to_owned(), recipient.way.word(), AT_ONCE).await?;
        let begun = Instant::now();
        for message in due {
            if begun.elapsed() >= LONG {
                break;
            }
            let (settled, pause) = match self.take(&message, &route).await {
                Ok(receipt) => (Settled::Told(receipt), None),
                Err(Refusal { why, gone: true, .. }) => {
                    (Settled::Failed(Failed { why, next_us: None }), None)
                }
                Err(Refusal { why, of_this_one, .. }) => {
                    let pause = pause(message.tries);
                    let next_us =
                        time::now_us().saturating_add(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX));
                    let wait = if of_this_one { PAUSE } else { pause.min(LONGEST_WAIT) };
                    (Settled::Failed(Failed { why, next_us: Some(next_us) }), Some(wait))
                }
            };
            if let Settled::Failed(Failed { why, .. }) = &settled {
                tracing::warn!(recipient = name, task = message.id, "a recipient was not told: {why}");
            }
            recipients.tried(message.id, settled).await?;
            if pause.is_some() {
                return Ok(pause);
            }
        }
        Ok(None)
    }

    /// Sends one message by its way; its receipt.
    async fn take(&self, message: &Due, route: &Route<'_>) -> Result<String, Refusal> {
        match route {
            Route::Webhook(webhook) => self.deliver(message, webhook).await,
            Route::Mail(mail, to) => hand_in(message, mail, to).await,
        }
    }

    /// Posts one message; its receipt.
    async fn deliver(&self, message: &Due, webhook: &Webhook) -> Result<String, Refusal> {
        let body = body(message);
        let timestamp = Timestamp::now().as_second().to_string();
        let signed = [message.id.as_bytes(), b".", timestamp.as_bytes(), b".", &body].concat();
        let request = || -> anyhow::Result<_> {
            let signature = BASE64.encode(&self.0.store.recipients().sign(&signed)?);
            Ok(outward::request(Method::POST, &webhook.url)
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::ACCEPT, "application/json")
                .header("webhook-id", &message.id)
                .header("webhook-timestamp", &timestamp)
                .header("webhook-signature", format!("v1a,{signature}"))
                .body(Full::new(body.clone()))?)
        };
        let request = request().map_err(|error| Refusal::unreached(format!("{error:#}")))?;
        let asked = outward::ask(&webhook.url, webhook.roots.as_deref(), request, MOST_BYTES);
        match tokio::time::timeout(PATIENCE, asked).await {
            Err(_) => Err(Refusal::unreached(format!("no answer within {} s", PATIENCE.as_secs()))),
            Ok(Err(error)) => Err(Refusal::unreached(short(&format!("{error:#}")))),
            // A 2xx is the receipt, whatever comes behind it.
            Ok(Ok((status, answer))) if status.is_success() => {
                Ok(receipt(status, &answer.unwrap_or_default()))
            }
            Ok(Ok((status, _))) => Err(Refusal::answered(status)),
        }
    }
}

/// How a recipient is told by itself.
enum Route<'s> {
    Webhook(&'s Webhook),
    /// By this server, to this address.
    Mail(&'s Mail, &'s str),
}

impl<'s> Route<'s> {
    /// `None` where a person tells it.
    fn of(recipient: &'s Recipient, settings: &'s Settings) -> Option<Self> {
        match &recipient.way {
            Way::Webhook(webhook) => Some(Self::Webhook(webhook)),
            Way::Mail(to) => settings.mail.as_ref().map(|mail| Self::Mail(mail, to)),
        }
    }
}

/// Hands one mail in; what its server said.
async fn hand_in(message: &Due, mail: &Mail, to: &str) -> Result<String, Refusal> {
    let letter = letter(message, (&mail.from, to), Timestamp::now());
    let refused = |why: &str, gone, of_this_one| Err(Refusal { why: short(why), gone, of_this_one });
    match tokio::time::timeout(MAIL_PATIENCE, smtp::hand_in(mail, to, &letter)).await {
        Err(_) => {
            refused(&format!("the mail server was silent for {} s", MAIL_PATIENCE.as_secs()), false, false)
        }
        Ok(Err(NotTaken::Server(why))) => refused(&why, false, false),
        Ok(Err(NotTaken::This(why))) => refused(&why, false, true),
        Ok(Err(NotTaken::Mailbox(why))) => refused(&why, true, true),
        Ok(Ok(said)) => Ok(short(&said)),
    }
}

/// Why a message was not taken.
struct Refusal {
    why: String,
    /// No more are wanted at all.
    gone: bool,
    /// The recipient is there, so that it may take others.
    of_this_one: bool,
}

impl Refusal {
    fn unreached(why: String) -> Self {
        Self { why, gone: false, of_this_one: false }
    }

    fn answered(status: StatusCode) -> Self {
        let refused = status.is_client_error()
            && !matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let word = if refused { "it refused with" } else { "it answered" };
        Self {
            why: format!("{word} {}", status.as_u16()),
            gone: status == StatusCode::GONE,
            of_this_one: refused,
        }
    }
}

/// Doubled with each failure; a part of it at random, so that many do not come at once.
fn pause(failures: u32) -> Duration {
    let whole = pauses::doubled(PAUSE, failures, LONGEST_PAUSE);
    let mut byte = [0];
    // Without chance they come at once.
    let _ = getrandom::fill(&mut byte);
    whole - whole.mul_f64(f64::from(byte[0]) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_are_not_all_the_same() {
        for failures in 0..40 {
            let whole = Duration::from_secs(1 << failures.min(16)).min(LONGEST_PAUSE);
            let pause = pause(failures);
            assert!(pause <= whole && pause >= whole.mul_f64(0.75), "{failures}: {pause:?}");
        }
    }
}
