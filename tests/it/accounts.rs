//! Tokens that name an account (RFC 7515 to 7519, 8725), and the keys they are verified with, through a running proxy.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::acceptance_choices::{honoured, post, records_of, shop};
use super::support::client::Client;
use super::support::jar::Browser;
use super::support::origin::Origin;
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

/// A token's account is opted out by one browser's signal and stays so on another's next
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

/// 11 CCR 7101(b): a record says in which manner it was asked for. What a browser had chosen before its consumer was
/// known goes over to the account as that, and not as a form that nobody sent; a form that is sent later is on record as
/// one.
#[test]
fn a_browsers_choice_that_goes_over_to_its_account_is_on_record_as_carried() {
    let origin = shop(&["/"]);
    let builder = with_secret(&origin, "cookie = \"id\"");
    let data = builder.settings().data_dir;
    let running = optgate::app::start(builder.settings()).unwrap();
    let mut browser = Browser::new(running.listen()[0]).with_gpc();
    assert!(honoured(&browser.get("site.test", "/")));
    browser.gpc = false;
    browser.keep("site.test", &format!("id={}; Path=/", token("ann")));
    assert!(honoured(&browser.get("site.test", "/")));
    let mut other = Browser::new(running.listen()[0]);
    other.keep("site.test", &format!("id={}; Path=/", token("ann")));
    assert!(honoured(&other.get("site.test", "/")), "the account is opted out");
    assert_eq!(other.post("site.test", "/privacy-choices/opt-out", "").status(), 200);
    let records: Vec<_> =
        records_of(running, &data).into_iter().map(|r| (r.signal, r.basis, r.account)).collect();
    let want = [("gpc", "gpc", false), ("carried", "cookie", true), ("form", "account", true)];
    assert_eq!(records, want.map(|(signal, basis, account)| (signal.to_owned(), basis.to_owned(), account)));
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

/// An application's own opaque bearer, and a cookie of another path that went stale, name nobody: they hide no account that
/// a good token names.
#[test]
fn what_is_no_token_hides_none_that_is() {
    let origin = shop(&["/"]);
    let proxy = with_secret(&origin, "cookie = \"id\"\nbearer = true").run();
    let good = token("ann");
    assert!(honoured(&proxy.get("/", &format!("{GPC}Cookie: id={good}\r\n"))));
    for head in [
        format!("Authorization: Bearer opaque\r\nCookie: id={good}\r\n"),
        format!("Cookie: id=stale; id={good}\r\n"),
        format!("Authorization: Bearer {good}\r\nCookie: id=stale\r\n"),
    ] {
        assert!(honoured(&proxy.get("/", &head)), "{head}");
    }
    assert_eq!(tokens(&proxy.running().metrics().render(), "malformed"), 0, "none of them counts as refused");
    // Of two that are good the bearer's counts.
    let bob = format!("Authorization: Bearer {}\r\nCookie: id={good}\r\n", token("bob"));
    assert!(!honoured(&proxy.get("/", &bob)));
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

/// Until anybody can say whose token it is, its bearer counts as opted out; no lasting mark follows.
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
    for number in 0..50 {
        // The next fetch is held back, so nobody can know.
        let made_up = format!("Cookie: id={}\r\n", made_up(&format!("no-{number}")));
        assert!(honoured(&proxy.get("/", &made_up)));
        assert!(honoured(&proxy.get("/", &made_up)), "again");
    }
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2);
    let metrics = proxy.running().metrics().render();
    assert_eq!((tokens(&metrics, "unknown-key"), tokens(&metrics, "pending")), (0, 101));
}

/// A token of a key that nobody has.
pub fn made_up(kid: &str) -> String {
    let key = EncodingKey::from_ec_der(&rcgen::KeyPair::generate().unwrap().serialize_der());
    token_with(Algorithm::ES256, Some(kid), &key, &json!({"sub": "ann"}))
}

/// 11 CCR 7025(c)(1): an issuer changes its keys and its key set cannot be fetched. Nobody can know whose the
/// tokens are, so every request counts as opted out, not only the first; the admin listener says so. When the set is
/// there again, its tokens name their accounts, and one that it lacks names nobody.
#[test]
fn an_issuer_that_changes_its_keys_while_they_cannot_be_fetched_undoes_no_opt_out() {
    let (issuer, site) = (Issuer::start(Origin::start()), shop(&["/"]));
    issuer.publish("a");
    let proxy = proxy().to(&site).toml(&format!("{}refresh = \"1s\"\n", issuer.settings())).run();
    proxy.wait_for_line("optgate_account_key_fetches_total{result=\"taken\"} 1");
    let ann = format!("Cookie: id={}\r\n", issuer.token("a", "ann"));
    assert!(honoured(&proxy.get("/", &format!("{GPC}{ann}"))));
    let hidden: Vec<_> = std::mem::take(&mut *issuer.keys.lock().unwrap());
    let failed = |metrics: &str| figure(metrics, "optgate_account_key_fetches_total{result=\"failed\"}");
    super::support::wait_until("a failure", || failed(&proxy.running().metrics().render()) > Some(0));
    let forged = format!("Cookie: id={}\r\n", made_up("none"));
    let unpublished = rcgen::KeyPair::generate().unwrap();
    let key = signing(Algorithm::ES256, &unpublished);
    let new = |account| token_with(Algorithm::ES256, Some("b"), &key, &json!({"sub": account}));
    let again = format!("Cookie: id={}\r\n", new("ann"));
    for time in 0..5 {
        assert!(honoured(&proxy.get("/", &again)), "{time}");
        assert!(honoured(&proxy.get("/", &forged)), "{time}");
    }
    assert!(honoured(&proxy.get("/", &ann)), "the old keys hold");
    let ready = || Client::connect(proxy.running().admin()).get_from("localhost", "/readyz?verbose", "");
    let (status, text) = (ready().status(), ready().text());
    assert_eq!(status, 200);
    assert!(text.contains("[!] account keys: cannot be fetched: its server answers 503"), "{text}");

    issuer.keys.lock().unwrap().extend(hidden.into_iter().chain([("b".to_owned(), unpublished)]));
    super::support::wait_until("the key", || {
        proxy.get("/", &again);
        tokens(&proxy.running().metrics().render(), "verified") > 2
    });
    assert!(honoured(&proxy.get("/", &again)), "the same account by the new key");
    assert!(!honoured(&proxy.get("/", &format!("Cookie: id={}\r\n", new("bob")))));
    super::support::wait_until("a set asked for later that lacks it", || !honoured(&proxy.get("/", &forged)));
    assert!(ready().text().contains("[+] account keys: fetched"), "{}", ready().text());
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

/// Threat: a page of another host of the site's domain plants a token of its own account beside the site's cookie. Which of
/// the two the site reads nobody can tell.
#[test]
fn tokens_of_two_accounts_in_cookies_count_as_opted_out_and_as_neither() {
    let origin = shop(&["/"]);
    let proxy = with_secret(&origin, "cookie = \"id\"").run();
    let (mallory, ann) = (token("mallory"), token("ann"));
    let both = format!("Cookie: id={mallory}; id={ann}\r\n");
    assert!(honoured(&proxy.get("/", &both)));
    let receipt = post(proxy.addr(), "/privacy-choices/opt-out", &both, "");
    assert!(receipt.text().contains("not saved for your account yet"), "{}", receipt.text());
    for one in [&mallory, &ann] {
        assert!(!honoured(&proxy.get("/", &format!("Cookie: id={one}; id={one}\r\n"))), "{one}");
    }
}

/// An issuer that names no keys in its tokens, or gives a new one the name of the old: nobody can know whose a token is that
/// no key has signed before a set was asked for after it.
#[test]
fn a_new_key_is_fetched_when_a_token_without_its_name_needs_it() {
    let (issuer, site) = (Issuer::start(Origin::start()), shop(&["/"]));
    issuer.publish("a");
    let proxy = proxy().to(&site).toml(&issuer.settings()).run();
    proxy.wait_for_line("optgate_account_key_fetches_total{result=\"taken\"} 1");
    let nameless = |account: &str| {
        let key = signing(Algorithm::ES256, &issuer.keys.lock().unwrap()[0].1);
        format!("Cookie: id={}\r\n", token_with(Algorithm::ES256, None, &key, &json!({"sub": account})))
    };
    assert!(honoured(&proxy.get("/", &format!("{GPC}{}", nameless("ann")))));
    assert!(!honoured(&proxy.get("/", &nameless("bob"))));
    issuer.keys.lock().unwrap().clear();
    issuer.publish("a");
    assert!(honoured(&proxy.get("/", &nameless("ann"))), "nobody can say yet who it is");
    proxy.wait_for_line("optgate_account_key_fetches_total{result=\"taken\"} 2");
    assert!(honoured(&proxy.get("/", &nameless("ann"))), "the same account by the new key");
    assert!(!honoured(&proxy.get("/", &nameless("bob"))));
}
