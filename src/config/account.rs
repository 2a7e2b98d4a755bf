//! Whom a request names: accounts and profiles, and where their keys are read.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::key::KeyPath;
use super::load::Merged;
use super::meaning::{self, Problems};
use super::raw::{RawAccount, RawAccountJwt};
use super::sharing::is_cookie_name;
use super::units::Complaint;
use crate::privacy::{cookie, marks};

/// Where the key of a request's account is read. All are asked; the first that names one counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// Name of the request header that carries the key, from trusted proxies only.
    pub header: Option<http::HeaderName>,
    /// A token that the request carries.
    pub jwt: Option<Jwt>,
    /// What the origin's answers say.
    pub session: Option<Session>,
    /// Name of the cookie that holds the key of a pseudonymous profile.
    pub profile_cookie: Option<String>,
}

impl Account {
    /// Whether no request can name anybody.
    #[must_use]
    pub const fn names_nobody(&self) -> bool {
        self.header.is_none() && self.jwt.is_none() && self.session.is_none() && self.profile_cookie.is_none()
    }
}

/// A JSON Web Token (RFC 7519) of which a claim is the account's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// Name of the cookie that holds it.
    pub cookie: Option<String>,
    /// It comes as `Authorization: Bearer` (RFC 6750).
    pub bearer: bool,
    /// The claim.
    pub claim: String,
    /// Algorithms that count; at least one.
    pub algorithms: Vec<JwtAlgorithm>,
    /// What it is verified with.
    pub keys: JwtKeys,
    /// The issuer it must have.
    pub issuer: Option<String>,
    /// Audiences of which it must have one; empty: any.
    pub audience: Vec<String>,
    /// How far its times may be off.
    pub leeway: Duration,
}

/// Where the keys of tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// A file: a secret, a public key as PEM, or a JSON Web Key Set (RFC 7517).
    File(PathBuf),
    /// A JSON Web Key Set that is fetched.
    Url(JwksUrl),
}

/// A JSON Web Key Set at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl {
    /// The address: https, or http on loopback.
    pub url: Url,
    /// PEM file of roots to verify its server with, instead of the system's.
    pub roots: Option<PathBuf>,
    /// Between two fetches.
    pub refresh: Duration,
}

/// An algorithm of signatures (RFC 7518, 3.1; RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of the register")]
pub enum JwtAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl JwtAlgorithm {
    /// Signed with a secret that both sides have.
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }

    /// Least bytes of such a secret (RFC 7518, 3.2).
    #[must_use]
    pub const fn least_secret(self) -> usize {
        match self {
            Self::HS384 => 48,
            Self::HS512 => 64,
            _ => 32,
        }
    }
}

/// An origin that names the account of a session in its answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The response header; it never reaches the visitor.
    pub header: http::HeaderName,
    /// Name of the cookie by which the session is known again.
    pub cookie: String,
    /// Sessions remembered at a time, all cores together.
    pub most: usize,
    /// How long a session is remembered after the origin named its account last.
    pub lasts: Duration,
}

/// Reads the name of a cookie of the site's own.
///
/// # Errors
/// No cookie name, or one of ours.
pub fn parse_cookie(text: &str) -> Result<String, Complaint> {
    let next = "write the name of one of the site's cookies, like \"session\"";
    if text == cookie::NAME || text.starts_with(marks::PREFIX) {
        return Err(Complaint::new("that is a cookie of Optgate's own", next));
    }
    if !is_cookie_name(text) {
        return Err(Complaint::new(format!("\"{text}\" is no cookie name (RFC 6265, section 4.1.1)"), next));
    }
    Ok(text.to_owned())
}

/// `[account]`.
pub(super) fn account(merged: &Merged, problems: &mut Problems<'_>) -> Account {
    let raw = &merged.raw;
    let header = raw.account.header.as_ref().map(|name| name.0.clone());
    if header.is_some() && raw.trusted_proxies.0.is_empty() {
        problems.wrong(
            &KeyPath::of("account.header"),
            "`account.header` needs `trusted_proxies`".to_owned(),
            "anyone could name any account: the header is believed from trusted peers only, and none is named",
            "add the addresses of the hop that sets the header to `trusted_proxies`",
        );
    }
    Account {
        header,
        jwt: raw.account.jwt.as_ref().and_then(|written| jwt(written, problems)),
        session: session(&raw.account, problems),
        profile_cookie: raw.account.profile_cookie.as_ref().map(|name| name.0.clone()),
    }
}

fn session(written: &RawAccount, problems: &mut Problems<'_>) -> Option<Session> {
    meaning::within("account.sessions", written.sessions as u64, 1, 100_000_000, problems);
    if written.session_lasts.0.is_zero() {
        problems.wrong(
            &KeyPath::of("account.session_lasts"),
            "`account.session_lasts` is zero".to_owned(),
            "a session's account would be forgotten at once",
            "write at least as long as a session of the site lasts: \"24h\"",
        );
    }
    match (&written.response_header, &written.session_cookie) {
        (Some(header), Some(cookie)) => Some(Session {
            header: header.0.clone(),
            cookie: cookie.0.clone(),
            most: written.sessions,
            lasts: written.session_lasts.0,
        }),
        (Some(_), None) => {
            problems.wrong(
                &KeyPath::of("account.response_header"),
                "`account.response_header` needs `account.session_cookie`".to_owned(),
                "an answer names the account too late for its own request: the next one must be known by a cookie",
                "add session_cookie = \"NAME\", the cookie that holds the site's session",
            );
            None
        }
        (None, Some(_)) => {
            problems.wrong(
                &KeyPath::of("account.session_cookie"),
                "`account.session_cookie` needs `account.response_header`".to_owned(),
                "nothing would say whose session it is",
                "add response_header = \"NAME\", the header by which the site's answers name the account",
            );
            None
        }
        (None, None) => None,
    }
}

fn jwt(written: &RawAccountJwt, problems: &mut Problems<'_>) -> Option<Jwt> {
    let top = KeyPath::of("account.jwt");
    if written.cookie.is_none() && !written.bearer {
        problems.missing(
            &top.key("cookie"),
            "`account.jwt` says not where the token is".to_owned(),
            "a token is read from a cookie, or from `Authorization: Bearer`",
            "add cookie = \"NAME\", or bearer = true",
        );
    }
    if written.algorithms.0.is_empty() {
        problems.missing(
            &top.key("algorithms"),
            "`account.jwt.algorithms` is missing".to_owned(),
            "a token must not choose how it is verified (RFC 8725, section 3.1)",
            "name what the issuer signs with: algorithms = [\"RS256\"]",
        );
    }
    if written.claim.is_empty() {
        problems.wrong(
            &top.key("claim"),
            "`account.jwt.claim` is empty".to_owned(),
            "no claim has that name",
            "write the claim that holds the account's key, or remove the setting for \"sub\"",
        );
    }
    let keys = keys(&top, written, problems)?;
    Some(Jwt {
        cookie: written.cookie.as_ref().map(|name| name.0.clone()),
        bearer: written.bearer,
        claim: written.claim.clone(),
        algorithms: written.algorithms.0.clone(),
        keys,
        issuer: written.issuer.clone(),
        audience: written.audience.0.clone(),
        leeway: written.leeway.0,
    })
}

fn keys(top: &KeyPath, written: &RawAccountJwt, problems: &mut Problems<'_>) -> Option<JwtKeys> {
    if written.jwks_roots.is_some() && written.jwks_url.is_none() {
        let path = top.key("jwks_roots");
        let (why, next) = ("nothing is fetched", "add `jwks_url`, or remove the setting");
        problems.wrong(&path, format!("`{path}` has no effect"), why, next);
    }
    match (&written.keys, &written.jwks_url) {
        (Some(file), None) => {
            let what = "a file with the secret, a public key as PEM, or a JWKS";
            Some(JwtKeys::File(meaning::readable(&top.key("keys"), file, what, problems)))
        }
        (None, Some(url)) => {
            let path = top.key("jwks_roots");
            let roots = written.jwks_roots.as_ref();
            let roots = roots.map(|file| meaning::readable(&path, file, "a PEM file of roots", problems));
            let url = jwks_url(&top.key("jwks_url"), url, problems);
            refuse_public_secrets(top, written, problems);
            let path = top.key("refresh");
            if written.refresh.0 < Duration::from_secs(1) {
                let (why, next) = ("its server would be asked without a pause", "write 1s or more");
                problems.wrong(&path, format!("`{path}` is too short"), why, next);
            }
            Some(JwtKeys::Url(JwksUrl { url: url?, roots, refresh: written.refresh.0 }))
        }
        (Some(_), Some(_)) => {
            let path = top.key("jwks_url");
            let why = "which of the two a token must fit would not be said";
            problems.wrong(&path, format!("`{path}` and `keys` are both set"), why, "remove one of them");
            None
        }
        (None, None) => {
            problems.missing(
                &top.key("keys"),
                "`account.jwt` has no keys".to_owned(),
                "a token that nobody verifies could name any account",
                "add keys = \"FILE\" (a secret, a PEM or a JWKS), or jwks_url = \"https://...\"",
            );
            None
        }
    }
}

/// A secret that can be fetched is none.
fn refuse_public_secrets(top: &KeyPath, written: &RawAccountJwt, problems: &mut Problems<'_>) {
    if let Some(at) = written.algorithms.0.iter().position(|algorithm| algorithm.is_symmetric()) {
        let path = top.key("algorithms").at(at);
        problems.wrong(
            &path,
            format!("`{path}` cannot be used with `jwks_url`"),
            "its key is a secret, and what is fetched from an address is none",
            "name the algorithm of the published keys, like \"RS256\"; a secret goes into `keys`",
        );
    }
}

/// An address to be called that nobody on the way can change: https, or http on loopback; no secret in it.
pub(super) fn outward_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(Url::has_host);
    let loopback = |url: &Url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    let plain = |url: &Url| url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    url.filter(|url| plain(url) && (url.scheme() == "https" || url.scheme() == "http" && loopback(url)))
}

fn jwks_url(path: &KeyPath, text: &str, problems: &mut Problems<'_>) -> Option<Url> {
    let url = outward_url(text);
    if url.is_none() {
        problems.wrong(
            path,
            format!("`{path}` cannot be used"),
            &format!("\"{text}\" is no https URL (http only on loopback): who can change keys on their way can name any account"),
            "write the address of the issuer's key set: \"https://id.example.com/.well-known/jwks.json\"",
        );
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The opt-out's own cookie names nobody, and must not be hashed as if it did.
    #[test]
    fn a_cookie_of_ours_is_no_key_of_a_person() {
        for ours in ["optgate", "optgate-said-u", "", "a b", "a;b", "a=b"] {
            assert!(parse_cookie(ours).is_err(), "{ours}");
        }
        assert_eq!(parse_cookie("session").unwrap(), "session");
    }
}
