//! A new process takes over the listening sockets and the journal; nobody notices.
//!
//! What it means for requests under load is in `seamless`.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use rustix::process::Signal;

use super::support::binary::{Binary, command, in_shell, optgate, own_address, serving};
use super::support::client::{Client, get, metrics, tcp};
use super::support::frames::{self, Field, GOAWAY, HEADERS, PING, SETTINGS, frame, next_frame};
use super::support::h2::H2;
use super::support::origin::{Origin, Recorded};
use super::support::pki::Authority;
use super::support::proxy::{Builder, proxy};
use super::support::{DEADLINE, edit, wait_until};

/// An HTTP/2 connection that is open, and has asked for nothing.
fn opened(binary: &Binary) -> TcpStream {
    let mut opened = tcp(binary.addr());
    opened.write_all(&frames::hello()).unwrap();
    assert_eq!(next_frame(&opened).unwrap().0[3], SETTINGS);
    opened
}

/// RFC 9113, 6.8: a client of the old process is told to go elsewhere before its connection ends, and an old process with
/// nothing to finish ends.
#[test]
fn http2_clients_are_told_to_go_elsewhere_at_an_upgrade() {
    let origin = Origin::start();
    let mut binary = Binary::start(proxy().to(&origin).toml("[timeouts]\nheader_read = \"1s\"\n"));
    let mut kept = H2::prior_knowledge(binary.addr());
    assert_eq!(kept.get("http://site.test/").status, 200);
    let unused = opened(&binary);
    binary.upgrade();
    wait_until("the client knows", || kept.is_closed());
    while next_frame(&unused).unwrap().0[3] != GOAWAY {}
    assert_eq!(H2::prior_knowledge(binary.addr()).get("http://site.test/").status, 200);
    assert_eq!(binary.wait().code(), Some(0), "the process before it has ended");
}

/// It would have to open another for it, which on a busy machine may come to the next upgrade.
#[test]
fn an_http2_connection_that_was_opened_before_an_upgrade_has_its_first_request_answered() {
    let origin = Origin::start();
    let mut binary = Binary::start(proxy().to(&origin));
    let mut opened = opened(&binary);
    binary.upgrade();
    let fields: [Field<'_>; 4] =
        [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"site.test"), (b":path", b"/")];
    opened.write_all(&[frame(PING, 0, 0, b"upgraded"), frames::raw_head(1, &fields, true)].concat()).unwrap();
    let mut kinds: Vec<u8> = std::iter::repeat_with(|| next_frame(&opened).map(|(head, _)| head[3]))
        .map_while(Result::ok)
        .filter(|kind| [PING, HEADERS, GOAWAY].contains(kind))
        .take(4)
        .collect();
    assert_eq!(kinds[0], PING, "the answer to its own; {kinds:?}");
    kinds[1..].sort_unstable();
    // The last ping is to learn what else the client sends before it has read that.
    assert_eq!(kinds[1..], [HEADERS, PING, GOAWAY], "answered, and told to go elsewhere");
}

/// The command does what SIGUSR2 does, and says what came of it.
#[test]
fn the_command_upgrades_and_says_so() {
    let origin = Origin::start();
    let (mut binary, admin) = Binary::observed(proxy().to(&origin));
    let upgrade = || optgate(&["upgrade", "--admin", &admin.to_string()]);
    let (code, said) = upgrade();
    binary.upgraded();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(get(binary.addr(), "/", "").text(), "hello");
    assert_eq!(binary.wait().code(), Some(0), "the process before it has ended");
    edit(&binary.file(), "upstream =", "upstreem =");
    let (code, said) = upgrade();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("exit code 78"), "{said}");
    assert_eq!(get(binary.addr(), "/", "").text(), "hello");
}

/// Exit codes as everywhere: 78 is for settings alone, so that whoever types it again without a change knows whether that
/// may help.
#[test]
fn the_command_tells_a_failure_from_settings_that_cannot_hold() {
    let origin = Origin::start();
    let (mut binary, admin) = Binary::observed(proxy().to(&origin));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("[tls]\nlisten = [\"{}\"]\n", taken.local_addr().unwrap());
    let certificate = Authority::new().leaf("site.test").toml(binary.file().parent().unwrap(), "site");
    edit(&binary.file(), "[admin]", &format!("{listen}{certificate}[admin]"));
    let upgrade = || optgate(&["upgrade", "--admin", &admin.to_string()]);
    let (code, said) = upgrade();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("exit code 1;"), "{said}");
    assert_eq!(get(binary.addr(), "/", "").text(), "hello");
    drop(taken);
    let (code, said) = upgrade();
    binary.upgraded();
    assert_eq!(code, Some(0), "{said}");
}

/// An origin that was left out stays so: an upgrade is no reason to try it on visitors again.
#[test]
fn what_is_known_of_origins_goes_over() {
    let (good, bad) = (Origin::start(), Origin::start().on("/", |x| x.send(UNAVAILABLE)));
    let settings = format!(
        "upstream = [{}, {}]\n[outlier]\nfailures = 1\nejection = \"10m\"\nlongest = \"10m\"\n",
        good.toml(),
        bad.toml()
    );
    let mut binary = Binary::start(proxy().toml(&settings));
    wait_until("it is left out", || get(binary.addr(), "/", "").status() == 503);
    let left_out = bad.heads();
    for _ in 0..2 {
        binary.upgrade();
        for _ in 0..4 {
            assert_eq!(get(binary.addr(), "/", "").text(), "hello");
        }
    }
    assert_eq!(bad.heads(), left_out);
}

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

fn opt_out(client: &mut Client) -> String {
    client.send(
        "POST /privacy-choices/opt-out HTTP/1.1\r\nHost: site.test\r\nAccept: application/json\r\n\
         Content-Length: 0\r\n\r\n",
    );
    let answer = client.response("POST");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    answer["reference"].as_str().unwrap().to_owned()
}

/// A connection from before the upgrade still opts its visitor out, and the new process has the record.
#[test]
fn an_opt_out_in_the_old_process_is_in_the_journal_of_the_new_one() {
    let origin = Origin::start();
    let mut binary = Binary::start(proxy().to(&origin));
    let mut before = Client::connect(binary.addr());
    let first = opt_out(&mut before);
    binary.upgrade();
    let second = opt_out(&mut before);
    let third = opt_out(&mut Client::connect(binary.addr()));
    for reference in [first, second, third] {
        let page = get(binary.addr(), &format!("/privacy-choices/receipt/{reference}"), "");
        assert!(page.status() == 200 && page.text().contains(&reference), "{reference}: {}", page.text());
    }
    assert_eq!(get(binary.addr(), "/", "").text(), "hello");
}

/// What the new process records the old one does not hear of, so whoever it names counts as opted out; a signal
/// there is recorded as ever.
#[test]
fn an_old_process_takes_every_account_for_opted_out_once_the_new_one_has_the_journal() {
    let origin = Origin::start();
    let named = "trusted_proxies = [\"127.0.0.1\"]\n[account]\nheader = \"x-account-id\"\n";
    let mut binary = Binary::start(proxy().to(&origin).toml(named));
    let mut before = [(), ()].map(|()| Client::connect(binary.addr()));
    let (ann, bob) = ("X-Account-Id: ann\r\n", "X-Account-Id: bob\r\n");
    before.iter_mut().for_each(|client| assert_eq!(client.get("/", ann).status(), 200));
    binary.upgrade();
    get(binary.addr(), "/", &format!("Sec-GPC: 1\r\n{ann}"));
    let [first, second] = &mut before;
    let answer = first.get("/", ann);
    assert!(answer.head.all("set-cookie").is_empty(), "{:?}", answer.head);
    second.get("/", &format!("Sec-GPC: 1\r\n{bob}"));
    let decisions = |seen: &[Recorded]| -> Vec<_> {
        seen.iter().map(|request| request.one("optgate-decision").unwrap()).collect()
    };
    let (none, gpc, account) = ("none", "opted-out;basis=gpc", "opted-out;basis=account");
    assert_eq!(decisions(&origin.seen(5)), [none, none, gpc, account, gpc]);
    wait_until("the new process has bob's opt-out", || {
        let asked = origin.seen(5).len();
        get(binary.addr(), "/", bob);
        decisions(&origin.seen(asked + 1)).last().is_some_and(|last| last == account)
    });
}

/// Settings that cannot hold end the new process, not the old one.
#[test]
fn a_new_process_that_refuses_its_settings_changes_nothing() {
    let origin = Origin::start();
    let binary = Binary::start(proxy().to(&origin));
    edit(&binary.file(), "upstream =", "upstreem =");
    binary.signal(Signal::USR2);
    let line = binary.wait_for_line("not upgraded");
    assert!(line.contains("exit code 78"), "{line}");
    let mut client = Client::connect(binary.addr());
    assert_eq!(client.get("/", "").text(), "hello");
    opt_out(&mut client);
}

/// It fails after it has opened the journal: the old process takes that back.
#[test]
fn the_journal_comes_back_from_a_new_process_that_cannot_serve() {
    let origin = Origin::start();
    let mut binary = Binary::start(proxy().to(&origin));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("[tls]\nlisten = [\"{}\"]\n", taken.local_addr().unwrap());
    let certificate = Authority::new().leaf("site.test").toml(binary.file().parent().unwrap(), "site");
    edit(&binary.file(), "[admin]", &format!("{listen}{certificate}[admin]"));
    binary.signal(Signal::USR2);
    let line = binary.wait_for_line("not upgraded");
    assert!(line.contains("exit code 1"), "{line}");
    opt_out(&mut Client::connect(binary.addr()));
    drop(taken);
    binary.upgrade();
    opt_out(&mut Client::connect(binary.addr()));
}

/// More threads share the sockets they get, fewer take several each: every connection is accepted.
#[test]
fn the_number_of_threads_may_change() {
    let origin = Origin::start();
    let mut binary = Binary::start(proxy().to(&origin));
    for (from, to) in [(1, 3), (3, 2), (2, 1)] {
        edit(&binary.file(), &format!("workers = {from}"), &format!("workers = {to}"));
        binary.upgrade();
        for _ in 0..24 {
            assert_eq!(get(binary.addr(), "/", "").text(), "hello");
        }
    }
}

/// sd_listen_fds(3): one socket for all threads; it stays open when the process ends.
#[test]
fn a_socket_of_systemd_is_served_by_every_thread() {
    let origin = Origin::start();
    let socket = std::net::TcpListener::bind(own_address()).unwrap();
    let addr = socket.local_addr().unwrap();
    let builder = proxy().to(&origin);
    let file = builder.write();
    edit(&file, "workers = 1", "workers = 3");
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 0</dev/null";
    let mut shell = in_shell(script, &serving(&file, addr));
    shell.stdin(OwnedFd::from(socket.try_clone().unwrap()));
    let mut binary = Binary::of(shell, addr, builder.into_dir());
    for _ in 0..24 {
        assert_eq!(get(addr, "/", "").text(), "hello");
    }
    binary.upgrade();
    for _ in 0..24 {
        assert_eq!(get(addr, "/", "").text(), "hello");
    }
}

/// Starts the program with one socket from systemd, which waits for nobody but it.
fn activated(builder: Builder, addr: std::net::SocketAddr, socket: OwnedFd) -> Binary {
    let mut program = command(&builder.write());
    program.args(["--log-level", "info"]);
    let mut shell = in_shell("LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 0</dev/null", &program);
    shell.stdin(socket);
    Binary::of(shell, addr, builder.into_dir())
}

/// sd_listen_fds(3): every kind of listener can be passed. The ports are bound already without sharing, so whoever opened
/// them anew would fail.
#[test]
fn sockets_of_systemd_serve_tls_the_admin_listener_and_unix_sockets() {
    let origin = Origin::start();
    let here = || {
        let addr = own_address();
        (addr, proxy().to(&origin).replacing("[\"127.0.0.1:0\"]", &format!("[\"{addr}\"]")))
    };
    let listening = || std::net::TcpListener::bind(own_address()).unwrap();

    let (socket, authority, (addr, builder)) = (listening(), Authority::new(), here());
    let tls = socket.local_addr().unwrap();
    let certificate = authority.leaf("site.test").toml(builder.dir(), "site");
    let builder = builder.toml(&format!("[tls]\nlisten = [\"{tls}\"]\n{certificate}"));
    let _binary = activated(builder, addr, socket.into());
    let mut client = Client::connect_tls(tls, "site.test", authority.client(&["http/1.1"]));
    assert_eq!(client.get("/", "").text(), "hello");

    let (socket, (addr, builder)) = (listening(), here());
    let admin = socket.local_addr().unwrap();
    let builder = builder.replacing("listen = \"127.0.0.1:0\"", &format!("listen = \"{admin}\""));
    let _binary = activated(builder, addr, socket.into());
    assert!(metrics(admin).contains("optgate_build_info"));

    let (addr, builder) = here();
    let path = builder.dir().join("http.sock");
    let socket = UnixListener::bind(&path).unwrap();
    let listen = format!("[\"{addr}\", \"unix:{}\"]", path.display());
    let builder = builder.replacing(&format!("[\"{addr}\"]"), &listen);
    let mut binary = activated(builder, addr, socket.into());
    assert_eq!(Client::connect_unix(&path).get("/", "").text(), "hello");
    binary.signal(Signal::TERM);
    assert_eq!(binary.wait().code(), Some(0));
    assert!(path.exists(), "a file of systemd's stays systemd's");
}

/// sd_notify(3): ready after listening, reloading and ready again, stopping.
#[test]
fn systemd_is_told_what_the_process_does() {
    let origin = Origin::start();
    let addr = own_address();
    let builder = proxy().to(&origin);
    let path = builder.dir().join("notify");
    let notices = UnixDatagram::bind(&path).unwrap();
    notices.set_read_timeout(Some(DEADLINE)).unwrap();
    let next = || {
        let mut text = [0; 4096];
        let length = notices.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    };
    let mut command = serving(&builder.write(), addr);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000");
    let mut binary = Binary::of(command, addr, builder.into_dir());
    let wait_for = |what: &str| while !next().lines().any(|line| line == what) {};
    wait_for("READY=1");
    wait_for("WATCHDOG=1");
    binary.signal(Signal::HUP);
    wait_for("RELOADING=1");
    wait_for("READY=1");
    binary.upgrade();
    let new = binary.serving();
    wait_for(&format!("MAINPID={new}"));
    binary.signal(Signal::TERM);
    wait_for("STOPPING=1");
}

/// A Unix socket goes over like a port, and its file with it: the old process leaves it, the last one removes it.
#[test]
fn a_unix_socket_goes_over_with_its_file() {
    let origin = Origin::start();
    let builder = proxy().to(&origin);
    let certificate = Authority::new().leaf("site.test").toml(builder.dir(), "site");
    let path = builder.dir().join("o.sock");
    let tls = format!("[tls]\nlisten = \"unix:{}\"\n{certificate}", path.display());
    let mut binary = Binary::start(builder.toml(&tls));
    for _ in 0..2 {
        binary.upgrade();
        assert!(UnixStream::connect(&path).is_ok(), "the new process has it");
    }
    assert_eq!(binary.wait().code(), Some(0), "the first process has ended");
    assert!(UnixStream::connect(&path).is_ok(), "and left the file");
    binary.signal(Signal::TERM);
    wait_until("the file is gone", || !path.exists());
}
