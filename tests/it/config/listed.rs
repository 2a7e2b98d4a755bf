//! `config/optgate.toml` lists every setting with its default.

use std::path::PathBuf;
use std::time::Duration;

use optgate::config::LinkTitle;
use optgate::config::error::Place;
use optgate::privacy::Mode;

use super::{Desk, SITE};

/// A file of the repository.
pub fn repository(file: &str) -> String {
    std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// Settings without what depends on where they were read.
fn plain(text: &str) -> (serde_json::Value, String) {
    let mut desk = Desk::with(text);
    desk.inputs.without_sites = true;
    let loaded = desk.loaded();
    (loaded.written, format!("{:#?}", loaded.settings))
}

/// `config/optgate.toml` holds every setting with its default.
#[test]
fn the_settings_file_says_what_is_compiled_in() {
    let text = repository("config/optgate.toml");
    assert_eq!(plain(&text), plain(""));
    let mut desk = Desk::with(&text);
    desk.inputs.without_sites = true;
    let unlisted: Vec<String> = desk
        .loaded()
        .origins
        .into_iter()
        .filter(|entry| entry.place == Place::Default)
        .map(|entry| entry.key)
        .collect();
    // These have no default value to list; their examples are tested below.
    assert_eq!(unlisted, ["data_dir", "sites", "contracts", "gpc_json", "tls.certificates", "vendors"]);
}

/// The settings file with its examples in force.
pub fn uncommented(text: &str) -> String {
    let lines = text
        .lines()
        // `upstream` and sites exclude each other; `account.header` needs a trusted hop, and `store.url` its engine.
        .filter(|line| !line.starts_with("#upstream = \""))
        .filter(|line| cfg!(feature = "lists") || !line.starts_with("#lists = "))
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => format!("{rest}\n"),
            _ => format!("{line}\n"),
        });
    let all: String = lines.collect();
    let all = all.replace("trusted_proxies = []", "trusted_proxies = [\"10.0.0.0/8\"]");
    all.replace("engine = \"sqlite\"", "engine = \"postgres\"")
}

/// Every example in the settings file is one that works, so that taking its sign away is safe.
#[test]
fn every_example_in_the_settings_file_can_be_used() {
    let desk = Desk::with(&uncommented(&repository("config/optgate.toml")));
    let admin = ["admin.pem", "admin.key", "clients.pem", "admin-roots.pem", "operator.pem", "operator.key"];
    for file in [
        "example.com.pem",
        "example.com.key",
        "roots.pem",
        "shop.txt",
        "ca.pem",
        "jwt.pem",
        "mail.credentials",
    ]
    .into_iter()
    .chain(admin)
    {
        desk.beside(file, "");
    }
    let settings = desk.loaded().settings;
    assert_eq!(settings.sites[0].name, "shop");
    assert_eq!(settings.sites[0].policy.contracts.len(), 2);
    assert_eq!(settings.sites[0].paths[0].prefix, "/checkout");
    assert_eq!(settings.tls.certificates.len(), 1);
    assert_eq!(settings.gpc_last_update.as_deref(), Some("2026-01-31"));
}

/// Every written key is documented: in the settings file, by its name.
#[test]
fn every_key_that_can_be_written_is_in_the_settings_file() {
    let text = repository("config/optgate.toml");
    let raw = repository("src/config/raw.rs");
    let mut seen = 0;
    for line in raw.lines().map(str::trim) {
        let field = line.strip_prefix("pub ").unwrap_or(line);
        let Some((name, rest)) = field.split_once(": ") else { continue };
        let is_key = name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
            && (rest.contains(" = ") || line.starts_with("pub "));
        if is_key {
            seen += 1;
            let written = [
                format!("{name} = "),
                format!("[{name}]"),
                format!("[{name}."),
                format!(".{name}]"),
                format!("[[{name}"),
                format!(".{name}]]"),
            ];
            assert!(
                written.iter().any(|form| text.contains(form)),
                "config/optgate.toml does not show `{name}`"
            );
        }
    }
    assert!(seen > 60, "only {seen} keys found: has raw.rs another form?");
}

/// Without any file.
#[test]
fn the_defaults_are_those_promised() {
    let settings = Desk::with(SITE).loaded().settings;
    assert_eq!(settings.listen[0].to_string(), "127.0.0.1:8080");
    assert_eq!(settings.admin.to_string(), "127.0.0.1:9180");
    assert_eq!(settings.portal.link, LinkTitle::DoNotSell);
    assert_eq!(settings.portal.prefix, "/privacy-choices");
    assert_eq!(settings.gpc_last_update, None);
    assert_eq!(settings.limits.header_bytes, 65_536);
    assert_eq!(settings.limits.rewriter_memory, 8_388_608);
    assert_eq!(settings.timeouts.tunnel_idle, Duration::from_secs(600));
    assert_eq!(settings.drain_timeout, Duration::from_secs(30));
    assert_eq!(settings.sites[0].mode, Mode::Enforce);
    assert_eq!(settings.default_site, Some(0));
    assert!(settings.workers >= 1);
    assert_eq!(settings.explain_to.len(), 2);
}
