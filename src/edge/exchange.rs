//! One request and its response, as far as later steps need to know it.

use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Request};
use hyper::body::Incoming;
use url::Url;

use super::answer::stages::Stages;
use super::error::ProxyError;
use super::house::{Core, Held, Rule, Site};
use super::identify::client_addr::{self, Client};
use super::identify::hop::Hop;
use super::identify::host::{host_name, host_of};
use super::identify::request_id::RequestId;
use super::identify::{checks, claims, hostless};
use super::upstream::Tail;
use crate::enforce::names::Names;
use crate::privacy::{Aliases, Decision, Mark, Mode, Named, Signals};
use crate::registry::lists::PageLists;
use crate::store::recipients::AccountKey;

/// A trusted client's wish to be told why.
static EXPLAIN: HeaderName = HeaderName::from_static("optgate-explain");

/// What step 1 finds out, and what the steps after it add.
#[derive(Debug)]
pub struct Exchange {
    /// The connection it came on.
    hop: Rc<Hop>,
    /// Settings for this whole exchange.
    pub snapshot: Held,
    /// Position of the site asked.
    site: usize,
    /// Position of the path rule, if one fits.
    path_rule: Option<usize>,
    /// Enforce or observe, after path rules and the kill switch.
    pub mode: Mode,
    /// The client behind the request.
    pub client: Client,
    /// Host as the client sent it, with port.
    pub host: HeaderValue,
    /// Id of the request.
    pub id: RequestId,
    /// What its origin is told of the client, where it is told in lines behind the fields of the head.
    pub lines: Option<Rc<[u8]>>,
    /// The fields it came with.
    pub names: Names,
    /// The client may be told why, and asked.
    pub explain: bool,
    /// Signals (step 3).
    pub signals: Signals,
    /// Whom it names (step 4), or its answer does.
    pub named: Named,
    /// A header or a token of the request has named its account: the first to say it counts.
    pub account_given: bool,
    /// The same under the other secrets that are tried.
    pub aliases: Aliases,
    /// What the site calls the account, while its opt-out is about to be recorded and others must be told of it.
    pub account_key: Option<AccountKey>,
    /// The account keeps a programme of the site in spite of its opt-out.
    pub programme: bool,
    /// Its session, where answers name accounts (step 4).
    pub session: Option<Mark>,
    /// Decision (step 5).
    pub decision: Decision,
    /// How long each stage took, where that is measured.
    pub stages: Stages,
    /// The origin that the visitor's next requests should go to, where that is new.
    stuck_to: Cell<Option<usize>>,
    /// The origin that failed last.
    failed_at: Cell<Option<u8>>,
}

impl Exchange {
    /// Step 1: who asks which site, and what holds there. Deletes client-sent `Optgate-*` fields.
    ///
    /// # Errors
    /// A request that names no site, or is not for a reverse proxy.
    pub fn identify(core: &Core, hop: &Rc<Hop>, request: &mut Request<Incoming>) -> Result<Self, ProxyError> {
        let names = Names::of(request.headers());
        checks::head(request, names)?;
        let snapshot = core.snapshot();
        let settings = &snapshot.settings;
        let (host, hostless) = match host_of(request) {
            Ok(host) => (host, None),
            Err(error) => {
                let (host, index) = hostless::site_of(request, &snapshot).ok_or(error)?;
                (host, Some(index))
            }
        };
        // The name is read where the connection has not been asked for it yet.
        let (index, unread) = match hop.known(&host, snapshot.number()).filter(|_| hostless.is_none()) {
            Some(index) => (index, None),
            None => {
                let name = host.to_str().ok().and_then(host_name).ok_or(ProxyError::BadHost)?;
                let found = || snapshot.site(&name).map(|site| site.index);
                (hostless.or_else(found).ok_or(ProxyError::UnknownHost)?, Some(name))
            }
        };
        checks::size(request, &settings.limits)?;
        let client = client_addr::find(request.headers(), hop.peer, hop.tls, &settings.trusted_proxies);
        let for_https = request.uri().scheme() == Some(&Scheme::HTTPS);
        if for_https && !client.secure && !client.peer_trusted {
            // RFC 9110, 7.4: it did not come as its address says.
            return Err(ProxyError::Misdirected);
        }
        if let Some(name) = unread {
            // A front that is trusted may ask for any site on the connections it opened (RFC 9110, 7.4).
            if !client.peer_trusted && !hop.is_for(&name) {
                return Err(ProxyError::Misdirected);
            }
            if hostless.is_none() {
                hop.remember(&host, snapshot.number(), index);
            }
        }
        let site = snapshot.sites.get(index).ok_or(ProxyError::UnknownHost)?;
        let id = RequestId::of(request.headers(), client.peer_trusted, || core.fresh_id());
        let asked = names.any(Names::CLAIM) && request.headers().get(&EXPLAIN).is_some_and(|v| v == "1");
        let explain = asked && may_ask(&settings.explain_to, hop.peer, client.address);
        claims::delete(request.headers_mut(), names, client.peer_trusted);
        if let Some(field) = settings.account.header.as_ref().filter(|_| !client.peer_trusted) {
            claims::delete_account(request.headers_mut(), field);
        }
        let path_rule = site.path_rule(request.uri().path());
        let killed = site.switch.engaged();
        let mode = if killed { Mode::Observe } else { site.rule(path_rule).mode };
        Ok(Self {
            hop: Rc::clone(hop),
            mode,
            site: site.index,
            path_rule,
            client,
            host,
            id,
            lines: None,
            names,
            explain,
            signals: Signals::NONE,
            named: Named::NOBODY,
            account_given: false,
            aliases: Aliases::default(),
            programme: false,
            account_key: None,
            session: None,
            decision: Decision::NONE,
            stages: Stages::default(),
            stuck_to: Cell::new(None),
            failed_at: Cell::new(None),
            snapshot,
        })
    }
}

impl Exchange {
    /// The site asked, as it is for this visitor.
    #[must_use]
    pub fn site(&self) -> &Arc<Site> {
        // The position was found in this very snapshot.
        let site = &self.snapshot.sites[self.site];
        match &site.programme {
            Some(programme) if self.programme => programme,
            _ => site,
        }
    }

    /// The site asked, in settings that are held beside the exchange's own hold of them.
    #[must_use]
    pub fn site_in<'s>(&self, held: &'s Held) -> &'s Arc<Site> {
        &held.sites[self.site]
    }

    /// Whether the client's address is one client's: not that of a trusted proxy that names nobody, nor of whoever is
    /// behind a Unix socket.
    #[must_use]
    pub fn has_clients_address(&self) -> bool {
        let address = self.client.address;
        let of_unix = self.hop.is_unix && address == self.hop.peer;
        !of_unix && !client_addr::is_in(&self.snapshot.settings.trusted_proxies, address)
    }

    /// Host without port, lower case.
    #[must_use]
    pub fn host_name(&self) -> Cow<'_, str> {
        self.host.to_str().ok().and_then(host_name).unwrap_or_default()
    }

    /// An address of the site as the visitor's browser has it; `target` begins with `/`. `None`: no URL can hold the host.
    ///
    /// Cost: the host is read once a connection.
    #[must_use]
    pub fn address(&self, target: &str) -> Option<Url> {
        Some(below(&*self.hop.root(&self.host, self.client.secure)?, target))
    }

    /// What stands behind the fields of its head.
    #[must_use]
    pub fn tail(&self) -> Option<Tail<'_>> {
        self.lines.as_deref().map(|lines| Tail { lines, id: self.id.as_bytes() })
    }

    /// The domain of our cookie here; `None`: the host's alone.
    ///
    /// Cost: nothing where the site's group has none.
    #[must_use]
    pub fn cookie_domain(&self) -> Option<&str> {
        let site = &self.site().settings;
        site.cookie_domain.as_ref().and_then(|_| site.cookie_domain(&self.host_name()))
    }

    /// The site's filter lists as this page asks them.
    #[must_use]
    pub fn page_lists(&self) -> Option<PageLists> {
        let site = self.site();
        self.snapshot.lists(site)?.for_page(&site.settings, &self.host_name(), &self.rule().policy)
    }

    /// Notes the origin that the sticky cookie is to name.
    pub fn stick_to(&self, origin: usize) {
        self.stuck_to.set(Some(origin));
    }

    /// The origin that the sticky cookie is to name.
    #[must_use]
    pub fn stuck_to(&self) -> Option<usize> {
        self.stuck_to.get()
    }

    /// Notes the origin that failed.
    pub fn note_failed(&self, origin: usize) {
        self.failed_at.set(u8::try_from(origin).ok());
    }

    /// The origin that failed last, as settings and metrics name it.
    #[must_use]
    pub fn failed_origin(&self) -> Option<&str> {
        let member = self.site().group.members.get(usize::from(self.failed_at.get()?))?;
        Some(&member.connector.upstream.label)
    }

    /// Positions of the site and of its path rule; sites for who keeps a programme lie behind all others.
    #[must_use]
    pub fn rule_place(&self) -> (usize, Option<usize>) {
        let behind = if self.programme { self.snapshot.sites.len() } else { 0 };
        (self.site + behind, self.path_rule)
    }

    /// What holds on this path.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        self.site().rule(self.path_rule)
    }
}

/// A target as an address of the site with this root.
fn below(root: &Url, target: &str) -> Url {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut url = root.clone();
    url.set_path(path);
    url.set_query(query);
    url
}

/// Both the peer and the client it speaks for must be allowed to ask.
fn may_ask(ranges: &[ipnet::IpNet], peer: IpAddr, client: IpAddr) -> bool {
    client_addr::is_in(ranges, peer) && client_addr::is_in(ranges, client)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The root is parsed once a connection; what comes out is what parsing all of it would give.
    #[test]
    fn a_target_below_the_root_is_the_address_that_parsing_gives() {
        for root in ["http://shop.example:8080/", "https://b\u{fc}cher.example/", "http://[::1]/"] {
            let parsed = Url::parse(root).unwrap();
            for target in [
                "/",
                "/a/b.html",
                "/a/../b/./c",
                "//x/y",
                "/\\x\\y",
                "/?",
                "/a?b?c=/../d",
                "/a?b&c=%zz",
                "/%2e%2E/a",
                "/a;b=c",
                "/\"<>`{}|^",
                "/?\"<>'`{}|^",
                "/a:b@c",
                "/a//b//",
                "/%ff",
                "/..",
                "/a/..?x",
            ] {
                let whole = Url::parse(&format!("{}{target}", root.trim_end_matches('/'))).unwrap();
                assert_eq!(below(&parsed, target), whole, "{root} {target}");
            }
        }
    }
}
