//! Unix sockets on both sides, and IPv6.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use rustix::process::Signal;

use crate::support::binary::{Binary, command};
use crate::support::client::{Client, get};
use crate::support::h2::H2;
use crate::support::origin::Origin;
use crate::support::pki::Authority;
use crate::support::proxy::{Builder, proxy};

/// A proxy that listens on a Unix socket in its folder, and the socket's path.
fn on_socket(builder: Builder, more: &str) -> (Builder, std::path::PathBuf) {
    let path = builder.dir().join("o.sock");
    let settings = format!("[tls]\nlisten = {{ address = \"unix:{}\"{more} }}\n", path.display());
    (builder.toml(&settings), path)
}

/// A proxy that listens in clear on a Unix socket in its folder beside its port, and the socket's path.
fn also_on_socket(builder: &Builder) -> (optgate::app::Running, std::path::PathBuf) {
    let path = builder.dir().join("in.sock");
    let mut settings = builder.settings();
    settings.listen.push(optgate::config::Listen {
        at: optgate::config::ListenAt::Unix { path: path.clone(), mode: 0o660 },
        proxy_protocol: false,
    });
    let running = optgate::app::start(settings).unwrap();
    (running, path)
}

/// A builder with a certificate for `site.test`.
fn secured(authority: &Authority) -> Builder {
    let builder = proxy();
    let certificate = authority.leaf("site.test").toml(builder.dir(), "site");
    builder.toml(&certificate)
}

/// Everything over Unix sockets: the visitor's side and the origin's; the peer counts as this machine.
#[test]
fn a_request_passes_from_one_unix_socket_to_another() {
    let builder = proxy();
    let (ours, theirs) = (builder.dir().join("in.sock"), builder.dir().join("out.sock"));
    let origin = Origin::start_unix(&theirs);
    let builder = builder.to(&origin);
    let mut settings = builder.settings();
    settings.listen.push(optgate::config::Listen {
        at: optgate::config::ListenAt::Unix { path: ours.clone(), mode: 0o600 },
        proxy_protocol: false,
    });
    settings.workers = 2;
    let running = optgate::app::start(settings).unwrap();
    assert_eq!(running.unix().collect::<Vec<_>>(), [ours.as_path()]);
    assert_eq!(std::fs::metadata(&ours).unwrap().permissions().mode() & 0o777, 0o600);
    for path in ["/a", "/b", "/c"] {
        assert_eq!(Client::connect_unix(&ours).get(path, "X-Forwarded-For: 6.6.6.6\r\n").text(), "hello");
    }
    assert_eq!(origin.first().one("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(get(running.listen()[0], "/d", "").text(), "hello", "beside a port");
    running.stop().unwrap();
    assert!(!ours.exists(), "the file goes with the process");
}

/// HTTP/2 with prior knowledge is told by its first bytes on a Unix socket too.
#[test]
fn http2_is_told_by_its_first_bytes_on_a_unix_socket() {
    let origin = Origin::start();
    let builder = proxy().to(&origin);
    let (running, path) = also_on_socket(&builder);
    assert_eq!(H2::unix(&path).get("http://site.test/").status, 200);
    running.stop().unwrap();
}

/// The settings file's way, with TLS; SIGTERM takes the file away, a stale one is replaced, a live one is not.
#[test]
fn a_stale_socket_file_is_replaced_and_a_live_one_refused_by_name() {
    let authority = Authority::new();
    let origin = Origin::start();
    let (builder, path) = on_socket(secured(&authority).to(&origin), ", mode = \"0666\"");
    drop(UnixListener::bind(&path).unwrap());
    let mut binary = Binary::start(builder);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    let second = secured(&authority).to(&origin);
    let second = second.toml(&format!("[tls]\nlisten = [\"unix:{}\"]\n", path.display()));
    let output = command(&second.write()).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains(&path.display().to_string()) && words.contains("listens there"), "{words}");
    binary.signal(Signal::TERM);
    assert_eq!(binary.wait().code(), Some(0));
    assert!(!path.exists());
}

/// IPv6 on both sides; the origin is told the visitor's address in brackets (RFC 7239, 6).
#[test]
fn ipv6_is_listened_on_and_connected_to() {
    let origin = Origin::start_at("[::1]:0");
    let builder = proxy().to(&origin);
    let mut settings = builder.settings();
    settings.listen = vec!["[::1]:0".parse::<std::net::SocketAddr>().unwrap().into()];
    let running = optgate::app::start(settings).unwrap();
    assert!(running.listen()[0].is_ipv6());
    assert_eq!(get(running.listen()[0], "/", "").text(), "hello");
    let seen = origin.first();
    assert_eq!(seen.one("x-forwarded-for").as_deref(), Some("::1"));
    assert!(seen.one("forwarded").unwrap().starts_with("for=\"[::1]\""));
    running.stop().unwrap();
}

/// `:0` is every interface of both families, and a visitor of the older one has its plain address.
#[test]
fn every_interface_is_both_families() {
    let origin = Origin::start();
    let builder = proxy().to(&origin);
    let mut settings = builder.settings();
    settings.listen = vec!["[::]:0".parse::<std::net::SocketAddr>().unwrap().into()];
    let running = optgate::app::start(settings).unwrap();
    let port = running.listen()[0].port();
    for (count, ip, shown) in [(1, "127.0.0.1", "127.0.0.1"), (2, "[::1]", "::1")] {
        assert_eq!(get(format!("{ip}:{port}").parse().unwrap(), "/", "").text(), "hello");
        assert_eq!(origin.seen(count).last().unwrap().one("x-forwarded-for").as_deref(), Some(shown));
    }
    running.stop().unwrap();
}

/// Behind a Unix socket nobody can be told from others: `limits.portal_rate` would be one for all of them together.
#[test]
fn the_rate_for_consumer_pages_holds_for_clients_and_not_for_a_unix_socket() {
    let origin = Origin::start();
    let builder = proxy().to(&origin).toml("[limits]\nportal_rate = 1\nportal_burst = 2\n");
    let (running, path) = also_on_socket(&builder);
    for _ in 0..50 {
        assert_eq!(Client::connect_unix(&path).get("/privacy-choices", "").status(), 200);
    }
    crate::support::wait_until("a client reaches its rate", || {
        get(running.listen()[0], "/privacy-choices", "").status() == 429
    });
    running.stop().unwrap();
}
