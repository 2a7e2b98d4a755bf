//! A real browser behind the proxy: what scripts see, and what leaves for a tracker.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use super::support::origin::Origin;
use super::support::proxy::proxy;
use super::support::skipped;

const PAGE: &str = include_str!("../browser/signal.html");

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name))).find(|file| file.is_file())
}

/// A step in front of the proxy that adds `fields` to every request: a visitor with the signal on.
fn in_front(of: SocketAddr, fields: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A browser opens connections that it never uses; their errors are nobody's.
            thread::spawn(move || forward(stream, of, fields).ok());
        }
    });
    addr
}

/// Forwards one request, and the answer until its end.
fn forward(mut browser: TcpStream, to: SocketAddr, fields: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        browser.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    head.truncate(head.len() - 2);
    let head = String::from_utf8_lossy(&head).replace("Connection: keep-alive\r\n", "");
    let mut proxy = TcpStream::connect(to)?;
    proxy.write_all(format!("{head}{fields}Connection: close\r\n\r\n").as_bytes())?;
    std::io::copy(&mut proxy, &mut browser)?;
    browser.shutdown(Shutdown::Both)
}

/// Opens the page and returns its DOM when it has loaded. Every tracker's host leads to `trackers`.
fn dump_dom(browser: &PathBuf, page: SocketAddr, trackers: &Origin) -> String {
    let profile = tempfile::tempdir().unwrap();
    let sink = trackers.url().trim_start_matches("http://");
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--host-resolver-rules=MAP site.test {page}, MAP *.facebook.net {sink}, MAP *.facebook.com {sink}, MAP * ~NOTFOUND"))
        .args(["--dump-dom", "http://site.test/"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Issue "Enforcement": for an opted-out visitor `navigator.globalPrivacyControl` is `true`, from the
/// first script on, and no tracker is called; the same page without the signal calls them (so the
/// sink would have seen it).
#[test]
fn a_browser_sees_the_signal_and_calls_no_tracker() {
    let Some(browser) = chromium() else {
        return skipped("a_browser_sees_the_signal_and_calls_no_tracker", "no chromium in PATH");
    };
    let site = Origin::start().on("/", |x| x.ok("text/html", PAGE.as_bytes()));
    let proxy = proxy().to(&site).run();

    let trackers = Origin::start();
    let dom = dump_dom(&browser, in_front(proxy.addr(), ""), &trackers);
    assert!(dom.contains("What a page sees"), "the browser shows the page: {dom:?}");
    assert!(trackers.connections() > 0, "without the signal trackers are called");

    let trackers = Origin::start();
    let dom = dump_dom(&browser, in_front(proxy.addr(), "Sec-GPC: 1\r\n"), &trackers);
    assert!(dom.contains("signal=true after=true"), "{dom}");
    assert!(dom.contains("data-first=\"true\""), "{dom}");
    assert!(dom.contains("Opt-Out Request Honored"), "{dom}");
    assert_eq!(trackers.connections(), 0, "a tracker was called");
}
