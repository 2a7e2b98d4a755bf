//! What counts as a leak of a visit: a request or a connection to a host that the default policy strips, where no
//! contract makes its vendor a service provider, or a tracker's cookie on the site.

use url::Url;

use super::beside;
use super::browser::{Entry, Outcome};
use super::checker::Trackers;

/// Hosts that the pages of `tests/browser/` call, for where the reference is absent.
const HOSTS: [&str; 18] = [
    "facebook.com",
    "connect.facebook.net",
    "doubleclick.net",
    "criteo.com",
    "criteo.net",
    "bat.bing.com",
    "analytics.tiktok.com",
    "ct.pinterest.com",
    "snap.licdn.com",
    "px.ads.linkedin.com",
    "adnxs.com",
    "amazon-adsystem.com",
    "google-analytics.com",
    "clarity.ms",
    "hotjar.com",
    "klaviyo.com",
    "hs-scripts.com",
    "segment.com",
];

/// Names of cookies that trackers set on the site.
const COOKIES: [&str; 8] =
    ["_fbp", "_fbc", "_gcl_au", "_ttp", "_uetsid", "_uetvid", "_pin_unauth", "cto_bundle"];

/// Says what is a leak.
pub struct Judge {
    trackers: Option<Trackers>,
}

impl Judge {
    /// By the reference, or by a short list where it is absent.
    pub fn new() -> Self {
        let json = beside("reference/trackers.json", "the whole list of hosts that must be stripped");
        Self { trackers: json.map(|path| Trackers::read(&path)) }
    }

    /// Every leak of a visit, as a line each.
    pub fn leaks(&self, outcome: &Outcome) -> Vec<String> {
        // A browser opens connections to spare; what the host was asked for decides then.
        let asked = |of: &Entry| {
            let requests = outcome.entries.iter().filter(|entry| entry.method != "CONNECT");
            requests.map(|entry| entry.url.host()).any(|host| host == of.url.host())
        };
        let calls = outcome
            .entries
            .iter()
            .filter(|entry| self.is_leak(entry) && (entry.method != "CONNECT" || !asked(entry)));
        let calls = calls.map(|entry| format!("{} {}", entry.method, entry.url));
        let cookies = outcome.cookies.iter().filter(|(_, name, _)| COOKIES.contains(&name.as_str()));
        calls.chain(cookies.map(|(domain, name, _)| format!("cookie {name} of {domain}"))).collect()
    }

    /// Whether this request or connection must not have been made.
    pub fn is_leak(&self, entry: &Entry) -> bool {
        if entry.method == "CONNECT" {
            // What a connection carried is judged by itself.
            entry.requests == 0 && self.is_host(&entry.url)
        } else {
            self.is_url(&entry.url)
        }
    }

    fn is_url(&self, url: &Url) -> bool {
        self.trackers.as_ref().map_or_else(|| listed(url), |known| known.goes(url))
    }

    fn is_host(&self, url: &Url) -> bool {
        self.trackers.as_ref().map_or_else(|| listed(url), |known| known.host_goes(url))
    }
}

fn listed(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    HOSTS.iter().any(|own| host == *own || host.ends_with(&format!(".{own}")))
}
