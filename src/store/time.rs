//! The times of records: microseconds since the Unix epoch, and how they are written, in UTC (RFC 3339).
//!
//! A time outside what calendars hold is written as it is, with `us` behind it, so that no record is hidden by its time.

use jiff::Timestamp;

/// Now.
#[must_use]
pub fn now_us() -> i64 {
    Timestamp::now().as_microsecond()
}

/// `2026-11-18T11:06:40.000100Z`: always six digits after the second, so that text order is time order.
#[must_use]
pub fn in_full(time_us: i64) -> String {
    written(time_us, |time| format!("{time:.6}"))
}

/// `2026-11-18T11:06:40.0001Z`: the digits that it needs.
#[must_use]
pub fn shortest(time_us: i64) -> String {
    written(time_us, |time| time.to_string())
}

/// `2026-11-18T11:06:40Z`: what is below a second is left out.
#[must_use]
pub fn to_the_second(time_us: i64) -> String {
    written(time_us, |time| format!("{time:.0}"))
}

/// `2026-11-18 11:06 UTC`, for people.
#[must_use]
pub fn to_the_minute(time_us: i64) -> String {
    written(time_us, |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

fn written(time_us: i64, format: impl FnOnce(Timestamp) -> String) -> String {
    Timestamp::from_microsecond(time_us).map_or_else(|_| format!("{time_us}us"), format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_four_ways_and_never_hidden() {
        let ways = [in_full, shortest, to_the_second, to_the_minute];
        let written = |time_us| ways.map(|way| way(time_us));
        assert_eq!(
            written(1_795_000_000_900_100),
            [
                "2026-11-18T11:06:40.900100Z",
                "2026-11-18T11:06:40.9001Z",
                "2026-11-18T11:06:40Z",
                "2026-11-18 11:06 UTC"
            ]
        );
        assert_eq!(written(i64::MAX), ["9223372036854775807us"; 4]);
    }
}
