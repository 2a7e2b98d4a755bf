//! Opting back in: by two acts, at the levels that the visit names, on record, and undone by a signal.

use super::acceptance_choices::{honoured, records_of, shop};
use super::support::jar::Browser;
use super::support::origin::Origin;
use super::support::proxy::{Builder, proxy};

pub(super) const SITE: &str = "site.test";
pub(super) const OPT_OUT: &str = "/privacy-choices/opt-out";

/// The account is the value of the cookie `account`, as a token would be; the profile that of `visitor`.
pub(super) fn levels(origin: &Origin) -> Builder {
    let builder = proxy().to(origin);
    let file = builder.dir().join("secret");
    std::fs::write(&file, super::accounts::SECRET).unwrap();
    builder.toml(&format!(
        "[account]\nprofile_cookie = \"visitor\"\n[account.jwt]\ncookie = \"account\"\nalgorithms = \"HS256\"\n\
         keys = {file:?}\n"
    ))
}

pub(super) fn log_in(browser: &mut Browser, name: &str) {
    browser.keep(SITE, &format!("account={}; Path=/", super::accounts::token(name)));
}

/// 11 CCR 7028(a): what the visit names is opted back in, each level with a record of its own; what it does not name
/// stays as it is.
#[test]
fn each_level_that_is_named_is_opted_back_in_on_record_and_no_other_is() {
    let origin = shop(&["/"]);
    let builder = levels(&origin);
    let data = builder.settings().data_dir;
    let running = optgate::app::start(builder.settings()).unwrap();
    let mut anns = Browser::new(running.listen()[0]);
    log_in(&mut anns, "ann");
    anns.keep(SITE, "visitor=1; Path=/");
    assert_eq!(anns.post(SITE, OPT_OUT, "").status(), 200);
    // Without the account only the browser and its profile are named.
    anns.lose("account");
    let receipt = anns.opt_in(SITE, "");
    assert_eq!(receipt.status(), 200);
    assert!(receipt.text().contains("this browser and its profile on this site"), "{}", receipt.text());
    assert!(!honoured(&anns.get(SITE, "/")));
    log_in(&mut anns, "ann");
    assert!(honoured(&anns.get(SITE, "/")), "the account was not named, so it is opted out as before");
    assert_eq!(anns.opt_in(SITE, "").status(), 200);
    assert!(!honoured(&anns.get(SITE, "/")));
    let mut other = Browser::new(running.listen()[0]);
    log_in(&mut other, "ann");
    assert!(!honoured(&other.get(SITE, "/")), "the account is opted back in everywhere");
    let records: Vec<_> =
        records_of(running, &data).into_iter().map(|r| (r.kind, r.basis, r.account)).collect();
    let want = [
        ("opt-out", "account", true),
        ("opt-out", "profile", true),
        ("opt-in", "", false),
        ("opt-in", "profile", true),
        // The account's opt-out has gone over to the browser and to what it names, as any opt-out does.
        ("opt-in", "", false),
        ("opt-in", "profile", true),
        ("opt-in", "", true),
    ];
    assert_eq!(records, want.map(|(kind, basis, account)| (kind.to_owned(), basis.to_owned(), account)));
}

/// 11 CCR 7025(c)(5), 7028(a): absence, expiry, a new device, a consent tool's "accept all" and half of the two acts
/// say nothing.
#[test]
fn nothing_but_the_two_acts_opts_anybody_back_in() {
    let origin = shop(&["/"]);
    let proxy = levels(&origin).run();
    let mut browser = Browser::new(proxy.addr());
    log_in(&mut browser, "ann");
    assert_eq!(browser.post(SITE, OPT_OUT, "").status(), 200);
    assert!(honoured(&browser.get(SITE, "/")), "the signal was never there, its absence is nothing");
    browser.lose("optgate");
    assert!(honoured(&browser.get(SITE, "/")), "its cookie has ended");
    let mut device = Browser::new(proxy.addr());
    log_in(&mut device, "ann");
    assert!(honoured(&device.get(SITE, "/")), "a new device");
    for all in [
        "usprivacy=1YNN",
        "OptanonConsent=isGpcEnabled=0&groups=C0001:1,C0004:1",
        "OTGPPConsent=DBABLA~CVQqAAAAAACA.QA",
    ] {
        device.keep(SITE, &format!("{all}; Path=/"));
        assert!(honoured(&device.get(SITE, "/")), "{all}");
    }
    browser.keep(SITE, "optgate=v1.in.202611.forged; Path=/");
    assert!(honoured(&browser.get(SITE, "/")), "a made-up cookie");
    assert_eq!(browser.post(SITE, "/privacy-choices/opt-in", "").status(), 200);
    assert!(honoured(&browser.get(SITE, "/")), "the first act alone");
    assert_eq!(browser.post(SITE, "/privacy-choices/opt-in/confirm", "token=guessed").status(), 403);
    assert!(honoured(&browser.get(SITE, "/")));
}

/// 11 CCR 7028(a): whoever makes up a token and its cookie has done one act, not two.
#[test]
fn a_second_act_without_a_first_one_changes_nothing() {
    let origin = shop(&["/"]);
    let proxy = levels(&origin).run();
    let mut browser = Browser::new(proxy.addr());
    assert_eq!(browser.post(SITE, OPT_OUT, "").status(), 200);
    browser.keep(SITE, "optgate-confirm=Z; Path=/");
    assert_eq!(browser.post(SITE, "/privacy-choices/opt-in/confirm", "token=Z").status(), 403);
    assert!(honoured(&browser.get(SITE, "/")));
}

/// 11 CCR 7028(a): an opt-out between the two acts ends the first, on this browser and on another device of the account;
/// who starts again is opted back in.
#[test]
fn an_opt_out_between_the_two_acts_ends_the_first() {
    let origin = shop(&["/"]);
    let proxy = levels(&origin).run();
    let mut browser = Browser::new(proxy.addr());
    let ask = |browser: &mut Browser| {
        let page = browser.post(SITE, "/privacy-choices/opt-in", "");
        let token = page
            .text()
            .split("name=\"token\" value=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .to_owned();
        format!("token={token}")
    };
    let confirm = |browser: &mut Browser, token: &str| {
        let answer = browser.post(SITE, "/privacy-choices/opt-in/confirm", token);
        (answer.status(), answer.text().contains("you have opted out"))
    };
    for account in [None, Some("ann")] {
        if let Some(name) = account {
            log_in(&mut browser, name);
        }
        assert_eq!(browser.post(SITE, OPT_OUT, "").status(), 200);
        let token = ask(&mut browser);
        assert_eq!(browser.post(SITE, OPT_OUT, "").status(), 200);
        assert_eq!(confirm(&mut browser, &token), (403, true), "{account:?}");
        assert!(honoured(&browser.get(SITE, "/")));
    }
    let token = ask(&mut browser);
    let mut device = Browser::new(proxy.addr());
    log_in(&mut device, "ann");
    assert_eq!(device.post(SITE, OPT_OUT, "").status(), 200);
    assert_eq!(confirm(&mut browser, &token), (403, true), "on another device");
    assert!(honoured(&browser.get(SITE, "/")) && honoured(&device.get(SITE, "/")));
    assert_eq!(browser.opt_in(SITE, "").status(), 200);
    assert!(!honoured(&browser.get(SITE, "/")));
}

/// 11 CCR 7028(a): what was asked of one consumer is confirmed by that one, whoever else logs in or out in between, at
/// each level; and nothing has changed for anybody.
#[test]
fn a_second_act_that_names_another_consumer_changes_nothing() {
    let origin = shop(&["/"]);
    let proxy = levels(&origin).run();
    let mut browser = Browser::new(proxy.addr());
    log_in(&mut browser, "ann");
    browser.keep(SITE, "visitor=1; Path=/");
    assert_eq!(browser.post(SITE, OPT_OUT, "").status(), 200);
    // Whom the first act names, and whom the second one.
    let ways: [[(&str, Option<&str>); 2]; 5] = [
        [("bob", Some("1")), ("ann", Some("1"))],
        [("", Some("1")), ("ann", Some("1"))],
        [("ann", Some("1")), ("", Some("1"))],
        [("ann", Some("2")), ("ann", Some("1"))],
        [("ann", None), ("ann", Some("1"))],
    ];
    let name = |browser: &mut Browser, (account, profile): (&str, Option<&str>)| {
        ["account", "visitor"].into_iter().for_each(|cookie| browser.lose(cookie));
        if !account.is_empty() {
            log_in(browser, account);
        }
        if let Some(profile) = profile {
            browser.keep(SITE, &format!("visitor={profile}; Path=/"));
        }
    };
    for [first, second] in ways {
        name(&mut browser, first);
        let token = browser.ask(SITE, "opt-in");
        name(&mut browser, second);
        let refused = browser.post(SITE, "/privacy-choices/opt-in/confirm", &format!("token={token}"));
        assert_eq!(refused.status(), 403, "{first:?} {second:?}");
        assert!(refused.text().contains("Nothing has changed"), "{}", refused.text());
        let mut anns = Browser::new(proxy.addr());
        log_in(&mut anns, "ann");
        assert!(honoured(&anns.get(SITE, "/")), "{first:?} {second:?}");
    }
    name(&mut browser, ("ann", Some("1")));
    assert_eq!(browser.opt_in(SITE, "").status(), 200, "by one consumer it works as before");
}

/// 11 CCR 7025(c)(3): the signal beats an earlier opt-in; the page says so until the person has chosen; and the
/// protective state holds meanwhile, also without the signal and after a restart.
#[test]
fn a_signal_after_an_opt_in_is_shown_as_a_conflict_until_the_person_chooses() {
    const CONFLICT: &str = "You had opted your account back in";
    let origin = shop(&["/"]);
    let builder = levels(&origin);
    let running = optgate::app::start(builder.settings()).unwrap();
    let mut browser = Browser::new(running.listen()[0]);
    log_in(&mut browser, "ann");
    browser.post(SITE, OPT_OUT, "");
    browser.opt_in(SITE, "");
    assert!(!browser.get(SITE, "/privacy-choices").text().contains(CONFLICT));
    let mut other = Browser::new(running.listen()[0]).with_gpc();
    log_in(&mut other, "ann");
    let page = other.get(SITE, "/privacy-choices").text();
    assert!(page.contains(CONFLICT) && page.contains("Opt-Out Request Honored"), "{page}");
    running.stop().unwrap();

    let proxy = builder.run();
    let mut browser = Browser::new(proxy.addr());
    log_in(&mut browser, "ann");
    assert!(honoured(&browser.get(SITE, "/")));
    let page = browser.get(SITE, "/privacy-choices").text();
    assert!(page.contains(CONFLICT), "{page}");
    browser.post(SITE, OPT_OUT, "");
    let page = browser.get(SITE, "/privacy-choices").text();
    assert!(!page.contains(CONFLICT) && page.contains("Your account is opted out."), "{page}");
    assert!(honoured(&browser.get(SITE, "/")));
}

/// A signal is kept at once for whom the visit names, so the page says that, and not that it could be; a consent tool's
/// choice is not kept, and can be.
#[test]
fn the_page_says_that_a_signal_is_kept_and_that_a_consent_tools_choice_can_be() {
    const COULD: &str = "You can also save your opt-out";
    let origin = shop(&["/"]);
    let proxy = levels(&origin).run();
    let mut browser = Browser::new(proxy.addr());
    log_in(&mut browser, "ann");
    browser.post(SITE, OPT_OUT, "");
    browser.opt_in(SITE, "");
    browser.gpc = true;
    let page = browser.get(SITE, "/privacy-choices").text();
    assert!(page.contains("The signal has opted out this browser and your account."), "{page}");
    assert!(!page.contains(COULD), "{page}");
    browser.gpc = false;
    assert!(honoured(&browser.get(SITE, "/")), "it is so");
    let mut other = Browser::new(proxy.addr());
    log_in(&mut other, "ann");
    assert!(honoured(&other.get(SITE, "/")), "for the account as well");
    let mut steered = Browser::new(proxy.addr());
    steered.keep(SITE, "usprivacy=1YYN; Path=/");
    let page = steered.get(SITE, "/privacy-choices").text();
    assert!(page.contains(COULD) && !page.contains("The signal has"), "{page}");
}

/// The same on a browser that names nobody: the first page with the signal says it.
#[test]
fn a_browser_that_had_opted_back_in_is_told_of_its_signal() {
    let origin = shop(&["/"]);
    let proxy = levels(&origin).run();
    let mut browser = Browser::new(proxy.addr());
    browser.post(SITE, OPT_OUT, "");
    browser.opt_in(SITE, "");
    browser.gpc = true;
    let page = browser.get(SITE, "/privacy-choices").text();
    assert!(page.contains("You had opted back in on this browser"), "{page}");
    browser.gpc = false;
    assert!(honoured(&browser.get(SITE, "/")), "the signal has opted it out again");
}

/// 11 CCR 7026(k), Civil Code 1798.135(c)(4): nobody who opted out is asked to opt back in; the one control is a
/// button on the choices page, that nothing points to.
#[test]
fn nobody_who_opted_out_is_asked_to_opt_back_in() {
    let origin = shop(&["/"]);
    let proxy = levels(&origin).run();
    let mut browser = Browser::new(proxy.addr());
    log_in(&mut browser, "ann");
    let receipt = browser.post(SITE, OPT_OUT, "").text();
    let page = browser.get(SITE, "/").text();
    for text in [&receipt, &page] {
        let words = text.to_lowercase();
        assert!(
            !words.contains("opt back") && !words.contains("opt-in") && !words.contains("opt in"),
            "{text}"
        );
    }
    let choices = browser.get(SITE, "/privacy-choices").text();
    assert_eq!(choices.to_lowercase().matches("opt back in").count(), 1, "{choices}");
    assert!(
        choices.contains("<button type=\"submit\">Opt back in to sale and sharing</button>"),
        "{choices}"
    );
}
