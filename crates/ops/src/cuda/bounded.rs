//! A map of limited size. New entries replace those that were not used for the longest time.

use std::collections::HashMap;
use std::hash::Hash;

/// Values by key, with a limited total cost.
///
/// A network uses the same few entries in every step, and they stay. Without the limit, a program that
/// always meets new shapes would fill the device's memory, because the map lives as long as the process.
pub(super) struct Bounded<K, V> {
    entries: HashMap<K, Entry<V>>,
    most: usize,
    cost: usize,
    /// Counts the accesses. It serves as the time of the last use.
    now: u64,
}

struct Entry<V> {
    value: V,
    cost: usize,
    used: u64,
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    /// An empty map. The costs of its entries add up to at most `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { entries: HashMap::new(), most, cost: 0, now: 0 }
    }

    /// The value at `key`. This counts as a use.
    pub(super) fn get(&mut self, key: &K) -> Option<&mut V> {
        self.now += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.now;
        Some(&mut entry.value)
    }

    /// Whether there is a value at `key`. This does not count as a use.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Stores `value`. Removes the entries used least recently until there is room. An entry that costs
    /// more than the limit is kept alone.
    pub(super) fn insert(&mut self, key: K, value: V, cost: usize) {
        self.now += 1;
        self.remove(&key);
        while self.cost + cost > self.most {
            let Some(oldest) = self.oldest() else { break };
            self.remove(&oldest);
        }
        self.cost += cost;
        self.entries.insert(key, Entry { value, cost, used: self.now });
    }

    fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.cost -= entry.cost;
        }
    }

    /// Scans all entries. There are at most some thousands, and making a new one takes milliseconds.
    fn oldest(&self) -> Option<K> {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
        oldest.map(|(key, _)| key.clone())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_least_lately_goes() {
        let mut map = Bounded::new(3);
        for key in 0..3 {
            map.insert(key, 10 * key, 1);
        }
        assert_eq!(map.get(&0), Some(&mut 0));
        map.insert(3, 30, 1);
        let left = (0..4).filter(|key| map.contains(key)).collect::<Vec<_>>();
        assert_eq!(left, [0, 2, 3]);
    }

    #[test]
    fn the_cost_of_all_is_limited_however_many_come() {
        let mut map = Bounded::new(100);
        for key in 0..10_000 {
            map.insert(key, (), 1 + key % 7);
            assert!(map.cost <= 100 && map.len() <= 100);
            assert_eq!(map.cost, map.entries.values().map(|entry| entry.cost).sum::<usize>());
        }
    }

    #[test]
    fn what_is_too_large_stands_alone_and_a_key_is_kept_once() {
        let mut map = Bounded::new(3);
        map.insert(1, 'a', 2);
        map.insert(1, 'b', 1);
        assert_eq!((map.cost, map.get(&1)), (1, Some(&mut 'b')));
        map.insert(2, 'c', 9);
        assert_eq!((map.len(), map.get(&2)), (1, Some(&mut 'c')));
        map.insert(3, 'd', 1);
        assert_eq!((map.len(), map.cost, map.get(&3)), (1, 1, Some(&mut 'd')));
    }
}
