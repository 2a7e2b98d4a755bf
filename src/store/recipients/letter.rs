//! What is written to a recipient in a mail, by a person or by the server.

use data_encoding::BASE64;

use crate::store::time;

/// What a mail tells. Times in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// The task's id, by which it is answered.
    pub task: &'a str,
    /// Reference of the record.
    pub reference: &'a str,
    /// Registry ids of the recipient's vendors that were on the site.
    pub vendors: &'a [String],
    /// When it was asked for.
    pub requested_us: i64,
    /// When it took effect.
    pub effective_us: i64,
    /// Until when data went to the recipient.
    pub until_us: i64,
    /// What the site calls the account, if that is kept.
    pub account: Option<&'a [u8]>,
}

impl Letter<'_> {
    /// Its subject, in ASCII.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("Opt-out of sale and sharing, reference {}", self.reference)
    }

    /// Its text, which names the account.
    #[must_use]
    pub fn text(&self) -> String {
        let account = match self.account.map(std::str::from_utf8) {
            Some(Ok(account)) => account.to_owned(),
            Some(Err(_)) => format!("{} (base64)", BASE64.encode(self.account.unwrap_or_default())),
            None => "(not kept; name it by the reference)".to_owned(),
        };
        let (requested, effective, until) = (
            time::to_the_second(self.requested_us),
            time::to_the_second(self.effective_us),
            time::to_the_second(self.until_us),
        );
        let mut text = format!(
            "The consumer whom we know as\n\n    {account}\n\nhas opted out of the sale and sharing of personal \
             information: requested {requested}, in effect {effective}.\n"
        );
        if !self.vendors.is_empty() {
            text += &format!("This concerns what you received by: {}.\n", self.vendors.join(", "));
        }
        text += &format!(
            "\nPlease comply with the opt-out for the personal information that you received from {requested} to {until}, \
             and forward it to every person to whom you disclosed or shared that information in that time (11 CCR \
             7026(f)). Please confirm, naming {}.\n",
            self.task
        );
        text
    }
}
