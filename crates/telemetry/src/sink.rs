//! A file written by a thread of its own. Proxy threads append whole lines to bounded buffers and never
//! wait: not for the disk, not for the writer, not for one another.
//!
//! Every thread has a home buffer. It only *tries* the buffer's lock; when the writer happens to be swapping
//! that buffer, the line goes into the next one. A line that finds no room is dropped and counted. The writer
//! swaps each filled buffer against an empty one, holding the lock for the exchange of two pointers, so in
//! steady state nobody allocates.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::striped::{Padded, thread_index};

/// How long a line may lie in its buffer before the writer fetches it.
const TICK: Duration = Duration::from_millis(100);
/// A buffer this full wakes the writer before its tick.
const WAKE_AT: usize = 64 * 1024;
/// Buffers that a burst made larger than this are given back.
const KEEP_CAPACITY: usize = 4 * WAKE_AT;
/// Bytes one buffer may hold while the writer is held up.
pub(crate) const DEFAULT_CAPACITY: usize = 4 * 1024 * 1024;

/// How often a line goes round the buffers before it is given up. Locks are held for a copy of a few hundred
/// bytes, so finding every one taken twice means far more threads than processors.
const ROUNDS: usize = 2;

/// Where a sink writes.
pub(crate) trait Output: Write + Send + 'static {
    /// Opens the destination afresh, after log rotation has moved the file away. On failure the old one
    /// stays in use.
    fn reopen(&mut self) -> io::Result<()>;
}

/// What happened to a sink's lines. All counters only grow.
#[derive(Debug, Default)]
pub struct SinkStats {
    dropped_lines: AtomicU64,
    written_bytes: AtomicU64,
    write_errors: AtomicU64,
}

impl SinkStats {
    /// Lines lost because the buffers were full or the write failed.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped_lines.load(Ordering::Relaxed)
    }

    /// Bytes handed to the operating system.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// Writes and re-openings that failed.
    pub fn write_errors(&self) -> u64 {
        self.write_errors.load(Ordering::Relaxed)
    }
}

struct Shared {
    buffers: Box<[Padded<Mutex<Vec<u8>>>]>,
    capacity: usize,
    stats: Arc<SinkStats>,
    reopen: AtomicBool,
    stop: AtomicBool,
    /// Callers of [`Sink::flush`] to be told when everything appended before their call is written.
    waiting: Mutex<Vec<SyncSender<()>>>,
}

/// The appending end. Dropping it writes out what is buffered and ends the writer.
pub(crate) struct Sink {
    shared: Arc<Shared>,
    writer: Thread,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Sink")
            .field("stats", &self.shared.stats)
            .finish_non_exhaustive()
    }
}

impl Sink {
    /// Starts a writer for `output`, with `stripes` buffers of at most `capacity` bytes each.
    pub(crate) fn spawn(output: impl Output, stripes: usize, capacity: usize) -> io::Result<Self> {
        // At least two, so that a line always finds one the writer is not swapping.
        let buffers = (0..stripes.max(2).next_power_of_two())
            .map(|_| Padded(Mutex::new(Vec::with_capacity(WAKE_AT.min(capacity)))))
            .collect();
        let shared = Arc::new(Shared {
            buffers,
            capacity,
            stats: Arc::default(),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            waiting: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let handle = thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || run(&theirs, output))?;
        Ok(Self {
            shared,
            writer: handle.thread().clone(),
        })
    }

    /// Appends one line, which ends with a line feed. Returns whether it was accepted. Never blocks.
    pub(crate) fn append(&self, line: &[u8]) -> bool {
        let buffers = &self.shared.buffers;
        let home = thread_index();
        for step in 0..ROUNDS * buffers.len() {
            let buffer = &buffers[(home + step) & (buffers.len() - 1)].0;
            let mut buffer = match buffer.try_lock() {
                Ok(buffer) => buffer,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            let before = buffer.len();
            let after = before + line.len();
            if after > self.shared.capacity {
                break;
            }
            buffer.extend_from_slice(line);
            drop(buffer);
            // Only the line that crosses the mark wakes the writer, not each one after it.
            if before < WAKE_AT && after >= WAKE_AT {
                self.writer.unpark();
            }
            return true;
        }
        self.shared
            .stats
            .dropped_lines
            .fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Asks the writer to write what it has to the old file and to open the path again.
    pub(crate) fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.writer.unpark();
    }

    /// Waits until everything appended before is written, at most `timeout`. Returns whether it was.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let (done, is_done) = mpsc::sync_channel(1);
        lock(&self.shared.waiting).push(done);
        self.writer.unpark();
        is_done.recv_timeout(timeout).is_ok()
    }

    pub(crate) fn stats(&self) -> &Arc<SinkStats> {
        &self.shared.stats
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // The request to flush goes in before the request to stop: the writer looks at them in the other
        // order, so it cannot leave with this one unanswered.
        let (done, is_done) = mpsc::sync_channel(1);
        lock(&self.shared.waiting).push(done);
        self.shared.stop.store(true, Ordering::Release);
        self.writer.unpark();
        // A writer stuck on a full pipe must not hold up the end of the process for ever.
        let _ = is_done.recv_timeout(Duration::from_secs(2));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A buffer of bytes or a list of channels has no invariant that a panic could have broken.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(shared: &Shared, mut output: impl Output) {
    let mut spare = Vec::with_capacity(WAKE_AT);
    loop {
        // These are read before the buffers, so that lines appended before the request are covered by it.
        let stopping = shared.stop.load(Ordering::Acquire);
        let reopen = shared.reopen.swap(false, Ordering::AcqRel);
        let waiting = std::mem::take(&mut *lock(&shared.waiting));

        let mut wrote = false;
        for buffer in &shared.buffers {
            {
                let mut buffer = lock(&buffer.0);
                if buffer.is_empty() {
                    continue;
                }
                std::mem::swap(&mut *buffer, &mut spare);
            }
            write_batch(shared, &mut output, &spare);
            wrote = true;
            spare.clear();
            if spare.capacity() > KEEP_CAPACITY {
                spare = Vec::with_capacity(WAKE_AT);
            }
        }
        if wrote && output.flush().is_err() {
            shared.stats.write_errors.fetch_add(1, Ordering::Relaxed);
        }
        if reopen && let Err(error) = output.reopen() {
            shared.stats.write_errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "cannot reopen a log file; writing on to the old one");
        }
        for done in waiting {
            let _ = done.try_send(());
        }
        if stopping {
            return;
        }
        thread::park_timeout(TICK);
    }
}

fn write_batch(shared: &Shared, output: &mut impl Output, batch: &[u8]) {
    match output.write_all(batch) {
        Ok(()) => {
            shared
                .stats
                .written_bytes
                .fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
        Err(error) => {
            let lines = batch.iter().filter(|&&byte| byte == b'\n').count();
            shared
                .stats
                .dropped_lines
                .fetch_add(lines as u64, Ordering::Relaxed);
            // Said once per run of failures would need state; once at the first is enough, the metric
            // tells the rest.
            if shared.stats.write_errors.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::error!(%error, "cannot write to a log; its lines are dropped and counted");
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender};

    /// Writes into memory; each write first waits for a permit when `gate` is there.
    struct Memory {
        bytes: Arc<Mutex<Vec<u8>>>,
        gate: Option<Receiver<()>>,
        entered: Sender<()>,
        fail: bool,
    }

    impl Write for Memory {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let _ = self.entered.send(());
            if let Some(gate) = &self.gate {
                let _ = gate.recv();
            }
            if self.fail {
                return Err(io::Error::other("disk full"));
            }
            lock(&self.bytes).extend_from_slice(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output for Memory {
        fn reopen(&mut self) -> io::Result<()> {
            Err(io::Error::other("gone"))
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    fn memory(fail: bool) -> (Memory, Arc<Mutex<Vec<u8>>>) {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let (entered, _) = mpsc::channel();
        (
            Memory {
                bytes: Arc::clone(&bytes),
                gate: None,
                entered,
                fail,
            },
            bytes,
        )
    }

    #[test]
    fn every_line_of_every_thread_arrives_whole() {
        let (output, bytes) = memory(false);
        let sink = Sink::spawn(output, 4, DEFAULT_CAPACITY).unwrap();
        thread::scope(|scope| {
            for worker in 0..6 {
                let sink = &sink;
                scope.spawn(move || {
                    for line in 0..500 {
                        assert!(append_retrying(
                            sink,
                            format!("{worker}-{line}\n").as_bytes()
                        ));
                    }
                });
            }
        });
        assert!(sink.flush(LONG));
        let text = String::from_utf8(lock(&bytes).clone()).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3000);
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), 3000);
        assert_eq!(sink.stats().written_bytes(), text.len() as u64);
    }

    /// With more threads than buffers all locks may be taken at one moment, and the line is rightly dropped.
    fn append_retrying(sink: &Sink, line: &[u8]) -> bool {
        (0..1_000_000).any(|_| sink.append(line))
    }

    #[test]
    fn a_stuck_destination_makes_lines_drop_but_never_blocks_the_caller() {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let (open_gate, gate) = mpsc::channel();
        let (entered, has_entered) = mpsc::channel();
        let output = Memory {
            bytes: Arc::clone(&bytes),
            gate: Some(gate),
            entered,
            fail: false,
        };
        let sink = Sink::spawn(output, 2, 1000).unwrap();
        let line = [b'x'; 99].into_iter().chain([b'\n']).collect::<Vec<u8>>();

        let mut accepted = 0_u64;
        assert!(sink.append(&line));
        accepted += 1;
        // The writer is now inside its write and stays there.
        has_entered.recv().unwrap();
        let mut dropped = 0_u64;
        for _ in 0..100 {
            if sink.append(&line) {
                accepted += 1
            } else {
                dropped += 1
            }
        }
        assert_eq!(
            accepted, 11,
            "one being written, ten waiting in a buffer of 1000 bytes"
        );
        assert_eq!(sink.stats().dropped_lines(), dropped);

        drop(open_gate);
        assert!(sink.flush(LONG));
        assert_eq!(lock(&bytes).len() as u64, accepted * 100);
    }

    #[test]
    fn lines_of_a_failed_write_are_counted_as_dropped() {
        let (output, _) = memory(true);
        let sink = Sink::spawn(output, 1, DEFAULT_CAPACITY).unwrap();
        assert!(append_retrying(&sink, b"one\n"));
        assert!(sink.flush(LONG));
        assert_eq!(sink.stats().dropped_lines(), 1);
        assert_eq!(sink.stats().write_errors(), 1);
        assert_eq!(sink.stats().written_bytes(), 0);
    }

    #[test]
    fn a_failed_reopening_keeps_the_old_destination() {
        let (output, bytes) = memory(false);
        let sink = Sink::spawn(output, 1, DEFAULT_CAPACITY).unwrap();
        sink.reopen();
        assert!(sink.flush(LONG));
        assert!(append_retrying(&sink, b"still here\n"));
        assert!(sink.flush(LONG));
        assert_eq!(&*lock(&bytes), b"still here\n");
        assert_eq!(sink.stats().write_errors(), 1);
    }

    #[test]
    fn dropping_the_sink_writes_what_is_buffered() {
        let (output, bytes) = memory(false);
        let sink = Sink::spawn(output, 1, DEFAULT_CAPACITY).unwrap();
        assert!(append_retrying(&sink, b"last words\n"));
        drop(sink);
        assert_eq!(&*lock(&bytes), b"last words\n");
    }
}
