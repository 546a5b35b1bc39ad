//! Finds many literals in one pass over a short text by looking for one rare gram of each.
//!
//! Every literal is represented by up to four bytes at one place in it. The pass hashes the bytes
//! at each position of the text and tests one bit; only where the bit is set are the grams of that
//! key looked up and their literals compared. The cost is about one load, multiplication and test
//! per byte, however many literals there are, as long as their grams are rare: they are chosen by
//! the frequencies of a sample where there is one.

use memchr::memmem::Finder;

use super::{
    filter::{Filter, LARGE, MEDIUM, SMALL, TINY, bit, hash},
    literals::{Anchor, Literals},
};

/// How often grams occur in sampled values, by hash.
pub(crate) struct Frequencies {
    counts: Vec<u32>,
}

const FREQUENCY_BITS: u32 = 16;

impl Frequencies {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; 1 << FREQUENCY_BITS],
        }
    }

    /// Counts the grams of a folded value.
    pub(crate) fn add(&mut self, value: &[u8]) {
        for window in value.windows(4) {
            let slot = hash(key(window, 4)) >> (32 - FREQUENCY_BITS);
            if let Some(count) = self.counts.get_mut(slot as usize) {
                *count = count.saturating_add(1);
            }
        }
    }

    fn of(&self, key: u32) -> u32 {
        let slot = hash(key) >> (32 - FREQUENCY_BITS);
        self.counts.get(slot as usize).copied().unwrap_or(0)
    }
}

/// Literals of one field, by gram.
#[derive(Default)]
pub(crate) struct Grams {
    ascii: Group,
    /// Literals with other characters than ASCII: most texts need not be searched for them.
    others: Group,
}

/// One index for each width of grams that occurs.
#[derive(Default)]
struct Group {
    tables: Vec<Table>,
    /// A few literals are looked for one by one instead, each with its number: that is faster than
    /// testing every place of the text.
    few: Vec<(u32, Finder<'static>, u32)>,
}

/// Literals of one width that are few.
const FEW: usize = 4;
/// Single bytes are found faster than words.
const FEW_BYTES: usize = 12;
/// What can follow a literal in a folded text: ASCII characters that have no case or are small,
/// first bytes of others, and the end, which is taken for a zero.
const SHORTER_KEYS: usize = 102 + 51;

fn followers() -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(|byte| match byte {
        b'A'..=b'Z' => false,
        0..128 => true,
        // RFC 3629: bytes that begin a character.
        _ => matches!(byte, 0xc2..=0xf4),
    })
}

impl Grams {
    /// Indexes literals, each with the number that a hit is reported by.
    pub(crate) fn new(
        literals: &Literals,
        wanted: &[(u32, u32)],
        frequencies: &Frequencies,
    ) -> Self {
        let (ascii, others): (Vec<_>, Vec<_>) = wanted
            .iter()
            .partition(|(id, _)| literals.text(*id).is_ascii());
        Self {
            ascii: Group::new(literals, &ascii, frequencies),
            others: Group::new(literals, &others, frequencies),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ascii.is_empty() && self.others.is_empty()
    }

    /// Calls `found` with the number of each literal that is in the text where its anchor allows;
    /// more than once when it is there more than once.
    #[inline]
    pub(crate) fn scan(&self, text: &[u8], literals: &Literals, mut found: impl FnMut(u32)) {
        self.ascii.scan(text, literals, &mut found);
        if !self.others.is_empty() && !text.is_ascii() {
            self.others.scan(text, literals, &mut found);
        }
    }

    /// Whether one of the literals is in the text where its anchor allows.
    pub(crate) fn any(&self, text: &[u8], literals: &Literals) -> bool {
        // Lists are short: going on after the first hit costs less than stopping everywhere.
        let mut any = false;
        self.scan(text, literals, |_| any = true);
        any
    }
}

impl Group {
    fn new(literals: &Literals, wanted: &[(u32, u32)], frequencies: &Frequencies) -> Self {
        let mut by_width: [Vec<(u32, u32)>; 5] = Default::default();
        for (id, number) in wanted {
            let width = literals.text(*id).len().min(4);
            if let Some(of_width) = by_width.get_mut(width) {
                of_width.push((*id, *number));
            }
        }
        let [_, one, two, three, mut four] = by_width;
        let joins = three.len() > FEW && three.len() * SHORTER_KEYS <= four.len() * 4;
        let mut group = Self::default();
        let separate = if joins { &[][..] } else { &three };
        for (width, of_width, few) in [(1, &one[..], FEW_BYTES), (2, &two, FEW), (3, separate, FEW)]
        {
            group.add(width, of_width, few, literals, frequencies);
        }
        if joins {
            four.extend(three);
        }
        group.add(4, &four, FEW, literals, frequencies);
        group
    }

    /// Adds literals that are at least as long as the width, or in a table with longer ones.
    fn add(
        &mut self,
        width: usize,
        wanted: &[(u32, u32)],
        few: usize,
        literals: &Literals,
        frequencies: &Frequencies,
    ) {
        if wanted.len() > few {
            let table = Table::new(width, literals, wanted, frequencies);
            self.tables.extend(table);
        } else {
            let few = wanted.iter().map(|(id, number)| {
                let finder = Finder::new(literals.text(*id)).into_owned();
                (*id, finder, *number)
            });
            self.few.extend(few);
        }
    }

    fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.few.is_empty()
    }

    #[inline]
    fn scan(&self, text: &[u8], literals: &Literals, found: &mut impl FnMut(u32)) {
        for (literal, finder, number) in &self.few {
            let found_there = match literals.anchor(*literal) {
                Anchor::Any => finder.find(text).is_some(),
                Anchor::Start => text.starts_with(finder.needle()),
                Anchor::End => text.ends_with(finder.needle()),
            };
            if found_there {
                found(*number);
            }
        }
        for table in &self.tables {
            match table.width {
                4 => table.scan::<4>(text, literals, found),
                3 => table.scan::<3>(text, literals, found),
                2 => table.scan::<2>(text, literals, found),
                _ => table.scan::<1>(text, literals, found),
            }
        }
    }
}

struct Table {
    width: usize,
    /// Whether there are literals one byte shorter, each with every byte that can follow it.
    shorter: bool,
    filter: Filter,
    /// Open addressing; a slot without entries is free.
    slots: Vec<Slot>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    key: u32,
    first: u32,
    count: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    literal: u32,
    /// What a hit is reported by.
    number: u32,
    /// Place of the gram in the literal.
    at: u32,
}

impl Table {
    fn new(
        width: usize,
        literals: &Literals,
        wanted: &[(u32, u32)],
        frequencies: &Frequencies,
    ) -> Option<Self> {
        let mut chosen: Vec<(u32, Entry)> = Vec::new();
        let mut used = rustc_hash::FxHashMap::<u32, u32>::default();
        let mut shorter = false;
        for (literal, number) in wanted.iter().copied() {
            let text = literals.text(literal);
            if text.len() < width {
                shorter = true;
                let entry = Entry {
                    literal,
                    number,
                    at: 0,
                };
                for follower in followers() {
                    let key = key(&[text, &[follower]].concat(), width);
                    *used.entry(key).or_default() += 1;
                    chosen.push((key, entry));
                }
                continue;
            }
            let best = text
                .windows(width)
                .enumerate()
                .map(|(at, window)| {
                    let key = key(window, width);
                    let shared = used.get(&key).copied().unwrap_or(0);
                    let seen = if width == 4 { frequencies.of(key) } else { 0 };
                    // Without a sample, text in the middle of a word is rarer than its beginning.
                    ((u64::from(seen) + 1) * (u64::from(shared) + 1), at, key)
                })
                .min_by_key(|(cost, at, _)| (*cost, usize::MAX - at));
            let Some((_, at, key)) = best else { continue };
            *used.entry(key).or_default() += 1;
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            let entry = Entry {
                literal,
                number,
                at,
            };
            chosen.push((key, entry));
        }
        if chosen.is_empty() {
            return None;
        }
        chosen.sort_by_key(|(key, entry)| (*key, entry.number));
        let filter = Filter::new(used.keys().copied());
        let mut slots = vec![Slot::default(); (used.len() * 2).next_power_of_two()];
        let mut entries: Vec<Entry> = Vec::with_capacity(chosen.len());
        for group in chosen.chunk_by(|left, right| left.0 == right.0) {
            let Some((key, _)) = group.first() else {
                continue;
            };
            let slot = Slot {
                key: *key,
                first: u32::try_from(entries.len()).unwrap_or(u32::MAX),
                count: u32::try_from(group.len()).unwrap_or(u32::MAX),
            };
            entries.extend(group.iter().map(|(_, entry)| *entry));
            let mut place = slot_of(*key, slots.len());
            while slots.get(place).is_some_and(|taken| taken.count > 0) {
                place = (place + 1) % slots.len();
            }
            if let Some(free) = slots.get_mut(place) {
                *free = slot;
            }
        }
        Some(Self {
            width,
            shorter,
            filter,
            slots,
            entries,
        })
    }

    #[inline]
    fn scan<const WIDTH: usize>(
        &self,
        text: &[u8],
        literals: &Literals,
        found: &mut impl FnMut(u32),
    ) {
        match &self.filter {
            Filter::Tiny(bits) => self.scan_by::<WIDTH, TINY>(bits, text, literals, found),
            Filter::Small(bits) => self.scan_by::<WIDTH, SMALL>(bits, text, literals, found),
            Filter::Medium(bits) => self.scan_by::<WIDTH, MEDIUM>(bits, text, literals, found),
            Filter::Large(bits) => self.scan_by::<WIDTH, LARGE>(bits, text, literals, found),
        }
    }

    #[inline]
    fn scan_by<const WIDTH: usize, const WORDS: usize>(
        &self,
        bits: &[u64; WORDS],
        text: &[u8],
        literals: &Literals,
        found: &mut impl FnMut(u32),
    ) {
        const MASKS: [u32; 5] = [0, 0xff, 0xffff, 0x00ff_ffff, u32::MAX];
        // Eight bytes at a time have four places and all their grams; one branch for the four.
        let mut place = 0;
        for window in text.windows(8).step_by(4) {
            let bytes = window.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
            let gram = |shift: u32| (bytes >> shift) as u32 & MASKS[WIDTH];
            let keys = [gram(0), gram(8), gram(16), gram(24)];
            if keys.iter().fold(0, |any, key| any | bit(bits, *key)) != 0 {
                for (offset, key) in keys.into_iter().enumerate() {
                    if bit(bits, key) != 0 {
                        self.compare(key, place + offset, text, literals, found);
                    }
                }
            }
            place += 4;
        }
        let rest = text.get(place..).unwrap_or_default();
        for (offset, window) in rest.windows(WIDTH).enumerate() {
            let key = key(window, WIDTH);
            if bit(bits, key) != 0 {
                self.compare(key, place + offset, text, literals, found);
            }
        }
        if self.shorter
            && let Some(last) = text.last_chunk::<3>()
        {
            let key = key(&[last[0], last[1], last[2], 0], WIDTH);
            if bit(bits, key) != 0 {
                self.compare(key, text.len() - last.len(), text, literals, found);
            }
        }
    }

    #[inline(never)]
    fn compare(
        &self,
        key: u32,
        place: usize,
        text: &[u8],
        literals: &Literals,
        found: &mut impl FnMut(u32),
    ) {
        let mut slot = slot_of(key, self.slots.len());
        let entries = loop {
            match self.slots.get(slot) {
                Some(taken) if taken.count > 0 && taken.key == key => {
                    let first = taken.first as usize;
                    break self.entries.get(first..first + taken.count as usize);
                }
                Some(taken) if taken.count > 0 => slot = (slot + 1) % self.slots.len(),
                _ => return,
            }
        };
        for entry in entries.unwrap_or_default() {
            let Some(start) = place.checked_sub(entry.at as usize) else {
                continue;
            };
            let literal = literals.text(entry.literal);
            let anchored = match literals.anchor(entry.literal) {
                Anchor::Any => true,
                Anchor::Start => start == 0,
                Anchor::End => start + literal.len() == text.len(),
            };
            if anchored
                && text
                    .get(start..)
                    .is_some_and(|rest| rest.starts_with(literal))
            {
                found(entry.number);
            }
        }
    }
}

/// Bytes of a gram as a number.
#[inline(always)]
fn key(window: &[u8], width: usize) -> u32 {
    // Whole arrays become one load each.
    match width {
        4 => window
            .first_chunk()
            .map_or(0, |gram| u32::from_le_bytes(*gram)),
        3 => match (window.first_chunk(), window.get(2)) {
            (Some(two), Some(third)) => {
                u32::from(u16::from_le_bytes(*two)) | u32::from(*third) << 16
            }
            _ => 0,
        },
        2 => window
            .first_chunk()
            .map_or(0, |gram| u32::from(u16::from_le_bytes(*gram))),
        _ => window.first().map_or(0, |byte| u32::from(*byte)),
    }
}

/// `slots` is a power of two.
fn slot_of(key: u32, slots: usize) -> usize {
    // Other bits than those of the filter, so that keys that share a bit do not share a slot.
    (key.wrapping_mul(0x85eb_ca6b) >> 7) as usize & (slots - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn anchor(number: u8) -> Anchor {
        match number {
            0 => Anchor::Start,
            1 => Anchor::End,
            _ => Anchor::Any,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn every_literal_is_found_where_it_is_and_nowhere_else(
            // Enough longer ones for shorter ones to share their pass.
            long in prop::collection::vec(("[ab.]{4,6}|[ab.]{4}é?", 0..6_u8), 480..500),
            three in prop::collection::vec(("[abc.]{3}", 0..6_u8), 5..6),
            short in prop::collection::vec(("[abc.]{1,2}|[ab]?é[ab]?", 0..6_u8), 0..40),
            texts in prop::collection::vec("[a-c.é\u{0}]{0,24}", 20),
        ) {
            let mut literals = Literals::default();
            let wanted: Vec<(u32, u32)> = long
                .iter()
                .chain(&three)
                .chain(&short)
                .filter_map(|(text, at)| literals.push(text.as_bytes(), anchor(*at)))
                .map(|id| (id, id + 7))
                .collect();
            let grams = Grams::new(&literals, &wanted, &Frequencies::new());
            prop_assert!(grams.ascii.tables.iter().any(|table| table.shorter));
            for text in &texts {
                let mut found = Vec::new();
                grams.scan(text.as_bytes(), &literals, |number| found.push(number));
                found.sort_unstable();
                found.dedup();
                let expected: Vec<u32> = wanted
                    .iter()
                    .filter(|(id, _)| literals.find(*id, text.as_bytes()).is_some())
                    .map(|(_, number)| *number)
                    .collect();
                prop_assert_eq!(&found, &expected, "{}", text);
            }
        }
    }
}
