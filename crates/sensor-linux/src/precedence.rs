//! Precedence of the threads that empty the kernel's rings.
//!
//! A ring holds about a second of a storm. Where processes compete in groups (control groups with the cpu
//! controller, sessions), a thread that wakes rarely was measured to wait up to seven seconds for its
//! turn beside a group that does nothing but execute (Linux 6.18): whoever makes a storm then hides
//! in it. So such a thread goes before ordinary ones, but only up to [`SHARE`] of one processor: what it
//! needs beyond that it gets like everybody else, and under the quota of its unit.

use std::{
    io,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

/// Time in which a share is counted.
const WINDOW: Duration = Duration::from_secs(1);
/// Processor time of a window during which the thread goes first: a tenth of a processor, as much as
/// 5,000 executions take to be told.
const SHARE: Duration = Duration::from_millis(100);

/// Of the thread that made it.
#[derive(Debug)]
pub(crate) struct Precedence {
    budget: Budget,
    /// The kernel or the unit does not allow it.
    refused: bool,
}

impl Precedence {
    /// Goes first from here on, if that is allowed. Threads made by this one do not.
    pub(crate) fn take(stream: &str) -> Self {
        let (now, used) = (Instant::now(), used());
        let refused = set(Turn::First)
            .inspect_err(|error| {
                tracing::warn!(
                    stream,
                    %error,
                    "cannot go before other processes: on a busy host more may be lost; \
                     the unit needs CAP_SYS_NICE and RestrictRealtime=no"
                );
            })
            .is_err();
        Self {
            budget: Budget::new(now, used),
            refused,
        }
    }

    /// To be called in every round.
    pub(crate) fn round(&mut self) {
        if self.refused {
            return;
        }
        if let Some(turn) = self.budget.look(Instant::now(), used())
            && let Err(error) = set(turn)
        {
            tracing::warn!(%error, "cannot go before other processes any more");
            self.refused = true;
        }
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        if !self.refused {
            // What is refused here was not allowed before either.
            let _ = set(Turn::LikeOthers);
        }
    }
}

/// When the thread gets a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    LikeOthers,
}

/// Decides. Pure.
#[derive(Debug)]
struct Budget {
    began: Instant,
    used_before: Duration,
    turn: Turn,
}

impl Budget {
    fn new(now: Instant, used: Duration) -> Self {
        Self {
            began: now,
            used_before: used,
            turn: Turn::First,
        }
    }

    /// What changes, after the thread has used so much processor time in all.
    fn look(&mut self, now: Instant, used: Duration) -> Option<Turn> {
        if now.saturating_duration_since(self.began) >= WINDOW {
            (self.began, self.used_before) = (now, used);
        }
        let turn = if used.saturating_sub(self.used_before) < SHARE {
            Turn::First
        } else {
            Turn::LikeOthers
        };
        let changed = turn != self.turn;
        self.turn = turn;
        changed.then_some(turn)
    }
}

/// Processor time of this thread.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map(Duration::from)
        .unwrap_or_default()
}

/// The lowest priority of those that go before ordinary threads (sched(7)).
fn set(turn: Turn) -> io::Result<()> {
    let (policy, sched_priority) = match turn {
        Turn::First => (libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 1),
        Turn::LikeOthers => (libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0),
    };
    let parameters = libc::sched_param { sched_priority };
    // SAFETY: 0 is the calling thread, the parameters outlive the call.
    let answer = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn goes_first_up_to_its_share_of_every_window() {
        let start = Instant::now();
        let mut budget = Budget::new(start, ms(40));
        assert_eq!(budget.look(start + ms(500), ms(139)), None);
        assert_eq!(
            budget.look(start + ms(600), ms(140)),
            Some(Turn::LikeOthers)
        );
        assert_eq!(budget.look(start + ms(999), ms(300)), None);
        assert_eq!(budget.look(start + ms(1000), ms(700)), Some(Turn::First));
        assert_eq!(budget.look(start + ms(1100), ms(799)), None);
        assert_eq!(
            budget.look(start + ms(1200), ms(800)),
            Some(Turn::LikeOthers)
        );
    }

    #[test]
    fn the_kernel_puts_a_thread_first_and_not_what_it_starts() {
        let policy = || {
            // SAFETY: 0 is the calling thread.
            let policy = unsafe { libc::sched_getscheduler(0) };
            policy & !libc::SCHED_RESET_ON_FORK
        };
        std::thread::spawn(move || {
            let precedence = Precedence::take("test");
            if precedence.refused {
                eprintln!("SKIPPED the_kernel_puts_a_thread_first: not allowed here");
                return;
            }
            assert_eq!(policy(), libc::SCHED_RR);
            let child = std::thread::spawn(policy).join().unwrap();
            assert_eq!(child, libc::SCHED_OTHER);
            set(Turn::LikeOthers).unwrap();
            assert_eq!(policy(), libc::SCHED_OTHER);
        })
        .join()
        .unwrap();
    }
}
