//! How far the ring was read and what is accounted for: the mark, and what it proves.
//!
//! The kernel counts the observations it tried to report (attempts, accepts, UDP flows) and those
//! that did not fit. Whatever it tried was read, dropped by the ring, or taken out of the ring by a
//! reader whose marks are lost; the last is the difference once the ring is empty.

use std::{collections::VecDeque, fmt, str::FromStr, time::Duration};

use super::kernel::Counted;

/// Name of the mark.
pub(super) const RING: &str = "network.ring";

/// What a commit secures.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// Boot that the rest is about.
    pub(super) boot: String,
    /// Kernel id of the ring.
    pub(super) ring: u32,
    /// Where the oldest record begins that is still waited on.
    pub(super) position: u64,
    /// Observations before that position, and those the ring dropped.
    pub(super) accounted: u64,
    /// Observations the ring dropped.
    pub(super) dropped: u64,
    /// Notes in the journal.
    pub(super) notes: u64,
    /// When the commit was made, since boot.
    pub(super) at: Duration,
    /// Observations turned away in favour of other control groups.
    pub(super) shed: u64,
}

impl Mark {
    /// The mark if it is about this very ring, else that of a beginning.
    pub(super) fn of_ring(boot: &str, ring: u32, mark: Option<&str>) -> Self {
        mark.and_then(|mark| mark.parse::<Self>().ok())
            .filter(|mark| mark.boot == boot && mark.ring == ring)
            .unwrap_or_else(|| Self {
                boot: boot.to_owned(),
                ring,
                ..Self::default()
            })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            boot,
            ring,
            position,
            accounted,
            dropped,
            notes,
            at,
            shed,
        } = self;
        let nanos = at.as_nanos();
        write!(
            f,
            "{boot}:{ring}:{position}:{accounted}:{dropped}:{notes}:{nanos}:{shed}"
        )
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let boot = parts.next().ok_or(())?.to_owned();
        let ring = parts.next().and_then(|part| part.parse().ok()).ok_or(())?;
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or(());
        Ok(Self {
            boot,
            ring,
            position: number()?,
            accounted: number()?,
            dropped: number()?,
            notes: number()?,
            at: Duration::from_nanos(number()?),
            // Marks of older agents end before it; their programs turned nothing away.
            shed: number().unwrap_or_default(),
        })
    }
}

/// The books of a run.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) mark: Mark,
    /// Where the observations begin that were read and are not given up.
    held: VecDeque<u64>,
}

impl Books {
    /// Continues from a mark.
    pub(super) fn new(mark: Mark) -> Self {
        let held = VecDeque::new();
        Self { mark, held }
    }

    /// Enters an observation.
    pub(super) fn read(&mut self, position: u64) {
        self.held.push_back(position);
    }

    /// Enters that nothing before `position` is waited on; says whether that is news worth a
    /// commit.
    pub(super) fn give_up(&mut self, position: u64) -> bool {
        let before = self.held.len();
        while self.held.front().is_some_and(|&held| held < position) {
            self.held.pop_front();
        }
        let given_up = before - self.held.len();
        self.mark.accounted += given_up as u64;
        self.mark.position = position;
        given_up > 0
    }

    /// Enters what the ring dropped since the last time, and answers how much that is.
    pub(super) fn drop_new(&mut self, counted: Counted) -> u64 {
        let new = counted.lost_observations.saturating_sub(self.mark.dropped);
        self.mark.dropped += new;
        self.mark.accounted += new;
        new
    }

    /// Enters what was turned away since the last time, and answers how much that is.
    pub(super) fn shed_new(&mut self, counted: Counted) -> u64 {
        let new = counted.shed_observations.saturating_sub(self.mark.shed);
        self.mark.shed += new;
        self.mark.accounted += new;
        new
    }

    /// Observations that are neither read nor dropped nor, the ring being empty, to come.
    pub(super) fn missing(&self, counted: Counted) -> u64 {
        let dropped = counted.lost_observations.saturating_sub(self.mark.dropped);
        let shed = counted.shed_observations.saturating_sub(self.mark.shed);
        counted
            .observations
            .saturating_sub(dropped + shed)
            .saturating_sub(self.mark.accounted)
            .saturating_sub(self.held.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(observations: u64, lost_observations: u64) -> Counted {
        Counted {
            observations,
            lost_observations,
            ..Counted::default()
        }
    }

    #[test]
    fn a_mark_continues_the_books_of_its_own_ring_only() {
        let mark = Mark {
            boot: "b-1".into(),
            ring: 7,
            position: 4096,
            accounted: 12,
            dropped: 2,
            notes: 9,
            at: Duration::from_nanos(77),
            shed: 3,
        };
        let text = mark.to_string();
        assert_eq!(Mark::of_ring("b-1", 7, Some(&text)), mark);
        for (boot, ring, text) in [
            ("b-2", 7, Some(text.as_str())),
            ("b-1", 8, Some(&text)),
            ("b-1", 7, None),
            ("b-1", 7, Some("")),
            ("b-1", 7, Some("b-1:7:x:1:1:1:1")),
            ("b-1", 7, Some("b-1:7:1:1:1:1")),
        ] {
            let fresh = Mark::of_ring(boot, ring, text);
            assert_eq!((fresh.position, fresh.notes, fresh.ring), (0, 0, ring));
        }
    }

    #[test]
    fn every_observation_is_read_dropped_or_missing_and_read_ones_count_when_given_up() {
        let mut books = Books::new(Mark::default());
        for position in [0, 120, 240] {
            books.read(position);
        }
        assert_eq!(books.drop_new(counted(9, 4)), 4);
        assert_eq!(books.drop_new(counted(9, 4)), 0);
        assert_eq!(books.missing(counted(9, 4)), 2);
        assert!(books.give_up(240));
        assert!(!books.give_up(240));
        assert_eq!((books.mark.accounted, books.mark.position), (6, 240));
        assert_eq!(books.missing(counted(9, 4)), 2);
        let turned_away = Counted {
            shed_observations: 3,
            ..counted(12, 4)
        };
        assert_eq!(books.missing(turned_away), 2);
        assert_eq!(
            (books.shed_new(turned_away), books.shed_new(turned_away)),
            (3, 0)
        );
        assert_eq!(books.missing(turned_away), 2);

        // A successor reads what was not given up again.
        let mut books = Books::new(books.mark);
        assert_eq!(books.missing(turned_away), 3);
        books.read(240);
        assert_eq!(books.missing(turned_away), 2);
    }
}
