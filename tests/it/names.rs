//! Names of sites and groups: opt-outs of accounts and profiles are kept under one, and a name that goes takes none along.

use optgate::store::{RecordView, export};

use super::acceptance_choices::{PAGE, honoured};
use super::groups::{BLOG, FORUM, SHOP, log_in, three};
use super::support::binary::{Binary, optgate, own_address, serving};
use super::support::jar::Browser;
use super::support::origin::Origin;
use super::support::proxy::{Builder, proxy};

fn origin() -> Origin {
    Origin::start().on("/", |x| x.ok("text/html", PAGE))
}

/// Serves with these settings, has ann opted out at a host by her browser's signal, and stops.
fn opt_out(builder: &Builder, host: &str) {
    let running = optgate::app::start(builder.settings()).unwrap();
    let mut browser = Browser::new(running.listen()[0]).with_gpc();
    log_in(&mut browser, host, "ann");
    assert!(honoured(&browser.get(host, "/")));
    running.stop().unwrap();
}

/// Why a start and a check refuse these settings.
fn refusal(builder: &Builder) -> String {
    let Err(error) = optgate::app::start(builder.settings()) else { panic!("a start takes them") };
    let why = format!("{error:#}");
    let file = builder.write();
    let (code, said) = optgate(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(78), "{said}");
    let about = why.lines().next().unwrap().split_once(": ").unwrap().1;
    assert!(said.contains(about), "{said} lacks {about}");
    why
}

/// Whether ann, on a browser that says nothing, is opted out.
fn is_out(address: std::net::SocketAddr, host: &str) -> bool {
    let mut browser = Browser::new(address);
    log_in(&mut browser, host, "ann");
    honoured(&browser.get(host, "/"))
}

/// Domain 5: an opt-out never falls away. A site that gets another name is refused until somebody says which it had; then
/// it is honoured, a confirmed opt-in ends it, and no reload can lose it again.
#[test]
fn a_renamed_site_keeps_its_opt_outs_by_its_former_name() {
    let origin = origin();
    let builder = three(&origin, "");
    opt_out(&builder, SHOP);
    let mut reference = String::new();
    let mut last = |record: RecordView| {
        reference = record.reference;
        Ok(())
    };
    export(&builder.settings().data_dir, &mut last).unwrap();
    let builder = builder.replacing("name = \"shop\"", "name = \"store\"");
    let why = refusal(&builder);
    assert!(why.contains("1 opted-out accounts or profiles are kept under the name \"shop\""), "{why}");
    assert!(why.contains("formerly = [\"shop\"]") && why.contains("retired_sites = [\"shop\"]"), "{why}");
    let proxy = builder.replacing("name = \"store\"", "name = \"store\"\nformerly = \"shop\"").run();
    assert!(is_out(proxy.addr(), SHOP));
    // A receipt from before is one still, and no other site's.
    for (host, status) in [(SHOP, 200), (BLOG, 404)] {
        for path in [format!("receipt/{reference}"), format!("receipt?reference={reference}")] {
            let answer = Browser::new(proxy.addr()).get(host, &format!("/privacy-choices/{path}"));
            assert_eq!(answer.status(), status, "{host} {path}");
        }
    }
    assert!(!is_out(proxy.addr(), BLOG), "another site's accounts are others");
    let mut browser = Browser::new(proxy.addr());
    log_in(&mut browser, SHOP, "ann");
    assert_eq!(browser.opt_in(SHOP, "").status(), 200);
    assert!(!is_out(proxy.addr(), SHOP), "an opt-in lifts what is kept under the old name too");
    let why = proxy.reload(|text| text.replace("formerly = \"shop\"", "")).unwrap_err().to_string();
    assert!(why.contains("kept under the name \"shop\""), "{why}");
    // A site that was shut down has nobody who could be honoured.
    proxy.reload(|text| format!("retired_sites = \"shop\"\n{text}")).unwrap();
}

/// The first host is the name of a site without one, so that their order matters; and a bare `upstream` is named
/// "default".
#[test]
fn hosts_in_another_order_and_sites_after_a_quick_start_are_refused() {
    let origin = origin();
    let builder = three(&origin, "").replacing(
        "name = \"shop\"\nhosts = [\"shop.site.test\"]",
        "hosts = [\"shop.site.test\", \"www.site.test\"]",
    );
    opt_out(&builder, SHOP);
    let builder = builder
        .replacing("[\"shop.site.test\", \"www.site.test\"]", "[\"www.site.test\", \"shop.site.test\"]");
    assert!(refusal(&builder).contains("formerly = [\"shop.site.test\"]"));
    let served = builder.replacing("hosts = [\"www", "formerly = [\"shop.site.test\"]\nhosts = [\"www").run();
    assert!(is_out(served.addr(), SHOP));

    let quick = proxy().to(&origin);
    let secret = quick.dir().join("secret");
    std::fs::write(&secret, super::accounts::SECRET).unwrap();
    let quick = quick
        .toml(&format!("[account.jwt]\ncookie = \"account\"\nalgorithms = \"HS256\"\nkeys = {secret:?}\n"));
    opt_out(&quick, SHOP);
    let upstream = format!("upstream = {:?}\n", origin.url());
    let sites = |name: &str| {
        format!("[[sites]]\nname = \"shop\"\n{name}hosts = [\"{SHOP}\"]\nupstream = {:?}\n", origin.url())
    };
    let several = quick.replacing(&upstream, "").toml(&sites(""));
    assert!(refusal(&several).contains("formerly = [\"default\"]"));
    let several = several.replacing("name = \"shop\"", "name = \"shop\"\nformerly = \"default\"").run();
    assert!(is_out(several.addr(), SHOP));
}

/// A group's name is in no record: it is noted when it is served.
#[test]
fn a_group_that_is_renamed_or_left_keeps_its_opt_outs() {
    const GROUP: &str = "[[groups]]\nname = \"ours\"\nsites = [\"shop\", \"forum\"]\n";
    let origin = origin();
    let builder = three(&origin, GROUP);
    opt_out(&builder, FORUM);
    let builder = builder.replacing("name = \"ours\"", "name = \"all\"");
    assert!(refusal(&builder).contains("kept under the name \"ours\""));
    let builder = builder.replacing("name = \"all\"", "name = \"all\"\nformerly = \"ours\"");
    let renamed = optgate::app::start(builder.settings()).unwrap();
    assert!(is_out(renamed.listen()[0], SHOP) && is_out(renamed.listen()[0], FORUM));
    assert!(!is_out(renamed.listen()[0], BLOG));
    renamed.stop().unwrap();
    // The forum leaves; the group stays with the shop.
    let builder = builder.replacing("sites = [\"shop\", \"forum\"]", "sites = [\"shop\"]");
    let builder = builder.replacing("name = \"forum\"", "name = \"forum\"\nformerly = [\"all\", \"ours\"]");
    let left = builder.run();
    assert!(is_out(left.addr(), SHOP) && is_out(left.addr(), FORUM));
}

/// Who opted out at a site of a group did so under the group's name: a site that leaves without saying so would look them
/// up under its own, though the group is still there.
#[test]
fn a_site_that_leaves_its_group_without_a_word_is_refused() {
    let origin = origin();
    let builder = three(&origin, "[[groups]]\nname = \"ours\"\nsites = [\"shop\", \"forum\", \"blog\"]\n");
    opt_out(&builder, FORUM);
    let builder =
        builder.replacing("sites = [\"shop\", \"forum\", \"blog\"]", "sites = [\"shop\", \"blog\"]");
    let why = refusal(&builder);
    assert!(why.contains("1 opted-out accounts or profiles are kept under the name \"ours\""), "{why}");
    assert!(why.contains("the sites \"forum\"") && why.contains("formerly = [\"ours\"]"), "{why}");
    // Under another name it would lose them as well.
    let builder = builder.replacing("name = \"forum\"", "name = \"board\"\nformerly = [\"forum\"]");
    assert!(refusal(&builder).contains("the sites \"board\""));
    let told = builder.replacing("formerly = [\"forum\"]", "formerly = [\"forum\", \"ours\"]").run();
    assert!(is_out(told.addr(), FORUM) && is_out(told.addr(), SHOP));
    let why = told.reload(|text| text.replace(", \"ours\"]", "]")).unwrap_err().to_string();
    assert!(why.contains("the sites \"board\""), "{why}");
}

/// Where no setting finds anybody any more, whoever is kept as opted out is looked up for nobody: a start says so.
#[test]
fn settings_without_accounts_over_kept_opt_outs_are_warned_of() {
    let origin = origin();
    let builder = three(&origin, "");
    opt_out(&builder, SHOP);
    let secret = builder.dir().join("secret");
    let jwt = format!("[account.jwt]\ncookie = \"account\"\nalgorithms = \"HS256\"\nkeys = {secret:?}\n");
    let address = own_address();
    let command = |builder: &Builder| serving(&builder.write(), address);
    let words = "1 accounts or profiles are opted out, and no setting of [account] says whose a request is";
    let kept = Binary::spawn(command(&builder), address, tempfile::tempdir().unwrap());
    assert!(!kept.lines_until("listening on http://").iter().any(|line| line.contains(words)));
    drop(kept);
    let builder = builder.replacing(&jwt, "");
    let blind = Binary::spawn(command(&builder), address, tempfile::tempdir().unwrap());
    blind.wait_for_line(words);
}
