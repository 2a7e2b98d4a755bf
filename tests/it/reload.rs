//! Settings, registry, lists and certificates read again while serving.
//!
//! Validated, then swapped without a lost request (see `seamless`); the old stays on error.

use rustix::process::Signal;

use super::support::binary::{Binary, optgate};
use super::support::client::{TlsClient, get};
use super::support::dns::Dns;
use super::support::origin::Origin;
use super::support::pki::Authority;
use super::support::proxy::{Proxy, proxy};
use super::support::{edit, wait_until};

const VISIT: &str = "Sec-Fetch-Dest: document\r\nSec-GPC: 1\r\n";
const PIXEL: &str = "<!doctype html><title>t</title><img src=\"https://px.unlisted.example/p.gif\">";

/// A vendor of the operator's own, for `px.unlisted.example`.
const VENDOR: &str = "schema = 1\n[[vendor]]\nid = \"own-pixel\"\nvendor = \"Own\"\nproduct = \"Own pixel\"\n\
    role = \"sale-share\"\ncategory = \"advertising\"\nhosts = [{ host = \"px.unlisted.example\" }]\n";

fn page(text: &'static str) -> Origin {
    Origin::start().on("/", move |x| x.ok("text/html", text.as_bytes()))
}

fn sites(list: &[(&str, &str, &Origin)]) -> String {
    let site = |(name, host, origin): &(&str, &str, &Origin)| {
        format!("[[sites]]\nname = {name:?}\nhosts = [{host:?}]\nupstream = {:?}\n", origin.url())
    };
    list.iter().map(site).collect()
}

fn fetch(proxy: &Proxy, host: &str) -> String {
    proxy.client().get_from(host, "/", "").text()
}

/// The same connection is served by the new settings from the next request on.
#[test]
fn an_open_connection_follows_the_new_settings() {
    let (one, two) = (page("one"), page("two"));
    let proxy = proxy().to(&one).run();
    let mut client = proxy.client();
    assert!(client.get("/", "").text().contains("one"));
    let said = proxy.reload(|text| text.replace(one.url(), two.url())).unwrap();
    assert!(said.starts_with("1 sites"), "{said}");
    assert!(client.get("/", "").text().contains("two"));
}

/// Sites come, go and change places; those that stay keep their counters and their kill switch.
#[test]
fn sites_come_and_go_and_those_that_stay_keep_their_figures() {
    let (one, two, three) = (page("one"), page("two"), page("three"));
    let before = sites(&[("a", "a.test", &one), ("b", "b.test", &two)]);
    let after = sites(&[("c", "c.test", &three), ("a", "a.test", &one)]);
    let proxy = proxy().toml(&format!("\n{before}")).run();
    assert!(fetch(&proxy, "a.test").contains("one"));
    assert!(fetch(&proxy, "b.test").contains("two"));
    proxy.reload(|text| text.replace(&before, &after)).unwrap();
    assert!(fetch(&proxy, "a.test").contains("one"));
    assert!(fetch(&proxy, "c.test").contains("three"));
    let metrics = proxy.running().metrics();
    let counts = ["a", "b", "c"].map(|site| metrics.site(site).request_count());
    assert_eq!(counts, [2, 1, 1]);
}

/// A registry file that has changed makes another page of it, and the page of before is not confirmed.
#[test]
fn a_changed_registry_file_is_taken() {
    let origin = page(PIXEL);
    let builder = proxy().to(&origin);
    let file = builder.dir().join("more.toml");
    std::fs::write(&file, "schema = 1\n").unwrap();
    let proxy = builder.toml(&format!("registry.files = [{file:?}]\n")).run();
    assert!(proxy.get("/", VISIT).text().contains("px.unlisted.example"));
    std::fs::write(&file, VENDOR).unwrap();
    proxy.reload(|text| text).unwrap();
    assert!(!proxy.get("/", VISIT).text().contains("src=\"https://px.unlisted.example"));
    let figures = proxy.running().metrics().render();
    assert!(figures.contains("optgate_elements_neutralised_total{vendor=\"own-pixel\",action=\"strip\"} 1"));
    assert!(figures.contains("optgate_reloads_total{result=\"taken\"} 1"));
}

/// What is wrong leaves all as it was, and says what is wrong.
#[test]
fn a_registry_file_that_cannot_be_read_leaves_the_old_one_in_force() {
    let origin = page(PIXEL);
    let builder = proxy().to(&origin);
    let file = builder.dir().join("more.toml");
    std::fs::write(&file, VENDOR).unwrap();
    let proxy = builder.toml(&format!("registry.files = [{file:?}]\n")).run();
    std::fs::write(&file, "schema = 1\n[[vendor]]\nid = 7\n").unwrap();
    let refused = proxy.reload(|text| text).unwrap_err();
    assert!(format!("{refused:#}").contains("more.toml:3"), "{refused:#}");
    assert!(!proxy.get("/", VISIT).text().contains("src=\"https://px.unlisted.example"));
    assert!(proxy.running().metrics().render().contains("optgate_reloads_total{result=\"refused\"} 1"));
}

/// `lists_check.keep_percent` holds for a reload, too.
#[cfg(feature = "lists")]
#[test]
fn a_list_that_has_shrunk_too_much_refuses_the_reload() {
    let origin = page(PIXEL);
    let builder = proxy().to(&origin);
    let file = builder.dir().join("own.txt");
    let rules: String = (0..100).map(|i| format!("||host{i}.example^\n")).collect();
    std::fs::write(&file, format!("{rules}||px.unlisted.example^\n")).unwrap();
    let lists = format!("lists = [{{ file = {file:?}, role = \"block\" }}]\n");
    let proxy = builder.toml(&lists).toml("[lists_check]\nevery = \"1h\"\n").run();
    std::fs::write(&file, "||host1.example^\n").unwrap();
    let refused = proxy.reload(|text| text).unwrap_err();
    assert!(format!("{refused:#}").contains("own.txt"), "{refused:#}");
    assert!(!proxy.get("/", VISIT).text().contains("src=\"https://px.unlisted.example"));
    // Without the list in the settings it is the operator's word.
    proxy.reload(|text| text.replace(&lists, "")).unwrap();
    assert!(proxy.get("/", VISIT).text().contains("src=\"https://px.unlisted.example"));
}

/// A host found behind a CNAME stays found; nobody sees a page without it.
#[test]
fn hidden_hosts_that_were_found_stay_found() {
    let dns = Dns::start();
    dns.cname("metrics.site.test", "site.sc.omtrdc.net");
    let origin =
        page("<!doctype html><title>t</title><script src=\"https://metrics.site.test/x.js\"></script>");
    let settings =
        format!("first_party_hosts = [\"metrics.site.test\"]\n[dns]\nservers = [\"{}\"]\n", dns.addr());
    let proxy = proxy().to(&origin).toml(&settings).run();
    wait_until("the host is found", || proxy.running().metrics().cloaked_hosts.get() == 1);
    dns.fails("metrics.site.test");
    proxy.reload(|text| text).unwrap();
    assert!(!proxy.get("/", VISIT).text().contains("metrics.site.test"));
}

/// The next handshake gets the new certificate; a connection under way lasts.
#[test]
fn certificates_are_replaced_under_open_connections() {
    let authority = Authority::new();
    let origin = Origin::start();
    let builder = proxy().to(&origin);
    let certificate = authority.leaf_for(&["one.test", "site.test"]).toml(builder.dir(), "one");
    let proxy = builder.toml(&format!("[tls]\nlisten = [\"127.0.0.1:0\"]\n{certificate}")).run();
    let connect = || TlsClient::connect_tls(proxy.tls(), "one.test", authority.client(&["http/1.1"]));
    let mut open = connect();
    let old = open.certificate();
    let leaf = authority.leaf_for(&["one.test", "site.test"]);
    let (chain, _) = leaf.write(proxy.dir(), "one");
    proxy.reload(|text| text).unwrap();
    assert_eq!(open.get("/", "").text(), "hello");
    let new = connect();
    assert_eq!(new.certificate(), leaf.der);
    assert_ne!(old, leaf.der);
    std::fs::write(&chain, "no certificate").unwrap();
    let refused = proxy.reload(|text| text).unwrap_err();
    assert!(format!("{refused:#}").contains("one.pem"), "{refused:#}");
    assert_eq!(connect().certificate(), leaf.der, "the last good one serves on");
}

/// Sockets, folder and threads are what they were at the start, and the answer says so.
#[test]
fn what_only_a_restart_takes_is_named() {
    let origin = page("one");
    let dns = "[dns]\nservers = [\"127.0.0.1:9\"]\ninterval = \"1h\"\n";
    let proxy = proxy().to(&origin).toml(dns).run();
    let waits = |from: &str, to: &str| {
        let said = proxy.reload(|text| text.replace(from, to)).unwrap();
        said.split_once("only a restart takes it: ").map(|(_, what)| what.to_owned()).unwrap_or_default()
    };
    assert_eq!(waits("\"1h\"", "\"2h\""), "");
    assert_eq!(waits("workers = 1", "workers = 2"), "workers");
    assert_eq!(waits("127.0.0.1:9", "127.0.0.1:10"), "workers, dns.servers for pages' hosts");
}

/// SIGHUP reads the very files again that the process was started with.
#[test]
fn sighup_reloads() {
    let (one, two) = (page("one"), page("two"));
    let binary = Binary::start(proxy().to(&one));
    let file = binary.file();
    edit(&file, one.url(), two.url());
    binary.signal(Signal::HUP);
    binary.wait_for_line("reloaded: 1 sites");
    assert!(get(binary.addr(), "/", "").text().contains("two"));
    edit(&file, "upstream =", "upstreem =");
    binary.signal(Signal::HUP);
    binary.wait_for_line("reload refused");
    binary.wait_for_line("did you mean `upstream`?");
    assert!(get(binary.addr(), "/", "").text().contains("two"));
}

/// `optgate reload` says what came of it, and its exit code is that of `optgate check`.
#[test]
fn the_command_says_what_came_of_it() {
    let (one, two) = (page("one"), page("two"));
    let binary = Binary::start(proxy().to(&one));
    let file = binary.file();
    let admin = binary.admin("http");
    let reload = || optgate(&["reload", "--admin", &admin]);
    edit(&file, one.url(), two.url());
    let (code, words) = reload();
    assert!(code == Some(0) && words.starts_with("reloaded: 1 sites"), "{code:?} {words}");
    assert!(get(binary.addr(), "/", "").text().contains("two"));
    edit(&file, "upstream =", "upstreem =");
    let (code, words) = reload();
    assert!(code == Some(78) && words.contains("did you mean `upstream`?"), "{code:?} {words}");
    assert!(words.contains("optgate.toml:"), "{words}");
    drop(binary);
    let (code, words) = reload();
    assert!(code == Some(1) && words.contains("is optgate running"), "{code:?} {words}");
}
