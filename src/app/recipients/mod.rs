//! Tells the recipients of opt-outs, and keeps what that needs up to date: a task of the background threads.
//!
//! A message is a `POST` after Standard Webhooks 1.0.0: `webhook-id` is the same on every try, `webhook-timestamp` is
//! the try's, and `webhook-signature` is `v1a,` with the Ed25519 signature of both and the body by the key that
//! `optgate ledger key` prints. A 2xx is the receipt. What fails is tried again after a growing pause, for three days;
//! 410 says that no more are wanted. While a recipient fails its other messages wait, and nobody else's do.
//!
//! A mail, where `[mail]` names a server, has one `Message-ID` on every try; what the server said when it took it is the
//! receipt. One whose mailbox it refuses for good is a person's to see to; all else is tried again like a message.

mod message;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use futures_util::future::join_all;
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
use crate::store::time;

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
/// Messages to one recipient in a round.
const IN_A_ROUND: i64 = 64;
/// How long one recipient's part of a round may go on before the next of its messages is left to the next round.
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
        () = Teller { house, waits: HashMap::new(), pruned: None }.rounds() => {}
        () = connection::not_serving(phase) => {}
    }
}

struct Teller {
    house: Arc<House>,
    /// Recipients that failed, and until when they are left alone.
    waits: HashMap<String, Instant>,
    pruned: Option<Instant>,
}

impl Teller {
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
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.house.store.recipients().changed() => {}
            }
        }
    }

    /// Everything there is to do; how long until there is more.
    async fn round(&mut self) -> Result<Duration, RecipientsError> {
        let settings = Arc::clone(&self.house.snapshot.load().settings);
        let store = self.house.store.clone();
        let recipients = store.recipients();
        recipients.keep_sightings().await?;
        let awaited = self.find_records().await?;
        recipients.plan(&settings).await?;
        let more = self.send(&settings).await?;
        recipients.count().await?;
        if let Some(keep) = settings.store.retention
            && self.pruned.is_none_or(|at| at.elapsed() >= DAY)
        {
            let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
            recipients.prune(time::now_us().saturating_sub(keep)).await?;
            self.pruned = Some(Instant::now());
        }
        match (more, awaited) {
            (true, _) => Ok(Duration::ZERO),
            (_, true) => Ok(PAUSE),
            _ => self.until_next(&settings).await,
        }
    }

    /// How long until the next message. One whose recipient is left alone, or no longer in the settings, is no reason to
    /// hurry.
    async fn until_next(&self, settings: &Settings) -> Result<Duration, RecipientsError> {
        let mut wait = ROUND;
        for recipient in settings.recipients.iter().filter(|r| Route::of(r, settings).is_some()) {
            let way = recipient.way.word();
            if let Some(due) = self.house.store.recipients().next_due(recipient.name.clone(), way).await? {
                let due = u64::try_from(due.saturating_sub(time::now_us())).unwrap_or(0);
                let left = self.waits.get(&recipient.name);
                let left =
                    left.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
                wait = wait.min(left.max(Duration::from_micros(due)));
            }
        }
        Ok(wait.max(LEAST_WAIT))
    }

    /// Requests whose record nobody named: what a crash left, and what was recorded without waiting. Whether a record is
    /// on its way.
    async fn find_records(&self) -> Result<bool, RecipientsError> {
        let store = &self.house.store;
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

    /// Sends what is due, to all recipients at once. Whether there may be more at once.
    async fn send(&mut self, settings: &Settings) -> Result<bool, RecipientsError> {
        self.waits.retain(|_, until| *until > Instant::now());
        let waits = |recipient: &Recipient| self.waits.contains_key(&recipient.name);
        let ready =
            settings.recipients.iter().filter(|recipient| !waits(recipient)).filter_map(|recipient| {
                Some(self.send_to((&recipient.name, recipient.way.word()), Route::of(recipient, settings)?))
            });
        let mut more = false;
        let sent = join_all(ready).await;
        for one in sent {
            let (name, pause, full) = one?;
            more |= full && pause.is_none();
            if let Some(pause) = pause {
                self.waits.insert(name, Instant::now() + pause);
            }
        }
        Ok(more)
    }

    /// Sends a recipient's messages in turn, up to one that fails, and no more once that has taken [`LONG`]: all others wait
    /// for the slowest.
    async fn send_to(
        &self,
        (name, way): (&str, &'static str),
        route: Route<'_>,
    ) -> Result<(String, Option<Duration>, bool), RecipientsError> {
        let recipients = self.house.store.recipients();
        let due = recipients.due(name.to_owned(), way, IN_A_ROUND).await?;
        let full = i64::try_from(due.len()).unwrap_or(i64::MAX) >= IN_A_ROUND;
        let begun = Instant::now();
        for message in due {
            if begun.elapsed() >= LONG {
                return Ok((name.to_owned(), None, true));
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
                return Ok((name.to_owned(), pause, full));
            }
        }
        Ok((name.to_owned(), None, full))
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
            let signature = BASE64.encode(&self.house.store.recipients().sign(&signed)?);
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
            Ok(Ok((status, answer))) if status.is_success() => Ok(receipt(status, &answer)),
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
