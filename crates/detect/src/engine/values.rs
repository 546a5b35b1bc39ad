//! Values of one event while it is judged: fetched once, folded once.

use std::ops::Range;

use crate::fold::fold_into;

/// Values of the fields of a route, in two buffers that are used again for every event.
#[derive(Default)]
pub(crate) struct Values {
    raw: Vec<u8>,
    folded: Vec<u8>,
    fields: Vec<State>,
    /// All values of the event, for keywords.
    all: Vec<Span>,
    all_fetched: bool,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Unfetched,
    Absent,
    Present(Span),
}

#[derive(Clone, Copy, Default)]
struct Span {
    raw: (u32, u32),
    folded: (u32, u32),
}

/// A value as it is and folded.
#[derive(Clone, Copy)]
pub(crate) struct Value<'v> {
    pub(crate) raw: &'v [u8],
    pub(crate) folded: &'v [u8],
}

impl Value<'_> {
    /// The value as text; values were texts when they were stored.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.raw).unwrap_or_default()
    }
}

impl Values {
    /// Forgets the last event.
    pub(crate) fn clear(&mut self, fields: usize) {
        self.raw.clear();
        self.folded.clear();
        self.fields.clear();
        self.fields.resize(fields, State::Unfetched);
        self.all.clear();
        self.all_fetched = false;
    }

    pub(crate) fn is_fetched(&self, field: u32) -> bool {
        !matches!(self.fields.get(field as usize), Some(State::Unfetched))
    }

    /// Stores the value of a field, or that it has none.
    pub(crate) fn store(&mut self, field: u32, value: Option<&str>) {
        let state = match value.and_then(|value| self.push(value)) {
            Some(span) => State::Present(span),
            None => State::Absent,
        };
        if let Some(slot) = self.fields.get_mut(field as usize) {
            *slot = state;
        }
    }

    /// The value of a field that was stored.
    pub(crate) fn get(&self, field: u32) -> Option<Value<'_>> {
        match self.fields.get(field as usize) {
            Some(State::Present(span)) => Some(self.value(*span)),
            _ => None,
        }
    }

    pub(crate) fn all_fetched(&self) -> bool {
        self.all_fetched
    }

    /// Adds one of all values.
    pub(crate) fn push_any(&mut self, value: &str) {
        if let Some(span) = self.push(value) {
            self.all.push(span);
        }
        self.all_fetched = true;
    }

    pub(crate) fn note_all_fetched(&mut self) {
        self.all_fetched = true;
    }

    /// All values that were added.
    pub(crate) fn each_any(&self) -> impl Iterator<Item = Value<'_>> {
        self.all.iter().map(|span| self.value(*span))
    }

    /// `None` when 4 GiB are exceeded, which bounded messages never reach.
    fn push(&mut self, value: &str) -> Option<Span> {
        let raw = u32::try_from(self.raw.len()).ok()?;
        let folded = u32::try_from(self.folded.len()).ok()?;
        self.raw.extend_from_slice(value.as_bytes());
        fold_into(value, &mut self.folded);
        Some(Span {
            raw: (raw, u32::try_from(self.raw.len()).ok()?),
            folded: (folded, u32::try_from(self.folded.len()).ok()?),
        })
    }

    fn value(&self, span: Span) -> Value<'_> {
        Value {
            raw: self.raw.get(range(span.raw)).unwrap_or_default(),
            folded: self.folded.get(range(span.folded)).unwrap_or_default(),
        }
    }
}

fn range((start, end): (u32, u32)) -> Range<usize> {
    start as usize..end as usize
}
