//! Values of one event while it is judged: folded at most once, and only when somebody needs it.

use super::index::Value;
use crate::{Fields, fold::fold_into};

/// Folded values of the fields of a route, in a buffer that is used again for every event.
#[derive(Default)]
pub(crate) struct Values {
    folded: Vec<u8>,
    fields: Vec<State>,
    /// All values of the event one after the other, for keywords.
    all: String,
    /// Where each of them ends, as it is and folded; `None` while nobody needed them.
    ends: Option<Vec<(usize, usize)>>,
    /// Where the folded ones begin.
    all_folded: usize,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Unknown,
    Absent,
    Folded(u32, u32),
}

impl Values {
    /// Forgets the last event.
    pub(crate) fn clear(&mut self, fields: usize) {
        self.folded.clear();
        self.fields.clear();
        self.fields.resize(fields, State::Unknown);
        self.ends = None;
    }

    pub(crate) fn is_known(&self, field: u32) -> bool {
        !matches!(self.fields.get(field as usize), Some(State::Unknown))
    }

    /// Folds and stores the value of a field, or that it has none.
    pub(crate) fn store(&mut self, field: u32, value: Option<&str>) {
        let state = match value {
            Some(value) => {
                let start = self.folded.len();
                fold_into(value, &mut self.folded);
                // Messages are bounded far below 4 GiB.
                match (u32::try_from(start), u32::try_from(self.folded.len())) {
                    (Ok(start), Ok(end)) => State::Folded(start, end),
                    _ => State::Absent,
                }
            }
            None => State::Absent,
        };
        if let Some(slot) = self.fields.get_mut(field as usize) {
            *slot = state;
        }
    }

    /// The folded value of a field that was stored.
    pub(crate) fn folded(&self, field: u32) -> Option<&[u8]> {
        match self.fields.get(field as usize) {
            Some(State::Folded(start, end)) => self.folded.get(*start as usize..*end as usize),
            _ => None,
        }
    }

    /// Whether [`Values::store_all`] was called for this event.
    pub(crate) fn has_all(&self) -> bool {
        self.ends.is_some()
    }

    /// Stores all values.
    pub(crate) fn store_all(&mut self, fields: &dyn Fields) {
        self.all.clear();
        self.all_folded = self.folded.len();
        let mut ends = Vec::new();
        fields.each(&mut |_, value| {
            self.all.push_str(value);
            fold_into(value, &mut self.folded);
            ends.push((self.all.len(), self.folded.len()));
        });
        self.ends = Some(ends);
    }

    /// All values that were stored.
    pub(crate) fn all(&self) -> impl Iterator<Item = Value<'_>> {
        let mut start = (0, self.all_folded);
        self.ends.iter().flatten().map(move |end| {
            let value = Value {
                raw: self.all.get(start.0..end.0).unwrap_or_default(),
                folded: self.folded.get(start.1..end.1).unwrap_or_default(),
            };
            start = *end;
            value
        })
    }
}
