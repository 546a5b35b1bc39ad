//! Leaves an API alone that does not answer.
//!
//! The circuit breakers on crates.io read a clock of their own and wrap the call; here the time is
//! given and the caller decides what becomes of what waits, so these are a few lines of our own.

use std::time::{Duration, Instant};

/// Failures in a row that open it.
const FAILURES: u32 = 5;
/// First pause; it doubles with every trial that fails.
const PAUSE: Duration = Duration::from_secs(30);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Whether an API is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is.
    Closed,
    /// One question is under way to find out whether it answers again.
    Trial,
    /// It is not.
    Open,
}

#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    failures: u32,
    pause: Duration,
    until: Option<Instant>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: State::Closed,
            failures: 0,
            pause: PAUSE,
            until: None,
        }
    }
}

impl Breaker {
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whether a question may be asked now. After the pause that is one, the trial.
    pub(super) fn permits(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Trial => false,
            State::Open if self.until.is_some_and(|until| now < until) => false,
            State::Open => {
                self.state = State::Trial;
                true
            }
        }
    }

    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// Counts a failure; `wait` is how long the API asked to be left alone. Says whether the breaker
    /// has opened.
    pub(super) fn failed(&mut self, now: Instant, wait: Option<Duration>) -> bool {
        self.failures = self.failures.saturating_add(1);
        let opens = match self.state {
            State::Closed => self.failures >= FAILURES || wait.is_some(),
            State::Trial => {
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                true
            }
            // Asked before it opened.
            State::Open => false,
        };
        if opens {
            self.state = State::Open;
            let pause = self.pause.max(wait.unwrap_or_default());
            self.until = Some(now + pause.min(LONGEST_PAUSE));
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_a_trial() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES - 1 {
            assert!(breaker.permits(start));
            assert!(!breaker.failed(start, None));
        }
        breaker.answered();
        for n in 1..=FAILURES {
            assert!(breaker.permits(start));
            assert_eq!(breaker.failed(start, None), n == FAILURES);
        }
        assert_eq!(breaker.state(), State::Open);
        assert!(!breaker.permits(start + PAUSE - Duration::from_secs(1)));
        assert!(breaker.permits(start + PAUSE), "one trial");
        assert!(!breaker.permits(start + PAUSE), "and no second");
        breaker.answered();
        assert_eq!(breaker.state(), State::Closed);
        assert!(breaker.permits(start + PAUSE));
    }

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            breaker.failed(now, None);
        }
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let until = breaker.until.unwrap();
            pauses.push((until - now).as_secs());
            now = until;
            assert!(breaker.permits(now));
            assert!(breaker.failed(now, None));
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600, 600]);
    }

    #[test]
    fn who_asks_for_patience_gets_it_at_once() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        assert!(breaker.failed(now, Some(Duration::from_secs(90))));
        assert!(!breaker.permits(now + Duration::from_secs(89)));
        assert!(breaker.permits(now + Duration::from_secs(90)));
    }
}
