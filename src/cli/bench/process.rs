//! What Linux says of this machine and of a process (proc(5)).

use std::fs;

use anyhow::Context as _;
use serde::Serialize;

/// Where the measuring was done.
#[derive(Debug, Clone, Serialize)]
pub struct Environment {
    /// Of the Optgate that measures, and that is measured unless it ran already.
    pub version: &'static str,
    /// `optimised` or `debug`.
    pub build: &'static str,
    /// Release of the kernel.
    pub kernel: String,
    /// The processor's name for itself.
    pub cpu: String,
    /// Cores that may be used.
    pub cores: usize,
}

impl Environment {
    /// This one.
    pub fn here() -> Self {
        let unknown = || "unknown".to_owned();
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let model = |text: &str| {
            Some(text.lines().find(|l| l.starts_with("model name"))?.split_once(':')?.1.trim().to_owned())
        };
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "optimised" },
            kernel: if kernel.is_empty() { unknown() } else { kernel },
            cpu: model(&read("/proc/cpuinfo")).unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// On a processor, all threads, nanoseconds.
    pub cpu_ns: u64,
    /// Of the ticks that the kernel saw it run, those in its own code and those in the kernel.
    pub ticks: (u64, u64),
    /// Memory it holds, bytes.
    pub resident: u64,
}

impl Used {
    /// As of now.
    ///
    /// # Errors
    /// No such process, or it is another user's.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |path: String| fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"));
        let tasks = format!("/proc/{pid}/task");
        let mut cpu_ns = 0;
        for task in fs::read_dir(&tasks).with_context(|| format!("{tasks} cannot be read"))? {
            // A thread may end meanwhile; Optgate's own stay.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            cpu_ns += number(text.split_whitespace().next());
        }
        let stat = read(format!("/proc/{pid}/stat"))?;
        let status = read(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = number(resident.and_then(|text| text.split_whitespace().next())) * 1024;
        Ok(Self { cpu_ns, ticks: ticks(&stat), resident })
    }
}

/// User and system ticks of `/proc/PID/stat`. The name, which may hold anything, ends at the last parenthesis.
fn ticks(stat: &str) -> (u64, u64) {
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let mut fields = after.split_whitespace().skip(11);
    (number(fields.next()), number(fields.next()))
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// proc_pid_stat(5): fields 14 and 15; the name is the second and may hold blanks and parentheses.
    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 52 13 0 0 20 0 3 0 100 1 1";
        assert_eq!(ticks(stat), (52, 13));
        assert_eq!(ticks(""), (0, 0));
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let used = Used::of(std::process::id()).unwrap();
        assert!(used.cpu_ns > 0 && used.resident > 100_000, "{used:?}");
        assert!(Used::of(u32::MAX).is_err());
    }
}
