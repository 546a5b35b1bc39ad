//! Gathers what happens to a path within a moment, so that a burst of writes is one event.
//!
//! Invariants: no kind of change is ever forgotten; of one path, groups leave in the order their
//! steps came; at most [`Coalescer::MOST_PATHS`] paths wait, and then the oldest leaves early.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use yinglong_model::Timestamp;

use super::change::{Actor, Kind, Note, Other, Step};

/// A change within a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) kind: Kind,
    pub(super) actor: Option<Arc<Actor>>,
    pub(super) at: Timestamp,
    pub(super) other: Option<Other>,
}

/// What happened to one path within a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) path: Arc<Path>,
    /// In order; never empty unless `perhaps` is set.
    pub(super) changes: Vec<Change>,
    /// A write that only a look at the file can confirm.
    pub(super) perhaps: Option<Change>,
}

impl Group {
    /// Whether nothing has the path after the group.
    pub(super) fn ends(&self) -> bool {
        self.changes.last().is_some_and(|last| last.kind.ends())
    }
}

#[derive(Debug)]
struct Waiting {
    /// Tells an entry of a queue whether it still speaks of this wait.
    turn: u64,
    slow: bool,
    group: Group,
    /// Written to and not closed since.
    open: bool,
}

/// Groups the steps of paths.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    waiting: HashMap<Arc<Path>, Waiting>,
    fast: VecDeque<(Instant, u64, Arc<Path>)>,
    slow: VecDeque<(Instant, u64, Arc<Path>)>,
    /// Reported as written by somebody who had not closed them.
    writers: HashSet<Arc<Path>>,
    early: Vec<Group>,
    turns: u64,
}

impl Coalescer {
    /// How long a path gathers changes: long enough for one `echo`, short enough for the 200 ms
    /// within which a change is to be reported.
    pub(super) const WINDOW: Duration = Duration::from_millis(80);
    /// How long writes gather while the same writer keeps the file open, so that a busy log is
    /// hashed once a second. Closing the file ends it.
    pub(super) const WRITER_WINDOW: Duration = Duration::from_secs(1);
    /// Most paths that gather at a time.
    pub(super) const MOST_PATHS: usize = 16_384;
    const MOST_CHANGES: usize = 16;
    const MOST_WRITERS: usize = 4_096;

    /// Takes a step in.
    pub(super) fn note(&mut self, now: Instant, note: Note) {
        let Note {
            path,
            step,
            actor,
            at,
            other,
        } = note;
        let kind = match step {
            Step::Changed(kind) => kind,
            Step::Closed => Kind::Write,
        };
        let change = Change {
            kind,
            actor,
            at,
            other,
        };
        let path = if let Some(waiting) = self.waiting.get_mut(&path) {
            if waiting.group.changes.len() < Self::MOST_CHANGES {
                add(waiting, step, change);
                if step != Step::Changed(Kind::Write) && waiting.slow {
                    self.turns += 1;
                    waiting.slow = false;
                    waiting.turn = self.turns;
                    self.fast.push_back((now + Self::WINDOW, self.turns, path));
                }
                return;
            }
            let early = self.take(&path);
            self.early.extend(early);
            path
        } else {
            path
        };
        if self.waiting.len() >= Self::MOST_PATHS {
            self.make_room();
        }
        self.turns += 1;
        let slow = step == Step::Changed(Kind::Write) && self.writers.contains(&path);
        let (queue, window) = match slow {
            true => (&mut self.slow, Self::WRITER_WINDOW),
            false => (&mut self.fast, Self::WINDOW),
        };
        queue.push_back((now + window, self.turns, Arc::clone(&path)));
        let mut waiting = Waiting {
            turn: self.turns,
            slow,
            open: false,
            group: Group {
                path: Arc::clone(&path),
                changes: Vec::with_capacity(2),
                perhaps: None,
            },
        };
        add(&mut waiting, step, change);
        self.waiting.insert(path, waiting);
    }

    /// Groups whose time has come, and those that had to leave early.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Group> {
        let mut groups = std::mem::take(&mut self.early);
        for slow in [false, true] {
            while let Some((_, turn, path)) = self.pop(slow, Some(now)) {
                if self.waiting.get(&path).is_some_and(|w| w.turn == turn) {
                    groups.extend(self.take(&path));
                }
            }
        }
        groups
    }

    /// Everything, due or not.
    pub(super) fn all(&mut self) -> Vec<Group> {
        let mut groups = std::mem::take(&mut self.early);
        while !self.waiting.is_empty() {
            self.make_room();
            groups.append(&mut self.early);
        }
        groups
    }

    /// When [`Coalescer::due`] will have something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let fast = self.fast.front().map(|entry| entry.0);
        let slow = self.slow.front().map(|entry| entry.0);
        match (fast, slow) {
            (Some(fast), Some(slow)) => Some(fast.min(slow)),
            (fast, slow) => fast.or(slow),
        }
    }

    fn pop(&mut self, slow: bool, by: Option<Instant>) -> Option<(Instant, u64, Arc<Path>)> {
        let queue = match slow {
            true => &mut self.slow,
            false => &mut self.fast,
        };
        match (queue.front(), by) {
            (Some(front), Some(by)) if front.0 > by => None,
            _ => queue.pop_front(),
        }
    }

    /// Lets the path that waits longest leave early.
    fn make_room(&mut self) {
        for slow in [false, true] {
            while let Some((_, turn, path)) = self.pop(slow, None) {
                if self.waiting.get(&path).is_some_and(|w| w.turn == turn) {
                    let early = self.take(&path);
                    self.early.extend(early);
                    return;
                }
            }
        }
    }

    fn take(&mut self, path: &Arc<Path>) -> Option<Group> {
        let waiting = self.waiting.remove(path)?;
        if waiting.open {
            if self.writers.len() >= Self::MOST_WRITERS {
                self.writers.clear();
            }
            self.writers.insert(Arc::clone(path));
        } else {
            self.writers.remove(path);
        }
        Some(waiting.group)
    }
}

fn add(waiting: &mut Waiting, step: Step, change: Change) {
    let group = &mut waiting.group;
    match step {
        Step::Closed => {
            waiting.open = false;
            group.perhaps.get_or_insert(change);
        }
        Step::Changed(kind) => {
            waiting.open = match kind {
                Kind::Write => true,
                Kind::Rename | Kind::Remove => false,
                Kind::Create | Kind::Chmod => waiting.open,
            };
            let repeated = group
                .changes
                .iter()
                .rev()
                .take_while(|earlier| !earlier.kind.ends() || kind.ends())
                .any(|earlier| {
                    earlier.kind == kind
                        && pid_of(earlier) == pid_of(&change)
                        && earlier.other == change.other
                        && (!kind.ends() || group.changes.last() == Some(earlier))
                });
            if !repeated {
                group.changes.push(change);
            }
        }
    }
}

fn pid_of(change: &Change) -> Option<u32> {
    change.actor.as_ref().map(|actor| actor.pid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn note(path: &str, step: Step, pid: u32) -> Note {
        let actor = Actor {
            pid,
            ..Actor::default()
        };
        Note {
            path: Path::new(path).into(),
            step,
            actor: Some(Arc::new(actor)),
            at: Timestamp::default(),
            other: None,
        }
    }

    fn kinds(group: &Group) -> Vec<Kind> {
        group.changes.iter().map(|change| change.kind).collect()
    }

    use Kind::{Chmod, Create, Remove, Rename, Write};
    use Step::{Changed, Closed};

    #[test]
    fn steps_of_a_moment_become_one_group_without_losing_a_kind() {
        let check = |steps: &[Step], expected: &[Kind]| {
            let mut coalescer = Coalescer::default();
            let start = Instant::now();
            for step in steps {
                coalescer.note(start, note("/f", *step, 1));
            }
            assert_eq!(coalescer.due(start), []);
            let groups = coalescer.due(start + Coalescer::WINDOW);
            assert_eq!(groups.len(), 1);
            assert_eq!(kinds(&groups[0]), expected, "{steps:?}");
            assert_eq!(coalescer.deadline(), None);
        };
        check(
            &[
                Changed(Create),
                Changed(Write),
                Closed,
                Changed(Write),
                Closed,
            ],
            &[Create, Write],
        );
        check(
            &[
                Changed(Create),
                Changed(Remove),
                Changed(Create),
                Changed(Write),
            ],
            &[Create, Remove, Create, Write],
        );
        check(
            &[Changed(Chmod), Changed(Write), Changed(Chmod)],
            &[Chmod, Write],
        );
        check(&[Changed(Rename), Changed(Create)], &[Rename, Create]);
        check(&[Changed(Remove), Changed(Remove)], &[Remove]);
        check(&[Closed], &[]);
    }

    #[test]
    fn two_actors_are_told_apart() {
        let mut coalescer = Coalescer::default();
        let start = Instant::now();
        for pid in [1, 2, 1] {
            coalescer.note(start, note("/f", Changed(Write), pid));
        }
        let groups = coalescer.due(start + Coalescer::WINDOW);
        let pids: Vec<_> = groups[0].changes.iter().map(pid_of).collect();
        assert_eq!(pids, [Some(1), Some(2)]);
    }

    #[test]
    fn an_open_writer_is_reported_once_a_second_until_it_closes() {
        let mut coalescer = Coalescer::default();
        let start = Instant::now();
        coalescer.note(start, note("/log", Changed(Write), 1));
        let second = start + Coalescer::WINDOW;
        assert_eq!(coalescer.due(second).len(), 1);
        coalescer.note(second, note("/log", Changed(Write), 1));
        assert_eq!(coalescer.due(second + Coalescer::WINDOW).len(), 0);
        let closed = second + Coalescer::WINDOW * 2;
        coalescer.note(closed, note("/log", Closed, 1));
        assert_eq!(coalescer.due(closed + Coalescer::WINDOW).len(), 1);
        coalescer.note(closed, note("/log", Changed(Write), 1));
        assert_eq!(coalescer.due(closed + Coalescer::WINDOW).len(), 1);
        coalescer.note(closed, note("/log", Changed(Write), 1));
        assert_eq!(coalescer.due(closed + Coalescer::WRITER_WINDOW).len(), 1);
    }

    #[test]
    fn the_oldest_leaves_early_when_too_many_paths_wait() {
        let mut coalescer = Coalescer::default();
        let start = Instant::now();
        for number in 0..=Coalescer::MOST_PATHS {
            coalescer.note(start, note(&format!("/{number}"), Changed(Create), 1));
        }
        let early = coalescer.due(start);
        assert_eq!(early.len(), 1);
        assert_eq!(&*early[0].path, Path::new("/0"));
        assert_eq!(coalescer.all().len(), Coalescer::MOST_PATHS);
        assert_eq!(coalescer.due(start + Coalescer::WRITER_WINDOW), []);
    }

    proptest! {
        #[test]
        fn no_kind_is_lost_and_the_order_of_first_and_last_is_kept(
            steps in proptest::collection::vec((0_usize..6, 0_usize..3, 0_u64..60), 1..200),
        ) {
            let all = [Changed(Create), Changed(Write), Changed(Chmod), Changed(Rename),
                Changed(Remove), Closed];
            let mut coalescer = Coalescer::default();
            let mut now = Instant::now();
            let mut noted: HashMap<String, Vec<Kind>> = HashMap::new();
            let mut told: HashMap<String, Vec<Kind>> = HashMap::new();
            let mut groups = Vec::new();
            for (step, path, wait) in steps {
                now += Duration::from_millis(wait);
                let path = format!("/{path}");
                coalescer.note(now, note(&path, all[step], 1));
                if let Changed(kind) = all[step] {
                    noted.entry(path).or_default().push(kind);
                }
                groups.extend(coalescer.due(now));
            }
            groups.extend(coalescer.all());
            for group in &groups {
                told.entry(group.path.display().to_string()).or_default().extend(kinds(group));
            }
            for (path, noted) in noted {
                let told = &told[&path];
                for kind in &noted {
                    prop_assert!(told.contains(kind));
                }
                prop_assert_eq!(noted.first(), told.first());
                prop_assert_eq!(
                    noted.iter().rev().find(|kind| kind.ends()),
                    told.iter().rev().find(|kind| kind.ends())
                );
            }
        }
    }
}
