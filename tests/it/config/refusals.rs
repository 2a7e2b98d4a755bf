//! Complaints: where, what, why, and what to do next.

use std::ffi::OsString;

use optgate::config::load::{Inputs, load};

use super::{Desk, SITE};

/// A wrong configuration is refused with file, line, column, the line, why, and a hint.
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
               why: the key, or its table, was written above already\n  \
               next: remove one of the two; what belongs to one table goes below one [name]",
        ),
        (
            "[portal]\nmode = \"enforce\"\n",
            "optgate.toml:2:1: unknown key `portal.mode`\n  \
               2 | mode = \"enforce\"\n    \
                 | ^^^^\n  \
               why: no setting has this name here, so it would have no effect\n  \
               next: `mode` belongs to the top of the file: write it above the first [table]",
        ),
        (
            "workers = -1\n",
            "optgate.toml:1:11: `workers` is out of range\n  \
               1 | workers = -1\n    \
                 |           ^^\n  \
               why: found integer `-1`\n  \
               next: write a number in range, not below 0",
        ),
        (
            "lists = [\"easylist.txt\"]\n",
            "optgate.toml:1:10: `lists[0]` has the wrong type\n  \
               1 | lists = [\"easylist.txt\"]\n    \
                 |          ^^^^^^^^^^^^^^\n  \
               why: found string \"easylist.txt\", expected a table\n  \
               next: write a table: [[lists]] on a line of its own, its settings below it",
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
            "server_timing = 1.5\n",
            "optgate.toml:1:17: `server_timing` cannot be used\n  \
               1 | server_timing = 1.5\n    \
                 |                 ^^^\n  \
               why: 1.5 is no share\n  \
               next: write \"off\", \"on\", or a share of the answers from 0 to 1, like 0.01",
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

/// What was taken out because it was wrong is not complained about once more as missing.
#[test]
fn a_complaint_has_no_second_one_for_company() {
    for (text, what) in [
        (
            "upstream = \"http://a\"\n[contracts.x]\nentity = \"X\"\nreference = \"r\"\ndate = \"31.1.2026\"",
            "optgate.toml:5:8: `contracts.x.date` cannot be used",
        ),
        (
            "upstream = \"http://a\"\n[signals]\ngpp_sections = [\"ustx\"]",
            "optgate.toml:3:17: `signals.gpp_sections[0]` cannot be \"ustx\"",
        ),
        (
            "[[sites]]\nupstream = \"http://a\"\n[[sites.paths]]\nprefx = \"/a\"",
            "optgate.toml:4:1: unknown key `sites[0].paths[0].prefx`",
        ),
    ] {
        let words = Desk::with(text).refused();
        assert!(words.starts_with(what), "{text}: {words}");
        assert_eq!(words.matches("next:").count(), 1, "{text}: {words}");
    }
}

/// A name server is asked at port 53, and the hint for listeners would be none.
#[test]
fn hints_are_about_the_setting_at_hand() {
    for (text, next) in [
        ("upstream = \"http://a\"\n[dns]\nservers = [\"8.8.8.8\"]", "next: write \"8.8.8.8:53\""),
        ("upstream = \"http://a\"\n[dns]\nservers = \"2620:fe::fe\"", "next: write \"[2620:fe::fe]:53\""),
        ("upstream = \"http://a\"\n[dns]\nservers = \"dns.example:53\"", "like \"9.9.9.9:53\""),
        ("upstream = [{ url = \"http://a\" }]", "next: write [[sites]] above it"),
        ("upstream = { url = \"http://a\" }", "next: write [[sites]] above it"),
    ] {
        let words = Desk::with(text).refused();
        assert!(words.contains(next), "{text}: {words}");
    }
}

/// Each text is refused for one thing, said once, with why and what to do next.
#[track_caller]
fn are_refused(table: &[(&str, &str)]) {
    for (text, want) in table {
        let refused = Desk::with(text).refused();
        assert_eq!(refused.lines().next().unwrap_or_default(), *want, "for:\n{text}\ngot:\n{refused}");
        assert!(refused.contains("\n  why: ") && refused.contains("\n  next: "), "{refused}");
        assert_eq!(refused.matches("  why: ").count(), 1, "one slip, one complaint:\n{refused}");
    }
}

/// Two of one name, none at all, an origin that is Optgate itself.
#[test]
fn sites_and_origins_that_cannot_be_meant_are_refused_where_they_are_written() {
    are_refused(&[
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
        (
            "[[sites]]\nhosts = [\"a\", \"_\"]\nupstream = \"http://a\"",
            "optgate.toml:2:15: `sites[0].hosts[1]` is no host",
        ),
        (
            "[[sites]]\nhosts = [\".a.test\"]\nupstream = \"http://a\"",
            "optgate.toml:2:10: `sites[0].hosts[0]` is no host",
        ),
        (
            "[[sites]]\nupstream = [{ url = \"http://a\", weight = 0 }]",
            "optgate.toml:2:42: `sites[0].upstream[0].weight` is out of range",
        ),
        (
            "[[sites]]\nupstream = [\"http://b\", { url = \"http://a\", max_connections = 0 }]",
            "optgate.toml:2:63: `sites[0].upstream[1].max_connections` is out of range",
        ),
        ("upstream = \"http://127.0.0.1:8080\"", "optgate.toml:1:12: `upstream` leads to Optgate itself"),
        (
            "listen = \":3000\"\n[[sites]]\nupstream = [\"http://a\", \"http://localhost:3000\"]",
            "optgate.toml:3:25: `sites[0].upstream[1]` leads to Optgate itself",
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
            "optgate.toml:3:1: `sites[0].paths[0].prefix` is missing",
        ),
        (
            "upstream = \"http://a\"\ndefault_site = \"shop\"",
            "optgate.toml:2:16: `default_site` names no site: \"shop\"",
        ),
    ]);
}

/// A name that is another's, or is said twice, would take opt-outs along to the wrong site.
#[test]
fn earlier_names_that_cannot_be_meant_are_refused_where_they_are_written() {
    are_refused(&[
        (
            "[[sites]]\nname = \"x\"\nformerly = [\"y\", \"x\"]\nupstream = \"http://a\"",
            "optgate.toml:3:18: `sites[0].formerly[1]` cannot be \"x\"",
        ),
        (
            "[[sites]]\nname = \"x\"\nformerly = [\"y\", \"y\"]\nupstream = \"http://a\"",
            "optgate.toml:3:18: `sites[0].formerly[1]` cannot be \"y\"",
        ),
        (
            "[[sites]]\nname = \"x\"\nhosts = [\"x\"]\nupstream = \"http://a\"\n[[sites]]\nhosts = [\"y\"]\nupstream = \"http://b\"\nformerly = \"x\"",
            "optgate.toml:8:12: `sites[1].formerly[0]` cannot be \"x\"",
        ),
        (
            "retired_sites = [\"z\"]\n[[sites]]\nname = \"x\"\nformerly = \"z\"\nupstream = \"http://a\"",
            "optgate.toml:1:18: `retired_sites[0]` cannot be \"z\"",
        ),
    ]);
}

/// A cookie of a group reaches its own sites and no other.
#[test]
fn groups_that_cannot_be_meant_are_refused_where_they_are_written() {
    are_refused(&[
        (
            "[[sites]]\nname = \"x\"\nformerly = \"z\"\nupstream = \"http://a\"\n[[groups]]\nname = \"g\"\nsites = \"x\"\nformerly = [\"x\", \"g\"]",
            "optgate.toml:8:18: `groups[0].formerly[1]` cannot be \"g\"",
        ),
        (
            "[[sites]]\nname = \"a\"\nhosts = \"a.example\"\nupstream = \"http://a\"\n[[groups]]\nname = \"g\"\nsites = [\"b\"]",
            "optgate.toml:7:10: `groups[0].sites[0]` names no site: \"b\"",
        ),
        (
            "[[sites]]\nname = \"a\"\nhosts = \"a.example\"\nupstream = \"http://a\"\n[[groups]]\nsites = \"a\"",
            "optgate.toml:5:1: `groups[0].name` is missing",
        ),
        (
            "[[sites]]\nname = \"a\"\nhosts = \"a.example\"\nupstream = \"http://a\"\n[[groups]]\nname = \"g\"\nsites = \"a\"\n[[groups]]\nname = \"h\"\nsites = \"a\"",
            "optgate.toml:10:9: the site \"a\" is in two groups",
        ),
        (
            "[[sites]]\nname = \"a\"\nhosts = \"a.co.uk\"\nupstream = \"http://a\"\n[[groups]]\nname = \"g\"\nsites = \"a\"\ncookie_domain = \"co.uk\"",
            "optgate.toml:8:17: `groups[0].cookie_domain` cannot be used",
        ),
        (
            "[[sites]]\nname = \"a\"\nhosts = [\"a.example\", \"b.example\"]\nupstream = \"http://a\"\n[[groups]]\nname = \"g\"\nsites = \"a\"\ncookie_domain = \"a.example\"",
            "optgate.toml:8:17: `groups[0].cookie_domain` does not fit its sites",
        ),
        (
            "[[sites]]\nname = \"a\"\nhosts = \"a.b.example\"\nupstream = \"http://a\"\n[[sites]]\nname = \"c\"\nhosts = \"c.b.example\"\nupstream = \"http://a\"\n[[groups]]\nname = \"g\"\nsites = \"a\"\ncookie_domain = \"b.example\"",
            "optgate.toml:12:17: `groups[0].cookie_domain` reaches a site that is not in the group",
        ),
    ]);
}

/// Addresses, certificates, and by what the admin listener is asked.
#[test]
fn listeners_that_cannot_be_meant_are_refused_where_they_are_written() {
    are_refused(&[
        (
            "upstream = \"http://a\"\n[admin]\nnames = [\"optgate.internal\", \"http://a\"]",
            "optgate.toml:3:30: `admin.names[1]` is no host name",
        ),
        ("upstream = \"http://a\"\nlisten = []", "optgate.toml:2:10: `listen` is empty"),
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
    ]);
}

/// The consumer pages, `gpc.json`, and the second wall.
#[test]
fn pages_and_policies_that_cannot_be_meant_are_refused_where_they_are_written() {
    are_refused(&[
        (
            "upstream = \"http://a\"\n[csp]\nallow = [\"a.example\", \"https:\"]",
            "optgate.toml:3:23: `csp.allow[1]` cannot be used",
        ),
        (
            "upstream = \"http://a\"\n[csp]\nmode = \"report\"",
            "optgate.toml:3:8: `csp.mode` cannot be \"report\"",
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
            "upstream = \"http://a\"\n[gpc_json]\nlast_update = \"23.11.2026\"",
            "optgate.toml:3:15: `gpc_json.last_update` cannot be used",
        ),
        (
            "upstream = \"http://a\"\n[gpc_json]\nlast_update = \"2999-01-01\"",
            "optgate.toml:3:15: `gpc_json.last_update` is in the future: 2999-01-01",
        ),
        (
            "upstream = \"http://a\"\n[portal]\nlimit_url = \"javascript:alert(1)\"",
            "optgate.toml:3:13: `portal.limit_url` cannot be used",
        ),
    ]);
}

/// Where an account is named, and the programme that it may keep.
#[test]
fn accounts_that_cannot_be_meant_are_refused_where_they_are_written() {
    are_refused(&[
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
            "upstream = \"http://a\"\n[programme]\nname = \"Coupons\"\nurl = \"/c\"\nvendors = \"meta-pixel\"",
            "optgate.toml:2:1: `programme` needs an account",
        ),
        (
            "upstream = \"http://a\"\ntrusted_proxies = \"::1\"\naccount.header = \"x-a\"\n[programme]\nname = \"Coupons\"\nvendors = \"meta-pixel\"",
            "optgate.toml:4:1: `programme.text` is missing",
        ),
        (
            "upstream = \"http://a\"\n[account]\nresponse_header = \"x-account\"",
            "optgate.toml:3:19: `account.response_header` needs `account.session_cookie`",
        ),
        (
            "upstream = \"http://a\"\n[account]\nprofile_cookie = \"optgate\"",
            "optgate.toml:3:18: `account.profile_cookie` cannot be used",
        ),
        (
            "upstream = \"http://a\"\n[account.jwt]\nbearer = true\nkeys = \"optgate.toml\"",
            "optgate.toml:2:1: `account.jwt.algorithms` is missing",
        ),
        (
            "upstream = \"http://a\"\n[account.jwt]\nbearer = true\nalgorithms = \"RS256\"",
            "optgate.toml:2:1: `account.jwt` has no keys",
        ),
        (
            "upstream = \"http://a\"\n[account.jwt]\nalgorithms = \"RS256\"\nkeys = \"optgate.toml\"",
            "optgate.toml:2:1: `account.jwt` says not where the token is",
        ),
        (
            "upstream = \"http://a\"\n[account.jwt]\nbearer = true\nalgorithms = \"RS256\"\njwks_url = \"http://id.example/keys\"",
            "optgate.toml:5:12: `account.jwt.jwks_url` cannot be used",
        ),
        (
            "upstream = \"http://a\"\n[account.jwt]\nbearer = true\nalgorithms = [\"RS256\", \"HS256\"]\njwks_url = \"https://id.example/keys\"",
            "optgate.toml:4:24: `account.jwt.algorithms[1]` cannot be used with `jwks_url`",
        ),
        (
            "upstream = \"http://a\"\n[account.jwt]\nbearer = true\nalgorithms = \"none\"\nkeys = \"optgate.toml\"",
            "optgate.toml:4:14: `account.jwt.algorithms` cannot be \"none\"",
        ),
    ]);
}

/// Vendors: files of them, and contracts with them.
#[test]
fn contracts_and_registry_files_that_cannot_be_meant_are_refused_where_they_are_written() {
    are_refused(&[
        (
            "upstream = \"http://a\"\n[contracts.hotjar]\nentity = \"H\"\nreference = \"r\"\ndate = \"2999-01-01\"",
            "optgate.toml:5:8: `contracts.hotjar.date` is in the future: 2999-01-01",
        ),
        (
            "upstream = \"http://a\"\n[registry]\nfiles = [\"none.toml\"]",
            "optgate.toml:3:10: `registry.files[0]` cannot be read",
        ),
        (
            "upstream = \"http://a\"\n[contracts.hotjar]\nentity = \"Hotjar Ltd\"\nreference = \"r\"",
            "optgate.toml:2:1: `contracts.hotjar.date` is missing",
        ),
    ]);
}

/// Times, sizes and numbers that nothing could run with, and addresses that are none.
#[test]
fn amounts_that_cannot_be_meant_are_refused_where_they_are_written() {
    are_refused(&[
        (
            "upstream = \"http://a\"\n[store]\nretention = \"730d\"",
            "optgate.toml:3:13: `store.retention` is too short",
        ),
        (
            "upstream = \"http://a\"\ntrusted_proxies = [\"10.0.0.0/33\"]",
            "optgate.toml:2:20: `trusted_proxies[0]` cannot be used",
        ),
        ("upstream = \"http://a\"\n[timeouts]\nidle = \"0s\"", "optgate.toml:3:8: `timeouts.idle` is zero"),
        (
            "upstream = \"http://a\"\n[limits]\nheader_bytes = \"4KiB\"",
            "optgate.toml:3:16: `limits.header_bytes` is out of range",
        ),
        ("upstream = \"http://a\"\nworkers = 5000", "optgate.toml:2:11: `workers` is too large"),
        ("upstream = \"http://a\"\nworkers = -1", "optgate.toml:2:11: `workers` is out of range"),
    ]);
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

/// A wrong file gives a page of errors, not a scroll, and hides none.
#[test]
fn no_more_than_ten_errors_are_shown_and_the_rest_are_admitted() {
    let text: String = (0..15).map(|i| format!("zz{i} = 1\n")).collect();
    let refused = Desk::with(&text).refused();
    assert_eq!(refused.matches("unknown key").count(), 10, "{refused}");
    assert!(refused.ends_with("and 5 more"), "{refused}");
}

/// The place of a variable is its name.
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

/// Bytes replaced in silence would be another setting.
#[test]
fn a_variable_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let mut desk = Desk::with(SITE);
    desk.inputs.environment.push(("OPTGATE__MODE".into(), OsString::from_vec(vec![0xff])));
    assert!(desk.refused().contains("the value is not UTF-8"));
}

/// Two variables for one setting: which one wins would be a guess.
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

/// The place of a flag is the flag.
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

/// A file that was named must be read: starting without it would drop what it says.
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

/// Complaints quote values, and a `_FILE` value may be a secret: not a word of it may appear.
#[test]
fn no_complaint_quotes_what_a_file_variable_brought() {
    for key in [
        "LOG__LEVEL",
        "UPSTREAM",
        "LISTEN",
        "DEFAULT_SITE",
        "PORTAL__PREFIX",
        "WORKERS",
        "LOG",
        "ADMIN__LISTEN",
    ] {
        for value in ["hunter2", "hunter2\nhunter2", "localhost:hunter2", "hunter2,hunter2"] {
            let desk = Desk::with(if key == "UPSTREAM" { "" } else { SITE });
            let file = desk.beside("secret", value);
            let refused = desk.env(&format!("OPTGATE__{key}_FILE"), file.to_str().unwrap()).refused();
            assert!(!refused.contains("hunter2"), "{key}:\n{refused}");
            assert!(refused.contains("=(read from a file)"), "{key}:\n{refused}");
        }
    }
}

/// An address of a database may hold a password, and complaints are read by many.
#[test]
fn no_complaint_shows_the_line_of_a_databases_address() {
    for (address, engine) in [
        ("postgres://optgate:hunter2@db.example", "postgres"),
        ("mysql://optgate:hunter2@db.example/optgate", "postgres"),
        ("optgate:hunter2", "postgres"),
        ("postgres://optgate:hunter2@db.example/optgate", "sqlite"),
    ] {
        for key in ["url", "read_url"] {
            let text = format!("{SITE}[store]\nengine = {engine:?}\n{key} = {address:?}\n");
            let refused = Desk::with(&text).refused();
            assert!(!refused.contains("hunter2"), "{refused}");
            assert!(refused.contains("(not shown: it may hold a password)"), "{refused}");
            let variable = format!("OPTGATE__STORE__{}", key.to_uppercase());
            let desk = Desk::with(&format!("{SITE}[store]\nengine = {engine:?}\n"));
            let refused = desk.env(&variable, address).refused();
            assert!(!refused.contains("hunter2"), "{refused}");
            assert!(refused.contains(&format!("{variable}=(not shown")), "{refused}");
        }
    }
    // What is no TOML has no key.
    let text = format!(
        "{SITE}[store]\nurl = \"postgres://optgate:hunter2@db.example/optgate\nengine = \"postgres\"\n"
    );
    let refused = Desk::with(&text).refused();
    assert!(refused.contains("postgres://***@db.example") && !refused.contains("hunter2"), "{refused}");
}

/// A certificate's file that is not there is said at once, and by its name: the client says at every try that something is
/// not there.
#[test]
fn a_file_that_a_databases_address_names_must_be_there() {
    let desk = Desk::with(SITE);
    let (there, gone) = (desk.beside("roots.pem", ""), "/nowhere/roots.pem");
    let with = |key: &str, file: &str| {
        let other = if key == "read_url" { "url = \"postgres://127.0.0.1/optgate\"\n" } else { "" };
        let address =
            format!("postgres://optgate:hunter2@db.example/optgate?sslmode=verify-full&sslrootcert={file}");
        format!("{SITE}[store]\nengine = \"postgres\"\n{other}{key} = {address:?}\n")
    };
    for key in ["url", "read_url"] {
        let refused = Desk::with(&with(key, gone)).refused();
        assert!(refused.contains(&format!("`store.{key}` names a file that cannot be read")), "{refused}");
        assert!(refused.contains(gone) && !refused.contains("hunter2"), "{refused}");
        Desk::with(&with(key, there.to_str().unwrap())).loaded();
    }
}

/// serde would read a list as the table's values in order: `log = ["json"]` must not set the format.
#[test]
fn a_list_is_not_taken_for_a_table() {
    for text in ["log = [\"json\"]\n", "limits = []\n", "[[ready]]\nrequires_journal = true\n"] {
        let refused = Desk::with(text).refused();
        assert!(refused.contains("why: found a list, expected a table"), "{text}{refused}");
    }
    let refused = Desk::with(SITE).env("OPTGATE__LOG", "json,info").refused();
    assert!(refused.contains("`log` has the wrong type"), "{refused}");
}

/// A value of several lines must not be mistaken for the hint.
#[test]
fn a_value_of_several_lines_keeps_its_complaint_in_shape() {
    let refused = Desk::with("upstream = \"\"\"a\nb\"\"\"\n").refused();
    assert_eq!(refused.lines().count(), 5, "{refused}");
    assert!(refused.contains("why: \"a\\nb\" has no scheme"), "{refused}");
}

/// A slip in a list's table is refused with its line, like any other.
#[test]
fn a_filter_list_that_cannot_be_meant_is_refused() {
    for (text, what, next) in [
        (
            "lists = [{ fil = \"a.txt\" }]\n",
            "optgate.toml:1:12: unknown key `lists[0].fil`",
            "did you mean `file`?",
        ),
        (
            "lists = { file = \"a.txt\", role = \"alow\" }\n",
            "optgate.toml:1:34: `lists.role` cannot be \"alow\"",
            "did you mean \"allow\"?",
        ),
        (
            "[lists_check]\nkeep_percent = 101\n",
            "optgate.toml:3:16: `lists_check.keep_percent` is out of range",
            "write a value in range, or remove the setting for its default",
        ),
        (
            "[lists_check]\nmust_match = [\"ads.example\"]\n",
            "optgate.toml:3:15: `lists_check.must_match[0]` is no address",
            "write a whole URL: \"https://ads.example/pixel.gif\"",
        ),
    ] {
        let text = match text.starts_with('[') {
            true => format!("{SITE}{text}"),
            false => format!("{text}{SITE}"),
        };
        let said = Desk::with(&text).refused();
        assert!(said.starts_with(what) && said.contains(next), "{said}");
    }
    let said = Desk::with(&format!("{SITE}lists = [{{ file = \"absent.txt\" }}]\n")).refused();
    if cfg!(feature = "lists") {
        assert!(said.starts_with("optgate.toml:2:19: `lists[0].file` cannot be read"), "{said}");
    } else {
        assert!(said.starts_with("optgate.toml:2:9: `lists` cannot be used by this build"), "{said}");
    }
}

/// First-party roads: a collector path that takes the whole site, and a host that has no CNAME.
#[test]
fn a_collector_path_or_own_host_that_cannot_work_is_refused_with_its_place() {
    for (text, what) in [
        ("collectors = [\"/x\", \"/*\"]\n", "`collectors[1]` cannot be used"),
        ("collectors = [\"g/collect\"]\n", "`collectors[0]` cannot be used"),
        ("collectors = [\"/a?b\"]\n", "`collectors[0]` cannot be used"),
        ("not_collectors = [\"/*\"]\n", "`not_collectors[0]` cannot be used"),
        ("first_party_hosts = [\"*.shop.example\"]\n", "`first_party_hosts[0]` is no host name"),
        ("first_party_hosts = [\"10.0.0.1\"]\n", "`first_party_hosts[0]` is no host name"),
        ("known = [\"cdn.example\", \"https://b.example\"]\n", "`known[1]` cannot be used"),
        ("known = [\"*.b.example\"]\n", "next: write \"b.example\""),
        ("unknown = \"stripp\"\n", "did you mean \"strip\"?"),
        ("knwon = []\n", "did you mean `known`?"),
        ("[dns]\ninterval = \"1ms\"\n", "`dns.interval` is too short"),
    ] {
        let text = if text.starts_with('[') { format!("{SITE}{text}") } else { format!("{text}{SITE}") };
        let refused = Desk::with(&text).refused();
        assert!(refused.contains(what), "{refused}");
        assert!(refused.starts_with("optgate.toml:") && refused.contains("next: "), "{refused}");
    }
    // A site's own lists replace those at the top.
    let text = "collectors = [\"/a\"]\nnot_collectors = [\"/c\"]\n[[sites]]\nhosts = [\"a.example\"]\nupstream = \"http://127.0.0.1:1\"\n\
                [[sites]]\nhosts = [\"b.example\"]\nupstream = \"http://127.0.0.1:1\"\ncollectors = [\"/b\"]\n\
                not_collectors = []\n\
                first_party_hosts = [\"M.b.example.\"]\n";
    let sites = Desk::with(text).loaded().settings.sites;
    assert_eq!(
        (&*sites[0].policy.collectors, &*sites[1].policy.collectors),
        (&["/a".to_owned()][..], &["/b".to_owned()][..])
    );
    assert_eq!((sites[0].policy.not_collectors.len(), sites[1].policy.not_collectors.len()), (1, 0));
    assert_eq!(sites[1].first_party_hosts, ["m.b.example"]);
}
