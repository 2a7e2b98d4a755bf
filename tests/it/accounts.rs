//! Whom a request names: tokens, sessions of the origin's answers, profiles; through a running proxy.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use optgate::app;
use optgate::privacy::cookie;
use serde_json::json;

use super::acceptance_choices::{PAGE, honoured, post, records_of, shop};
use super::support::client::get;
use super::support::origin::{Origin, answer};
use super::support::pki::Authority;
use super::support::proxy::{Builder, figure, proxy};

const GPC: &str = "Sec-GPC: 1\r\n";
/// Secret of the tests' tokens.
pub const SECRET: &[u8] = b"a secret of thirty-two bytes, or more";

fn token_with(
    algorithm: Algorithm,
    kid: Option<&str>,
    key: &EncodingKey,
    claims: &serde_json::Value,
) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

/// A token that names an account.
pub fn token(account: &str) -> String {
    token_with(Algorithm::HS256, None, &EncodingKey::from_secret(SECRET), &json!({"sub": account}))
}

fn with_secret(origin: &Origin, more: &str) -> Builder {
    let builder = proxy().to(origin);
    let file = builder.dir().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    builder.toml(&format!("[account.jwt]\nalgorithms = \"HS256\"\nkeys = {file:?}\n{more}\n"))
}

fn tokens(metrics: &str, result: &str) -> u64 {
    figure(metrics, &format!("optgate_account_tokens_total{{result=\"{result}\"}}")).unwrap()
}

/// Issue 6, account keys: a token's account is opted out by one browser's signal and stays so on another's next
/// request, by cookie or bearer alike.
#[test]
fn an_account_named_by_a_token_is_opted_out_on_every_browser() {
    let origin = shop(&["/"]);
    let proxy = with_secret(&origin, "cookie = \"id\"\nbearer = true").run();
    let (cookie, bearer) =
        (format!("Cookie: id={}\r\n", token("ann")), format!("Authorization: Bearer {}\r\n", token("ann")));
    assert!(!honoured(&proxy.get("/", &cookie)));
    assert!(honoured(&proxy.get("/", &format!("{GPC}{cookie}"))));
    assert!(honoured(&proxy.get("/", &cookie)), "another browser, without the signal");
    assert!(honoured(&proxy.get("/", &bearer)), "and the same account by the other way");
    assert!(!honoured(&proxy.get("/", &format!("Cookie: id={}\r\n", token("bob")))));
    assert_eq!(tokens(&proxy.running().metrics().render(), "verified"), 5);
    assert_eq!(origin.seen(3)[2].one("optgate-decision").as_deref(), Some("opted-out;basis=account"));
}

/// Threat: whoever can make up a token could read, or change, anybody's choice. It is no error to the visitor.
#[test]
fn a_token_that_does_not_verify_names_nobody_and_is_counted_by_its_reason() {
    let origin = shop(&["/"]);
    let proxy = with_secret(&origin, "cookie = \"id\"").run();
    let ann = format!("Cookie: id={}\r\n", token("ann"));
    assert_eq!(post(proxy.addr(), "/privacy-choices/opt-out", &ann, "").status(), 200);
    let other = EncodingKey::from_secret(&[b'x'; 32]);
    let forged = token_with(Algorithm::HS256, None, &other, &json!({"sub": "ann"}));
    let expired = json!({"sub": "ann", "exp": jiff::Timestamp::now().as_second() - 3_600});
    let expired = token_with(Algorithm::HS256, None, &EncodingKey::from_secret(SECRET), &expired);
    for (token, reason) in [(forged, "signature"), (expired, "expired"), ("junk".to_owned(), "malformed")] {
        let answer = proxy.get("/", &format!("Cookie: id={token}\r\n"));
        assert_eq!(answer.status(), 200);
        assert!(!honoured(&answer), "{reason}");
        // The second time it is known.
        proxy.get("/", &format!("Cookie: id={token}\r\n"));
        assert_eq!(tokens(&proxy.running().metrics().render(), reason), 2, "{reason}");
    }
    assert!(honoured(&proxy.get("/", &ann)));
}

/// RFC 7518, 3.1, RFC 8037: what is signed with a key pair is verified with its public part as PEM.
#[test]
fn tokens_signed_with_key_pairs_are_verified_by_their_public_key() {
    let pairs: [(Algorithm, &rcgen::SignatureAlgorithm); 3] = [
        (Algorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256),
        (Algorithm::EdDSA, &rcgen::PKCS_ED25519),
        (Algorithm::RS256, &rcgen::PKCS_RSA_SHA256),
    ];
    let origin = shop(&["/"]);
    for (algorithm, kind) in pairs {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let builder = proxy().to(&origin);
        let file = builder.dir().join("public.pem");
        std::fs::write(&file, pair.public_key_pem()).unwrap();
        let settings =
            format!("[account.jwt]\ncookie = \"id\"\nalgorithms = \"{algorithm:?}\"\nkeys = {file:?}\n");
        let proxy = builder.toml(&settings).run();
        let token = token_with(algorithm, Some("any"), &signing(algorithm, &pair), &json!({"sub": "ann"}));
        let ann = format!("Cookie: id={token}\r\n");
        assert!(honoured(&proxy.get("/", &format!("{GPC}{ann}"))));
        assert!(honoured(&proxy.get("/", &ann)), "{algorithm:?}");
        // RFC 8725, 2.1: a public key must not be taken for a secret.
        let confused = EncodingKey::from_secret(pair.public_key_pem().as_bytes());
        let confused = token_with(Algorithm::HS256, None, &confused, &json!({"sub": "ann"}));
        assert!(!honoured(&proxy.get("/", &format!("Cookie: id={confused}\r\n"))), "{algorithm:?}");
        assert_eq!(tokens(&proxy.running().metrics().render(), "algorithm"), 1);
    }
}

fn signing(algorithm: Algorithm, pair: &rcgen::KeyPair) -> EncodingKey {
    let der = pair.serialize_der();
    match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_der(&der),
        Algorithm::EdDSA => EncodingKey::from_ed_der(&der),
        // RFC 5208 puts 26 bytes before the key of RFC 8017, which the library wants alone.
        _ => EncodingKey::from_rsa_der(&der[26..]),
    }
}

/// Start refuses what could never verify a token, and says where.
#[test]
fn keys_that_cannot_be_used_are_refused_at_start() {
    let origin = shop(&["/"]);
    let pair = rcgen::KeyPair::generate().unwrap();
    for (text, algorithm, why) in [
        ("short".to_owned(), "HS256", "5 bytes"),
        (pair.serialize_pem(), "ES256", "private key"),
        (pair.public_key_pem(), "RS256", "no key here is for RS256"),
        (pair.public_key_pem(), "HS256", "no key here is for HS256"),
        ("{\"keys\": []}".to_owned(), "ES256", "no key here is for ES256"),
    ] {
        let builder = proxy().to(&origin);
        let file = builder.dir().join("keys");
        std::fs::write(&file, &text).unwrap();
        let settings =
            format!("[account.jwt]\nbearer = true\nalgorithms = \"{algorithm}\"\nkeys = {file:?}\n");
        let error = format!("{:#}", builder.toml(&settings).try_run().err().unwrap());
        assert!(error.contains(why) && error.contains("/keys") && error.contains("next:"), "{error}");
    }
}

/// A key set that is published, with keys that come and go.
struct Issuer {
    origin: Origin,
    keys: Arc<Mutex<Vec<(String, rcgen::KeyPair)>>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    fn start(origin: Origin) -> Self {
        let keys = Arc::new(Mutex::new(Vec::<(String, rcgen::KeyPair)>::new()));
        let asked = Arc::new(AtomicUsize::new(0));
        let (published, counted) = (Arc::clone(&keys), Arc::clone(&asked));
        let origin = origin.on("/jwks.json", move |x| {
            counted.fetch_add(1, Ordering::SeqCst);
            let all = published.lock().unwrap();
            if all.is_empty() {
                return x.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
            }
            let keys: Vec<_> = all
                .iter()
                .map(|(kid, pair)| {
                    let raw = pair.public_key_raw();
                    let part = |at: std::ops::Range<usize>| data_encoding::BASE64URL_NOPAD.encode(&raw[at]);
                    json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": part(1..33), "y": part(33..65)})
                })
                .collect();
            x.ok("application/json", json!({"keys": keys}).to_string().as_bytes())
        });
        Self { origin, keys, asked }
    }

    fn publish(&self, kid: &str) {
        self.keys.lock().unwrap().push((kid.to_owned(), rcgen::KeyPair::generate().unwrap()));
    }

    fn token(&self, kid: &str, account: &str) -> String {
        let keys = self.keys.lock().unwrap();
        let (_, pair) = keys.iter().find(|(name, _)| name == kid).unwrap();
        token_with(Algorithm::ES256, Some(kid), &signing(Algorithm::ES256, pair), &json!({"sub": account}))
    }

    fn url(&self) -> String {
        format!("{}/jwks.json", self.origin.url())
    }

    fn settings(&self) -> String {
        format!("[account.jwt]\ncookie = \"id\"\nalgorithms = \"ES256\"\njwks_url = \"{}\"\n", self.url())
    }
}

/// DESIGN 5: until anybody can say whose token it is, its bearer counts as opted out; no lasting mark follows.
#[test]
fn until_the_keys_have_come_a_request_with_a_token_counts_as_opted_out() {
    let (issuer, site) = (Issuer::start(Origin::start()), shop(&["/"]));
    let proxy = proxy().to(&site).toml(&issuer.settings()).run();
    let key = EncodingKey::from_ec_der(&rcgen::KeyPair::generate().unwrap().serialize_der());
    let early = token_with(Algorithm::ES256, Some("a"), &key, &json!({"sub": "ann"}));
    let answer = proxy.get("/", &format!("Cookie: id={early}\r\n"));
    assert!(honoured(&answer));
    assert!(answer.head.all("set-cookie").is_empty(), "{:?}", answer.head);
    assert!(!honoured(&proxy.get("/", "")), "nobody else does");
    issuer.publish("a");
    proxy.wait_for_line("optgate_account_key_fetches_total{result=\"taken\"} 1");
    let ann = format!("Cookie: id={}\r\n", issuer.token("a", "ann"));
    assert!(!honoured(&proxy.get("/", &ann)));
    assert_eq!(tokens(&proxy.running().metrics().render(), "verified"), 1);
}

/// RFC 7517, 4.5: a new key's name has the set fetched again, once; a made-up one does not have it fetched for ever.
#[test]
fn a_new_key_is_fetched_when_a_token_names_it_and_not_over_and_over() {
    let (issuer, site) = (Issuer::start(Origin::start()), shop(&["/"]));
    issuer.publish("a");
    let proxy = proxy().to(&site).toml(&issuer.settings()).run();
    proxy.wait_for_line("optgate_account_key_fetches_total{result=\"taken\"} 1");
    let ann = format!("Cookie: id={}\r\n", issuer.token("a", "ann"));
    assert!(honoured(&proxy.get("/", &format!("{GPC}{ann}"))));
    issuer.publish("b");
    let again = format!("Cookie: id={}\r\n", issuer.token("b", "ann"));
    assert!(honoured(&proxy.get("/", &again)), "nobody can say yet who it is");
    proxy.wait_for_line("optgate_account_key_fetches_total{result=\"taken\"} 2");
    assert!(honoured(&proxy.get("/", &again)), "the same account by the new key");
    assert!(!honoured(&proxy.get("/", &format!("Cookie: id={}\r\n", issuer.token("b", "bob")))));
    let made_up = EncodingKey::from_ec_der(&rcgen::KeyPair::generate().unwrap().serialize_der());
    for number in 0..50 {
        let kid = format!("no-{number}");
        let token = token_with(Algorithm::ES256, Some(&kid), &made_up, &json!({"sub": "ann"}));
        assert!(!honoured(&proxy.get("/", &format!("Cookie: id={token}\r\n"))));
    }
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2);
    assert_eq!(tokens(&proxy.running().metrics().render(), "unknown-key"), 50);
}

/// Threat: who can change keys on their way can name any account. The issuer's server is verified.
#[test]
fn keys_are_fetched_by_https_from_a_server_that_is_verified() {
    let authority = Authority::new();
    let server = authority.leaf("localhost").server();
    let (issuer, site) = (Issuer::start(Origin::start_tls(server)), shop(&["/"]));
    issuer.publish("a");
    let url = issuer.url().replace("127.0.0.1", "localhost");
    let settings = issuer.settings().replace(&issuer.url(), &url);
    let builder = proxy().to(&site);
    let roots = authority.write(builder.dir());
    let trusting = builder.toml(&format!("{settings}jwks_roots = {roots:?}\n")).run();
    trusting.wait_for_line("optgate_account_key_fetches_total{result=\"taken\"} 1");
    let builder = proxy().to(&site);
    let roots = Authority::new().write(builder.dir());
    let doubting = builder.toml(&format!("{settings}jwks_roots = {roots:?}\n")).run();
    super::support::wait_until("a failure", || {
        figure(&doubting.running().metrics().render(), "optgate_account_key_fetches_total{result=\"failed\"}")
            > Some(0)
    });
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
}

/// A reload keeps fetched keys, and reads a file of keys again.
#[test]
fn a_reload_keeps_fetched_keys_and_reads_files_again() {
    let (issuer, site) = (Issuer::start(Origin::start()), shop(&["/"]));
    issuer.publish("a");
    let proxy = proxy().to(&site).toml(&issuer.settings()).run();
    proxy.wait_for_line("optgate_account_key_fetches_total{result=\"taken\"} 1");
    proxy.reload(|text| format!("strip_link_params = true\n{text}")).unwrap();
    let ann = format!("Cookie: id={}\r\n", issuer.token("a", "ann"));
    assert!(!honoured(&proxy.get("/", &ann)));
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);

    let proxy = with_secret(&site, "cookie = \"id\"").run();
    let file = proxy.dir().join("secret");
    let new = [b'n'; 40];
    let ann = token_with(Algorithm::HS256, None, &EncodingKey::from_secret(&new), &json!({"sub": "ann"}));
    proxy.get("/", &format!("Cookie: id={ann}\r\n"));
    std::fs::write(&file, new).unwrap();
    proxy.reload(|text| text).unwrap();
    proxy.get("/", &format!("Cookie: id={ann}\r\n"));
    let metrics = proxy.running().metrics().render();
    assert_eq!((tokens(&metrics, "signature"), tokens(&metrics, "verified")), (1, 1));
}

/// A shop whose answers name the account of the session `sid=NAME`, as a site with a log-in does.
fn shop_with_sessions() -> Origin {
    let page = String::from_utf8(PAGE.to_vec()).unwrap();
    let named = move |x: &mut super::support::origin::Exchange<'_>| {
        let cookies = x.request().one("cookie").unwrap_or_default();
        let sid = cookies.split("; ").find_map(|pair| pair.strip_prefix("sid="));
        let account = sid.map_or_else(String::new, |sid| {
            format!("X-Account: {}\r\n", sid.trim_end_matches(char::is_numeric))
        });
        if x.request().one("if-none-match").is_some() {
            return x.send(format!("HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n{account}\r\n"));
        }
        x.send(answer(&format!("Content-Type: text/html\r\nETag: \"v1\"\r\n{account}"), &page))
    };
    let page = String::from_utf8(PAGE.to_vec()).unwrap();
    Origin::start()
        .on("/", named.clone())
        .on("/more", named)
        .on("/login", move |x| {
            let new = "Set-Cookie: sid=ann2; Path=/\r\nX-Account: ann\r\nContent-Type: text/html\r\n";
            x.body()?;
            x.send(answer(new, &page))
        })
        .on("/logout", |x| x.send(answer("X-Account:\r\nContent-Type: text/plain\r\n", "bye")))
}

fn with_sessions(origin: &Origin) -> Builder {
    proxy().to(origin).toml("[account]\nresponse_header = \"X-Account\"\nsession_cookie = \"sid\"\n")
}

fn session(name: &str) -> String {
    format!("Cookie: sid={name}\r\n")
}

const PAGE_WANTED: &str = "Accept: text/html\r\nSec-Fetch-Dest: document\r\n";

/// Issue 6: the origin names the account, the proxy knows the session from then on, and no visitor sees the header.
#[test]
fn an_account_that_the_origin_names_is_known_by_its_session_and_never_shown() {
    let origin = shop_with_sessions();
    let proxy = with_sessions(&origin).run();
    let first = proxy.get("/", &session("ann1"));
    assert!(!honoured(&first));
    assert_eq!(first.head.all("x-account"), Vec::<&str>::new());
    // A click on one browser, by a session that is known by now.
    assert_eq!(post(proxy.addr(), "/privacy-choices/opt-out", &session("ann1"), "").status(), 200);
    // Another browser of the account, whose session nobody has seen: its very first page.
    let other = proxy.get("/", &session("ann2"));
    assert!(honoured(&other));
    assert!(
        other.head.all("set-cookie").iter().any(|line| line.starts_with("optgate=v1.out.")),
        "{:?}",
        other.head
    );
    assert_eq!(other.head.all("x-account"), Vec::<&str>::new());
    assert!(!honoured(&proxy.get("/", &session("bob1"))));
    let seen = origin.seen(3);
    assert_eq!(
        seen[1].one("optgate-decision").as_deref(),
        Some("none"),
        "the origin was asked before anybody knew"
    );
    assert!(honoured(&proxy.get("/more", &session("ann2"))));
    assert_eq!(origin.seen(4)[3].one("optgate-decision").as_deref(), Some("opted-out;basis=account"));
    let metrics = proxy.running().metrics().render();
    assert!(metrics.lines().any(|line| line == "optgate_account_raised_total 1"), "{metrics}");
}

/// 11 CCR 7025(c)(1): the signal came with the request whose answer first says who it is.
#[test]
fn a_signal_on_the_request_that_first_names_the_account_opts_the_account_out() {
    let origin = shop_with_sessions();
    let builder = with_sessions(&origin);
    let data = builder.settings().data_dir;
    let running = app::start(builder.settings()).unwrap();
    let addr = running.listen()[0];
    assert!(honoured(&get(addr, "/", &format!("{GPC}{}", session("ann1")))));
    assert!(honoured(&get(addr, "/", &session("ann2"))), "another browser, without the signal");
    assert!(!honoured(&get(addr, "/", &session("bob1"))));
    let records: Vec<_> =
        records_of(running, &data).into_iter().map(|r| (r.kind, r.signal, r.account)).collect();
    assert_eq!(records, [("opt-out".into(), "gpc".into(), true)]);
}

/// A session that the proxy has forgotten, as after a restart: the opt-out is on disk, and the first answer is held to it.
#[test]
fn after_a_restart_the_first_answer_of_a_session_is_held_to_the_accounts_choice() {
    let origin = shop_with_sessions();
    let builder = with_sessions(&origin);
    let first = app::start(builder.settings()).unwrap();
    get(first.listen()[0], "/", &session("ann1"));
    assert_eq!(post(first.listen()[0], "/privacy-choices/opt-out", &session("ann1"), "").status(), 200);
    first.stop().unwrap();
    let second = app::start(builder.settings()).unwrap();
    let page = get(second.listen()[0], "/", &format!("{PAGE_WANTED}Cookie: sid=ann1; _fbp=fb.1.2\r\n"));
    assert!(honoured(&page));
    let lines = page.head.all("set-cookie");
    assert!(lines.iter().any(|l| l.starts_with("_fbp=;")), "its trackers' cookies go too: {lines:?}");
    second.stop().unwrap();
}

/// A 304 would bring back the copy with trackers that the browser holds: the page is asked for once more, as for
/// somebody who has opted out.
#[test]
fn a_304_that_names_an_opted_out_account_is_asked_for_again() {
    let origin = shop_with_sessions();
    let builder = with_sessions(&origin);
    let first = app::start(builder.settings()).unwrap();
    let tag = get(first.listen()[0], "/", &format!("{PAGE_WANTED}{}", session("ann1")));
    let tag = tag.head.one("etag").unwrap().to_owned();
    post(first.listen()[0], "/privacy-choices/opt-out", &session("ann1"), "");
    first.stop().unwrap();
    let second = app::start(builder.settings()).unwrap();
    let fields = format!("{PAGE_WANTED}{}If-None-Match: {tag}\r\n", session("ann1"));
    let page = get(second.listen()[0], "/", &fields);
    assert_eq!(page.status(), 200);
    assert!(honoured(&page));
    let seen = origin.seen(3);
    assert!(seen[1].one("if-none-match").is_some() && seen[2].one("if-none-match").is_none());
    assert_eq!(seen[2].one("optgate-decision").as_deref(), Some("opted-out;basis=account"));
    assert_eq!(seen[2].one("sec-gpc").as_deref(), Some("1"));
    second.stop().unwrap();
}

/// A log-in gives the browser another session; the one before it, and nobody's, are nobody's.
#[test]
fn a_log_in_is_known_by_the_cookie_it_sets_and_a_log_out_is_forgotten() {
    let origin = shop_with_sessions();
    let proxy = with_sessions(&origin).run();
    let login = post(proxy.addr(), "/login", &format!("{GPC}{}", session("guest")), "name=ann");
    assert!(honoured(&login));
    let answer = proxy.get("/privacy-choices", &session("ann2"));
    assert!(answer.text().contains("Your account is opted out."), "{}", answer.text());
    let answer = proxy.get("/privacy-choices", &session("guest"));
    assert!(!answer.text().contains("Your account is opted out."), "{}", answer.text());
    proxy.get("/logout", &session("ann2"));
    let answer = proxy.get("/privacy-choices", &session("ann2"));
    assert!(!answer.text().contains("Your account is opted out."), "{}", answer.text());
}

/// Observe mode changes nothing for the visitor, but what the origin says to the proxy is not for them in any mode.
#[test]
fn the_header_is_taken_out_of_answers_in_observe_mode_too() {
    let origin = shop_with_sessions();
    let proxy = with_sessions(&origin).toml("mode = \"observe\"\n").run();
    let page = proxy.get("/", &session("ann1"));
    assert_eq!((page.body.as_slice(), page.head.all("x-account").len()), (PAGE, 0));
}

/// 11 CCR 7025(c)(1): a pseudonymous profile is opted out with its browser, and holds on whatever carries its key.
#[test]
fn a_profile_is_opted_out_with_its_browser_and_apart_from_an_account() {
    let origin = shop(&["/"]);
    let builder = proxy().to(&origin).toml(
        "trusted_proxies = [\"127.0.0.1\"]\n[account]\nheader = \"x-account-id\"\nprofile_cookie = \"visitor\"\n",
    );
    let data = builder.settings().data_dir;
    let running = app::start(builder.settings()).unwrap();
    let addr = running.listen()[0];
    let profile = "Cookie: visitor=77\r\n";
    assert!(!honoured(&get(addr, "/", profile)));
    assert!(honoured(&get(addr, "/", &format!("{GPC}{profile}"))));
    let later = get(addr, "/", profile);
    assert!(honoured(&later), "the choice cookie was lost, the profile is known");
    assert!(later.head.all("set-cookie").iter().any(|line| line.starts_with("optgate=v1.out.")));
    assert!(!honoured(&get(addr, "/", "Cookie: visitor=78\r\n")));
    assert!(
        !honoured(&get(addr, "/", "X-Account-Id: 77\r\n")),
        "an account of the same key is somebody else"
    );
    let page = get(addr, "/privacy-choices", profile).text();
    assert!(page.contains("The profile that this site keeps of your browser is opted out."), "{page}");
    // A click of a visitor with both opts both out, each with a record of its own.
    let both = "X-Account-Id: ann\r\nCookie: visitor=79\r\n";
    let receipt = post(addr, "/privacy-choices/opt-out", both, "");
    assert!(receipt.text().contains("this browser, its profile on this site, and your account"));
    assert!(
        honoured(&get(addr, "/", "X-Account-Id: ann\r\n"))
            && honoured(&get(addr, "/", "Cookie: visitor=79\r\n"))
    );
    let decisions: Vec<_> =
        origin.seen(3).iter().take(3).map(|r| r.one("optgate-decision").unwrap()).collect();
    assert_eq!(
        decisions,
        ["none", "opted-out;basis=gpc", "opted-out;basis=account"],
        "its list of words is closed"
    );
    let records: Vec<_> = records_of(running, &data).into_iter().map(|r| (r.signal, r.basis)).collect();
    let want = [("gpc", "gpc"), ("form", "account"), ("form", "profile")];
    assert_eq!(records, want.map(|(signal, basis)| (signal.to_owned(), basis.to_owned())));
}

/// A signal opts every level out that the request names, each with a record of its own; and none twice.
#[test]
fn a_signal_opts_every_named_level_out_once() {
    let origin = shop(&["/"]);
    let builder = proxy().to(&origin).toml(
        "trusted_proxies = [\"127.0.0.1\"]\n[account]\nheader = \"x-account-id\"\nprofile_cookie = \"visitor\"\n",
    );
    let data = builder.settings().data_dir;
    let running = app::start(builder.settings()).unwrap();
    let addr = running.listen()[0];
    for _ in 0..3 {
        assert!(honoured(&get(addr, "/", &format!("{GPC}X-Account-Id: ann\r\nCookie: visitor=1\r\n"))));
    }
    assert!(honoured(&get(addr, "/", &format!("{GPC}X-Account-Id: ann\r\nCookie: visitor=2\r\n"))));
    assert!(honoured(&get(addr, "/", "Cookie: visitor=2\r\n")));
    let records = records_of(running, &data);
    assert_eq!(
        records.iter().filter(|r| r.account && r.signal == "gpc").count(),
        3,
        "ann, 1 and 2: {records:?}"
    );
    assert_eq!(records.len(), 3);
}

/// A browser that opted out carries that to the account it logs in to, by its cookie.
#[test]
fn a_browser_that_opted_out_before_it_logs_in_opts_the_account_out() {
    let origin = shop_with_sessions();
    let proxy = with_sessions(&origin).run();
    let out = cookie::value_out(202_611, proxy.running().store().keys());
    assert!(honoured(&proxy.get("/", &format!("Cookie: optgate={out}; sid=ann1\r\n"))));
    assert!(honoured(&proxy.get("/", &session("ann2"))));
}
