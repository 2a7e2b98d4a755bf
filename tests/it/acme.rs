//! Certificates fetched from an authority (RFC 8555), against a real one that signs for tests.

use std::os::unix::fs::PermissionsExt as _;

use data_encoding::BASE64URL_NOPAD;
use instant_acme::CertificateIdentifier;
use rcgen::{CertificateParams, KeyPair};

use super::support::authority::{Pebble, Places, kept};
use super::support::client::TlsClient;
use super::support::origin::Origin;
use super::support::pki::Authority;
use super::support::proxy::{Builder, Proxy, proxy};

fn at(places: &Places, origin: &Origin) -> Builder {
    proxy().to(origin).replacing("127.0.0.1:0\"]\nworkers", &format!("{}\"]\nworkers", places.http))
}

fn wait_for(proxy: &Proxy, result: &str, count: u32) {
    proxy.wait_for_line(&format!("optgate_certificate_orders_total{{result=\"{result}\"}} {count}"));
}

/// A certificate is fetched for each name by either challenge, kept for this user alone, and shown.
#[test]
fn certificates_are_fetched_by_either_challenge() {
    for challenge in ["http-01", "tls-alpn-01"] {
        let Some(places) = Places::find("certificates_are_fetched_by_either_challenge") else { return };
        let (origin, server) = (Origin::start(), Authority::new());
        let builder = at(&places, &origin);
        let more = format!("hosts = [\"one.test\", \"two.test\"]\nchallenges = [\"{challenge}\"]");
        let settings = places.settings(&server.write(builder.dir()), &more);
        let pebble = Pebble::start(places, server, builder.dir());
        // Proofs are shown in clear, also where all else is sent to https.
        let proxy = builder.toml(&settings).replacing("[tls]\n", "[tls]\nredirect = true\n").run();
        wait_for(&proxy, "issued", 2);
        let client = pebble.client();
        for host in ["one.test", "two.test"] {
            let mut tls = TlsClient::connect_tls(places.tls, host, client.clone());
            assert_eq!(tls.get_from(host, "/", "").text(), "hello", "{host}");
            let file = places.kept(&proxy.dir().join("data"), &format!("{host}.pem"));
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let account = places.kept(&proxy.dir().join("data"), "account.json");
        assert_eq!(account.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let figures = proxy.running().metrics().render();
        assert!(
            figures.contains("optgate_certificate_expiry_timestamp_seconds{host=\"one.test\"} "),
            "{figures}"
        );
        assert_eq!(origin.heads(), 2, "no proof was asked of the origin");
        // What another authority has given is no certificate of this one.
        proxy.reload(|text| text.replace("/dir\"", "/dir?another\"")).unwrap();
        wait_for(&proxy, "issued", 4);
        assert!(account.exists(), "the first one's account is kept");
    }
}

/// Writes a certificate, as one fetched earlier, of which two thirds of the lifetime are over.
fn old_certificate(file: &std::path::Path, host: &str) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 6, 1);
    let certificate = params.self_signed(&key).unwrap();
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, format!("{}{}", key.serialize_pem(), certificate.pem())).unwrap();
    certificate.der().to_vec()
}

/// A certificate of an earlier run serves from the first handshake on; it is renewed at two thirds of its lifetime
/// without dropping a connection. A failure leaves it in place, and a reload tries again at once.
#[test]
fn a_kept_certificate_serves_until_its_renewal_takes_its_place() {
    let Some(places) = Places::find("a_kept_certificate_serves_until_its_renewal") else { return };
    let (origin, server) = (Origin::start(), Authority::new());
    let builder = at(&places, &origin);
    let settings = places.settings(&server.write(builder.dir()), "hosts = [\"one.test\"]");
    let old = old_certificate(&places.kept(&builder.dir().join("data"), "one.test.pem"), "one.test");
    let proxy = builder.toml(&settings).run();
    wait_for(&proxy, "failed", 1);
    let mut open = TlsClient::connect_tls(places.tls, "one.test", Authority::anybody());
    assert_eq!(open.certificate(), old);
    let pebble = Pebble::start(places, server, proxy.dir());
    proxy.reload(|text| text).unwrap();
    wait_for(&proxy, "issued", 1);
    assert_eq!(open.get_from("one.test", "/", "").text(), "hello", "the connection lasts");
    let new = TlsClient::connect_tls(places.tls, "one.test", pebble.client());
    assert_ne!(new.certificate(), old);
}

/// RFC 8737, 3: without an order under way nobody gets a proof, and a file of the operator goes before a fetched
/// certificate.
#[test]
fn no_proof_is_shown_without_an_order() {
    let authority = Authority::new();
    let builder = proxy().to(&Origin::start());
    let certificate = authority.leaf("one.test").toml(builder.dir(), "leaf");
    let proxy = builder.toml(&format!("[tls]\nlisten = [\"127.0.0.1:0\"]\n{certificate}")).run();
    assert!(TlsClient::try_connect_tls(proxy.tls(), "one.test", authority.client(&["acme-tls/1"])).is_err());
    let client =
        TlsClient::connect_tls(proxy.tls(), "one.test", authority.client(&["http/1.1", "acme-tls/1"]));
    assert_eq!(client.alpn().as_deref(), Some("http/1.1"));
    assert_eq!(proxy.get("/.well-known/acme-challenge/x", "").text(), "hello", "the origin may have its own");
}

/// An authority that says when to renew and signs nothing. `windows`: start and end for a certificate's id.
fn advising(server: &Authority, windows: &[(String, &str, &str)]) -> Origin {
    let mut origin = Origin::start_tls(server.leaf("127.0.0.1").server())
        .on("/dir", |x| {
            let at = x.request().one("host").unwrap();
            let names = ["newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo"];
            let urls = names.map(|name| (name.to_owned(), format!("https://{at}/{name}").into()));
            x.ok(
                "application/json",
                serde_json::Value::Object(urls.into_iter().collect()).to_string().as_bytes(),
            )
        })
        .answers("/newNonce", "HTTP/1.1 200 OK\r\nReplay-Nonce: bm9uY2U\r\nContent-Length: 0\r\n\r\n")
        .answers(
            "/newAccount",
            "HTTP/1.1 201 Created\r\nReplay-Nonce: bm9uY2U\r\nLocation: https://ca.test/1\r\n\
             Content-Length: 2\r\n\r\n{}",
        )
        .answers(
            "/newOrder",
            "HTTP/1.1 403 Forbidden\r\nReplay-Nonce: bm9uY2U\r\nContent-Type: application/problem+json\r\n\
             Content-Length: 51\r\n\r\n{\"type\":\"urn:ietf:params:acme:error:unauthorized\"}  ",
        );
    for (id, start, end) in windows {
        let body = serde_json::json!({ "suggestedWindow": { "start": start, "end": end } }).to_string();
        let length = body.len();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nRetry-After: 21600\r\n";
        origin = origin
            .answers(&format!("/renewalInfo/{id}"), format!("{head}Content-Length: {length}\r\n\r\n{body}"));
    }
    origin
}

/// RFC 8555, 6.7: an authority that has lost an account says so, and gives certificates to another.
#[test]
fn an_account_that_the_authority_has_lost_is_made_anew() {
    const PROBLEM: &str = "Replay-Nonce: bm9uY2U\r\nContent-Type: application/problem+json\r\n";
    let server = Authority::new();
    let made = std::sync::atomic::AtomicUsize::new(1);
    let authority = advising(&server, &[])
        .on("/newAccount", move |x| {
            let number = made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            x.send(format!(
                "HTTP/1.1 201 Created\r\nReplay-Nonce: bm9uY2U\r\nLocation: https://ca.test/{number}\r\n\
                 Content-Length: 2\r\n\r\n{{}}"
            ))
        })
        .on("/newOrder", |x| {
            x.body()?;
            let first = signed(&x.request().body)["kid"] == "https://ca.test/1";
            let word = if first { "accountDoesNotExist" } else { "unauthorized" };
            let problem = format!("{{\"type\":\"urn:ietf:params:acme:error:{word}\"}}");
            x.send(format!(
                "HTTP/1.1 400 Bad Request\r\n{PROBLEM}Content-Length: {}\r\n\r\n{problem}",
                problem.len()
            ))
        });
    let directory = format!("{}/dir", authority.url());
    let builder = proxy().to(&Origin::start());
    let roots = server.write(builder.dir());
    let settings = format!(
        "[tls]\nlisten = [\"127.0.0.1:0\"]\n[acme]\ndirectory = {directory:?}\nroots = {roots:?}\n\
         terms_agreed = true\nhosts = [\"a.test\"]\n"
    );
    let proxy = builder.toml(&settings).run();
    wait_for(&proxy, "failed", 1);
    let seen = authority.seen(1);
    let orders = seen.iter().filter(|seen| seen.line().contains("/newOrder"));
    let kids: Vec<_> = orders.map(|order| signed(&order.body)["kid"].clone()).collect();
    assert_eq!(kids, ["https://ca.test/1", "https://ca.test/2"]);
    let file =
        |name: &str| std::fs::read_to_string(kept(&proxy.dir().join("data"), &directory, name)).unwrap();
    assert!(file("account.gone.json").contains("ca.test/1") && file("account.json").contains("ca.test/2"));
}

/// What a request to an authority says of itself (RFC 8555, 6.2).
fn signed(body: &[u8]) -> serde_json::Value {
    let jws: serde_json::Value = serde_json::from_slice(body).unwrap();
    let protected = BASE64URL_NOPAD.decode(jws["protected"].as_str().unwrap().as_bytes()).unwrap();
    serde_json::from_slice(&protected).unwrap()
}

/// RFC 9773, 4.1 to 5: a certificate is renewed when its authority says, not at two thirds of its lifetime, and the
/// order names the certificate that it replaces.
#[test]
fn the_authority_says_when_to_renew() {
    let server = Authority::new();
    let years = |from, until| {
        move |params: &mut CertificateParams| {
            params.use_authority_key_identifier_extension = true;
            params.serial_number = Some(vec![from as u8, 7, 0x80].into());
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
        }
    };
    // Two thirds are over, and it has time; a long one that must go.
    let (old, new) =
        (server.leaf_with(&["a.test"], years(2020, 2028)), server.leaf_with(&["b.test"], years(2026, 2090)));
    let id = |der: &[u8]| CertificateIdentifier::try_from(&der.to_vec().into()).unwrap().to_string();
    let (far, past) =
        (["2070-01-01T00:00:00Z", "2070-01-02T00:00:00Z"], ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]);
    let windows = [(id(&old.der), far[0], far[1]), (id(&new.der), past[0], past[1])];
    let authority = advising(&server, &windows);
    let directory = format!("{}/dir", authority.url());
    let builder = proxy().to(&Origin::start());
    for (leaf, name) in [(&old, "a.test.pem"), (&new, "b.test.pem")] {
        let file = kept(&builder.dir().join("data"), &directory, name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, leaf.pem()).unwrap();
    }
    let roots = server.write(builder.dir());
    let settings = format!(
        "[tls]\nlisten = [\"127.0.0.1:0\"]\n[acme]\ndirectory = {directory:?}\nroots = {roots:?}\n\
         terms_agreed = true\nhosts = [\"a.test\", \"b.test\", \"c.test\"]\n"
    );
    let proxy = builder.toml(&settings).run();
    // Names are attended in order, so nothing was ordered for the first when the third has been.
    wait_for(&proxy, "failed", 2);
    let orders = authority.seen(1).into_iter().filter(|seen| seen.line().contains("/newOrder"));
    let payload = |body: &[u8]| -> serde_json::Value {
        let jws: serde_json::Value = serde_json::from_slice(body).unwrap();
        let payload = BASE64URL_NOPAD.decode(jws["payload"].as_str().unwrap().as_bytes()).unwrap();
        serde_json::from_slice(&payload).unwrap()
    };
    let orders: Vec<_> = orders.map(|order| payload(&order.body)).collect();
    assert_eq!(orders.len(), 2, "{orders:#?}");
    assert_eq!(orders[0]["identifiers"][0]["value"], "b.test");
    assert_eq!(orders[0]["replaces"], windows[1].0.as_str());
    assert_eq!(orders[1]["identifiers"][0]["value"], "c.test");
    assert!(orders[1].get("replaces").is_none_or(serde_json::Value::is_null), "{orders:#?}");
}
