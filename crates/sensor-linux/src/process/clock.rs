//! The kernel counts from boot; documents hold the time of day.

use nix::time::{ClockId, clock_gettime};
use yinglong_model::Timestamp;

/// Difference between the time of day and the time since boot. Made anew for every batch, because
/// the time of day can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Clock {
    boot_nanos: i64,
}

impl Clock {
    pub(crate) fn read() -> Self {
        let now = i64::try_from(since_boot_ns()).unwrap_or(i64::MAX);
        Self::when(nanos(ClockId::CLOCK_REALTIME), now)
    }

    /// The clock when it is `calendar` nanoseconds since 1970 and `since_boot` since boot.
    const fn when(calendar: i64, since_boot: i64) -> Self {
        Self {
            boot_nanos: calendar.saturating_sub(since_boot),
        }
    }

    /// The time of day, `ns` after boot.
    pub(crate) fn at(self, ns: u64) -> Timestamp {
        let ns = i64::try_from(ns).unwrap_or(i64::MAX);
        Timestamp::from_nanos(self.boot_nanos.saturating_add(ns))
    }

    /// Nanoseconds after boot at that time of day; 0 for times before.
    pub(crate) fn boot_ns(self, at: Timestamp) -> u64 {
        u64::try_from(at.nanos().saturating_sub(self.boot_nanos)).unwrap_or_default()
    }
}

/// Nanoseconds since boot, sleep included.
pub(crate) fn since_boot_ns() -> u64 {
    u64::try_from(nanos(ClockId::CLOCK_BOOTTIME)).unwrap_or_default()
}

fn nanos(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| {
        time.tv_sec()
            .saturating_mul(1_000_000_000)
            .saturating_add(time.tv_nsec())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_since_boot_is_now_by_the_calendar() {
        let (clock, since_boot) = (Clock::read(), since_boot_ns());
        let calendar = Timestamp::from(std::time::SystemTime::now());
        assert!(calendar.since(clock.at(since_boot)).as_secs() < 60);
        assert!(clock.at(since_boot).since(calendar).as_secs() < 60);
    }

    #[test]
    fn a_clock_that_is_set_moves_times_and_not_their_order() {
        const SECOND: i64 = 1_000_000_000;
        const HOUR: i64 = 3600 * SECOND;
        let noon = 1_764_000_000 * SECOND;
        // Up for an hour, and then the clock is set back by two.
        let before = Clock::when(noon, HOUR);
        let after = Clock::when(noon - 2 * HOUR, HOUR);
        let at = |secs: u64| 3600 * 1_000_000_000 + secs * 1_000_000_000;
        assert_eq!(before.at(at(0)).nanos(), noon);
        assert_eq!(after.at(at(1)).nanos(), noon - 2 * HOUR + SECOND);
        // Within a batch, which has one clock, the order is that of the kernel.
        for clock in [before, after] {
            assert!(clock.at(at(1)) < clock.at(at(2)));
            assert_eq!(clock.at(at(5)).since(clock.at(at(2))).as_secs(), 3);
        }
        // Set to a time before boot ended up before 1970: nothing overflows.
        assert_eq!(Clock::when(SECOND, HOUR).at(0).nanos(), SECOND - HOUR);
    }

    #[test]
    fn the_time_of_day_and_the_time_since_boot_are_turned_into_each_other() {
        let clock = Clock {
            boot_nanos: 1_000_000,
        };
        assert_eq!(clock.boot_ns(clock.at(42)), 42);
        assert_eq!(clock.boot_ns(Timestamp::from_nanos(5)), 0);
    }

    #[test]
    fn times_beyond_the_calendar_stay_at_its_end() {
        let clock = Clock {
            boot_nanos: i64::MAX,
        };
        assert_eq!(clock.at(u64::MAX).nanos(), i64::MAX);
    }
}
