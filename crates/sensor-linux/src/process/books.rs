//! How far the ring was read and what is accounted for: the marks, and what they prove.
//!
//! The kernel counts executions it tried to report and those that did not fit. Whatever it tried
//! is delivered, dropped by the ring, or was taken out of the ring by a reader that did not live
//! to secure it; the last is the difference once the ring is empty.

use std::{fmt, str::FromStr};

/// Name of the mark of the ring, with the books of executions.
pub(super) const RING: &str = "process.ring";
/// Name of the mark with the books of the ends in the same ring that are told as events.
pub(super) const ENDS: &str = "process.ends";
/// Name of the mark of the kernel's count of processes.
pub(super) const FORKS: &str = "process.forks";

// Words of `struct process_counters`: seq, tried[8], dropped[8], shed[8].
const TRIED: usize = 1;
const DROPPED: usize = 9;
const SHED: usize = 17;

/// What the kernel counted, all CPUs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    /// Executions it tried to report.
    pub(crate) executions: u64,
    /// Executions that did not fit.
    pub(crate) dropped: u64,
    /// Executions turned away because their control group had its share of a crowded ring.
    pub(crate) shed: u64,
    /// Other records that did not fit, or were turned away.
    pub(crate) dropped_others: u64,
}

impl Counted {
    /// Adds the executions of one CPU: `struct process_counters`. Missing bytes count as zero.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        // 1 is an execution, 2 a fork, 3 an exit, 4 an exit that is told.
        self.executions += word(bytes, TRIED + 1);
        self.dropped += word(bytes, DROPPED + 1);
        self.shed += word(bytes, SHED + 1);
        let others = (2..=4).map(|kind| word(bytes, DROPPED + kind) + word(bytes, SHED + kind));
        self.dropped_others += others.sum::<u64>();
    }

    /// Adds, in their place, the ends of one CPU that are told as events.
    pub(super) fn add_ends(&mut self, bytes: &[u8]) {
        self.executions += word(bytes, TRIED + 4);
        self.dropped += word(bytes, DROPPED + 4);
        self.shed += word(bytes, SHED + 4);
    }
}

fn word(bytes: &[u8], index: usize) -> u64 {
    let at = index * 8;
    let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
    word.map_or(0, u64::from_ne_bytes)
}

/// State of the books of one ring; the mark of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Books {
    /// Boot that the rest is about.
    pub(super) boot: String,
    /// Kernel id of the ring.
    pub(super) ring: u32,
    /// Position up to which everything is secured.
    pub(crate) position: u64,
    /// Executions delivered or lost so far.
    pub(crate) accounted: u64,
    /// Part of them the ring dropped.
    pub(super) dropped: u64,
    /// Part of them turned away in favour of other control groups.
    pub(super) shed: u64,
}

impl Books {
    /// The books to continue: those of the mark if it is about this very ring, else new ones.
    pub(crate) fn open(boot: &str, ring: u32, mark: Option<&str>) -> Self {
        mark.and_then(|mark| mark.parse::<Self>().ok())
            .filter(|books| books.boot == boot && books.ring == ring)
            .unwrap_or_else(|| Self {
                boot: boot.to_owned(),
                ring,
                ..Self::default()
            })
    }

    /// Enters what the ring dropped since the last time, and answers how much that is.
    pub(crate) fn drop_new(&mut self, counted: Counted) -> u64 {
        let new = counted.dropped.saturating_sub(self.dropped);
        self.dropped = self.dropped.max(counted.dropped);
        self.accounted += new;
        new
    }

    /// Enters what was turned away since the last time, and answers how much that is.
    pub(crate) fn shed_new(&mut self, counted: Counted) -> u64 {
        let new = counted.shed.saturating_sub(self.shed);
        self.shed += new;
        self.accounted += new;
        new
    }

    /// Executions that are neither delivered nor dropped nor, the ring being empty, to come.
    pub(crate) fn missing(&self, counted: Counted) -> u64 {
        let dropped = counted.dropped.saturating_sub(self.dropped);
        let shed = counted.shed.saturating_sub(self.shed);
        counted
            .executions
            .saturating_sub(dropped)
            .saturating_sub(shed)
            .saturating_sub(self.accounted)
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            boot,
            ring,
            position,
            accounted,
            dropped,
            shed,
        } = self;
        write!(f, "{boot}:{ring}:{position}:{accounted}:{dropped}:{shed}")
    }
}

impl FromStr for Books {
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
            // Marks of older agents end before it; their programs turned nothing away.
            shed: number().unwrap_or_default(),
        })
    }
}

/// Finds what an earlier reader took and did not secure. Something may just be on its way into
/// an empty ring, so the smallest difference of a few looks counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Audit {
    looks: u32,
    smallest: u64,
}

impl Audit {
    const LOOKS: u32 = 4;

    pub(crate) fn new() -> Self {
        Self {
            looks: 0,
            smallest: u64::MAX,
        }
    }

    /// Takes a look at an empty ring; answers the loss after the last look.
    pub(crate) fn look(&mut self, missing: u64) -> Option<u64> {
        if self.looks >= Self::LOOKS {
            return None;
        }
        self.looks += 1;
        self.smallest = self.smallest.min(missing);
        let certain = self.smallest == 0 || self.looks == Self::LOOKS;
        if certain {
            self.looks = Self::LOOKS;
        }
        certain.then_some(self.smallest)
    }

    pub(crate) fn finished(&self) -> bool {
        self.looks >= Self::LOOKS
    }
}

/// Processes started since a mark of the same boot was made: an upper estimate of the executions
/// nobody saw, as it includes threads and processes that never executed anything.
pub(super) fn forks_since(mark: &str, boot: &str, forks: u64) -> u64 {
    mark.split_once(':')
        .filter(|(marked_boot, _)| *marked_boot == boot)
        .and_then(|(_, marked)| marked.parse().ok())
        .map_or(0, |marked| forks.saturating_sub(marked))
}

/// `processes` of `/proc/stat`: processes and threads started since boot.
pub(super) fn parse_forks(stat: &str) -> Option<u64> {
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix("processes "));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(executions: u64, dropped: u64) -> Counted {
        Counted {
            executions,
            dropped,
            ..Counted::default()
        }
    }

    #[test]
    fn a_mark_continues_the_books_of_its_own_ring_only() {
        let books = Books {
            boot: "b-1".into(),
            ring: 7,
            position: 4096,
            accounted: 12,
            dropped: 2,
            shed: 1,
        };
        let mark = books.to_string();
        assert_eq!(Books::open("b-1", 7, Some(&mark)), books);
        let older = Books { shed: 0, ..books };
        assert_eq!(Books::open("b-1", 7, Some("b-1:7:4096:12:2")), older);
        for (boot, ring, mark) in [
            ("b-2", 7, Some(mark.as_str())),
            ("b-1", 8, Some(&mark)),
            ("b-1", 7, None),
            ("b-1", 7, Some("")),
            ("b-1", 7, Some("b-1:7:x:1:1")),
            ("b-1", 7, Some("b-1:7:1:1")),
        ] {
            let fresh = Books::open(boot, ring, mark);
            assert_eq!((fresh.position, fresh.accounted, fresh.ring), (0, 0, ring));
        }
    }

    #[test]
    fn every_execution_is_delivered_dropped_or_missing() {
        let mut books = Books::open("b", 1, None);
        books.accounted += 10;
        assert_eq!(books.drop_new(counted(15, 3)), 3);
        assert_eq!(books.drop_new(counted(15, 3)), 0);
        assert_eq!(books.missing(counted(15, 3)), 2);
        // A drop that was not entered yet is not missing.
        assert_eq!(books.missing(counted(16, 4)), 2);
        books.accounted += 2;
        assert_eq!(books.missing(counted(15, 3)), 0);
        assert_eq!(books.missing(counted(1, 0)), 0);

        // What was turned away is entered apart.
        let turned_away = Counted {
            shed: 4,
            ..counted(19, 3)
        };
        assert_eq!(books.missing(turned_away), 0);
        assert_eq!(books.shed_new(turned_away), 4);
        assert_eq!(books.shed_new(turned_away), 0);
        assert_eq!(books.missing(turned_away), 0);
    }

    #[test]
    fn counters_of_all_cpus_are_added() {
        let words: Vec<u8> = [
            [9u64].as_slice(),
            &[0, 5, 6, 7, 8, 0, 0, 0],
            &[0, 1, 2, 3, 4, 0, 0, 0],
            &[0, 4, 5, 6, 7, 0, 0, 0],
        ]
        .concat()
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
        let mut sum = Counted::default();
        sum.add(&words);
        sum.add(&words);
        sum.add(&words[..10]);
        let expected = Counted {
            executions: 10,
            dropped: 2,
            shed: 8,
            dropped_others: 54,
        };
        assert_eq!(sum, expected);
        let mut ends = Counted::default();
        ends.add_ends(&words);
        assert_eq!((ends.executions, ends.dropped, ends.shed), (8, 4, 7));
    }

    #[test]
    fn an_execution_on_its_way_is_not_taken_for_a_loss() {
        let looks = |missing: &[u64]| {
            let mut audit = Audit::new();
            missing.iter().find_map(|&missing| audit.look(missing))
        };
        assert_eq!(looks(&[0]), Some(0));
        assert_eq!(looks(&[1, 0]), Some(0));
        assert_eq!(looks(&[5, 6, 5, 5]), Some(5));
        assert_eq!(looks(&[5, 6, 5]), None);
        let mut audit = Audit::new();
        audit.look(0);
        assert!(audit.finished());
        assert_eq!(audit.look(9), None);
    }

    #[test]
    fn what_happened_without_an_agent_is_estimated_within_one_boot() {
        assert_eq!(forks_since("b:100", "b", 150), 50);
        assert_eq!(forks_since("b:200", "b", 150), 0);
        assert_eq!(forks_since("a:100", "b", 150), 0);
        assert_eq!(forks_since("", "b", 150), 0);
        assert_eq!(parse_forks("cpu 1\nprocesses 42\nbtime 7\n"), Some(42));
        assert_eq!(parse_forks("cpu 1\n"), None);
    }
}
