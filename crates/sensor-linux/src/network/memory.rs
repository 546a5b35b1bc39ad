//! Remembers for a while that something was already reported. Bounded; pure.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    time::Duration,
};

/// Stands for a key: its 64-bit hash under a secret of this process, so that a key costs the same few
/// bytes whatever it is, is hashed once however many tables it is looked up in, and nobody outside
/// can aim at a collision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// What fingerprints are taken with.
#[derive(Debug, Default)]
pub(super) struct Secret(RandomState);

impl Secret {
    pub(super) fn fingerprint<K: Hash>(&self, key: &K) -> Fingerprint {
        Fingerprint(self.0.hash_one(key))
    }
}

/// A table by fingerprint.
pub(super) type Table<V> = HashMap<Fingerprint, V, BuildHasherDefault<Hashed>>;

/// Takes a fingerprint for its own hash: it is one already.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

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

/// Keys a memory always has room for.
const ENOUGH: usize = 512;

/// Nanoseconds since boot: half the size of a duration, in tables that are looked into at random.
type Nanos = u64;

/// Keys seen within a span of time.
#[derive(Debug)]
pub(super) struct Memory {
    span: Duration,
    capacity: usize,
    expiry: Table<Nanos>,
    /// In order of expiry at the time of entry; a key that was refreshed since is entered again
    /// when its turn comes.
    queue: VecDeque<(Nanos, Fingerprint)>,
    evicted: u64,
}

impl Memory {
    /// Keeps up to `capacity` keys, each for `span`.
    pub(super) fn new(span: Duration, capacity: usize) -> Self {
        Self {
            span,
            capacity,
            expiry: Table::default(),
            queue: VecDeque::new(),
            evicted: 0,
        }
    }

    /// Remembers the key from `now` on; answers until when.
    pub(super) fn insert(&mut self, now: Duration, key: Fingerprint) -> Duration {
        self.forget(now);
        let expiry = now + self.span;
        self.restore(key, expiry);
        expiry
    }

    /// Remembers the key until `expiry`, as an earlier process did.
    pub(super) fn restore(&mut self, key: Fingerprint, expiry: Duration) {
        let expiry = nanos(expiry);
        if self.expiry.insert(key, expiry).is_some() {
            return;
        }
        self.queue.push_back((expiry, key));
        while self.expiry.len() > self.capacity {
            if let Some((_, oldest)) = self.queue.pop_front() {
                self.expiry.remove(&oldest);
                self.evicted += 1;
            }
        }
    }

    /// Whether the key is remembered.
    pub(super) fn contains(&mut self, now: Duration, key: Fingerprint) -> bool {
        self.forget(now);
        self.until(now, key).is_some()
    }

    /// If the key is remembered, remembers it anew, and answers until when it was and is now.
    pub(super) fn refresh(&mut self, now: Duration, key: Fingerprint) -> Option<[Duration; 2]> {
        self.forget(now);
        let before = self.until(now, key)?;
        Some([before, self.insert(now, key)])
    }

    /// Keys forgotten before their time because there were too many.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    fn until(&self, now: Duration, key: Fingerprint) -> Option<Duration> {
        let until = self.expiry.get(&key).copied().map(Duration::from_nanos);
        until.filter(|&until| until > now)
    }

    fn forget(&mut self, now: Duration) {
        let now = nanos(now);
        while let Some(&(entered, key)) = self.queue.front() {
            if entered > now {
                break;
            }
            self.queue.pop_front();
            match self.expiry.get(&key) {
                Some(&expiry) if expiry > now => self.queue.push_back((expiry, key)),
                _ => {
                    self.expiry.remove(&key);
                }
            }
        }
        self.shrink();
    }

    /// Gives back what a storm took and nothing needs any more.
    fn shrink(&mut self) {
        let enough = 2 * self.queue.len() + ENOUGH;
        if self.expiry.capacity() > 4 * enough {
            self.expiry.shrink_to(enough);
            self.queue.shrink_to(enough);
        }
    }
}

/// What does not fit, five hundred years, never comes.
fn nanos(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn forgets_after_the_span_unless_refreshed() {
        let secret = Secret::default();
        let [a, b] = ["a", "b"].map(|key| secret.fingerprint(&key));
        let mut memory = Memory::new(at(10), 100);
        memory.insert(at(0), a);
        memory.insert(at(0), b);
        assert_eq!(memory.refresh(at(9), a), Some([at(10), at(19)]));
        assert!(memory.contains(at(18), a));
        assert!(!memory.contains(at(10), b));
        assert_eq!(memory.refresh(at(30), a), None);
    }

    #[test]
    fn forgets_the_oldest_first_when_full_and_counts_it() {
        let secret = Secret::default();
        let keys = ["a", "b", "c"].map(|key| secret.fingerprint(&key));
        let mut memory = Memory::new(at(10), 2);
        for (second, key) in keys.into_iter().enumerate() {
            memory.insert(at(second as u64), key);
        }
        assert!(!memory.contains(at(3), keys[0]));
        assert!(memory.contains(at(3), keys[2]));
        assert_eq!(memory.evicted(), 1);
        assert!(memory.queue.len() <= 2);
    }

    #[test]
    fn gives_back_what_a_storm_took() {
        let secret = Secret::default();
        let mut memory = Memory::new(at(10), 100_000);
        for key in 0..100_000 {
            memory.insert(at(0), secret.fingerprint(&key));
        }
        let stays = secret.fingerprint(&"stays");
        memory.insert(at(5), stays);
        assert!(memory.expiry.capacity() >= 100_000);
        assert!(memory.contains(at(12), stays));
        assert!(memory.expiry.capacity() < 8 * ENOUGH);
        assert!(memory.queue.capacity() < 8 * ENOUGH);
    }
}
