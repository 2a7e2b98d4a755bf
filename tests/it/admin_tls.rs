//! The admin listener by TLS: who comes in, and that our own commands do.

use super::support::binary::{Binary, optgate};
use super::support::client::{Client, TlsClient};
use super::support::edit;
use super::support::origin::Origin;
use super::support::pki::{Authority, Leaf};
use super::support::proxy::{Builder, proxy};

/// `[admin.tls]` with a certificate for these names, and more lines.
fn with_admin(builder: Builder, authority: &Authority, names: &[&str], more: &str) -> Builder {
    let (chain, key) = authority.leaf_for(names).write(builder.dir(), "admin");
    builder.toml(&format!("[admin.tls]\nchain = {chain:?}\nkey = {key:?}\n{more}\n"))
}

/// Asks for `/livez`; `None` when the handshake does not come to its end for the client.
fn alive(at: std::net::SocketAddr, authority: &Authority, shown: Option<&Leaf>, host: &str) -> Option<u16> {
    let mut client = TlsClient::connect_tls(at, "127.0.0.1", authority.client_as(shown));
    // In TLS 1.3 a server's refusal of a certificate comes behind the client's part of the handshake.
    client.try_send(format!("GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    client.try_status()
}

/// Behind TLS the answers are the same, by any name, for a page cannot bind another name to the address without
/// a certificate; in clear nothing is answered.
#[test]
fn the_admin_listener_speaks_tls_where_it_is_set() {
    let authority = Authority::new();
    let builder = with_admin(proxy().to(&Origin::start()), &authority, &["127.0.0.1"], "");
    let proxy = builder.run();
    let at = proxy.running().admin();
    for host in ["127.0.0.1", "optgate.internal"] {
        assert_eq!(alive(at, &authority, None, host), Some(200), "{host}");
    }
    let mut clear = Client::connect(at);
    clear.send("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(!clear.rest().starts_with(b"HTTP/"), "nothing is answered in clear");
}

/// With `client_roots` nobody comes in without a certificate of theirs.
#[test]
fn only_holders_of_certificates_come_in() {
    let (authority, operators, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let builder = proxy().to(&Origin::start());
    let roots = format!("client_roots = {:?}", operators.write(builder.dir()));
    let proxy = with_admin(builder, &authority, &["127.0.0.1"], &roots).run();
    let at = proxy.running().admin();
    let (operator, stranger) = (operators.leaf("operator"), strangers.leaf("operator"));
    assert_eq!(alive(at, &authority, None, "localhost"), None);
    assert_eq!(alive(at, &authority, Some(&stranger), "localhost"), None);
    assert_eq!(alive(at, &authority, Some(&operator), "localhost"), Some(200));
}

/// A reload takes other certificates, also whom to let in, and keeps the old ones when they cannot be used.
#[test]
fn the_admin_listeners_certificates_are_replaced_on_a_reload() {
    let (authority, operators) = (Authority::new(), Authority::new());
    let builder = with_admin(proxy().to(&Origin::start()), &authority, &["127.0.0.1"], "");
    let proxy = builder.run();
    let at = proxy.running().admin();
    let shown = || TlsClient::connect_tls(at, "127.0.0.1", authority.client_as(None)).certificate();
    let leaf = authority.leaf("127.0.0.1");
    assert_ne!(shown(), leaf.der);
    leaf.write(proxy.dir(), "admin");
    let roots = operators.write(proxy.dir());
    let with_roots = format!("[admin.tls]\nclient_roots = {roots:?}\n");
    proxy.reload(|text| text.replace("[admin.tls]\n", &with_roots)).unwrap();
    assert_eq!(alive(at, &authority, None, "localhost"), None);
    let operator = operators.leaf("operator");
    let mut client = TlsClient::connect_tls(at, "127.0.0.1", authority.client_as(Some(&operator)));
    assert_eq!(client.certificate(), leaf.der);
    assert_eq!(client.get_from("localhost", "/livez", "").status(), 200);
    std::fs::write(&roots, "no certificate").unwrap();
    let refused = proxy.reload(|text| text).unwrap_err();
    assert!(format!("{refused:#}").contains("roots.pem"), "{refused:#}");
    assert_eq!(alive(at, &authority, Some(&operator), "localhost"), Some(200));
}

/// `optgate reload` comes in by what the settings say, and says what is wrong when it does not.
#[test]
fn our_own_commands_come_in_by_tls() {
    let (authority, operators) = (Authority::new(), Authority::new());
    let origin = Origin::start();
    let builder = proxy().to(&origin);
    let dir = builder.dir().to_owned();
    std::fs::create_dir(dir.join("roots")).unwrap();
    let (roots, client_roots) = (authority.write(&dir.join("roots")), operators.write(&dir));
    let (chain, key) = operators.leaf("operator").write(&dir, "operator");
    let more = format!(
        "client_roots = {client_roots:?}\nroots = {roots:?}\nname = \"optgate.internal\"\n\
         client_chain = {chain:?}\nclient_key = {key:?}"
    );
    let binary = Binary::start(with_admin(builder, &authority, &["optgate.internal"], &more));
    let (file, admin) = (binary.file().display().to_string(), binary.admin("https"));
    let reload = || optgate(&["--config", &file, "reload", "--admin", &admin]);
    let (code, words) = reload();
    assert!(code == Some(0) && words.starts_with("reloaded: 1 sites"), "{code:?} {words}");
    edit(&binary.file(), "optgate.internal", "other.internal");
    let (code, words) = reload();
    assert!(code == Some(1) && words.contains("[admin.tls]"), "{code:?} {words}");
}
