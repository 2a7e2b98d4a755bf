//! Files for operators in `deploy/` are what their readers take.

use std::process::Command;

use super::support::skipped;

/// Under `ProtectSystem=strict` the example's log file must lie in a folder that the unit makes.
#[test]
fn the_units_folders_hold_what_the_settings_name() {
    let read = |file: &str| {
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
    };
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
