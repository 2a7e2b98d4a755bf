//! Watches what memory the process uses and turns new requests away before there is none.
//!
//! What is measured is the process itself, not a sum of estimates: rewriters, bodies, HTTP/2 buffers and TLS are
//! all in it, and no request pays for the account. Kernel buffers are not, so `"auto"` leaves them a fifth.

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
    let of_cgroup = cgroup_limit(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    for look in 1_u64.. {
        if look % GIVES_BACK == 0 {
            give_back();
        }
        let limit = match house.snapshot.load().settings.limits.memory {
            ProcessMemory::Unlimited => None,
            ProcessMemory::Bytes(bytes) => Some(bytes),
            ProcessMemory::Auto => of_cgroup.map(|bytes| bytes / 5 * 4),
        };
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

/// Bytes of the process that are mapped from no file (proc_pid_status(5)).
fn used() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
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
