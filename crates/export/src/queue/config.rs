//! How a queue is configured.

use std::time::Duration;

use silverback_plugin::schema::field::{Field, integer, number, record as record_field};
use silverback_plugin::schema::record;

record! {
    /// Settings of a queue.
    pub struct QueueConfig {
        /// The most entries that are sent at once.
        pub max_batch_size: i64 = integer().default(1).between(1, 1_000_000),
        /// How many seconds the first entry of a batch waits for others. Means nothing when a batch is one entry.
        pub max_coalescing_delay: f64 = number().default(1).between(0, 3600),
        /// The most entries that wait; with more the oldest are lost.
        pub max_entries: i64 = integer().default(10_000).between(1, 1_000_000),
        /// The most bytes that wait; with more the oldest entries are lost.
        pub max_bytes: Option<i64> = integer(),
        /// How many seconds a batch is tried again before it is given up; -1: once only.
        pub max_retry_time: f64 = number().default(60),
        /// How many seconds pass before a batch is tried again; twice as many with each further time.
        pub initial_retry_delay: f64 = number().default(0.01).between_fractions(0.001, 1_000_000.0),
        /// The most seconds that pass before a batch is tried again.
        pub max_retry_delay: f64 = number().default(60).between_fractions(0.001, 1_000_000.0),
        /// How many batches are sent at the same time: one, or with -1 each entry by itself at once.
        pub concurrency_limit: i64 = integer().default(1).one_of([-1, 1]),
    }
}

/// The field `queue` of a configuration.
pub fn field() -> Field {
    record_field::<QueueConfig>().required()
}

/// How a queue is emptied.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// The most entries in a batch.
    pub max_batch_size: i64,
    /// How long the first of a batch waits for others.
    pub max_coalescing_delay: Duration,
    /// The most entries that wait.
    pub max_entries: i64,
    /// The most bytes that wait.
    pub max_bytes: Option<i64>,
    /// How long a batch is tried again; `None` for once only.
    pub max_retry_time: Option<Duration>,
    /// The pause before a batch is tried again, doubled with each further time.
    pub initial_retry_delay: Duration,
    /// The longest pause.
    pub max_retry_delay: Duration,
    /// Whether each entry is sent by itself at once.
    pub unlimited: bool,
}

impl Terms {
    /// Each entry is sent once, up to `max_batch_size` at a time without waiting for more: where Kong has no queue and sends each by itself.
    pub fn once(max_batch_size: i64) -> Self {
        Terms {
            max_batch_size,
            max_coalescing_delay: Duration::ZERO,
            max_entries: 10_000,
            max_bytes: Some(64 << 20),
            max_retry_time: None,
            initial_retry_delay: Duration::ZERO,
            max_retry_delay: Duration::ZERO,
            unlimited: false,
        }
    }

    /// With what `queue_size` and `flush_timeout` say, the fields of before there was `queue`. They count where they are not at their former
    /// defaults.
    pub fn with_former(mut self, queue_size: Option<i64>, flush_timeout: Option<f64>) -> Self {
        if let Some(size) = queue_size.filter(|size| *size != 1) {
            self.max_batch_size = size.max(1);
        }
        if let Some(delay) = flush_timeout.filter(|delay| *delay != 2.0) {
            self.max_coalescing_delay = Duration::try_from_secs_f64(delay).unwrap_or_default();
        }
        self
    }
}

impl From<&QueueConfig> for Terms {
    fn from(c: &QueueConfig) -> Self {
        Terms {
            max_batch_size: c.max_batch_size,
            max_coalescing_delay: seconds(c.max_coalescing_delay),
            max_entries: c.max_entries,
            max_bytes: c.max_bytes,
            max_retry_time: (c.max_retry_time >= 0.0).then(|| seconds(c.max_retry_time)),
            initial_retry_delay: seconds(c.initial_retry_delay),
            max_retry_delay: seconds(c.max_retry_delay),
            unlimited: c.concurrency_limit == -1,
        }
    }
}

/// Seconds as a duration: none for less than 0, the longest for what is out of range.
pub(crate) fn seconds(s: f64) -> Duration {
    Duration::try_from_secs_f64(s.max(0.0)).unwrap_or(Duration::MAX)
}
