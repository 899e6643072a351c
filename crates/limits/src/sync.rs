//! Counting on each node, with what was counted exchanged through Redis every `sync_rate` seconds.
//!
//! Only the first request of a caller in a window waits for Redis, which tells it what the others have counted. Between two exchanges nodes do
//! not know of each other: together they may admit as much more than the limit as they count in that time. When Redis is away or refuses
//! it, what was counted is kept and told later; what it may have counted although it did not answer is not told again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use papaya::HashMap;
use silverback_plugin::{ConfigError, PluginEnv};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::kept::Kept;
use crate::key::Key;
use crate::meter::{Away, Limit, Subject};
use crate::redis::{Failure, Link, add_to, until};
use crate::room::Room;
use crate::settings::Redis;
use crate::window::unix_now;

/// Tallies of one Redis and rate at most. One takes four times the memory of a local counter.
const MOST_TALLIES: usize = 250_000;
/// Tallies exchanged in one round trip.
const BATCH: usize = 1000;

/// All tallies that are exchanged through one Redis at one rate.
pub(crate) struct Synced {
    link: Arc<Kept<Link>>,
    tallies: HashMap<(Key, i64), Arc<Tally>, RandomState>,
    room: Room,
    changed: UnboundedSender<Arc<Tally>>,
}

/// What was counted for one caller in one window.
struct Tally {
    name: String,
    expires: i64,
    /// Counted by this node.
    own: AtomicU64,
    /// So many of these Redis knows of. Written by the background task only.
    told: AtomicU64,
    /// Counted by others, as last heard.
    others: AtomicU64,
    /// Whether it waits for the next exchange.
    waiting: AtomicBool,
}

impl Synced {
    pub(crate) fn shared(
        config: &Redis,
        rate: f64,
        env: &PluginEnv<'_>,
    ) -> Result<Arc<Kept<Self>>, ConfigError> {
        let link = Link::shared(config, env)?;
        let every = Duration::try_from_secs_f64(rate)
            .map_err(|e| ConfigError::new("sync_rate", e.to_string()))?;
        let name = format!("{}:{rate}", config.identity());
        Ok(env.shared(&name, || {
            let (changed, inbox) = unbounded_channel();
            let synced = Arc::new(Synced {
                link,
                tallies: HashMap::default(),
                room: Room::new(MOST_TALLIES),
                changed,
            });
            env.services.spawn(Box::pin(exchange_forever(
                Arc::downgrade(&synced),
                inbox,
                every,
            )));
            Kept(synced)
        }))
    }

    /// Counts a request against all limits, or against none when one of them is reached: `false`. `used` gets what was used before.
    /// `None` when Redis has to be asked first: [`Synced::learn`].
    pub(crate) fn take(&self, subject: &Subject<'_>, used: &mut [u64]) -> Option<bool> {
        let tallies = self.tallies.pin();
        let find = |limit: &Limit| tallies.get(&(subject.key(limit), subject.window(limit).start));
        let limits = subject.limits;
        if !limits.iter().all(|limit| find(limit).is_some()) {
            return None;
        }
        for (i, limit) in limits.iter().enumerate() {
            match find(limit)?.reserve(limit.most) {
                Ok(before) => used[i] = before,
                Err(before) => {
                    used[i] = before;
                    for limit in &limits[..i] {
                        find(limit)?.own.fetch_sub(1, Ordering::AcqRel);
                    }
                    for (limit, used) in limits.iter().zip(used).skip(i + 1) {
                        *used = find(limit)?.used();
                    }
                    return Some(false);
                }
            }
        }
        for limit in limits {
            self.remember(find(limit)?);
        }
        Some(true)
    }

    /// What is used of each limit; `None` when Redis has to be asked first: [`Synced::learn`]. The next exchange tells what the others have
    /// counted meanwhile.
    pub(crate) fn read(&self, subject: &Subject<'_>, used: &mut [u64]) -> Option<()> {
        let tallies = self.tallies.pin();
        for (limit, used) in subject.limits.iter().zip(used) {
            let tally = tallies.get(&(subject.key(limit), subject.window(limit).start))?;
            *used = tally.used();
            self.remember(tally);
        }
        Some(())
    }

    /// Adds to what is used of each limit.
    pub(crate) fn add(&self, subject: &Subject<'_>, amounts: &[u64]) {
        let tallies = self.tallies.pin();
        for (limit, amount) in subject.charged(amounts) {
            // What others counted is heard with the next exchange, where it is not known.
            let tally = self.tally(&tallies, subject, limit, 0);
            tally.own.fetch_add(amount, Ordering::AcqRel);
            self.remember(tally);
        }
    }

    /// Asks Redis what was counted, where that is not known.
    pub(crate) async fn learn(&self, subject: &Subject<'_>) -> Result<(), Away> {
        let totals = self.link.totals(subject).await?;
        let tallies = self.tallies.pin();
        for (limit, total) in subject.limits.iter().zip(totals) {
            self.tally(&tallies, subject, limit, total);
        }
        Ok(())
    }

    /// The tally of a limit; a new one where there is none, with what others counted.
    fn tally<'g, G: papaya::Guard>(
        &self,
        tallies: &'g papaya::HashMapRef<'_, (Key, i64), Arc<Tally>, RandomState, G>,
        subject: &Subject<'_>,
        limit: &Limit,
        others: u64,
    ) -> &'g Arc<Tally> {
        let window = subject.window(limit);
        let key = (subject.key(limit), window.start);
        if let Some(tally) = tallies.get(&key) {
            return tally;
        }
        self.room.grown_to(tallies.len() + 1);
        // Whoever asked at the same moment and came first has the same answer.
        tallies.get_or_insert_with(key, || {
            Arc::new(Tally {
                name: subject.name(limit, &window),
                expires: until(&window),
                own: AtomicU64::new(0),
                told: AtomicU64::new(0),
                others: AtomicU64::new(others),
                waiting: AtomicBool::new(false),
            })
        })
    }

    fn remember(&self, tally: &Arc<Tally>) {
        if !tally.waiting.swap(true, Ordering::AcqRel) {
            // The task ends with the last configuration; then nobody needs its answer.
            let _ = self.changed.send(tally.clone());
        }
    }

    fn sweep(&self, now: i64) {
        let tallies = self.tallies.pin();
        tallies.retain(|_, tally| tally.expires + 5 > now || tally.waiting.load(Ordering::Acquire));
        let own = |tally: &Tally| tally.own.load(Ordering::Relaxed);
        let counts = tallies.iter().map(|(_, tally)| own(tally));
        if let Some(mut surplus) = self.room.surplus(tallies.len(), counts) {
            tallies.retain(|_, tally| !surplus.takes(own(tally)));
        }
    }

    /// Tells Redis what was counted and learns what the others counted.
    async fn exchange(&self, tallies: &[Arc<Tally>]) {
        for batch in tallies.chunks(BATCH) {
            let mut pipeline = ::redis::pipe();
            let mut owns = Vec::with_capacity(batch.len());
            for tally in batch {
                tally.waiting.store(false, Ordering::Release);
                let own = tally.own.load(Ordering::Acquire);
                let news = own.saturating_sub(tally.told.load(Ordering::Acquire));
                add_to(&mut pipeline, &tally.name, news, tally.expires);
                owns.push(own);
            }
            let tallies = batch.iter().zip(owns);
            match self.link.add(pipeline).await {
                Ok(answers) => {
                    let mut refused = None;
                    for ((tally, own), answer) in tallies.zip(answers) {
                        match answer {
                            Ok(total) => {
                                let told = tally.tell(own);
                                let others = total.saturating_sub(told);
                                tally.others.store(others, Ordering::Release);
                            }
                            Err(e) => {
                                self.keep(tally);
                                refused = Some(e);
                            }
                        }
                    }
                    if let Some(e) = refused {
                        tracing::error!("some rate limits are not exchanged: redis: {e}");
                    }
                }
                Err(Failure::Unheard(away)) => {
                    tracing::error!("rate limits may not be exchanged: {away}");
                    for (tally, own) in tallies {
                        tally.tell(own);
                    }
                }
                Err(Failure::Unsent(away)) => {
                    tracing::error!("rate limits are not exchanged: {away}");
                    batch.iter().for_each(|t| self.keep(t));
                }
            }
        }
    }

    /// Keeps what was not told for the next exchange.
    fn keep(&self, tally: &Arc<Tally>) {
        // Redis keeps nothing of a window that is over, and what was dropped for want of room is not kept here.
        if tally.expires > unix_now() && Arc::strong_count(tally) > 1 {
            self.remember(tally);
        }
    }
}

impl Tally {
    /// Redis knows of so many; answers how many it knows of now.
    fn tell(&self, own: u64) -> u64 {
        self.told.fetch_max(own, Ordering::AcqRel).max(own)
    }

    fn reserve(&self, most: u64) -> Result<u64, u64> {
        let mut own = self.own.load(Ordering::Acquire);
        loop {
            let used = own + self.others.load(Ordering::Acquire);
            if used >= most {
                return Err(used);
            }
            match self
                .own
                .compare_exchange_weak(own, own + 1, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Ok(used),
                Err(now) => own = now,
            }
        }
    }

    fn used(&self) -> u64 {
        self.own.load(Ordering::Acquire) + self.others.load(Ordering::Acquire)
    }
}

async fn exchange_forever(
    synced: Weak<Synced>,
    mut inbox: UnboundedReceiver<Arc<Tally>>,
    every: Duration,
) {
    let Some(full) = synced.upgrade().map(|s| s.room.full()) else {
        return;
    };
    let mut waiting = Vec::new();
    let mut pause = Box::pin(tokio::time::sleep(every));
    loop {
        let due = tokio::select! {
            () = &mut pause => true,
            () = full.notified() => false,
        };
        let Some(synced) = synced.upgrade() else {
            return;
        };
        if due {
            while let Ok(tally) = inbox.try_recv() {
                waiting.push(tally);
            }
            synced.exchange(&waiting).await;
            waiting.clear();
            pause = Box::pin(tokio::time::sleep(every));
        }
        synced.sweep(unix_now());
    }
}
