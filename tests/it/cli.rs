//! The command line through the built binary: exit codes, streams, files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// The binary in an empty folder and an empty environment.
fn optgate(folder: &TempDir, args: &[&str]) -> Output {
    with_env(folder.path(), &[], args)
}

fn with_env(folder: &Path, env: &[(&str, &str)], args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_optgate"))
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("STATE_DIRECTORY", folder)
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// 2 is wrong usage, 78 bad configuration, 0 done.
#[test]
fn exit_codes_tell_usage_from_configuration() {
    let folder = folder();
    std::fs::write(folder.path().join("bad.toml"), "lisen = 1\n").unwrap();
    let table: [(&[&str], i32); 9] = [
        (&[], 2),
        (&["--nonsense"], 2),
        (&["run", "--mode", "off"], 2),
        (&["--version"], 0),
        (&["run"], 78),
        (&["check"], 78),
        (&["check", "--config", "bad.toml"], 78),
        (&["--config", "missing.toml", "check"], 78),
        (&["init", "no/such/folder/optgate.toml"], 1),
    ];
    for (args, code) in table {
        let output = optgate(&folder, args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", words(&output));
    }
}

/// The first thing many people type; the answer must be the second.
#[test]
fn run_without_a_site_says_what_to_type_next() {
    let output = optgate(&folder(), &["run"]);
    assert!(words(&output).contains("optgate run --upstream http://127.0.0.1:3000"), "{}", words(&output));
    assert_eq!(out(&output), "", "words go to stderr");
}

/// `./optgate.toml` belongs to whoever owns the folder, so it is never read unasked.
#[test]
fn a_file_in_the_working_folder_is_not_read_unasked() {
    let folder = folder();
    optgate(&folder, &["init"]);
    assert!(folder.path().join("optgate.toml").exists());
    assert_eq!(optgate(&folder, &["check"]).status.code(), Some(78));
    assert_eq!(optgate(&folder, &["check", "--config", "optgate.toml"]).status.code(), Some(0));
}

/// Words on stderr, so that stdout stays empty for scripts.
#[test]
fn check_says_ok_on_stderr_with_a_summary() {
    let output = with_env(folder().path(), &[("OPTGATE__UPSTREAM", "http://a")], &["check"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(words(&output).starts_with("ok: read no file; sites: default (enforce); "), "{}", words(&output));
    assert_eq!(out(&output), "");
}

/// What only a start found out would be found out at night.
#[test]
fn check_refuses_a_log_file_whose_folder_is_missing() {
    let folder = folder();
    let text = "upstream = \"http://a\"\n[log]\nfile = \"none/optgate.log\"\n";
    std::fs::write(folder.path().join("optgate.toml"), text).unwrap();
    for verb in ["check", "run"] {
        let output = optgate(&folder, &[verb, "--config", "optgate.toml"]);
        let words = words(&output);
        assert_eq!(output.status.code(), Some(78), "{verb}: {words}");
        assert!(words.contains("optgate.toml:3:8: `log.file` cannot be written"), "{words}");
        assert!(words.contains("next: make its folder"), "{words}");
    }
}

/// An all-clear, or a lost key, that comes of a slip in --data-dir would be believed.
#[test]
fn a_folder_that_is_none_is_said_to_be_none() {
    let folder = folder();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let table: [(&[&str], &str); 8] = [
        (&["ledger", "recipients"], "there is no journal here; check --data-dir"),
        (&["ledger", "recipients", "text", "T"], "there is no journal here; check --data-dir"),
        (&["ledger", "export"], "there is no journal here; check --data-dir"),
        (&["ledger", "counts"], "there is no journal here; check --data-dir"),
        (&["ledger", "prune"], "there is no journal here; check --data-dir"),
        (&["keys", "list"], "is missing, and so is the journal"),
        (&["keys", "rotate"], "is missing, and so is the journal"),
        (&["keys", "rotate", "--signing"], "is missing, and so is the journal"),
    ];
    for (args, what) in table {
        let output = optgate(&folder, &[args, &["--data-dir", "none"]].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", words(&output));
        assert!(words(&output).contains(what), "{args:?}: {}", words(&output));
    }
    for args in [["ledger", "recipients"], ["ledger", "export"], ["ledger", "counts"], ["ledger", "prune"]] {
        let output = optgate(&folder, &[&args[..], &["--data-dir", "file"]].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", words(&output));
        assert!(words(&output).contains("cannot be looked at: Not a directory"), "{}", words(&output));
    }
}

/// What every verb takes may stand before a subcommand too, and what goes with no subcommand is said.
#[test]
fn flags_of_every_verb_may_stand_before_a_subcommand() {
    let folder = folder();
    let code = |args: &[&str]| optgate(&folder, &[&["ledger"], args].concat()).status.code();
    assert_eq!(
        code(&["recipients", "--data-dir", ".", "text", "T"]),
        Some(1),
        "read, and there is no journal"
    );
    assert_eq!(code(&["hold", "--data-dir", ".", "list"]), Some(1));
    assert_eq!(code(&["recipients", "R", "text", "T"]), Some(2));
    assert_eq!(code(&["recipients", "--format", "json", "text", "T"]), Some(2));
}

/// The cause comes before the question that it raises.
#[test]
fn an_order_that_reaches_nobody_says_the_cause_first() {
    let output = optgate(&folder(), &["reload", "--admin", "127.0.0.1:1"]);
    let words = words(&output);
    assert!(words.starts_with("optgate: cannot reach 127.0.0.1:1: "), "{words}");
    assert!(words.contains("\n  next: is optgate running"), "{words}");
}

/// Whoever checks before a start is to hear that nobody's opt-out would be taken.
#[test]
fn check_says_that_a_kill_switch_is_engaged() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("kill-switch")).unwrap();
    std::fs::write(folder.path().join("kill-switch/default"), "").unwrap();
    let data = folder.path().display().to_string();
    let output = with_env(
        folder.path(),
        &[("OPTGATE__UPSTREAM", "http://a"), ("OPTGATE__DATA_DIR", &data)],
        &["check"],
    );
    let words = words(&output);
    assert!(words.contains("default (enforce, but its kill switch is engaged)"), "{words}");
}

/// A settings file is work; a second `init` must not destroy it.
#[test]
fn init_never_overwrites_unless_forced() {
    let folder = folder();
    let file = folder.path().join("mine.toml");
    std::fs::write(&file, "precious").unwrap();
    let refused = optgate(&folder, &["init", "mine.toml"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(words(&refused).contains("mine.toml exists") && words(&refused).contains("--force"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert_eq!(optgate(&folder, &["init", "mine.toml", "--force"]).status.code(), Some(0));
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("# Optgate"));
    assert_eq!(out(&optgate(&folder, &["init", "-"])), std::fs::read_to_string(&file).unwrap());
}

/// What is shown can be used again and means the same.
#[test]
fn shown_settings_can_be_loaded_again() {
    let folder = folder();
    let env = [("OPTGATE__LIMITS__HEADER_BYTES", "32KiB"), ("OPTGATE__TRUSTED_PROXIES", "10.0.0.0/8,::1")];
    let first = out(&with_env(folder.path(), &env, &["config", "show"]));
    assert!(first.contains("header_bytes = \"32KiB\""), "{first}");
    std::fs::write(folder.path().join("again.toml"), &first).unwrap();
    assert_eq!(out(&optgate(&folder, &["config", "show", "--config", "again.toml"])), first);
    // A site leaves most to the settings above it, and they are left out.
    let site = "[[sites]]\nhosts = [\"a.example\"]\nupstream = \"http://127.0.0.1:1\"\n";
    std::fs::write(folder.path().join("site.toml"), site).unwrap();
    let first = out(&optgate(&folder, &["config", "show", "--config", "site.toml"]));
    assert!(first.contains("[[sites]]") && first.contains("a.example"), "{first}");
    std::fs::write(folder.path().join("again.toml"), &first).unwrap();
    assert_eq!(out(&optgate(&folder, &["config", "show", "--config", "again.toml"])), first);
}

/// "Where does this value come from?" has one answer for each layer.
#[test]
fn origins_name_file_and_line_variable_and_flag() {
    let folder = folder();
    std::fs::write(folder.path().join("a.toml"), "\nworkers = 2\n").unwrap();
    let env = [("OPTGATE__LOG__LEVEL", "warn")];
    let args = ["config", "show", "--origins", "--config", "a.toml", "--data-dir", "d"];
    let shown = out(&with_env(folder.path(), &env, &args));
    let origin = |key: &str| {
        let line = shown.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once("  # ").unwrap_or_default().1.to_owned()
    };
    assert_eq!(origin("workers"), "a.toml:2");
    assert_eq!(origin("log.level"), "env OPTGATE__LOG__LEVEL");
    assert_eq!(origin("data_dir"), "--data-dir");
    assert_eq!(origin("log.format"), "default");
    let args = [&args[..], &["--output", "json"]].concat();
    let listed: serde_json::Value =
        serde_json::from_slice(&with_env(folder.path(), &env, &args).stdout).unwrap();
    let workers = listed.as_array().unwrap().iter().find(|entry| entry["key"] == "workers").unwrap();
    assert_eq!(*workers, serde_json::json!({ "key": "workers", "value": 2, "origin": "a.toml:2" }));
}

/// The flags of subcommands are in them too.
#[test]
fn completions_are_written_for_every_shell() {
    let folder = folder();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = optgate(&folder, &["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(out(&output).contains("log-level"), "{shell}");
    }
}

/// NO_COLOR and pipes alike: nothing we print to something that is no terminal holds an escape.
#[test]
fn output_that_is_no_terminal_has_no_colour() {
    let folder = folder();
    for args in [&["--help"][..], &["run", "--help"], &["--nonsense"], &["check"]] {
        let output = optgate(&folder, args);
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{args:?}");
    }
}

/// The settings decide what a listing shows, not only the registry.
#[test]
fn the_registry_is_listed_under_the_settings_of_a_site() {
    let folder = folder();
    let shown = out(&optgate(&folder, &["registry", "show", "hotjar"]));
    let line = |shown: &str| shown.lines().find(|line| line.starts_with("action")).map(str::to_owned);
    assert_eq!(line(&shown).as_deref(), Some("action                strip"));
    let env = [("OPTGATE__VENDORS__HOTJAR", "allow")];
    let shown = out(&with_env(folder.path(), &env, &["registry", "show", "hotjar"]));
    assert_eq!(line(&shown).as_deref(), Some("action                allow"));

    let listed = optgate(&folder, &["registry", "list", "--output", "json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let listed = listed.as_array().unwrap();
    assert!(listed.len() >= 217);
    let gtm = listed.iter().find(|row| row["id"] == "google-tag-manager").unwrap();
    assert_eq!(gtm["action"], "restrict");
    let lines = out(&optgate(&folder, &["registry", "list"]));
    assert_eq!(lines.lines().count(), listed.len());
}

/// `match` answers with the same look-up that serving uses.
#[test]
fn a_url_is_matched_with_the_rule_that_decides() {
    let folder = folder();
    let matched = |url: &str| {
        let output = optgate(&folder, &["registry", "match", url, "--output", "json"]);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let hit = matched("https://connect.facebook.net/en_US/fbevents.js");
    assert_eq!((hit["vendor"].as_str(), hit["action"].as_str()), (Some("meta-pixel"), Some("strip")));
    assert_eq!(matched("//www.googletagmanager.com/gtm.js?id=GTM-1")["action"], "restrict");
    assert!(matched("www.example.com")["vendor"].is_null());
    let strict = "upstream = \"http://a\"\nunknown = \"strip\"\nknown = [\"cdn.example\"]\n";
    std::fs::write(folder.path().join("strict.toml"), strict).unwrap();
    let told = |url: &str| {
        let output = optgate(&folder, &["registry", "match", url, "--config", "strict.toml"]);
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        told("www.example.com").starts_with("unknown-third-party  strip  no rule for www.example.com/, and")
    );
    assert!(told("a.cdn.example").starts_with("unknown  allow  no rule for a.cdn.example/"));
    assert_eq!(optgate(&folder, &["registry", "match", "http://"]).status.code(), Some(1));
}

/// A slip in an id must not cost a search.
#[test]
fn an_unknown_vendor_or_site_is_answered_with_the_nearest() {
    let folder = folder();
    let output = optgate(&folder, &["registry", "show", "hotjr"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains("did you mean `hotjar`?"), "{}", words(&output));
    let output = optgate(&folder, &["registry", "list", "--site", "shop"]);
    assert!(words(&output).contains("no site is named `shop`; the sites are: default"), "{}", words(&output));
}

/// What only the registry knows is refused like any other setting: with its line.
#[test]
fn check_refuses_vendor_settings_that_the_registry_cannot_hold() {
    let folder = folder();
    let check = |text: &str| {
        std::fs::write(folder.path().join("a.toml"), format!("upstream = \"http://a\"\n{text}")).unwrap();
        let output = optgate(&folder, &["check", "--config", "a.toml"]);
        assert_eq!(output.status.code(), Some(78), "{}", words(&output));
        words(&output)
    };
    assert_eq!(
        check("[vendors]\nhotjr = \"strip\"\n"),
        "a.toml:3:9: the settings for vendor `hotjr` cannot hold\n  \
           3 | hotjr = \"strip\"\n    \
             |         ^^^^^^^\n  \
           why: the registry holds no vendor of this id\n  \
           next: did you mean `hotjar`? `optgate registry list` shows every id\n"
    );
    let refused = check("vendors.meta-pixel = \"restrict\"\n");
    assert!(refused.starts_with("a.toml:2:22: the settings for vendor `meta-pixel`"), "{refused}");
    assert!(refused.contains("add [contracts.meta-pixel]"), "{refused}");
    // "allow" keeps more than "restrict" does: at the top, for a site and for a path.
    let refused = check("vendors.meta-pixel = \"allow\"\n");
    assert!(refused.starts_with("a.toml:2:22: the settings for vendor `meta-pixel`"), "{refused}");
    assert!(refused.contains("\"allow\" keeps it for opted-out visitors"), "{refused}");
    assert!(refused.contains("11 CCR 7051") && refused.contains("add [contracts.meta-pixel]"), "{refused}");
    for (site, line) in [
        ("vendors.criteo-onetag = \"allow\"", "a.toml:4:25: "),
        ("[[sites.paths]]\nprefix = \"/x\"\nvendors.criteo-onetag = \"allow\"", "a.toml:6:25: "),
        (
            "vendors.criteo-onetag = \"strip\"\n[[sites.paths]]\nprefix = \"/x\"\nvendors.criteo-onetag = \"allow\"",
            "a.toml:7:25: ",
        ),
    ] {
        let text = format!("[[sites]]\nupstream = \"http://a\"\nhosts = [\"a.test\"]\n{site}\n");
        std::fs::write(folder.path().join("a.toml"), &text).unwrap();
        let output = optgate(&folder, &["check", "--config", "a.toml"]);
        assert!(words(&output).starts_with(line), "{}", words(&output));
        let contract =
            "[contracts.criteo-onetag]\nentity = \"C\"\nreference = \"r\"\ndate = \"2026-01-31\"\n";
        std::fs::write(folder.path().join("a.toml"), format!("{text}{contract}")).unwrap();
        let output = optgate(&folder, &["check", "--config", "a.toml"]);
        assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    }
    std::fs::write(folder.path().join("more.toml"), "[[vendors]]\nid = 5\n").unwrap();
    let refused = check("registry.files = \"more.toml\"\n");
    assert!(refused.contains("more.toml:"), "{refused}");
}

/// 11 CCR 7015(b): the title of a page with both rights, over a page with one, is no error and is not passed over.
#[test]
fn check_warns_of_a_title_that_promises_two_rights() {
    let folder = folder();
    let check = |more: &str| {
        let text = format!("upstream = \"http://a\"\n[portal]\nlink = \"privacy-choices\"\n{more}");
        std::fs::write(folder.path().join("a.toml"), text).unwrap();
        let output = optgate(&folder, &["check", "--config", "a.toml"]);
        assert_eq!(output.status.code(), Some(0), "{}", words(&output));
        words(&output)
    };
    let said = check("");
    assert!(said.starts_with("warning: `portal.link") && said.contains("`portal.limit_url`"), "{said}");
    assert!(said.contains("\nok: "), "{said}");
    assert!(check("limit_url = \"/limit\"\n").starts_with("ok: "));
}

/// Whoever is trusted may say who they are; a certificate that nobody is shown was meant for somebody.
#[test]
fn check_warns_of_proxies_that_are_everybody_and_of_certificates_without_a_listener() {
    let folder = folder();
    let text = "upstream = \"http://a\"\ntrusted_proxies = [\"0.0.0.0/0\"]\n[[tls.certificates]]\nchain = \"a.toml\"\n\
                key = \"a.toml\"\n";
    std::fs::write(folder.path().join("a.toml"), text).unwrap();
    let output = optgate(&folder, &["check", "--config", "a.toml"]);
    let said = words(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for warning in
        ["`trusted_proxies` has everybody in it", "`tls.certificates` names certificates that nobody"]
    {
        assert!(said.contains(&format!("warning: {warning}")), "{said}");
    }
}

/// Records of accounts go to the database: nobody on the way should be able to answer in its place.
#[test]
fn check_warns_of_a_database_over_a_network_that_nobody_verifies() {
    for (url, warns) in [
        ("postgres://optgate@db.example/optgate", true),
        ("postgres://optgate@db.example/optgate?sslmode=verify-full", false),
        ("postgres://optgate@127.0.0.1/optgate", false),
    ] {
        let folder = folder();
        let text = format!("upstream = \"http://a\"\n[store]\nengine = \"postgres\"\nurl = {url:?}\n");
        std::fs::write(folder.path().join("a.toml"), text).unwrap();
        let output = optgate(&folder, &["check", "--config", "a.toml"]);
        let said = words(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(
            said.contains("warning: `store.url` or `store.read_url` reaches its database over a network"),
            warns,
            "{said}"
        );
    }
}

/// An allow list that lets a stripped vendor in is refused before anything is served.
#[test]
fn check_refuses_a_second_wall_with_a_hole_for_a_stripped_vendor() {
    let folder = folder();
    let text = "upstream = \"http://a\"\n[csp]\nmode = \"enforce\"\nallow = [\"cdn.example\", \"*.doubleclick.net\"]\n";
    std::fs::write(folder.path().join("optgate.toml"), text).unwrap();
    let output = optgate(&folder, &["check", "--config", "optgate.toml"]);
    let refused = words(&output);
    assert_eq!(output.status.code(), Some(78), "{refused}");
    assert!(refused.contains("optgate.toml:4:") && refused.contains("*.doubleclick.net"), "{refused}");
    assert!(refused.contains("is stripped for opted-out visitors"), "{refused}");
}

/// What only a start would find is no setting that holds: `check` says it, at its line, and a start ends with 78.
#[test]
fn check_refuses_a_programme_of_vendors_that_the_registry_does_not_hold() {
    let folder = folder();
    let text = "upstream = \"http://a\"\ntrusted_proxies = [\"10.0.0.1\"]\n[account]\nheader = \"x-id\"\n[programme]\nname = \"Points\"\n\
                url = \"/points\"\nvendors = [\"hotjr\"]\n";
    std::fs::write(folder.path().join("a.toml"), text).unwrap();
    for verb in ["check", "run"] {
        let output = optgate(&folder, &[verb, "--config", "a.toml"]);
        let refused = words(&output);
        assert_eq!(output.status.code(), Some(78), "{refused}");
        assert!(refused.contains("a.toml:8:") && refused.contains("`programme.vendors`"), "{refused}");
        assert!(refused.contains("did you mean `hotjar`?"), "{refused}");
    }
}

/// A host that would go all the same is none to rely on; what is known for nothing is only said.
#[test]
fn check_refuses_a_known_host_of_a_stripped_vendor_and_says_where_it_has_no_effect() {
    let folder = folder();
    let check = |text: &str| {
        std::fs::write(folder.path().join("optgate.toml"), format!("upstream = \"http://a\"\n{text}"))
            .unwrap();
        let output = optgate(&folder, &["check", "--config", "optgate.toml"]);
        (output.status.code(), words(&output))
    };
    let (code, refused) = check("unknown = \"strip\"\nknown = [\"cdn.example\", \"ad.doubleclick.net\"]\n");
    assert_eq!(code, Some(78), "{refused}");
    assert!(refused.starts_with("optgate.toml:3:"), "{refused}");
    assert!(
        refused.contains("`known` cannot hold \"ad.doubleclick.net\"") && refused.contains("next: "),
        "{refused}"
    );
    let (code, idle) = check("known = [\"cdn.example\"]\n");
    assert!(code == Some(0) && idle.contains("warning: `known` names third parties"), "{idle}");
    let (code, said) = check("unknown = \"strip\"\nknown = [\"cdn.example\"]\n");
    assert!(code == Some(0) && !said.contains("warning: `known`"), "{said}");
    assert!(said.contains("default (enforce, unknown third parties stripped)"), "{said}");
}
