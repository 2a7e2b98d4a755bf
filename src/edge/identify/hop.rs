//! What is the same for every request of one connection, and what the origin is told of the way a request came.
//!
//! Forwarding fields of anybody but a trusted proxy are replaced, never appended to.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::rc::Rc;

use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::client_addr::{Client, X_FORWARDED_FOR, X_FORWARDED_PROTO, parse_hop};
use super::request_id::{RequestId, X_REQUEST_ID};
use crate::edge::downstream::tls::Shown;
use crate::edge::message::wire;
use crate::enforce::fields;
use crate::enforce::names::Names;

static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// How a request came.
#[derive(Debug, Clone, Copy)]
pub struct Way<'h> {
    /// What it has been sent with.
    pub names: Names,
    /// By whom.
    pub client: Client,
    /// What the client asked for.
    pub host: &'h HeaderValue,
    /// The downstream protocol.
    pub version: Version,
}

/// Values that are the same for every request of one downstream connection.
#[derive(Debug)]
pub struct Hop {
    /// Address of the peer.
    pub peer: IpAddr,
    /// The connection to us is TLS.
    pub tls: bool,
    /// The peer is behind a Unix socket: its address is nobody's.
    pub is_unix: bool,
    /// Whose requests belong here; `None` where no handshake says.
    shown: Option<Shown>,
    peer_text: HeaderValue,
    /// What was made for the last host: a connection's requests are mostly for one.
    last: RefCell<Option<Box<LastHost>>>,
    /// The last host that was asked for here, and where it led.
    found: RefCell<Option<Found>>,
}

/// What is made of a host as the client sent it, and of the scheme.
#[derive(Debug)]
struct LastHost {
    host: HeaderValue,
    secure: bool,
    /// `Forwarded` that names the peer alone.
    forwarded: HeaderValue,
    /// What [`Hop::lines`] gives for one protocol.
    lines: Option<(Version, Rc<[u8]>)>,
    /// The address of its root, once a page was asked for; `None` within: no URL can hold the host.
    root: Option<Option<Rc<Url>>>,
}

/// A host that was found to belong on a connection.
#[derive(Debug)]
struct Found {
    host: HeaderValue,
    /// The number of the settings it was found in.
    settings: u64,
    site: usize,
}

impl Hop {
    /// Built once a connection.
    #[must_use]
    pub fn new(peer: IpAddr, tls: bool) -> Self {
        let peer = peer.to_canonical();
        let (last, found) = (RefCell::default(), RefCell::default());
        Self { peer, tls, is_unix: false, shown: None, peer_text: listed(&[peer]), last, found }
    }

    /// The same, where the peer may be behind a Unix socket.
    #[must_use]
    pub fn over_unix(self, is_unix: bool) -> Self {
        Self { is_unix, ..self }
    }

    /// The same after a handshake that named whom the client wants.
    #[must_use]
    pub fn for_requests_to(self, shown: Option<Shown>) -> Self {
        Self { shown, ..self }
    }

    /// Whether a request for a host (lower case, without port) belongs on this connection.
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        self.shown.as_ref().is_none_or(|shown| shown.is_for(host))
    }

    /// The site of a host as the client sent it, where the same was the last one asked for here, in the same
    /// settings.
    #[must_use]
    pub fn known(&self, host: &HeaderValue, settings: u64) -> Option<usize> {
        let found = self.found.borrow();
        found.as_ref().filter(|last| last.host == host && last.settings == settings).map(|last| last.site)
    }

    /// Remembers a host whose requests belong on this connection.
    pub fn remember(&self, host: &HeaderValue, settings: u64, site: usize) {
        *self.found.borrow_mut() = Some(Found { host: detached(host), settings, site });
    }

    /// Rewrites `X-Forwarded-*`, `Forwarded` (RFC 7239), `Via` (RFC 9110, 7.6.3) and `X-Request-Id` for the
    /// origin.
    ///
    /// The chain begins with the client and ends with the peer: what stands before the client was said by
    /// the client.
    pub fn rewrite(&self, headers: &mut HeaderMap, way: Way<'_>, request_id: &RequestId) {
        self.tell(headers, way);
        fields::set(headers, !way.names.any(Names::CLAIM), &X_REQUEST_ID, request_id.value());
    }

    /// All of that but the id.
    fn tell(&self, headers: &mut HeaderMap, way: Way<'_>) {
        let Way { names, client, host, version } = way;
        let scheme = scheme(client.secure);
        let trusted = client.peer_trusted;
        // All of them but `Via` are such claims, from whomever.
        let absent = !names.any(Names::CLAIM);
        if trusted && client.address != self.peer {
            let hops = hops_from(headers, client.address, self.peer);
            headers.insert(header::FORWARDED, forwarded(&hops, host, scheme));
            headers.insert(&X_FORWARDED_FOR, listed(&hops));
        } else {
            let value = self.forwarded(host, client.secure);
            fields::set(headers, absent, &header::FORWARDED, value);
            fields::set(headers, absent, &X_FORWARDED_FOR, self.peer_text.clone());
        }
        fields::set(headers, absent, &X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
        if !(trusted && headers.contains_key(&X_FORWARDED_HOST)) {
            fields::set(headers, absent, &X_FORWARDED_HOST, host.clone());
        }
        if !trusted && !absent {
            headers.remove(&X_FORWARDED_PORT);
        }
        let real =
            if client.address == self.peer { self.peer_text.clone() } else { listed(&[client.address]) };
        fields::set(headers, absent, &X_REAL_IP, real);
        let protocol = match version {
            Version::HTTP_2 => HeaderValue::from_static("2 optgate"),
            Version::HTTP_10 => HeaderValue::from_static("1.0 optgate"),
            _ => HeaderValue::from_static("1.1 optgate"),
        };
        let told = names.any(Names::VIA);
        // A stranger's way here is told too: whoever passes a message on adds to the field, and `client_addr::passes`
        // must find us.
        let before = if told { joined(headers, &header::VIA) } else { None };
        fields::set(headers, !told, &header::VIA, appended(before, &protocol));
    }

    /// What [`Self::rewrite`] says, but for the id, in lines as they are written: for a head without claims and `Via`
    /// that comes from the peer itself. Most requests of a connection have the same ones.
    ///
    /// Cost: a count; they are made where the host is another than the last.
    #[must_use]
    pub fn lines(&self, host: &HeaderValue, secure: bool, version: Version) -> Rc<[u8]> {
        let made = self.made_for(host, secure, |last| last.lines.clone());
        if let Some((_, lines)) = made.filter(|(made_for, _)| *made_for == version) {
            return lines;
        }
        let (mut fields, mut lines) = (HeaderMap::new(), Vec::new());
        let client = Client { address: self.peer, secure, peer_trusted: false };
        self.tell(&mut fields, Way { names: Names::NONE, client, host, version });
        wire::write_fields(&mut lines, &fields);
        let lines: Rc<[u8]> = lines.into();
        self.made_for(host, secure, |last| last.lines = Some((version, Rc::clone(&lines))));
        lines
    }

    /// `Forwarded` for a request that comes from the peer itself.
    fn forwarded(&self, host: &HeaderValue, secure: bool) -> HeaderValue {
        self.made_for(host, secure, |last| last.forwarded.clone())
    }

    /// The address of a host's root, as the visitor's browser has it; `None`: no URL can hold it.
    #[must_use]
    pub fn root(&self, host: &HeaderValue, secure: bool) -> Option<Rc<Url>> {
        let parsed = || {
            let host = host.to_str().ok()?;
            Url::parse(&[scheme(secure), "://", host, "/"].concat()).ok().map(Rc::new)
        };
        self.made_for(host, secure, |last| last.root.get_or_insert_with(parsed).clone())
    }

    fn made_for<R>(&self, host: &HeaderValue, secure: bool, take: impl FnOnce(&mut LastHost) -> R) -> R {
        let mut last = self.last.borrow_mut();
        if let Some(last) = last.as_deref_mut().filter(|last| last.host == host && last.secure == secure) {
            return take(last);
        }
        let forwarded = forwarded(&[self.peer], host, scheme(secure));
        take(last.insert(Box::new(LastHost {
            host: detached(host),
            secure,
            forwarded,
            lines: None,
            root: None,
        })))
    }
}

/// A copy of a value that holds no piece of the connection's read buffer.
fn detached(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone())
}

const fn scheme(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}

/// Hops from the client to the peer, both included; what `X-Forwarded-For` says before the client is left out.
fn hops_from(headers: &HeaderMap, client: IpAddr, peer: IpAddr) -> Vec<IpAddr> {
    let mut hops = vec![peer];
    let fields = headers.get_all(&X_FORWARDED_FOR).iter().rev().filter_map(|value| value.to_str().ok());
    for hop in fields.flat_map(|text| text.rsplit(',')).map_while(|hop| parse_hop(hop.trim())) {
        hops.push(hop);
        if hop == client {
            break;
        }
    }
    hops.reverse();
    hops
}

fn listed(hops: &[IpAddr]) -> HeaderValue {
    let text: Vec<String> = hops.iter().map(ToString::to_string).collect();
    // Addresses in text are always a valid field value.
    HeaderValue::from_str(&text.join(", ")).unwrap_or(HeaderValue::from_static("unknown"))
}

/// RFC 7239, 4 and 6: an IPv6 address stands in brackets and quotes; host and scheme are what the client used.
fn forwarded(hops: &[IpAddr], host: &HeaderValue, scheme: &str) -> HeaderValue {
    let mut text = String::with_capacity(64);
    for hop in hops {
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = match hop {
            IpAddr::V4(v4) => write!(text, "{separator}for={v4}"),
            IpAddr::V6(v6) => write!(text, "{separator}for=\"[{v6}]\""),
        };
        if separator.is_empty() {
            if let Ok(host) = host.to_str() {
                let _ = write!(text, ";host=\"{host}\"");
            }
            let _ = write!(text, ";proto={scheme}");
        }
    }
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("for=unknown"))
}

/// All lines of a field as one list; `None` when there is none, or it cannot be read.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut all = lines.next()?.to_owned();
    for line in lines {
        all.push_str(", ");
        all.push_str(line);
    }
    Some(all)
}

fn appended(before: Option<String>, value: &HeaderValue) -> HeaderValue {
    let Some(mut chain) = before else { return value.clone() };
    chain.push_str(", ");
    chain.push_str(value.to_str().unwrap_or("unknown"));
    HeaderValue::from_str(&chain).unwrap_or_else(|_| value.clone())
}

#[cfg(test)]
mod tests {
    use super::super::client_addr::find;
    use super::*;

    fn trusted() -> Vec<ipnet::IpNet> {
        vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn id() -> RequestId {
        RequestId::Given(HeaderValue::from_static("id"))
    }

    #[test]
    fn strangers_fields_are_replaced_and_a_trusted_chain_grows() {
        let host = HeaderValue::from_static("shop.example");
        let id = id();
        let mut map = headers(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-forwarded-port", "1"),
            ("via", "1.1 a"),
        ]);
        let stranger = find(&map, ip("203.0.113.9"), true, &trusted());
        let way = Way { names: Names::ALL, client: stranger, host: &host, version: Version::HTTP_2 };
        Hop::new(ip("203.0.113.9"), true).rewrite(&mut map, way, &id);
        assert_eq!(map["x-forwarded-for"], "203.0.113.9");
        assert_eq!(map["forwarded"], "for=203.0.113.9;host=\"shop.example\";proto=https");
        assert_eq!(map["x-forwarded-proto"], "https");
        assert_eq!(map["x-forwarded-host"], "shop.example");
        assert_eq!(map["via"], "1.1 a, 2 optgate", "RFC 9110, 7.6.3: each adds itself, whoever came before");
        assert!(!map.contains_key("x-forwarded-port"));

        let mut map = headers(&[("x-forwarded-for", "6.6.6.6, 203.0.113.7"), ("via", "1.1 a")]);
        let client = find(&map, ip("10.0.0.1"), false, &trusted());
        let way = Way { names: Names::ALL, client, host: &host, version: Version::HTTP_11 };
        Hop::new(ip("10.0.0.1"), false).rewrite(&mut map, way, &id);
        assert_eq!(map["x-forwarded-for"], "203.0.113.7, 10.0.0.1");
        assert_eq!(map["x-real-ip"], "203.0.113.7");
        assert_eq!(map["via"], "1.1 a, 1.1 optgate");
        assert_eq!(map["forwarded"], "for=203.0.113.7;host=\"shop.example\";proto=http, for=10.0.0.1");
    }

    /// Setting a field that is known to be absent must come to the same.
    #[test]
    fn a_head_without_claims_gets_the_same_fields() {
        let hop = Hop::new(ip("203.0.113.9"), false);
        let rewritten = |names: Names| {
            let mut map = headers(&[("host", "shop.example"), ("accept", "*/*")]);
            let client = find(&map, ip("203.0.113.9"), false, &trusted());
            let host = HeaderValue::from_static("shop.example");
            hop.rewrite(&mut map, Way { names, client, host: &host, version: Version::HTTP_11 }, &id());
            map
        };
        let named = Names::of(&headers(&[("host", "shop.example"), ("accept", "*/*")]));
        assert!(!named.any(Names::CLAIM.or(Names::VIA)));
        assert_eq!(rewritten(named), rewritten(Names::ALL));
        let all = [&X_FORWARDED_FOR, &X_FORWARDED_PROTO, &X_FORWARDED_HOST, &X_REAL_IP, &X_REQUEST_ID];
        for name in all.into_iter().chain([&header::FORWARDED]) {
            let sent = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("1"))]);
            assert!(Names::of(&sent).any(Names::CLAIM), "{name}");
        }
    }

    /// Requests of one connection may be for several hosts, and a trusted peer's for several clients.
    #[test]
    fn what_a_connection_remembers_is_of_the_same_host_and_scheme() {
        let hop = Hop::new(ip("10.0.0.1"), false);
        let forwarded = |host: &'static str, secure: bool, from: &str| {
            let mut map =
                HeaderMap::from_iter([(X_FORWARDED_FOR.clone(), HeaderValue::from_str(from).unwrap())]);
            let client = Client { address: ip(from), secure, peer_trusted: true };
            let host = HeaderValue::from_static(host);
            let way = Way { names: Names::ALL, client, host: &host, version: Version::HTTP_11 };
            hop.rewrite(&mut map, way, &id());
            map[header::FORWARDED].to_str().unwrap().to_owned()
        };
        for _ in 0..2 {
            assert_eq!(
                forwarded("a.example", false, "10.0.0.1"),
                "for=10.0.0.1;host=\"a.example\";proto=http"
            );
            assert_eq!(
                forwarded("a.example", true, "10.0.0.1"),
                "for=10.0.0.1;host=\"a.example\";proto=https"
            );
            assert_eq!(
                forwarded("b.example", true, "10.0.0.1"),
                "for=10.0.0.1;host=\"b.example\";proto=https"
            );
            assert!(forwarded("b.example", true, "10.9.9.9").contains("10.9.9.9"));
        }
        let host = HeaderValue::from_static("a.example");
        assert_eq!(hop.known(&host, 1), None);
        hop.remember(&host, 1, 7);
        assert_eq!(hop.known(&host, 1), Some(7));
        assert_eq!(hop.known(&host, 2), None, "settings were read anew");
        assert_eq!(hop.known(&HeaderValue::from_static("b.example"), 1), None);
    }

    /// What an origin is told must not depend on the way it is told.
    #[test]
    fn lines_say_what_the_fields_would() {
        for peer in ["203.0.113.9", "2001:db8::1"] {
            let hop = Hop::new(ip(peer), false);
            for version in [Version::HTTP_11, Version::HTTP_2, Version::HTTP_11, Version::HTTP_10] {
                for (host, secure) in [("a.example", false), ("b.example:8080", false), ("a.example", true)] {
                    let host = HeaderValue::from_static(host);
                    let client = Client { address: ip(peer), secure, peer_trusted: false };
                    let mut map = HeaderMap::new();
                    hop.rewrite(&mut map, Way { names: Names::NONE, client, host: &host, version }, &id());
                    map.remove(&X_REQUEST_ID);
                    let lines = hop.lines(&host, secure, version);
                    assert_eq!(wire::read_fields(&lines), map);
                    assert!(
                        lines.ends_with(b"\r\n") && Rc::ptr_eq(&lines, &hop.lines(&host, secure, version))
                    );
                }
            }
        }
    }
}
