//! Files for operators in `deploy/` are what their readers take.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::binary::{Binary, command, own_address};
use super::support::client::get;
use super::support::origin::Origin;
use super::support::proxy::proxy;
use super::support::{edit, skipped, wait_until};

fn sample(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

/// Under `ProtectSystem=strict` the example's log file must lie in a folder that the unit makes.
#[test]
fn the_units_folders_hold_what_the_settings_name() {
    let read =
        |file: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let (unit, settings) = (read("deploy/optgate.service"), read("config/optgate.toml"));
    let file = settings.lines().find_map(|line| line.strip_prefix("#file = \"/var/log/")).unwrap();
    let folder = file.split('/').next().unwrap();
    assert!(unit.lines().any(|line| line == format!("LogsDirectory={folder}")), "{folder}");
}

/// systemd finds nothing wrong with the unit, and its commands are ones that we have.
#[test]
fn the_systemd_unit_is_well_formed() {
    let unit =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/optgate.service")).unwrap();
    let ours = env!("CARGO_BIN_EXE_optgate");
    let commands = unit.lines().filter_map(|line| line.strip_prefix("Exec")?.split_once('=')).map(|(_, c)| c);
    let mut count = 0;
    for command in commands {
        let mut words = command.split(' ');
        assert_eq!(words.next(), Some("/usr/local/bin/optgate"));
        let help = Command::new(ours).args(words).arg("--help").output().unwrap();
        assert!(help.status.success(), "{command}: {}", String::from_utf8_lossy(&help.stderr));
        count += 1;
    }
    assert_eq!(count, 2);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("optgate.service");
    std::fs::write(&file, unit.replace("/usr/local/bin/optgate", ours)).unwrap();
    let Ok(verified) = Command::new("systemd-analyze").arg("verify").arg(&file).output() else {
        skipped("the_systemd_unit_is_well_formed", "`systemd-analyze` is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("optgate.service"), "{said}");
}

/// PgBouncer takes the example as it is, but for the addresses and the file of users.
#[test]
fn the_poolers_settings_are_ones_that_it_takes() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/pgbouncer.ini")).unwrap();
    assert!(text.lines().any(|line| line == "pool_mode = transaction"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pgbouncer.ini");
    let users = dir.path().join("userlist.txt");
    std::fs::write(&users, "").unwrap();
    let users = users.display().to_string();
    let text =
        text.replace("/etc/pgbouncer/userlist.txt", &users).replace("listen_addr = *", "listen_addr =");
    std::fs::write(&file, text.replace("[pgbouncer]", "[pgbouncer]\nunix_socket_dir =")).unwrap();
    // It does not run as root: it reads its settings, and then says so.
    let Ok(said) = Command::new("/usr/sbin/pgbouncer").arg(&file).output() else {
        skipped("the_poolers_settings_are_ones_that_it_takes", "no PgBouncer (Debian: pgbouncer)");
        return;
    };
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.contains("unknown parameter") && !said.contains("invalid value"), "{said}");
}

/// Every `name` that is registered as a figure, as the sources write it: most have no sample before something happens.
fn registered() -> Vec<String> {
    fn below(folder: &Path, into: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, into);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                into.extend(text.split('"').skip(1).step_by(2).map(str::to_owned));
            }
        }
    }
    let mut all = Vec::new();
    for room in ["telemetry", "store", "admin"] {
        below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room), &mut all);
    }
    all
}

/// An alert on a figure that nobody has would never come.
#[test]
fn the_alert_rules_are_about_figures_that_there_are() {
    let file = sample("prometheus-rules.yml");
    let rules = std::fs::read_to_string(&file).unwrap();
    let registered = registered();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named = rules.split(|c| !word(c)).filter_map(|name| name.strip_prefix("optgate_"));
    let mut count = 0;
    for name in named {
        let family = name.strip_suffix("_total").unwrap_or(name);
        assert!(registered.iter().any(|known| known == family), "optgate_{name}");
        count += 1;
    }
    assert!(count > 20, "{count}");
    // Those that there are from the start are named as they are shown, counters and gauges apart.
    let origin = Origin::start();
    let proxy = proxy().to(&origin).run();
    assert_eq!(proxy.get("/", "Sec-GPC: 1\r\n").status(), 200);
    let shown = proxy.running().metrics().render();
    for name in ["optout_decisions_total", "requests_total", "upstream_healthy", "limit_reached_total"] {
        assert!(rules.contains(&format!("optgate_{name}")), "{name}");
        assert!(shown.lines().any(|line| line.starts_with(&format!("optgate_{name}{{"))), "{name}: {shown}");
    }
    let Ok(checked) = Command::new("promtool").args(["check", "rules"]).arg(&file).output() else {
        skipped("the_alert_rules_are_about_figures_that_there_are", "no `promtool` (Debian: prometheus)");
        return;
    };
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// The sample moves the file away and has it opened anew, but for the way the signal is sent.
#[test]
fn the_log_is_rotated_by_the_sample() {
    let builder = proxy().to(&Origin::start());
    let (log, state) = (builder.dir().join("optgate.log"), builder.dir().join("state"));
    let rotated = builder.dir().join("optgate.log.1");
    let settings = builder.write();
    edit(&settings, "[log]\nlevel = \"error\"", &format!("[log]\nlevel = \"info\"\nfile = {log:?}"));
    let addr = own_address();
    let mut program = command(&settings);
    program.args(["--listen", &addr.to_string()]);
    let binary = Binary::spawn(program, addr, builder.into_dir());
    let holds = |file: &Path, text: &str| std::fs::read_to_string(file).is_ok_and(|all| all.contains(text));
    wait_until("it listens", || holds(&log, "admin on"));
    let sample = std::fs::read_to_string(sample("optgate.logrotate")).unwrap();
    let signal = format!("kill -USR1 {}", binary.serving());
    let (at, send) =
        ("/var/log/optgate/optgate.log", "systemctl kill --kill-whom=main --signal=SIGUSR1 optgate.service");
    assert!(sample.contains(at) && sample.contains(send), "{sample}");
    let rules = log.with_file_name("rules");
    std::fs::write(&rules, sample.replace(at, &log.display().to_string()).replace(send, &signal)).unwrap();
    let rotate = Command::new("logrotate").args(["--force", "--state"]).args([&state, &rules]).output();
    let Ok(done) = rotate else {
        skipped("the_log_is_rotated_by_the_sample", "no `logrotate` (Debian: logrotate)");
        return;
    };
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    wait_until("there is a new file", || holds(&log, "log opened anew"));
    assert_eq!(get(addr, "/after", "").status(), 200);
    wait_until("the line is written", || holds(&log, "/after"));
    assert!(holds(&rotated, "admin on") && !holds(&rotated, "/after"));
}
