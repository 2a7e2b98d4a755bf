//! 11 CCR 7026(f)(2): whoever got a consumer's data between the request to opt out and its effect is told of it, with a
//! receipt, whatever happens to the process in between.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use data_encoding::BASE64;
use rustix::process::Signal;
use serde_json::Value;

use super::acceptance_choices::{honoured, post, shop};
use super::support::binary::{Binary, own_address, serving};
use super::support::origin::{Origin, Recorded};
use super::support::pki::Authority;
use super::support::proxy::{Builder, figure, proxy};
use super::support::wait_until;

pub(super) const ANN: &str = "X-Account-Id: ann@example.com\r\n";
const GPC: &str = "Sec-GPC: 1\r\n";
const OPT_OUT: &str = "/privacy-choices/opt-out";

/// A recipient's server: it answers the first requests with these statuses, and takes what comes after.
pub(super) fn ads(refusals: &[&'static str]) -> Origin {
    ads_at(Origin::start(), refusals)
}

fn ads_at(server: Origin, refusals: &[&'static str]) -> Origin {
    let (refusals, asked) = (refusals.to_vec(), Arc::new(AtomicUsize::new(0)));
    server.on("/hook", move |x| {
        x.body()?;
        match refusals.get(asked.fetch_add(1, Ordering::SeqCst)) {
            Some(status) => x.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")),
            None => x.ok("application/json", br#"{"receipt":"r-77"}"#),
        }
    })
}

pub(super) fn hook(ads: &Origin) -> String {
    format!("webhook = \"{}/hook\"", ads.url())
}

/// A site whose accounts a trusted hop names; `recipients` in the words of a settings file.
pub(super) fn site(origin: &Origin, recipients: &str) -> Builder {
    with_accounts(proxy().to(origin), recipients)
}

fn with_accounts(builder: Builder, recipients: &str) -> Builder {
    builder.toml(&format!(
        "trusted_proxies = [\"127.0.0.0/8\"]\n[account]\nheader = \"x-account-id\"\n{recipients}\n"
    ))
}

/// What a verb said.
pub(super) struct Said {
    code: Option<i32>,
    out: String,
    pub(super) err: String,
}

/// What a person types about a folder with settings and data.
pub(super) struct Desk<'a>(pub(super) &'a Path);

impl Desk<'_> {
    pub(super) fn ledger(&self, args: &[&str]) -> Said {
        let file = self.0.join("optgate.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_optgate"));
        let output = command.arg("ledger").args(args).arg("--config").arg(file).output().unwrap();
        Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(super) fn ok(&self, args: &[&str]) -> String {
        let said = self.ledger(args);
        assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
        said.out
    }

    /// One opt-out, as JSON.
    pub(super) fn of(&self, reference: &str) -> Value {
        serde_json::from_str(&self.ok(&["recipients", reference, "--format", "json"])).unwrap()
    }

    /// Every open task, as JSON.
    pub(super) fn open(&self) -> Vec<Value> {
        let out = self.ok(&["recipients", "--format", "json"]);
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Imports rows below a head line.
    fn import(&self, head: &str, rows: &str) -> Said {
        let file = self.0.join("drop.csv");
        fs::write(&file, format!("{head}\n{rows}")).unwrap();
        self.ledger(&["import", "--source", "agent", file.to_str().unwrap()])
    }

    /// References of the records so far.
    fn references(&self) -> Vec<String> {
        let out = self.ok(&["export"]);
        let reference = |line: &str| serde_json::from_str::<Value>(line).unwrap()["reference"].clone();
        out.lines().map(|line| reference(line).as_str().unwrap().to_owned()).collect()
    }

    /// The days on which vendors were seen, as they are in the file, once there are any.
    fn windows(&self) -> Vec<(String, String, i64, i64)> {
        let all =
            || self.query("SELECT site, vendor, first_day, last_day FROM windows ORDER BY site, vendor");
        wait_until("a window is kept", || !all().is_empty());
        all()
    }

    fn query<R>(&self, sql: &'static str) -> Vec<R>
    where
        R: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> + Send + Unpin,
    {
        // It is made when there is something to keep.
        self.asked(sql, true).unwrap_or_default()
    }

    /// Something that nobody can type: time that passed.
    fn change<R>(&self, sql: &'static str) -> Vec<R>
    where
        R: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> + Send + Unpin,
    {
        self.asked(sql, false).unwrap()
    }

    fn asked<R>(&self, sql: &'static str, read_only: bool) -> sqlx::Result<Vec<R>>
    where
        R: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> + Send + Unpin,
    {
        use sqlx::{ConnectOptions as _, Connection as _};
        let path = self.0.join("data/recipients.sqlite3");
        block_on(async {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(read_only);
            let mut connection = options.connect().await?;
            let rows = sqlx::query_as::<_, R>(sql).fetch_all(&mut connection).await?;
            connection.close().await?;
            Ok(rows)
        })
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// The reference of an opt-out by form of an account.
pub(super) fn opt_out(addr: SocketAddr, account: &str) -> String {
    let answer = post(addr, OPT_OUT, &format!("{account}Accept: application/json\r\n"), "");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let body: Value = serde_json::from_str(&answer.text()).unwrap();
    body["reference"].as_str().unwrap().to_owned()
}

fn data_of(message: &Recorded) -> Value {
    serde_json::from_slice::<Value>(&message.body).unwrap()["data"].clone()
}

fn id_of(message: &Recorded) -> String {
    message.one("webhook-id").unwrap()
}

/// Standard Webhooks 1.0.0: a signed message with a receipt. The id is the same when it is sent again, what is
/// signed is the id, the time and the body, and the key is the one that `ledger key` prints.
#[test]
fn a_recipient_that_failed_is_told_again_by_the_same_message_and_its_receipt_is_kept() {
    let (origin, ads) = (shop(&["/"]), ads(&["503 Busy", "302 Found"]));
    let recipient = format!("[[recipients]]\nname = \"Example Ads\"\nalways = true\n{}", hook(&ads));
    let proxy = site(&origin, &recipient).run();
    let desk = Desk(proxy.dir());
    let reference = opt_out(proxy.addr(), ANN);
    let messages = ads.seen(3);
    assert_eq!(ads.heads(), 3, "a redirect is not followed");
    assert_eq!((id_of(&messages[1]), id_of(&messages[2])), (id_of(&messages[0]), id_of(&messages[0])));
    assert_eq!(messages[2].body, messages[0].body);
    let key = desk.ok(&["key"]);
    let der = BASE64.decode(key.lines().nth(1).unwrap().as_bytes()).unwrap();
    let key = UnparsedPublicKey::new(&ED25519, &der[12..]);
    for message in &messages {
        let (id, at) = (id_of(message), message.one("webhook-timestamp").unwrap());
        let signed = [format!("{id}.{at}.").as_bytes(), &message.body].concat();
        let signature = message.one("webhook-signature").unwrap();
        let signature = BASE64.decode(signature.strip_prefix("v1a,").unwrap().as_bytes()).unwrap();
        key.verify(&signed, &signature).unwrap();
        assert_eq!(message.one("content-type").as_deref(), Some("application/json"));
    }
    let data = data_of(&messages[2]);
    assert_eq!(data["who"]["account"], "ann@example.com");
    assert_eq!((&data["reference"], &data["recipient"]), (&reference.clone().into(), &"Example Ads".into()));
    assert_eq!(data["requested_at"], data["effective_at"], "a form of the account takes effect at once");
    assert!(data["direction"].as_str().unwrap().contains("7026(f)"), "{data}");
    proxy.wait_for_line("optgate_recipients_sent_total 1");
    proxy.wait_for_line("optgate_recipients_open 0");
    assert_eq!(figure(&proxy.running().metrics().render(), "optgate_recipients_failed_total"), Some(2));
    let shown = desk.of(&reference);
    let task = &shown["recipients"][0];
    assert_eq!((&task["state"], &task["receipt"]), (&"done".into(), &"HTTP 200: r-77".into()), "{shown}");
    assert_eq!((&task["tries"], &shown["at_once"]), (&3.into(), &true.into()), "{shown}");
    assert!(!shown.to_string().contains("ann@"), "a list never says whose it is: {shown}");
    assert!(desk.open().is_empty());
    let kept: Vec<(i64,)> = desk.query("SELECT count(*) FROM requests WHERE who IS NOT NULL");
    assert_eq!(kept, [(0,)], "with the receipt nobody needs to know any more who it was");
    // Opting out once more changes nothing that anybody had to be told.
    opt_out(proxy.addr(), ANN);
    opt_out(proxy.addr(), "X-Account-Id: bob\r\n");
    assert_eq!(data_of(&ads.seen(4)[3])["who"]["account"], "bob");
    proxy.wait_for_line("optgate_recipients_sent_total 2");
}

/// An opt-out by import lists who got data since the request. Days come from what opted-out pages
/// lost, outlast a restart, and count for the vendors that the settings name.
#[test]
fn an_imported_request_lists_and_tells_whoever_was_on_the_site_since() {
    let (origin, ads) = (shop(&["/"]), ads(&[]));
    let recipients = format!(
        "[[recipients]]\nname = \"Pixels\"\nvendors = [\"meta-pixel\"]\n{}\n\
         [[recipients]]\nname = \"Others\"\nvendors = [\"hotjar\"]\nmail = \"privacy@others.example\"\n",
        hook(&ads)
    );
    let proxy = site(&origin, &recipients).run();
    assert!(!Desk(proxy.dir()).0.join("data/recipients.sqlite3").exists(), "nothing to keep yet");
    assert!(honoured(&proxy.get("/", GPC)));
    let windows = Desk(proxy.dir()).windows();
    let today = jiff::Timestamp::now().as_second().div_euclid(86_400);
    assert!(
        windows.iter().any(|(_, vendor, first, last)| vendor == "meta-pixel" && first == last),
        "{windows:?}"
    );
    assert!(windows.iter().all(|(_, _, _, last)| (today - 1..=today).contains(last)), "{windows:?}");
    let kept = proxy.stop();
    let desk = Desk(kept.path());
    assert_eq!(desk.windows(), windows, "over a restart");
    let site = windows[0].0.clone();
    let now = jiff::Timestamp::now().as_second();
    let days_ago = |days: i64| {
        let then = now - days * 86_400;
        jiff::Timestamp::from_second(then).unwrap().to_string()
    };
    let rows = format!(
        "ann@example.com,{site},2026-11-20,{}\nold,{site},2026-11-20,{}\n",
        days_ago(3),
        days_ago(30)
    );
    let said = desk.import("account,site,date,requested_at", &rows);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let references = desk.references();
    let shown = desk.of(&references[1]);
    assert!(shown["vendors"].as_array().unwrap().contains(&"meta-pixel".into()), "{shown}");
    assert_eq!((&shown["at_once"], &shown["recipients"][0]["recipient"]), (&false.into(), &"Pixels".into()));
    assert_eq!(shown["recipients"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(shown["requested_at"], days_ago(3).as_str(), "{shown}");
    let text = desk.ok(&["recipients", &references[1]]);
    assert!(text.contains("meta-pixel") && text.contains("to be told:\n  msg_"), "{text}");
    let browser = desk.ok(&["recipients", &references[0]]);
    assert!(
        browser.contains("(effective at once)") && browser.contains("a browser has no name"),
        "{browser}"
    );
    // Without the file's own proof nothing else could be believed: the journal is what it was.
    assert!(desk.ok(&["verify"]).contains("records: 3\n"));
    let addr = own_address();
    let binary = Binary::of(serving(&kept.path().join("optgate.toml"), addr), addr, kept);
    let messages = ads.seen(2);
    let mut told: Vec<_> = messages.iter().map(|m| data_of(m)["who"]["account"].clone()).collect();
    told.sort_by_key(ToString::to_string);
    assert_eq!(told, ["ann@example.com", "old"]);
    assert_eq!(data_of(&messages[0])["vendors"], serde_json::json!(["meta-pixel"]));
    drop(binary);
}

/// What only a filter list names has no company's id: it counts together, and who stands for all of it is told.
#[test]
fn a_recipient_can_stand_for_whatever_only_the_lists_name() {
    let page =
        b"<!doctype html><title>Shop</title><script src=\"https://ads.unlisted.example/tag.js\"></script>";
    let origin = Origin::start().on("/", |x| x.ok("text/html", page));
    let listed = "lists = [{ file = \"ads.txt\", role = \"block\" }]\n";
    let one = |name: &str, vendor: &str| {
        format!(
            "[[recipients]]\nname = \"{name}\"\nvendors = [\"{vendor}\"]\nmail = \"privacy@ads.example\"\n"
        )
    };
    let recipients = &(one("Listed", "operator-list") + &one("Others", "unknown-third-party"));
    let builder = with_accounts(proxy().to(&origin).toml(listed), recipients);
    fs::write(builder.dir().join("ads.txt"), "||ads.unlisted.example^\n").unwrap();
    let proxy = builder.run();
    assert!(!proxy.get("/", GPC).text().contains("ads.unlisted.example"));
    let windows = Desk(proxy.dir()).windows();
    assert_eq!(windows.iter().map(|window| window.1.as_str()).collect::<Vec<_>>(), ["operator-list"]);
    let site = windows[0].0.clone();
    let kept = proxy.stop();
    let desk = Desk(kept.path());
    let then = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - 3 * 86_400).unwrap();
    let said = desk.import("account,site,date,requested_at", &format!("ann,{site},2026-11-20,{then}\n"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let shown = desk.of(desk.references().last().unwrap());
    assert_eq!(shown["vendors"], serde_json::json!(["operator-list"]), "{shown}");
    let told: Vec<_> = shown["recipients"].as_array().unwrap().iter().map(|one| &one["recipient"]).collect();
    assert_eq!(told, [&Value::from("Listed")], "{shown}");
}

/// Retries that nothing ends. Killed between two tries, the next process sends the same message.
#[test]
fn a_message_outlives_the_process_by_its_id_killed_or_stopped() {
    for signal in [Signal::KILL, Signal::TERM] {
        let (origin, ads) = (shop(&["/"]), ads(&["500 Broken"]));
        let recipient = format!("[[recipients]]\nname = \"Ads\"\nalways = true\n{}", hook(&ads));
        let builder = site(&origin, &recipient);
        let (folder, addr) = (builder.dir().to_owned(), own_address());
        let file = builder.write();
        let dir = builder.into_dir();
        let mut first = Binary::of(serving(&file, addr), addr, tempfile::tempdir().unwrap());
        let reference = opt_out(addr, ANN);
        let before = ads.seen(1);
        first.signal(signal);
        first.wait();
        let second = Binary::of(serving(&file, addr), addr, dir);
        let messages = ads.seen(2);
        assert_eq!(id_of(&messages[1]), id_of(&before[0]));
        assert_eq!(messages[1].body, before[0].body);
        assert_eq!(data_of(&messages[1])["reference"], reference.as_str());
        wait_until("the receipt is kept", || Desk(&folder).open().is_empty());
        drop(second);
    }
}

/// The record is there and the process was killed before the request knew of it: it is found by its account.
#[test]
fn a_request_whose_record_was_not_named_finds_it() {
    let (origin, ads) = (shop(&["/"]), ads(&[]));
    let recipient = format!("[[recipients]]\nname = \"Ads\"\nalways = true\n{}", hook(&ads));
    // A signal's record is never named to the request, so that it takes the same way.
    let proxy = site(&origin, &recipient).run();
    assert!(honoured(&proxy.get("/", &format!("{GPC}{ANN}"))));
    let message = ads.first();
    let data = data_of(&message);
    assert_eq!(data["who"]["account"], "ann@example.com");
    proxy.wait_for_line("optgate_recipients_sent_total 1");
    let reference = data["reference"].as_str().unwrap();
    assert_eq!(Desk(proxy.dir()).references(), [reference]);
    assert_eq!(Desk(proxy.dir()).of(reference)["at_once"], true);
    // The account is opted out already: nothing is new to anybody.
    assert!(honoured(&proxy.get("/", &format!("{GPC}{ANN}"))));
    assert!(honoured(&proxy.get("/", &format!("{GPC}X-Account-Id: bob\r\n"))));
    assert_eq!(data_of(&ads.seen(2)[1])["who"]["account"], "bob");
}

/// 11 CCR 7026(f)(2): while the record could not be saved, the account's other browsers went on: the gap is real, and
/// lasts from the first try.
#[test]
fn a_form_that_could_be_recorded_later_only_leaves_a_gap() {
    let origin = shop(&["/"]);
    for recipient in
        ["", "[[recipients]]\nname = \"Ads\"\nvendors = [\"meta-pixel\"]\nmail = \"a@ads.example\"\n"]
    {
        let proxy = site(&origin, recipient).run();
        let desk = Desk(proxy.dir());
        assert!(honoured(&proxy.get("/", GPC)));
        assert!(!desk.windows().is_empty());
        let journal = Blocked::journal(proxy.dir());
        let answer = post(proxy.addr(), OPT_OUT, ANN, "");
        assert_eq!(answer.status(), 503, "{}", answer.text());
        drop(journal);
        wait_until("the journal can write", || post(proxy.addr(), OPT_OUT, ANN, "").status() == 200);
        let planned = || desk.query::<(String,)>("SELECT reference FROM requests WHERE planned = 1");
        wait_until("it is planned", || !planned().is_empty());
        let shown = desk.of(&planned()[0].0);
        assert_eq!(shown["at_once"], false, "{shown}");
        assert!(shown["vendors"].as_array().unwrap().contains(&"meta-pixel".into()), "{shown}");
        let told = shown["recipients"].as_array().unwrap().len();
        assert_eq!(told, usize::from(!recipient.is_empty()), "{shown}");
        let nobody = shown["vendors_without_recipient"].as_array().unwrap().contains(&"meta-pixel".into());
        assert_eq!(nobody, recipient.is_empty(), "{shown}");
    }
}

/// Another program that holds the journal's lock, so that it cannot be written.
struct Blocked {
    release: Option<std::sync::mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Blocked {
    fn journal(dir: &Path) -> Self {
        use sqlx::{ConnectOptions as _, Connection as _};
        let path = dir.join("data/journal.sqlite3");
        let (release, released) = std::sync::mpsc::channel();
        let (locked, lock) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            block_on(async {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let mut connection = options.connect().await.unwrap();
                sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
                locked.send(()).unwrap();
                // The other end goes when the test is done with it.
                let _ = released.recv();
                sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            });
        });
        lock.recv().unwrap();
        Self { release: Some(release), thread: Some(thread) }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        drop(self.release.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A recipient without an address for programs is a task for a person: a ready text, the only one that says whose it is,
/// and a receipt of theirs.
#[test]
fn a_person_tells_a_recipient_by_mail_and_notes_it() {
    let origin = shop(&["/"]);
    let recipient =
        "[[recipients]]\nname = \"Co-op\"\nalways = true\ndelay = \"24h\"\nmail = \"privacy@coop.example\"\n";
    let proxy = site(&origin, recipient).run();
    let desk = Desk(proxy.dir());
    let reference = opt_out(proxy.addr(), ANN);
    proxy.wait_for_line("optgate_recipients_open 1");
    let task = desk.open().remove(0);
    let id = task["task"].as_str().unwrap();
    assert_eq!((&task["reference"], &task["state"]), (&reference.clone().into(), &"open".into()));
    let list = desk.ok(&["recipients"]);
    assert!(list.contains(&format!("ledger recipients text {id}")) && !list.contains("ann@"), "{list}");
    let text = desk.ok(&["recipients", "text", id]);
    assert!(
        text.starts_with("To: privacy@coop.example\n") && text.contains("\n    ann@example.com\n"),
        "{text}"
    );
    assert!(text.contains(&reference) && text.contains(id), "{text}");
    assert!(desk.ledger(&["recipients", "done", id, "--receipt", " "]).err.contains("1 to 500 characters"));
    assert!(
        desk.ledger(&["recipients", "done", "msg_x", "--receipt", "x"]).err.contains("no open task msg_x")
    );
    desk.ok(&["recipients", "done", id, "--receipt", "mail of Tuesday"]);
    let shown = desk.of(&reference);
    let told = &shown["recipients"][0];
    assert_eq!((&told["state"], &told["receipt"]), (&"done".into(), &"mail of Tuesday".into()), "{shown}");
    assert!(!desk.ok(&["recipients", "text", id]).contains("ann@"), "nobody needs to know any more");
    assert!(desk.open().is_empty());
}

/// Standard Webhooks: 410 wants no more; another refusal is tried again; both stay open, and a person can have them sent
/// once more.
#[test]
fn a_refusal_is_named_and_stays_open() {
    let (origin, ads) = (shop(&["/"]), ads(&["404 Not Found", "410 Gone"]));
    let recipient = format!("[[recipients]]\nname = \"Ads\"\nalways = true\n{}", hook(&ads));
    let proxy = site(&origin, &recipient).run();
    let desk = Desk(proxy.dir());
    opt_out(proxy.addr(), ANN);
    assert_eq!(ads.seen(2).len(), 2);
    proxy.wait_for_line("optgate_recipients_stuck 1");
    let task = desk.open().remove(0);
    assert_eq!(
        (&task["state"], &task["error"]),
        (&"refused".into(), &"it refused with 410".into()),
        "{task}"
    );
    let id = task["task"].as_str().unwrap();
    desk.ok(&["recipients", "retry", id]);
    // Something else wakes the sender, as a minute would.
    assert!(honoured(&proxy.get("/", &format!("{GPC}X-Account-Id: bob\r\n"))));
    let messages = ads.seen(4);
    assert!(messages.iter().filter(|message| id_of(message) == id).count() == 3, "{messages:?}");
    proxy.wait_for_line("optgate_recipients_open 0");
    assert!(desk.ledger(&["recipients", "retry", id]).err.contains("can be sent again"));
}

/// Whose opt-out it is goes to nobody who is not the recipient: its certificate must lead to `roots`, or to the system's
/// roots without them. Until it does, the message waits.
#[test]
fn a_recipient_is_told_over_tls_that_leads_to_its_roots_and_to_no_other() {
    let (origin, authority, stranger) = (shop(&["/"]), Authority::new(), Authority::new());
    let ads = ads_at(Origin::start_tls(authority.leaf("127.0.0.1").server()), &[]);
    let builder = proxy();
    let folder = |name: &str| {
        let folder = builder.dir().join(name);
        fs::create_dir(&folder).unwrap();
        folder
    };
    let (own, other) = (authority.write(&folder("own")), stranger.write(&folder("other")));
    let of = |name: &str, roots: &str| {
        format!("[[recipients]]\nname = \"{name}\"\nalways = true\n{}\n{roots}\n", hook(&ads))
    };
    let recipients = [
        of("own roots", &format!("roots = {own:?}")),
        of("other roots", &format!("roots = {other:?}")),
        of("the system's", ""),
    ];
    let proxy = with_accounts(builder.to(&origin), &recipients.concat()).run();
    let desk = Desk(proxy.dir());
    let reference = opt_out(proxy.addr(), ANN);
    assert_eq!(data_of(&ads.first())["recipient"], "own roots");
    proxy.wait_for_line("optgate_recipients_sent_total 1");
    let failed = || desk.open().iter().filter(|task| task["error"].is_string()).count();
    wait_until("both others were tried", || failed() == 2);
    for task in desk.open() {
        let error = task["error"].as_str().unwrap();
        assert!(error.contains("certificate"), "{task}");
        assert_eq!((&task["state"], &task["reference"]), (&"open".into(), &reference.clone().into()));
    }
    let to: Vec<_> = ads.seen(1).iter().map(|message| data_of(message)["recipient"].clone()).collect();
    assert_eq!(to, ["own roots"], "nobody else was told");
}

/// 11 CCR 7101: told and older than records are kept, it goes with them: by order, and by the day.
#[test]
fn what_recipients_were_told_is_pruned_with_the_records() {
    let (origin, ads) = (shop(&["/"]), ads(&[]));
    let recipient = format!("[[recipients]]\nname = \"Ads\"\nalways = true\n{}", hook(&ads));
    let proxy = site(&origin, &recipient).run();
    let desk = Desk(proxy.dir());
    opt_out(proxy.addr(), ANN);
    assert!(honoured(&proxy.get("/", GPC)));
    proxy.wait_for_line("optgate_recipients_sent_total 1");
    assert!(!desk.windows().is_empty());
    let kept =
        || desk.query::<(i64, i64)>("SELECT (SELECT count(*) FROM requests), (SELECT count(*) FROM tasks)");
    let day = |days: i64| {
        let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        then.to_string()[..10].to_owned()
    };
    desk.ok(&["prune", "--before", &day(2), "--dry-run"]);
    desk.ok(&["prune", "--force", "--before", &day(-1)]);
    assert_eq!(kept(), [(1, 1)], "neither counted for gone nor old");
    desk.ok(&["prune", "--force", "--before", &day(2)]);
    assert_eq!(kept(), [(0, 0)]);
    let windows = || desk.query::<(i64,)>("SELECT count(*) FROM windows");
    assert_eq!(windows(), [(0,)]);
}

/// `store.retention`: a server prunes them by itself, once a day.
#[test]
fn a_server_prunes_what_recipients_were_told_by_itself() {
    let (origin, ads) = (shop(&["/"]), ads(&[]));
    let recipient = format!("[[recipients]]\nname = \"Ads\"\nalways = true\n{}", hook(&ads));
    let builder = site(&origin, &format!("{recipient}\n[store]\nretention = \"731d\"\n"));
    let proxy = builder.run();
    opt_out(proxy.addr(), ANN);
    opt_out(proxy.addr(), "X-Account-Id: bob\r\n");
    proxy.wait_for_line("optgate_recipients_sent_total 2");
    let kept = proxy.stop();
    let desk = Desk(kept.path());
    let ages = "UPDATE requests SET requested_us = requested_us - 63244800000000, \
                effective_us = effective_us - 63244800000000 WHERE id = 1 RETURNING id";
    assert_eq!(desk.change::<(i64,)>(ages), [(1,)]);
    let addr = own_address();
    let _binary =
        Binary::of(serving(&kept.path().join("optgate.toml"), addr), addr, tempfile::tempdir().unwrap());
    let left = || desk.query::<(i64,)>("SELECT id FROM requests");
    wait_until("what is 732 days old is pruned", || left().len() < 2);
    assert_eq!(left(), [(2,)]);
}

/// Erasure takes what was kept to tell others; the sealed name is not in the file before either.
#[test]
fn an_erased_account_is_told_to_nobody_and_its_name_never_lay_open() {
    let origin = shop(&["/"]);
    let recipient = "[[recipients]]\nname = \"Co-op\"\nalways = true\nmail = \"privacy@coop.example\"\n";
    let proxy = site(&origin, recipient).run();
    opt_out(proxy.addr(), ANN);
    opt_out(proxy.addr(), "X-Account-Id: bob@example.com\r\n");
    proxy.wait_for_line("optgate_recipients_open 2");
    let kept = proxy.stop();
    let data = kept.path().join("data");
    let desk = Desk(kept.path());
    let bytes = fs::read(data.join("recipients.sqlite3")).unwrap();
    assert!(!bytes.windows(4).any(|part| part == b"ann@"), "sealed at rest");
    let site: Vec<(String,)> = desk.query("SELECT site FROM requests LIMIT 1");
    desk.ok(&["erase", "--site", &site[0].0, "--account", "ann@example.com"]);
    let open = desk.open();
    assert_eq!(open.len(), 1, "{open:?}");
    let left: Vec<(i64,)> = desk.query("SELECT count(*) FROM requests");
    assert_eq!(left, [(1,)]);
    let text = desk.ok(&["recipients", "text", open[0]["task"].as_str().unwrap()]);
    assert!(text.contains("bob@example.com"), "{text}");
}

/// A rotated secret opens what the one before it sealed; retired, nothing of it is needed any more.
#[test]
fn a_sealed_name_outlives_its_secret() {
    let origin = shop(&["/"]);
    let recipient = "[[recipients]]\nname = \"Co-op\"\nalways = true\nmail = \"privacy@coop.example\"\n";
    let proxy = site(&origin, recipient).run();
    opt_out(proxy.addr(), ANN);
    proxy.wait_for_line("optgate_recipients_open 1");
    let kept = proxy.stop();
    let data = kept.path().join("data");
    let desk = Desk(kept.path());
    let id = desk.open()[0]["task"].as_str().unwrap().to_owned();
    let keys = |verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_optgate"));
        command.args(["keys", verb, "--data-dir"]).arg(&data).output().unwrap()
    };
    assert!(keys("rotate").status.success());
    assert!(desk.ok(&["recipients", "text", &id]).contains("ann@example.com"));
    // It refuses, for the account itself is known under the earlier secret alone; the name is sealed anew all the same.
    keys("retire");
    let secrets = fs::read_to_string(data.join("secret.key")).unwrap();
    fs::write(data.join("secret.key"), format!("{}\n", secrets.lines().next().unwrap())).unwrap();
    assert!(desk.ok(&["recipients", "text", &id]).contains("ann@example.com"));
}

/// A backup has the tasks, a restore puts them in place, and never over others.
#[test]
fn tasks_are_in_a_backup_and_come_back_with_it() {
    let origin = shop(&["/"]);
    let recipient = "[[recipients]]\nname = \"Co-op\"\nalways = true\nmail = \"privacy@coop.example\"\n";
    let proxy = site(&origin, recipient).run();
    let reference = opt_out(proxy.addr(), ANN);
    proxy.wait_for_line("optgate_recipients_open 1");
    let to = proxy.dir().join("copy");
    Desk(proxy.dir()).ok(&["backup", to.to_str().unwrap(), "--with-keys"]);
    let other = tempfile::tempdir().unwrap();
    let settings = format!("upstream = {:?}\ndata_dir = {:?}\n", origin.url(), other.path().join("data"));
    fs::write(other.path().join("optgate.toml"), settings).unwrap();
    let desk = Desk(other.path());
    fs::create_dir(other.path().join("data")).unwrap();
    fs::write(other.path().join("data/recipients.sqlite3"), "somebody's").unwrap();
    assert!(desk.ledger(&["restore", to.to_str().unwrap()]).err.contains("it is not overwritten"));
    fs::remove_file(other.path().join("data/recipients.sqlite3")).unwrap();
    desk.ok(&["restore", to.to_str().unwrap()]);
    let open = desk.open();
    assert_eq!((open.len(), &open[0]["reference"]), (1, &reference.into()), "{open:?}");
    assert!(desk.ok(&["recipients", "text", open[0]["task"].as_str().unwrap()]).contains("ann@example.com"));
}

/// An account that is known by its hash alone cannot be named: the recipient is a person's to tell, not nobody's.
#[test]
fn an_account_that_nobody_can_name_is_a_task_for_a_person() {
    let (origin, ads) = (shop(&["/"]), ads(&[]));
    let recipient = format!("[[recipients]]\nname = \"Ads\"\nalways = true\n{}", hook(&ads));
    let proxy = site(&origin, &recipient).run();
    let kept = proxy.stop();
    let desk = Desk(kept.path());
    let said = desk.import("subject,site,date", "000102030405060708090a0b0c0d0e0f,default,2026-11-20\n");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let open = desk.open();
    assert_eq!((open.len(), &open[0]["state"]), (1, &"unnamed".into()), "{open:?}");
    let list = desk.ok(&["recipients"]);
    assert!(list.contains("nothing to call the account by is kept"), "{list}");
    desk.ok(&["recipients", "done", open[0]["task"].as_str().unwrap(), "--receipt", "by telephone"]);
    assert!(desk.open().is_empty());
    assert_eq!(ads.heads(), 0);
}

/// What cannot be is refused with its line, and costs no other row its opt-out.
#[test]
fn an_import_with_a_request_that_cannot_be_is_refused_by_its_line() {
    let proxy = site(&shop(&["/"]), "").run();
    let kept = proxy.stop();
    let desk = Desk(kept.path());
    let rows = "a,default,2026-11-20,2999-01-01\nb,default,2026-11-20,2001-01-01T00:00:00Z\n\
                c,default,2026-11-20,Tuesday\nd,default,2026-11-20,\n";
    let said = desk.import("account,site,date,requested_at", rows);
    assert_eq!(said.code, Some(1), "{}", said.err);
    for (line, why) in [(2, "in the future"), (3, "more than 24 months ago"), (4, "no time like")] {
        let found = said.err.lines().find(|l| l.contains(&format!("drop.csv:{line}: ")));
        assert!(found.is_some_and(|l| l.contains(why)), "line {line}: {}", said.err);
    }
    assert!(
        said.out.starts_with("recorded: 1\n") && said.out.ends_with("refused: 3\n"),
        "{}{}",
        said.out,
        said.err
    );
}

/// Settings that would tell nobody, or somebody else, are refused where they stand.
#[test]
fn recipients_that_cannot_be_are_refused_with_a_hint() {
    let origin = shop(&["/"]);
    let refused = |recipient: &str| {
        let builder = site(&origin, &format!("[[recipients]]\n{recipient}\n"));
        let output = Command::new(env!("CARGO_BIN_EXE_optgate"))
            .args(["check", "--config"])
            .arg(builder.write())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap(), builder)
    };
    let mail = "mail = \"a@b.example\"";
    let named = format!("name = \"Ads\"\n{mail}\n");
    for (recipient, hint) in [
        (format!("{named}vendors = [\"meta-pixl\"]"), "did you mean `meta-pixel`?"),
        (named.clone(), "would never be told"),
        (format!("{mail}\nalways = true"), "`recipients[0].name` is missing"),
        ("name = \"Ads\"\nalways = true".to_owned(), "says not how it is told"),
        (format!("{named}always = true\nwebhook = \"https://a.example/\""), "one way too many"),
        ("name = \"Ads\"\nalways = true\nwebhook = \"http://a.example/\"".to_owned(), "is no https URL"),
        ("name = \"Ads\"\nalways = true\nmail = \"nobody\"".to_owned(), "is no mail address"),
        (format!("{named}always = true\nsites = [\"elsewhere\"]"), "names no site: \"elsewhere\""),
        (format!("{named}always = true\nfrom = \"2026-02-01\"\nuntil = \"2026-01-01\""), "is before `from`"),
        (format!("{named}always = true\ndelay = \"700h\""), "is too long"),
        (format!("{named}always = true\n[[recipients]]\n{named}always = true"), "is taken: \"Ads\""),
        (format!("{named}always = true\nroots = \"r.pem\""), "has no effect"),
    ] {
        let (code, said, builder) = refused(&recipient);
        assert_eq!(code, Some(78), "{recipient}: {said}");
        assert!(said.contains(hint), "{recipient}: {said}");
        if hint.starts_with("did you mean") {
            assert!(said.contains("optgate.toml:"), "{said}");
            let error = builder.try_run().map(drop).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
    assert_eq!(refused(&format!("{named}vendors = [\"meta-pixel\"]\ndelay = \"24h\"")).0, Some(0));
}

/// README, "Recipients": a 2xx is the receipt. What comes behind it may be a page of any length, or break off.
#[test]
fn a_message_that_was_taken_is_not_sent_again_for_what_its_answer_holds() {
    let origin = shop(&["/"]);
    let ads = Origin::start().on("/hook", |x| {
        x.body()?;
        x.ok("text/html", &[b'x'; 80 << 10])
    });
    let more = format!("[[recipients]]\nname = \"Ads\"\nalways = true\ndelay = \"24h\"\n{}\n", hook(&ads));
    let proxy = site(&origin, &more).run();
    let reference = opt_out(proxy.addr(), ANN);
    proxy.wait_for_line("optgate_recipients_sent_total 1");
    let task = &Desk(proxy.dir()).of(&reference)["recipients"][0];
    assert_eq!((&task["state"], &task["receipt"]), (&"done".into(), &"HTTP 200".into()));
}
