//! Sorted keys with an index over their first bits: as small as the keys, and found like in a hash
//! table.
//!
//! Nearly everything that is looked up is not there, so a filter of ten bits per key is asked first:
//! 97 of 100 misses end after its one cache miss.
//!
//! Keys are evenly distributed (digests are by nature, others are mixed first), so a slot of the
//! index holds a few keys only. Keys that are not (a feed made to be slow) cost a binary search.

use std::hash::Hasher;

/// Keys per slot of the index, on average: the index costs one byte per key.
const KEYS_PER_SLOT: usize = 4;
/// Most bits of the index: what the first four bytes of a key can tell apart.
const INDEX_BITS: u32 = 30;

/// Bits of the filter per key.
const FILTER_BITS: usize = 10;

/// From keys to numbers; a key may occur several times.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    filter: Filter,
    keys: Box<[[u8; N]]>,
    values: Box<[u32]>,
    /// Position of the first key of each slot, and the end.
    index: Box<[u32]>,
    bits: u32,
}

impl<const N: usize> Default for Table<N> {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl<const N: usize> Table<N> {
    /// Takes entries that are sorted by key. Beyond `u32::MAX` they are cut off, which a
    /// [`Builder`](crate::Builder) does not let happen.
    pub(crate) fn new(sorted: Vec<([u8; N], u32)>) -> Self {
        debug_assert!(sorted.is_sorted_by_key(|(key, _)| *key));
        let slots = (sorted.len() / KEYS_PER_SLOT).max(1);
        let bits = slots.ilog2().min(INDEX_BITS);
        let mut index = vec![0_u32; (1 << bits) + 1];
        for (key, _) in &sorted {
            // Counts first; sums make positions of them.
            if let Some(count) = index.get_mut(slot(key, bits) + 1) {
                *count += 1;
            }
        }
        let mut end = 0_u32;
        for count in &mut index {
            end = end.saturating_add(*count);
            *count = end;
        }
        let mut filter = Filter::for_keys(sorted.len());
        sorted.iter().for_each(|(key, _)| filter.add(key));
        Self {
            filter,
            keys: sorted.iter().map(|(key, _)| *key).collect(),
            values: sorted.iter().map(|(_, value)| *value).collect(),
            index: index.into(),
            bits,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn values(&self) -> &[u32] {
        &self.values
    }

    pub(crate) fn bytes(&self) -> usize {
        self.keys.len() * (N + 4) + self.index.len() * 4 + self.filter.0.len() * 8
    }

    /// Values of a key, with their positions, in the order they were given.
    pub(crate) fn get(&self, key: [u8; N]) -> impl Iterator<Item = (usize, u32)> {
        let slot = slot(&key, self.bits);
        let bound = |at: usize| self.index.get(at).map_or(0, |position| *position as usize);
        let (start, end) = if self.filter.may_hold(&key) {
            (bound(slot), bound(slot + 1))
        } else {
            (0, 0)
        };
        let keys = self.keys.get(start..end).unwrap_or_default();
        let first = start + keys.partition_point(|known| *known < key);
        (first..end)
            .map_while(move |at| (self.keys.get(at)? == &key).then_some(at))
            .filter_map(|at| Some((at, *self.values.get(at)?)))
    }
}

fn slot<const N: usize>(key: &[u8; N], bits: u32) -> usize {
    let mut first = [0; 4];
    for (to, from) in first.iter_mut().zip(key) {
        *to = *from;
    }
    // A shift by the whole width is undefined for u32, hence u64.
    (u64::from(u32::from_be_bytes(first)) >> (32 - bits)) as usize
}

/// A Bloom filter in blocks of one word: each key sets four bits of one word.
#[derive(Debug)]
struct Filter(Box<[u64]>);

impl Filter {
    fn for_keys(keys: usize) -> Self {
        Self(vec![0; (keys * FILTER_BITS).div_ceil(64)].into())
    }

    fn add(&mut self, key: &[u8]) {
        let (word, bits) = self.place(key);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bits;
        }
    }

    fn may_hold(&self, key: &[u8]) -> bool {
        let (word, bits) = self.place(key);
        self.0.get(word).is_some_and(|word| word & bits == bits)
    }

    fn place(&self, key: &[u8]) -> (usize, u64) {
        let mut first = [0; 8];
        for (to, from) in first.iter_mut().zip(key) {
            *to = *from;
        }
        // Fibonacci hashing: the place does not follow the order of the keys.
        let mixed = u64::from_le_bytes(first).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = (u128::from(mixed) * self.0.len() as u128) >> 64;
        let bits = [0, 6, 12, 18].map(|shift| 1_u64 << ((mixed >> shift) & 63));
        (
            word as usize,
            bits.into_iter().fold(0, |all, bit| all | bit),
        )
    }
}

/// Spreads addresses, which come in runs, over all keys. One to one, so keys stay exact.
pub(crate) fn mix_v4(address: u32) -> [u8; 4] {
    // The finaliser of MurmurHash3.
    let mut x = address;
    x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
    x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
    (x ^ (x >> 16)).to_be_bytes()
}

/// The same for IPv6: multiplication by an odd number and shifts can be undone.
pub(crate) fn mix_v6(address: u128) -> [u8; 16] {
    const ODD: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
    let mut x = address;
    x = (x ^ (x >> 64)).wrapping_mul(ODD);
    x = (x ^ (x >> 61)).wrapping_mul(ODD);
    (x ^ (x >> 64)).to_be_bytes()
}

fn mix_text(text: &[u8]) -> [u8; 8] {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(text);
    hasher.finish().to_be_bytes()
}

/// From texts to numbers. The texts are kept and compared, so a hash that happens to be equal is
/// no hit.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    table: Table<8>,
    /// Start of the text of each entry.
    starts: Box<[u32]>,
    /// Texts, each with its length in front.
    arena: Box<[u8]>,
}

/// [`Texts`] under construction.
#[derive(Debug, Default)]
pub(crate) struct TextsBuilder {
    entries: Vec<([u8; 8], u32, u32)>,
    arena: Vec<u8>,
}

impl TextsBuilder {
    /// Adds a text; `false` when there is no room.
    pub(crate) fn add(&mut self, text: &str, value: u32) -> bool {
        let (Ok(start), Ok(length)) = (u32::try_from(self.arena.len()), u16::try_from(text.len()))
        else {
            return false;
        };
        self.arena.extend_from_slice(&length.to_le_bytes());
        self.arena.extend_from_slice(text.as_bytes());
        self.entries.push((mix_text(text.as_bytes()), value, start));
        true
    }

    /// Sorts, with what `rank` makes of the values; at most `most` entries are left of a text, the
    /// lowest values, each once.
    pub(crate) fn finish(mut self, most: usize, rank: impl Fn(u32) -> u32) -> Texts {
        for (_, value, _) in &mut self.entries {
            *value = rank(*value);
        }
        let arena = std::mem::take(&mut self.arena);
        let text = |start: u32| text_at(&arena, start).unwrap_or_default();
        self.entries
            .sort_unstable_by(|a, b| (a.0, text(a.2), a.1).cmp(&(b.0, text(b.2), b.1)));
        self.entries
            .dedup_by(|a, b| a.0 == b.0 && a.1 == b.1 && text(a.2) == text(b.2));
        let (mut run, mut last) = (0, None);
        self.entries.retain(|(_, _, start)| {
            run = if last == Some(text(*start)) {
                run + 1
            } else {
                1
            };
            last = Some(text(*start));
            run <= most
        });
        let starts = self.entries.iter().map(|(_, _, start)| *start).collect();
        let keys = self
            .entries
            .into_iter()
            .map(|(key, value, _)| (key, value))
            .collect();
        Texts {
            table: Table::new(keys),
            starts,
            arena: arena.into(),
        }
    }
}

impl Texts {
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn values(&self) -> &[u32] {
        self.table.values()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes() + self.starts.len() * 4 + self.arena.len()
    }

    pub(crate) fn get(&self, text: &str) -> impl Iterator<Item = u32> {
        let entries = self.table.get(mix_text(text.as_bytes()));
        entries
            .filter(|(at, _)| {
                let start = self.starts.get(*at);
                start.and_then(|start| text_at(&self.arena, *start)) == Some(text.as_bytes())
            })
            .map(|(_, value)| value)
    }
}

fn text_at(arena: &[u8], start: u32) -> Option<&[u8]> {
    let start = start as usize;
    let length = arena.get(start..start + 2)?;
    let length = u16::from_le_bytes(length.try_into().ok()?);
    arena.get(start + 2..start + 2 + usize::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_with_all_their_values_and_others_are_not() {
        for count in [0_u32, 1, 2, 7, 8, 9, 1000] {
            let mut entries: Vec<_> = (0..count)
                .flat_map(|n| [(mix_v4(n), n), (mix_v4(n), n + count)])
                .collect();
            entries.sort_unstable();
            let table = Table::new(entries);
            for n in 0..count {
                let values: Vec<u32> = table.get(mix_v4(n)).map(|(_, value)| value).collect();
                assert_eq!(values, [n, n + count]);
            }
            assert_eq!(table.get(mix_v4(count)).count(), 0, "of {count}");
        }
    }

    #[test]
    fn keys_that_all_begin_alike_are_found_too() {
        let key = |n: u32| {
            let mut key = [0; 16];
            key[12..].copy_from_slice(&n.to_be_bytes());
            key
        };
        let table = Table::new((0..10_000).map(|n| (key(n), n)).collect());
        assert!((0..10_000).all(|n| table.get(key(n)).eq([(n as usize, n)])));
        assert_eq!(table.get(key(10_000)).count(), 0);
    }

    #[test]
    fn texts_are_compared_and_repetitions_are_bounded() {
        let mut builder = TextsBuilder::default();
        for (text, value) in [("b", 2), ("a", 1), ("a", 1), ("a", 3), ("a", 0), ("", 4)] {
            assert!(builder.add(text, value));
        }
        let texts = builder.finish(2, |value| 10 - value);
        assert_eq!(texts.len(), 4);
        assert!(texts.get("a").eq([7, 9]));
        assert!(texts.get("").eq([6]));
        assert_eq!(texts.get("c").count(), 0);
        assert!(!TextsBuilder::default().add(&"x".repeat(70_000), 0));
    }
}
