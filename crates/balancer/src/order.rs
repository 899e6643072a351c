//! Whose turn it is among the addresses of an upstream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use xxhash_rust::xxh32::xxh32;

use crate::goal::Authority;
use crate::health::State;

/// How many turns are looked at for an address that may be asked before the next in the list is taken: the others get the part of one that
/// may not by their weights.
const TURNS: usize = 8;
/// Points of an address in the continuum when all have the same weight.
const POINTS: u64 = 160;
/// A point of the continuum that nobody has.
const NOBODY: u32 = u32::MAX;
/// After this time a latency that was measured counts for a third.
const DECAY: Duration = Duration::from_secs(10);

/// What is known of an address from checks and from the requests sent there. Outlives the addresses' order.
#[derive(Debug)]
pub(crate) struct Load {
    /// Whether it answers.
    pub(crate) health: State,
    /// Requests under way.
    open: AtomicUsize,
    /// Mean of the latest response times in seconds, as the bits of an `f64`.
    latency: AtomicU64,
    /// When it was measured last, in microseconds since `epoch`.
    measured: AtomicU64,
    epoch: Instant,
}

impl Load {
    /// Begins with the latency of the others, so that a new address is not flooded.
    pub(crate) fn new(latency: f64) -> Self {
        Load {
            health: State::default(),
            open: AtomicUsize::new(0),
            latency: AtomicU64::new(latency.to_bits()),
            measured: AtomicU64::new(0),
            epoch: Instant::now(),
        }
    }

    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed) as u64
    }

    /// The mean, which fades while nothing is measured, together with a new measurement (0 for none).
    pub(crate) fn latency(&self, took: f64) -> f64 {
        let since = self.now() - self.measured.load(Ordering::Relaxed) as f64 / 1e6;
        let weight = (-since.max(0.0) / DECAY.as_secs_f64()).exp();
        f64::from_bits(self.latency.load(Ordering::Relaxed)) * weight + took * (1.0 - weight)
    }

    /// Takes a response time in. Of two at once one may be lost, which does not matter to a mean.
    pub(crate) fn measure(&self, took: Duration) {
        let mean = self.latency(took.as_secs_f64());
        self.latency.store(mean.to_bits(), Ordering::Relaxed);
        let now = (self.now() * 1e6) as u64;
        self.measured.store(now, Ordering::Relaxed);
    }

    fn now(&self) -> f64 {
        self.epoch.elapsed().as_secs_f64()
    }
}

/// An address that a target stands for.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) addr: SocketAddr,
    pub(crate) weight: u32,
    /// The place of its target.
    pub(crate) goal: usize,
    pub(crate) authority: Arc<Authority>,
    pub(crate) load: Arc<Load>,
}

impl Address {
    /// Whether it may be asked.
    pub(crate) fn is_available(&self) -> bool {
        self.load.health.is_available()
    }
}

/// One of Kong's algorithms, made for certain addresses.
#[derive(Debug)]
pub(crate) enum Order {
    /// Each address as often as its weight says, spread evenly.
    Turns(Turns),
    /// The address of a hash (`kong/runloop/balancer/consistent_hashing.lua`): which address has the point or, where nobody has, the next
    /// lower one. Both gateways send the same value to the same address.
    Continuum(Box<[u32]>),
    /// Fewest open requests, by weight.
    LeastConnections,
    /// Lowest latency, by weight.
    Latency,
}

#[derive(Debug)]
pub(crate) struct Turns {
    /// For each address, the sum of the weights up to and with its own.
    ends: Box<[u64]>,
    total: u64,
    /// A step through `0..total` that comes to every place once and leaves those visited one after the other far apart.
    stride: u64,
}

impl Order {
    pub(crate) fn turns(addresses: &[Address]) -> Self {
        let divisor = addresses
            .iter()
            .fold(0, |d, a| gcd(d, u64::from(a.weight)))
            .max(1);
        let ends: Box<[u64]> = addresses
            .iter()
            .scan(0, |sum, a| {
                *sum += u64::from(a.weight) / divisor;
                Some(*sum)
            })
            .collect();
        let total = ends.last().copied().unwrap_or(0);
        // The golden ratio leaves the most even gaps.
        let mut stride = ((total as f64 * 0.618_034) as u64).max(1);
        while gcd(stride, total) > 1 {
            stride += 1;
        }
        Order::Turns(Turns {
            ends,
            total,
            stride,
        })
    }

    /// `addresses` are in the order of their names, so that all nodes make the same. `targets` is how many targets they belong to.
    pub(crate) fn continuum(addresses: &[Address], targets: usize, slots: u32) -> Self {
        let points = slots.max(1000);
        let total: u64 = addresses.iter().map(|a| u64::from(a.weight)).sum();
        let mut owners = vec![NOBODY; points as usize];
        'all: for (n, address) in addresses.iter().enumerate() {
            let weight = u64::from(address.weight);
            if weight == 0 {
                continue;
            }
            let share = weight as f64 / total as f64;
            let mut entries = ((share * targets as f64 * POINTS as f64) as u64).max(1);
            let (ip, port) = (address.addr.ip(), address.addr.port());
            let mut i = 1;
            while i <= entries {
                let name = match ip {
                    std::net::IpAddr::V4(ip) => format!("{ip}::{port} {i}"),
                    std::net::IpAddr::V6(ip) => format!("[{ip}]::{port} {i}"),
                };
                let owner = &mut owners[point(name.as_bytes(), points)];
                if *owner == NOBODY {
                    *owner = n as u32;
                } else {
                    // Somebody has it: one more is tried instead.
                    entries += 1;
                }
                i += 1;
                if i > u64::from(points) {
                    tracing::error!("an upstream has too few slots for its targets");
                    break 'all;
                }
            }
        }
        // A point that nobody has belongs to the next lower one's owner; below the first comes the last.
        let mut below = owners.iter().rev().copied().find(|o| *o != NOBODY);
        for owner in &mut owners {
            match below {
                Some(last) if *owner == NOBODY => *owner = last,
                _ => below = Some(*owner),
            }
        }
        Order::Continuum(owners.into())
    }

    /// The number of an address: not one of `tried` if there is another. `None` when none has any weight.
    pub(crate) fn pick(
        &self,
        addresses: &[Address],
        next: &AtomicU64,
        value: &[u8],
        tried: &[SocketAddr],
    ) -> Option<usize> {
        let usable = |a: &Address| a.weight > 0 && a.is_available();
        let fresh = |a: &Address| usable(a) && !tried.contains(&a.addr);
        match self {
            Order::Turns(turns) => {
                for _ in 0..TURNS {
                    let n = turns.next(next)?;
                    if fresh(&addresses[n]) {
                        return Some(n);
                    }
                }
                let n = turns.next(next)?;
                let others = || (0..addresses.len()).map(|i| (n + i) % addresses.len());
                let find =
                    |wanted: &dyn Fn(&Address) -> bool| others().find(|i| wanted(&addresses[*i]));
                find(&fresh).or_else(|| find(&usable))
            }
            Order::Continuum(owners) => {
                let at = point(value, owners.len() as u32);
                addresses.get(owners[at] as usize)?;
                let downwards = || {
                    owners[..=at]
                        .iter()
                        .rev()
                        .chain(owners[at + 1..].iter().rev())
                };
                let find = |wanted: &dyn Fn(&Address) -> bool| {
                    downwards()
                        .map(|o| *o as usize)
                        .find(|o| wanted(&addresses[*o]))
                };
                find(&fresh).or_else(|| find(&usable))
            }
            Order::LeastConnections => {
                let score = |a: &Address| (a.load.open() + 1) as f64 / f64::from(a.weight);
                lowest(addresses, next, [&fresh, &usable], score)
            }
            Order::Latency => {
                let score = |a: &Address| a.load.latency(0.0) / f64::from(a.weight);
                lowest(addresses, next, [&fresh, &usable], score)
            }
        }
    }
}

impl Turns {
    fn next(&self, next: &AtomicU64) -> Option<usize> {
        let turn = match self.total {
            0 => return None,
            // A single address needs no turn, and no write to memory that all threads share.
            1 => 0,
            total => next.fetch_add(1, Ordering::Relaxed) % total,
        };
        let place = (u128::from(turn) * u128::from(self.stride) % u128::from(self.total)) as u64;
        Some(self.ends.partition_point(|end| *end <= place))
    }
}

/// The address with the lowest score, of several in turn: of those wanted first, if there are any.
fn lowest(
    addresses: &[Address],
    next: &AtomicU64,
    wanted: [&dyn Fn(&Address) -> bool; 2],
    score: impl Fn(&Address) -> f64,
) -> Option<usize> {
    let len = addresses.len();
    let start = match len {
        0 => return None,
        1 => 0,
        _ => (next.fetch_add(1, Ordering::Relaxed) % len as u64) as usize,
    };
    wanted.into_iter().find_map(|wanted| {
        let in_turn = (0..len).map(|i| (start + i) % len);
        let those = in_turn.filter(|i| wanted(&addresses[*i]));
        let scored = those.map(|i| (i, score(&addresses[i])));
        let best = scored.reduce(|best, other| if other.1 < best.1 { other } else { best });
        best.map(|(i, _)| i)
    })
}

fn point(value: &[u8], points: u32) -> usize {
    (xxh32(value, 0) % points) as usize
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses with these weights, on the ports from 1 on.
    fn fakes(weights: &[u32]) -> Vec<Address> {
        let fake = |(port, weight): (u16, &u32)| Address {
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            weight: *weight,
            goal: 0,
            authority: Arc::new(Authority::new("127.0.0.1", port)),
            load: Arc::new(Load::new(0.0)),
        };
        (1..).zip(weights).map(fake).collect()
    }

    /// How often each is picked.
    fn counts(order: &Order, all: &[Address], times: usize, tried: &[SocketAddr]) -> Vec<usize> {
        let next = AtomicU64::new(0);
        let mut counts = vec![0; all.len()];
        for n in 0..times {
            if let Some(i) = order.pick(all, &next, n.to_string().as_bytes(), tried) {
                counts[i] += 1;
            }
        }
        counts
    }

    #[test]
    fn each_has_as_many_turns_as_its_weight_says() {
        let all = fakes(&[100, 0, 50, 250]);
        assert_eq!(counts(&Order::turns(&all), &all, 80, &[]), [20, 0, 10, 50]);
        let uneven = fakes(&[65_535, 1, 65_534]);
        assert_eq!(
            counts(&Order::turns(&uneven), &uneven, 131_070, &[]),
            [65_535, 1, 65_534]
        );
    }

    #[test]
    fn turns_are_spread() {
        let all = fakes(&[50, 50, 50, 50]);
        let (order, next) = (Order::turns(&all), AtomicU64::new(0));
        let picks: Vec<_> = (0..40)
            .filter_map(|_| order.pick(&all, &next, b"", &[]))
            .collect();
        for four in picks.chunks(4) {
            let mut four = four.to_vec();
            four.sort_unstable();
            assert_eq!(four, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn the_others_share_the_turns_of_one_that_is_away() {
        let all = fakes(&[100, 100, 100]);
        all[1].load.health.set(false);
        let shared = counts(&Order::turns(&all), &all, 300, &[]);
        assert_eq!((shared[1], shared[0] + shared[2]), (0, 300));
        assert!(shared[0].abs_diff(shared[2]) < 20, "{shared:?}");
    }

    #[test]
    fn what_was_tried_is_taken_only_when_there_is_no_other() {
        let all = fakes(&[1, 1]);
        let orders = [
            Order::turns(&all),
            Order::continuum(&all, 2, 1000),
            Order::LeastConnections,
            Order::Latency,
        ];
        for order in orders {
            assert_eq!(
                counts(&order, &all, 10, &[all[0].addr]),
                [0, 10],
                "{order:?}"
            );
            let both = [all[0].addr, all[1].addr];
            assert_eq!(counts(&order, &all, 10, &both).iter().sum::<usize>(), 10);
        }
    }

    #[test]
    fn without_weight_or_health_there_is_nobody() {
        let away = fakes(&[1]);
        away[0].load.health.set(false);
        for all in [fakes(&[]), fakes(&[0, 0]), away] {
            let orders = [
                Order::turns(&all),
                Order::continuum(&all, all.len(), 1000),
                Order::LeastConnections,
                Order::Latency,
            ];
            for order in orders {
                assert_eq!(
                    counts(&order, &all, 5, &[]).iter().sum::<usize>(),
                    0,
                    "{order:?}"
                );
            }
        }
    }

    #[test]
    fn a_value_stays_where_it_is_when_another_address_goes() {
        let all = fakes(&[100, 100, 100]);
        let order = Order::continuum(&all, 3, 10_000);
        let at =
            |value: u32| order.pick(&all, &AtomicU64::new(0), value.to_string().as_bytes(), &[]);
        let before: Vec<_> = (0..300).map(at).collect();
        for n in 0..3 {
            let share = before.iter().filter(|p| **p == Some(n)).count();
            assert!((60..140).contains(&share), "{share}");
        }
        all[2].load.health.set(false);
        for (value, before) in (0..300).zip(&before) {
            if *before != Some(2) {
                assert_eq!(at(value), *before);
            }
        }
    }

    #[test]
    fn values_go_where_kong_sends_them() {
        // Recorded from Kong 3.9.1: two targets of weight 100 at 127.0.0.1:19000 and :19001, 10,000 slots.
        let mut all = fakes(&[100, 100]);
        for (n, port) in [(0, 19_000), (1, 19_001)] {
            all[n].addr.set_port(port);
        }
        let order = Order::continuum(&all, 2, 10_000);
        let port = |value: &str| {
            let n = order.pick(&all, &AtomicU64::new(0), value.as_bytes(), &[]);
            n.map(|n| all[n].addr.port())
        };
        let recorded = [
            ("/p0", 19_001),
            ("/p2", 19_001),
            ("/p3", 19_000),
            ("/p5", 19_000),
            ("/p6", 19_001),
            ("/p7", 19_001),
            ("/p8", 19_000),
            ("/p9", 19_001),
            ("", 19_001),
        ];
        for (value, expected) in recorded {
            assert_eq!(port(value), Some(expected), "{value}");
        }
    }

    #[test]
    fn the_fewest_open_requests_are_weighed() {
        let all = fakes(&[100, 50]);
        let next = AtomicU64::new(0);
        let mut open = [0, 0];
        for _ in 0..30 {
            let n = Order::LeastConnections
                .pick(&all, &next, b"", &[])
                .unwrap_or(9);
            all[n].load.opened();
            open[n] += 1;
        }
        assert_eq!(open, [20, 10]);
        (0..20).for_each(|_| all[0].load.closed());
        assert_eq!(Order::LeastConnections.pick(&all, &next, b"", &[]), Some(0));
    }

    #[test]
    fn the_fastest_is_asked_and_the_slow_ones_mean_fades_in() {
        let all = fakes(&[100, 100]);
        for address in &all {
            // As if it had not been measured for a long time.
            address
                .load
                .latency
                .store(1.0_f64.to_bits(), Ordering::Relaxed);
        }
        all[0]
            .load
            .latency
            .store(0.5_f64.to_bits(), Ordering::Relaxed);
        assert_eq!(counts(&Order::Latency, &all, 10, &[]), [10, 0]);
        assert!(all[0].load.latency(0.0) <= 0.5);
    }
}
