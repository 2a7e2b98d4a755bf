//! Who is told of an opt-out because it got the consumer's data between the request and its effect
//! (11 CCR 7026(f)(2)).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use url::Url;

use super::key::KeyPath;
use super::load::Merged;
use super::mail::is_address;
use super::meaning::{Problems, readable};
use super::raw::RawRecipient;
use super::{Site, account, sites, written};

/// Longest time for which a recipient may go on getting data: an opt-out takes effect within 15 business days
/// (11 CCR 7026(f)(1)), which are no more than 25 days even around the holidays.
const LONGEST_DELAY: Duration = Duration::from_secs(25 * 86_400);

/// Longest name.
const MOST_NAME: usize = 64;

/// Somebody who gets data of consumers, and how it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Its name, in tasks and messages; no two have one.
    pub name: String,
    /// Names of the sites whose data it gets; empty: of all.
    pub sites: Vec<String>,
    /// Registry ids of the vendors that it stands for.
    pub vendors: Vec<String>,
    /// It gets data that pages do not show, so that it is told of every account's opt-out.
    pub always: bool,
    /// The first day (UTC) on which it got data.
    pub from: Option<Date>,
    /// The last such day.
    pub until: Option<Date>,
    /// How long after the effect data of before still goes to it: it leaves in batches.
    pub delay: Duration,
    /// How it is told.
    pub way: Way,
}

/// How a recipient is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By a signed message to this address.
    Webhook(Webhook),
    /// By a mail to this address, which a person writes where no server is set.
    Mail(String),
}

impl Way {
    /// The word that a task is kept with.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Mail(_) => "mail",
        }
    }
}

/// Where signed messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The address: https, or http on loopback.
    pub url: Url,
    /// The roots that its certificate must lead to; the system's without.
    pub roots: Option<PathBuf>,
}

impl Recipient {
    /// Whether it gets data of a site.
    #[must_use]
    pub fn serves(&self, site: &str) -> bool {
        self.sites.is_empty() || self.sites.iter().any(|name| name == site)
    }
}

/// All of them.
pub(super) fn recipients(
    merged: &Merged,
    sites: &[Arc<Site>],
    problems: &mut Problems<'_>,
) -> Vec<Arc<Recipient>> {
    let written = &merged.raw.recipients;
    let top = KeyPath::of("recipients");
    let each = written.iter().enumerate();
    each.filter_map(|(i, one)| read(&top.at(i), (i, written), one, sites, problems)).map(Arc::new).collect()
}

fn read(
    path: &KeyPath,
    (number, all): (usize, &[RawRecipient]),
    one: &RawRecipient,
    sites: &[Arc<Site>],
    problems: &mut Problems<'_>,
) -> Option<Recipient> {
    let name = name(path, (number, all), one, problems);
    for (i, name) in one.sites.0.iter().enumerate() {
        sites::named(&path.key("sites").at(i), name, sites, problems);
    }
    if one.vendors.0.is_empty() && !one.always {
        problems.missing(
            &path.key("vendors"),
            format!("`{path}` would never be told"),
            "it stands for no vendor, and gets nothing that pages do not show",
            "name vendors by registry id: vendors = [\"meta-pixel\"] (`optgate registry list`), or add always = true",
        );
    }
    let day = |date: &Option<written::Date>| date.as_ref().and_then(|date| date.0.parse::<Date>().ok());
    let (from, until) = (day(&one.from), day(&one.until));
    if let (Some(from), Some(until)) = (from, until)
        && until < from
    {
        let path = path.key("until");
        let next = "exchange the two days, or remove one";
        problems.wrong(&path, format!("`{path}` is before `from`"), "no day lies between them", next);
    }
    if one.delay.0 > LONGEST_DELAY {
        let path = path.key("delay");
        let why = "an opt-out takes effect within 15 business days (11 CCR 7026(f)(1))";
        problems.wrong(&path, format!("`{path}` is too long"), why, "write 600h or less");
    }
    Some(Recipient {
        name: name?,
        sites: one.sites.0.clone(),
        vendors: one.vendors.0.clone(),
        always: one.always,
        from,
        until,
        delay: one.delay.0,
        way: way(path, one, problems)?,
    })
}

fn name(
    path: &KeyPath,
    (number, all): (usize, &[RawRecipient]),
    one: &RawRecipient,
    problems: &mut Problems<'_>,
) -> Option<String> {
    let path = path.key("name");
    let Some(name) = one.name.as_ref().filter(|name| !name.trim().is_empty()) else {
        let next = "add name = \"Example Ads\"; do not change it later, for tasks are kept under it";
        problems.missing(
            &path,
            format!("`{path}` is missing"),
            "whoever reads a task must know whose it is",
            next,
        );
        return None;
    };
    if name.len() > MOST_NAME || name.chars().any(char::is_control) {
        let why = "it stands in lists and messages";
        problems.wrong(&path, format!("`{path}` cannot be used"), why, "write 1 to 64 bytes on one line");
        return None;
    }
    if all.iter().take(number).any(|other| other.name.as_ref() == Some(name)) {
        let next = "give one of them another name, or make them one recipient";
        problems.wrong(&path, format!("`{path}` is taken: \"{name}\""), "tasks are kept under it", next);
        return None;
    }
    Some(name.clone())
}

fn way(path: &KeyPath, one: &RawRecipient, problems: &mut Problems<'_>) -> Option<Way> {
    if one.roots.is_some() && one.webhook.is_none() {
        let path = path.key("roots");
        let next = "add `webhook`, or remove the setting";
        problems.wrong(&path, format!("`{path}` has no effect"), "no address is called", next);
    }
    match (&one.webhook, &one.mail) {
        (Some(url), None) => {
            let roots = one.roots.as_ref();
            let roots = roots.map(|f| readable(&path.key("roots"), f, "a PEM file of roots", problems));
            let path = path.key("webhook");
            let Some(url) = account::outward_url(url) else {
                problems.wrong(
                    &path,
                    format!("`{path}` cannot be used"),
                    &format!("\"{url}\" is no https URL (http only on loopback), and the message says who opted out"),
                    "write the address that the recipient gave for it: \"https://ads.example/opt-outs\"",
                );
                return None;
            };
            Some(Way::Webhook(Webhook { url, roots }))
        }
        (None, Some(address)) => {
            let good = is_address(address);
            if !good {
                let path = path.key("mail");
                let why = format!("\"{address}\" is no mail address");
                problems.wrong(
                    &path,
                    format!("`{path}` cannot be used"),
                    &why,
                    "write \"privacy@ads.example\"",
                );
            }
            good.then(|| Way::Mail(address.clone()))
        }
        (None, None) => {
            problems.missing(
                &path.key("webhook"),
                format!("`{path}` says not how it is told"),
                "those who got data must be told to comply with the opt-out (11 CCR 7026(f)(2))",
                "add webhook = \"https://...\" (a signed message), or mail = \"...\" (a mail, or a task for a person)",
            );
            None
        }
        (Some(_), Some(_)) => {
            let path = path.key("mail");
            let why = "`webhook` stands beside it, and one receipt is kept for each recipient";
            problems.wrong(&path, format!("`{path}` is one way too many"), why, "remove one of the two");
            None
        }
    }
}
