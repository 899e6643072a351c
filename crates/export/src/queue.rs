//! Kong's batch queue: entries of many threads, sent in batches by a task in the background, again and again when the receiver fails.
//!
//! Learnt from `kong/tools/queue.lua` and `kong/tools/queue_schema.lua`. A queue belongs to its name: plugins whose configurations give the same
//! one share it, and a change of configuration that leaves the name as it is leaves the entries where they are. A queue that nobody holds any
//! more is still emptied. Entries get lost only when the queue is full (the oldest), when the receiver fails for longer than `max_retry_time`,
//! and when the node stops while the receiver fails; each is said in the log, at most every ten seconds.
//!
//! [`Queue::push`] takes no lock and never waits.

mod config;
#[cfg(test)]
mod tests;
mod worker;

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use crossbeam_queue::SegQueue;
use silverback_plugin::PluginEnv;
use tokio::sync::Notify;

use crate::limited::Limited;

pub(crate) use config::seconds;
pub use config::{QueueConfig, Terms, field};

/// From this share of `max_entries` on a queue is said to be filling up.
const FILLING_UP: f64 = 0.8;

/// What a queue holds.
pub trait Queued: Send + Sync + 'static {
    /// Its length, which `max_bytes` is about.
    fn bytes(&self) -> usize;
}

impl Queued for String {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl Queued for Bytes {
    fn bytes(&self) -> usize {
        self.len()
    }
}

/// Sends batches.
pub trait Deliver: Send + Sync + 'static {
    /// What it sends.
    type Entry: Queued;

    /// Sends a batch, which is never empty. With `Err`, a text for the log, the same batch comes again.
    fn deliver(&self, batch: &[Self::Entry]) -> impl Future<Output = Result<(), String>> + Send;
}

/// The end of a queue that is filled. Dropping it lets the task go on until the queue is empty.
pub struct Queue<D: Deliver> {
    inner: Arc<Inner<D>>,
}

/// A queue, shared by those who fill it and the task that empties it.
struct Inner<D: Deliver> {
    /// What it is called in the log.
    label: String,
    entries: SegQueue<D::Entry>,
    /// How many entries there are, and their bytes. For moments either may be less than what is in `entries`, even negative: an entry is
    /// counted after it was put in, and may have been taken out by then.
    count: AtomicI64,
    bytes: AtomicI64,
    /// What [`Queue::push`] looks at of the terms.
    max_entries: AtomicI64,
    max_bytes: AtomicI64,
    max_batch_size: AtomicI64,
    /// Something for the task: a first entry, a whole batch, or the end.
    news: Notify,
    closed: AtomicBool,
    handling: Mutex<Arc<Handling<D>>>,
    /// Said since the queue was last less than that full.
    said_filling_up: AtomicBool,
    dropped: Limited,
    too_long: Limited,
    failed: Limited,
    lost: Limited,
    /// Lost altogether.
    losses: AtomicU64,
}

/// How a queue is emptied: by the latest configuration.
struct Handling<D> {
    terms: Terms,
    deliver: D,
}

impl<D: Deliver> Queue<D> {
    /// The queue of that name, with these terms and this receiver from now on. `label` is what it is called in the log.
    pub fn open(
        env: &PluginEnv<'_>,
        name: &str,
        label: impl Into<String>,
        terms: Terms,
        deliver: D,
    ) -> Arc<Self> {
        let handling = Arc::new(Handling { terms, deliver });
        let queue = env.shared(name, || {
            let inner = Arc::new(Inner::new(label.into(), handling.clone()));
            let stopping = env.services.stopping();
            let task = worker::run(inner.clone(), stopping);
            env.services.spawn_to_finish(Box::pin(task));
            Queue { inner }
        });
        queue.inner.handle_by(handling);
        queue
    }

    /// Puts an entry in, in place of the oldest when there is no room for it.
    pub fn push(&self, entry: D::Entry) {
        self.inner.push(entry);
    }

    /// How many entries wait.
    pub fn len(&self) -> usize {
        usize::try_from(self.inner.count.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries were lost so far.
    pub fn losses(&self) -> u64 {
        self.inner.losses.load(Ordering::Relaxed)
    }
}

impl<D: Deliver> Drop for Queue<D> {
    fn drop(&mut self) {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.news.notify_one();
    }
}

impl<D: Deliver> Inner<D> {
    fn new(label: String, handling: Arc<Handling<D>>) -> Self {
        Inner {
            label,
            entries: SegQueue::new(),
            count: AtomicI64::new(0),
            bytes: AtomicI64::new(0),
            max_entries: AtomicI64::new(0),
            max_bytes: AtomicI64::new(0),
            max_batch_size: AtomicI64::new(0),
            news: Notify::new(),
            closed: AtomicBool::new(false),
            handling: Mutex::new(handling),
            said_filling_up: AtomicBool::new(false),
            dropped: Limited::default(),
            too_long: Limited::default(),
            failed: Limited::default(),
            lost: Limited::default(),
            losses: AtomicU64::new(0),
        }
    }

    fn handle_by(&self, handling: Arc<Handling<D>>) {
        let t = &handling.terms;
        self.max_entries.store(t.max_entries, Ordering::Relaxed);
        self.max_bytes
            .store(t.max_bytes.unwrap_or(i64::MAX), Ordering::Relaxed);
        self.max_batch_size
            .store(t.max_batch_size, Ordering::Relaxed);
        // Whole whenever the lock is free.
        *self.handling.lock().unwrap_or_else(PoisonError::into_inner) = handling;
        // It may have less to wait for now.
        self.news.notify_one();
    }

    fn handling(&self) -> Arc<Handling<D>> {
        self.handling
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn push(&self, entry: D::Entry) {
        let length = length(&entry);
        let max_bytes = self.max_bytes.load(Ordering::Relaxed);
        if length > max_bytes {
            self.losses.fetch_add(1, Ordering::Relaxed);
            if let Some(n) = self.too_long.due(1) {
                tracing::error!(
                    queue = self.label,
                    "{n} entries are longer than the queue's max_bytes and were lost ({length} of {max_bytes} bytes)"
                );
            }
            return;
        }
        self.make_room(length, max_bytes);
        self.entries.push(entry);
        self.bytes.fetch_add(length, Ordering::Relaxed);
        let before = self.count.fetch_add(1, Ordering::Release);
        if before <= 0 || before + 1 >= self.max_batch_size.load(Ordering::Relaxed) {
            self.news.notify_one();
        }
    }

    /// Drops the oldest entries until one more of that length has room.
    fn make_room(&self, length: i64, max_bytes: i64) {
        let max_entries = self.max_entries.load(Ordering::Relaxed);
        let count = self.count.load(Ordering::Relaxed);
        if count as f64 >= max_entries as f64 * FILLING_UP {
            if !self.said_filling_up.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    queue = self.label,
                    "the queue is full to {}%",
                    FILLING_UP * 100.0
                );
            }
        } else if self.said_filling_up.load(Ordering::Relaxed) {
            self.said_filling_up.store(false, Ordering::Relaxed);
        }
        let full = || {
            self.count.load(Ordering::Relaxed) >= max_entries
                || self.bytes.load(Ordering::Relaxed).saturating_add(length) > max_bytes
        };
        let mut dropped = 0;
        while full() && self.pop().is_some() {
            dropped += 1;
        }
        if dropped > 0 {
            self.losses.fetch_add(dropped, Ordering::Relaxed);
            if let Some(n) = self.dropped.due(dropped) {
                tracing::error!(
                    queue = self.label,
                    "the queue is full: its {n} oldest entries were lost"
                );
            }
        }
    }

    fn pop(&self) -> Option<D::Entry> {
        let entry = self.entries.pop()?;
        self.bytes.fetch_sub(length(&entry), Ordering::Relaxed);
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(entry)
    }

    fn pop_batch(&self, most: usize) -> Vec<D::Entry> {
        std::iter::from_fn(|| self.pop()).take(most).collect()
    }
}

fn length(entry: &impl Queued) -> i64 {
    i64::try_from(entry.bytes()).unwrap_or(i64::MAX)
}
