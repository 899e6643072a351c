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
//!
//! # What is added afterwards
//! Then nothing is leased: a node adds what was used, in the background, and hears with each answer what the others used. Whoever only reads
//! has that asked at most once a second. So a node goes by what was used everywhere a moment ago.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use papaya::HashMap;
use silverback_plugin::env::Increment;
use silverback_plugin::{ClusterCounters, ConfigError, PluginEnv};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::kept::Kept;
use crate::key::Key;
use crate::meter::{Away, Limit, Subject};
use crate::room::Room;
use crate::window::unix_now;

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
    /// The limit, where a block is to be leased; else what is owed is added, and no more.
    most: Option<u64>,
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
    /// When the last answer came, seconds since 1970; 0 before the first.
    heard: AtomicI64,
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

    /// Counts a request against all limits, or against none when one of them is reached: `false`. `used` gets what was used before.
    pub(crate) fn take(&self, subject: &Subject<'_>, used: &mut [u64]) -> Result<bool, Away> {
        let leases = self.leases.pin();
        let limits = subject.limits;
        for (i, limit) in limits.iter().enumerate() {
            let lease = self.lease(&leases, subject, limit);
            let taken = lease.reserve(limit.most, subject.fault_tolerant);
            lease.ask_in_time(limit.most, &self.asks);
            match taken {
                Ok(before) => used[i] = before,
                Err(refusal) => {
                    for limit in &limits[..i] {
                        let lease = self.lease(&leases, subject, limit);
                        lease.own.fetch_sub(1, Ordering::AcqRel);
                    }
                    match refusal {
                        Refusal::Reached(before) => used[i] = before,
                        Refusal::Away => return Err(away()),
                    }
                    for (limit, used) in limits.iter().zip(used).skip(i + 1) {
                        *used = self.lease(&leases, subject, limit).used();
                    }
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// What is used of each limit, as far as this node has heard.
    pub(crate) fn read(&self, subject: &Subject<'_>, used: &mut [u64]) -> Result<(), Away> {
        let leases = self.leases.pin();
        let mut deaf = false;
        for (limit, used) in subject.limits.iter().zip(used) {
            let lease = self.lease(&leases, subject, limit);
            let away = lease.away.load(Ordering::Acquire);
            if away || lease.heard.load(Ordering::Acquire) < subject.now {
                lease.ask(None, &self.asks);
            }
            deaf |= away;
            *used = lease.used();
        }
        if deaf && !subject.fault_tolerant {
            return Err(away());
        }
        Ok(())
    }

    /// Adds to what is used of each limit.
    pub(crate) fn add(&self, subject: &Subject<'_>, amounts: &[u64]) {
        let leases = self.leases.pin();
        for (limit, amount) in subject.charged(amounts) {
            let lease = self.lease(&leases, subject, limit);
            lease.own.fetch_add(amount, Ordering::AcqRel);
            lease.ask(None, &self.asks);
        }
    }

    fn lease<'g, G: papaya::Guard>(
        &self,
        leases: &'g papaya::HashMapRef<'_, (Key, i64), Arc<Lease>, RandomState, G>,
        subject: &Subject<'_>,
        limit: &Limit,
    ) -> &'g Arc<Lease> {
        let window = subject.window(limit);
        let key = (subject.key(limit), window.start);
        if let Some(lease) = leases.get(&key) {
            return lease;
        }
        self.room.grown_to(leases.len() + 1);
        leases.get_or_insert_with(key, || {
            Arc::new(Lease {
                name: subject.name(limit, &window),
                window: window.start,
                expires: window.end,
                own: AtomicU64::new(0),
                granted: AtomicU64::new(0),
                added: AtomicU64::new(0),
                total: AtomicU64::new(0),
                asked: AtomicBool::new(false),
                away: AtomicBool::new(false),
                heard: AtomicI64::new(0),
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
        if needed && self.total.load(Ordering::Acquire) < most {
            self.ask(Some(most), asks);
        }
    }

    /// Asks for a block, or only for what is owed.
    fn ask(self: &Arc<Self>, most: Option<u64>, asks: &UnboundedSender<Ask>) {
        if !self.asked.swap(true, Ordering::AcqRel) {
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
    fn want(&self, most: Option<u64>) -> u64 {
        let owed = self.owed();
        let block = |most| block(most, self.total.load(Ordering::Acquire) + owed);
        owed + most.map_or(0, block)
    }

    /// What was used without having been granted.
    fn owed(&self) -> u64 {
        let (own, granted) = (
            self.own.load(Ordering::Acquire),
            self.granted.load(Ordering::Acquire),
        );
        own.saturating_sub(granted)
    }

    fn renewed(&self, amount: u64, total: u64, most: Option<u64>) {
        let beyond = most.map_or(0, |most| total.saturating_sub(most).min(amount));
        // `total` last: whoever sees that the limit is reached sees all that was granted.
        self.added.fetch_add(amount, Ordering::AcqRel);
        self.granted.fetch_add(amount - beyond, Ordering::AcqRel);
        self.total.fetch_max(total, Ordering::AcqRel);
    }
}

fn away() -> Away {
    Away("the database does not answer".to_owned())
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
        let now = unix_now();
        let mut again = Vec::new();
        for (i, (ask, increment)) in batch.drain(..).zip(&increments).enumerate() {
            let lease = &ask.lease;
            if let Some(total) = totals.get(i) {
                lease.renewed(increment.amount, *total, ask.most);
                lease.heard.store(now, Ordering::Release);
            }
            lease.away.store(failed, Ordering::Release);
            // A swap, so that whoever has added since and saw that it was asked is seen here.
            lease.asked.swap(false, Ordering::AcqRel);
            // Nobody may come who would ask for what was added afterwards.
            if ask.most.is_none() && lease.owed() > 0 && lease.expires > now {
                again.push(ask);
            }
        }
        if let Some(cluster) = cluster.upgrade() {
            for ask in again {
                ask.lease.ask(None, &cluster.asks);
            }
        }
        if failed {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
