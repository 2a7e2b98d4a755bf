//! Settings: layers, complaints, and the file that lists them all.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use optgate::config::error::{ConfigErrors, Place};
use optgate::config::load::{Flag, Inputs, Loaded, load};
use optgate::config::{CacheFront, LinkTitle, LogLevel, ServiceProviders, UpstreamAddress, VendorAction};
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

/// DESIGN 5: a wrong configuration is refused with file, line, column, the line, why, and a hint.
#[test]
fn a_bad_file_is_refused_with_place_line_reason_and_next_step() {
    let table = [
        (
            "listen = [\"127.0.0.1:8080\"\nmode = \"enforce\"\n",
            "optgate.toml:2:1: this is not TOML\n  \
               2 | mode = \"enforce\"\n    \
                 | ^\n  \
               why: missing comma between array elements, expected `,`\n  \
               next: correct the line; text values need quotes, tables start with [name]",
        ),
        (
            "mode = \"enforce\"\nmode = \"observe\"\n",
            "optgate.toml:2:1: this is not TOML\n  \
               2 | mode = \"observe\"\n    \
                 | ^^^^\n  \
               why: duplicate key\n  \
               next: correct the line; text values need quotes, tables start with [name]",
        ),
        (
            "lisen = \":80\"\n",
            "optgate.toml:1:1: unknown key `lisen`\n  \
               1 | lisen = \":80\"\n    \
                 | ^^^^^\n  \
               why: no setting has this name here, so it would have no effect\n  \
               next: did you mean `listen`?",
        ),
        (
            "# timeouts\n\theader_read = \"5s\"\n",
            "optgate.toml:2:2: unknown key `header_read`\n  \
               2 | \theader_read = \"5s\"\n    \
                 | \t^^^^^^^^^^^\n  \
               why: no setting has this name here, so it would have no effect\n  \
               next: it belongs to [timeouts]",
        ),
        (
            "drain_timeout = 30\n",
            "optgate.toml:1:17: `drain_timeout` cannot be used\n  \
               1 | drain_timeout = 30\n    \
                 |                 ^^\n  \
               why: 30 is a bare number\n  \
               next: write a whole number with its unit: \"250ms\", \"30s\", \"5m\" or \"1h\"",
        ),
        (
            "[limits]\nheader_count = \"100\"\n",
            "optgate.toml:2:16: `limits.header_count` has the wrong type\n  \
               2 | header_count = \"100\"\n    \
                 |                ^^^^^\n  \
               why: found string \"100\", expected a whole number\n  \
               next: remove the quotes",
        ),
        (
            "[portal]\nlink = \"privacy-choice\"\n",
            "optgate.toml:2:8: `portal.link` cannot be \"privacy-choice\"\n  \
               2 | link = \"privacy-choice\"\n    \
                 |        ^^^^^^^^^^^^^^^^\n  \
               why: it takes \"do-not-sell\" or \"privacy-choices\"\n  \
               next: did you mean \"privacy-choices\"?",
        ),
        (
            "[[sites]]\nupstream = [\"http://a\", { url = \"http://b\", htp2 = true }]\n",
            "optgate.toml:2:45: unknown key `sites[0].upstream[1].htp2`\n  \
               2 | upstream = [\"http://a\", { url = \"http://b\", htp2 = true }]\n    \
                 |                                             ^^^^\n  \
               why: no setting has this name here, so it would have no effect\n  \
               next: did you mean `http2`?",
        ),
    ];
    for (text, want) in table {
        assert_eq!(Desk::with(text).refused(), want, "for:\n{text}");
    }
}

/// Combinations that cannot be meant are refused at the key that makes them so.
#[test]
fn impossible_combinations_are_refused_where_they_are_written() {
    let table = [
        ("", "there is no site to stand in front of"),
        (
            "upstream = \"http://a\"\n[[sites]]\nupstream = \"http://b\"",
            "optgate.toml:1:12: `upstream` and [[sites]] are both set",
        ),
        (
            "[[sites]]\nhosts = [\"a\"]\nupstream = \"http://a\"\n[[sites]]\nupstream = \"http://b\"",
            "optgate.toml:4:1: `sites[1].hosts` is missing",
        ),
        ("[[sites]]\nhosts = [\"a\"]", "optgate.toml:1:1: `sites[0].upstream` is missing"),
        (
            "[[sites]]\nhosts = [\"a\"]\nupstream = \"http://a\"\n[[sites]]\nhosts = [\"b\", \"A\"]\nupstream = \"http://b\"\nname = \"b\"",
            "optgate.toml:5:15: the host \"a\" is given twice",
        ),
        (
            "[[sites]]\nname = \"x\"\nhosts = [\"a\"]\nupstream = \"http://a\"\n[[sites]]\nhosts = [\"b\"]\nupstream = \"http://b\"\nname = \"x\"",
            "optgate.toml:8:8: two sites are named \"x\"",
        ),
        (
            "[[sites]]\nname = \"first\"\nupstream = \"http://a\"",
            "optgate.toml:2:8: `sites[0].name` cannot be \"first\"",
        ),
        (
            "[[sites]]\nhosts = [\"a:80\"]\nupstream = \"http://a\"",
            "optgate.toml:2:10: `sites[0].hosts[0]` is no host",
        ),
        ("[[sites]]\nupstream = { http2 = true }", "optgate.toml:2:12: `sites[0].upstream.url` is missing"),
        (
            "[[sites]]\nupstream = { url = \"http://a\", roots = \"r.pem\" }",
            "optgate.toml:2:40: `sites[0].upstream.roots` needs an https origin",
        ),
        (
            "[[sites]]\nupstream = { url = \"https://a\", roots = \"r.pem\" }",
            "optgate.toml:2:41: `sites[0].upstream.roots` cannot be read",
        ),
        (
            "[[sites]]\nupstream = \"http://a\"\n[[sites.paths]]\nprefix = \"checkout\"",
            "optgate.toml:4:10: `sites[0].paths[0].prefix` cannot be used",
        ),
        (
            "[[sites]]\nupstream = \"http://a\"\n[[sites.paths]]\nrewrite = false",
            "optgate.toml:3:1: `sites[0].paths[0].prefix` cannot be used",
        ),
        (
            "upstream = \"http://a\"\n[portal]\nprefix = \"choices\"",
            "optgate.toml:3:10: `portal.prefix` cannot be used",
        ),
        (
            "upstream = \"http://a\"\n[portal]\nprefix = \"/\"",
            "optgate.toml:3:10: `portal.prefix` cannot be used",
        ),
        (
            "upstream = \"http://a\"\n[portal]\nprefix = \"/choices/\"",
            "optgate.toml:3:10: `portal.prefix` cannot be used",
        ),
        (
            "upstream = \"http://a\"\n[portal]\nprefix = \"/a;b\"",
            "optgate.toml:3:10: `portal.prefix` cannot be used",
        ),
        (
            "upstream = \"http://a\"\n[portal]\nprefix = \"/a/../b\"",
            "optgate.toml:3:10: `portal.prefix` cannot be used",
        ),
        (
            "upstream = \"http://a\"\n[tls]\nlisten = [\":8443\"]",
            "optgate.toml:3:10: `tls.listen` needs a certificate",
        ),
        (
            "upstream = \"http://a\"\n[[tls.certificates]]\nchain = \"none.pem\"\nkey = \"optgate.toml\"",
            "optgate.toml:3:9: `tls.certificates[0].chain` cannot be read",
        ),
        (
            "upstream = \"http://a\"\n[[tls.certificates]]\nchain = \"optgate.toml\"",
            "optgate.toml:2:1: `tls.certificates[0].key` is missing",
        ),
        (
            "upstream = \"http://a\"\nlisten = \":9180\"",
            "optgate.toml:2:10: `admin.listen` and `listen[0]` listen on the same address",
        ),
        (
            "upstream = \"http://a\"\nlisten = [\":80\", \"127.0.0.1:80\"]",
            "optgate.toml:2:18: `listen[1]` and `listen[0]` listen on the same address",
        ),
        (
            "upstream = \"http://a\"\n[gpc_json]\nlast_update = \"23.11.2026\"",
            "optgate.toml:3:15: `gpc_json.last_update` cannot be used",
        ),
        (
            "upstream = \"http://a\"\n[account]\nheader = \"x-account\"",
            "optgate.toml:3:10: `account.header` needs `trusted_proxies`",
        ),
        (
            "upstream = \"http://a\"\n[account]\nheader = \"x account\"",
            "optgate.toml:3:10: `account.header` cannot be used",
        ),
        (
            "upstream = \"http://a\"\ntrusted_proxies = \"10.0.0.0/8\"\n[account]\nheader = \"cookie\"",
            "optgate.toml:4:10: `account.header` cannot be used",
        ),
        (
            "upstream = \"http://a\"\ntrusted_proxies = [\"10.0.0.0/33\"]",
            "optgate.toml:2:20: `trusted_proxies[0]` cannot be used",
        ),
        (
            "upstream = \"http://a\"\n[registry]\nfiles = [\"none.toml\"]",
            "optgate.toml:3:10: `registry.files[0]` cannot be read",
        ),
        (
            "upstream = \"http://a\"\n[contracts.hotjar]\nentity = \"Hotjar Ltd\"\nreference = \"r\"",
            "optgate.toml:2:1: `contracts.hotjar.date` is missing",
        ),
        ("upstream = \"http://a\"\n[timeouts]\nidle = \"0s\"", "optgate.toml:3:8: `timeouts.idle` is zero"),
        (
            "upstream = \"http://a\"\n[limits]\nheader_bytes = \"4KiB\"",
            "optgate.toml:3:16: `limits.header_bytes` is out of range",
        ),
        ("upstream = \"http://a\"\nworkers = 5000", "optgate.toml:2:11: `workers` is too large"),
        ("upstream = \"http://a\"\nworkers = -1", "optgate.toml:2:11: `workers` is out of range"),
        (
            "upstream = \"http://a\"\ndefault_site = \"shop\"",
            "optgate.toml:2:16: `default_site` names no site: \"shop\"",
        ),
    ];
    for (text, want) in table {
        let refused = Desk::with(text).refused();
        assert_eq!(refused.lines().next().unwrap_or_default(), want, "for:\n{text}\ngot:\n{refused}");
        assert!(refused.contains("\n  why: ") && refused.contains("\n  next: "), "{refused}");
        assert_eq!(refused.matches("  why: ").count(), 1, "one slip, one complaint:\n{refused}");
    }
}

/// One look at the output must be enough to repair the file.
#[test]
fn several_errors_are_all_reported_in_file_order() {
    let desk = Desk::with("lisen = \":80\"\nworkers = \"x\"\n\n[limts]\n[log]\nlevel = \"loud\"\n")
        .env("OPTGATE__MODE", "on");
    let refused = desk.refused();
    let heads: Vec<&str> =
        refused.lines().filter(|line| !line.starts_with(' ') && !line.is_empty()).collect();
    assert_eq!(
        heads,
        [
            "optgate.toml:1:1: unknown key `lisen`",
            "optgate.toml:2:11: `workers` has the wrong type",
            "optgate.toml:4:2: unknown key `limts`",
            "optgate.toml:6:9: `log.level` cannot be \"loud\"",
            "environment: `mode` cannot be \"on\"",
        ]
    );
}

/// Taking a bad element out of a list must not move the complaints about the next ones.
#[test]
fn every_bad_element_of_a_list_is_named_at_its_own_place() {
    let refused = Desk::with("trusted_proxies = [\"x\", \"10.0.0.0/8\", \"y\"]\n").refused();
    assert!(refused.contains("optgate.toml:1:20: `trusted_proxies[0]`"), "{refused}");
    assert!(refused.contains("optgate.toml:1:39: `trusted_proxies[2]`"), "{refused}");
}

#[test]
fn no_more_than_ten_errors_are_shown_and_the_rest_are_admitted() {
    let text: String = (0..15).map(|i| format!("zz{i} = 1\n")).collect();
    let refused = Desk::with(&text).refused();
    assert_eq!(refused.matches("unknown key").count(), 10, "{refused}");
    assert!(refused.ends_with("and 5 more"), "{refused}");
}

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

/// The issue: the environment works for keys that no file mentions, and splits lists on commas.
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

#[test]
fn a_wrong_variable_is_named_with_its_value_and_a_hint() {
    assert_eq!(
        Desk::with(SITE).env("OPTGATE__LIMTS__HEADER_COUNT", "5").refused(),
        "environment: unknown key `limts`\n  \
           OPTGATE__LIMTS__HEADER_COUNT=5\n  \
           why: no setting has this name here, so it would have no effect\n  \
           next: did you mean `limits`?"
    );
    assert_eq!(
        Desk::with(SITE).env("OPTGATE__LIMITS__HEADER_COUNT", "lots").refused(),
        "environment: `limits.header_count` has the wrong type\n  \
           OPTGATE__LIMITS__HEADER_COUNT=lots\n  \
           why: found string \"lots\", expected a whole number\n  \
           next: write a whole number"
    );
}

#[test]
fn a_variable_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let mut desk = Desk::with(SITE);
    desk.inputs.environment.push(("OPTGATE__MODE".into(), OsString::from_vec(vec![0xff])));
    assert!(desk.refused().contains("the value is not UTF-8"));
}

/// Secrets of containers and systemd arrive as files; what they hold is never printed.
#[test]
fn a_file_variable_gives_the_value_and_is_never_printed() {
    let desk = Desk::with(&format!("{SITE}trusted_proxies = \"::1\"\n"));
    let secret = desk.beside("secret", "x-secret-name\n");
    let desk = desk.env("OPTGATE__ACCOUNT__HEADER_FILE", secret.to_str().unwrap());
    let loaded = desk.loaded();
    assert_eq!(loaded.settings.account_header.as_ref().unwrap().as_str(), "x-secret-name");
    assert_eq!(origin(&loaded, "account.header"), "env OPTGATE__ACCOUNT__HEADER_FILE");
    assert!(!format!("{:?} {}", loaded.origins, loaded.written).contains("x-secret-name"));

    desk.beside("secret", "not a header name");
    assert_eq!(
        desk.refused(),
        "environment: `account.header` cannot be used\n  \
           OPTGATE__ACCOUNT__HEADER_FILE=(read from a file)\n  \
           why: the value in the file does not fit\n  \
           next: write a name like \"X-Account-Id\""
    );
}

#[test]
fn a_file_variable_must_name_a_file_and_stand_alone() {
    let refused = Desk::with(SITE).env("OPTGATE__LOG__LEVEL_FILE", "/nowhere/at/all").refused();
    assert!(refused.starts_with("environment: the file named here cannot be read"), "{refused}");
    let desk = Desk::with(SITE).env("OPTGATE__LOG__LEVEL", "info");
    let file = desk.beside("level", "warn");
    let refused = desk.env("OPTGATE__LOG__LEVEL_FILE", file.to_str().unwrap()).refused();
    assert!(refused.contains("`log.level` is set twice"), "{refused}");
    assert!(refused.contains("OPTGATE__LOG__LEVEL sets `log.level` too"), "{refused}");
}

#[test]
fn a_wrong_flag_is_named_as_it_was_typed() {
    let refused = Desk::new().flag("--upstream", "upstream", "localhost:3000").refused();
    assert_eq!(
        refused,
        "command line: `upstream` cannot be used\n  \
           --upstream localhost:3000\n  \
           why: \"localhost:3000\" has no scheme\n  \
           next: write \"http://localhost:3000\" if that was meant"
    );
}

#[test]
fn a_missing_or_unreadable_file_is_refused_by_name() {
    let mut desk = Desk::new();
    desk.inputs.files.push("/nowhere/optgate.toml".into());
    assert!(desk.refused().starts_with("/nowhere/optgate.toml: the configuration file cannot be read"));
    let desk = Desk::new();
    let path = desk.folder.path().join("latin1.toml");
    std::fs::write(&path, b"# caf\xe9\n").unwrap();
    let inputs = Inputs { files: vec![path], ..desk.inputs.clone() };
    assert!(load(&inputs).unwrap_err().to_string().contains("is not UTF-8\n  why: byte 5"));
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

#[test]
fn a_whole_site_is_read_as_it_was_meant() {
    let desk = Desk::with(
        r#"
        service_providers = "allow"
        [vendors]
        hotjar = "strip"
        meta-pixel = "strip"
        [contracts.google-analytics-4]
        entity = "Google LLC"
        reference = "2026-014"
        date = 2026-01-31
        [[sites]]
        hosts = ["WWW.Example.com.", "*.bücher.example", "[2001:db8::1]"]
        upstream = { url = "https://192.0.2.1", http2 = true, host = "www.example.com:8443", roots = "optgate.toml" }
        mode = "observe"
        cache.front = "vary"
        vendors.hotjar = "allow"
        [[sites.paths]]
        prefix = "/a"
        mode = "enforce"
        [[sites.paths]]
        prefix = "/a/longer"
        rewrite = false
        "#,
    );
    let loaded = desk.loaded();
    let site = &loaded.settings.sites[0];
    assert_eq!(site.name, "www.example.com");
    assert_eq!(site.hosts, ["www.example.com", "*.xn--bcher-kva.example", "[2001:db8::1]"]);
    assert_eq!(site.mode, Mode::Observe);
    assert_eq!(site.cache_front, CacheFront::Vary);
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

#[test]
fn only_port_zero_may_be_used_twice() {
    let settings = Desk::with(SITE)
        .env("OPTGATE__LISTEN", "127.0.0.1:0,127.0.0.1:0")
        .env("OPTGATE__ADMIN__LISTEN", "127.0.0.1:0")
        .loaded()
        .settings;
    assert_eq!(settings.listen.len(), 2);
}

fn repository(file: &str) -> String {
    std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// Settings without what depends on where they were read.
fn plain(text: &str) -> (serde_json::Value, String) {
    let mut desk = Desk::with(text);
    desk.inputs.without_sites = true;
    let loaded = desk.loaded();
    (loaded.written, format!("{:#?}", loaded.settings))
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

/// The issue: config/optgate.toml holds every setting with its default.
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
    assert_eq!(
        unlisted,
        ["data_dir", "sites", "account", "contracts", "gpc_json", "tls.certificates", "vendors"]
    );
}

/// Every example in the settings file is one that works, so that taking its sign away is safe.
#[test]
fn every_example_in_the_settings_file_can_be_used() {
    let uncommented: String = repository("config/optgate.toml")
        .lines()
        // `upstream` and sites exclude each other, and `account.header` needs a trusted hop.
        .filter(|line| !line.starts_with("#upstream = \""))
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let uncommented = uncommented.replace("trusted_proxies = []", "trusted_proxies = [\"10.0.0.0/8\"]");
    let desk = Desk::with(&uncommented);
    for file in ["example.com.pem", "example.com.key", "roots.pem"] {
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
