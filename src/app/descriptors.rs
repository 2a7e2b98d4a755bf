//! Descriptors: a process may have so many, and visitors' connections are not to use up those for origins, the journal and
//! the admin listener.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::telemetry::events;

/// What listeners, event loops, the journal, logs and the admin listener have.
const OWN: u64 = 64;
/// Visitors' connections are so many at least.
const LEAST: usize = 8;

/// Raises the limit to what this process may have of itself (what a shell gives is meant for programs that use select(2)),
/// and says how many connections visitors may have by it: three quarters of what is not our own, since one whose request
/// is under way needs a connection to an origin, and an idle one none. `wanted`: `limits.connections`.
pub fn room_for_visitors(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    let Some(limit) = limit.current else { return usize::MAX };
    let room = room(limit);
    if room < wanted {
        events::few_descriptors(limit, room);
    }
    room
}

fn room(limit: u64) -> usize {
    usize::try_from(limit.saturating_sub(OWN) / 4 * 3).unwrap_or(usize::MAX).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_left_for_origins_and_some_visitors_come_in_always() {
        let rooms = [0, 80, 1024, 1_048_576, u64::MAX].map(room);
        assert_eq!(rooms[..4], [8, 12, 720, 786_384]);
        assert!(rooms[4] > 1 << 60);
    }
}
