//! How long a sensor that looks in rounds waits for the next one.
//!
//! While there is something to do it looks every round: that gathers what comes together, and
//! nobody needs to be woken for it. When nothing came for some rounds it waits until it is woken, or
//! for a configuration or the end. The programs wake the reader with the first record after
//! `WAKE_PERIOD_NS` (50 ms), which is less than [`LOOKS`] rounds: so the record that ends the quiet
//! always does.

use std::time::Duration;

use yinglong_sensor::Context;

/// Rounds without anything until the long wait.
const LOOKS: u32 = 4;

/// Rounds without anything to do.
#[derive(Debug, Default)]
pub(crate) struct Quiet(u32);

impl Quiet {
    /// Enters whether a round had anything to do, or left anything to be done.
    pub(crate) fn round(&mut self, busy: bool) {
        self.0 = if busy { 0 } else { self.0.saturating_add(1) };
    }

    /// How long to wait for something new.
    pub(crate) fn wait(&self, round: Duration) -> Duration {
        if self.0 < LOOKS {
            round
        } else {
            Context::PATIENCE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_long_only_after_rounds_without_anything() {
        let round = Duration::from_millis(50);
        let mut quiet = Quiet::default();
        for _ in 0..LOOKS {
            assert_eq!(quiet.wait(round), round);
            quiet.round(false);
        }
        assert_eq!(quiet.wait(round), Context::PATIENCE);
        quiet.round(true);
        assert_eq!(quiet.wait(round), round);
    }
}
