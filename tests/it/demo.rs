//! The first command of the README, as a stranger types it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_optgate"));
    command.args(["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The three address lines; the table names every tracker of the shop; link and status are there.
#[test]
fn the_demo_shows_addresses_and_what_changed() {
    let output = demo().arg("--once").output().unwrap();
    let (text, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{words}");
    for line in ["origin: http://127.0.0.1:", "optgate: http://127.0.0.1:", "admin: http://127.0.0.1:"] {
        assert!(text.lines().any(|l| l.starts_with(line)), "{line}: {text}");
    }
    for vendor in [
        "google-tag-manager",
        "google-gtag",
        "meta-pixel",
        "tiktok-pixel",
        "pinterest-tag",
        "linkedin-insight",
        "microsoft-uet",
        "criteo-onetag",
        "hotjar",
        "google-doubleclick",
    ] {
        assert!(text.lines().any(|l| l.starts_with(vendor)), "{vendor}: {text}");
    }
    for element in [
        "<script>",
        "<iframe>",
        "<img>",
        "<link preconnect>",
        "inline script",
        "Set-Cookie _fbp",
        "Link https://connect.facebook.net",
    ] {
        assert!(text.contains(element), "{element}: {text}");
    }
    let with: Vec<_> = text.lines().filter(|l| l.starts_with("with")).collect();
    assert!(with.iter().all(|l| l.contains("opt-out link: yes")), "{text}");
    assert!(with[0].ends_with("Honored\": no") && with[1].ends_with("Honored\": yes"), "{text}");
    assert!(!text.to_lowercase().contains("compliant"));
}

/// It stays up until Ctrl-C, serves meanwhile, and ends with 0.
#[test]
fn the_demo_stays_up_until_interrupted() {
    let mut child = demo().spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let (mut line, mut optgate) = (String::new(), String::new());
    while !line.contains("Ctrl-C") {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "it says how to stop it");
        if let Some(url) = line.strip_prefix("optgate: http://") {
            optgate = url.trim().trim_end_matches('/').to_owned();
        }
    }
    let page = super::support::client::get(optgate.parse().unwrap(), "/privacy-choices", "");
    assert_eq!(page.status(), 200);
    let stopped = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    assert!(child.wait().unwrap().success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
}
