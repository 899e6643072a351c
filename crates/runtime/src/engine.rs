//! The builder's thread: takes updates, builds, publishes, frees the old snapshot. A second thread writes the snapshot file, which
//! takes longer than a build and must not keep one waiting.

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
    Loaded(Box<Tables>),
    /// Some rows.
    Changed {
        /// The revision that is reached with them.
        revision: i64,
        /// The rows.
        changes: Vec<Change>,
    },
}

/// How often what can wait is done at most: the snapshot file, the whole build after amended ones, forgetting the metrics of what is gone.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// How many times as long as writing the snapshot file took the next writing waits, so that a large configuration that changes all the time
/// does not keep a processor busy with it.
const REST: u32 = 9;
/// But not longer.
const REST_MOST: Duration = Duration::from_secs(10);

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
        let saver = config
            .file
            .map(|path| Saver::start(path, status.last_save.clone()))
            .transpose()?;
        let worker = Worker {
            builder,
            metrics: config.metrics,
            saver,
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
    metrics: Arc<silverback_telemetry::Registry>,
    saver: Option<Saver>,
    current: Current,
    status: EngineStatus,
    revision: watch::Sender<i64>,
    loaded: watch::Sender<bool>,
    /// Whether all rows have come from the store once.
    from_store: bool,
}

impl Worker {
    fn run(mut self, inbox: &mpsc::Receiver<Update>) {
        let mut untidy = false;
        let mut tidied_at = Instant::now().checked_sub(TIDY_EVERY);
        loop {
            let due = tidied_at.map_or(Duration::ZERO, |t| TIDY_EVERY.saturating_sub(t.elapsed()));
            let update = if untidy {
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
                    untidy = true;
                }
                Err(RecvTimeoutError::Timeout) => {
                    tidied_at = Some(Instant::now());
                    untidy = !self.tidy();
                }
                Err(RecvTimeoutError::Disconnected) => {
                    if let Some(saver) = self.saver.take() {
                        saver.finish(untidy.then(|| self.builder.tables()));
                    }
                    return;
                }
            }
        }
    }

    /// Does what could wait for a lull; `false` when some of it has to wait on.
    fn tidy(&mut self) -> bool {
        let began = Instant::now();
        if let Some(next) = self.builder.settle() {
            self.put_in_force(next, began);
        }
        self.metrics.sweep();
        let saver = self.saver.as_ref();
        saver.is_none_or(|saver| saver.save(self.builder.tables()))
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Loaded(tables) => {
                self.builder.load(*tables);
                self.from_store = true;
            }
            Update::Changed { revision, changes } => self.builder.apply(revision, changes),
        }
    }

    fn publish(&mut self) {
        let began = Instant::now();
        let next = self.builder.build();
        self.put_in_force(next, began);
    }

    fn put_in_force(&self, next: Arc<Snapshot>, began: Instant) {
        let revision = next.revision;
        let old: Arc<Snapshot> = self.current.swap(next);
        let problems = self.builder.problems();
        for p in &problems {
            tracing::warn!("not served as configured: {p}");
        }
        self.metrics.set_config_problems(problems.len() as u64);
        self.metrics.set_config_revision(revision);
        self.metrics.observe_snapshot_build(began.elapsed());
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
    }
}

/// The thread that writes the snapshot file.
struct Saver {
    rows: mpsc::Sender<Tables>,
    busy: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Saver {
    fn start(path: PathBuf, saved: Arc<AtomicI64>) -> std::io::Result<Self> {
        let (rows, inbox) = mpsc::channel::<Tables>();
        let busy = Arc::new(AtomicBool::new(false));
        let idle = busy.clone();
        let thread = thread::Builder::new()
            .name("snapshot-file".into())
            .spawn(move || {
                let mut next = inbox.recv().ok();
                while let Some(tables) = next {
                    let began = Instant::now();
                    match file::save(&path, &tables) {
                        Ok(()) => saved.store(tables.revision, Ordering::Release),
                        Err(e) => tracing::error!("the snapshot file cannot be written: {e}"),
                    }
                    // The last rows of all come whether this thread is busy or not.
                    next = match inbox.recv_timeout((began.elapsed() * REST).min(REST_MOST)) {
                        Ok(tables) => Some(tables),
                        Err(RecvTimeoutError::Timeout) => {
                            idle.store(false, Ordering::Release);
                            inbox.recv().ok()
                        }
                        Err(RecvTimeoutError::Disconnected) => None,
                    };
                }
            })?;
        Ok(Saver { rows, busy, thread })
    }

    /// Has the rows written; `false` while earlier ones are, or were a moment ago.
    fn save(&self, tables: &Tables) -> bool {
        if self.busy.swap(true, Ordering::AcqRel) {
            return false;
        }
        // The rows themselves are shared. An error means that the thread is gone, which panics alone could do.
        self.rows.send(tables.clone()).is_ok()
    }

    /// Ends the thread when everything is written, these rows last.
    fn finish(self, tables: Option<&Tables>) {
        if let Some(tables) = tables {
            let _ = self.rows.send(tables.clone());
        }
        drop(self.rows);
        let _ = self.thread.join();
    }
}
