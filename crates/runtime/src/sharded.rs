//! A hash index whose shards are shared between snapshots: changing one entry copies one shard, not the index.
//!
//! With many entries a request finds each line it looks at outside the processor's caches, and each costs it some hundred nanoseconds.
//! So a slot has the hash and the entry side by side, an entry is but pointers, and what they point to is fetched while
//! the first of it is still being compared. (A table that keeps its hashes elsewhere would cost two lines more.)

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// As many as the first bytes of hashes.
const SHARDS: usize = 256;

/// What an index holds: it knows what it is found by.
pub(crate) trait Entry: Clone {
    type Key: ?Sized + Hash + Eq;

    fn key(&self) -> &Self::Key;

    /// Has what a request will look at fetched into the processor's cache.
    fn prefetch(&self) {}
}

#[derive(Clone)]
struct Slot<E> {
    hash: u64,
    entry: Option<E>,
}

impl<E> Slot<E> {
    const EMPTY: Slot<E> = Slot {
        hash: 0,
        entry: None,
    };
}

/// An index that shares its unchanged parts with its clones.
pub(crate) struct Sharded<E> {
    hasher: foldhash::fast::FixedState,
    /// Each of a power of two slots, of which some are empty. An entry lies in the slot of its hash or as near behind it as was
    /// free.
    shards: Box<[Arc<[Slot<E>]>]>,
    /// How many entries each shard has.
    counts: Box<[u32]>,
}

impl<E> Clone for Sharded<E> {
    fn clone(&self) -> Self {
        Sharded {
            hasher: self.hasher.clone(),
            shards: self.shards.clone(),
            counts: self.counts.clone(),
        }
    }
}

impl<E> Default for Sharded<E> {
    fn default() -> Self {
        let empty: Arc<[Slot<E>]> = Arc::new([Slot::EMPTY]);
        Sharded {
            // The keys looked for are the callers' choice, those that are kept are not.
            hasher: foldhash::fast::FixedState::with_seed(1),
            shards: (0..SHARDS).map(|_| empty.clone()).collect(),
            counts: [0; SHARDS].into(),
        }
    }
}

/// Which shard a hash belongs to. Within it the lowest bits count.
fn shard(hash: u64) -> usize {
    (hash >> (u64::BITS - SHARDS.ilog2())) as usize
}

impl<E: Entry> Sharded<E> {
    pub(crate) fn get(&self, key: &E::Key) -> Option<&E> {
        let hash = self.hasher.hash_one(key);
        let slots = &*self.shards[shard(hash)];
        slots[find(slots, hash, key)?].entry.as_ref()
    }

    /// Puts an entry in, in place of the one with its key.
    pub(crate) fn insert(&mut self, entry: E) {
        let hash = self.hasher.hash_one(entry.key());
        let n = shard(hash);
        let slots = &mut self.shards[n];
        if let Some(at) = find(slots, hash, entry.key()) {
            Arc::make_mut(slots)[at].entry = Some(entry);
            return;
        }
        let count = self.counts[n] as usize + 1;
        // Three of four at most, so that a search soon meets an empty one.
        if count * 4 > slots.len() * 3 {
            let mut wider = vec![Slot::EMPTY; slots.len() * 2];
            for slot in slots.iter().filter(|s| s.entry.is_some()) {
                put(&mut wider, slot.clone());
            }
            *slots = wider.into();
        }
        let entry = Some(entry);
        put(Arc::make_mut(slots), Slot { hash, entry });
        self.counts[n] += 1;
    }

    pub(crate) fn remove(&mut self, key: &E::Key) {
        let hash = self.hasher.hash_one(key);
        let n = shard(hash);
        let Some(mut hole) = find(&self.shards[n], hash, key) else {
            return;
        };
        let slots = Arc::make_mut(&mut self.shards[n]);
        slots[hole] = Slot::EMPTY;
        self.counts[n] -= 1;
        // Those behind it that are not where they belong move up, so that searches do not end at the hole.
        let mask = slots.len() - 1;
        let mut at = (hole + 1) & mask;
        while slots[at].entry.is_some() {
            let home = slots[at].hash as usize & mask;
            let (from_home, from_hole) =
                (at.wrapping_sub(home) & mask, at.wrapping_sub(hole) & mask);
            if from_home >= from_hole {
                slots.swap(hole, at);
                hole = at;
            }
            at = (at + 1) & mask;
        }
    }
}

/// Where the entry with that key is.
fn find<E: Entry>(slots: &[Slot<E>], hash: u64, key: &E::Key) -> Option<usize> {
    let mask = slots.len() - 1;
    let mut at = hash as usize & mask;
    while let Some(entry) = &slots[at].entry {
        if slots[at].hash == hash {
            entry.prefetch();
            if entry.key() == key {
                return Some(at);
            }
        }
        at = (at + 1) & mask;
    }
    None
}

/// Puts an entry that is not there into the first slot for it that is free.
fn put<E>(slots: &mut [Slot<E>], slot: Slot<E>) {
    let mask = slots.len() - 1;
    let mut at = slot.hash as usize & mask;
    while slots[at].entry.is_some() {
        at = (at + 1) & mask;
    }
    slots[at] = slot;
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Pair(u16, u8);

    impl Entry for Pair {
        type Key = u16;

        fn key(&self) -> &u16 {
            &self.0
        }
    }

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut index = Sharded::default();
        index.insert(Pair(1, 1));
        let before = index.clone();
        index.insert(Pair(1, 2));
        index.insert(Pair(2, 2));
        index.remove(&1);
        assert_eq!(before.get(&1), Some(&Pair(1, 1)));
        assert_eq!(before.get(&2), None);
        assert_eq!((index.get(&1), index.get(&2)), (None, Some(&Pair(2, 2))));
    }

    #[test]
    fn an_entry_with_pointers_takes_little_more_than_they_do() {
        assert_eq!(size_of::<Slot<Arc<u8>>>(), 16);
    }

    proptest! {
        #[test]
        fn it_is_a_map(changes in prop::collection::vec((any::<bool>(), 0..1500_u16, any::<u8>()), 0..3000)) {
            let mut index = Sharded::default();
            let mut map = HashMap::new();
            for (put, key, value) in changes {
                if put {
                    index.insert(Pair(key, value));
                    map.insert(key, value);
                } else {
                    index.remove(&key);
                    map.remove(&key);
                }
            }
            for key in 0..1500 {
                prop_assert_eq!(index.get(&key).map(|p| p.1), map.get(&key).copied());
            }
        }
    }
}
