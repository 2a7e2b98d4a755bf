//! Where Optgate ends TLS: whose requests a connection is for, handshakes, the way to https and HSTS.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use rustls::{HandshakeKind, SignatureScheme};

use super::support::binary::{Binary, optgate, own_address, serving};
use super::support::client::{Response, TlsClient, metrics, tcp};
use super::support::h2::{Frames, H2};
use super::support::origin::Origin;
use super::support::pki::Authority;
use super::support::proxy::{Builder, Proxy, figure, proxy};

/// The settings of a TLS listener with one certificate for these names.
fn with_certificate(builder: Builder, authority: &Authority, names: &[&str]) -> Builder {
    let certificate = authority.leaf_for(names).toml(builder.dir(), "leaf");
    builder.toml(&format!("[tls]\nlisten = [\"127.0.0.1:0\"]\n{certificate}"))
}

fn tls_client(proxy: &Proxy, authority: &Authority, name: &str) -> TlsClient {
    TlsClient::connect_tls(proxy.tls(), name, authority.client(&["http/1.1"]))
}

/// RFC 9110, 7.4 and 15.5.20: a request on a connection that was opened for another site is answered 421, and the
/// connection serves on; a name of the handshake or of the certificate is served.
#[test]
fn a_request_for_a_host_that_the_connection_is_not_for_is_misdirected() {
    let authority = Authority::new();
    let origin = Origin::start();
    let names = ["one.test", "two.test", "*.wild.test", "127.0.0.1", "::1"];
    let proxy = with_certificate(proxy().to(&origin), &authority, &names).run();
    let mut client = tls_client(&proxy, &authority, "one.test");
    for _ in 0..2 {
        for own in ["one.test", "ONE.test:443", "two.test", "a.wild.test", "127.0.0.1", "[::1]:8443"] {
            assert_eq!(client.get_from(own, "/", "").status(), 200, "{own}");
        }
        for other in ["three.test", "wild.test", "a.b.wild.test", "127.0.0.2", "[::2]"] {
            let answer = client.get_from(other, "/", "");
            assert_eq!(answer.status(), 421, "{other}");
            assert!(answer.text().contains("served on this connection"), "{}", answer.text());
        }
    }
    assert_eq!(origin.seen(12).len(), 12, "nothing else reached the origin");
    let figures = proxy.running().metrics().render();
    assert!(figures.contains("cause=\"misdirected\"} 10"), "{figures}");
}

/// As operators have them: an ECDSA and another key for one name, and a wildcard beside a name that it holds too.
#[test]
fn of_several_certificates_for_a_name_the_one_is_shown_that_fits() {
    let authority = Authority::new();
    let builder = proxy().to(&Origin::start());
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let leaves = [
        authority.leaf_for(&["*.one.test", "alone.test"]),
        authority.leaf("a.one.test"),
        authority.leaf_of(&["a.one.test"], other),
    ];
    let files = ["wild", "ecdsa", "ed25519"];
    let tables: String =
        leaves.iter().zip(files).map(|(leaf, file)| leaf.toml(builder.dir(), file)).collect();
    let proxy = builder.toml(&format!("[tls]\nlisten = [\"127.0.0.1:0\"]\n{tables}")).run();
    let takes = |scheme| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        let mapping = provider.signature_verification_algorithms.mapping;
        let at = mapping.iter().position(|(other, _)| *other == scheme).unwrap();
        provider.signature_verification_algorithms.mapping = &mapping[at..=at];
        authority.client_of(Arc::new(provider))
    };
    let ecdsa = SignatureScheme::ECDSA_NISTP256_SHA256;
    for (name, scheme, shown) in [
        ("b.one.test", ecdsa, 0),
        ("alone.test", ecdsa, 0),
        ("a.one.test", ecdsa, 1),
        ("A.ONE.test", ecdsa, 1),
        ("a.one.test", SignatureScheme::ED25519, 2),
    ] {
        let mut client = TlsClient::connect_tls(proxy.tls(), name, takes(scheme));
        assert_eq!(client.get_from(name, "/", "").status(), 200, "{name} {scheme:?}");
        assert_eq!(client.certificate(), leaves[shown].der, "{name} {scheme:?}");
    }
}

/// More names than a connection remembers are judged all the same.
#[test]
fn many_names_on_one_connection_are_judged_each() {
    let authority = Authority::new();
    let proxy =
        with_certificate(proxy().to(&Origin::start()), &authority, &["one.test", "*.wild.test"]).run();
    let mut client = tls_client(&proxy, &authority, "one.test");
    for turn in 0..40 {
        assert_eq!(client.get_from(&format!("n{turn}.wild.test"), "/", "").status(), 200);
        assert_eq!(client.get_from(&format!("n{turn}.test"), "/", "").status(), 421);
    }
}

/// RFC 9113, 9.1.1: one connection may serve every site that its certificate holds.
#[test]
fn http2_connections_may_be_shared_by_the_names_of_the_certificate() {
    let authority = Authority::new();
    let proxy = with_certificate(proxy().to(&Origin::start()), &authority, &["one.test", "two.test"]).run();
    let mut h2 = H2::tls(proxy.tls(), "one.test", authority.client(&["h2"]));
    for (host, status) in [("one.test", 200), ("two.test", 200), ("three.test", 421), ("one.test", 200)] {
        assert_eq!(h2.get(&format!("https://{host}/")).status, status, "{host}");
    }
}

/// A client that names nobody in its handshake (RFC 6066, 3: an address is no name) is compared with nothing.
#[test]
fn without_a_name_in_the_handshake_nothing_is_compared() {
    let authority = Authority::new();
    let proxy = with_certificate(proxy().to(&Origin::start()), &authority, &["127.0.0.1"]).run();
    let mut client = tls_client(&proxy, &authority, "127.0.0.1");
    assert_eq!(client.get_from("site.test", "/", "").status(), 200);
}

/// RFC 9110, 7.4: a gateway that is trusted asks for whom it likes.
#[test]
fn a_trusted_proxy_may_ask_for_any_site() {
    let authority = Authority::new();
    let builder = proxy().to(&Origin::start()).toml("trusted_proxies = [\"127.0.0.1\"]\n");
    let proxy = with_certificate(builder, &authority, &["one.test"]).run();
    assert_eq!(tls_client(&proxy, &authority, "one.test").get_from("other.test", "/", "").status(), 200);
}

/// Kind of a handshake after one request: tickets come behind the handshake (RFC 8446, 4.6.1).
fn handshake(addr: SocketAddr, config: &Arc<rustls::ClientConfig>) -> HandshakeKind {
    let mut client = TlsClient::connect_tls(addr, "one.test", Arc::clone(config));
    assert_eq!(client.get_from("one.test", "/", "").status(), 200);
    client.handshake_kind()
}

/// Session tickets (RFC 8446, 2.2; RFC 5077): a client that comes back needs no whole handshake, in either version,
/// also after the certificate was replaced.
#[test]
fn sessions_are_resumed_also_after_the_certificate_was_replaced() {
    let authority = Authority::new();
    let proxy = with_certificate(proxy().to(&Origin::start()), &authority, &["one.test"]).run();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = authority.client_with(&[version]);
        let known = authority.client_with(&[version]);
        assert_eq!(handshake(proxy.tls(), &client), HandshakeKind::Full);
        assert_eq!(handshake(proxy.tls(), &client), HandshakeKind::Resumed, "{version:?}");
        assert_eq!(handshake(proxy.tls(), &known), HandshakeKind::Full);
        authority.leaf_for(&["one.test"]).write(proxy.dir(), "leaf");
        proxy.reload(|text| text).unwrap();
        assert_eq!(handshake(proxy.tls(), &known), HandshakeKind::Resumed, "{version:?} over a reload");
    }
}

/// RFC 8996: TLS 1.0 and 1.1 are refused with a fatal alert.
#[test]
fn older_versions_are_refused() {
    let authority = Authority::new();
    let proxy = with_certificate(proxy().to(&Origin::start()), &authority, &["one.test"]).run();
    for minor in [1, 2] {
        // A ClientHello with a suite of that time, and no extensions.
        let mut hello = vec![3, minor];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0xc0, 0x14, 1, 0]);
        let mut record = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
        record.extend(hello);
        let mut stream = tcp(proxy.tls());
        stream.write_all(&record).unwrap();
        let mut alert = [0; 6];
        stream.read_exact(&mut alert).unwrap();
        assert_eq!((alert[0], alert[5]), (21, 2), "a fatal alert for version 3.{minor}: {alert:?}");
        assert_eq!(stream.read(&mut [0; 64]).unwrap_or(0).min(2), 1, "its description, and nothing more");
        assert_eq!(stream.read(&mut [0; 64]).unwrap_or(0), 0, "and the end");
    }
}

/// A whole ClientHello that is correct.
fn client_hello(authority: &Authority) -> Vec<u8> {
    let name = "one.test".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(authority.client(&[]), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// `timeouts.tls_handshake` is for the handshake as a whole: neither silence nor a byte now and then outlasts it.
#[test]
fn a_handshake_that_does_not_end_is_cut_off() {
    let authority = Authority::new();
    let builder = proxy().to(&Origin::start()).toml("[timeouts]\ntls_handshake = \"500ms\"\nidle = \"1h\"\n");
    let proxy = with_certificate(builder, &authority, &["one.test"]).run();
    let mut silent = tcp(proxy.tls());
    assert_eq!(silent.read(&mut [0; 1]).unwrap_or(0), 0, "a silent client is cut off");
    let hello = client_hello(&authority);
    let mut trickling = tcp(proxy.tls());
    let pause = Duration::from_millis(50);
    trickling.set_read_timeout(Some(pause)).unwrap();
    // The pause is the client's manner. Sent whole, the hello would be answered; it is far longer than the limit.
    let cut = hello.iter().cycle().take(2_000).position(|byte| {
        let gone = trickling.write_all(&[*byte]).is_err();
        gone || matches!(trickling.read(&mut [0; 64]), Ok(0))
            || matches!(trickling.read(&mut [0; 1]), Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset)
    });
    assert!(cut.is_some_and(|at| at < hello.len()), "a trickling client is cut off: {cut:?}");
    assert_eq!(tls_client(&proxy, &authority, "one.test").get_from("one.test", "/", "").status(), 200);
}

/// A private key that everybody may read is said to be one.
#[test]
fn a_private_key_that_everybody_may_read_is_warned_of() {
    let authority = Authority::new();
    let builder = with_certificate(proxy().to(&Origin::start()), &authority, &["one.test"]);
    let key = builder.dir().join("leaf.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let addr = own_address();
    let binary = Binary::spawn(serving(&builder.write(), addr), addr, builder.into_dir());
    // It says so before it says where it listens.
    binary.wait_for_line("leaf.key: every user of this machine may use this private key");
    binary.wait_for_line(&format!("listening on http://{addr}"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    binary.signal(rustix::process::Signal::HUP);
    let heard = binary.lines_until("reloaded: 1 sites");
    assert!(!heard.iter().any(|line| line.contains("every user")), "{heard:#?}");
}

/// X.509 version 1: without names, as `openssl x509 -req` makes it by itself.
const FIRST_VERSION: &str = "\
-----BEGIN CERTIFICATE-----
MIIBIjCByQIUW2eDPpu22ZhutAIvCW7J8T/RJ/4wCgYIKoZIzj0EAwIwEzERMA8G
A1UEAwwIb2xkLnRlc3QwIBcNMjYxMTI3MTUxNzE2WhgPMjEyNjExMDMxNTE3MTZa
MBMxETAPBgNVBAMMCG9sZC50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
prZGmg8vHSdsnVSzghJiGpIobwR40V/UOFsNyMu7TZr9G6Pq/3NMbbrDbBXOZYiG
yUiuahGGmesMJDPepVhC8TAKBggqhkjOPQQDAgNIADBFAiEAzG2AYJumCeWqgSXz
sKcGXNzt2h2vcKmjZi8KkQ75NCgCIDimIrp/QZKifmiTAgNAAhXSEU5ocrsXK229
MmQQuSjy
-----END CERTIFICATE-----
";

/// What is wrong with a certificate or its key is said as it is, with the setting and what to type next.
#[test]
fn files_that_cannot_serve_are_refused_for_what_they_are() {
    let authority = Authority::new();
    let builder = with_certificate(proxy().to(&Origin::start()), &authority, &["one.test"]);
    let (chain, key) = (builder.dir().join("leaf.pem"), builder.dir().join("leaf.key"));
    let (good_chain, good_key) =
        (std::fs::read_to_string(&chain).unwrap(), std::fs::read_to_string(&key).unwrap());
    let rsa = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
               -----END RSA PRIVATE KEY-----\n";
    let pkcs8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let other = authority.leaf("one.test").pem();
    let encrypted = "this private key is encrypted";
    for (chain_text, key_text, what, next) in [
        (&*good_chain, rsa, encrypted, "openssl pkey -in"),
        (&*good_chain, pkcs8, encrypted, "openssl pkey -in"),
        (FIRST_VERSION, &*good_key, "this is an X.509 v1 certificate", "subjectAltName"),
        (&*good_chain, &*other, "do not belong together", "name the key that"),
    ] {
        std::fs::write(&chain, chain_text).unwrap();
        std::fs::write(&key, key_text).unwrap();
        let (code, words) = optgate(&["check", "--config", &builder.write().display().to_string()]);
        assert_eq!(code, Some(78), "{words}");
        assert!(
            words.contains("optgate.toml:") && words.contains("`tls.certificates[0]` cannot be used"),
            "{words}"
        );
        assert!(words.contains(what), "{words}");
        assert!(words.contains("next: ") && words.contains(next), "{words}");
    }
}

/// Nobody looks at a file's date until browsers do: the log and the figures say it before.
#[test]
fn the_end_of_a_certificate_from_a_file_is_said() {
    let authority = Authority::new();
    let today = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::now()).date();
    let end = |days: i64| {
        let end = today.saturating_add(jiff::Span::new().days(days));
        let (year, month, day) =
            (i32::from(end.year()), end.month().unsigned_abs(), end.day().unsigned_abs());
        move |params: &mut rcgen::CertificateParams| {
            params.not_after = rcgen::date_time_ymd(year, month, day);
        }
    };
    let builder = proxy().to(&Origin::start());
    let certificate = authority.leaf_with(&["one.test"], end(-2)).toml(builder.dir(), "leaf");
    let file = builder.dir().to_owned();
    let builder = builder.toml(&format!("[tls]\nlisten = [\"127.0.0.1:0\"]\n{certificate}"));
    let (code, words) = optgate(&["check", "--config", &builder.write().display().to_string()]);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("leaf.pem: this certificate has expired"), "{words}");
    let addr = own_address();
    let binary = Binary::spawn(serving(&builder.write(), addr), addr, builder.into_dir());
    let said = binary.wait_for_line("leaf.pem: this certificate has expired");
    assert!(said.contains("WARN"), "{said}");
    let admin = binary.admin("http").parse().unwrap();
    let figure = |host: &str| {
        let series = format!("optgate_certificate_expiry_timestamp_seconds{{host=\"{host}\"}}");
        figure(&metrics(admin), &series)
    };
    assert!(figure("one.test").is_some());
    authority.leaf_with(&["two.test"], end(10)).write(&file, "leaf");
    binary.signal(rustix::process::Signal::HUP);
    binary.wait_for_line("leaf.pem: this certificate ends in 9 days");
    binary.wait_for_line("reloaded: 1 sites");
    assert!(figure("one.test").is_none() && figure("two.test").is_some());
}

/// A site behind TLS with these settings of `[tls]`.
fn secured(origin: &Origin, authority: &Authority, more: &str, top: &str) -> Proxy {
    let builder = proxy().to(origin).toml(top);
    let builder = with_certificate(builder, authority, &["site.test"]);
    builder.replacing("[[tls.certificates]]", &format!("{more}\n[[tls.certificates]]")).run()
}

fn send(proxy: &Proxy, head: &str) -> Response {
    let mut client = proxy.client();
    client.send(head);
    client.response(head.split(' ').next().unwrap())
}

/// Visitors in clear are sent to the same address by https: 301 for GET and HEAD, 308 for all else, so that method
/// and body come along (RFC 9110, 15.4.9).
#[test]
fn visitors_in_clear_are_sent_to_https() {
    let (authority, origin) = (Authority::new(), Origin::start());
    let proxy = secured(&origin, &authority, "redirect = true\nredirect_port = 443", "");
    let port = secured(&origin, &authority, "redirect = true\nredirect_port = 8443", "");
    for (method, status) in [("GET", 301), ("HEAD", 301), ("POST", 308), ("PUT", 308), ("DELETE", 308)] {
        let head = format!("{method} /a%20b/?c=d&e HTTP/1.1\r\nHost: Site.test:8080\r\n\r\n");
        let answer = send(&proxy, &head);
        assert_eq!(answer.status(), status, "{method}");
        assert_eq!(answer.head.one("location"), Some("https://site.test/a%20b/?c=d&e"), "{method}");
        assert_eq!(send(&port, &head).head.one("location"), Some("https://site.test:8443/a%20b/?c=d&e"));
    }
    assert_eq!(origin.heads(), 0);
    assert_eq!(tls_client(&proxy, &authority, "site.test").get_from("site.test", "/", "").status(), 200);
}

/// A visitor who names no host (HTTP/1.0) could only be sent to the origin's own address, which is nobody's to know.
#[test]
fn who_names_no_host_is_not_sent_to_the_origins() {
    let (origin, authority) = (Origin::start(), Authority::new());
    let proxy = secured(&origin, &authority, "redirect = true\nredirect_port = 443", "");
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let answer = client.response("GET");
    assert_eq!((answer.status(), answer.head.one("location")), (400, None));
}

/// An opt-out that is posted in clear is not lost: followed as browsers follow 308, it is in force.
#[test]
fn an_opt_out_posted_in_clear_arrives_by_https() {
    let (authority, origin) = (Authority::new(), Origin::start());
    let proxy = secured(&origin, &authority, "redirect = true\nredirect_port = 443", "");
    let head = "POST /privacy-choices/opt-out HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\r\n";
    let answer = send(&proxy, &format!("{head}\r\n"));
    assert_eq!(answer.status(), 308);
    assert_eq!(answer.head.one("location"), Some("https://site.test/privacy-choices/opt-out"));
    let mut client = tls_client(&proxy, &authority, "site.test");
    // Between http and https a browser says that the page was another's.
    client.send(format!("{head}Origin: http://site.test\r\nSec-Fetch-Site: cross-site\r\n\r\n"));
    let done = client.response("POST");
    let cookies = done.head.all("set-cookie").join("\n");
    assert!(cookies.contains("optgate=v1.out.") && cookies.contains("Secure"), "{} {cookies}", done.status());
}

/// RFC 8555, 8.3: an authority asks in clear for its proofs.
#[test]
fn proofs_for_an_authority_are_served_in_clear() {
    let (authority, origin) = (Authority::new(), Origin::start());
    let proxy = secured(&origin, &authority, "redirect = true", "");
    assert_eq!(proxy.get("/.well-known/acme-challenge/token", "").text(), "hello");
    for near in
        ["/.well-known/acme-challenge", "/.well-known/acme-challengeX/y", "/x/.well-known/acme-challenge/"]
    {
        assert_eq!(proxy.get(near, "").status(), 301, "{near}");
    }
}

/// What counts is the visitor's scheme: a trusted proxy's word is taken, nobody else's.
#[test]
fn the_scheme_is_the_visitors() {
    let (authority, origin) = (Authority::new(), Origin::start());
    let trusting = secured(&origin, &authority, "redirect = true", "trusted_proxies = [\"127.0.0.1\"]\n");
    let stranger = secured(&origin, &authority, "redirect = true", "");
    let https = "X-Forwarded-Proto: https\r\n";
    assert_eq!(trusting.get("/", https).status(), 200);
    assert_eq!(trusting.get("/", "X-Forwarded-Proto: http\r\n").status(), 301);
    assert_eq!(stranger.get("/", https).status(), 301);
}

/// A site's own word stands over that of all sites.
#[test]
fn a_site_may_differ_in_redirect_and_hsts() {
    let (authority, origin) = (Authority::new(), Origin::start());
    let site = |host: &str, tls: &str| {
        format!("[[sites]]\nhosts = [{host:?}]\nupstream = {:?}\ntls = {{ {tls} }}\n", origin.url())
    };
    let builder = with_certificate(proxy(), &authority, &["a.test", "b.test"])
        .replacing(
            "[[tls.certificates]]",
            "redirect = true\nhsts = { max_age = \"1h\" }\n[[tls.certificates]]",
        )
        .toml(&format!("\n{}{}", site("a.test", "redirect = false"), site("b.test", "hsts = {}")));
    let proxy = builder.run();
    let status = |host: &str| proxy.client().get_from(host, "/", "").status();
    assert_eq!((status("a.test"), status("b.test")), (200, 301));
    for (host, said) in [("a.test", "max-age=3600"), ("b.test", "max-age=31536000")] {
        let answer = tls_client(&proxy, &authority, host).get_from(host, "/", "");
        assert_eq!(answer.head.one("strict-transport-security"), Some(said));
    }
}

const HSTS: &str = "hsts = { max_age = \"365d\", subdomains = true, preload = true }";

/// An origin one of whose answers has the field.
fn with_hsts() -> Origin {
    Origin::start().answers(
        "/own",
        "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 2\r\n\r\nok",
    )
}

/// RFC 6797, 7.1: one field, on every answer over https, whoever gives it.
#[test]
fn hsts_is_said_once_on_every_answer_over_https() {
    let (authority, origin) = (Authority::new(), with_hsts());
    let proxy = secured(&origin, &authority, HSTS, "");
    let mut client = tls_client(&proxy, &authority, "site.test");
    for path in ["/", "/own", "/privacy-choices", "/.well-known/gpc.json"] {
        let answer = client.get(path, "");
        let said = answer.head.one("strict-transport-security");
        assert_eq!(said, Some("max-age=31536000; includeSubDomains; preload"), "{path}");
    }
    let mut h2 = H2::tls(proxy.tls(), "site.test", authority.client(&["h2"]));
    let request = Request::head("https://site.test/").body(Frames::new(b"", None)).unwrap();
    assert!(h2.send(request).headers.contains_key("strict-transport-security"));
}

/// RFC 6797, 7.2: never in clear, also not on a redirect, nor by the origin where the setting speaks for the site.
#[test]
fn hsts_is_never_said_in_clear() {
    let (authority, origin) = (Authority::new(), with_hsts());
    for more in [HSTS.to_owned(), format!("redirect = true\n{HSTS}")] {
        let proxy = secured(&origin, &authority, &more, "");
        for path in ["/", "/own", "/privacy-choices"] {
            assert_eq!(proxy.get(path, "").head.one("strict-transport-security"), None, "{path}");
        }
    }
    let unset = secured(&origin, &authority, "", "");
    let mut client = tls_client(&unset, &authority, "site.test");
    assert_eq!(client.get("/own", "").head.one("strict-transport-security"), Some("max-age=1"));
    assert_eq!(client.get("/", "").head.one("strict-transport-security"), None);
}
