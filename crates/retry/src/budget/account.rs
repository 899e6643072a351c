//! The state of one account: what outlasts configurations. It knows no settings.

use super::Identity;
use super::settings::{MAX_TTL, MAX_WINDOW};
use super::slots::{Ring, Slot};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

// One slot more than the longest window, so that the slot that is being opened never replaces one that still counts.
const DEPOSIT_SLOTS: usize = MAX_TTL as usize + 1;
const WITHDRAWAL_SLOTS: usize = MAX_WINDOW as usize + 2;

/// Most stripes that are worth their memory (256 bytes each, per account).
const MAX_STRIPES: usize = 16;

/// Deposits of the threads that share a stripe. 128 bytes keep neighbours apart on machines that fetch cache lines
/// in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe {
    amounts: Ring<DEPOSIT_SLOTS>,
    count: AtomicU64,
}

/// Deposits and withdrawals of one account on this node.
///
/// Withdrawals are one counter that only grows, plus its reading at the start of each slot: what was withdrawn
/// within a window is the counter less the reading at the window's start. That makes "is there a token left, and
/// take it" a single compare-and-swap. A withdrawal that races with the start of a slot counts into the later one,
/// so a race can only make the account stricter.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) identity: Identity,
    stripes: Box<[Stripe]>,
    withdrawn: AtomicU64,
    /// Latest slot in which a withdrawal was tried: keeps late threads from looking at a window that is gone.
    latest: AtomicU32,
    starts: Ring<WITHDRAWAL_SLOTS>,
    /// Withdrawals given back, in the slot that they were taken for, so that neither outlives the other's effect.
    refunds: Ring<WITHDRAWAL_SLOTS>,
    refunded: AtomicU64,
    denials: AtomicU64,
}

impl Account {
    pub(super) fn new(identity: Identity, stripes: usize) -> Self {
        Self {
            identity,
            stripes: (0..stripes.clamp(1, MAX_STRIPES).next_power_of_two())
                .map(|_| Stripe {
                    amounts: Ring::new(),
                    count: AtomicU64::new(0),
                })
                .collect(),
            withdrawn: AtomicU64::new(0),
            latest: AtomicU32::new(0),
            starts: Ring::new(),
            refunds: Ring::new(),
            refunded: AtomicU64::new(0),
            denials: AtomicU64::new(0),
        }
    }

    pub(super) fn deposit(&self, slot: Slot, amount: u32) {
        // The number of stripes is a power of two.
        let stripe = &self.stripes[thread_number() & (self.stripes.len() - 1)];
        stripe.amounts.add(slot, amount);
        stripe.count.fetch_add(1, Ordering::Relaxed);
    }

    /// What was deposited within the `slots` slots up to `last`.
    pub(super) fn deposited(&self, last: Slot, slots: u32) -> u64 {
        self.stripes
            .iter()
            .map(|stripe| stripe.amounts.sum(last, slots))
            .sum()
    }

    /// The account's own idea of the present slot: `slot`, or a later one that another thread has already seen.
    pub(super) fn present(&self, slot: Slot) -> Slot {
        slot.max(self.latest.load(Ordering::Relaxed))
    }

    /// The counter to give to [`Account::net_withdrawn`] and [`Account::take`].
    pub(super) fn reading(&self) -> u64 {
        self.withdrawn.load(Ordering::Acquire)
    }

    /// Notes `reading` as the start of `slot`, unless another thread has done so. Must precede [`Account::take`].
    pub(super) fn open(&self, slot: Slot, reading: u64) {
        self.latest.fetch_max(slot, Ordering::Relaxed);
        self.starts.open(slot, reading as u32);
    }

    /// Withdrawals less refunds within the `slots` slots up to `last`, as of `reading`.
    pub(super) fn net_withdrawn(&self, reading: u64, last: Slot, slots: u32) -> u64 {
        // The earliest start leaves the most behind it, but threads that race may open slots out of order. Readings
        // are kept modulo 2^32; a start later than `reading` shows as a negative difference, and then the
        // compare-and-swap fails too.
        let gross = self
            .starts
            .window(last, slots)
            .map(|start| (reading as u32).wrapping_sub(start) as i32)
            .max()
            .map_or(0, |most| u64::from(most.max(0).unsigned_abs()));
        gross.saturating_sub(self.refunds.sum(last, slots))
    }

    /// Takes one token if nobody has taken any since `reading`.
    pub(super) fn take(&self, reading: u64) -> bool {
        self.withdrawn
            .compare_exchange(reading, reading + 1, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Gives back a token that was taken for `slot`.
    pub(super) fn refund(&self, slot: Slot) {
        self.refunds.add(slot, 1);
        self.refunded.fetch_add(1, Ordering::Release);
    }

    pub(super) fn deny(&self) {
        self.denials.fetch_add(1, Ordering::Relaxed);
    }

    /// Deposits, withdrawals that were kept, and denials since the account was opened.
    pub(super) fn totals(&self) -> (u64, u64, u64) {
        let deposits = self
            .stripes
            .iter()
            .map(|stripe| stripe.count.load(Ordering::Relaxed))
            .sum();
        // Refunds first: each follows its withdrawal, so the difference is never below zero.
        let refunded = self.refunded.load(Ordering::Acquire);
        let kept = self.reading().saturating_sub(refunded);
        (deposits, kept, self.denials.load(Ordering::Relaxed))
    }
}

/// Stripes for a machine of this size.
pub(super) fn default_stripes() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Numbers threads in the order in which they first come by, which spreads them evenly over the stripes.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // The value has no destructor, so this holds even while the thread is ending.
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stripe_fills_its_cache_lines() {
        assert_eq!(size_of::<Stripe>(), 256);
        assert_eq!(align_of::<Stripe>(), 128);
    }

    #[test]
    fn a_refund_expires_together_with_its_withdrawal() {
        let account = Account::new(Identity::Gateway, 1);
        let reading = account.reading();
        account.open(3, reading);
        assert!(account.take(reading));
        // Another slot begins before the token comes back.
        account.open(4, account.reading());
        account.refund(3);
        for last in 3..20 {
            assert_eq!(account.net_withdrawn(account.reading(), last, 10), 0);
        }
        assert_eq!(account.totals(), (0, 0, 0));
    }

    #[test]
    fn a_token_taken_by_somebody_else_is_noticed() {
        let account = Account::new(Identity::Gateway, 1);
        let reading = account.reading();
        account.open(0, reading);
        assert!(account.take(reading));
        assert!(!account.take(reading));
        assert_eq!(account.net_withdrawn(account.reading(), 0, 10), 1);
    }

    #[test]
    fn the_counter_may_pass_its_32_bits() {
        let account = Account::new(Identity::Gateway, 1);
        account
            .withdrawn
            .store(u64::from(u32::MAX), Ordering::Relaxed);
        for _ in 0..5 {
            let reading = account.reading();
            account.open(9, reading);
            assert!(account.take(reading));
        }
        assert_eq!(account.net_withdrawn(account.reading(), 9, 10), 5);
    }
}
