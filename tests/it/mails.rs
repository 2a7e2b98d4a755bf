//! 11 CCR 7026(f)(2) by mail: a recipient without an address for programs is told by the site's mail server, with what that
//! said as the receipt; who opted out is said to nobody else on the way.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use data_encoding::BASE64;
use serde_json::Value;

use super::acceptance_choices::{honoured, shop};
use super::recipients::{ANN, Desk, ads, hook, opt_out, site};
use super::support::pki::Authority;
use super::support::smtp::{MailServer, Taken};
use super::support::wait_until;

const COOP: &str =
    "[[recipients]]\nname = \"Co-op\"\nalways = true\ndelay = \"24h\"\nmail = \"privacy@coop.example\"\n";

/// The settings of a server, and more of them.
fn mail(server: &MailServer, more: &str) -> String {
    format!("{COOP}[mail]\nserver = \"{}\"\nfrom = \"privacy@shop.example\"\n{more}\n", server.address())
}

const CLEAR: &str = "tls = \"none\"";

/// What a mail says, as somebody reads it.
fn text(mail: &Taken) -> String {
    let (_, coded) = mail.letter.split_once("\r\n\r\n").unwrap();
    String::from_utf8(BASE64.decode(coded.replace("\r\n", "").as_bytes()).unwrap()).unwrap()
}

fn head<'m>(mail: &'m Taken, name: &str) -> &'m str {
    let (head, _) = mail.letter.split_once("\r\n\r\n").unwrap();
    let line = head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {head}"))
}

/// The only task that is open, once it was tried.
fn tried(desk: &Desk<'_>) -> Value {
    wait_until("it was tried", || desk.open().first().is_some_and(|task| task["error"].is_string()));
    desk.open().remove(0)
}

#[test]
fn a_recipient_is_told_by_mail_and_the_servers_word_is_the_receipt() {
    let (origin, authority) = (shop(&["/"]), Authority::new());
    let server =
        MailServer::with().starttls(authority.leaf("127.0.0.1").server()).logins("LOGIN PLAIN").start();
    let folder = tempfile::tempdir().unwrap();
    let (roots, secret) = (authority.write(folder.path()), folder.path().join("mail.credentials"));
    fs::write(&secret, "shop\nhunter2\n").unwrap();
    let proxy = site(&origin, &mail(&server, &format!("roots = {roots:?}\ncredentials = {secret:?}"))).run();
    let desk = Desk(proxy.dir());
    let reference = opt_out(proxy.addr(), ANN);
    proxy.wait_for_line("optgate_recipients_sent_total 1");
    let [told] = <[Taken; 1]>::try_from(server.taken()).unwrap();
    assert_eq!(
        (told.from.as_str(), told.to.as_str()),
        ("MAIL FROM:<privacy@shop.example>", "RCPT TO:<privacy@coop.example>")
    );
    assert!(told.tls);
    assert_eq!(told.login, Some(BASE64.encode(b"\0shop\0hunter2")));
    let shown = desk.of(&reference);
    let task = &shown["recipients"][0];
    assert_eq!(
        (&task["state"], &task["receipt"]),
        (&"done".into(), &"SMTP 250: 2.0.0 Ok: queued as Q1".into())
    );
    let id = task["task"].as_str().unwrap();
    assert_eq!(head(&told, "Message-ID"), format!("<{id}@shop.example>"));
    assert_eq!(head(&told, "Subject"), format!("Opt-out of sale and sharing, reference {reference}"));
    assert!(head(&told, "Date").ends_with(" +0000") && head(&told, "Auto-Submitted") == "auto-generated");
    let text = text(&told);
    assert!(text.contains("\r\n    ann@example.com\r\n") && text.contains(&format!("naming {id}")), "{text}");
    assert!(told.letter.is_ascii() && told.letter.split("\r\n").all(|line| line.len() <= 78));
    let before_tls: Vec<_> = server.heard().into_iter().take_while(|line| line != "STARTTLS").collect();
    assert_eq!(before_tls, ["EHLO [127.0.0.1]"], "nothing was said of anybody in clear");
    assert!(!desk.ok(&["recipients", "text", id]).contains("ann@"), "nobody needs to know any more");
}

/// A mailbox that is not there is a person's to see to; what is refused for now is tried again as the same mail.
#[test]
fn a_mail_that_is_refused_for_now_is_tried_again_and_one_for_good_stays_open() {
    let origin = shop(&["/"]);
    let server = MailServer::with().refusals(&["451 4.7.1 later", "550 5.1.1 nobody here"]).start();
    let proxy = site(&origin, &mail(&server, CLEAR)).run();
    let desk = Desk(proxy.dir());
    opt_out(proxy.addr(), ANN);
    proxy.wait_for_line("optgate_recipients_stuck 1");
    let task = desk.open().remove(0);
    assert_eq!((&task["state"], &task["error"]), (&"refused".into(), &"SMTP 550: 5.1.1 nobody here".into()));
    assert_eq!(task["tries"], 2);
    let id = task["task"].as_str().unwrap();
    desk.ok(&["recipients", "retry", id]);
    // Something else wakes the sender, as a minute would.
    assert!(honoured(&proxy.get("/", "Sec-GPC: 1\r\nX-Account-Id: bob\r\n")));
    wait_until("both are told", || server.taken().len() == 2);
    let ids: Vec<_> = server.taken().iter().map(|mail| head(mail, "Message-ID").to_owned()).collect();
    assert!(ids.contains(&format!("<{id}@shop.example>")), "{ids:?}");
    proxy.wait_for_line("optgate_recipients_open 0");
}

/// The server's word is that it took the mail. One that comes back a day later was not read: the task is open again, by
/// the id that the bounce quotes, and says what is left to do.
#[test]
fn a_mail_that_came_back_is_open_again() {
    let origin = shop(&["/"]);
    let server = MailServer::with().start();
    let proxy = site(&origin, &mail(&server, CLEAR)).run();
    let desk = Desk(proxy.dir());
    let reference = opt_out(proxy.addr(), ANN);
    proxy.wait_for_line("optgate_recipients_sent_total 1");
    let id = desk.of(&reference)["recipients"][0]["task"].as_str().unwrap().to_owned();
    let refused = |args: &[&str], words: &str| {
        let said = desk.ledger(args);
        assert!(said.err.contains(words), "{}", said.err);
    };
    refused(&["recipients", "bounced", &id, "--reason", " "], "--reason is 1 to 500 characters");
    refused(
        &["recipients", "bounced", "nobody", "--reason", "550"],
        "there is no mail nobody that was taken",
    );
    desk.ok(&["recipients", "bounced", &id, "--reason", "550 mailbox full"]);
    let task = desk.open().remove(0);
    assert_eq!((&task["state"], &task["error"]), (&"refused".into(), &"came back: 550 mailbox full".into()));
    assert_eq!(desk.of(&reference)["recipients"][0]["receipt"], Value::Null, "nobody was told");
    refused(&["recipients", "bounced", &id, "--reason", "550"], "that was taken");
    // The account's name went with the receipt: the bounce quotes it, and a person sees to it.
    desk.ok(&["recipients", "retry", &id]);
    assert!(honoured(&proxy.get("/", "Sec-GPC: 1\r\nX-Account-Id: bob\r\n")));
    wait_until("it is a person's", || desk.open().iter().any(|task| task["state"] == "unnamed"));
    desk.ok(&["recipients", "done", &id, "--receipt", "written by hand"]);
}

/// Whose opt-out it is is said to nobody but a server whose certificate leads to the roots, and under TLS alone.
#[test]
fn a_mail_server_that_cannot_be_verified_hears_nothing_of_anybody() {
    let (origin, authority, stranger) = (shop(&["/"]), Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let roots = format!("roots = {:?}", authority.write(folder.path()));
    let of = |authority: &Authority| authority.leaf("127.0.0.1").server();
    for (server, more, why) in [
        (MailServer::with().starttls(of(&stranger)).start(), roots.clone(), "cannot be verified"),
        (
            MailServer::with().implicit(of(&stranger)).start(),
            format!("{roots}\ntls = \"implicit\""),
            "cannot be verified",
        ),
        (MailServer::with().start(), roots.clone(), "answered STARTTLS with SMTP 502"),
        (
            MailServer::with().starttls(of(&authority)).injected("250 ok\r\n").start(),
            roots.clone(),
            "went on in clear",
        ),
    ] {
        let proxy = site(&origin, &mail(&server, &more)).run();
        let desk = Desk(proxy.dir());
        opt_out(proxy.addr(), ANN);
        let task = tried(&desk);
        assert!(task["error"].as_str().unwrap().contains(why), "{task}");
        assert_eq!(task["state"], "open");
        let heard = server.heard();
        assert!(heard.iter().all(|line| line.starts_with("EHLO ") || line == "STARTTLS"), "{heard:?}");
        assert!(server.taken().is_empty());
    }
}

/// TLS from the first byte, and the other way to log in; a server that takes neither is told nothing.
#[test]
fn a_mail_goes_out_by_either_way_to_log_in() {
    let (origin, authority) = (shop(&["/"]), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let (roots, secret) = (authority.write(folder.path()), folder.path().join("mail.credentials"));
    fs::write(&secret, "shop\r\nhunter2").unwrap();
    let settings = format!("roots = {roots:?}\ncredentials = {secret:?}\ntls = \"implicit\"");
    for (logins, expected) in [("LOGIN", Some("c2hvcA== aHVudGVyMg==")), ("CRAM-MD5", None)] {
        let server = MailServer::with().implicit(authority.leaf("127.0.0.1").server()).logins(logins).start();
        let proxy = site(&origin, &mail(&server, &settings)).run();
        opt_out(proxy.addr(), ANN);
        match expected {
            Some(login) => {
                proxy.wait_for_line("optgate_recipients_sent_total 1");
                assert_eq!(server.taken()[0].login.as_deref(), Some(login));
            }
            None => {
                let task = tried(&Desk(proxy.dir()));
                assert!(task["error"].as_str().unwrap().contains("no password by PLAIN or LOGIN"), "{task}");
                assert!(!task.to_string().contains("hunter2"));
            }
        }
    }
}

#[test]
fn mail_settings_that_cannot_be_are_refused_with_a_hint() {
    let origin = shop(&["/"]);
    let from = "from = \"privacy@shop.example\"";
    for (settings, hint) in [
        (
            format!("server = \"smtp.example.com\"\n{from}\ntls = \"none\""),
            "write \"starttls\" or \"implicit\"",
        ),
        (format!("server = \"smtp example com\"\n{from}"), "is no server"),
        ("server = \"smtp.example.com\"".to_owned(), "`mail.from` is missing"),
        (
            "server = \"smtp.example.com\"\nfrom = \"a@b>\"".to_owned(),
            "`mail.from` is missing, or no mail address",
        ),
        (from.to_owned(), "add `mail.server`"),
        (
            format!("server = \"smtp.example.com\"\n{from}\ncredentials = \"nowhere\""),
            "`mail.credentials` cannot be read",
        ),
    ] {
        let file = site(&origin, &format!("[mail]\n{settings}\n"));
        let output = Command::new(env!("CARGO_BIN_EXE_optgate"))
            .args(["check", "--config"])
            .arg(file.write())
            .output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{settings}: {said}");
        assert!(said.contains(hint), "{settings}: {said}");
    }
}

/// A mail server may take minutes over one mail. Nobody else waits for it, and neither does an opt-out that comes meanwhile.
#[test]
fn a_mail_server_that_is_silent_holds_up_no_other_recipient() {
    let (origin, ads, silent) = (shop(&["/"]), ads(&[]), TcpListener::bind("127.0.0.1:0").unwrap());
    let more = format!(
        "{COOP}[[recipients]]\nname = \"Ads\"\nalways = true\ndelay = \"24h\"\n{}\n[mail]\nserver = \"{}\"\n\
         from = \"privacy@shop.example\"\n{CLEAR}\n",
        hook(&ads),
        silent.local_addr().unwrap()
    );
    let proxy = site(&origin, &more).run();
    opt_out(proxy.addr(), ANN);
    let _line = silent.accept().unwrap();
    proxy.wait_for_line("optgate_recipients_sent_total 1");
    opt_out(proxy.addr(), "X-Account-Id: bob\r\n");
    proxy.wait_for_line("optgate_recipients_sent_total 2");
    let open = Desk(proxy.dir()).open();
    let mails: Vec<_> = open.iter().map(|task| (&task["recipient"], &task["tries"])).collect();
    assert_eq!(
        mails,
        [(&"Co-op".into(), &0.into()), (&"Co-op".into(), &0.into())],
        "the first is on its way"
    );
}
