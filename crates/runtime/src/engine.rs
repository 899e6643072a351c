//! The builder's thread: takes updates, builds, publishes, frees the old snapshot, saves the file.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use silverback_entities::{Change, Tables};
use tokio::sync::watch;

use crate::builder::{Builder, Problem};
use crate::file;
use crate::snapshot::{Current, Snapshot};

/// News from the store.
#[derive(Debug)]
pub enum Update {
    /// All rows.
    Loaded(Tables),
    /// Some rows.
    Changed {
        /// The revision that is reached with them.
        revision: i64,
        /// The rows.
        changes: Vec<Change>,
    },
}

/// How often the snapshot file is written at most: the file of a large configuration takes longer than a build.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What the engine is doing, for `/status` and metrics.
#[derive(Clone)]
pub struct EngineStatus {
    revision: watch::Receiver<i64>,
    problems: Arc<Mutex<Vec<Problem>>>,
    ready: Arc<AtomicBool>,
    loaded: watch::Receiver<bool>,
    last_save: Arc<AtomicI64>,
}

impl EngineStatus {
    /// The revision that requests are served from.
    pub fn revision(&self) -> i64 {
        *self.revision.borrow()
    }

    /// Waits until requests are served from that revision or a later one.
    pub async fn reached(&self, revision: i64) {
        let mut rx = self.revision.clone();
        // An error means that the engine is gone: the node is stopping.
        let _ = rx.wait_for(|r| *r >= revision).await;
    }

    /// Whether a configuration is being served at all.
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Waits until requests are served from what the store holds, rather than from the snapshot file, which may be older.
    pub async fn loaded(&self) {
        let mut rx = self.loaded.clone();
        // An error means that the engine is gone: the node is stopping.
        let _ = rx.wait_for(|loaded| *loaded).await;
    }

    /// What cannot be served as it is configured.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The revision in the snapshot file; -1 before the first is written.
    pub fn saved(&self) -> i64 {
        self.last_save.load(Ordering::Acquire)
    }
}

/// The builder's thread.
pub struct Engine {
    updates: Option<mpsc::Sender<Update>>,
    thread: Option<thread::JoinHandle<()>>,
    status: EngineStatus,
    current: Current,
}

/// Where the engine's results go beside [`Current`].
pub struct EngineConfig {
    /// The snapshot file; `None` for none.
    pub file: Option<PathBuf>,
    /// Metrics of the node.
    pub metrics: Arc<silverback_telemetry::Registry>,
}

impl Engine {
    /// Starts the thread. Until the first update the node serves from the snapshot file if there is one, else from nothing.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(mut builder: Builder, config: EngineConfig) -> std::io::Result<Self> {
        let mut from_file = false;
        if let Some(path) = &config.file {
            match file::load(path) {
                Ok(Some(tables)) => {
                    tracing::info!(revision = tables.revision, file = %path.display(), "serving from the snapshot file");
                    builder.load(tables);
                    from_file = true;
                }
                Ok(None) => {}
                Err(e) => tracing::error!("the snapshot file cannot be used: {e}"),
            }
        }
        let first = builder.build();
        let problems = builder.problems();
        let (revision_tx, revision) = watch::channel(if from_file { first.revision } else { -1 });
        let (loaded_tx, loaded) = watch::channel(false);
        let current = Current::new(first);
        let status = EngineStatus {
            revision,
            problems: Arc::new(Mutex::new(problems)),
            ready: Arc::new(AtomicBool::new(from_file)),
            loaded,
            last_save: Arc::new(AtomicI64::new(-1)),
        };
        let (updates, inbox) = mpsc::channel();
        let worker = Worker {
            builder,
            config,
            current: current.clone(),
            status: status.clone(),
            revision: revision_tx,
            loaded: loaded_tx,
            from_store: false,
        };
        let thread = thread::Builder::new()
            .name("snapshot-builder".into())
            .spawn(move || worker.run(&inbox))?;
        Ok(Engine {
            updates: Some(updates),
            thread: Some(thread),
            status,
            current,
        })
    }

    /// Where updates are sent. The engine ends when all senders and the engine itself are gone.
    pub fn updates(&self) -> mpsc::Sender<Update> {
        self.updates
            .clone()
            .unwrap_or_else(|| unreachable!("the sender is taken only when the engine is dropped"))
    }

    /// What it is doing.
    pub fn status(&self) -> EngineStatus {
        self.status.clone()
    }

    /// Where requests find the newest snapshot.
    pub fn current(&self) -> Current {
        self.current.clone()
    }

    /// Waits for the thread, which saves the file before it ends. All other senders must be gone.
    pub fn stop(mut self) {
        drop(self.updates.take());
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

struct Worker {
    builder: Builder,
    config: EngineConfig,
    current: Current,
    status: EngineStatus,
    revision: watch::Sender<i64>,
    loaded: watch::Sender<bool>,
    /// Whether all rows have come from the store once.
    from_store: bool,
}

impl Worker {
    fn run(mut self, inbox: &mpsc::Receiver<Update>) {
        let mut unsaved = false;
        let mut saved_at = Instant::now().checked_sub(SAVE_EVERY);
        loop {
            let due = saved_at.map_or(Duration::ZERO, |t| SAVE_EVERY.saturating_sub(t.elapsed()));
            let update = if unsaved {
                inbox.recv_timeout(due)
            } else {
                inbox.recv().map_err(Into::into)
            };
            match update {
                Ok(first) => {
                    // Whatever else has arrived goes into the same build.
                    self.take(first);
                    while let Ok(more) = inbox.try_recv() {
                        self.take(more);
                    }
                    self.publish();
                    unsaved = self.config.file.is_some();
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.save();
                    saved_at = Some(Instant::now());
                    unsaved = false;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    if unsaved {
                        self.save();
                    }
                    return;
                }
            }
        }
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Loaded(tables) => {
                self.builder.load(tables);
                self.from_store = true;
            }
            Update::Changed { revision, changes } => self.builder.apply(revision, changes),
        }
    }

    fn publish(&mut self) {
        let began = Instant::now();
        let next = self.builder.build();
        let revision = next.revision;
        let old: Arc<Snapshot> = self.current.swap(next);
        let problems = self.builder.problems();
        for p in &problems {
            tracing::warn!("not served as configured: {p}");
        }
        self.config
            .metrics
            .set_config_problems(problems.len() as u64);
        self.config.metrics.set_config_revision(revision);
        self.config.metrics.observe_snapshot_build(began.elapsed());
        *self
            .status
            .problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = problems;
        self.status.ready.store(true, Ordering::Release);
        self.revision.send_replace(revision);
        self.loaded.send_replace(self.from_store);
        tracing::debug!(revision, took = ?began.elapsed(), "configuration in force");
        // The last one that holds the old snapshot frees it. Requests in progress hold it for longer than this thread as a
        // rule, so wait for them a moment: freeing a large configuration would stall a proxy thread.
        let patience = Instant::now();
        while Arc::strong_count(&old) > 1 && patience.elapsed() < Duration::from_millis(20) {
            thread::sleep(Duration::from_millis(1));
        }
        drop(old);
        self.config.metrics.sweep();
    }

    fn save(&self) {
        let Some(path) = &self.config.file else {
            return;
        };
        let tables = self.builder.tables();
        match file::save(path, tables) {
            Ok(()) => self
                .status
                .last_save
                .store(tables.revision, Ordering::Release),
            Err(e) => tracing::error!("the snapshot file cannot be written: {e}"),
        }
    }
}
