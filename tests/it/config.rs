//! Settings: layers, environment, sites.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

pub mod listed;
mod refusals;

use std::path::PathBuf;

use optgate::config::error::ConfigErrors;
use optgate::config::load::{Flag, Inputs, Loaded, load};
use optgate::config::{CacheFront, CspMode, LogLevel, ServiceProviders, UpstreamAddress, VendorAction};
use optgate::privacy::Mode;
use tempfile::TempDir;

/// A folder with files, and inputs that see nothing of this process' surroundings.
struct Desk {
    folder: TempDir,
    inputs: Inputs,
}

impl Desk {
    fn new() -> Self {
        let environment = vec![("STATE_DIRECTORY".into(), "/var/lib/optgate".into())];
        Self { folder: tempfile::tempdir().unwrap(), inputs: Inputs { environment, ..Inputs::default() } }
    }

    /// One configuration file, `optgate.toml`.
    fn with(text: &str) -> Self {
        Self::new().file("optgate.toml", text)
    }

    /// Writes a file and reads it as a layer.
    fn file(mut self, name: &str, text: &str) -> Self {
        let path = self.beside(name, text);
        self.inputs.files.push(path);
        self
    }

    /// Writes a file that is no layer.
    fn beside(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.inputs.environment.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, name: &'static str, key: &'static str, value: &str) -> Self {
        self.inputs.flags.push(Flag { name, key, values: vec![value.to_owned()], list: false });
        self
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        load(&self.inputs)
    }

    #[track_caller]
    fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|errors| panic!("refused:\n{errors}"))
    }

    /// The complaint, with the folder's name taken out.
    #[track_caller]
    fn refused(&self) -> String {
        let errors = self.load().expect_err("this must be refused").to_string();
        errors.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

fn origin(loaded: &Loaded, key: &str) -> String {
    let entry = loaded.origins.iter().find(|entry| entry.key == key);
    entry.unwrap_or_else(|| panic!("{key} is not listed")).place.to_string()
}

const SITE: &str = "upstream = \"http://127.0.0.1:3000\"\n";

/// Defaults < files in order < environment < flags, for the same key.
#[test]
fn a_stronger_layer_beats_a_weaker_one_and_says_so() {
    let mut desk = Desk::with(SITE);
    assert_eq!(desk.loaded().settings.log.level, LogLevel::Info);
    assert_eq!(origin(&desk.loaded(), "log.level"), "default");

    desk = desk.file("b.toml", "[log]\nlevel = \"warn\"\n");
    assert_eq!(desk.loaded().settings.log.level, LogLevel::Warn);
    assert!(origin(&desk.loaded(), "log.level").ends_with("b.toml:2"));

    desk = desk.file("c.toml", "log.level = \"error\"\n");
    assert_eq!(desk.loaded().settings.log.level, LogLevel::Error);
    assert!(origin(&desk.loaded(), "log.level").ends_with("c.toml:1"));

    desk = desk.env("OPTGATE__LOG__LEVEL", "debug");
    assert_eq!(desk.loaded().settings.log.level, LogLevel::Debug);
    assert_eq!(origin(&desk.loaded(), "log.level"), "env OPTGATE__LOG__LEVEL");

    desk = desk.flag("--log-level", "log.level", "trace");
    assert_eq!(desk.loaded().settings.log.level, LogLevel::Trace);
    assert_eq!(origin(&desk.loaded(), "log.level"), "--log-level");
}

/// A later file can add a vendor, and can shorten a list of trusted proxies.
#[test]
fn tables_of_several_files_are_joined_and_lists_are_replaced() {
    let loaded = Desk::with(&format!(
        "{SITE}trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n[vendors]\nhotjar = \"strip\"\n"
    ))
    .file("b.toml", "trusted_proxies = \"192.0.2.1\"\n[vendors]\nmeta-pixel = \"strip\"\n")
    .loaded();
    let networks: Vec<String> = loaded.settings.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["192.0.2.1/32"]);
    assert_eq!(loaded.settings.sites[0].policy.vendors.len(), 2);
}

/// The environment works for keys that no file mentions, and splits lists on commas.
#[test]
fn the_environment_sets_keys_that_no_file_mentions() {
    let loaded = Desk::new()
        .env("OPTGATE__UPSTREAM", "http://127.0.0.1:3000,http://127.0.0.1:3001")
        .env("OPTGATE__TRUSTED_PROXIES", "10.0.0.0/8, ::1")
        .env("OPTGATE__EXPLAIN_TO", "")
        .env("OPTGATE__LIMITS__HEADER_COUNT", "50")
        .env("OPTGATE__LIMITS__REQUEST_BODY", "10MB")
        .env("OPTGATE__READY__REQUIRES_JOURNAL", "true")
        .env("OPTGATE__PORTAL__PREFIX", "/123")
        .env("OPTGATE__VENDORS__META_PIXEL", "strip")
        .env("OPTGATE__CONTRACTS__HOTJAR__ENTITY", "Hotjar, Ltd.")
        .env("OPTGATE__CONTRACTS__HOTJAR__REFERENCE", "7")
        .env("OPTGATE__CONTRACTS__HOTJAR__DATE", "2026-01-31")
        .env("OPTGATE_PORT", "tcp://10.0.0.1:80")
        .loaded();
    let settings = &loaded.settings;
    assert_eq!(settings.sites[0].upstreams.len(), 2);
    assert_eq!(settings.trusted_proxies.len(), 2);
    assert!(settings.explain_to.is_empty());
    assert_eq!(settings.limits.header_count, 50);
    assert_eq!(settings.limits.request_body, Some(10_000_000));
    assert!(settings.ready_requires_journal);
    assert_eq!(settings.portal.prefix, "/123");
    assert_eq!(settings.sites[0].policy.vendors["meta-pixel"], VendorAction::Strip);
    let contract = &settings.sites[0].policy.contracts["hotjar"];
    assert_eq!((contract.entity.as_str(), contract.reference.as_str()), ("Hotjar, Ltd.", "7"));
}

/// Secrets of containers and systemd arrive as files; what they hold is never printed.
#[test]
fn a_file_variable_gives_the_value_and_is_never_printed() {
    let desk = Desk::with(&format!("{SITE}trusted_proxies = \"::1\"\n"));
    let secret = desk.beside("secret", "x-secret-name\n");
    let desk = desk.env("OPTGATE__ACCOUNT__HEADER_FILE", secret.to_str().unwrap());
    let loaded = desk.loaded();
    assert_eq!(loaded.settings.account.header.as_ref().unwrap().as_str(), "x-secret-name");
    assert_eq!(origin(&loaded, "account.header"), "env OPTGATE__ACCOUNT__HEADER_FILE");
    assert!(!format!("{:?} {}", loaded.origins, loaded.written).contains("x-secret-name"));

    desk.beside("secret", "not a header name");
    assert_eq!(
        desk.refused(),
        "environment: `account.header` cannot be used\n  \
           OPTGATE__ACCOUNT__HEADER_FILE=(read from a file)\n  \
           why: the value in the file does not fit this setting\n  \
           next: correct what the file holds; config/optgate.toml says what `account.header` takes"
    );
}

/// A file in the working folder is never read unasked; the system's is, when no file is named.
#[test]
fn the_system_file_is_read_only_when_no_file_is_named() {
    let mut desk = Desk::new();
    desk.inputs.system_file = Some(desk.beside("system.toml", &format!("{SITE}workers = 3\n")));
    assert_eq!(desk.loaded().settings.workers, 3);
    let desk = desk.file("own.toml", SITE);
    assert_ne!(desk.loaded().files.len(), 2);
    assert_eq!(origin(&desk.loaded(), "workers"), "default");
    let mut desk = Desk::new().env("OPTGATE__UPSTREAM", "http://a");
    desk.inputs.system_file = Some("/nowhere/system.toml".into());
    assert!(desk.loaded().files.is_empty());
}

/// A file means the same wherever the command is typed; flags are meant from where they are typed.
#[test]
fn relative_paths_in_a_file_start_at_its_folder() {
    let desk =
        Desk::with("upstream = \"http://a\"\ndata_dir = \"state\"\n[registry]\nfiles = [\"more.toml\"]\n");
    let more = desk.beside("more.toml", "");
    let settings = desk.loaded().settings;
    assert_eq!(settings.registry_files, [more]);
    assert_eq!(settings.data_dir, desk.folder.path().join("state"));
    let settings = desk.flag("--data-dir", "data_dir", "here").loaded().settings;
    assert_eq!(settings.data_dir, PathBuf::from("here"));
}

/// systemd.exec(5) and the XDG base directories name the place of state.
#[test]
fn the_state_folder_is_the_platforms() {
    let folder = |environment: &[(&str, &str)], root: bool| {
        let environment = environment.iter().map(|(k, v)| (k.into(), v.into())).collect();
        let inputs = Inputs { environment, root, without_sites: true, ..Inputs::default() };
        load(&inputs).map(|loaded| loaded.settings.data_dir.display().to_string())
    };
    let home = ("HOME", "/home/a");
    assert_eq!(folder(&[("STATE_DIRECTORY", "/var/lib/x:/var/lib/y"), home], true).unwrap(), "/var/lib/x");
    assert_eq!(folder(&[home], true).unwrap(), "/var/lib/optgate");
    assert_eq!(folder(&[("XDG_STATE_HOME", "/s"), home], false).unwrap(), "/s/optgate");
    assert_eq!(folder(&[home], false).unwrap(), "/home/a/.local/state/optgate");
    assert!(folder(&[], false).unwrap_err().to_string().contains("give --data-dir DIR"));
}

/// Every key of a site, with some at the top of the file.
pub const WHOLE_SITE: &str = r#"
        service_providers = "allow"
        [vendors]
        hotjar = "strip"
        meta-pixel = "strip"
        [contracts.google-analytics-4]
        entity = "Google LLC"
        reference = "2026-014"
        date = 2026-01-31
        [csp]
        mode = "enforce"
        allow = "z.example"
        [[sites]]
        hosts = ["WWW.Example.com.", "*.bücher.example", "[2001:db8::1]"]
        upstream = { url = "https://192.0.2.1", http2 = true, host = "www.example.com:8443", roots = "optgate.toml" }
        mode = "observe"
        cache.front = "vary"
        csp = { mode = "learn", allow = ["Cdn.Example", "a.example"] }
        vendors.hotjar = "allow"
        [[sites.paths]]
        prefix = "/a"
        mode = "enforce"
        [[sites.paths]]
        prefix = "/a/longer"
        rewrite = false
        "#;

/// Every key of a site, with what it takes from the top of the file.
#[test]
fn a_whole_site_is_read_as_it_was_meant() {
    let desk = Desk::with(WHOLE_SITE);
    let loaded = desk.loaded();
    let site = &loaded.settings.sites[0];
    assert_eq!(site.name, "www.example.com");
    assert_eq!(site.hosts, ["www.example.com", "*.xn--bcher-kva.example", "[2001:db8::1]"]);
    assert_eq!(site.mode, Mode::Observe);
    assert_eq!(site.cache_front, CacheFront::Vary);
    let allowed: Vec<String> = site.csp.allow.iter().map(ToString::to_string).collect();
    assert_eq!(
        (site.csp.mode, allowed.as_slice()),
        (CspMode::Learn, &["a.example", "cdn.example", "z.example"].map(str::to_owned)[..])
    );
    assert_eq!(site.policy.service_providers, ServiceProviders::Allow);
    assert_eq!(site.policy.vendors["hotjar"], VendorAction::Allow);
    assert_eq!(site.policy.vendors["meta-pixel"], VendorAction::Strip);
    assert_eq!(site.policy.contracts["google-analytics-4"].date, "2026-01-31");
    let upstream = &site.upstreams[0];
    assert_eq!(upstream.address, UpstreamAddress::Tcp { host: "192.0.2.1".into(), port: 443 });
    assert_eq!(upstream.host.as_deref(), Some("www.example.com:8443"));
    assert!(upstream.http2);
    let tls = upstream.tls.as_ref().unwrap();
    assert_eq!(tls.server_name, "www.example.com");
    assert_eq!(tls.roots.as_deref(), Some(desk.inputs.files[0].as_path()));
    let prefixes: Vec<&str> = site.paths.iter().map(|rule| rule.prefix.as_str()).collect();
    assert_eq!(prefixes, ["/a/longer", "/a"], "longest first");
    assert!(!site.paths[0].rewrite && site.paths[1].mode == Some(Mode::Enforce));
}

/// Whoever types --mode enforce must not be left with a site or path that only observes.
#[test]
fn the_mode_flag_holds_for_every_site_and_path() {
    let text = "[[sites]]\nupstream = \"http://a\"\nmode = \"observe\"\n[[sites.paths]]\nprefix = \"/a\"\nmode = \"observe\"\n";
    let site = Desk::with(text).env("OPTGATE__MODE", "enforce").loaded().settings.sites[0].clone();
    assert_eq!((site.mode, site.paths[0].mode), (Mode::Observe, Some(Mode::Observe)));
    let site = Desk::with(text).flag("--mode", "mode", "enforce").loaded().settings.sites[0].clone();
    assert_eq!((site.mode, site.paths[0].mode), (Mode::Enforce, Some(Mode::Enforce)));
}

/// A default site for unknown hosts or 421, by setting.
#[test]
fn unknown_hosts_go_where_the_setting_says() {
    let two = "[[sites]]\nname = \"a\"\nhosts = [\"a\"]\nupstream = \"http://a\"\n[[sites]]\nname = \"b\"\nhosts = [\"b\"]\nupstream = \"http://b\"\n";
    let default_site = |choice: &str| Desk::with(&format!("{choice}\n{two}")).loaded().settings.default_site;
    assert_eq!(default_site(""), Some(0));
    assert_eq!(default_site("default_site = \"b\""), Some(1));
    assert_eq!(default_site("default_site = \"none\""), None);
    let bare = Desk::with(&format!("{SITE}default_site = \"none\"\n")).loaded().settings;
    assert_eq!(bare.default_site, Some(0), "one site without hosts takes everything");
}

/// Port 0 is a different port each time.
#[test]
fn only_port_zero_may_be_used_twice() {
    let settings = Desk::with(SITE)
        .env("OPTGATE__LISTEN", "127.0.0.1:0,127.0.0.1:0")
        .env("OPTGATE__ADMIN__LISTEN", "127.0.0.1:0")
        .loaded()
        .settings;
    assert_eq!(settings.listen.len(), 2);
}

/// A default inside a table that a file opens is still a default.
#[test]
fn origins_tell_written_values_from_defaults_in_the_same_table() {
    let loaded =
        Desk::with("[limits]\nheader_count = 5\n[[sites]]\nupstream = { url = \"http://a\" }\n").loaded();
    assert!(origin(&loaded, "limits.header_count").ends_with("optgate.toml:2"));
    assert_eq!(origin(&loaded, "limits.header_bytes"), "default");
    assert!(origin(&loaded, "sites[0].upstream[0].url").ends_with("optgate.toml:4"));
    assert_eq!(origin(&loaded, "sites[0].paths"), "default");
}

/// Settings that contradict each other are refused with where, why and what to do.
#[test]
fn origins_and_listeners_that_contradict_themselves_are_refused() {
    let site = |text: &str| Desk::with(&format!("[[sites]]\n{text}\n")).refused();
    for (text, what) in [
        ("upstream = { url = \"http://a\", backup = true }", "names backups only"),
        ("upstream = { url = \"h2c://a:1\", proxy_protocol = \"v2\" }", "cannot be used with HTTP/2"),
        ("upstream = { url = \"http://a\", weight = 0 }", "`sites[0].upstream.weight` is out of range"),
        ("upstream = { url = \"http://a\", max_connections = 0 }", "is out of range"),
        ("upstream = \"http://a\"\nhash_on = \"header:X-A\"", "`sites[0].hash_on` has no effect"),
        ("upstream = \"http://a\"\nsticky_cookie = \"x\"", "`sites[0].sticky_cookie` has no effect"),
        ("upstream = \"http://a\"\nbalance = \"round\"", "did you mean \"round-robin\"?"),
        ("upstream = \"http://a\"\nhealth = { path = \"x\" }", "`sites[0].health.path` cannot be used"),
        ("upstream = \"http://a\"\nhealth = { path = \"/\", interval = \"1ms\" }", "is too short"),
    ] {
        let words = site(text);
        assert!(words.contains(what), "{text}: {words}");
    }
    let many: Vec<String> = (0..65).map(|n| format!("\"http://a:{}\"", n + 1)).collect();
    assert!(site(&format!("upstream = [{}]", many.join(", "))).contains("the limit is 64"));
    for (text, what) in [
        ("listen = { address = \":1\", proxy_protocol = true }", "needs `trusted_proxies`"),
        ("listen = { address = \":1\", mode = \"0600\" }", "needs a Unix socket"),
        ("listen = { proxy_protocol = false }", "is missing"),
        ("listen = [\"unix:/run/a\", \"unix:/run/a\"]", "listen on the same address"),
        ("listen = \"unix:a\"", "names no absolute path"),
        ("sticky_cookie = \"optgate\"", "that is the cookie of the opt-out"),
        ("hash_on = \"ip\"", "is nothing that a request has"),
        ("[health]\nstatus = \"2xx\"", "is no range of final statuses"),
        ("[outlier]\nlongest = \"1s\"", "is shorter than `outlier.ejection`"),
    ] {
        let words = Desk::with(&format!("{text}\n[[sites]]\nupstream = \"http://a\"\n")).refused();
        assert!(words.contains(what), "{text}: {words}");
    }
}

/// Settings of TLS that cannot do what they say are refused, each once.
#[test]
fn tls_settings_that_cannot_work_are_refused() {
    let acme = "[acme]\nhosts = [\"a.test\"]\nterms_agreed = true\n";
    for (text, what) in [
        ("tls.redirect = true", "`tls.redirect` leads nowhere"),
        ("tls.redirect_port = 0", "`tls.redirect_port` is zero"),
        ("tls.hsts = { preload = true }", "`tls.hsts.preload` needs more"),
        ("tls.hsts = { preload = true, subdomains = true, max_age = \"30d\" }", "for a year or more"),
        ("tls.listen = \":1\"", "name `acme.hosts`"),
        ("[admin.tls]\nchain = \"optgate.toml\"", "`admin.tls.key` is missing"),
        ("[admin.tls]\nname = \"a b\"", "`admin.tls.name` is no host name"),
        (acme, "`acme.hosts` needs `tls.listen`"),
        (&acme.replace("true", "false"), "`acme.terms_agreed` is not true"),
        (&acme.replace("a.test", "*.a.test"), "no wildcards and no addresses"),
        (&acme.replace("a.test", "192.0.2.1"), "no wildcards and no addresses"),
        (&format!("{acme}contact = \"ops@a.test\""), "is no mail address"),
        (&format!("{acme}directory = \"http://ca.test/\""), "ACME is spoken by https only"),
        (&format!("{acme}challenges = [\"dns-01\"]"), "cannot be \"dns-01\""),
        (&format!("{acme}challenges = []"), "no name could be proven"),
    ] {
        let site = "[[sites]]\nhosts = [\"a.test\", \"b.test\"]\nupstream = \"http://a\"\n";
        let words = Desk::with(&format!("{text}\n{site}")).refused();
        assert_eq!(words.matches(what).count(), 1, "{text}: {words}");
    }
}

/// The port of https is the one that is listened on, unless visitors come by another.
#[test]
fn the_port_of_https_is_found_or_written() {
    let port = |listen: &str, more: &str| {
        let acme = "[acme]\nhosts = [\"a.test\"]\nterms_agreed = true\n";
        let text = format!(
            "tls.listen = {listen}\ntls.redirect = true\n{more}\n{acme}[[sites]]\nupstream = \"http://a\"\n"
        );
        Desk::with(&text).loaded().settings.sites[0].redirect
    };
    assert_eq!(port("\":8443\"", ""), Some(8443));
    assert_eq!(port("[\"unix:/run/a\", { address = \":444\" }]", ""), Some(444));
    assert_eq!(port("\"127.0.0.1:0\"", ""), Some(443));
    assert_eq!(port("\":8443\"", "tls.redirect_port = 443"), Some(443));
}

/// What a site says of its checks stands over what holds for all; each setting for itself.
#[test]
fn a_sites_checks_are_its_own_over_those_of_all() {
    let text = "[health]\npath = \"/up\"\nrises = 7\nstatus = \"204\"\n[[sites]]\nupstream = \"http://a\"\n\
                health = { path = \"/own\", falls = 1, host = \"a.test\" }\n";
    let site = Desk::with(text).loaded().settings.sites[0].clone();
    let health = site.sharing.health.clone().unwrap();
    assert_eq!((health.path.as_str(), health.rises, health.falls), ("/own", 7, 1));
    assert_eq!((health.status, health.host.as_deref()), ((204, 204), Some("a.test")));
    let none = Desk::with("[[sites]]\nupstream = \"http://a\"\n").loaded().settings.sites[0].clone();
    assert_eq!(none.sharing.health, None, "no path, no checks");
}
