//! Days that settings name.

use jiff::{Timestamp, civil, tz};

use super::key::KeyPath;
use super::meaning::Problems;
use super::written::Date;

/// Refuses a day that has come nowhere on Earth yet: UTC+14 has it first. A clock that is behind this program's own time
/// says nothing.
pub(super) fn past(path: &KeyPath, date: &Date, why: &str, problems: &mut Problems<'_>) -> String {
    const WRITTEN: civil::Date = civil::date(2026, 11, 1);
    let today = tz::Offset::constant(14).to_datetime(Timestamp::now()).date();
    if date.0.parse::<civil::Date>().is_ok_and(|date| date > today && today > WRITTEN) {
        let next = format!("write the day on which it was made; today is {today} at the latest");
        problems.wrong(path, format!("`{path}` is in the future: {}", date.0), why, &next);
    }
    date.0.clone()
}
