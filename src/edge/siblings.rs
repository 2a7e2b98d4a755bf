//! Hosts of the sites' own domains that pages refer to, for the CNAME look-ups of `app::dns`.
//!
//! Noted at the end of a page; nothing waits for an answer. Bounded, because a page's author names them.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashSet;
use tokio::sync::Notify;

/// What all cores have seen.
#[derive(Debug)]
pub struct Siblings {
    limit: usize,
    count: AtomicUsize,
    hosts: DashSet<(usize, Box<str>)>,
    news: Notify,
}

impl Siblings {
    /// Nothing seen yet; at most `limit` hosts are kept.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, count: AtomicUsize::new(0), hosts: DashSet::new(), news: Notify::new() }
    }

    /// Notes the hosts of a page of a site (by its position).
    ///
    /// Cost: nothing for a page without such hosts; else one look-up each.
    pub fn note(&self, site: usize, hosts: &[String]) {
        for host in hosts {
            // Many at a time may go over the limit by as many cores; that does no harm.
            if self.count.load(Ordering::Relaxed) >= self.limit {
                return;
            }
            if self.hosts.insert((site, host.as_str().into())) {
                self.count.fetch_add(1, Ordering::Relaxed);
                self.news.notify_one();
            }
        }
    }

    /// Waits until a host was noted since the last wait.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// The hosts seen on one site's pages.
    #[must_use]
    pub fn of(&self, site: usize) -> Vec<String> {
        self.hosts.iter().filter(|seen| seen.0 == site).map(|seen| seen.1.to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_is_kept_once_and_no_more_than_the_limit() {
        let siblings = Siblings::new(3);
        let hosts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        siblings.note(0, &hosts(&["a.example", "a.example", "b.example"]));
        siblings.note(1, &hosts(&["a.example"]));
        siblings.note(1, &hosts(&["c.example"]));
        let mut first = siblings.of(0);
        first.sort();
        assert_eq!(first, ["a.example", "b.example"]);
        assert_eq!(siblings.of(1), ["a.example"]);
    }
}
