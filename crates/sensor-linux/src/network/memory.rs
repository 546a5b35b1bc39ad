//! Remembers for a while that something was already reported. Bounded; pure.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    time::Duration,
};

/// Keys seen within a span of time, by a 64-bit hash under a secret of this process: a key costs
/// the same few bytes whatever it is, and nobody outside can aim at a collision.
#[derive(Debug)]
pub(super) struct Memory {
    span: Duration,
    capacity: usize,
    secret: RandomState,
    expiry: HashMap<u64, Duration, BuildHasherDefault<Hashed>>,
    /// In order of expiry at the time of entry; a key that was refreshed since is entered again
    /// when its turn comes.
    queue: VecDeque<(Duration, u64)>,
    evicted: u64,
}

/// Takes a key for its own hash: it is one already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Memory {
    /// Keeps up to `capacity` keys, each for `span`.
    pub(super) fn new(span: Duration, capacity: usize) -> Self {
        Self {
            span,
            capacity,
            secret: RandomState::new(),
            expiry: HashMap::default(),
            queue: VecDeque::new(),
            evicted: 0,
        }
    }

    /// Remembers the key from `now` on; answers until when.
    pub(super) fn insert<K: Hash>(&mut self, now: Duration, key: &K) -> Duration {
        self.forget(now);
        let expiry = now + self.span;
        self.restore(key, expiry);
        expiry
    }

    /// Remembers the key until `expiry`, as an earlier process did.
    pub(super) fn restore<K: Hash>(&mut self, key: &K, expiry: Duration) {
        let hash = self.secret.hash_one(key);
        if self.expiry.insert(hash, expiry).is_some() {
            return;
        }
        self.queue.push_back((expiry, hash));
        while self.expiry.len() > self.capacity {
            if let Some((_, oldest)) = self.queue.pop_front() {
                self.expiry.remove(&oldest);
                self.evicted += 1;
            }
        }
    }

    /// Whether the key is remembered.
    pub(super) fn contains<K: Hash>(&mut self, now: Duration, key: &K) -> bool {
        self.forget(now);
        let hash = self.secret.hash_one(key);
        self.expiry.get(&hash).is_some_and(|&expiry| expiry > now)
    }

    /// If the key is remembered, remembers it anew, and answers until when it was and is now.
    pub(super) fn refresh<K: Hash>(&mut self, now: Duration, key: &K) -> Option<[Duration; 2]> {
        self.forget(now);
        let hash = self.secret.hash_one(key);
        let before = *self.expiry.get(&hash).filter(|&&expiry| expiry > now)?;
        Some([before, self.insert(now, key)])
    }

    /// Keys forgotten before their time because there were too many.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    fn forget(&mut self, now: Duration) {
        while let Some(&(entered, hash)) = self.queue.front() {
            if entered > now {
                break;
            }
            self.queue.pop_front();
            match self.expiry.get(&hash) {
                Some(&expiry) if expiry > now => self.queue.push_back((expiry, hash)),
                _ => {
                    self.expiry.remove(&hash);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn forgets_after_the_span_unless_refreshed() {
        let mut memory = Memory::new(at(10), 100);
        memory.insert(at(0), &"a");
        memory.insert(at(0), &"b");
        assert_eq!(memory.refresh(at(9), &"a"), Some([at(10), at(19)]));
        assert!(memory.contains(at(18), &"a"));
        assert!(!memory.contains(at(10), &"b"));
        assert_eq!(memory.refresh(at(30), &"a"), None);
    }

    #[test]
    fn forgets_the_oldest_first_when_full_and_counts_it() {
        let mut memory = Memory::new(at(10), 2);
        for (second, key) in ["a", "b", "c"].into_iter().enumerate() {
            memory.insert(at(second as u64), &key);
        }
        assert!(!memory.contains(at(3), &"a"));
        assert!(memory.contains(at(3), &"c"));
        assert_eq!(memory.evicted(), 1);
        assert!(memory.queue.len() <= 2);
    }
}
