//! Which grams may occur in a table, in one bit each.

/// One bit per hash of the keys that occur. The sizes are known when the program is compiled, so
/// that a hash needs no comparison with the size.
pub(super) enum Filter {
    Tiny(Box<[u64; TINY]>),
    Small(Box<[u64; SMALL]>),
    Medium(Box<[u64; MEDIUM]>),
    Large(Box<[u64; LARGE]>),
}

/// Sizes in words of 64 bits: 128 bytes to 64 KiB, which stay in the nearest caches.
pub(super) const TINY: usize = 16;
pub(super) const SMALL: usize = 256;
pub(super) const MEDIUM: usize = 4096;
pub(super) const LARGE: usize = 8192;

impl Filter {
    pub(super) fn new(keys: impl ExactSizeIterator<Item = u32>) -> Self {
        // One bit in 32 set keeps false hits to a few per text.
        let words = keys.len() / 2;
        if words <= TINY {
            Self::Tiny(filled(keys))
        } else if words <= SMALL {
            Self::Small(filled(keys))
        } else if words <= MEDIUM {
            Self::Medium(filled(keys))
        } else {
            Self::Large(filled(keys))
        }
    }
}

fn filled<const WORDS: usize>(keys: impl Iterator<Item = u32>) -> Box<[u64; WORDS]> {
    let mut bits = Box::new([0_u64; WORDS]);
    for key in keys {
        let place = place_of::<WORDS>(key);
        if let Some(word) = bits.get_mut(place as usize / 64) {
            *word |= 1 << (place % 64);
        }
    }
    bits
}

/// Number of the bit of a key.
#[inline(always)]
const fn place_of<const WORDS: usize>(key: u32) -> u32 {
    hash(key) >> (32 - 6 - WORDS.trailing_zeros())
}

/// Whether some key has this hash: 1 or 0.
#[inline(always)]
pub(super) fn bit<const WORDS: usize>(bits: &[u64; WORDS], key: u32) -> u64 {
    let place = place_of::<WORDS>(key);
    bits.get(place as usize / 64).copied().unwrap_or(0) >> (place % 64) & 1
}

/// Fibonacci hashing: the high bits depend on all bytes.
#[inline(always)]
pub(super) const fn hash(key: u32) -> u32 {
    key.wrapping_mul(0x9e37_79b1)
}
