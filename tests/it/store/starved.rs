//! Disks that are full or that nobody may write to, as the system makes them: in a mount namespace of the child's own,
//! which needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::support::skipped;
use super::child::{Asked, as_child, child, lines};
use super::crash::ask;
use super::disk;
use super::oracle::Oracle;

/// A child that sees its folder as a shell of its own prepared it (`$0` is the folder); `None` after a line that says why not.
fn in_namespace(prepare: &str, folder: &Path, test: &str) -> Option<Command> {
    let mut shell = Command::new("unshare");
    shell.args(["-m", "--propagation", "private", "sh", "-c"]);
    let script = format!("f=$0; {prepare} || exit 9; exec \"$@\"");
    let mut tried = Command::new("unshare");
    tried.args(["-m", "--propagation", "private", "sh", "-c", &script]).arg(folder).arg("true");
    if !tried.output().is_ok_and(|o| o.status.success()) {
        skipped(test, "mount namespaces need root");
        return None;
    }
    shell.arg(script).arg(folder).arg(std::env::current_exe().unwrap());
    as_child(&mut shell, "asked", folder);
    Some(shell)
}

/// Inside the child's mount namespace, from outside.
fn inside(asked: &Asked, path: &Path) -> PathBuf {
    let root = format!("/proc/{}/root", asked.pid().as_raw_nonzero());
    Path::new(&root).join(path.strip_prefix("/").unwrap())
}

/// A file system of 1 MiB, filled up by somebody else and emptied again.
#[test]
fn a_file_system_that_is_full_is_told_and_left_behind() {
    let test = "a_file_system_that_is_full_is_told_and_left_behind";
    let folder = tempfile::tempdir().unwrap();
    let Some(command) = in_namespace("mount -t tmpfs -o size=1m tmpfs \"$f\"", folder.path(), test) else {
        return;
    };
    let mut asked = Asked::start(command).unwrap();
    let mut oracle = Oracle::default();
    assert!((0..20).all(|account| ask(&mut asked, &mut oracle, account)));
    let disk = inside(&asked, folder.path());
    let ballast = disk.join("ballast");
    // Ends with an error: that is the point.
    let _ = std::fs::write(&ballast, vec![1; 2 << 20]);
    let told = (20..120).filter(|account| !ask(&mut asked, &mut oracle, *account)).count();
    assert!(told > 0, "a full disk is told");
    std::fs::remove_file(&ballast).unwrap();
    assert!(
        (120..130).all(|account| ask(&mut asked, &mut oracle, account)),
        "with room again it goes on by itself"
    );
    // The file system goes with the process: what a killed one leaves is copied first.
    let left = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&disk).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), left.path().join(entry.file_name())).unwrap();
    }
    asked.kill();
    let _ = std::fs::remove_file(left.path().join("journal.sqlite3-shm"));
    oracle.assert_kept(left.path(), "on a full file system");
    println!("full file system: 1 round, {} acknowledged, {told} refused, 0 lost", oracle.acknowledged());
}

/// A disk that turns read-only under a running store, as ext4 makes it after an error, and is mounted anew. (A mount
/// cannot be turned while a file on it is open for writing; the layer under the child answers as such a disk does.)
#[test]
fn a_disk_that_turns_read_only_is_told_and_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let beside = tempfile::tempdir().unwrap();
    let switch = beside.path().join("read-only");
    let mut command = child("asked", folder.path());
    disk::preload(&mut command, folder.path(), &beside.path().join("log"), None);
    command.env("OPTGATE_DISK_READ_ONLY", &switch);
    let mut asked = Asked::start(command).unwrap();
    let mut oracle = Oracle::default();
    assert!((0..10).all(|account| ask(&mut asked, &mut oracle, account)));
    std::fs::write(&switch, "").unwrap();
    assert!((10..20).all(|account| !ask(&mut asked, &mut oracle, account)), "nothing is promised");
    std::fs::remove_file(&switch).unwrap();
    // One more may be refused: the file was opened anew while that was only possible for reading.
    let refused = (20..30).filter(|account| !ask(&mut asked, &mut oracle, *account)).count();
    assert!(refused <= 1, "it goes on by itself: {refused} of 10 refused");
    asked.kill();
    oracle.assert_kept(folder.path(), "after a read-only disk");
    println!(
        "read-only disk: 1 round, {} acknowledged, {} refused, 0 lost",
        oracle.acknowledged(),
        10 + refused
    );
}

/// Started on a folder that cannot be written, the store refuses and says what to do.
#[test]
fn a_read_only_folder_is_refused_with_its_name() {
    let test = "a_read_only_folder_is_refused_with_its_name";
    let folder = tempfile::tempdir().unwrap();
    let mut asked = Asked::start(child("asked", folder.path())).unwrap();
    let mut oracle = Oracle::default();
    assert!(ask(&mut asked, &mut oracle, 1));
    asked.close();
    let prepare = "mount --bind \"$f\" \"$f\" && mount -o remount,ro,bind \"$f\"";
    let Some(command) = in_namespace(prepare, folder.path(), test) else { return };
    let said = Asked::start(command).err().expect("refused");
    let name = folder.path().display().to_string();
    assert!(said.contains("REFUSED") && said.contains(&name) && said.contains("cannot be"), "{said}");
    oracle.assert_kept(folder.path(), "after a refusal");
    println!("read-only folder: 1 round, {} acknowledged, refused, 0 lost", oracle.acknowledged());
}

/// One folder, one process, also when many are started at once.
#[test]
fn of_processes_started_at_once_on_one_folder_one_opens_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut started: Vec<_> = (0..6).map(|_| child("asked", folder.path()).spawn().unwrap()).collect();
    let first = |process: &mut std::process::Child| {
        lines(process).find(|l| l.contains("OPENED") || l.contains("REFUSED"))
    };
    // Each keeps its standard input, and with it the folder, until all have said something.
    let said: Vec<_> = started.iter_mut().map(|process| first(process).expect("a word")).collect();
    let (opened, refused): (Vec<_>, Vec<_>) = said.iter().partition(|line| line.contains("OPENED"));
    assert_eq!(opened.len(), 1, "{said:?}");
    assert!(refused.iter().all(|line| line.contains("another optgate uses this data folder")), "{refused:?}");
    for mut process in started {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    println!("six processes on one folder: 1 opened, {} refused", refused.len());
}
