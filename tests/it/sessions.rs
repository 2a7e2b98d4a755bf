//! Accounts that the origin's answers name, and profiles: who is known by them, and at which level (11 CCR 7025(c)(1)),
//! through a running proxy.

use optgate::app;
use optgate::privacy::{Basis, Keys, Subject, cookie};
use optgate::store::{self, Change, Kind, Source};

use super::acceptance_choices::{PAGE, honoured, post, records_of, shop};
use super::accounts::made_up;
use super::groups::{BLOG, SHOP};
use super::ledger::block_on;
use super::support::client::{Client, get};
use super::support::jar::Browser;
use super::support::origin::{Exchange, Origin, answer};
use super::support::proxy::{Builder, Proxy, proxy};

const GPC: &str = "Sec-GPC: 1\r\n";

/// In front of a shop whose visitors may name an account and a profile.
fn with_levels(origin: &Origin) -> Builder {
    proxy().to(origin).toml(
        "trusted_proxies = [\"127.0.0.1\"]\n[account]\nheader = \"x-account-id\"\nprofile_cookie = \"visitor\"\n",
    )
}

/// Threat: a trusted hop passes on a visitor's own line beside its own. Nobody can tell which is which, so the request
/// counts as opted out, leaves no mark on either account, and a click says that it covers the browser alone.
#[test]
fn two_accounts_in_one_request_count_as_opted_out_and_as_neither() {
    let origin = shop(&["/"]);
    let builder = with_levels(&origin);
    let data = builder.settings().data_dir;
    let running = app::start(builder.settings()).unwrap();
    let ask = |fields: &str| get(running.listen()[0], "/", fields);
    let both = "X-Account-Id: mallory\r\nX-Account-Id: ann\r\n";
    assert!(honoured(&ask(both)));
    assert!(honoured(&ask(&format!("{GPC}{both}"))));
    for one in ["X-Account-Id: ann\r\n", "X-Account-Id: mallory\r\n"] {
        assert!(!honoured(&ask(one)), "{one}");
    }
    assert!(!honoured(&ask("X-Account-Id: ann\r\nX-Account-Id: ann\r\nX-Account-Id:\r\n")), "one account");
    let receipt = post(running.listen()[0], "/privacy-choices/opt-out", both, "");
    assert_eq!(receipt.status(), 200);
    assert!(receipt.text().contains("not saved for your account yet"), "{}", receipt.text());
    assert!(records_of(running, &data).into_iter().all(|record| !record.account));
}

/// A shop whose answers name the account of the session `sid=NAME`, as a site with a log-in does.
fn shop_with_sessions() -> Origin {
    let page = String::from_utf8(PAGE.to_vec()).unwrap();
    let named = move |x: &mut Exchange<'_>| {
        let cookies = x.request().one("cookie").unwrap_or_default();
        let sid = cookies.split("; ").find_map(|pair| pair.strip_prefix("sid="));
        let account = sid.map_or_else(String::new, |sid| {
            format!("X-Account: {}\r\n", sid.trim_end_matches(char::is_numeric))
        });
        if x.request().one("if-none-match").is_some() {
            return x.send(format!("HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n{account}\r\n"));
        }
        x.send(answer(&format!("Content-Type: text/html\r\nETag: \"v1\"\r\n{account}"), &page))
    };
    let page = String::from_utf8(PAGE.to_vec()).unwrap();
    Origin::start()
        .on("/", named.clone())
        .on("/more", named)
        .on("/login", move |x| {
            let new = "Set-Cookie: sid=ann2; Path=/\r\nX-Account: ann\r\nContent-Type: text/html\r\n";
            x.body()?;
            x.send(answer(new, &page))
        })
        .on("/logout", |x| x.send(answer("X-Account:\r\nContent-Type: text/plain\r\n", "bye")))
}

fn with_sessions(origin: &Origin) -> Builder {
    proxy().to(origin).toml("[account]\nresponse_header = \"X-Account\"\nsession_cookie = \"sid\"\n")
}

fn session(name: &str) -> String {
    format!("Cookie: sid={name}\r\n")
}

const PAGE_WANTED: &str = "Accept: text/html\r\nSec-Fetch-Dest: document\r\n";

/// The origin names the account, the proxy knows the session from then on, and no visitor sees the header.
#[test]
fn an_account_that_the_origin_names_is_known_by_its_session_and_never_shown() {
    let origin = shop_with_sessions();
    let proxy = with_sessions(&origin).run();
    let first = proxy.get("/", &session("ann1"));
    assert!(!honoured(&first));
    assert_eq!(first.head.all("x-account"), Vec::<&str>::new());
    // A click on one browser, by a session that is known by now.
    assert_eq!(post(proxy.addr(), "/privacy-choices/opt-out", &session("ann1"), "").status(), 200);
    // Another browser of the account, whose session nobody has seen: its very first page.
    let other = proxy.get("/", &session("ann2"));
    assert!(honoured(&other));
    assert!(
        other.head.all("set-cookie").iter().any(|line| line.starts_with("optgate=v1.out.")),
        "{:?}",
        other.head
    );
    assert_eq!(other.head.all("x-account"), Vec::<&str>::new());
    assert!(!honoured(&proxy.get("/", &session("bob1"))));
    let seen = origin.seen(3);
    assert_eq!(
        seen[1].one("optgate-decision").as_deref(),
        Some("none"),
        "the origin was asked before anybody knew"
    );
    assert!(honoured(&proxy.get("/more", &session("ann2"))));
    assert_eq!(origin.seen(4)[3].one("optgate-decision").as_deref(), Some("opted-out;basis=account"));
    let metrics = proxy.running().metrics().render();
    assert!(metrics.lines().any(|line| line == "optgate_account_raised_total 1"), "{metrics}");
}

/// 11 CCR 7025(c)(1): the signal came with the request whose answer first says who it is.
#[test]
fn a_signal_on_the_request_that_first_names_the_account_opts_the_account_out() {
    let origin = shop_with_sessions();
    let builder = with_sessions(&origin);
    let data = builder.settings().data_dir;
    let running = app::start(builder.settings()).unwrap();
    let addr = running.listen()[0];
    assert!(honoured(&get(addr, "/", &format!("{GPC}{}", session("ann1")))));
    assert!(honoured(&get(addr, "/", &session("ann2"))), "another browser, without the signal");
    assert!(!honoured(&get(addr, "/", &session("bob1"))));
    let records: Vec<_> =
        records_of(running, &data).into_iter().map(|r| (r.kind, r.signal, r.account)).collect();
    assert_eq!(records, [("opt-out".into(), "gpc".into(), true)]);
}

/// A session that the proxy has forgotten, as after a restart: the opt-out is on disk, and the first answer is held to it.
#[test]
fn after_a_restart_the_first_answer_of_a_session_is_held_to_the_accounts_choice() {
    let origin = shop_with_sessions();
    let builder = with_sessions(&origin);
    let first = app::start(builder.settings()).unwrap();
    get(first.listen()[0], "/", &session("ann1"));
    assert_eq!(post(first.listen()[0], "/privacy-choices/opt-out", &session("ann1"), "").status(), 200);
    first.stop().unwrap();
    let second = app::start(builder.settings()).unwrap();
    let page = get(second.listen()[0], "/", &format!("{PAGE_WANTED}Cookie: sid=ann1; _fbp=fb.1.2\r\n"));
    assert!(honoured(&page));
    let lines = page.head.all("set-cookie");
    assert!(lines.iter().any(|l| l.starts_with("_fbp=;")), "its trackers' cookies go too: {lines:?}");
    second.stop().unwrap();
}

/// A 304 would bring back the copy with trackers that the browser holds: the page is asked for once more, as for
/// somebody who has opted out.
#[test]
fn a_304_that_names_an_opted_out_account_is_asked_for_again() {
    let origin = shop_with_sessions();
    let builder = with_sessions(&origin);
    let first = app::start(builder.settings()).unwrap();
    let tag = get(first.listen()[0], "/", &format!("{PAGE_WANTED}{}", session("ann1")));
    let tag = tag.head.one("etag").unwrap().to_owned();
    post(first.listen()[0], "/privacy-choices/opt-out", &session("ann1"), "");
    first.stop().unwrap();
    let second = app::start(builder.settings()).unwrap();
    let fields = format!("{PAGE_WANTED}{}If-None-Match: {tag}\r\n", session("ann1"));
    let page = get(second.listen()[0], "/", &fields);
    assert_eq!(page.status(), 200);
    assert!(honoured(&page));
    let seen = origin.seen(3);
    assert!(seen[1].one("if-none-match").is_some() && seen[2].one("if-none-match").is_none());
    assert_eq!(seen[2].one("optgate-decision").as_deref(), Some("opted-out;basis=account"));
    assert_eq!(seen[2].one("sec-gpc").as_deref(), Some("1"));
    second.stop().unwrap();
}

/// A log-in gives the browser another session; the one before it, and nobody's, are nobody's.
#[test]
fn a_log_in_is_known_by_the_cookie_it_sets_and_a_log_out_is_forgotten() {
    let origin = shop_with_sessions();
    let proxy = with_sessions(&origin).run();
    let login = post(proxy.addr(), "/login", &format!("{GPC}{}", session("guest")), "name=ann");
    assert!(honoured(&login));
    let answer = proxy.get("/privacy-choices", &session("ann2"));
    assert!(answer.text().contains("Your account is opted out."), "{}", answer.text());
    let answer = proxy.get("/privacy-choices", &session("guest"));
    assert!(!answer.text().contains("Your account is opted out."), "{}", answer.text());
    proxy.get("/logout", &session("ann2"));
    let answer = proxy.get("/privacy-choices", &session("ann2"));
    assert!(!answer.text().contains("Your account is opted out."), "{}", answer.text());
}

/// Observe mode changes nothing for the visitor, but what the origin says to the proxy is not for them in any mode.
#[test]
fn the_header_is_taken_out_of_answers_in_observe_mode_too() {
    let origin = shop_with_sessions();
    let proxy = with_sessions(&origin).toml("mode = \"observe\"\n").run();
    let page = proxy.get("/", &session("ann1"));
    assert_eq!((page.body.as_slice(), page.head.all("x-account").len()), (PAGE, 0));
}

/// 11 CCR 7025(c)(1): a pseudonymous profile is opted out with its browser, and holds on whatever carries its key.
#[test]
fn a_profile_is_opted_out_with_its_browser_and_apart_from_an_account() {
    let origin = shop(&["/"]);
    let builder = with_levels(&origin);
    let data = builder.settings().data_dir;
    let running = app::start(builder.settings()).unwrap();
    let addr = running.listen()[0];
    let profile = "Cookie: visitor=77\r\n";
    assert!(!honoured(&get(addr, "/", profile)));
    assert!(honoured(&get(addr, "/", &format!("{GPC}{profile}"))));
    let later = get(addr, "/", profile);
    assert!(honoured(&later), "the choice cookie was lost, the profile is known");
    assert!(later.head.all("set-cookie").iter().any(|line| line.starts_with("optgate=v1.out.")));
    assert!(!honoured(&get(addr, "/", "Cookie: visitor=78\r\n")));
    assert!(
        !honoured(&get(addr, "/", "X-Account-Id: 77\r\n")),
        "an account of the same key is somebody else"
    );
    let page = get(addr, "/privacy-choices", profile).text();
    assert!(page.contains("The profile that this site keeps of your browser is opted out."), "{page}");
    // A click of a visitor with both opts both out, each with a record of its own.
    let both = "X-Account-Id: ann\r\nCookie: visitor=79\r\n";
    let receipt = post(addr, "/privacy-choices/opt-out", both, "");
    assert!(receipt.text().contains("this browser, its profile on this site, and your account"));
    assert!(
        honoured(&get(addr, "/", "X-Account-Id: ann\r\n"))
            && honoured(&get(addr, "/", "Cookie: visitor=79\r\n"))
    );
    let decisions: Vec<_> =
        origin.seen(3).iter().take(3).map(|r| r.one("optgate-decision").unwrap()).collect();
    assert_eq!(
        decisions,
        ["none", "opted-out;basis=gpc", "opted-out;basis=account"],
        "its list of words is closed"
    );
    let records: Vec<_> = records_of(running, &data).into_iter().map(|r| (r.signal, r.basis)).collect();
    let want = [("gpc", "gpc"), ("form", "account"), ("form", "profile")];
    assert_eq!(records, want.map(|(signal, basis)| (signal.to_owned(), basis.to_owned())));
}

/// A signal opts every level out that the request names, each with a record of its own; and none twice.
#[test]
fn a_signal_opts_every_named_level_out_once() {
    let origin = shop(&["/"]);
    let builder = with_levels(&origin);
    let data = builder.settings().data_dir;
    let running = app::start(builder.settings()).unwrap();
    let addr = running.listen()[0];
    for _ in 0..3 {
        assert!(honoured(&get(addr, "/", &format!("{GPC}X-Account-Id: ann\r\nCookie: visitor=1\r\n"))));
    }
    assert!(honoured(&get(addr, "/", &format!("{GPC}X-Account-Id: ann\r\nCookie: visitor=2\r\n"))));
    assert!(honoured(&get(addr, "/", "Cookie: visitor=2\r\n")));
    let records = records_of(running, &data);
    assert_eq!(
        records.iter().filter(|r| r.account && r.signal == "gpc").count(),
        3,
        "ann, 1 and 2: {records:?}"
    );
    assert_eq!(records.len(), 3);
}

/// A browser that opted out carries that to the account it logs in to, by its cookie.
#[test]
fn a_browser_that_opted_out_before_it_logs_in_opts_the_account_out() {
    let origin = shop_with_sessions();
    let proxy = with_sessions(&origin).run();
    let out = cookie::value_out(202_611, proxy.running().store().keys());
    assert!(honoured(&proxy.get("/", &format!("Cookie: optgate={out}; sid=ann1\r\n"))));
    assert!(honoured(&proxy.get("/", &session("ann2"))));
}

/// A tunnel's head is an answer like any other.
#[test]
fn the_header_is_taken_out_of_the_answer_that_opens_a_tunnel() {
    let origin = Origin::start().on("/ws", |x| {
        x.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Account: ann\r\n\r\n",
        )
    });
    let proxy = with_sessions(&origin).run();
    let mut client = Client::connect(proxy.addr());
    client.send(format!(
        "GET /ws HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{GPC}\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{}\r\n",
        session("ann1")
    ));
    let head = client.head();
    assert_eq!((head.status, head.all("x-account").len()), (101, 0));
    let page = proxy.get("/privacy-choices", &session("ann1")).text();
    assert!(
        page.contains("Your account is opted out."),
        "the session is known, and its signal recorded: {page}"
    );
}

/// Two sites, each with the sessions of the shop; `shop` and `blog` are what they say beside their names.
fn two_with_sessions(origin: &Origin, shop: &str, blog: &str, groups: &str) -> Builder {
    let site = |name: &str, host: &str, more: &str| {
        format!("[[sites]]\nname = \"{name}\"\n{more}hosts = [\"{host}\"]\nupstream = {}\n", origin.toml())
    };
    let sites = site("shop", SHOP, shop) + &site("blog", BLOG, blog);
    proxy().toml(&format!(
        "[account]\nresponse_header = \"X-Account\"\nsession_cookie = \"sid\"\n{sites}{groups}"
    ))
}

fn page_of(proxy: &Proxy, host: &str, fields: &str) -> bool {
    honoured(&Client::connect(proxy.addr()).get_from(host, "/", fields))
}

/// An opt-out of ann comes to stand under a hash of before: another node that is not renamed yet recorded it, an import
/// brought it.
fn opts_out_under(proxy: &Proxy, keys: &Keys, name: &str) {
    let change = Change {
        time_us: jiff::Timestamp::now().as_microsecond(),
        site: name.to_owned(),
        kind: Kind::OptOut,
        source: Source::Form,
        basis: Some(Basis::Account),
        policy: "p".into(),
        subject: Some(Subject::of_account(keys, name, b"ann")),
    };
    block_on(proxy.running().store().record(change)).unwrap();
}

/// 11 CCR 7025(c)(1): the origin's answer named the account while nothing stood against it; from then on its cookie is all
/// that a request says. An opt-out under the name that the site had is held to all the same.
#[test]
fn a_session_alone_is_held_to_an_opt_out_under_a_former_name() {
    let origin = shop_with_sessions();
    let proxy = two_with_sessions(&origin, "formerly = \"store\"\n", "", "").run();
    assert!(!page_of(&proxy, SHOP, &session("ann1")));
    opts_out_under(&proxy, proxy.running().store().keys(), "store");
    assert!(page_of(&proxy, SHOP, &session("ann1")));
    assert!(!page_of(&proxy, BLOG, &session("ann1")), "another site's account");
    assert!(!page_of(&proxy, SHOP, &session("bob1")));
    let seen = origin.seen(2);
    assert_eq!(
        seen[1].one("optgate-decision").as_deref(),
        Some("opted-out;basis=account"),
        "before the answer"
    );
}

/// A reload that gives a site the name it had finds those whose sessions began before.
#[test]
fn a_session_from_before_a_former_name_was_given_is_held_to_it() {
    let origin = shop_with_sessions();
    let proxy = two_with_sessions(&origin, "", "", "").run();
    assert!(!page_of(&proxy, SHOP, &session("ann1")));
    opts_out_under(&proxy, proxy.running().store().keys(), "store");
    assert!(!page_of(&proxy, SHOP, &session("ann1")), "nobody's name yet");
    proxy
        .reload(|text| text.replacen("name = \"shop\"", "name = \"shop\"\nformerly = \"store\"", 1))
        .unwrap();
    assert!(page_of(&proxy, SHOP, &session("ann1")));
}

/// Sites of a group have the same accounts: what one of them recorded before it came into the group holds at all of them,
/// whichever named the session.
#[test]
fn a_session_alone_is_held_to_an_opt_out_from_before_the_group_at_every_site_of_it() {
    let origin = shop_with_sessions();
    let group = "[[groups]]\nname = \"ours\"\nsites = [\"shop\", \"blog\"]\n";
    for (named_at, kept_under) in [(SHOP, "shop"), (SHOP, "blog"), (BLOG, "shop"), (SHOP, "diary")] {
        for asked_at in [SHOP, BLOG] {
            let proxy = two_with_sessions(&origin, "", "formerly = \"diary\"\n", group).run();
            assert!(!page_of(&proxy, named_at, &session("ann1")));
            opts_out_under(&proxy, proxy.running().store().keys(), kept_under);
            assert!(page_of(&proxy, asked_at, &session("ann1")), "{named_at}, {kept_under}, {asked_at}");
            assert!(!page_of(&proxy, asked_at, &session("bob1")));
        }
    }
}

/// A secret was rotated: hashes under the one before count for a session as for a key, under the name of now and the one of
/// before alike; and a confirmed opt-in under the live secret ends both.
#[test]
fn a_session_alone_is_held_to_opt_outs_under_an_earlier_secret() {
    let origin = shop_with_sessions();
    for name in ["shop", "store"] {
        let builder = two_with_sessions(&origin, "formerly = \"store\"\n", "", "");
        let data = builder.settings().data_dir;
        app::start(builder.settings()).unwrap().stop().unwrap();
        store::rotate_secret(&data).unwrap();
        let proxy = builder.run();
        assert!(!page_of(&proxy, SHOP, &session("ann1")));
        opts_out_under(&proxy, &proxy.running().store().keys().older()[0], name);
        assert!(page_of(&proxy, SHOP, &session("ann1")), "{name}");
        let mut browser = Browser::new(proxy.addr());
        browser.keep(SHOP, "sid=ann1; Path=/");
        assert_eq!(browser.opt_in(SHOP, "").status(), 200);
        assert!(!page_of(&proxy, SHOP, &session("ann1")), "{name}: opted back in");
    }
}

/// 11 CCR 7025(c)(1): a signal opts out whom the request names, whomever its answer names; that account's own choice holds
/// for the answer all the same.
#[test]
fn an_account_that_the_request_names_is_opted_out_whomever_its_answer_names() {
    let origin = shop_with_sessions();
    let settings = "trusted_proxies = [\"127.0.0.1\"]\n[account]\nheader = \"x-id\"\n\
        response_header = \"X-Account\"\nsession_cookie = \"sid\"\n";
    let proxy = proxy().to(&origin).toml(settings).run();
    let ask = |signal: &str, id: &str, sid: &str| {
        honoured(&proxy.get("/", &format!("{signal}X-Id: {id}\r\n{}", session(sid))))
    };
    assert!(!ask("", "crm-7", "bob1"));
    assert!(ask(GPC, "crm-7", "ann1"));
    assert!(ask("", "crm-7", "bob1"), "another browser of the account that the request named");
    assert!(!honoured(&proxy.get("/", &session("ann1"))), "nobody has asked for ann's opt-out");
    assert_eq!(post(proxy.addr(), "/privacy-choices/opt-out", &session("ann1"), "").status(), 200);
    assert!(ask("", "crm-8", "ann2"), "the answer's own account has opted out");
    assert!(!ask("", "crm-8", "bob2"));
}

/// Until the first keys have come a request with a token counts as opted out, also once its session is known;
/// a signal on it is the session's meanwhile.
#[test]
fn a_token_that_nobody_can_read_yet_counts_as_opted_out_though_the_session_is_known() {
    let origin = shop_with_sessions();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = format!(
        "[account]\nresponse_header = \"X-Account\"\nsession_cookie = \"sid\"\n\
         [account.jwt]\nbearer = true\nalgorithms = \"ES256\"\njwks_url = \"http://{nobody}/jwks.json\"\n"
    );
    let proxy = proxy().to(&origin).toml(&settings).run();
    let early = format!("{}Authorization: Bearer {}\r\n", session("ann1"), made_up("a"));
    for turn in 1..=3 {
        let answer = proxy.get("/", &early);
        assert!(honoured(&answer), "request {turn}");
        assert!(answer.head.all("set-cookie").is_empty(), "{:?}", answer.head);
    }
    assert!(!honoured(&proxy.get("/", &session("ann1"))), "the session alone");
    assert!(honoured(&proxy.get("/", &format!("{GPC}{early}"))));
    assert!(honoured(&proxy.get("/", &session("ann1"))));
}

/// An origin that goes by the last of several cookies, and names two accounts where it is asked to.
fn shop_of_the_last_cookie() -> Origin {
    let page = String::from_utf8(PAGE.to_vec()).unwrap();
    let two = page.clone();
    Origin::start()
        .on("/", move |x| {
            let cookies = x.request().one("cookie").unwrap_or_default();
            let sid = cookies.rsplit("; ").find_map(|pair| pair.strip_prefix("sid="));
            let account = sid.map(|sid| format!("X-Account: {}\r\n", sid.trim_end_matches(char::is_numeric)));
            x.send(answer(&format!("Content-Type: text/html\r\n{}", account.unwrap_or_default()), &page))
        })
        .on("/two", move |x| {
            x.send(answer("X-Account: ann\r\nX-Account:\r\nX-Account: bob\r\nContent-Type: text/html\r\n", &two))
        })
        .on("/logout", |x| {
            let over = "Set-Cookie: sid=deleted; Path=/; Max-Age=0\r\nX-Account: ann\r\nContent-Type: text/plain\r\n";
            x.send(answer(over, "bye"))
        })
}

/// Whether the choices page of a session says that its account is opted out.
fn is_told_of_its_account(proxy: &Proxy, session: &str) -> bool {
    proxy.get("/privacy-choices", session).text().contains("Your account is opted out.")
}

/// Threat: a page of another host of the site's domain plants a cookie of the session's name beside the site's own. Whoever
/// planted it knows that value: it must not become the account's session, by which the account could be opted back in.
#[test]
fn a_planted_session_cookie_is_not_known_as_the_session_beside_it() {
    let origin = shop_of_the_last_cookie();
    let proxy = with_sessions(&origin).run();
    assert!(honoured(&proxy.get("/", &format!("{GPC}{}", session("ann1")))));
    assert!(is_told_of_its_account(&proxy, &session("ann1")));
    let both = "Cookie: sid=planted; sid=ann1\r\n";
    assert!(honoured(&proxy.get("/", both)), "by what the origin's answer says");
    assert!(honoured(&proxy.get("/", both)));
    let seen = origin.seen(3);
    assert_eq!(seen[2].one("optgate-decision").as_deref(), Some("opted-out;basis=account"), "both are known");
    assert!(!is_told_of_its_account(&proxy, &session("planted")));
}

/// Threat: what a site writes into the cookie of whoever logs out is the same for everybody.
#[test]
fn a_cookie_that_a_log_out_takes_away_is_nobodys_session() {
    let origin = shop_of_the_last_cookie();
    let proxy = with_sessions(&origin).run();
    assert!(honoured(&proxy.get("/", &format!("{GPC}{}", session("ann1")))));
    proxy.get("/logout", &session("ann1"));
    assert!(!is_told_of_its_account(&proxy, &session("deleted")));
}

/// An answer that names two accounts counts as for somebody who has opted out, and as for neither of them.
#[test]
fn an_answer_that_names_two_accounts_counts_as_opted_out_and_as_neither() {
    let origin = shop_of_the_last_cookie();
    let proxy = with_sessions(&origin).run();
    let two = proxy.get("/two", &session("zoe1"));
    assert!(honoured(&two));
    assert_eq!(two.head.all("x-account"), Vec::<&str>::new());
    assert_eq!(two.head.all("set-cookie"), Vec::<&str>::new(), "no lasting mark");
    assert!(!honoured(&proxy.get("/", &session("ann1"))) && !honoured(&proxy.get("/", &session("bob1"))));
}
