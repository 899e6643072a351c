//! Counting on this node alone: exact, without locks, and without a sweep that anybody waits for.
//!
//! Each caller and period has one cell of 64 bits that holds the number of the window and the count in it. A request that finds an older
//! window starts a new one in place, so nothing has to be cleared when a window ends. A cell never goes back to a window before its own,
//! however late a request comes, unless the clock went back. Cells that nobody used for a whole window are taken out now and then, one
//! by one, by a background task: it marks a cell as dead first, and a request that comes upon a dead cell makes a new one, so no count
//! is lost.

use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use papaya::{Guard, HashMap, HashMapRef};

use crate::key::{Key, Keys};
use crate::meter::{Limit, Subject};
use crate::room::Room;
use crate::window::unix_now;

const COUNT_BITS: u32 = 40;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const WINDOW: u64 = (1 << (64 - COUNT_BITS)) - 1;
const DEAD: u64 = u64::MAX;

/// The most that is counted in one window.
pub(crate) const MOST: u64 = COUNT - 1;

/// Counters of a node at most: a hundred bytes each, so a hundred megabytes.
const MOST_CELLS: usize = 1_000_000;

/// What a request sees in a cell.
#[derive(Clone, Copy)]
struct Sight {
    /// The window in force, which is where to count.
    window: u64,
    /// What is used in it.
    used: u64,
    /// The request's own window is over.
    late: bool,
}

/// The counters of a node.
pub(crate) struct Local {
    pub(crate) keys: Keys,
    cells: HashMap<Key, AtomicU64, RandomState>,
    room: Room,
    /// The present, in seconds since 1970.
    clock: fn() -> i64,
}

impl Default for Local {
    fn default() -> Self {
        Local::with(Room::new(MOST_CELLS), unix_now)
    }
}

impl Local {
    fn with(room: Room, clock: fn() -> i64) -> Self {
        Local {
            keys: Keys::default(),
            cells: HashMap::default(),
            room,
            clock,
        }
    }

    /// Counts a request against all limits, or against none when one of them is reached: `false`. `used` gets what was used before.
    /// Several limits are taken one after the other and given back when a later one is reached: a request at the same moment may
    /// then be refused that could have been admitted; never the other way round.
    pub(crate) fn take(&self, subject: &Subject<'_>, used: &mut [u64]) -> bool {
        let cells = self.cells.pin();
        let key = |limit: &Limit| (subject.key(limit), bits(subject.window(limit).number));
        let limits = subject.limits;
        if limits.len() > 1 {
            let mut admitted = true;
            for (limit, used) in limits.iter().zip(&mut *used) {
                let (key, number) = key(limit);
                *used = self.counted(&cells, key, number);
                admitted &= *used < limit.most;
            }
            if !admitted {
                return false;
            }
        }
        for (i, (limit, used)) in limits.iter().zip(used).enumerate() {
            let (k, number) = key(limit);
            match self.reserve(&cells, k, number, limit.most) {
                Ok(before) => *used = before,
                Err(before) => {
                    *used = before;
                    for limit in &limits[..i] {
                        let (k, number) = key(limit);
                        self.give_back(&cells, k, number);
                    }
                    return false;
                }
            }
        }
        true
    }

    /// What is used of each limit.
    pub(crate) fn read(&self, subject: &Subject<'_>, used: &mut [u64]) {
        let cells = self.cells.pin();
        for (limit, used) in subject.limits.iter().zip(used) {
            let number = bits(subject.window(limit).number);
            *used = self.counted(&cells, subject.key(limit), number);
        }
    }

    /// Adds to what is used of each limit. What belongs to a window that is over has no bearing on the one that came after it.
    pub(crate) fn add(&self, subject: &Subject<'_>, amounts: &[u64]) {
        let cells = self.cells.pin();
        for (limit, amount) in subject.charged(amounts) {
            let number = bits(subject.window(limit).number);
            let more =
                |seen: Sight| (!seen.late).then(|| seen.used.saturating_add(amount).min(MOST));
            // Nothing is left to be done where it is late.
            let _ = self.change(&cells, subject.key(limit), number, more);
        }
    }

    /// Takes out the cells whose window is neither the present one nor next to it, and when there are too many, some that are
    /// in use.
    pub(crate) fn sweep(&self, now: i64) {
        let cells = self.cells.pin();
        for (key, cell) in cells.iter() {
            let present = bits(key.period.window(now).number);
            let seen = cell.load(Ordering::Acquire);
            if seen == DEAD || windows_after(present, seen >> COUNT_BITS).abs() <= 1 {
                continue;
            }
            kill(&cells, *key, cell, seen);
        }
        let counts = cells
            .iter()
            .map(|(_, cell)| cell.load(Ordering::Relaxed) & COUNT);
        if let Some(mut surplus) = self.room.surplus(cells.len(), counts) {
            for (key, cell) in cells.iter() {
                let seen = cell.load(Ordering::Acquire);
                if seen != DEAD && surplus.takes(seen & COUNT) {
                    kill(&cells, *key, cell, seen);
                }
            }
        }
    }

    fn counted<G: Guard>(&self, cells: &Cells<'_, G>, key: Key, number: u64) -> u64 {
        cells.get(&key).map_or(0, |cell| {
            self.look(cell.load(Ordering::Acquire), key, number).used
        })
    }

    /// Counts one more and answers what was used before; `Err` with what is used when that is all.
    fn reserve<G: Guard>(
        &self,
        cells: &Cells<'_, G>,
        key: Key,
        number: u64,
        most: u64,
    ) -> Result<u64, u64> {
        self.change(cells, key, number, |seen| {
            (seen.used < most).then_some(seen.used + 1)
        })
    }

    /// Changes a count and answers what it was before; `Err` with what it is when it may not be changed.
    fn change<G: Guard>(
        &self,
        cells: &Cells<'_, G>,
        key: Key,
        number: u64,
        to: impl Fn(Sight) -> Option<u64>,
    ) -> Result<u64, u64> {
        loop {
            let cell = match cells.get(&key) {
                Some(cell) => cell,
                None => {
                    self.room.grown_to(cells.len() + 1);
                    cells.get_or_insert_with(key, || AtomicU64::new(number << COUNT_BITS))
                }
            };
            let mut seen = cell.load(Ordering::Acquire);
            while seen != DEAD {
                let sight = self.look(seen, key, number);
                let Some(changed) = to(sight) else {
                    return Err(sight.used);
                };
                let next = (sight.window << COUNT_BITS) | changed;
                match cell.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return Ok(sight.used),
                    Err(now) => seen = now,
                }
            }
            remove_dead(cells, key);
        }
    }

    fn give_back<G: Guard>(&self, cells: &Cells<'_, G>, key: Key, number: u64) {
        if let Some(cell) = cells.get(&key) {
            let less = |seen: u64| (self.look(seen, key, number).used > 0).then(|| seen - 1);
            let _ = cell.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        }
    }

    /// What a request of window `number` sees in a cell.
    fn look(&self, seen: u64, key: Key, number: u64) -> Sight {
        let (window, used) = (seen >> COUNT_BITS, seen & COUNT);
        let anew = Sight {
            window: number,
            used: 0,
            late: false,
        };
        let ahead = windows_after(window, number);
        if seen == DEAD || ahead < 0 {
            return anew;
        }
        let mut sight = Sight {
            window,
            used,
            late: false,
        };
        if ahead > 0 {
            // Seldom, so the clock is read here only: the request is late, or the clock went back. By one window nobody minds, as
            // another thread may have seen the clock tick already.
            let present = bits(key.period.window((self.clock)()).number);
            let early = windows_after(window, present);
            sight.late = early <= 0;
            if ahead > 1 && early > 1 {
                return anew;
            }
        }
        sight
    }

    /// Sweeps now and then, as long as somebody holds the counters.
    pub(crate) async fn sweep_forever(counters: Weak<Self>) {
        let Some(mut sweeps) = counters.upgrade().map(|c| c.room.sweeps()) else {
            return;
        };
        loop {
            sweeps.next().await;
            let Some(counters) = counters.upgrade() else {
                return;
            };
            counters.sweep(unix_now());
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.cells.pin().len()
    }
}

fn bits(number: i64) -> u64 {
    // The lowest bits of a window's number tell it from all that a cell can still hold.
    (number as u64) & WINDOW
}

/// How many windows the first is after the second; negative when it is before.
fn windows_after(window: u64, other: u64) -> i64 {
    // The lowest bits, with their sign.
    (window.wrapping_sub(other) << COUNT_BITS).cast_signed() >> COUNT_BITS
}

type Cells<'a, G> = HashMapRef<'a, Key, AtomicU64, RandomState, G>;

/// Takes a cell out, unless something was counted in it meanwhile.
fn kill<G: Guard>(cells: &Cells<'_, G>, key: Key, cell: &AtomicU64, seen: u64) {
    if cell
        .compare_exchange(seen, DEAD, Ordering::AcqRel, Ordering::Relaxed)
        .is_ok()
    {
        remove_dead(cells, key);
    }
}

fn remove_dead<G: Guard>(cells: &Cells<'_, G>, key: Key) {
    // Whoever comes second finds it gone, or a new one that is alive.
    let _ = cells.remove_if(&key, |_, cell| cell.load(Ordering::Acquire) == DEAD);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::AtomicBool;

    use uuid::Uuid;

    use super::*;
    use crate::identity::Identifier;
    use crate::window::Period;

    const NOW: i64 = 1_795_362_412;

    /// What was used before, and whether the request was admitted.
    #[derive(Debug, PartialEq)]
    struct Reading {
        used: [u64; 6],
        admitted: bool,
    }

    fn limit(period: Period, most: u64) -> Limit {
        Limit::of(period, most)
    }

    fn about<'a>(local: &'a Local, who: u128, limits: &'a [Limit], now: i64) -> Subject<'a> {
        Subject {
            limits,
            keys: &local.keys,
            who: Identifier::Id(Uuid::from_u128(who)),
            now,
            fault_tolerant: true,
        }
    }

    fn take(local: &Local, who: u128, limits: &[Limit], now: i64) -> Reading {
        let mut used = [0; 6];
        let admitted = local.take(&about(local, who, limits, now), &mut used);
        Reading { used, admitted }
    }

    #[test]
    fn never_admits_more_than_the_limit_from_many_threads() {
        let local = Local::default();
        let limits = [limit(Period::Minute, 1000), limit(Period::Hour, 1500)];
        let admitted = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            // The sweeper runs all the while.
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    local.sweep(NOW + 60);
                }
            });
            let workers: Vec<_> = (0..8)
                .map(|_| {
                    s.spawn(|| {
                        for i in 0..500 {
                            let now = if i < 250 { NOW } else { NOW + 60 };
                            if take(&local, 1, &limits, now).admitted {
                                admitted.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    })
                })
                .collect();
            workers.into_iter().for_each(|w| w.join().unwrap());
            stop.store(true, Ordering::Relaxed);
        });
        assert!(admitted.load(Ordering::Relaxed) <= 1500);
        // Exactly as many as the hour allows, once nobody races.
        while take(&local, 1, &limits, NOW + 120).admitted {
            admitted.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(admitted.load(Ordering::Relaxed), 1500);
    }

    #[test]
    fn one_limit_admits_exactly_as_many_from_many_threads() {
        let local = Local::default();
        let limits = [limit(Period::Day, 777)];
        let admitted = AtomicU64::new(0);
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for _ in 0..400 {
                        admitted.fetch_add(
                            u64::from(take(&local, 1, &limits, NOW).admitted),
                            Ordering::Relaxed,
                        );
                    }
                });
            }
        });
        assert_eq!(admitted.load(Ordering::Relaxed), 777);
    }

    #[test]
    fn refused_requests_are_not_counted() {
        let local = Local::default();
        let limits = [limit(Period::Minute, 1), limit(Period::Hour, 10)];
        assert_eq!(
            take(&local, 1, &limits, NOW),
            Reading {
                used: [0; 6],
                admitted: true
            }
        );
        for _ in 0..3 {
            assert_eq!(
                take(&local, 1, &limits, NOW),
                Reading {
                    used: [1, 1, 0, 0, 0, 0],
                    admitted: false
                }
            );
        }
        assert_eq!(take(&local, 1, &limits, NOW + 60).used, [0, 1, 0, 0, 0, 0]);
    }

    thread_local! {
        static PRESENT: Cell<i64> = const { Cell::new(NOW) };
    }

    /// Counters whose clock is what the test says.
    fn clocked() -> Local {
        Local::with(Room::new(MOST_CELLS), || PRESENT.get())
    }

    #[test]
    fn a_clock_that_goes_back_does_not_lock_callers_out() {
        let local = clocked();
        let limits = [limit(Period::Second, 1)];
        assert!(take(&local, 1, &limits, NOW).admitted);
        PRESENT.set(NOW - 1);
        assert!(!take(&local, 1, &limits, NOW - 1).admitted);
        PRESENT.set(NOW - 3600);
        assert!(take(&local, 1, &limits, NOW - 3600).admitted);
        assert!(!take(&local, 1, &limits, NOW - 3600).admitted);
    }

    #[test]
    fn a_late_request_does_not_start_a_window_anew() {
        let local = clocked();
        for period in [Period::Second, Period::Month] {
            let limits = [limit(period, 2), limit(Period::Year, 9)];
            for now in [NOW, NOW] {
                assert!(take(&local, 1, &limits, now).admitted, "{period:?}");
            }
            for late in [NOW - 1, NOW - 2, NOW - 3600, NOW - 90 * 86_400] {
                let reading = take(&local, 1, &limits, late);
                assert!(!reading.admitted, "{period:?} {late}");
                let mut used = [0; 6];
                local.read(&about(&local, 1, &limits, late), &mut used);
                assert_eq!(used[0], 2, "{period:?} {late}");
            }
            assert!(!take(&local, 1, &limits, NOW).admitted, "{period:?}");
        }
    }

    #[test]
    fn what_is_added_late_belongs_to_a_window_that_is_over() {
        let local = clocked();
        let limits = [limit(Period::Second, 5), limit(Period::Year, 50)];
        let add = |now| local.add(&about(&local, 1, &limits, now), &[2, 2]);
        let used = || {
            let mut used = [0; 6];
            local.read(&about(&local, 1, &limits, NOW), &mut used);
            [used[0], used[1]]
        };
        add(NOW);
        add(NOW - 1);
        assert_eq!(used(), [2, 4]);
        add(NOW - 7);
        assert_eq!(used(), [2, 6]);
        // The clock went back by one: what was counted before is still what counts.
        PRESENT.set(NOW - 1);
        add(NOW - 1);
        assert_eq!(used(), [4, 8]);
    }

    #[test]
    fn only_idle_cells_are_swept() {
        let local = Local::default();
        take(&local, 1, &[limit(Period::Second, 5)], NOW);
        take(&local, 1, &[limit(Period::Year, 5)], NOW);
        local.sweep(NOW + 1);
        assert_eq!(local.len(), 2);
        local.sweep(NOW + 5);
        assert_eq!(local.len(), 1);
        assert_eq!(
            take(&local, 1, &[limit(Period::Year, 5)], NOW + 5).used[0],
            1
        );
    }

    #[tokio::test]
    async fn many_callers_do_not_fill_the_memory_nor_free_those_who_are_limited() {
        let local = std::sync::Arc::new(Local::with(Room::new(100), unix_now));
        let sweeper = Local::sweep_forever(std::sync::Arc::downgrade(&local));
        let sweeper = tokio::spawn(sweeper);
        let limits = [limit(Period::Year, 5)];
        let now = unix_now();
        while take(&local, 0, &limits, now).admitted {}
        for who in 1..=1000 {
            take(&local, who, &limits, now);
            tokio::task::yield_now().await;
        }
        assert!(local.len() <= 101, "{}", local.len());
        assert!(!take(&local, 0, &limits, now).admitted);
        sweeper.abort();
    }
}
