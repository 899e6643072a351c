//! Values kept once per stripe, a thread always using the same stripe, so that threads counting the same
//! thing do not fight for a cache line.

use std::cell::Cell;
use std::slice::from_ref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use prefetch_index::prefetch_index;
use smallvec::SmallVec;

/// Upper bound of stripes: beyond this many processors two threads may share one.
const MAX_STRIPES: usize = 64;

/// A value alone on its cache lines. 128 bytes, because x86 prefetches lines in pairs and some ARM cores
/// have 128-byte lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// How many stripes suit this machine: the number of processors rounded up to a power of two, at most 64.
pub(crate) fn default_stripes() -> usize {
    std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .next_power_of_two()
        .min(MAX_STRIPES)
}

/// A small number of its own for the calling thread, counting up from 0 in order of first use.
pub(crate) fn thread_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    const UNSET: usize = usize::MAX;
    thread_local! {
        static INDEX: Cell<usize> = const { Cell::new(UNSET) };
    }
    INDEX.with(|index| {
        let known = index.get();
        if known != UNSET {
            return known;
        }
        let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
        index.set(fresh);
        fresh
    })
}

/// One `T` per stripe, each made at its stripe's first use: a route that one thread serves costs one `T`.
#[derive(Debug)]
pub(crate) struct Striped<T> {
    /// The first few lie where the value itself is: one miss less for each of many routes.
    slots: SmallVec<[OnceLock<Box<Padded<T>>>; 4]>,
}

impl<T: Default> Striped<T> {
    /// `stripes` is rounded up to a power of two.
    pub(crate) fn new(stripes: usize) -> Self {
        let stripes = stripes.max(1).next_power_of_two();
        Self {
            slots: (0..stripes).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The calling thread's own `T`. Allocates only the first time a stripe is touched.
    #[inline]
    pub(crate) fn local(&self) -> &T {
        let slot = &self.slots[thread_index() & (self.slots.len() - 1)];
        &slot.get_or_init(Box::default).0
    }

    /// Has the calling thread's own `T` fetched into the processor's cache.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch_index(from_ref(self.local()), 0);
    }

    /// Every `T` made so far.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots
            .iter()
            .filter_map(|slot| slot.get().map(|padded| &padded.0))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn a_thread_keeps_its_index_and_another_gets_a_different_one() {
        let mine = thread_index();
        assert_eq!(mine, thread_index());
        let theirs = std::thread::spawn(thread_index).join().unwrap();
        assert_ne!(mine, theirs);
    }

    #[test]
    fn no_stripe_is_made_before_it_is_used() {
        let striped: Striped<AtomicU64> = Striped::new(3);
        assert_eq!(striped.slots.len(), 4);
        assert_eq!(striped.iter().count(), 0);
        striped.local().fetch_add(1, Ordering::Relaxed);
        assert_eq!(striped.iter().count(), 1);
    }

    #[test]
    fn stripes_do_not_share_cache_lines() {
        assert_eq!(align_of::<Padded<AtomicU64>>(), 128);
        assert_eq!(size_of::<Padded<AtomicU64>>(), 128);
    }
}
