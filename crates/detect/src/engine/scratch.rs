//! What one thread needs to judge events, used again for every event.

use std::{hash::Hasher as _, sync::Arc};

use rustc_hash::{FxHashSet, FxHasher};

use super::values::Values;

/// Working memory for one route.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) values: Values,
    pub(crate) marks: Marks,
    pub(crate) memos: Vec<Memo>,
    /// A folded value that is needed for a moment.
    pub(crate) folded: Vec<u8>,
    pub(crate) others: Others,
}

/// Which of an element's fields were searched with the fields that rules name. Elements of a class
/// show their fields in much the same order, so that a name is compared with the one that was in
/// its place before it is looked up.
#[derive(Default)]
pub(crate) struct Others {
    known: Vec<(Box<str>, bool)>,
}

/// Fields of which the place is remembered.
const PLACES: usize = 256;

impl Others {
    pub(crate) fn is_searched(
        &mut self,
        place: usize,
        name: &str,
        searched: &FxHashSet<Arc<str>>,
    ) -> bool {
        if let Some((known, is_searched)) = self.known.get(place)
            && **known == *name
        {
            return *is_searched;
        }
        let is_searched = searched.contains(name);
        let entry = (Box::from(name), is_searched);
        if place >= self.known.len() && place < PLACES {
            self.known.resize_with(place, Default::default);
            self.known.push(entry);
        } else if let Some(slot) = self.known.get_mut(place) {
            *slot = entry;
        }
        is_searched
    }
}

/// What is known about predicates, sets and rules in the current event.
#[derive(Default)]
pub(crate) struct Marks {
    /// Number of the event; knowledge of other numbers is out of date.
    epoch: u32,
    /// Epoch and truth of each predicate: twice the epoch, plus one if it holds.
    predicates: Vec<u32>,
    /// The same for sets.
    sets: Vec<u32>,
    /// Epoch in which a rule became a candidate.
    rules: Vec<u32>,
    /// Rules to be looked at.
    pub(crate) candidates: Vec<u32>,
}

impl Marks {
    /// Begins an event.
    pub(crate) fn begin(&mut self, predicates: usize, sets: usize, rules: usize) {
        self.candidates.clear();
        self.epoch += 1;
        if self.epoch >= u32::MAX / 2 || self.predicates.len() != predicates {
            self.epoch = 1;
            self.predicates = vec![0; predicates];
            self.sets = vec![0; sets];
            self.rules = vec![0; rules];
        }
    }

    /// Whether a predicate holds, if that is known.
    #[inline]
    pub(crate) fn predicate(&self, id: u32) -> Option<bool> {
        let mark = self.predicates.get(id as usize).copied().unwrap_or(0);
        (mark >> 1 == self.epoch).then_some(mark & 1 == 1)
    }

    /// Notes whether a predicate holds; says whether that is new.
    #[inline]
    pub(crate) fn note_predicate(&mut self, id: u32, holds: bool) -> bool {
        note(&mut self.predicates, self.epoch, id, holds)
    }

    pub(crate) fn set(&self, id: u32) -> Option<bool> {
        let mark = self.sets.get(id as usize).copied().unwrap_or(0);
        (mark >> 1 == self.epoch).then_some(mark & 1 == 1)
    }

    pub(crate) fn note_set(&mut self, id: u32, holds: bool) {
        note(&mut self.sets, self.epoch, id, holds);
    }

    /// Makes rules candidates, each once.
    #[inline]
    pub(crate) fn add_candidates(&mut self, rules: &[u32]) {
        for rule in rules {
            if let Some(seen) = self.rules.get_mut(*rule as usize)
                && *seen != self.epoch
            {
                *seen = self.epoch;
                self.candidates.push(*rule);
            }
        }
    }
}

fn note(marks: &mut [u32], epoch: u32, id: u32, holds: bool) -> bool {
    let Some(mark) = marks.get_mut(id as usize) else {
        return false;
    };
    let noted = epoch << 1 | u32::from(holds);
    let new = *mark != noted;
    *mark = noted;
    new
}

/// Remembers which predicates hold for values seen lately: paths, users and parents repeat.
#[derive(Default)]
pub(crate) struct Memo {
    slots: Vec<Option<Box<Remembered>>>,
    asked: u32,
    known: u32,
    /// Too few values repeat.
    off: bool,
}

struct Remembered {
    value: Box<[u8]>,
    holds: Box<[u32]>,
}

/// Values remembered per field.
const SLOTS: usize = 512;
/// Longer values hardly repeat.
const LONGEST_BYTES: usize = 256;
/// Look-ups after which it is decided whether remembering pays.
const TRIAL: u32 = 4096;

/// What a memo says about a value.
pub(crate) enum Answer<'m> {
    /// The predicates that hold.
    Known(&'m [u32]),
    /// To be found out and remembered in that place.
    Ask(usize),
    /// To be found out.
    NotKept,
}

impl Memo {
    pub(crate) fn look_up(&mut self, value: &[u8]) -> Answer<'_> {
        if self.off || value.len() > LONGEST_BYTES {
            return Answer::NotKept;
        }
        if self.asked == TRIAL {
            // A miss costs an allocation, about as much as two scans.
            if self.known < TRIAL / 2 {
                self.off = true;
                self.slots = Vec::new();
                return Answer::NotKept;
            }
            (self.asked, self.known) = (0, 0);
        }
        self.asked += 1;
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        let mut hasher = FxHasher::default();
        hasher.write(value);
        let place = (hasher.finish() >> 32) as usize % SLOTS;
        match self.slots.get(place) {
            Some(Some(remembered)) if *remembered.value == *value => {
                self.known += 1;
                Answer::Known(&remembered.holds)
            }
            _ => Answer::Ask(place),
        }
    }

    pub(crate) fn remember(&mut self, place: usize, value: &[u8], holds: &[u32]) {
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = Some(Box::new(Remembered {
                value: Box::from(value),
                holds: Box::from(holds),
            }));
        }
    }
}
