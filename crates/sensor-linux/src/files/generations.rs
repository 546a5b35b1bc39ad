//! A map that forgets what was not used for long, in bounded memory.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, mem};

/// Holds at most twice `limit` entries: when the young half is full the old half is forgotten.
#[derive(Debug)]
pub(crate) struct Generations<K, V> {
    limit: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V> Generations<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// The value of `key`, which thereby counts as used.
    pub(crate) fn get<Q>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.limit && !self.young.contains_key(&key) {
            self.old = mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    pub(super) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.old.remove(key).or_else(|| self.young.remove(key))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_used_and_stays_within_its_bound() {
        let mut map = Generations::new(10);
        map.insert(usize::MAX, 0);
        for number in 0..1_000 {
            map.insert(number, number);
            assert_eq!(map.get(&usize::MAX), Some(&0));
            assert!(map.young.len() + map.old.len() <= 20);
        }
        assert_eq!(map.get(&999), Some(&999));
        assert_eq!(map.get(&0), None);
    }

    #[test]
    fn what_is_removed_is_gone_young_or_old() {
        let mut map = Generations::new(1);
        map.insert("a", 1);
        map.insert("b", 2);
        assert_eq!((map.remove("a"), map.remove("b")), (Some(1), Some(2)));
        assert!(map.is_empty());
        assert_eq!(map.remove("a"), None);
    }

    #[test]
    fn the_newest_value_of_a_key_wins() {
        let mut map = Generations::new(1);
        map.insert("a", 1);
        map.insert("b", 2);
        map.insert("a", 3);
        assert_eq!(map.get("a"), Some(&3));
    }
}
