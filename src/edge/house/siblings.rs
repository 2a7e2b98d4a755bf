//! Hosts that pages refer to, each once: of the sites' own domains, for the CNAME look-ups of `app::dns`, and third
//! parties that nobody knows.
//!
//! Noted at the end of a page; nothing waits for an answer. Bounded, because a page's author names them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashSet;
use tokio::sync::Notify;

/// What all cores have seen.
#[derive(Debug)]
pub struct Siblings {
    limit: usize,
    count: AtomicUsize,
    hosts: DashSet<(Arc<str>, Box<str>)>,
    news: Notify,
}

impl Siblings {
    /// Nothing seen yet; at most `limit` hosts are kept.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, count: AtomicUsize::new(0), hosts: DashSet::new(), news: Notify::new() }
    }

    /// Notes the hosts of a page of a site (by its name).
    ///
    /// Cost: nothing for a page without such hosts; else one look-up each.
    pub fn note(&self, site: &Arc<str>, hosts: &[String]) {
        for host in hosts {
            if self.add(site, host) {
                self.news.notify_one();
            }
        }
    }

    /// Notes one host, without ending a wait; whether it is new.
    pub fn add(&self, site: &Arc<str>, host: &str) -> bool {
        // Many at a time may go over the limit by as many cores; that does no harm.
        let new = self.count.load(Ordering::Relaxed) < self.limit
            && self.hosts.insert((Arc::clone(site), host.into()));
        if new {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        new
    }

    /// Ends the wait of [`Self::news`]: other settings hold.
    pub fn wake(&self) {
        self.news.notify_one();
    }

    /// Waits until a host was noted, or other settings hold, since the last wait.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// The hosts seen on one site's pages.
    #[must_use]
    pub fn of(&self, site: &str) -> Vec<String> {
        self.hosts.iter().filter(|seen| &*seen.0 == site).map(|seen| seen.1.to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_is_kept_once_and_no_more_than_the_limit() {
        let siblings = Siblings::new(3);
        let hosts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (shop, blog) = (Arc::from("shop"), Arc::from("blog"));
        siblings.note(&shop, &hosts(&["a.example", "a.example", "b.example"]));
        siblings.note(&blog, &hosts(&["a.example"]));
        siblings.note(&blog, &hosts(&["c.example"]));
        let mut first = siblings.of("shop");
        first.sort();
        assert_eq!(first, ["a.example", "b.example"]);
        assert_eq!(siblings.of("blog"), ["a.example"]);
    }
}
