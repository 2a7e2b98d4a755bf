//! Watches what memory the process uses and turns new requests away before there is none.
//!
//! What is measured is the process itself, not a sum of estimates: rewriters, bodies, HTTP/2 buffers and TLS are
//! all in it, and no request pays for the account. Kernel buffers are not, so `"auto"` leaves them a fifth of what the
//! cgroup allows; a machine has other processes too, so of its memory `"auto"` leaves two fifths.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::ProcessMemory;
use crate::edge::House;
use crate::telemetry::events;

/// Between two looks. In that time two cores can fill some hundred MiB at most.
const EVERY: Duration = Duration::from_millis(100);

/// Looks between two times that memory is given back: some two seconds.
const GIVES_BACK: u64 = 20;

/// Looks for ever.
pub async fn watch(house: Arc<House>) {
    let (proc, groups) = (Path::new("/proc"), Path::new("/sys/fs/cgroup"));
    let machine = machine(&proc.join("meminfo"));
    let auto = auto_limit(cgroup_limit(&proc.join("self/cgroup"), groups), Some(machine));
    let mut told = None;
    for look in 1_u64.. {
        if look % GIVES_BACK == 0 {
            give_back();
        }
        let limit = match house.snapshot.load().settings.limits.memory {
            ProcessMemory::Unlimited => None,
            ProcessMemory::Bytes(bytes) => Some(bytes),
            ProcessMemory::Auto => auto,
        };
        if told != Some(limit) {
            told = Some(limit);
            events::memory_limit_in_force(limit);
        }
        if let Some(used) = used() {
            house.metrics.memory.set(i64::try_from(used).unwrap_or(i64::MAX));
            let was = house.shedding.load(Ordering::Relaxed);
            let is = is_too_much(used, limit, was);
            if is != was {
                house.shedding.store(is, Ordering::Relaxed);
                events::shedding_changed(is, used, limit.unwrap_or(0));
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Has the allocator give back what was freed a second ago and not used again. It looks for that when somebody frees
/// something large, and after a rush of visitors nobody may for hours. Nothing is touched, so this costs a microsecond.
fn give_back() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(1024 * 1024)));
}

/// Begins at the limit and ends a tenth below it, so that it does not flicker.
fn is_too_much(used: u64, limit: Option<u64>, was: bool) -> bool {
    limit.is_some_and(|limit| used >= if was { limit / 10 * 9 } else { limit })
}

/// What `"auto"` means, from what the cgroup allows and what the machine has: the lesser part.
fn auto_limit(cgroup: Option<u64>, machine: Option<u64>) -> Option<u64> {
    let parts = [cgroup.map(|bytes| bytes / 5 * 4), machine.map(|bytes| bytes / 5 * 3)];
    parts.into_iter().flatten().min()
}

/// Bytes of the machine's memory: by proc_meminfo(5), which containers have of their own, else by sysinfo(2). A unit with
/// `ProcSubset=pid` hides the file.
fn machine(meminfo: &Path) -> u64 {
    let written = std::fs::read_to_string(meminfo).ok().and_then(|text| kib_of(&text, "MemTotal:"));
    written.unwrap_or_else(|| {
        let system = rustix::system::sysinfo();
        system.totalram.saturating_mul(system.mem_unit.into())
    })
}

/// The bytes that a line of a file under `/proc` says in kB.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Bytes of the process that are mapped from no file (proc_pid_status(5)).
fn used() -> Option<u64> {
    kib_of(&std::fs::read_to_string("/proc/self/status").ok()?, "RssAnon:")
}

/// The least limit of the process's cgroup and those above it; version 2, else version 1 (cgroups(7)).
fn cgroup_limit(own: &Path, root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(own).ok()?;
    let path_of = |controller: &str| {
        text.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let named = controllers.split(',').any(|name| name == controller);
            named.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let ways =
        [("", root.to_owned(), "memory.max"), ("memory", root.join("memory"), "memory.limit_in_bytes")];
    let limits = ways.into_iter().filter_map(|(controller, root, file)| {
        let own: PathBuf = root.join(path_of(controller)?);
        // Inside a container the path may be one of the outside; the root is then the container's own.
        let groups = own.ancestors().take_while(|group| group.starts_with(&root));
        groups.filter_map(|group| std::fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()).min()
    });
    // Version 1 writes "no limit" as a number near the largest.
    limits.min().filter(|limit: &u64| *limit < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_its_memory() {
        assert!(used().unwrap() > 100_000);
    }

    /// Without a limited cgroup, as on a plain machine, shedding begins all the same before the memory is used up.
    #[test]
    fn without_a_limited_cgroup_auto_is_a_part_of_the_machine() {
        assert_eq!(auto_limit(None, Some(1000)), Some(600));
        assert_eq!(auto_limit(Some(500), Some(1000)), Some(400));
        assert_eq!(auto_limit(Some(5000), Some(1000)), Some(600), "a group allowed more than there is");
        assert_eq!(auto_limit(None, None), None);
        let has = machine(Path::new("/proc/meminfo"));
        assert!(auto_limit(None, Some(has)).is_some_and(|limit| (1 << 20..has).contains(&limit)));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("meminfo");
        std::fs::write(&file, "MemTotal:        2048 kB\nMemFree:          1 kB\n").unwrap();
        assert_eq!(machine(&file), 2 << 20);
    }

    /// systemd.exec(5): under our own unit there is no `/proc/meminfo`, and `"auto"` is a limit all the same.
    #[test]
    fn the_machines_memory_is_known_where_its_file_is_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let hidden = machine(&dir.path().join("meminfo"));
        assert!(hidden > 64 << 20, "{hidden}");
        let file = dir.path().join("other");
        std::fs::write(&file, "MemFree:          1 kB\n").unwrap();
        assert_eq!(machine(&file), hidden);
    }

    #[test]
    fn shedding_ends_below_where_it_began() {
        assert!(is_too_much(100, Some(100), false));
        assert!(is_too_much(95, Some(100), true) && !is_too_much(95, Some(100), false));
        assert!(!is_too_much(89, Some(100), true));
        assert!(!is_too_much(u64::MAX, None, true));
    }

    /// cgroups(7): a group is held to the limits of all above it.
    #[test]
    fn the_least_limit_above_the_process_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (own, root) = (dir.path().join("own"), dir.path().join("cgroup"));
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(&own, "0::/a/b\n").unwrap();
        std::fs::write(root.join("a/b/memory.max"), "max\n").unwrap();
        assert_eq!(cgroup_limit(&own, &root), None);
        std::fs::write(root.join("a/memory.max"), "1073741824\n").unwrap();
        std::fs::write(root.join("a/b/memory.max"), "2147483648\n").unwrap();
        assert_eq!(cgroup_limit(&own, &root), Some(1 << 30));
        std::fs::write(&own, "7:cpu,memory:/x\n").unwrap();
        std::fs::create_dir_all(root.join("memory/x")).unwrap();
        std::fs::write(root.join("memory/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        assert_eq!(cgroup_limit(&own, &root), None);
        std::fs::write(root.join("memory/x/memory.limit_in_bytes"), "536870912\n").unwrap();
        assert_eq!(cgroup_limit(&own, &root), Some(512 << 20));
    }
}
