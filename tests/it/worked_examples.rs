//! The five worked examples of 11 CCR 7025(c)(7), by name, each with browsers of its own in front of a site with a
//! log-in and a visitor id.
//!
//! What each pins stands at its head, in the regulation's terms; `docs` of the levels are in `privacy::subject`.

use super::acceptance_choices::{PAGE, honoured, records_of};
use super::support::jar::Browser;
use super::support::origin::{Origin, answer};
use super::support::proxy::{Builder, proxy};

const SITE: &str = "site.test";

/// A site whose pages name the account behind the cookie `sid=NAME`, and give every browser a visitor id.
fn site() -> Origin {
    let ids = std::sync::atomic::AtomicUsize::new(0);
    Origin::start().on("/", move |x| {
        let cookies = x.request().one("cookie").unwrap_or_default();
        let value = |name: &str| {
            cookies.split("; ").find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        };
        let account = value("sid").map_or_else(String::new, |sid| format!("X-Account: {sid}\r\n"));
        let id = value("visitor").is_none().then(|| {
            format!(
                "Set-Cookie: visitor=v{}; Path=/\r\n",
                ids.fetch_add(1, std::sync::atomic::Ordering::SeqCst)
            )
        });
        x.send(answer(&format!("Content-Type: text/html\r\n{account}{}", id.unwrap_or_default()), PAGE))
    })
}

fn business(site: &Origin) -> Builder {
    proxy().to(site).toml(
        "[account]\nresponse_header = \"X-Account\"\nsession_cookie = \"sid\"\nprofile_cookie = \"visitor\"\n",
    )
}

fn log_in(browser: &mut Browser, name: &str) {
    browser.keep(SITE, &format!("sid={name}; Path=/"));
}

/// (A): Caleb's browser sends the signal, he is not logged in. His browser, and the profile that the business
/// associates with it, are opted out; his account is not, for nothing connects it with the browser.
#[test]
fn example_a_caleb_not_logged_in_opts_out_his_browser_and_its_profile_and_not_his_account() {
    let site = site();
    let builder = business(&site);
    let data = builder.settings().data_dir;
    let running = optgate::app::start(builder.settings()).unwrap();
    let mut calebs = Browser::new(running.listen()[0]);
    assert!(!honoured(&calebs.get(SITE, "/")), "before the signal, and with a visitor id from then on");
    calebs.gpc = true;
    assert!(honoured(&calebs.get(SITE, "/")));
    calebs.gpc = false;
    assert!(honoured(&calebs.get(SITE, "/")), "absence is no opt-in");
    calebs.lose("optgate");
    assert!(honoured(&calebs.get(SITE, "/")), "the profile is opted out, too");
    // Elsewhere he logs in: nothing is known of his account.
    let mut other = Browser::new(running.listen()[0]);
    log_in(&mut other, "caleb");
    assert!(!honoured(&other.get(SITE, "/")));
    assert!(!honoured(&other.get(SITE, "/")));
    let records = records_of(running, &data);
    assert_eq!(records.len(), 1, "one level was named, the profile: {records:?}");
}

/// (B): Noelle is logged in and her browser sends the signal: her browser and her account are opted out, whatever her
/// settings said before.
#[test]
fn example_b_noelle_logged_in_opts_out_her_account_with_her_browser() {
    let site = site();
    let proxy = business(&site).run();
    let mut browser = Browser::new(proxy.addr());
    log_in(&mut browser, "noelle");
    assert!(!honoured(&browser.get(SITE, "/")));
    // Her settings allow the sale: she has said so, in two acts.
    assert_eq!(browser.opt_in(SITE, "").status(), 200);
    assert!(!honoured(&browser.get(SITE, "/")));
    browser.gpc = true;
    assert!(honoured(&browser.get(SITE, "/")));
    let page = browser.get(SITE, "/privacy-choices").text();
    assert!(page.contains("Your account is opted out."), "{page}");
    assert!(page.contains("Opt-Out Request Honored"), "{page}");
}

/// (C): Noelle returns later, logged in, with another browser that sends no signal. Its absence is no consent.
#[test]
fn example_c_noelle_returning_without_the_signal_is_still_opted_out() {
    let site = site();
    let proxy = business(&site).run();
    let mut first = Browser::new(proxy.addr()).with_gpc();
    log_in(&mut first, "noelle");
    assert!(honoured(&first.get(SITE, "/")));
    let mut second = Browser::new(proxy.addr());
    assert!(!honoured(&second.get(SITE, "/")), "before she logs in nobody knows her");
    log_in(&mut second, "noelle");
    assert!(honoured(&second.get(SITE, "/")), "on the very page that says who she is");
    assert!(honoured(&second.get(SITE, "/")));
    // What a consent tool makes of "accept all" is no word of hers to us.
    second.keep(SITE, "usprivacy=1YNN; Path=/");
    second.keep(SITE, "OptanonConsent=isGpcEnabled=0&groups=C0004:1; Path=/");
    assert!(honoured(&second.get(SITE, "/")));
    second.clear();
    log_in(&mut second, "noelle");
    assert!(honoured(&second.get(SITE, "/")), "nor is a browser that lost its cookies");
}

/// (D): Ramona takes part in a financial incentive programme and her browser sends the signal. A business that does
/// not ask her whether she wants to withdraw has to process the signal fully (7025(c)(4)): the default here.
#[test]
fn example_d_ramonas_signal_is_processed_fully_where_nobody_asked_her() {
    let site = site();
    let proxy = business(&site).run();
    let mut browser = Browser::new(proxy.addr()).with_gpc();
    log_in(&mut browser, "ramona");
    browser.keep(SITE, "programme=coupons; Path=/");
    assert!(honoured(&browser.get(SITE, "/")));
    browser.gpc = false;
    assert!(honoured(&browser.get(SITE, "/")));
    let page = browser.get(SITE, "/privacy-choices").text();
    assert!(!page.to_lowercase().contains("programme"), "nothing is asked: {page}");
}

/// (D), with the exception: she is told of the conflict, and keeps the programme by her own word in two acts, on
/// record. That covers her account and the programme's vendors alone, and ends with her own opt-out.
#[test]
fn example_d_ramona_who_affirms_keeps_the_programme_for_its_vendors_alone() {
    const TWO: &str = "<!doctype html><html><head><title>Shop</title>\
        <script src=\"https://connect.facebook.net/en_US/fbevents.js\"></script>\
        <script src=\"https://static.criteo.net/js/ld/ld.js\"></script></head>\
        <body><h1>Shop</h1><footer>Shop</footer></body></html>";
    let site = Origin::start().on("/", |x| {
        let cookies = x.request().one("cookie").unwrap_or_default();
        let sid = cookies.split("; ").find_map(|pair| pair.strip_prefix("sid="));
        let account = sid.map_or_else(String::new, |sid| format!("X-Account: {sid}\r\n"));
        x.send(answer(&format!("Content-Type: text/html\r\nETag: \"1\"\r\n{account}"), TWO))
    });
    let builder = business(&site).toml(
        "[programme]\nname = \"Coupons\"\ntext = \"Ads for coupons.\"\nurl = \"/coupons\"\nvendors = [\"meta-pixel\"]\n",
    );
    let data = builder.settings().data_dir;
    let running = optgate::app::start(builder.settings()).unwrap();
    let seen = |browser: &mut Browser| {
        let page = browser.get(SITE, "/");
        let text = page.text();
        let tag = page.head.one("etag").unwrap().to_owned();
        assert!(text.contains("Opt-Out Request Honored"), "{text}");
        // The page's own elements, apart from what the guard's table says.
        let live = |host: &str| text.contains(&format!("<script src=\"https://{host}"));
        (live("connect.facebook.net"), live("static.criteo.net"), tag)
    };
    let mut ramonas = Browser::new(running.listen()[0]).with_gpc();
    log_in(&mut ramonas, "ramona");
    let (coupons, other, before) = seen(&mut ramonas);
    assert_eq!((coupons, other), (false, false), "nobody has asked her yet");
    let page = ramonas.get(SITE, "/privacy-choices").text();
    assert!(page.contains("Your opt-out stands against Coupons") && page.contains("/coupons\""), "{page}");
    let asked = ramonas.post(SITE, "/privacy-choices/programme", "").text();
    let token = asked.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(!seen(&mut ramonas).0, "the first act changes nothing");
    assert_eq!(ramonas.post(SITE, "/privacy-choices/programme/confirm", "token=guessed").status(), 403);
    // A token of the one question is none for the other.
    assert_eq!(
        ramonas.post(SITE, "/privacy-choices/opt-in/confirm", &format!("token={token}")).status(),
        403
    );
    let kept = ramonas.post(SITE, "/privacy-choices/programme/confirm", &format!("token={token}"));
    assert_eq!(kept.status(), 200, "{}", kept.text());
    assert!(kept.text().contains("Opt-Out Request Honored, except for Coupons."), "{}", kept.text());
    let text = kept.text();
    let reference = text.split("<code>").nth(1).unwrap().split("</code>").next().unwrap();
    let receipts = [
        format!("/privacy-choices/receipt/{reference}"),
        format!("/privacy-choices/receipt?reference={reference}"),
    ];
    for receipt in receipts {
        let page = ramonas.get(SITE, &receipt).text();
        assert!(page.contains("Keep a programme in spite of the opt-out"), "{page}");
        assert!(!page.contains("this browser and your account"), "it is the account's alone: {page}");
    }
    let (coupons, other, after) = seen(&mut ramonas);
    assert_eq!((coupons, other), (true, false), "its vendor, and no other");
    // What is said is true of what is on the page, and names companies as people know them.
    let page = ramonas.get(SITE, "/").text();
    assert!(page.contains("Opt-Out Request Honored, except for the programme you keep<"), "{page}");
    let page = ramonas.get(SITE, "/privacy-choices").text();
    assert!(page.contains("Opt-Out Request Honored, except for Coupons."), "{page}");
    assert!(page.contains("with these companies: Meta.") && !page.contains("meta-pixel"), "{page}");
    assert_ne!(before, after, "the two are other bytes");
    assert!(ramonas.get(SITE, "/privacy-choices").text().contains("You chose to keep Coupons"));
    // Without the account it is any browser with a signal (example E), and nobody can keep anything there.
    let mut unknown = Browser::new(running.listen()[0]).with_gpc();
    assert!(!seen(&mut unknown).0);
    assert!(!unknown.get(SITE, "/privacy-choices").text().contains("Coupons"));
    assert_eq!(unknown.post(SITE, "/privacy-choices/programme", "").status(), 403);
    let mut noelles = Browser::new(running.listen()[0]).with_gpc();
    log_in(&mut noelles, "noelle");
    assert!(!seen(&mut noelles).0, "another account is another person");
    // She opts back in, and her browser sends the signal again: the programme does not hide the conflict.
    assert_eq!(ramonas.opt_in(SITE, "").status(), 200);
    ramonas.get(SITE, "/");
    let page = ramonas.get(SITE, "/privacy-choices").text();
    assert!(
        page.contains("You had opted your account back in") && page.contains("except for Coupons"),
        "{page}"
    );
    // Her own opt-out ends it.
    assert_eq!(ramonas.post(SITE, "/privacy-choices/opt-out", "").status(), 200);
    assert!(!seen(&mut ramonas).0);
    assert!(!ramonas.get(SITE, "/").text().contains("except for"), "and everything is as it is said");
    assert!(!ramonas.get(SITE, "/privacy-choices").text().contains("except for"));
    let kinds: Vec<_> = records_of(running, &data).into_iter().map(|r| (r.kind, r.signal)).collect();
    assert!(kinds.contains(&("programme".to_owned(), "form".to_owned())), "{kinds:?}");
}

/// 7025(c)(4): a programme is kept in spite of the account's opt-out. An account that opted back in has none: a browser
/// that is opted out alone is offered nothing that would not be kept.
#[test]
fn a_browsers_own_opt_out_is_no_reason_to_offer_the_programme() {
    let site = site();
    let builder = business(&site)
        .toml("[programme]\nname = \"Coupons\"\ntext = \"Ads for coupons.\"\nvendors = [\"meta-pixel\"]\n");
    let proxy = builder.run();
    let mut away = Browser::new(proxy.addr());
    log_in(&mut away, "noelle");
    away.get(SITE, "/");
    assert_eq!(away.post(SITE, "/privacy-choices/opt-out", "").status(), 200);
    assert!(away.get(SITE, "/privacy-choices").text().contains("Your opt-out stands against Coupons"));
    let mut home = Browser::new(proxy.addr());
    log_in(&mut home, "noelle");
    home.get(SITE, "/");
    assert_eq!(home.opt_in(SITE, "").status(), 200);
    let page = away.get(SITE, "/privacy-choices").text();
    assert!(page.contains("Opt-Out Request Honored") && !page.contains("Coupons"), "{page}");
    assert_eq!(away.post(SITE, "/privacy-choices/programme", "").status(), 403);
}

/// (E): Ramona clears her cookies and comes back with the signal: the business no longer knows her, and honours the
/// signal for the browser and the profile it makes of it.
#[test]
fn example_e_ramona_after_clearing_her_cookies_is_opted_out_on_the_browser_alone() {
    let site = site();
    let proxy = business(&site).run();
    let mut browser = Browser::new(proxy.addr());
    log_in(&mut browser, "ramona");
    assert!(!honoured(&browser.get(SITE, "/")));
    browser.clear();
    browser.gpc = true;
    assert!(honoured(&browser.get(SITE, "/")), "first without a visitor id");
    assert!(honoured(&browser.get(SITE, "/")), "and with the new one");
    browser.gpc = false;
    browser.lose("optgate");
    assert!(honoured(&browser.get(SITE, "/")), "its new profile is opted out");
    let mut other = Browser::new(proxy.addr());
    log_in(&mut other, "ramona");
    assert!(!honoured(&other.get(SITE, "/")), "her account was not named");
}
