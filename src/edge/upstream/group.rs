//! The origins of one site as all cores see them: who is well, who may be chosen, who has come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::balance::{digest, those};
use super::connect::Connector;
use super::health::{Health, Standing, Told, millis};
use super::queue::Cap;
use crate::config::{self, Balance, HashOn, Outlier, Settings, Sharing, Upstream};
use crate::edge::error::ProxyError;
use crate::telemetry::events;
use crate::telemetry::upstreams::{UpstreamFigures, UpstreamState};

/// The moment of a group's beginning, milliseconds: what happened to its origins before that has a moment too.
const BEGINNING: u64 = 1 << 40;

/// One origin.
#[derive(Debug)]
pub struct Member {
    /// How to reach it.
    pub connector: Connector,
    /// Whether it is well.
    pub health: Health,
    /// Its places, where `max_connections` is set; those from before a reload from [`Group::take_over`] on.
    pub cap: ArcSwapOption<Cap>,
    /// Its figures.
    pub figures: Arc<UpstreamFigures>,
    /// Requests under way; counted for `least-connections` only.
    pub under_way: AtomicUsize,
    /// What consistent hashing knows it by.
    pub identity: u64,
    /// Its name in the sticky cookie: tells origins of the site apart and nothing else.
    pub token: Box<str>,
}

/// A site's origins.
#[derive(Debug)]
pub struct Group {
    /// The origins, in the settings' order.
    pub members: Vec<Member>,
    /// How they share the requests.
    pub sharing: Sharing,
    /// An origin has places that can be taken.
    pub capped: bool,
    site: String,
    outlier: Outlier,
    /// Bits of the origins that speak HTTP/1.1.
    pub http1: u64,
    /// Bits of the origins that are no backups, and of those that are.
    primaries: u64,
    backups: u64,
    ejected: AtomicU32,
    started: Instant,
}

impl Group {
    /// The origins of a site; the figures are in the origins' order.
    #[must_use]
    pub fn new(
        site: &config::Site,
        connectors: Vec<Connector>,
        figures: Vec<Arc<UpstreamFigures>>,
        settings: &Settings,
    ) -> Self {
        let (limits, timeouts) = (&settings.limits, &settings.timeouts);
        let member = |(connector, figures): (Connector, Arc<UpstreamFigures>)| {
            let cap = connector.upstream.max_connections.map(|places| {
                let figures = Arc::clone(&figures);
                Arc::new(Cap::new(places, limits.upstream_queue, timeouts.upstream_queue, figures))
            });
            let cap = ArcSwapOption::new(cap);
            let label = connector.upstream.label.as_str();
            let token = Sha256::digest(format!("{}\n{label}", site.name));
            Member {
                health: Health::default(),
                cap,
                figures,
                under_way: AtomicUsize::new(0),
                identity: digest(label.as_bytes()),
                token: HEXLOWER.encode(token.get(..4).unwrap_or_default()).into(),
                connector,
            }
        };
        let members: Vec<Member> = connectors.into_iter().zip(figures).map(member).collect();
        let bits = |fits: fn(&Upstream) -> bool| {
            those(u64::MAX, |at| members.get(at).is_some_and(|m| fits(&m.connector.upstream)))
        };
        Self {
            capped: members.iter().any(|member| member.cap.load().is_some()),
            http1: bits(|upstream| !upstream.http2),
            primaries: bits(|upstream| !upstream.backup),
            backups: bits(|upstream| upstream.backup),
            members,
            sharing: site.sharing.clone(),
            site: site.name.clone(),
            outlier: settings.outlier.clone(),
            ejected: AtomicU32::new(0),
            started: Instant::now(),
        }
    }

    /// Goes on where another group of the same site is: an origin that is in both stays what it was to the
    /// balancer, whatever else is said of it now, and who has a place there keeps it. Not yet in use.
    pub fn take_over(&self, before: &Self) {
        let then = before.moment(Instant::now());
        let mut left: Vec<&Member> = before.members.iter().collect();
        for member in &self.members {
            let Some(old) = take_same_origin(&mut left, &member.connector.upstream) else { continue };
            self.hear_of(member, &old.health.tell(then));
            match (member.cap.load_full(), old.cap.load_full()) {
                (Some(new), Some(old)) => {
                    old.become_as(&new);
                    member.cap.store(Some(old));
                }
                (None, Some(old)) => old.open(),
                (_, None) => {}
            }
        }
    }

    /// What is to be told of its origins, by their labels.
    pub fn tell(&self) -> impl Iterator<Item = (&str, Told)> {
        let now = self.moment(Instant::now());
        self.members.iter().map(move |m| (m.connector.upstream.label.as_str(), m.health.tell(now)))
    }

    /// Goes on from what another process told of an origin. Not yet in use.
    pub fn hear(&self, label: &str, told: &Told) {
        for member in self.members.iter().filter(|member| member.connector.upstream.label == label) {
            self.hear_of(member, told);
        }
    }

    fn hear_of(&self, member: &Member, told: &Told) {
        member.health.hear(told, self.moment(Instant::now()), self.sharing.health.is_some());
        if member.health.is_ejected() {
            self.ejected.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Shows every origin's state in its figures.
    pub fn show(&self) {
        for member in &self.members {
            member.figures.show(match member.health.standing() {
                Standing::Well => UpstreamState::Up,
                Standing::Down => UpstreamState::Down,
                Standing::Ejected => UpstreamState::Ejected,
            });
        }
    }

    /// All origins.
    #[must_use]
    pub const fn all(&self) -> u64 {
        self.primaries | self.backups
    }

    /// Whether what a head says need not be among its fields: every origin reads it as bytes, and none is chosen by a field.
    #[must_use]
    pub fn reads_lines(&self) -> bool {
        self.http1 == self.all() && !matches!(self.sharing.hash_on, HashOn::Header(_))
    }

    /// A moment as the origins' states count it.
    #[must_use]
    pub fn moment(&self, now: Instant) -> u64 {
        BEGINNING + millis(now.saturating_duration_since(self.started))
    }

    /// The origins that are well. Ejections whose time is over end here.
    ///
    /// Cost: two relaxed loads an origin.
    #[must_use]
    pub fn well(&self, now: u64) -> u64 {
        let mut well = 0;
        for (at, member) in self.members.iter().enumerate() {
            match member.health.standing() {
                Standing::Well => well |= 1 << at,
                Standing::Ejected if member.health.returned(now, false) => {
                    self.came_back(member, "its time is over");
                    well |= 1 << at;
                }
                Standing::Ejected | Standing::Down => {}
            }
        }
        well
    }

    /// The origins that requests should go to: those that are well; backups when none of the others is; and
    /// all of a kind when so few are well that they would only be the next to fail (Envoy's panic).
    #[must_use]
    pub fn usable(&self, now: u64) -> u64 {
        let well = self.well(now);
        let (primaries, backups) = (well & self.primaries, well & self.backups);
        let (count, of) = (u64::from(primaries.count_ones()), u64::from(self.primaries.count_ones()));
        if count * 100 >= u64::from(self.outlier.panic_percent) * of && count > 0 {
            return primaries;
        }
        match (count, backups) {
            (0, 0) => self.all(),
            (_, 0) => self.primaries,
            (_, _) => primaries | backups,
        }
    }

    /// The origins without a free place.
    #[must_use]
    pub fn full(&self) -> u64 {
        if !self.capped {
            return 0;
        }
        those(self.all(), |at| {
            self.members.get(at).is_some_and(|m| m.cap.load().as_ref().is_some_and(|cap| !cap.has_room()))
        })
    }

    /// An origin's weight at this moment, in thousandths.
    #[must_use]
    pub fn weight(&self, at: usize, now: u64) -> u64 {
        let Some(member) = self.members.get(at) else { return 0 };
        u64::from(member.connector.upstream.weight)
            * u64::from(member.health.share(now, self.sharing.slow_start))
    }

    /// An origin answered.
    pub fn answered(&self, at: usize, status: u16, now: u64) {
        let Some(member) = self.members.get(at) else { return };
        if self.outlier.answers.holds(status) {
            self.note_failure(member, now, &format_args!("it answers {status}"));
            return;
        }
        if member.health.succeeded() && member.figures.state() == UpstreamState::Failing {
            events::upstream_changed(&member.figures, UpstreamState::Up, "it answered", None);
        }
        // Asked as a last resort, it turned out to be well.
        if member.health.standing() == Standing::Ejected && member.health.returned(now, true) {
            self.came_back(member, "it answered");
        }
    }

    /// A request to an origin failed; only what is the origin's fault counts.
    pub fn failed(&self, at: usize, error: &ProxyError, now: u64) {
        if error.is_the_origins()
            && let Some(member) = self.members.get(at)
        {
            self.note_failure(member, now, error);
        }
    }

    fn note_failure(&self, member: &Member, now: u64, why: &dyn std::fmt::Display) {
        member.figures.failures.inc();
        if !member.health.failed(&self.outlier) {
            return;
        }
        let why = format_args!("{} failures in a row, the last: {why}", self.outlier.failures);
        if !self.may_eject() {
            if member.figures.state() == UpstreamState::Up {
                events::upstream_changed(&member.figures, UpstreamState::Failing, &why.to_string(), None);
            }
            return;
        }
        match member.health.eject(now, &self.outlier) {
            Some(length) => {
                let why = why.to_string();
                events::upstream_changed(&member.figures, UpstreamState::Ejected, &why, Some(length));
            }
            None => drop(self.ejected.fetch_sub(1, Ordering::AcqRel)),
        }
    }

    /// Takes one of the ejections that are allowed at a time: a share of the origins, but always one, and
    /// never the only origin.
    fn may_eject(&self) -> bool {
        let origins = self.members.len() as u64;
        let allowed = |ejected: u32| {
            let share = (u64::from(ejected) + 1) * 100;
            origins > 1 && (ejected == 0 || share <= u64::from(self.outlier.most_percent) * origins)
        };
        let take = |ejected| allowed(ejected).then_some(ejected + 1);
        self.ejected.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    fn came_back(&self, member: &Member, why: &str) {
        self.ejected.fetch_sub(1, Ordering::AcqRel);
        events::upstream_changed(&member.figures, UpstreamState::Up, why, None);
    }

    /// What active checks found out about an origin.
    pub fn checked(&self, at: usize, well: bool, why: &str, now: u64) {
        let Some(member) = self.members.get(at) else { return };
        if !member.health.checked(well, now) {
            return;
        }
        let state = match (well, member.health.standing()) {
            (true, Standing::Ejected) => UpstreamState::Ejected,
            (true, _) => UpstreamState::Up,
            (false, _) => UpstreamState::Down,
        };
        events::upstream_changed(&member.figures, state, why, None);
    }

    /// Ends what time has ended, where no request does: so that figures do not wait for one.
    pub fn settle(&self) {
        let _ = self.well(self.moment(Instant::now()));
    }

    /// The site's name.
    #[must_use]
    pub fn site(&self) -> &str {
        &self.site
    }

    /// Counts a request as under way until the guard is dropped; `None` where nobody asks for the count.
    #[must_use]
    pub fn load(self: &Arc<Self>, at: usize) -> Option<Load> {
        if self.sharing.balance != Balance::LeastConnections {
            return None;
        }
        self.members.get(at)?.under_way.fetch_add(1, Ordering::Relaxed);
        Some(Load { group: Arc::clone(self), at })
    }
}

/// The member that is this origin, of those that nobody has taken: the one of which the same is said, if there is one.
fn take_same_origin<'a>(left: &mut Vec<&'a Member>, wanted: &Upstream) -> Option<&'a Member> {
    let equal = left.iter().position(|old| old.connector.upstream == *wanted);
    let at = equal.or_else(|| left.iter().position(|old| old.connector.upstream.is_same_origin(wanted)))?;
    Some(left.remove(at))
}

/// A request under way.
#[derive(Debug)]
pub struct Load {
    group: Arc<Group>,
    at: usize,
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(member) = self.group.members.get(self.at) {
            member.under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Once a second, for figures that no request brings up to date; for background threads.
pub async fn settle(groups: Vec<Arc<Group>>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        groups.iter().for_each(|group| group.settle());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BadAnswers, ProxyProtocol, UpstreamAddress};

    fn upstream(number: usize, backup: bool) -> Upstream {
        Upstream {
            address: UpstreamAddress::Tcp { host: "127.0.0.1".into(), port: 1 },
            tls: None,
            http2: false,
            host: None,
            label: format!("http://127.0.0.1:{number}"),
            weight: 1,
            backup,
            max_connections: None,
            proxy_protocol: ProxyProtocol::Off,
        }
    }

    fn checks() -> config::Health {
        config::Health {
            path: "/healthz".to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            status: (200, 299),
            rises: 2,
            falls: 3,
            host: None,
        }
    }

    /// A group of primaries, then backups; one failure ejects.
    fn group(primaries: usize, backups: usize, panic_percent: u32) -> Group {
        let outlier = Outlier {
            failures: 1,
            answers: BadAnswers::Gateway,
            ejection: Duration::from_secs(10),
            longest: Duration::from_secs(60),
            most_percent: 50,
            panic_percent,
        };
        let members: Vec<Member> = (0..primaries + backups)
            .map(|at| Member {
                connector: Connector::new(upstream(at, at >= primaries), Duration::from_secs(1)).unwrap(),
                health: Health::default(),
                cap: ArcSwapOption::empty(),
                figures: Arc::default(),
                under_way: AtomicUsize::new(0),
                identity: 0,
                token: "".into(),
            })
            .collect();
        Group {
            capped: false,
            http1: (1 << (primaries + backups)) - 1,
            primaries: (1 << primaries) - 1,
            backups: ((1 << backups) - 1) << primaries,
            members,
            sharing: Sharing::default(),
            site: "site".to_owned(),
            outlier,
            ejected: AtomicU32::new(0),
            started: Instant::now(),
        }
    }

    /// A key in a field, or HTTP/2, needs all of a head as fields.
    #[test]
    fn lines_are_for_origins_that_read_bytes_and_are_not_chosen_by_a_field() {
        let (mut by_field, mut http2) = (group(2, 0, 0), group(2, 0, 0));
        by_field.sharing.hash_on = HashOn::Header(http::HeaderName::from_static("x-real-ip"));
        http2.http1 = 0b01;
        let all = [group(1, 1, 0), by_field, http2].map(|group| group.reads_lines());
        assert_eq!(all, [true, false, false]);
    }

    #[test]
    fn no_more_than_the_share_is_ejected_and_time_brings_them_back() {
        let group = group(4, 0, 0);
        for at in 0..4 {
            group.answered(at, 503, 1);
        }
        assert_eq!(group.usable(1), 0b1100, "half of four");
        assert_eq!(group.members[0].figures.state(), UpstreamState::Ejected);
        assert_eq!(group.usable(10_001), 0b1111);
        assert_eq!(group.members[0].figures.state(), UpstreamState::Up);
        group.answered(3, 500, 10_001);
        assert_eq!(group.usable(10_001), 0b1111, "500 is no gateway's answer");
        group.answered(3, 504, 10_001);
        assert_eq!(group.usable(10_001), 0b0111, "the places of those who came back are free");
    }

    /// A reload while an origin is ejected and fails its checks too: the way back is counted as it came.
    #[test]
    fn an_ejection_under_failing_checks_is_taken_over_and_ends_once() {
        let (before, mut after) = (group(3, 0, 0), group(3, 0, 0));
        after.sharing.health = Some(checks());
        let now = |group: &Group| group.moment(Instant::now());
        before.answered(0, 503, now(&before));
        before.checked(0, false, "", now(&before));
        after.take_over(&before);
        after.checked(0, true, "", now(&after));
        assert_eq!(after.usable(now(&after)), 0b110, "it is still left out");
        let late = now(&after) + 100_000;
        assert_eq!(after.usable(late), 0b111);
        after.answered(1, 503, late);
        assert_eq!(after.usable(late), 0b101, "another can still be ejected");
    }

    /// A reload is no return: an origin that came back long before it has its whole share, and a clean slate.
    #[test]
    fn who_came_back_long_ago_is_not_taken_for_new_by_a_reload() {
        let (before, mut after) = (group(2, 0, 0), group(2, 0, 0));
        after.sharing.slow_start = Duration::from_secs(30);
        let now = |group: &Group| group.moment(Instant::now());
        let an_hour_ago = now(&before).saturating_sub(3_600_000);
        before.checked(0, false, "", an_hour_ago);
        before.checked(0, true, "", an_hour_ago + 1);
        after.take_over(&before);
        assert_eq!(after.weight(0, now(&after)), after.weight(1, now(&after)));
    }

    /// A reload without `health.path`: nobody would ever find it well again.
    #[test]
    fn an_origin_that_was_down_is_well_where_nothing_checks_it_any_more() {
        for (checked, usable) in [(true, 0b10), (false, 0b11)] {
            let (before, mut after) = (group(2, 0, 0), group(2, 0, 0));
            before.checked(0, false, "", 1);
            after.sharing.health = checked.then(checks);
            after.take_over(&before);
            assert_eq!(after.usable(1), usable, "with checks: {checked}");
        }
    }

    /// A reload must not give an origin `max_connections` more: who has a place keeps it.
    #[test]
    fn places_are_taken_over_with_whoever_has_them() {
        let capped = |waiting: usize| {
            let mut group = group(2, 0, 0);
            group.capped = true;
            let cap = Cap::new(1, waiting, Duration::from_secs(1), Arc::default());
            group.members[0].cap.store(Some(Arc::new(cap)));
            group
        };
        let (before, after) = (capped(5), capped(6));
        let place = before.members[0].cap.load().as_ref().unwrap().try_take().unwrap();
        assert_eq!((before.full(), after.full()), (0b01, 0));
        after.take_over(&before);
        assert_eq!(after.full(), 0b01);
        drop(place);
        assert_eq!(after.full(), 0);
    }

    /// What is said of an origin beside where it is makes no other of it; of two of one place it is the one of which
    /// the same is said.
    #[test]
    fn an_origin_is_known_by_where_it_is() {
        let (before, mut after) = (group(2, 0, 0), group(3, 0, 0));
        before.answered(1, 503, 1);
        after.members[0].connector.upstream.weight = 9;
        after.members[2].connector.upstream.address =
            UpstreamAddress::Tcp { host: "127.0.0.1".into(), port: 2 };
        after.take_over(&before);
        assert_eq!(after.usable(1), 0b101);
    }

    /// One may always be ejected, the only one never.
    #[test]
    fn the_only_origin_is_never_ejected() {
        let group = group(1, 0, 0);
        group.answered(0, 503, 1);
        assert_eq!(group.usable(1), 0b1);
        assert_eq!(group.members[0].health.standing(), Standing::Well);
    }

    /// Envoy's panic: when few are well, all are used.
    #[test]
    fn with_too_few_well_all_are_used() {
        let group = group(4, 0, 50);
        for at in [0, 1] {
            group.checked(at, false, "", 1);
        }
        assert_eq!(group.usable(1), 0b1100, "half are well");
        group.checked(2, false, "", 1);
        assert_eq!(group.usable(1), 0b1111, "a quarter is too few");
    }

    #[test]
    fn backups_serve_only_while_nobody_else_is_well() {
        let group = group(2, 1, 0);
        assert_eq!(group.usable(1), 0b011);
        group.checked(0, false, "", 1);
        assert_eq!(group.usable(1), 0b010);
        group.checked(1, false, "", 1);
        assert_eq!(group.usable(1), 0b100);
        group.checked(2, false, "", 1);
        assert_eq!(group.usable(1), 0b111, "none is well: never nobody");
        group.checked(1, true, "", 1);
        assert_eq!(group.usable(1), 0b010);
    }

    /// Who gets requests though they fail is not shown as well: an alert would never come.
    #[test]
    fn an_origin_that_fails_and_cannot_be_left_out_is_shown_as_failing() {
        let group = group(1, 0, 0);
        let shown = || group.members[0].figures.state();
        group.members[0].figures.show(UpstreamState::Up);
        group.answered(0, 502, 1);
        assert_eq!((group.usable(1), shown()), (0b1, UpstreamState::Failing));
        assert_eq!(group.members[0].figures.healthy.get(), 0);
        group.answered(0, 200, 2);
        assert_eq!(shown(), UpstreamState::Up);
    }

    /// What this process has no room for is not the origin's doing.
    #[test]
    fn want_of_descriptors_here_takes_no_origin_out() {
        let group = group(2, 0, 0);
        for errno in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::ADDRNOTAVAIL] {
            group.failed(0, &ProxyError::of_connecting(errno.into()), 1);
        }
        assert_eq!(group.usable(1), 0b11);
        group.failed(0, &ProxyError::of_connecting(rustix::io::Errno::CONNREFUSED.into()), 1);
        assert_eq!(group.usable(1), 0b10);
    }

    /// Asked as a last resort, an ejected origin that answers is back.
    #[test]
    fn an_ejected_origin_that_answers_is_back() {
        let group = group(2, 0, 0);
        group.answered(0, 502, 1);
        assert_eq!(group.usable(1), 0b10);
        group.answered(0, 200, 2);
        assert_eq!(group.usable(2), 0b11);
    }

    /// A visitor's own doing must not take an origin out.
    #[test]
    fn the_visitors_faults_do_not_count() {
        let group = group(2, 0, 0);
        group.failed(0, &ProxyError::BodyTimeout, 1);
        group.failed(0, &ProxyError::QueueFull, 1);
        assert_eq!(group.usable(1), 0b11);
        group.failed(0, &ProxyError::ConnectTimeout, 1);
        assert_eq!(group.usable(1), 0b10);
    }
}
