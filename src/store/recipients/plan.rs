//! Who is to be told of an opt-out: whoever got the site's data between the request and its effect.
//!
//! ```text
//! days        ----[first seen ........ last seen]----------      a vendor's window on a site
//!             <-7->                              <-7->           it counts as there so much longer on both sides
//! opt-out               [requested .. effective]                 the gap: told when the two overlap
//!                       [requested .. effective + delay]         the same for a recipient whose data leaves in batches
//! ```
//!
//! A window is what opted-out visitors' pages showed, and a day may have none of those. So both ends reach a week
//! further: telling somebody too many is no harm, leaving somebody out is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use crate::config::{Recipient, Settings, Way};

/// Days around a window on which a vendor counts as there as well; two windows no further apart are one.
pub(super) const SLACK_DAYS: i64 = 7;

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// The UTC day of a time (microseconds since the Unix epoch), in days since then.
pub(super) const fn day_of(time_us: i64) -> i64 {
    time_us.div_euclid(DAY_US)
}

fn day_of_date(date: Date) -> i64 {
    let start = TimeZone::UTC.to_timestamp(date.to_datetime(Time::midnight()));
    start.map_or(0, |start| day_of(start.as_microsecond()))
}

/// Days on which a vendor was seen on a site: days since the Unix epoch, both included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) site: String,
    pub(super) vendor: String,
    pub(super) first: i64,
    pub(super) last: i64,
}

/// An opt-out, as far as it matters here. Times in microseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) site: String,
    pub(super) requested_us: i64,
    pub(super) effective_us: i64,
}

/// A recipient that is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) recipient: String,
    /// `webhook` or `mail`.
    pub(super) way: &'static str,
    pub(super) address: String,
    /// Those of its vendors that were there.
    pub(super) vendors: Vec<String>,
    /// Until when it got data, in microseconds since the Unix epoch.
    pub(super) until_us: i64,
}

/// What the settings say about recipients and sites.
#[derive(Debug, Clone, Default)]
pub(super) struct Planner {
    pub(super) recipients: Vec<Arc<Recipient>>,
    /// Sites that share accounts with each.
    pub(super) together: HashMap<String, Vec<String>>,
}

impl Planner {
    pub(super) fn of(settings: &Settings) -> Self {
        let together = settings.sites.iter().map(|site| {
            let shared = settings.sites.iter().filter(|other| other.scope == site.scope);
            (site.name.clone(), shared.map(|other| other.name.clone()).collect())
        });
        Self { recipients: settings.recipients.clone(), together: together.collect() }
    }

    /// The vendors that got data in the gap, and who is to be told.
    pub(super) fn plan(&self, asked: &Asked, windows: &[Window]) -> (Vec<String>, Vec<Planned>) {
        let own = [asked.site.clone()];
        let sites = self.together.get(&asked.site).map_or(&own[..], Vec::as_slice);
        let vendors = there(windows, sites, (asked.requested_us, asked.effective_us));
        let told = self.recipients.iter().filter_map(|recipient| tell(recipient, asked, sites, windows));
        (vendors, told.collect())
    }
}

/// Vendors that were on these sites at some time between two, each once; none in a gap that is empty.
fn there(windows: &[Window], sites: &[String], (from_us, until_us): (i64, i64)) -> Vec<String> {
    if from_us >= until_us {
        return Vec::new();
    }
    let (from, until) = (day_of(from_us), day_of(until_us));
    let overlaps = |window: &&Window| window.first - SLACK_DAYS <= until && from <= window.last + SLACK_DAYS;
    let here = windows.iter().filter(|window| sites.contains(&window.site)).filter(overlaps);
    let mut vendors: Vec<String> = here.map(|window| window.vendor.clone()).collect();
    vendors.sort_unstable();
    vendors.dedup();
    vendors
}

fn tell(recipient: &Recipient, asked: &Asked, sites: &[String], windows: &[Window]) -> Option<Planned> {
    let sites: Vec<String> = sites.iter().filter(|site| recipient.serves(site)).cloned().collect();
    let until_us = asked.effective_us.saturating_add(micros(recipient.delay));
    let began = recipient.from.is_none_or(|from| day_of_date(from) <= day_of(until_us));
    let goes_on = recipient.until.is_none_or(|until| day_of(asked.requested_us) <= day_of_date(until));
    if sites.is_empty() || !began || !goes_on {
        return None;
    }
    let mut vendors = there(windows, &sites, (asked.requested_us, until_us));
    vendors.retain(|vendor| recipient.vendors.contains(vendor));
    if vendors.is_empty() && !recipient.always {
        return None;
    }
    let address = match &recipient.way {
        Way::Webhook(webhook) => webhook.url.to_string(),
        Way::Mail(address) => address.clone(),
    };
    let (recipient, way) = (recipient.name.clone(), recipient.way.word());
    Some(Planned { recipient, way, address, vendors, until_us })
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(name: &str, change: impl FnOnce(&mut Recipient)) -> Arc<Recipient> {
        let mut recipient = Recipient {
            name: name.into(),
            sites: Vec::new(),
            vendors: vec!["pixel".into()],
            always: false,
            from: None,
            until: None,
            delay: Duration::ZERO,
            way: Way::Mail("a@b.example".into()),
        };
        change(&mut recipient);
        Arc::new(recipient)
    }

    fn asked(requested_day: i64, effective_day: i64) -> Asked {
        Asked {
            site: "shop".into(),
            requested_us: requested_day * DAY_US + 5,
            effective_us: effective_day * DAY_US + 5,
        }
    }

    /// One window, days 100 to 110.
    fn told(recipients: Vec<Arc<Recipient>>, asked: &Asked) -> (Vec<String>, Vec<String>) {
        let window = |site: &str| Window { site: site.into(), vendor: "pixel".into(), first: 100, last: 110 };
        let together = HashMap::from([("shop".into(), vec!["shop".into(), "blog".into()])]);
        let planner = Planner { recipients, together };
        let (vendors, planned) = planner.plan(asked, &[window("blog"), window("other")]);
        (vendors, planned.into_iter().map(|planned| planned.recipient).collect())
    }

    /// 11 CCR 7026(f)(2): those who got data after the request and before the effect. What is in force at once leaves
    /// no time for that, unless data goes on leaving.
    #[test]
    fn a_recipient_is_told_when_its_window_meets_the_gap() {
        let one = || vec![recipient("one", |_| {})];
        for (requested, effective, hit) in [
            (92, 93, true),
            (91, 92, false),
            (105, 106, true),
            (117, 119, true),
            (118, 119, false),
            (50, 200, true),
        ] {
            let (vendors, names) = told(one(), &asked(requested, effective));
            assert_eq!((vendors.len(), names.len()), (usize::from(hit), usize::from(hit)), "{requested}");
        }
        assert_eq!(told(one(), &asked(105, 105)), (vec![], vec![]), "effective at once");
    }

    #[test]
    fn feeds_batches_sites_and_days_decide_as_the_settings_say() {
        let day = |text: &str| Some(text.parse::<Date>().unwrap());
        // Day 105 is 1970-04-16.
        let at_once = vec![
            recipient("feed", |r| (r.always, r.vendors) = (true, Vec::new())),
            recipient("batch", |r| r.delay = Duration::from_secs(86_400)),
            recipient("plain", |_| {}),
            recipient("elsewhere", |r| (r.always, r.sites) = (true, vec!["other".into()])),
            recipient("group", |r| (r.always, r.sites) = (true, vec!["blog".into()])),
            recipient("over", |r| (r.always, r.until) = (true, day("1970-04-15"))),
            recipient("last day", |r| (r.always, r.until) = (true, day("1970-04-16"))),
            recipient("to come", |r| (r.always, r.from) = (true, day("1970-04-17"))),
        ];
        assert_eq!(told(at_once, &asked(105, 105)).1, ["feed", "batch", "group", "last day"]);
        let strangers = vec![recipient("other vendor", |r| r.vendors = vec!["tag".into()])];
        assert_eq!(told(strangers, &asked(100, 110)), (vec!["pixel".into()], vec![]));
    }
}
