//! Pauses between attempts. Pure.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(500);

/// Doubling pauses, each shortened at random so that a fleet does not come back as one.
#[derive(Debug)]
pub(super) struct Pauses {
    longest: Duration,
    current: Duration,
}

impl Pauses {
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            longest,
            current: SHORTEST.min(longest),
        }
    }

    /// The next pause: between half of the current length and all of it, as `random` decides.
    pub(super) fn next(&mut self, random: u32) -> Duration {
        let half = self.current / 2;
        let pause = half + half.mul_f64(f64::from(random) / f64::from(u32::MAX));
        self.current = (self.current * 2).min(self.longest);
        pause
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over() {
        let mut pauses = Pauses::new(Duration::from_secs(30));
        let ms: Vec<u128> = (0..8).map(|_| pauses.next(u32::MAX).as_millis()).collect();
        assert_eq!(ms, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        pauses.reset();
        assert_eq!(pauses.next(0), Duration::from_millis(250));
    }
}
