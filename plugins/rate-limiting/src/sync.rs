//! Counting on each node, with what was counted exchanged through Redis every `sync_rate` seconds.
//!
//! Only the first request of a caller in a window waits for Redis, which tells it what the others have counted. Between two exchanges nodes do
//! not know of each other: together they may admit as much more than the limit as they count in that time. When Redis is away, what
//! was counted is kept and told later.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use ::redis::Script;
use foldhash::fast::RandomState;
use papaya::HashMap;
use silverback_plugin::{ConfigError, PluginEnv};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config;
use crate::identity::Identifier;
use crate::kept::Kept;
use crate::key::Key;
use crate::local::{Reading, unix_now};
use crate::redis::{Link, until};
use crate::room::Room;
use crate::{Away, Limit, RateLimiting};

/// Tallies of one Redis and rate at most. One takes four times the memory of a local counter.
const MOST_TALLIES: usize = 250_000;
/// Tallies exchanged in one round trip.
const BATCH: usize = 1000;

/// Adds to a counter and answers its total; a counter that is new is forgotten at the given time.
const ADD: &str = "local total = redis.call('INCRBY', KEYS[1], ARGV[1])
    if total == tonumber(ARGV[1]) then redis.call('EXPIREAT', KEYS[1], ARGV[2]) end
    return total";

static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local answer = {}
        for i = 1, #KEYS do answer[i] = tonumber(redis.call('GET', KEYS[i]) or '0') end
        return answer",
    )
});

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
        config: &config::Redis,
        rate: f64,
        env: &PluginEnv<'_>,
    ) -> Result<Arc<Kept<Self>>, ConfigError> {
        let link = Link::shared(config, env)?;
        let every = Duration::try_from_secs_f64(rate)
            .map_err(|e| ConfigError::new("sync_rate", e.to_string()))?;
        let name = format!(
            "{}:{rate}",
            serde_json::to_string(config).unwrap_or_default()
        );
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

    /// Counts a request against all limits, or against none when one of them is reached; `None` when Redis has to be asked first.
    pub(crate) fn take(
        &self,
        plugin: &RateLimiting,
        who: Identifier<'_>,
        now: i64,
    ) -> Option<Reading> {
        let tallies = self.tallies.pin();
        let find = |limit: &Limit| {
            tallies.get(&(
                plugin.key(who, limit.period),
                limit.period.window(now).start,
            ))
        };
        let mut reading = Reading {
            used: [0; 6],
            admitted: true,
        };
        if !plugin.limits.iter().all(|limit| find(limit).is_some()) {
            return None;
        }
        for (i, limit) in plugin.limits.iter().enumerate() {
            match find(limit)?.reserve(limit.most) {
                Ok(used) => reading.used[i] = used,
                Err(used) => {
                    reading.admitted = false;
                    reading.used[i] = used;
                    for limit in &plugin.limits[..i] {
                        find(limit)?.own.fetch_sub(1, Ordering::AcqRel);
                    }
                    for (j, limit) in plugin.limits.iter().enumerate().skip(i + 1) {
                        reading.used[j] = find(limit)?.used();
                    }
                    return Some(reading);
                }
            }
        }
        for limit in &plugin.limits {
            self.remember(find(limit)?);
        }
        Some(reading)
    }

    /// As [`Synced::take`], after Redis was asked.
    pub(crate) async fn learn_and_take(
        &self,
        plugin: &RateLimiting,
        who: Identifier<'_>,
        now: i64,
    ) -> Result<Reading, Away> {
        let mut script = READ.prepare_invoke();
        for limit in &plugin.limits {
            script.key(
                plugin
                    .place
                    .name(who, limit.period.window(now).start, limit.period),
            );
        }
        let totals: Vec<u64> = self.link.call(&script).await?;
        {
            let tallies = self.tallies.pin();
            for (limit, total) in plugin.limits.iter().zip(totals) {
                let window = limit.period.window(now);
                self.room.grown_to(tallies.len() + 1);
                // Whoever asked at the same moment and came first has the same answer.
                tallies.get_or_insert_with((plugin.key(who, limit.period), window.start), || {
                    Arc::new(Tally {
                        name: plugin.place.name(who, window.start, limit.period),
                        expires: until(&window),
                        own: AtomicU64::new(0),
                        told: AtomicU64::new(0),
                        others: AtomicU64::new(total),
                        waiting: AtomicBool::new(false),
                    })
                });
            }
        }
        self.take(plugin, who, now)
            .ok_or_else(|| Away("a window ended meanwhile".to_owned()))
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
                pipeline
                    .cmd("EVAL")
                    .arg(ADD)
                    .arg(1)
                    .arg(&tally.name)
                    .arg(news)
                    .arg(tally.expires);
                owns.push(own);
            }
            match self.link.pipeline(&pipeline).await {
                Ok(totals) => {
                    for ((tally, own), total) in batch.iter().zip(owns).zip(totals) {
                        let told = tally.told.fetch_max(own, Ordering::AcqRel).max(own);
                        tally
                            .others
                            .store(total.saturating_sub(told), Ordering::Release);
                    }
                }
                Err(away) => {
                    tracing::error!("rate limits are not exchanged: {away}");
                    let now = unix_now();
                    // Redis keeps nothing of a window that is over, and what was dropped for want of room is not kept here.
                    let wanted = |t: &&Arc<Tally>| t.expires > now && Arc::strong_count(t) > 1;
                    batch.iter().filter(wanted).for_each(|t| self.remember(t));
                }
            }
        }
    }
}

impl Tally {
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
