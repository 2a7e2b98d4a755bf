//! Groups: sites of one operator share opt-outs, those of browsers by a cookie of their common domain.

use super::acceptance_choices::{PAGE, honoured};
use super::support::jar::Browser;
use super::support::origin::Origin;
use super::support::proxy::{Builder, proxy};

pub const SHOP: &str = "shop.site.test";
pub const BLOG: &str = "blog.site.test";
/// Another registrable domain of the same operator.
pub const FORUM: &str = "forum.test";

/// Three sites; the account is the value of the cookie `account`, as a token.
pub fn three(origin: &Origin, groups: &str) -> Builder {
    let builder = proxy();
    let file = builder.dir().join("secret");
    std::fs::write(&file, super::accounts::SECRET).unwrap();
    let sites = [("shop", SHOP), ("blog", BLOG), ("forum", FORUM)].map(|(name, host)| {
        format!("[[sites]]\nname = \"{name}\"\nhosts = [\"{host}\"]\nupstream = {}\n", origin.toml())
    });
    builder.toml(&format!(
        "[account.jwt]\ncookie = \"account\"\nalgorithms = \"HS256\"\nkeys = {file:?}\n{}{groups}",
        sites.concat()
    ))
}

pub fn log_in(browser: &mut Browser, host: &str, name: &str) {
    browser.keep(host, &format!("account={}; Path=/", super::accounts::token(name)));
}

fn origin() -> Origin {
    Origin::start().on("/", |x| x.ok("text/html", PAGE))
}

/// 11 CCR 7025(c)(1), the Disney order: an account is opted out wherever the operator knows it, also on another
/// registrable domain; and nowhere else.
#[test]
fn sites_of_a_group_share_an_accounts_opt_out() {
    let origin = origin();
    let proxy = three(&origin, "[[groups]]\nname = \"ours\"\nsites = [\"shop\", \"forum\"]\n").run();
    let mut browser = Browser::new(proxy.addr()).with_gpc();
    log_in(&mut browser, SHOP, "ann");
    assert!(honoured(&browser.get(SHOP, "/")));
    let mut other = Browser::new(proxy.addr());
    for host in [SHOP, FORUM, BLOG] {
        log_in(&mut other, host, "ann");
    }
    assert!(honoured(&other.get(FORUM, "/")), "another site of the group");
    assert!(!honoured(&other.get(BLOG, "/")), "a site of nobody's group");
    let mut stranger = Browser::new(proxy.addr());
    assert!(!honoured(&stranger.get(FORUM, "/")), "a browser that names nobody shares nothing");
}

/// RFC 6265, 5.1.3: one cookie for the common domain carries the browser's choice to every site of the group.
#[test]
fn a_cookie_of_the_common_domain_carries_the_browsers_choice() {
    let origin = origin();
    let group = "[[groups]]\nname = \"ours\"\nsites = [\"shop\", \"blog\"]\ncookie_domain = \"site.test\"\n";
    let proxy = three(&origin, group).run();
    let mut browser = Browser::new(proxy.addr());
    assert!(!honoured(&browser.get(BLOG, "/")));
    let receipt = browser.post(SHOP, "/privacy-choices/opt-out", "");
    let line = receipt.head.all("set-cookie").into_iter().find(|line| line.starts_with("optgate=")).unwrap();
    assert!(line.contains("; Domain=site.test; Path=/;"), "{line}");
    assert!(honoured(&browser.get(BLOG, "/")));
    assert!(!honoured(&browser.get(FORUM, "/")));
    assert_eq!(browser.opt_in(BLOG, "").status(), 200);
    assert!(!honoured(&browser.get(SHOP, "/")));
    browser.gpc = true;
    assert!(honoured(&browser.get(SHOP, "/")));
    browser.gpc = false;
    assert!(honoured(&browser.get(BLOG, "/")), "a signal's too");
}

/// A host's own cookie from before the group says `out` beside the domain's `in`: the protective one counts, and a
/// confirmed opt-in leaves neither against it. The other way round, too: what is left of a group that is no more.
#[test]
fn of_two_forms_the_protective_one_counts_and_an_opt_in_clears_the_other() {
    let origin = origin();
    let group = "[[groups]]\nname = \"ours\"\nsites = [\"shop\", \"blog\"]\ncookie_domain = \"site.test\"\n";
    let with = three(&origin, group).run();
    let without = three(&origin, "").run();
    for (proxy, left) in [(&with, "Path=/"), (&without, "Path=/; Domain=site.test")] {
        let keys = proxy.running().store().keys();
        let month = jiff::Timestamp::now().strftime("%Y%m").to_string().parse().unwrap();
        let mut browser = Browser::new(proxy.addr());
        browser.keep(SHOP, &format!("optgate={}; {left}", optgate::privacy::cookie::value_out(month, keys)));
        browser.post(SHOP, "/privacy-choices/opt-in", "");
        assert!(honoured(&browser.get(SHOP, "/")), "the first act alone changes nothing");
        let other = if left.contains("Domain") { "Path=/" } else { "Path=/; Domain=site.test" };
        browser.keep(SHOP, &format!("optgate={}; {other}", optgate::privacy::cookie::value_in(month, keys)));
        assert!(honoured(&browser.get(SHOP, "/")), "in and out at once: out");
        assert_eq!(browser.opt_in(SHOP, "").status(), 200);
        let values = browser.values(SHOP, "optgate");
        assert!(values.len() == 1 && values[0].starts_with("v1.in."), "{left}: {values:?}");
        assert!(!honoured(&browser.get(SHOP, "/")), "{left}");
    }
}

/// A browser keeps no cookie for a domain that is not the host's: a host that came to the default site gets its own.
#[test]
fn a_host_outside_the_domain_gets_a_cookie_of_its_own() {
    let origin = origin();
    let group = "[[groups]]\nname = \"ours\"\nsites = [\"shop\", \"blog\"]\ncookie_domain = \"site.test\"\n";
    let proxy = three(&origin, group).run();
    let mut browser = Browser::new(proxy.addr()).with_gpc();
    assert!(honoured(&browser.get("elsewhere.test", "/")));
    browser.gpc = false;
    assert!(honoured(&browser.get("elsewhere.test", "/")), "the default site, under another name");
}

/// What an account chose before its site was put into a group is not lost, and goes over to the group.
#[test]
fn an_opt_out_from_before_the_group_is_honoured_in_it() {
    let origin = origin();
    let builder = three(&origin, "");
    let first = optgate::app::start(builder.settings()).unwrap();
    let mut browser = Browser::new(first.listen()[0]).with_gpc();
    log_in(&mut browser, SHOP, "ann");
    assert!(honoured(&browser.get(SHOP, "/")));
    first.stop().unwrap();
    let builder = builder.toml("[[groups]]\nname = \"ours\"\nsites = [\"shop\", \"forum\"]\n");
    let proxy = builder.run();
    let mut other = Browser::new(proxy.addr());
    for host in [SHOP, FORUM] {
        log_in(&mut other, host, "ann");
        log_in(&mut browser, host, "bob");
    }
    assert!(honoured(&other.get(SHOP, "/")));
    assert!(honoured(&other.get(FORUM, "/")), "from then on it is the group's");
    let mut bobs = Browser::new(proxy.addr());
    log_in(&mut bobs, SHOP, "bob");
    assert!(!honoured(&bobs.get(SHOP, "/")));
}
