//! What a recipient is sent, and what is kept of its answer.

use bytes::Bytes;
use data_encoding::BASE64;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::store::recipients::{Due, Letter};
use crate::store::time;

/// Characters of a line of a mail's text (RFC 2045, 6.8).
const MAIL_LINE: usize = 76;
/// Most of a receipt that is kept, characters.
const MOST_RECEIPT: usize = 500;

/// What a recipient is asked to do (11 CCR 7026(f)(2), (3)).
const DIRECTION: &str = "The consumer has opted out of the sale and sharing of personal information. Comply with the \
                         opt-out for the personal information that was sold to you or shared with you from \
                         `requested_at` to `received_until`, and forward it to every person to whom you disclosed \
                         or shared that information in that time (11 CCR 7026(f)).";

/// The mail, in ASCII (RFC 5322, 2045). It is the same on every try but for its date.
pub(super) fn letter(message: &Due, (from, to): (&str, &str), now: Timestamp) -> Vec<u8> {
    let letter = Letter {
        task: &message.id,
        reference: &message.reference,
        vendors: &message.vendors,
        requested_us: message.requested_us,
        effective_us: message.effective_us,
        until_us: message.until_us,
        account: Some(&message.who),
    };
    let (_, domain) = from.rsplit_once('@').unwrap_or_default();
    let mut text = format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: {}\r\nDate: {}\r\nMessage-ID: <{}@{domain}>\r\n\
         Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n",
        letter.subject(),
        now.strftime("%a, %d %b %Y %H:%M:%S +0000"),
        message.id,
    );
    let coded = BASE64.encode(letter.text().replace('\n', "\r\n").as_bytes());
    for line in coded.as_bytes().chunks(MAIL_LINE) {
        text.extend(line.iter().copied().map(char::from));
        text += "\r\n";
    }
    text.into_bytes()
}

/// The message. The same bytes on every try.
pub(super) fn body(message: &Due) -> Bytes {
    let who = match std::str::from_utf8(&message.who) {
        Ok(account) => json!({ "account": account }),
        Err(_) => json!({ "account_base64": BASE64.encode(&message.who) }),
    };
    let text = json!({
        "type": "optout.recorded",
        "timestamp": time::in_full(message.effective_us),
        "data": {
            "id": message.id,
            "recipient": message.recipient,
            "reference": message.reference,
            "site": message.site,
            "vendors": message.vendors,
            "requested_at": time::in_full(message.requested_us),
            "effective_at": time::in_full(message.effective_us),
            "received_until": time::in_full(message.until_us),
            "who": who,
            "direction": DIRECTION,
        },
    });
    Bytes::from(text.to_string())
}

/// The status, and the `receipt` of an answer that is JSON and has one.
pub(super) fn receipt(status: StatusCode, answer: &[u8]) -> String {
    let said = serde_json::from_slice::<Value>(answer).ok();
    let said = said.as_ref().and_then(|answer| answer.get("receipt")).and_then(Value::as_str);
    match said {
        Some(receipt) => format!("HTTP {}: {}", status.as_u16(), short(receipt)),
        None => format!("HTTP {}", status.as_u16()),
    }
}

/// A text of somebody else's, fit for a list.
pub(super) fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_RECEIPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a recipient answers is shown to people: bounded, on one line.
    #[test]
    fn a_receipt_is_kept_as_far_as_it_fits_a_list() {
        let of = |answer: &str| receipt(StatusCode::ACCEPTED, answer.as_bytes());
        assert_eq!(of(r#"{"receipt":"r-1\u001b[31m\n"}"#), "HTTP 202: r-1 [31m ");
        for nothing in ["", "ok", "[]", r#"{"receipt":7}"#] {
            assert_eq!(of(nothing), "HTTP 202", "{nothing}");
        }
        let long = format!(r#"{{"receipt":"{}"}}"#, "é".repeat(9_000));
        assert_eq!(of(&long).chars().count(), MOST_RECEIPT + "HTTP 202: ".len());
    }
}
