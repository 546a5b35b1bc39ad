//! Local time, for logs that are written in it.

use yinglong_model::Timestamp;

/// A date and time of day without zone or year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Civil {
    /// 1 to 12.
    pub(super) month: u8,
    /// 1 to 31.
    pub(super) day: u8,
    /// 0 to 23.
    pub(super) hour: u8,
    /// 0 to 59.
    pub(super) minute: u8,
    /// 0 to 60.
    pub(super) second: u8,
}

/// How far a log may be ahead of the clock before its line is taken for last year's.
const AHEAD: std::time::Duration = std::time::Duration::from_secs(86_400);

/// The last time before `now`, or shortly after it, at which a local clock showed this.
pub(super) fn infer(civil: Civil, now: Timestamp) -> Option<Timestamp> {
    let year = now.to_datetime().year();
    // Eight years, for the 29th of February around 1900 and 2100.
    (year - 8..=year + 1)
        .rev()
        .filter_map(|year| at(year, civil))
        .find(|time| *time <= now.plus(AHEAD))
}

/// The moment at which the host's local clock shows this; `None` when it never does.
fn at(year: i32, civil: Civil) -> Option<Timestamp> {
    // SAFETY: `tm` is a C structure of integers and one pointer that may be null; all zeros is
    // a valid value of it.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    tm.tm_year = year.checked_sub(1900)?;
    tm.tm_mon = i32::from(civil.month) - 1;
    tm.tm_mday = i32::from(civil.day);
    tm.tm_hour = i32::from(civil.hour);
    tm.tm_min = i32::from(civil.minute);
    tm.tm_sec = i32::from(civil.second);
    // The C library is to find out about summer time.
    tm.tm_isdst = -1;
    // SAFETY: `tm` is ours alone and complete; mktime(3) reads and normalizes it, and keeps no
    // pointer to it.
    let secs = unsafe { libc::mktime(&raw mut tm) };
    // A day that the month does not have is carried into the next one.
    (secs != -1 && tm.tm_mday == i32::from(civil.day)).then(|| Timestamp::from_secs(secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn civil(month: u8, day: u8, hour: u8) -> Civil {
        Civil {
            month,
            day,
            hour,
            minute: 0,
            second: 0,
        }
    }

    #[test]
    fn the_year_is_the_last_one_in_which_the_line_can_have_been_written() {
        let now = at(2026, civil(1, 1, 0)).unwrap();
        let check = |civil: Civil, year: i32| assert_eq!(infer(civil, now), at(year, civil));
        check(civil(12, 31, 23), 2025);
        check(civil(1, 1, 0), 2026);
        check(civil(1, 1, 20), 2026);
        check(civil(1, 2, 12), 2025);
        check(civil(2, 29, 12), 2024);
        assert_eq!(infer(civil(2, 30, 0), now), None);
    }
}
