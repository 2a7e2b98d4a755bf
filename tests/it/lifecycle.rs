//! Starting and stopping: ports, signals, exit codes.

use std::io::BufRead as _;
use std::sync::mpsc;

use rustix::process::Signal;

use super::support::binary::{Binary, command, own_address, serving};
use super::support::client::{Client, get, metrics};
use super::support::origin::{Origin, held};
use super::support::proxy::{Builder, figure, proxy};
use super::support::{DEADLINE, edit, wait_until};

/// A port in use is refused by name; a second Optgate must not silently share it.
#[test]
fn a_port_in_use_is_refused_by_name() {
    let origin = Origin::start();
    let first = proxy().to(&origin).run();
    let taken = first.addr().to_string();
    let admin = first.running().admin().to_string();
    for (key, address) in [("--listen", &taken), ("--admin", &admin)] {
        let second = proxy().to(&origin);
        let output = command(&second.write()).args([key, address.as_str()]).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains(address.as_str()), "names the port: {words}");
    }
    assert_eq!(first.get("/", "").status(), 200);
}

/// What reads the log of a container reads each of its lines as JSON, the last of a start that failed too.
#[test]
fn a_start_that_fails_says_so_in_the_logs_form() {
    let origin = Origin::start();
    let first = proxy().to(&origin).run();
    let taken = first.addr().to_string();
    let told = |builder: &Builder, args: &[&str], code: i32, what: &str| {
        let output = command(&builder.write()).args(args).output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words}");
        let lines: Vec<serde_json::Value> =
            words.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let last = lines.last().unwrap();
        assert!(last["timestamp"].as_str().unwrap().ends_with('Z') && last["level"] == "ERROR", "{last}");
        assert!(last["message"].as_str().unwrap().contains(what), "{last}");
    };
    let by_flag = proxy().to(&origin);
    told(&by_flag, &["--listen", &taken, "--log-format", "json"], 1, &taken);
    let broken = proxy().to(&origin).toml("upstreem = 1\n");
    told(&broken, &["--log-format", "json"], 78, "did you mean `upstream`?");
    let file = by_flag.dir().join("optgate.log");
    let by_file =
        proxy().to(&origin).replacing("[log]", &format!("[log]\nformat = \"json\"\nfile = {file:?}"));
    told(&by_file, &["--listen", &taken], 1, &taken);
    let log = std::fs::read_to_string(&file).unwrap();
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert!(last["message"].as_str().unwrap().contains(&taken), "the file says so too: {log}");
}

/// The same within one process, where the error is a value.
#[test]
fn a_second_start_on_the_same_port_is_an_error() {
    let origin = Origin::start();
    let first = proxy().to(&origin).run();
    let second = proxy().to(&origin);
    let mut settings = second.settings();
    settings.listen = vec![first.addr().into()];
    let Err(error) = optgate::app::start(settings) else { panic!("two on one port") };
    assert!(format!("{error:#}").contains(&first.addr().to_string()), "{error:#}");
    assert_eq!(first.get("/", "").status(), 200);
}

/// `:0` gives one port for all cores.
#[test]
fn port_zero_gives_one_port_for_all_cores() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin).replacing("workers = 1", "workers = 3").run();
    assert_eq!(proxy.running().listen().len(), 1);
    assert_ne!(proxy.addr().port(), 0);
    for _ in 0..12 {
        assert_eq!(proxy.get("/", "").status(), 200);
    }
}

/// An origin whose `/slow` answers when it is told to, and says when it was asked.
fn slow_origin() -> (Origin, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (slow, heard, release) = held("finished");
    (Origin::start().on("/slow", slow), heard, release)
}

/// A client whose `/slow` is at the origin.
fn under_way(binary: &Binary, heard: &mpsc::Receiver<()>) -> Client {
    let mut client = Client::connect(binary.addr());
    client.send("GET /slow HTTP/1.1\r\nHost: site.test\r\n\r\n");
    heard.recv_timeout(DEADLINE).unwrap();
    client
}

/// SIGTERM, SIGINT and SIGQUIT: no new connections, what is under way finishes, exit 0.
#[test]
fn a_signal_lets_the_request_under_way_finish() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let (origin, heard, release) = slow_origin();
        let mut binary = Binary::start(proxy().to(&origin).toml("drain_timeout = \"10m\"\n"));
        let mut client = under_way(&binary, &heard);
        binary.signal(signal);
        binary.wait_until_refusing();
        release.send(()).unwrap();
        assert_eq!(client.response("GET").text(), "finished");
        assert_eq!(client.rest(), b"", "the connection is closed behind it");
        assert_eq!(binary.wait().code(), Some(0));
    }
}

/// A head that had begun to arrive is a request under way.
#[test]
fn a_signal_lets_a_head_under_way_finish() {
    let origin = Origin::start();
    let mut binary = Binary::start(proxy().to(&origin).toml("drain_timeout = \"10m\"\n"));
    let mut client = Client::connect(binary.addr());
    client.send("GET /half HTTP/1.1\r\nHost: si");
    // A whole exchange lies in between: what came before it has been read.
    assert_eq!(get(binary.addr(), "/other", "").status(), 200);
    binary.signal(Signal::TERM);
    binary.wait_until_refusing();
    client.send("te.test\r\n\r\n");
    let answer = client.response("GET");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    assert_eq!(client.rest(), b"", "the connection is closed behind it");
    assert_eq!(binary.wait().code(), Some(0));
}

/// Connections without a request do not hold up the end.
#[test]
fn idle_connections_do_not_hold_up_the_end() {
    let origin = Origin::start();
    let mut binary = Binary::start(proxy().to(&origin).toml("drain_timeout = \"10m\"\n"));
    let mut used = Client::connect(binary.addr());
    assert_eq!(used.get("/", "").status(), 200);
    let _unused = Client::connect(binary.addr());
    binary.signal(Signal::TERM);
    assert_eq!(binary.wait().code(), Some(0));
    assert_eq!(used.rest(), b"");
}

/// A request that never ends holds up the end for `drain_timeout` at most.
#[test]
fn the_end_waits_no_longer_than_the_drain_timeout() {
    let (origin, heard, _release) = slow_origin();
    let mut binary = Binary::start(proxy().to(&origin).toml("drain_timeout = \"300ms\"\n"));
    let _client = under_way(&binary, &heard);
    binary.signal(Signal::TERM);
    assert!(binary.wait().code().is_some(), "it ended by itself");
}

/// A second signal ends at once, whatever is under way.
#[test]
fn a_second_signal_ends_at_once() {
    let (origin, heard, _release) = slow_origin();
    let mut binary = Binary::start(proxy().to(&origin).toml("drain_timeout = \"10m\"\n"));
    let mut client = under_way(&binary, &heard);
    binary.signal(Signal::TERM);
    binary.wait_until_refusing();
    binary.signal(Signal::TERM);
    binary.wait();
    assert!(!client.rest().ends_with(b"finished"));
}

/// A corrupt journal is never started over silently.
#[test]
fn a_corrupt_journal_refuses_to_start_and_names_the_file() {
    let origin = Origin::start();
    let proxy = proxy().to(&origin);
    let data = proxy.settings().data_dir;
    optgate::app::start(proxy.settings()).unwrap().stop().unwrap();
    let database = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0")))
        .unwrap();
    std::fs::write(&database, b"this is not a database, it only has the length of one. ".repeat(400))
        .unwrap();
    let output = command(&proxy.write()).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    let name = database.file_name().unwrap().to_string_lossy().into_owned();
    assert!(words.contains(&name), "names {name}: {words}");
}

/// A switch outlives whoever engaged it: each start says what it means.
#[test]
fn a_start_with_an_engaged_kill_switch_warns() {
    let builder = proxy().to(&Origin::start());
    let switches = builder.settings().data_dir.join("kill-switch");
    std::fs::create_dir_all(&switches).unwrap();
    std::fs::write(switches.join("default"), "").unwrap();
    let addr = own_address();
    let binary = Binary::spawn(serving(&builder.write(), addr), addr, builder.into_dir());
    let said = binary.wait_for_line("the kill switch is engaged");
    assert!(said.contains("WARN") && said.contains("opt-outs are not taken"), "{said}");
}

/// A full disk must not take the access lines away in silence.
#[test]
fn access_lines_that_are_lost_are_counted_and_said_once() {
    let builder = proxy().to(&Origin::start());
    let (addr, admin) = (own_address(), own_address());
    let settings = builder.write();
    edit(&settings, "[log]", "[log]\nfile = \"/dev/full\"");
    let mut command = serving(&settings, addr);
    command.args(["--admin", &admin.to_string()]);
    let binary = Binary::spawn(command, addr, builder.into_dir());
    wait_until("it listens", || std::net::TcpStream::connect(addr).is_ok());
    let lost = || figure(&metrics(admin), "optgate_access_log_lines_lost_total");
    for round in 1..=2 {
        assert_eq!(get(addr, "/", "").status(), 200);
        wait_until("it is counted", || lost() >= Some(round));
    }
    let said = binary.wait_for_line("/dev/full: WARN the log cannot be written");
    assert!(said.contains("access lines are lost"), "{said}");
    assert!(!binary.said().iter().any(|line| line.contains("/dev/full")), "once");
}

/// Whoever can reach the admin listener can switch enforcement off.
#[test]
fn an_admin_listener_that_others_can_reach_is_warned_of() {
    let builder = proxy().to(&Origin::start());
    let addr = own_address();
    let mut command = serving(&builder.write(), addr);
    command.args(["--admin", "0.0.0.0:0"]);
    let binary = Binary::spawn(command, addr, builder.into_dir());
    let said = binary.wait_for_line("can be reached from other machines, it speaks in clear");
    assert!(said.contains("WARN") && said.contains("client_roots"), "{said}");
}

/// A rotator moves the file away; from the signal on lines go to a new one under the old name.
#[test]
fn sigusr1_opens_the_log_anew() {
    let origin = Origin::start();
    let builder = proxy().to(&origin);
    let (file, moved) = (builder.dir().join("optgate.log"), builder.dir().join("optgate.log.1"));
    let addr = own_address();
    let settings = builder.write();
    edit(&settings, "[log]", &format!("[log]\nfile = {file:?}"));
    let binary = Binary::spawn(serving(&settings, addr), addr, builder.into_dir());
    let holds = |file: &std::path::Path, text: &str| {
        std::fs::read_to_string(file).is_ok_and(|lines| lines.contains(text))
    };
    wait_until("it listens", || holds(&file, "admin on"));
    assert_eq!(get(addr, "/before", "").status(), 200);
    wait_until("the line is written", || holds(&file, "/before"));
    std::fs::rename(&file, &moved).unwrap();
    binary.signal(Signal::USR1);
    wait_until("there is a new file", || holds(&file, "log opened anew"));
    assert_eq!(get(addr, "/after", "").status(), 200);
    wait_until("the line is written", || holds(&file, "/after"));
    assert!(!holds(&moved, "/after") && holds(&moved, "/before"));
}

/// A process that has only begun is told of a rotation or a reload: that must not end it.
#[test]
fn signals_that_order_something_do_not_end_a_process_that_starts() {
    let builder = proxy().to(&Origin::start());
    let log = builder.dir().join("log");
    assert!(std::process::Command::new("mkfifo").arg(&log).status().unwrap().success());
    let addr = own_address();
    let settings = builder.write();
    edit(&settings, "[log]", &format!("[log]\nfile = {log:?}"));
    // It looks at its log before it serves, and waits there until somebody opens the other end.
    let binary = Binary::spawn(serving(&settings, addr), addr, builder.into_dir());
    wait_until("it hears SIGUSR1", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", binary.serving())).unwrap();
        let heard = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(heard.trim(), 16).unwrap() >> (Signal::USR1.as_raw() - 1) & 1 == 1
    });
    binary.signal(Signal::USR1);
    binary.signal(Signal::HUP);
    // For both, so that it never comes to an end.
    let end = std::fs::OpenOptions::new().read(true).write(true).open(&log).unwrap();
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        std::io::BufReader::new(end)
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line).map_err(drop))
    });
    let mut said = std::iter::from_fn(|| lines.recv_timeout(DEADLINE).ok());
    assert!(said.any(|line| line.contains("log opened anew")));
    assert_eq!(get(addr, "/", "").status(), 200);
}

/// Whoever reads the log has stopped, without closing it: neither access lines nor warnings may stop a core.
#[test]
fn a_log_that_nobody_reads_holds_up_no_request() {
    let origin = Origin::start();
    let sites = format!(
        "[[sites]]\nhosts = [\"site.test\"]\nupstream = {:?}\n\
         [[sites]]\nhosts = [\"down.test\"]\nupstream = \"http://127.0.0.1:1\"\n",
        origin.url()
    );
    let builder = proxy().toml(&sites);
    let (addr, admin) = (own_address(), own_address());
    let mut command = serving(&builder.write(), addr);
    command.args(["--admin", &admin.to_string()]);
    let mut child = Killed(command.spawn().unwrap());
    wait_until("it listens", || std::net::TcpStream::connect(addr).is_ok());
    let long = format!("/{}", "x".repeat(500));
    let mut client = Client::connect(addr);
    for _ in 0..400 {
        // Lines of half a KiB, into a pipe of 64.
        assert_eq!(client.get(&long, "").status(), 200);
    }
    for _ in 0..3 {
        assert_eq!(Client::connect(addr).get_from("down.test", "/", "").status(), 502);
        assert_eq!(get(addr, "/", "").status(), 200);
    }
    assert!(metrics(admin).contains("\noptgate_log_lines_lost_total 0\n"), "they wait");
    // From here on somebody reads, and nothing of it is lost.
    let mut log = std::io::BufReader::new(child.0.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("down.test")));
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
