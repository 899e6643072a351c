//! Lock-free counters that forget: rings of one-second slots, each a single atomic word.
//!
//! A word holds the slot's number (so that what an earlier lap left behind is recognised and replaced in one step)
//! and a 32-bit value.

use crate::Moment;
use std::sync::atomic::{AtomicU64, Ordering};

const SLOT_MILLIS: u64 = 1_000;

/// Number of a one-second slot since the start of the clock; good for 136 years.
pub(super) type Slot = u32;

/// The slot `now` falls into.
pub(super) fn slot_of(now: Moment) -> Slot {
    // One below the maximum, because words store the number plus one.
    Slot::try_from(now.as_millis() / SLOT_MILLIS)
        .unwrap_or(Slot::MAX)
        .min(Slot::MAX - 1)
}

fn pack(slot: Slot, value: u32) -> u64 {
    // The number is stored plus one, so that a word of zero means "never used".
    (u64::from(slot) + 1) << 32 | u64::from(value)
}

fn unpack(word: u64) -> Option<(Slot, u32)> {
    let slot = (word >> 32).checked_sub(1)?;
    // Both halves fit: the upper one was shifted down, the lower one is cut on purpose.
    Some((slot as Slot, word as u32))
}

/// `N` slots in a ring.
#[derive(Debug)]
pub(super) struct Ring<const N: usize>([AtomicU64; N]);

impl<const N: usize> Ring<N> {
    pub(super) fn new() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }

    fn word(&self, slot: Slot) -> &AtomicU64 {
        &self.0[slot as usize % N]
    }

    /// Adds `amount` to `slot`, up to what fits. An amount for a slot that a later lap has replaced is lost: it would
    /// have expired anyway.
    pub(super) fn add(&self, slot: Slot, amount: u32) {
        let word = self.word(slot);
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let next = match unpack(seen) {
                Some((other, _)) if other > slot => return,
                Some((other, value)) if other == slot => pack(slot, value.saturating_add(amount)),
                _ => pack(slot, amount),
            };
            match word.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Writes `value` into `slot` unless it has one, or a later lap has replaced it.
    pub(super) fn open(&self, slot: Slot, value: u32) {
        let word = self.word(slot);
        let seen = word.load(Ordering::Relaxed);
        if unpack(seen).is_none_or(|(other, _)| other < slot) {
            // Whoever is faster has opened it: nothing to do again.
            let _ = word.compare_exchange(
                seen,
                pack(slot, value),
                Ordering::Release,
                Ordering::Relaxed,
            );
        }
    }

    /// The values of the `slots` slots that end with `last`, skipping unused ones.
    pub(super) fn window(&self, last: Slot, slots: u32) -> impl Iterator<Item = u32> {
        debug_assert!(slots as usize <= N, "a window must fit into its ring");
        let first = last.saturating_sub(slots.saturating_sub(1));
        (first..=last).filter_map(|slot| {
            let (other, value) = unpack(self.word(slot).load(Ordering::Relaxed))?;
            (other == slot).then_some(value)
        })
    }

    /// Sum over [`Ring::window`].
    pub(super) fn sum(&self, last: Slot, slots: u32) -> u64 {
        self.window(last, slots).map(u64::from).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_of_an_earlier_lap_is_replaced_not_added_to() {
        let ring = Ring::<4>::new();
        ring.add(1, 5);
        ring.add(1, 6);
        assert_eq!(ring.sum(1, 4), 11);
        ring.add(5, 7);
        assert_eq!(ring.sum(5, 4), 7);
        assert_eq!(ring.sum(1, 4), 0);
    }

    #[test]
    fn a_late_amount_does_not_disturb_a_later_lap() {
        let ring = Ring::<4>::new();
        ring.add(5, 7);
        ring.add(1, 100);
        ring.open(1, 100);
        assert_eq!(ring.sum(5, 4), 7);
    }

    #[test]
    fn the_first_slot_of_all_is_told_from_an_unused_one() {
        let ring = Ring::<4>::new();
        assert_eq!(ring.window(0, 4).count(), 0);
        ring.open(0, 0);
        ring.open(0, 9);
        assert_eq!(ring.window(0, 4).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_window_ends_before_what_is_older() {
        let ring = Ring::<8>::new();
        for slot in 0..6 {
            ring.add(slot, 1 << slot);
        }
        assert_eq!(ring.sum(5, 3), 0b111_000);
    }

    #[test]
    fn amounts_stop_at_the_top_instead_of_spilling_into_the_slot_number() {
        let ring = Ring::<2>::new();
        ring.add(3, u32::MAX);
        ring.add(3, 1);
        assert_eq!(ring.sum(3, 2), u64::from(u32::MAX));
        assert_eq!(slot_of(Moment::from_millis(u64::MAX)), u32::MAX - 1);
        ring.add(u32::MAX - 1, 1);
        assert_eq!(ring.sum(u32::MAX - 1, 1), 1);
    }
}
