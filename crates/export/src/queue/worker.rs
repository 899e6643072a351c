//! The task that empties a queue.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use silverback_plugin::env::Task;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{Deliver, Inner, Queued};

/// A batch does not wait for others when less than this is left to wait.
const LEAST_WAIT: Duration = Duration::from_millis(50);

/// Empties a queue until nobody fills it any more, or the node stops; `stopping` is over then.
pub(super) async fn run<D: Deliver>(queue: Arc<Inner<D>>, stopping: Task) {
    let (tell, told) = watch::channel(false);
    let work = work(queue, told);
    tokio::pin!(work);
    tokio::select! {
        () = &mut work => return,
        () = stopping => tell.send_replace(true),
    };
    work.await;
}

/// Whether the node stops.
type Stopping = watch::Receiver<bool>;

async fn work<D: Deliver>(queue: Arc<Inner<D>>, mut stopping: Stopping) {
    let mut by_themselves = JoinSet::new();
    loop {
        if queue.entries.is_empty() {
            if queue.closed.load(Ordering::Acquire) || *stopping.borrow() {
                break;
            }
            tokio::select! {
                () = queue.news.notified() => {}
                () = stopped(&mut stopping) => {}
            }
            continue;
        }
        if !queue.handling().terms.unlimited {
            let most = gather(&queue, &mut stopping).await;
            send(&queue, queue.pop_batch(most), &mut stopping).await;
            continue;
        }
        while by_themselves.try_join_next().is_some() {}
        // Those that are on their way are bounded as those that wait.
        while by_themselves.len() as i64 >= queue.max_entries.load(Ordering::Relaxed) {
            by_themselves.join_next().await;
        }
        if let Some(entry) = queue.pop() {
            let (queue, mut stopping) = (queue.clone(), stopping.clone());
            by_themselves.spawn(async move {
                send(&queue, vec![entry], &mut stopping).await;
            });
        }
    }
    while by_themselves.join_next().await.is_some() {}
    say_what_is_unsaid(&queue);
}

/// Waits until a batch is full or has waited long enough. Answers how many entries a batch may have.
async fn gather<D: Deliver>(queue: &Inner<D>, stopping: &mut Stopping) -> usize {
    let begun = Instant::now();
    loop {
        let terms = &queue.handling().terms;
        let full = queue.count.load(Ordering::Acquire) >= terms.max_batch_size;
        let left = terms.max_coalescing_delay.saturating_sub(begun.elapsed());
        if full || left < LEAST_WAIT || *stopping.borrow() {
            return usize::try_from(terms.max_batch_size).unwrap_or(1);
        }
        tokio::select! {
            _ = timeout(left, queue.news.notified()) => {}
            () = stopped(stopping) => {}
        }
    }
}

/// Sends a batch, again if need be; each time by the latest configuration.
async fn send<D: Deliver>(queue: &Inner<D>, batch: Vec<D::Entry>, stopping: &mut Stopping) {
    if batch.is_empty() {
        return;
    }
    let begun = Instant::now();
    let mut doubled = 1_u32;
    loop {
        let handling = queue.handling();
        let terms = &handling.terms;
        let sent = AssertUnwindSafe(handling.deliver.deliver(&batch)).catch_unwind();
        let Err(why) = sent.await.unwrap_or_else(|_| Err("panic".to_owned())) else {
            return;
        };
        let last = terms
            .max_retry_time
            .is_none_or(|most| begun.elapsed() > most);
        if last || *stopping.borrow() {
            lose(queue, &batch, &why);
            return;
        }
        if let Some(times) = queue.failed.due(1) {
            tracing::warn!(
                queue = queue.label,
                times,
                "entries could not be sent and are tried again: {why}"
            );
        }
        let pause = terms.initial_retry_delay.saturating_mul(doubled);
        tokio::select! {
            () = sleep(pause.min(terms.max_retry_delay)) => {}
            () = stopped(stopping) => {}
        }
        doubled = doubled.saturating_mul(2);
    }
}

fn lose<D: Deliver>(queue: &Inner<D>, batch: &[impl Queued], why: &str) {
    let n = batch.len() as u64;
    queue.losses.fetch_add(n, Ordering::Relaxed);
    if let Some(n) = queue.lost.due(n) {
        tracing::error!(
            queue = queue.label,
            "{n} entries could not be sent and were lost: {why}"
        );
    }
}

fn say_what_is_unsaid<D: Deliver>(queue: &Inner<D>) {
    let unsaid = queue.lost.rest() + queue.dropped.rest() + queue.too_long.rest();
    if unsaid > 0 {
        tracing::error!(queue = queue.label, "{unsaid} more entries were lost");
    }
}

/// Over when the node stops; never when whoever would say so is gone.
async fn stopped(stopping: &mut Stopping) {
    if stopping.wait_for(|s| *s).await.is_err() {
        std::future::pending::<()>().await;
    }
}
