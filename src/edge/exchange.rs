//! One request and its response, as far as later steps need to know it.

use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use url::Url;

use super::claims;
use super::client_addr::{self, Client, Hop};
use super::error::ProxyError;
use super::hostless;
use super::house::{Core, Held, Rule, Site};
use super::request_id::RequestId;
use super::stages::Stages;
use super::strict::{self, Reason};
use super::upstream::Tail;
use crate::config::Limits;
use crate::enforce::names::Names;
use crate::privacy::{Aliases, Decision, Mark, Mode, Named, Signals};
use crate::store::recipients::AccountKey;

/// A trusted client's wish to be told why.
static EXPLAIN: HeaderName = HeaderName::from_static("optgate-explain");

/// So often a request may come by: fronts of one make are two or three, and an origin that leads back here would take
/// every descriptor with one request.
const MOST_PASSES: usize = 10;

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

/// Host of a request as sent: `:authority` or `Host`, exactly one.
///
/// RFC 9112, 3.2: a request without `Host`, or with several, is answered 400. RFC 9113, 8.3.1: `Host`
/// must not differ from `:authority`, but for a port that says nothing.
///
/// # Errors
/// [`ProxyError::BadHost`], [`ProxyError::HostMismatch`].
pub fn host_of(request: &Request<Incoming>) -> Result<HeaderValue, ProxyError> {
    let mut fields = request.headers().get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(ProxyError::BadHost);
    }
    let (authority, scheme) = (request.uri().authority(), request.uri().scheme_str());
    if let (Some(authority), Some(field)) = (authority, field)
        && !without_default_port(authority.as_str().as_bytes(), scheme)
            .eq_ignore_ascii_case(without_default_port(field.as_bytes(), scheme))
    {
        return Err(ProxyError::HostMismatch);
    }
    match (field, authority) {
        (Some(field), _) => Ok(field.clone()),
        // HTTP/1.1 must name its host in the field (RFC 9112, 3.2).
        (None, Some(authority)) if request.version() != Version::HTTP_11 => {
            HeaderValue::from_str(authority.as_str()).map_err(|_| ProxyError::BadHost)
        }
        _ => Err(ProxyError::BadHost),
    }
}

/// A host without the port that its scheme has anyway (RFC 9110, 4.2.3), or an empty one.
fn without_default_port<'h>(host: &'h [u8], scheme: Option<&str>) -> &'h [u8] {
    let port: &[u8] = if scheme.is_some_and(|s| s.eq_ignore_ascii_case("https")) { b":443" } else { b":80" };
    host.strip_suffix(port).or_else(|| host.strip_suffix(b":")).unwrap_or(host)
}

/// Host without port and trailing dot, lower case; `None` when it is no host.
///
/// Narrower than RFC 3986, 3.2.2: names of letters, digits, `-`, `_` and dots, or an address.
fn host_name(text: &str) -> Option<Cow<'_, str>> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) = rest.split_once(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            (&text[..inner.len() + 2], after.strip_prefix(':').or(after.is_empty().then_some(""))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let literal = name.starts_with('[');
    let name = if literal { name } else { name.strip_suffix('.').unwrap_or(name) };
    let good_byte = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let good_name = literal || name.bytes().all(good_byte) && !name.starts_with('.') && !name.contains("..");
    let good = good_name
        && (1..=255).contains(&name.len())
        && port.bytes().all(|b| b.is_ascii_digit())
        && (port.is_empty() || port.parse::<u16>().is_ok());
    let lower = !name.bytes().any(|b| b.is_ascii_uppercase());
    good.then(|| if lower { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) })
}

/// Refuses a body whose end can be read in two ways (RFC 9112, 6.1 and 6.3; RFC 9113, 8.1.1): more than one
/// length, any `Transfer-Encoding` but one `chunked`, or one beside a `Content-Length`. HTTP/1.1 heads have
/// been held to this byte by byte.
fn check_length(headers: &HeaderMap) -> Result<(), ProxyError> {
    if headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(ProxyError::AmbiguousLength);
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    let chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if chunked && codings.next().is_none() && !headers.contains_key(header::CONTENT_LENGTH) {
        return Ok(());
    }
    Err(ProxyError::AmbiguousLength)
}

/// Refuses an HTTP/2 head above `limits.header_bytes` or `limits.header_count`; HTTP/1.1 heads have been held to
/// them byte by byte. Pieces of `Cookie` make one field (RFC 9113, 8.2.3) and have a limit of their own.
///
/// Cost: one pass over the fields.
fn check_size<B>(request: &Request<B>, limits: &Limits) -> Result<(), ProxyError> {
    if request.version() != Version::HTTP_2 {
        return Ok(());
    }
    let crumbs = request.headers().get_all(header::COOKIE).iter().count();
    if crumbs > limits.http2_cookie_crumbs {
        return Err(ProxyError::ManyCrumbs);
    }
    if request.headers().len() - crumbs + usize::from(crumbs > 0) > limits.header_count {
        return Err(ProxyError::Malformed(Reason::ManyFields));
    }
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.header_bytes {
        return Err(ProxyError::Malformed(Reason::LongTarget));
    }
    // Each field has a colon, a space and a line end.
    let fields: usize = request.headers().iter().map(|(n, v)| n.as_str().len() + v.len() + 4).sum();
    let long = target + fields > limits.header_bytes;
    if long { Err(ProxyError::Malformed(Reason::LongHead)) } else { Ok(()) }
}

/// Refuses methods and targets that are not for a reverse proxy (RFC 9112, 3.2.3 and 3.2.4), and `TRACE`, which
/// would show a page's scripts the credentials and what we tell the origin (RFC 9110, 9.3.8).
fn check_target(method: &Method, uri: &Uri, version: Version) -> Result<(), ProxyError> {
    if method == Method::TRACE {
        return Err(ProxyError::MethodNotAllowed);
    }
    // A target of another form has an empty path, which http's types read as `/`.
    let target = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let path = if version == Version::HTTP_11 && uri.authority().is_some() { uri.path() } else { target };
    let web = |scheme: &str| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let good = method != Method::CONNECT
        && (path.starts_with('/') || (path == "*" && method == Method::OPTIONS))
        && target.bytes().all(|byte| byte.is_ascii_graphic())
        && uri.scheme_str().is_none_or(web);
    if good { Ok(()) } else { Err(ProxyError::BadTarget) }
}

impl Exchange {
    /// Step 1: who asks which site, and what holds there. Deletes client-sent `Optgate-*` fields.
    ///
    /// # Errors
    /// A request that names no site, or is not for a reverse proxy.
    pub fn identify(core: &Core, hop: &Rc<Hop>, request: &mut Request<Incoming>) -> Result<Self, ProxyError> {
        check_target(request.method(), request.uri(), request.version())?;
        let names = Names::of(request.headers());
        if names.any(Names::LENGTH.or(Names::CODING)) {
            check_length(request.headers())?;
        }
        if request.version() == Version::HTTP_2 {
            let ended = request.body().is_end_stream();
            strict::hold_to_http1(request.headers_mut(), ended).map_err(ProxyError::Malformed)?;
        }
        if names.any(Names::VIA) && client_addr::passes(request.headers()) >= MOST_PASSES {
            return Err(ProxyError::Loop);
        }
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
        check_size(request, &settings.limits)?;
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

    /// RFC 3986, 3.2.2 and 3.2.3.
    #[test]
    fn hosts_lose_port_case_and_trailing_dot() {
        for (given, name) in [
            ("Shop.Example:8080", "shop.example"),
            ("shop.example.", "shop.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
        ] {
            assert_eq!(host_name(given).as_deref(), Some(name), "{given}");
        }
        for bad in [
            "",
            ":80",
            "a b",
            "a/b",
            "user@host",
            "[::1",
            "[zz]",
            "host:80:90",
            "host:8x",
            ".",
            "a[b",
            "a%41",
            "a..b",
            ".a",
            "a:65536",
            "[::1]a",
        ] {
            assert_eq!(host_name(bad), None, "{bad}");
        }
    }

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

    #[test]
    fn only_origin_form_and_options_asterisk_are_forwarded() {
        let ok = |m: Method, u: &str| check_target(&m, &u.parse().unwrap(), Version::HTTP_11).is_ok();
        assert!(ok(Method::GET, "/a?b"));
        assert!(ok(Method::GET, "http://h/a"));
        assert!(ok(Method::OPTIONS, "*"));
        assert!(!ok(Method::GET, "*"));
        assert!(!ok(Method::CONNECT, "h:443"));
        assert!(!ok(Method::GET, "ftp://h/a"));
        assert!(!ok(Method::TRACE, "/a"));
    }
}
