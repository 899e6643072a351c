//! What one configuration counts with.

use std::sync::Arc;

use silverback_plugin::{ConfigError, PluginEnv};

use crate::cluster::Cluster;
use crate::identity::Identifier;
use crate::kept::Kept;
use crate::key::{Key, Keys, Series};
use crate::local::{self, Local};
use crate::redis;
use crate::settings::Redis;
use crate::sync::Synced;
use crate::window::{Period, Window};

/// Counts against the limits of a configuration.
pub struct Meter {
    limits: Box<[Limit]>,
    place: Place,
    /// Local counters; the other policies make their keys with it.
    local: Arc<Kept<Local>>,
    fault_tolerant: bool,
}

/// A limit: so much per window.
#[derive(Clone, Debug)]
pub struct Limit {
    /// The length of a window.
    pub period: Period,
    /// As configured and as clients are told.
    pub shown: f64,
    /// How many that admits: a limit of 2.5 admits three.
    pub most: u64,
    /// The series' number in keys.
    number: u32,
    series: Arc<Series>,
}

/// Where to count.
#[derive(Clone, Copy, Debug)]
pub enum Policy<'a> {
    /// On each node for itself.
    Local,
    /// In Redis, with each request.
    Redis(&'a Redis),
    /// On each node, with what was counted exchanged through Redis every so many seconds.
    Synced(&'a Redis, f64),
    /// In the database, for all nodes.
    Cluster,
}

/// The counters are out of reach.
#[derive(Debug, thiserror::Error)]
#[error("failed to get usage: {0}")]
pub struct Away(pub(crate) String);

/// Where the counters are.
enum Place {
    Local,
    Redis(redis::Counters),
    Synced(Arc<Kept<Synced>>),
    Cluster(Arc<Kept<Cluster>>),
}

/// What is asked about: the limits, and whose use of them, when.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) limits: &'a [Limit],
    pub(crate) keys: &'a Keys,
    pub(crate) who: Identifier<'a>,
    pub(crate) now: i64,
    pub(crate) fault_tolerant: bool,
}

impl Meter {
    /// A meter for these limits, which must be positive. With `fault_tolerant` a node goes on by itself where the database is away.
    ///
    /// # Errors
    /// When the policy needs what this node does not have, or its settings make no sense; fields are those of the plugins.
    pub fn new(
        policy: Policy<'_>,
        fault_tolerant: bool,
        limits: impl IntoIterator<Item = (Series, Period, f64)>,
        env: &PluginEnv<'_>,
    ) -> Result<Self, ConfigError> {
        let local = env.shared("local", || {
            let local = Arc::new(Local::default());
            env.services
                .spawn(Box::pin(Local::sweep_forever(Arc::downgrade(&local))));
            Kept(local)
        });
        let place = match policy {
            Policy::Local => Place::Local,
            Policy::Redis(settings) => Place::Redis(redis::Counters::shared(settings, env)?),
            Policy::Synced(settings, rate) => Place::Synced(Synced::shared(settings, rate, env)?),
            Policy::Cluster => Place::Cluster(Cluster::shared(env)?),
        };
        let limits = limits.into_iter().map(|(series, period, shown)| Limit {
            period,
            shown,
            // Beyond what can be counted there is no limit.
            most: (shown.ceil() as u64).min(local::MOST),
            number: local.keys.number(&series),
            series: Arc::new(series),
        });
        Ok(Meter {
            limits: limits.collect(),
            place,
            local,
            fault_tolerant,
        })
    }

    /// The limits, in the order in which they were given. Slices of numbers below have one for each.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// Counts a request against all limits, or against none when one of them is reached: `false`. `used` gets what was used before. `None`
    /// when Redis has to be asked: [`Meter::take_async`].
    pub fn take(
        &self,
        who: Identifier<'_>,
        now: i64,
        used: &mut [u64],
    ) -> Option<Result<bool, Away>> {
        let subject = self.subject(who, now);
        match &self.place {
            Place::Local => Some(Ok(self.local.take(&subject, used))),
            Place::Cluster(cluster) => Some(cluster.take(&subject, used)),
            Place::Synced(synced) => synced.take(&subject, used).map(Ok),
            Place::Redis(_) => None,
        }
    }

    /// As [`Meter::take`], and asks Redis where that is needed.
    ///
    /// # Errors
    /// When Redis does not answer; the database, where the node may not go on without it.
    pub async fn take_async(
        &self,
        who: Identifier<'_>,
        now: i64,
        used: &mut [u64],
    ) -> Result<bool, Away> {
        if let Place::Redis(redis) = &self.place {
            return redis.take(&self.subject(who, now), used).await;
        }
        if let Place::Synced(synced) = &self.place {
            synced.learn(&self.subject(who, now)).await?;
        }
        self.take(who, now, used).unwrap_or_else(window_ended)
    }

    /// What is used of each limit, as far as this node knows. `None` when Redis has to be asked: [`Meter::read_async`].
    pub fn read(
        &self,
        who: Identifier<'_>,
        now: i64,
        used: &mut [u64],
    ) -> Option<Result<(), Away>> {
        let subject = self.subject(who, now);
        match &self.place {
            Place::Local => {
                self.local.read(&subject, used);
                Some(Ok(()))
            }
            Place::Cluster(cluster) => Some(cluster.read(&subject, used)),
            Place::Synced(synced) => synced.read(&subject, used).map(Ok),
            Place::Redis(_) => None,
        }
    }

    /// As [`Meter::read`], and asks Redis where that is needed.
    ///
    /// # Errors
    /// As [`Meter::take_async`].
    pub async fn read_async(
        &self,
        who: Identifier<'_>,
        now: i64,
        used: &mut [u64],
    ) -> Result<(), Away> {
        if let Place::Redis(redis) = &self.place {
            return redis.read(&self.subject(who, now), used).await;
        }
        if let Place::Synced(synced) = &self.place {
            synced.learn(&self.subject(who, now)).await?;
        }
        self.read(who, now, used).unwrap_or_else(window_ended)
    }

    /// Adds so much to each limit's count, also beyond the limit. What leaves the node is sent in the background; what cannot be sent
    /// is kept and sent until its window is over.
    pub fn add(&self, who: Identifier<'_>, now: i64, amounts: &[u64]) {
        let subject = self.subject(who, now);
        match &self.place {
            Place::Local => self.local.add(&subject, amounts),
            Place::Cluster(cluster) => cluster.add(&subject, amounts),
            Place::Synced(synced) => synced.add(&subject, amounts),
            Place::Redis(redis) => redis.add(&subject, amounts),
        }
    }

    fn subject<'a>(&'a self, who: Identifier<'a>, now: i64) -> Subject<'a> {
        Subject {
            limits: &self.limits,
            keys: &self.local.keys,
            who,
            now,
            fault_tolerant: self.fault_tolerant,
        }
    }
}

impl<'a> Subject<'a> {
    /// The limits to which something is added, with how much.
    pub(crate) fn charged(self, amounts: &'a [u64]) -> impl Iterator<Item = (&'a Limit, u64)> {
        let amounts = amounts.iter().map(|a| (*a).min(local::MOST));
        self.limits.iter().zip(amounts).filter(|(_, a)| *a > 0)
    }

    pub(crate) fn key(&self, limit: &Limit) -> Key {
        self.keys.key(limit.number, self.who, limit.period)
    }

    pub(crate) fn window(&self, limit: &Limit) -> Window {
        limit.period.window(self.now)
    }

    /// The name of a counter outside this node.
    pub(crate) fn name(&self, limit: &Limit, window: &Window) -> String {
        limit.series.name(self.who, window.start, limit.period)
    }
}

fn window_ended<T>() -> Result<T, Away> {
    Err(Away("a window ended meanwhile".to_owned()))
}

#[cfg(test)]
impl Limit {
    /// A limit of the first series, for tests below the meter.
    pub(crate) fn of(period: Period, most: u64) -> Self {
        Limit {
            period,
            shown: most as f64,
            most,
            number: 0,
            series: Arc::new(Series::new("test", &Default::default())),
        }
    }
}
