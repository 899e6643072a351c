//! Counters per status code. The first few codes that are seen, which is all that most routes ever answer with, have their
//! counters in place; others get a fixed array per class of codes, made when the first of its class is seen.

use std::array;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Who made the response (Kong's `source` label).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The upstream.
    Service,
    /// The gateway itself: a plugin, or an error it found.
    Kong,
}

impl Source {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Kong => "kong",
        }
    }
}

const SOURCES: [Source; 2] = [Source::Service, Source::Kong];
/// 1xx to 9xx: an upstream may answer with any code of three digits.
const CLASSES: usize = 9;

#[derive(Debug)]
struct Page([AtomicU64; 100]);

/// A counter of the code that claimed it first.
#[derive(Debug, Default)]
struct Early {
    /// Source and code as a number that is not zero; zero while nobody has claimed it.
    owner: AtomicU32,
    count: AtomicU64,
}

impl Early {
    /// Whether it is this owner's, from now on if nobody had it.
    fn claim(&self, owner: u32) -> bool {
        match self.owner.load(Ordering::Relaxed) {
            0 => match self
                .owner
                .compare_exchange(0, owner, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => true,
                Err(other) => other == owner,
            },
            other => other == owner,
        }
    }
}

/// Counts by source and code.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Codes {
    early: [Early; 3],
    pages: [[OnceLock<Box<Page>>; CLASSES]; SOURCES.len()],
}

impl Codes {
    /// Counts one response. Returns false, counting nothing, for a code outside of 100..=999.
    pub(super) fn count(&self, source: Source, code: u16) -> bool {
        if !(100..1000).contains(&code) {
            return false;
        }
        let owner = u32::from(code) | (source as u32) << 16;
        if let Some(early) = self.early.iter().find(|e| e.claim(owner)) {
            early.count.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let code = usize::from(code);
        let Some(page) = (code / 100)
            .checked_sub(1)
            .and_then(|class| self.pages[source as usize].get(class))
        else {
            return false;
        };
        let page = page.get_or_init(|| Box::new(Page(array::from_fn(|_| AtomicU64::new(0)))));
        page.0[code % 100].fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Adds every non-zero count to `sums`.
    pub(super) fn fold_into(&self, sums: &mut BTreeMap<(Source, u16), u64>) {
        for early in &self.early {
            let owner = early.owner.load(Ordering::Relaxed);
            let count = early.count.load(Ordering::Relaxed);
            let source = SOURCES.get((owner >> 16) as usize);
            if count > 0
                && let Some(source) = source
            {
                *sums.entry((*source, (owner & 0xffff) as u16)).or_default() += count;
            }
        }
        for source in SOURCES {
            for (class, page) in (1_u16..).zip(&self.pages[source as usize]) {
                let Some(page) = page.get() else { continue };
                for (rest, count) in (0_u16..).zip(&page.0) {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        *sums.entry((source, class * 100 + rest)).or_default() += count;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_three_digits_has_its_own_counter() {
        let codes = Codes::default();
        for code in 100..=999 {
            assert!(codes.count(Source::Kong, code));
        }
        assert!(codes.count(Source::Service, 200));
        let mut sums = BTreeMap::new();
        codes.fold_into(&mut sums);
        assert_eq!(sums.len(), 901);
        assert!(sums.values().all(|&count| count == 1));
    }

    #[test]
    fn a_code_outside_of_http_is_refused() {
        let codes = Codes::default();
        for code in [0, 99, 1000, u16::MAX] {
            assert!(!codes.count(Source::Kong, code));
        }
        let mut sums = BTreeMap::new();
        codes.fold_into(&mut sums);
        assert!(sums.is_empty());
    }
}
