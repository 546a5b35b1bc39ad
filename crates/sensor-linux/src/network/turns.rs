//! When attempts are to leave. Pure.

use std::{collections::VecDeque, time::Duration};

use super::memory::Fingerprint;

/// When an attempt is to leave, and its number among all that were given a time.
pub(super) type Turn = (Duration, u64);

/// One queue per length of wait: times never go back, so each is in order, and the first one of all is
/// the earlier of two. Turns that were given up stay in their queue until they are at its front; who
/// has the attempts knows which ones those are.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queues: [VecDeque<(Turn, Fingerprint)>; 2],
    number: u64,
}

/// Which of the two lengths of wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// For a record of the kernel, after a packet.
    Record = 0,
    /// For the outcome of what a process asked for.
    Outcome = 1,
}

impl Turns {
    /// Gives an attempt its turn. Within a kind of wait, `due` never goes back.
    pub(super) fn give(&mut self, wait: Wait, due: Duration, key: Fingerprint) -> Turn {
        self.number += 1;
        let turn = (due, self.number);
        self.queue(wait).push_back((turn, key));
        turn
    }

    /// The turn that comes first of those that still hold.
    pub(super) fn first(
        &mut self,
        holds: impl Fn(Turn, Fingerprint) -> bool,
    ) -> Option<(Turn, Fingerprint)> {
        for queue in &mut self.queues {
            while queue
                .pop_front_if(|(turn, key)| !holds(*turn, *key))
                .is_some()
            {}
        }
        let fronts = self.queues.iter().filter_map(VecDeque::front);
        fronts.min_by_key(|(turn, _)| *turn).copied()
    }

    /// Turns kept, those included that were given up.
    pub(super) fn len(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// Throws away all that do not hold.
    pub(super) fn clean(&mut self, holds: impl Fn(Turn, Fingerprint) -> bool) {
        for queue in &mut self.queues {
            queue.retain(|(turn, key)| holds(*turn, *key));
        }
    }

    fn queue(&mut self, wait: Wait) -> &mut VecDeque<(Turn, Fingerprint)> {
        let [record, outcome] = &mut self.queues;
        match wait {
            Wait::Record => record,
            Wait::Outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::memory::Secret, *};

    #[test]
    fn the_earlier_of_both_waits_comes_first_and_what_was_given_up_never() {
        let secret = Secret::default();
        let [a, b, c] = [1, 2, 3].map(|key| secret.fingerprint(&key));
        let ms = Duration::from_millis;
        let mut turns = Turns::default();
        let first = turns.give(Wait::Record, ms(300), a);
        let second = turns.give(Wait::Record, ms(310), b);
        let third = turns.give(Wait::Outcome, ms(120), c);
        let fourth = turns.give(Wait::Outcome, ms(130), a);

        // The first turn of `a` was given up for an earlier one.
        let holds = |turn: Turn, _| turn != first;
        assert_eq!(turns.first(holds), Some((third, c)));
        let holds = |turn: Turn, _| turn != first && turn != third;
        assert_eq!(turns.first(holds), Some((fourth, a)));
        assert_eq!(turns.first(|turn, _| turn == second), Some((second, b)));
        assert_eq!(turns.len(), 1);
        turns.clean(|_, _| false);
        assert_eq!((turns.len(), turns.first(|_, _| true)), (0, None));
    }
}
