//! The matches of one group in the order of their times, and what they amount to.

use std::collections::{HashMap, VecDeque};

use crate::{
    measure::{Measure, Reading},
    plan::{Plan, Reckoning},
    reference::Reference,
};

/// A match as kept in a window.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Nanoseconds since 1970.
    pub(crate) time: i64,
    /// Bits of a number, or the number of a text; 0 where nothing is aggregated.
    pub(crate) value: u64,
    /// Place among the members.
    pub(crate) member: u16,
    pub(crate) reference: Reference,
}

/// What is aggregated of a match.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Nothing,
    Number(f64),
    Text(&'a [u8]),
}

/// Fate of a match.
#[derive(Debug)]
pub(crate) enum Fate {
    Late,
    Duplicate,
    Full,
    Taken(Taken),
}

/// What a match that was taken brought about.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) fired: Option<Hit>,
    /// The condition held for what had fired already.
    pub(crate) suppressed: bool,
    /// Matches given up to make room.
    pub(crate) dropped: usize,
}

/// A window for which the condition holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hit {
    pub(crate) value: f64,
    /// Number of matches in the window.
    pub(crate) count: usize,
    /// Times of the first and the last of them.
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Places of those to point at, in order.
    pub(crate) shown: Vec<usize>,
}

/// The matches of one group.
#[derive(Debug)]
pub(crate) struct Window {
    entries: VecDeque<Entry>,
    /// Place of the first entry of the newest window; `measure` is over those from there on.
    first: usize,
    measure: Measure,
    texts: Option<Box<Texts>>,
    /// Spans of time that fired, in the order in which they did.
    fired: Vec<(i64, i64)>,
    heap_bytes: usize,
}

impl Window {
    /// Without matches.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            measure: Measure::new(plan),
            texts: matches!(plan.reckoning, Reckoning::Distinct).then(Box::default),
            fired: Vec::new(),
            heap_bytes: 0,
        }
    }

    /// Takes a match and judges every window it lies in: `references` are shown of a hit.
    pub(crate) fn take(
        &mut self,
        plan: &Plan,
        references: usize,
        time: i64,
        member: u16,
        value: Value<'_>,
        reference: Reference,
    ) -> Fate {
        let newest = self.entries.back().map_or(time, |entry| entry.time);
        if time < newest.saturating_sub(plan.keep) {
            return Fate::Late;
        }
        let mut place = self.entries.partition_point(|entry| entry.time <= time);
        let same = self.entries.range(..place).rev();
        if same
            .take_while(|entry| entry.time == time)
            .any(|e| e.reference == reference && (plan.counts_events() || e.member == member))
        {
            return Fate::Duplicate;
        }
        let mut taken = Taken::default();
        if self.entries.len() >= plan.matches {
            if place == 0 {
                return Fate::Full;
            }
            // Several at once, since what remains is measured anew.
            taken.dropped = (plan.matches / 8).max(1).min(place);
            for _ in 0..taken.dropped {
                self.forget_oldest();
            }
            place -= taken.dropped;
            self.measure_anew(plan, None);
        }
        let value = match value {
            Value::Nothing => 0,
            Value::Number(number) => number.to_bits(),
            Value::Text(text) => {
                let texts = self.texts.get_or_insert_default();
                let (number, bytes) = texts.take(text);
                self.heap_bytes += bytes;
                u64::from(number)
            }
        };
        self.heap_bytes += reference.heap_bytes();
        let entry = Entry {
            time,
            value,
            member,
            reference,
        };
        let in_order = place == self.entries.len();
        self.entries.insert(place, entry);
        let horizon = time.max(newest).saturating_sub(plan.keep);
        self.fired.retain(|(_, end)| *end >= horizon);
        let hits = if in_order {
            self.measure.add(plan, time, member, value);
            self.advance(time.saturating_sub(plan.span));
            let reading = self.measure.read(plan, time.saturating_sub(plan.span));
            vec![(reading, self.first, place)]
        } else {
            self.measure_anew(plan, Some(time))
        };
        for (reading, first, last) in hits {
            if !reading.holds {
                continue;
            }
            let span = self.span(first, last);
            let met = self.fired.iter().any(|f| f.0 <= span.1 && span.0 <= f.1);
            if met || taken.fired.is_some() {
                taken.suppressed |= met && taken.fired.is_none();
                continue;
            }
            taken.fired = Some(self.hit(plan, references, &reading, first, last));
        }
        if let Some(hit) = &taken.fired {
            taken.suppressed = false;
            self.fired.push((hit.start, hit.end));
        }
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.time < horizon)
        {
            // Places shown move down with the entries before them.
            if let Some(hit) = &mut taken.fired {
                hit.shown.iter_mut().for_each(|p| *p = p.saturating_sub(1));
            }
            self.forget_oldest();
        }
        Fate::Taken(taken)
    }

    /// Lets the newest window begin at `start`.
    fn advance(&mut self, start: i64) {
        while let Some(entry) = self.entries.get(self.first).filter(|e| e.time < start) {
            self.measure.remove(entry.member, entry.value);
            self.first += 1;
        }
    }

    /// Measures everything again in the order of time. Says what holds for each window that ends
    /// with a match and has one of time `about` in it.
    fn measure_anew(&mut self, plan: &Plan, about: Option<i64>) -> Vec<(Reading, usize, usize)> {
        let mut readings = Vec::new();
        self.measure = Measure::new(plan);
        self.first = 0;
        for place in 0..self.entries.len() {
            let Some(entry) = self.entries.get(place) else {
                break;
            };
            let end = entry.time;
            let start = end.saturating_sub(plan.span);
            self.measure.add(plan, end, entry.member, entry.value);
            self.advance(start);
            let Some(about) = about.filter(|about| *about <= end && *about >= start) else {
                continue;
            };
            let next = self.entries.get(place + 1);
            if end >= about && next.is_none_or(|next| next.time > end) {
                let reading = self.measure.read(plan, start);
                if reading.holds {
                    readings.push((reading, self.first, place));
                }
            }
        }
        readings
    }

    fn forget_oldest(&mut self) {
        let Some(entry) = self.entries.pop_front() else {
            return;
        };
        match self.first.checked_sub(1) {
            Some(first) => self.first = first,
            None => self.measure.remove(entry.member, entry.value),
        }
        self.heap_bytes = self.heap_bytes.saturating_sub(entry.reference.heap_bytes());
        if let Some(texts) = &mut self.texts {
            self.heap_bytes = self.heap_bytes.saturating_sub(texts.release(entry.value));
        }
    }

    fn span(&self, first: usize, last: usize) -> (i64, i64) {
        let time = |place| {
            self.entries
                .get(place)
                .map_or(0, |entry: &Entry| entry.time)
        };
        (time(first), time(last))
    }

    fn hit(
        &self,
        plan: &Plan,
        references: usize,
        reading: &Reading,
        first: usize,
        last: usize,
    ) -> Hit {
        let (start, end) = self.span(first, last);
        let mut shown: Vec<usize> = Vec::new();
        let mut unseen = vec![true; plan.members.len()];
        for place in (first..=last).rev() {
            let member = self.entries.get(place).map_or(0, |e| usize::from(e.member));
            if let Some(unseen) = unseen.get_mut(member).filter(|unseen| **unseen) {
                *unseen = false;
                shown.push(place);
            }
            if shown.len() >= references || !unseen.contains(&true) {
                break;
            }
        }
        for place in (first..=last).rev() {
            if shown.len() >= references {
                break;
            }
            if !shown.contains(&place) {
                shown.push(place);
            }
        }
        shown.sort_unstable();
        Hit {
            value: reading.value,
            count: last + 1 - first,
            start,
            end,
            shown,
        }
    }

    /// The match at a place.
    pub(crate) fn entry(&self, place: usize) -> Option<&Entry> {
        self.entries.get(place)
    }

    /// Memory in bytes, estimated.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.entries.len() * size_of::<Entry>()
            + self.measure.heap_bytes()
            + self.texts.as_ref().map_or(0, |texts| texts.map_bytes())
            + self.heap_bytes
    }

    /// All matches, and all spans that fired.
    pub(crate) fn state(&self) -> (&VecDeque<Entry>, &[(i64, i64)]) {
        (&self.entries, &self.fired)
    }

    /// The text of a number.
    pub(crate) fn text(&self, number: u64) -> Option<&[u8]> {
        self.texts.as_ref()?.get(number)
    }

    /// A window as it was: `entries` are in the order of time. `None` when there are too many.
    pub(crate) fn restore(
        plan: &Plan,
        entries: Vec<(Entry, Vec<u8>)>,
        fired: Vec<(i64, i64)>,
    ) -> Option<Self> {
        if entries.len() > plan.matches {
            return None;
        }
        let mut window = Self::new(plan);
        for (mut entry, text) in entries {
            if let Some(texts) = &mut window.texts {
                let (number, bytes) = texts.take(&text);
                entry.value = u64::from(number);
                window.heap_bytes += bytes;
            }
            window.heap_bytes += entry.reference.heap_bytes();
            window.entries.push_back(entry);
        }
        window.fired = fired;
        window.measure_anew(plan, None);
        Some(window)
    }
}

/// Texts of a window, each with a number as long as a match has it.
#[derive(Debug, Default)]
struct Texts {
    /// Text and number of matches by number.
    slots: Vec<(Box<[u8]>, u32)>,
    free: Vec<u32>,
    /// Numbers by text, once there are many; most windows have few.
    numbers: Option<HashMap<Box<[u8]>, u32>>,
}

impl Texts {
    /// Texts that are looked through one by one.
    const FEW: usize = 16;
    /// Estimated memory of a text besides its bytes: its slot, and what an allocation costs.
    const OVERHEAD: usize = 48;
    /// Estimated memory of an entry of the map, with a short text.
    const ENTRY_BYTES: usize = 80;

    fn map_bytes(&self) -> usize {
        let entries = self.numbers.as_ref().map_or(0, HashMap::len);
        entries * Self::ENTRY_BYTES
    }

    /// Number of a text, and the memory it needs.
    fn take(&mut self, text: &[u8]) -> (u32, usize) {
        if let Some(number) = self.find(text) {
            if let Some((_, uses)) = self.slots.get_mut(number as usize) {
                *uses += 1;
            }
            return (number, 0);
        }
        let slot = (Box::from(text), 1);
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(free) = self.slots.get_mut(number as usize) {
                    *free = slot;
                }
                number
            }
            None => {
                self.slots.push(slot);
                // A window has far fewer matches than that.
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(numbers) = &mut self.numbers {
            numbers.insert(text.into(), number);
        } else if self.slots.len() > Self::FEW {
            let used = (0..).zip(&self.slots).filter(|(_, (_, uses))| *uses > 0);
            self.numbers = Some(used.map(|(n, (text, _))| (text.clone(), n)).collect());
        }
        (number, text.len() + Self::OVERHEAD)
    }

    fn find(&self, text: &[u8]) -> Option<u32> {
        match &self.numbers {
            Some(numbers) => numbers.get(text).copied(),
            None => (0..)
                .zip(&self.slots)
                .find(|(_, (other, uses))| *uses > 0 && **other == *text)
                .map(|(number, _)| number),
        }
    }

    /// One match less has the text; says how much memory that gives back.
    fn release(&mut self, number: u64) -> usize {
        let Ok(number) = u32::try_from(number) else {
            return 0;
        };
        let Some((text, uses)) = self.slots.get_mut(number as usize) else {
            return 0;
        };
        *uses = uses.saturating_sub(1);
        if *uses > 0 {
            return 0;
        }
        let text = std::mem::take(text);
        if let Some(numbers) = &mut self.numbers {
            numbers.remove(&text);
        }
        self.free.push(number);
        text.len() + Self::OVERHEAD
    }

    fn get(&self, number: u64) -> Option<&[u8]> {
        let slot = self.slots.get(usize::try_from(number).ok()?)?;
        Some(&slot.0)
    }
}
