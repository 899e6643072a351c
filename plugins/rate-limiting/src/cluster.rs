//! Counting for all nodes in the database, without a request ever waiting for it.
//!
//! A node leases blocks: it adds a block to the counter of a window and may admit as many requests as that addition was below the limit. The
//! first `limit` units of a counter are thus granted exactly once, over all nodes. A lease is renewed by a background task, for all callers
//! that need it in one round trip, before it runs out.
//!
//! # When the lease has run out and its renewal is on the way
//! Then a node admits on credit, and asks for what it owes with the next block. Without credit the first requests of each window would be
//! refused, since nobody holds a lease yet. The credit is a tenth of the limit, or 10 when that is more, and never lets one node admit more
//! than the limit. So the cluster admits at most the limit and one credit for each node that was on credit while the others used the limit
//! up. It takes a burst that reaches several nodes within one round trip to get that; spread over time it is one request for each node that
//! has not heard of the caller in this window yet, which shows with limits close to the number of nodes. Who needs less than that takes the
//! policy `redis`. When the credit is used up, requests are refused.
//!
//! # What is lost
//! A block that is not spent before its window ends is forgotten with the window. Blocks are a twentieth of the limit and shrink as it is used
//! up, so with uneven load the cluster may refuse up to a block per node too early.
//!
//! # When the database is away
//! Leases stay good. Beyond them a fault-tolerant configuration goes on admitting up to the limit on each node by itself, and settles
//! when the database is back; any other one answers 500.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use papaya::HashMap;
use silverback_plugin::env::Increment;
use silverback_plugin::{ClusterCounters, ConfigError, PluginEnv};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::identity::Identifier;
use crate::kept::Kept;
use crate::key::Key;
use crate::local::{Reading, unix_now};
use crate::room::Room;
use crate::{Away, Limit, RateLimiting};

/// Leases renewed in one round trip.
const BATCH: usize = 500;
/// After the database failed, this long until it is asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// Leases of a node at most. One takes four times the memory of a local counter.
const MOST_LEASES: usize = 250_000;

/// All leases of a node.
pub(crate) struct Cluster {
    leases: HashMap<(Key, i64), Arc<Lease>, RandomState>,
    room: Room,
    asks: UnboundedSender<Ask>,
}

struct Ask {
    lease: Arc<Lease>,
    most: u64,
}

/// What this node may admit of one caller in one window.
struct Lease {
    name: String,
    window: i64,
    expires: i64,
    /// Admitted by this node.
    own: AtomicU64,
    /// So many of these are granted.
    granted: AtomicU64,
    /// Added to the counter by this node. Written by the background task only.
    added: AtomicU64,
    /// The counter as last heard.
    total: AtomicU64,
    /// A renewal is on the way.
    asked: AtomicBool,
    /// The last renewal failed.
    away: AtomicBool,
}

impl Cluster {
    /// The leases of this node.
    ///
    /// # Errors
    /// When the node has no database.
    pub(crate) fn shared(env: &PluginEnv<'_>) -> Result<Arc<Kept<Self>>, ConfigError> {
        let counters = env.services.counters();
        let counters =
            counters.ok_or_else(|| ConfigError::new("policy", "cluster needs a database"))?;
        Ok(env.shared("cluster", || {
            let (asks, inbox) = unbounded_channel();
            let cluster = Arc::new(Cluster {
                leases: HashMap::default(),
                room: Room::new(MOST_LEASES),
                asks,
            });
            env.services.spawn(Box::pin(renew_forever(
                Arc::downgrade(&cluster),
                inbox,
                counters,
            )));
            Kept(cluster)
        }))
    }

    /// Counts a request against all limits, or against none when one of them is reached.
    pub(crate) fn take(
        &self,
        plugin: &RateLimiting,
        who: Identifier<'_>,
        now: i64,
    ) -> Result<Reading, Away> {
        let mut reading = Reading {
            used: [0; 6],
            admitted: true,
        };
        let leases = self.leases.pin();
        for (i, limit) in plugin.limits.iter().enumerate() {
            let lease = self.lease(&leases, plugin, who, limit, now);
            let taken = lease.reserve(limit.most, plugin.fault_tolerant);
            lease.ask_in_time(limit.most, &self.asks);
            match taken {
                Ok(used) => reading.used[i] = used,
                Err(refusal) => {
                    for limit in &plugin.limits[..i] {
                        self.lease(&leases, plugin, who, limit, now)
                            .own
                            .fetch_sub(1, Ordering::AcqRel);
                    }
                    match refusal {
                        Refusal::Reached(used) => reading.used[i] = used,
                        Refusal::Away => {
                            return Err(Away("the database does not answer".to_owned()));
                        }
                    }
                    reading.admitted = false;
                    for (j, limit) in plugin.limits.iter().enumerate().skip(i + 1) {
                        reading.used[j] = self.lease(&leases, plugin, who, limit, now).used();
                    }
                    break;
                }
            }
        }
        Ok(reading)
    }

    fn lease<'g, G: papaya::Guard>(
        &self,
        leases: &'g papaya::HashMapRef<'_, (Key, i64), Arc<Lease>, RandomState, G>,
        plugin: &RateLimiting,
        who: Identifier<'_>,
        limit: &Limit,
        now: i64,
    ) -> &'g Arc<Lease> {
        let window = limit.period.window(now);
        let key = (plugin.key(who, limit.period), window.start);
        if let Some(lease) = leases.get(&key) {
            return lease;
        }
        self.room.grown_to(leases.len() + 1);
        leases.get_or_insert_with(key, || {
            Arc::new(Lease {
                name: plugin.place.name(who, window.start, limit.period),
                window: window.start,
                expires: window.end,
                own: AtomicU64::new(0),
                granted: AtomicU64::new(0),
                added: AtomicU64::new(0),
                total: AtomicU64::new(0),
                asked: AtomicBool::new(false),
                away: AtomicBool::new(false),
            })
        })
    }

    fn sweep(&self, now: i64) {
        // Late answers and late requests still find their lease for a moment.
        let leases = self.leases.pin();
        leases.retain(|_, lease| lease.expires + 5 > now);
        let own = |lease: &Lease| lease.own.load(Ordering::Relaxed);
        let counts = leases.iter().map(|(_, lease)| own(lease));
        if let Some(mut surplus) = self.room.surplus(leases.len(), counts) {
            leases.retain(|_, lease| !surplus.takes(own(lease)));
        }
    }
}

enum Refusal {
    Reached(u64),
    Away,
}

impl Lease {
    /// Admits one more and answers what was used before, over all nodes as far as known.
    fn reserve(&self, most: u64, fault_tolerant: bool) -> Result<u64, Refusal> {
        let credit = credit(most);
        let mut own = self.own.load(Ordering::Acquire);
        loop {
            let granted = self.granted.load(Ordering::Acquire);
            let away = self.away.load(Ordering::Acquire);
            let may = if self.total.load(Ordering::Acquire) >= most {
                granted
            } else if away {
                if fault_tolerant { most } else { granted }
            } else {
                granted + credit
            };
            if own >= may.min(most) {
                let used_up = self.total.load(Ordering::Acquire) >= most || own >= most;
                return Err(if away && !used_up {
                    Refusal::Away
                } else {
                    Refusal::Reached(most.max(self.used()))
                });
            }
            match self
                .own
                .compare_exchange_weak(own, own + 1, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Ok((self.others() + own).min(most - 1)),
                Err(now) => own = now,
            }
        }
    }

    /// Asks for the next block when half of the present one is spent.
    fn ask_in_time(self: &Arc<Self>, most: u64, asks: &UnboundedSender<Ask>) {
        let (own, granted) = (
            self.own.load(Ordering::Acquire),
            self.granted.load(Ordering::Acquire),
        );
        let left = granted.saturating_sub(own);
        let needed = left <= block(most, self.total.load(Ordering::Acquire)) / 2;
        if needed
            && self.total.load(Ordering::Acquire) < most
            && !self.asked.swap(true, Ordering::AcqRel)
        {
            // The task ends with the last configuration; then nobody needs its answer.
            let _ = asks.send(Ask {
                lease: self.clone(),
                most,
            });
        }
    }

    /// What other nodes hold.
    fn others(&self) -> u64 {
        self.total
            .load(Ordering::Acquire)
            .saturating_sub(self.added.load(Ordering::Acquire))
    }

    fn used(&self) -> u64 {
        self.others() + self.own.load(Ordering::Acquire)
    }

    /// What is owed, and the next block.
    fn want(&self, most: u64) -> u64 {
        let (own, granted) = (
            self.own.load(Ordering::Acquire),
            self.granted.load(Ordering::Acquire),
        );
        let owed = own.saturating_sub(granted);
        owed + block(most, self.total.load(Ordering::Acquire) + owed)
    }

    fn renewed(&self, amount: u64, total: u64, most: u64) {
        let beyond = total.saturating_sub(most).min(amount);
        // `total` last: whoever sees that the limit is reached sees all that was granted.
        self.added.fetch_add(amount, Ordering::AcqRel);
        self.granted.fetch_add(amount - beyond, Ordering::AcqRel);
        self.total.fetch_max(total, Ordering::AcqRel);
    }
}

fn credit(most: u64) -> u64 {
    (most / 10).max(10)
}

/// A twentieth of the limit, less when little is left of it, at least one.
fn block(most: u64, total: u64) -> u64 {
    (most / 20).min(most.saturating_sub(total) / 4).max(1)
}

async fn renew_forever(
    cluster: Weak<Cluster>,
    mut inbox: UnboundedReceiver<Ask>,
    counters: Arc<dyn ClusterCounters>,
) {
    let mut batch = Vec::new();
    let Some(mut sweeps) = cluster.upgrade().map(|c| c.room.sweeps()) else {
        return;
    };
    loop {
        tokio::select! {
            received = inbox.recv_many(&mut batch, BATCH) => if received == 0 { return },
            () = sweeps.next() => {
                let Some(cluster) = cluster.upgrade() else { return };
                cluster.sweep(unix_now());
                continue;
            }
        }
        let increment = |ask: &Ask| Increment {
            key: ask.lease.name.clone(),
            window: ask.lease.window,
            expires: ask.lease.expires,
            amount: ask.lease.want(ask.most),
        };
        let increments: Vec<Increment> = batch.iter().map(increment).collect();
        let answer = counters.add(&increments).await;
        let failed = answer.is_err();
        if let Err(e) = &answer {
            tracing::error!("rate limits of the cluster are not renewed: {e}");
        }
        let totals = answer.unwrap_or_default();
        for (i, (ask, increment)) in batch.drain(..).zip(&increments).enumerate() {
            if let Some(total) = totals.get(i) {
                ask.lease.renewed(increment.amount, *total, ask.most);
            }
            ask.lease.away.store(failed, Ordering::Release);
            ask.lease.asked.store(false, Ordering::Release);
        }
        if failed {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use silverback_plugin::InstanceInfo;
    use silverback_plugin::exchange::{Compiled, Exchange, FakeCounters, FakeServices};

    use super::*;

    fn node(config: serde_json::Value, counters: &Arc<FakeCounters>) -> Compiled<RateLimiting> {
        let services = FakeServices::with_counters(counters.clone());
        let instance = InstanceInfo {
            route: Some(uuid::Uuid::from_u128(2)),
            ..InstanceInfo::default()
        };
        Compiled::with(config, &instance, &services)
    }

    /// Lets the background tasks answer: the runtime has one thread, and fake counters answer at once.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    fn request() -> Exchange {
        Exchange::get("/").at(std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000))
    }

    /// Sends requests to three nodes in turn, more than are allowed, and counts those that pass.
    async fn in_turn(limit: u64) -> u64 {
        let counters = Arc::new(FakeCounters::default());
        let config = json!({ "minute": limit, "policy": "cluster" });
        let nodes: Vec<_> = (0..3).map(|_| node(config.clone(), &counters)).collect();
        let mut admitted = 0;
        for _ in 0..limit + 50 {
            for node in &nodes {
                admitted += u64::from(!request().run_on(node).await.exited());
                settle().await;
            }
        }
        admitted
    }

    #[tokio::test]
    async fn the_sum_over_nodes_is_the_limit() {
        for limit in [20, 100, 1000] {
            let admitted = in_turn(limit).await;
            // Each node may end up with the last small block that it did not spend.
            assert!(
                (limit - 3..=limit).contains(&admitted),
                "{admitted} of {limit}"
            );
        }
    }

    #[tokio::test]
    async fn a_limit_of_one_gets_one_more_for_each_node_that_has_not_heard_of_it() {
        assert_eq!(in_turn(1).await, 3);
    }

    #[tokio::test]
    async fn bursts_before_the_first_answer_get_the_credit_and_no_more() {
        let counters = Arc::new(FakeCounters::default());
        let nodes: Vec<_> = (0..4)
            .map(|_| node(json!({ "minute": 100, "policy": "cluster" }), &counters))
            .collect();
        let mut admitted = 0;
        for node in &nodes {
            for _ in 0..200 {
                admitted += u64::from(!request().run_on(node).await.exited());
            }
        }
        assert_eq!((admitted, counters.calls()), (4 * 10, 0));
        for _ in 0..300 {
            settle().await;
            for node in &nodes {
                admitted += u64::from(!request().run_on(node).await.exited());
            }
        }
        assert!((96..=100).contains(&admitted), "{admitted}");
    }

    #[tokio::test]
    async fn a_small_limit_is_kept_by_each_node_without_an_answer() {
        let counters = Arc::new(FakeCounters::default());
        let node = node(json!({ "minute": 1, "policy": "cluster" }), &counters);
        let done = request().run_on(&node).await;
        assert_eq!(done.passed().header("ratelimit-remaining"), Some("0"));
        request().run_on(&node).await.exit_status(429);
    }

    #[tokio::test]
    async fn nodes_learn_what_others_used() {
        let counters = Arc::new(FakeCounters::default());
        let nodes: Vec<_> = (0..2)
            .map(|_| node(json!({ "minute": 10, "policy": "cluster" }), &counters))
            .collect();
        for _ in 0..4 {
            request().run_on(&nodes[0]).await.passed();
            settle().await;
        }
        request().run_on(&nodes[1]).await.passed();
        settle().await;
        let done = request().run_on(&nodes[1]).await;
        let remaining: u64 = done
            .passed()
            .header("ratelimit-remaining")
            .unwrap()
            .parse()
            .unwrap();
        // Four and what the first node holds, and two.
        assert!((3..=4).contains(&remaining), "{remaining}");
        assert!(counters.keys()[0].starts_with("ratelimit:00000000-0000-0000-0000-000000000002:"));
    }

    #[tokio::test]
    async fn without_the_database_tolerant_nodes_limit_by_themselves() {
        let counters = Arc::new(FakeCounters::default());
        counters.set_away(true);
        let node = node(json!({ "minute": 30, "policy": "cluster" }), &counters);
        let mut admitted = 0;
        for _ in 0..50 {
            admitted += u64::from(!request().run_on(&node).await.exited());
            settle().await;
        }
        assert_eq!(admitted, 30);
    }

    #[tokio::test]
    async fn without_the_database_other_nodes_fail() {
        let counters = Arc::new(FakeCounters::default());
        counters.set_away(true);
        let node = node(
            json!({ "minute": 30, "policy": "cluster", "fault_tolerant": false }),
            &counters,
        );
        request().run_on(&node).await.passed();
        settle().await;
        request().run_on(&node).await.exit_status(500);
    }

    #[tokio::test]
    async fn several_limits_are_counted_together_or_not_at_all() {
        let counters = Arc::new(FakeCounters::default());
        let node = node(
            json!({ "minute": 2, "hour": 10, "policy": "cluster" }),
            &counters,
        );
        for _ in 0..2 {
            request().run_on(&node).await.passed();
            settle().await;
        }
        for _ in 0..3 {
            let done = request().run_on(&node).await;
            done.exit_status(429);
            assert_eq!(done.header("x-ratelimit-remaining-hour"), Some("8"));
        }
    }

    #[test]
    fn a_node_without_database_refuses_the_policy() {
        let config = json!({ "minute": 1, "policy": "cluster" });
        let made = Compiled::<RateLimiting>::try_with(
            config,
            &InstanceInfo::default(),
            &FakeServices::default(),
        );
        assert_eq!(made.map(|_| ()).unwrap_err().field, "policy");
    }
}
