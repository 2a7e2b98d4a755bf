//! The admin paths do not exist for visitors: on a public listener each of them is the site's own,
//! whatever name is asked by; and the admin listener answers to its own names only.

use std::net::SocketAddr;

use http::Request;

use super::config::listed::repository;
use super::support::client::{Client, Response};
use super::support::h2::{Frames, H2};
use super::support::origin::{Origin, answer};
use super::support::proxy::{Builder, Proxy, proxy};

/// Where nothing is, of ours or of anybody's.
const NOTHING: &str = "/no-such-path";

/// What only the admin listener says.
const ITS_WORDS: [&str; 4] = ["optgate_build_info", "registry_version", "problem+json", "serving: "];

/// Every path that the admin listener and the data folder's socket answer, out of the source: what is added later is
/// tried too.
fn admin_paths() -> Vec<String> {
    let sources = ["src/admin/mod.rs", "src/admin/journal_orders.rs"].map(repository).concat();
    let routes = sources.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let named = routes.map(|path| path.replace("{reference}", "ABC").replace("{name}", "site"));
    let mut paths: Vec<String> = named.collect();
    assert!(paths.len() > 10 && paths.iter().any(|path| path == "/metrics"), "{paths:?}");
    paths.extend(["/readyz?verbose", "/api/", "//metrics", "/./metrics"].map(str::to_owned));
    paths
}

/// An origin that has nothing, and says so in its own words.
fn origin() -> Origin {
    let not_found = answer("Content-Type: text/plain\r\n", "the site has nothing here");
    let not_found = String::from_utf8(not_found).unwrap().replace("200 OK", "404 Not Found");
    let paths = admin_paths();
    let all = paths.iter().map(|path| path.split('?').next().unwrap()).chain([NOTHING]);
    all.fold(Origin::start(), |origin, path| origin.answers(path, not_found.clone()))
}

/// A named site, or one for whatever host is asked for.
fn builders(origin: &Origin) -> [Builder; 2] {
    let named =
        format!("[[sites]]\nname = \"site\"\nhosts = [\"site.test\"]\nupstream = {}\n", origin.toml());
    [proxy().to(origin), proxy().toml(&named)]
        .map(|builder| builder.replacing("[admin]\n", "[admin]\nnames = [\"admin.internal\"]\n"))
}

/// A way to ask for a path.
struct Asked {
    /// In front of the path: a whole URL's beginning, or nothing.
    before: String,
    fields: String,
}

impl Asked {
    fn head(&self, method: &str, path: &str) -> String {
        format!("{method} {}{path} HTTP/1.1\r\n{}", self.before, self.fields)
    }
}

/// Every name by which the admin listener might be meant, and every way to say it.
fn asked(admin: SocketAddr) -> Vec<Asked> {
    let admin = admin.to_string();
    let mut all = Vec::new();
    for host in ["site.test", "admin.internal:9180", "localhost", &admin] {
        for before in [String::new(), format!("http://{host}")] {
            all.push(Asked { before, fields: format!("Host: {host}\r\n") });
        }
    }
    for field in [
        format!("X-Forwarded-Host: {admin}"),
        "X-Forwarded-Host: admin.internal\r\nX-Forwarded-Port: 9180".to_owned(),
        format!("Forwarded: host=\"{admin}\";for=127.0.0.1"),
        format!("X-Host: {admin}\r\nX-Forwarded-For: 127.0.0.1"),
    ] {
        all.push(Asked { before: String::new(), fields: format!("Host: site.test\r\n{field}\r\n") });
    }
    all
}

fn send(at: SocketAddr, head: &str) -> Response {
    let mut client = Client::connect(at);
    client.send(format!("{head}Content-Length: 0\r\n\r\n"));
    client.response(head.split(' ').next().unwrap())
}

/// All of an answer that is not of the moment.
fn shown(answer: &Response) -> (u16, Vec<(String, String)>, String) {
    let lasting =
        |(name, _): &&(String, String)| !["date", "x-request-id"].contains(&name.to_lowercase().as_str());
    (answer.status(), answer.head.fields.iter().filter(lasting).cloned().collect(), answer.text())
}

fn says_nothing_of_ours(text: &str, what: &str) {
    for word in ITS_WORDS {
        assert!(!text.contains(word), "{what}: {text}");
    }
}

#[test]
fn admin_paths_on_a_public_listener_are_answered_as_unknown_ones() {
    let origin = origin();
    for builder in builders(&origin) {
        let proxy = builder.run();
        for asked in asked(proxy.running().admin()) {
            for method in ["GET", "POST", "DELETE"] {
                let nothing = shown(&send(proxy.addr(), &asked.head(method, NOTHING)));
                assert!(nothing.0 >= 400, "{nothing:?}");
                for path in admin_paths() {
                    let head = asked.head(method, &path);
                    let answer = send(proxy.addr(), &head);
                    assert_eq!(shown(&answer), nothing, "{head}");
                    says_nothing_of_ours(&format!("{:?}{}", answer.head, answer.text()), &head);
                }
            }
        }
    }
}

/// A path in a field of another server's is no path here.
#[test]
fn no_field_leads_to_an_admin_path() {
    let proxy = proxy().to(&origin()).run();
    for field in ["X-Original-URL", "X-Rewrite-URL", "X-Original-Path", "X-HTTP-Path-Override"] {
        for path in admin_paths() {
            let text = proxy.get(NOTHING, &format!("{field}: {path}\r\n")).text();
            assert_eq!(text, "the site has nothing here", "{field}: {path}");
        }
    }
}

fn http2(proxy: &Proxy, method: &str, authority: &str, path: &str) -> (u16, Vec<(String, String)>, String) {
    let request = Request::builder().method(method).uri(format!("http://{authority}{path}"));
    let answer = H2::prior_knowledge(proxy.addr()).send(request.body(Frames::new(b"", None)).unwrap());
    let fields = answer.headers.iter().filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()));
    let fields = fields.map(|(name, value)| (name.to_string(), format!("{value:?}"))).collect();
    (answer.status, fields, String::from_utf8_lossy(&answer.body).into_owned())
}

/// The same over HTTP/2, where the authority is the name.
#[test]
fn admin_paths_are_unknown_over_http2_too() {
    let origin = origin();
    for builder in builders(&origin) {
        let proxy = builder.run();
        let admin = proxy.running().admin().to_string();
        for authority in ["site.test", "admin.internal:9180", "localhost:9180", &admin] {
            for method in ["GET", "POST"] {
                let nothing = http2(&proxy, method, authority, NOTHING);
                for path in admin_paths() {
                    let answer = http2(&proxy, method, authority, &path);
                    assert_eq!(answer, nothing, "{method} {authority}{path}");
                    says_nothing_of_ours(&format!("{answer:?}"), &path);
                }
            }
        }
    }
}

/// DNS rebinding: whatever path a page asks for under a name of its own, it learns nothing.
#[test]
fn the_admin_listener_answers_to_its_own_names_only() {
    let proxy = proxy().to(&origin()).replacing("[admin]\n", "[admin]\nnames = [\"admin.internal\"]\n").run();
    let admin = proxy.running().admin();
    for host in ["evil.example", "site.test", "admin.internal.evil.example", "10.0.0.1:9180"] {
        for path in admin_paths().iter().filter(|path| path.starts_with('/')) {
            for head in [
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n"),
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: localhost\r\n"),
                format!("GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n"),
            ] {
                let answer = send(admin, &head);
                assert_eq!(answer.status(), 403, "{head}");
                assert!(!answer.text().contains("optgate_") && !answer.text().contains("ok\n"), "{head}");
            }
        }
    }
    for host in ["localhost", "admin.internal:9180", &admin.to_string()] {
        assert_eq!(send(admin, &format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n")).status(), 200, "{host}");
    }
}
