#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use silverback_plugin::exchange::FakeServices;
use silverback_plugin::{InstanceInfo, PluginEnv};
use tokio::sync::{Barrier, Semaphore, mpsc};

use super::{Deliver, Queue, Terms};

/// Tells of each batch when it comes, then does what it is told to.
struct Receiver {
    came: mpsc::UnboundedSender<Vec<String>>,
    failures: AtomicU32,
    /// A batch goes through with a permit.
    gate: Option<Arc<Semaphore>>,
    together: Option<Barrier>,
}

impl Deliver for Receiver {
    type Entry = String;

    async fn deliver(&self, batch: &[String]) -> Result<(), String> {
        self.came.send(batch.to_vec()).unwrap();
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        if let Some(barrier) = &self.together {
            barrier.wait().await;
        }
        let left = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match left {
            Ok(_) => Err("as told".to_owned()),
            Err(_) => Ok(()),
        }
    }
}

type Came = mpsc::UnboundedReceiver<Vec<String>>;

fn receiver() -> (Receiver, Came) {
    let (came, receive) = mpsc::unbounded_channel();
    let receiver = Receiver {
        came,
        failures: AtomicU32::new(0),
        gate: None,
        together: None,
    };
    (receiver, receive)
}

/// Batches of up to three that wait for an hour.
fn terms() -> Terms {
    Terms {
        max_batch_size: 3,
        max_coalescing_delay: Duration::from_secs(3600),
        max_retry_time: Some(Duration::from_secs(60)),
        initial_retry_delay: Duration::from_millis(1),
        max_retry_delay: Duration::from_millis(4),
        ..Terms::once(3)
    }
}

fn open(services: &FakeServices, terms: Terms, receiver: Receiver) -> Arc<Queue<Receiver>> {
    let env = PluginEnv {
        instance: &InstanceInfo::default(),
        services,
    };
    Queue::open(&env, "q", "a test", terms, receiver)
}

fn push(queue: &Queue<Receiver>, entries: impl IntoIterator<Item = u32>) {
    for n in entries {
        queue.push(n.to_string());
    }
}

#[tokio::test]
async fn a_full_batch_does_not_wait() {
    let (receiver, mut came) = receiver();
    let queue = open(&FakeServices::default(), terms(), receiver);
    push(&queue, 1..=7);
    assert_eq!(came.recv().await.unwrap(), ["1", "2", "3"]);
    assert_eq!(came.recv().await.unwrap(), ["4", "5", "6"]);
    push(&queue, 8..=9);
    assert_eq!(came.recv().await.unwrap(), ["7", "8", "9"]);
    assert!(queue.is_empty());
}

#[tokio::test]
async fn a_batch_that_is_not_full_goes_when_it_has_waited() {
    let (receiver, mut came) = receiver();
    let terms = Terms {
        max_coalescing_delay: Duration::from_millis(60),
        ..terms()
    };
    let queue = open(&FakeServices::default(), terms, receiver);
    push(&queue, 1..=2);
    assert_eq!(came.recv().await.unwrap(), ["1", "2"]);
}

#[tokio::test]
async fn a_queue_without_room_loses_the_oldest() {
    let (mut receiver, mut came) = receiver();
    let gate = Arc::new(Semaphore::new(0));
    receiver.gate = Some(gate.clone());
    let terms = Terms {
        max_entries: 2,
        ..Terms::once(1)
    };
    let queue = open(&FakeServices::default(), terms, receiver);
    push(&queue, [1]);
    assert_eq!(came.recv().await.unwrap(), ["1"]);
    push(&queue, 2..=5);
    assert_eq!((queue.len(), queue.losses()), (2, 2));
    gate.add_permits(3);
    assert_eq!(came.recv().await.unwrap(), ["4"]);
    assert_eq!(came.recv().await.unwrap(), ["5"]);
}

#[tokio::test]
async fn bytes_are_limited_as_entries_are() {
    let (mut receiver, mut came) = receiver();
    let gate = Arc::new(Semaphore::new(0));
    receiver.gate = Some(gate.clone());
    let terms = Terms {
        max_bytes: Some(4),
        ..Terms::once(1)
    };
    let queue = open(&FakeServices::default(), terms, receiver);
    push(&queue, [1]);
    assert_eq!(came.recv().await.unwrap(), ["1"]);
    push(&queue, [22, 33, 12345, 444]);
    assert_eq!((queue.len(), queue.losses()), (1, 3));
    gate.add_permits(2);
    assert_eq!(came.recv().await.unwrap(), ["444"]);
}

#[tokio::test]
async fn a_batch_that_fails_comes_again_until_it_is_taken() {
    let (receiver, mut came) = receiver();
    receiver.failures.store(3, Ordering::SeqCst);
    let queue = open(&FakeServices::default(), terms(), receiver);
    push(&queue, 1..=6);
    for _ in 0..4 {
        assert_eq!(came.recv().await.unwrap(), ["1", "2", "3"]);
    }
    assert_eq!(came.recv().await.unwrap(), ["4", "5", "6"]);
    assert_eq!(queue.losses(), 0);
}

#[tokio::test]
async fn a_batch_is_given_up_after_its_time() {
    let (receiver, mut came) = receiver();
    receiver.failures.store(2, Ordering::SeqCst);
    let terms = Terms {
        max_retry_time: Some(Duration::ZERO),
        ..terms()
    };
    let queue = open(&FakeServices::default(), terms, receiver);
    push(&queue, 1..=9);
    assert_eq!(came.recv().await.unwrap(), ["1", "2", "3"]);
    assert_eq!(came.recv().await.unwrap(), ["4", "5", "6"]);
    assert_eq!(came.recv().await.unwrap(), ["7", "8", "9"]);
    assert_eq!(queue.losses(), 6);
}

#[tokio::test]
async fn a_queue_that_nobody_holds_is_still_emptied() {
    let (receiver, mut came) = receiver();
    let terms = Terms {
        max_coalescing_delay: Duration::from_millis(60),
        ..terms()
    };
    let queue = open(&FakeServices::default(), terms, receiver);
    push(&queue, 1..=4);
    drop(queue);
    assert_eq!(came.recv().await.unwrap(), ["1", "2", "3"]);
    assert_eq!(came.recv().await.unwrap(), ["4"]);
    assert_eq!(came.recv().await, None, "the task has ended");
}

#[tokio::test]
async fn what_waits_is_sent_when_the_node_stops() {
    let services = FakeServices::default();
    let (receiver, mut came) = receiver();
    let queue = open(&services, terms(), receiver);
    push(&queue, 1..=2);
    services.stop();
    assert_eq!(came.recv().await.unwrap(), ["1", "2"]);
}

#[tokio::test]
async fn what_fails_while_the_node_stops_is_not_tried_for_long() {
    let services = FakeServices::default();
    let (receiver, mut came) = receiver();
    receiver.failures.store(u32::MAX, Ordering::SeqCst);
    let terms = Terms {
        initial_retry_delay: Duration::from_secs(3600),
        max_retry_delay: Duration::from_secs(3600),
        ..terms()
    };
    let queue = open(&services, terms, receiver);
    push(&queue, 1..=3);
    assert_eq!(came.recv().await.unwrap(), ["1", "2", "3"]);
    services.stop();
    assert_eq!(came.recv().await.unwrap(), ["1", "2", "3"]);
    drop(services);
    let inner = Arc::downgrade(&queue.inner);
    drop(queue);
    while inner.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn configurations_with_the_same_name_share_a_queue_under_the_latest_terms() {
    let services = FakeServices::default();
    let (first, mut at_first) = receiver();
    let (second, mut at_second) = receiver();
    let old = open(&services, terms(), first);
    push(&old, 1..=2);
    let once = Terms {
        max_batch_size: 2,
        ..terms()
    };
    let new = open(&services, once, second);
    assert!(Arc::ptr_eq(&old, &new));
    drop(old);
    push(&new, 3..=4);
    assert_eq!(at_second.recv().await.unwrap(), ["1", "2"]);
    assert_eq!(at_second.recv().await.unwrap(), ["3", "4"]);
    assert_eq!(at_first.recv().await, None);
}

#[tokio::test]
async fn without_a_limit_each_entry_goes_by_itself_and_none_waits_for_another() {
    let (mut receiver, mut came) = receiver();
    receiver.together = Some(Barrier::new(3));
    let terms = Terms {
        unlimited: true,
        ..terms()
    };
    let queue = open(&FakeServices::default(), terms, receiver);
    push(&queue, 1..=3);
    let mut all = Vec::new();
    for _ in 0..3 {
        all.extend(came.recv().await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, ["1", "2", "3"]);
}

#[test]
fn threads_that_push_at_the_same_time_lose_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let _in_runtime = runtime.enter();
    let (receiver, mut came) = receiver();
    let terms = Terms {
        max_batch_size: 7,
        max_coalescing_delay: Duration::ZERO,
        ..terms()
    };
    let queue = open(&FakeServices::default(), terms, receiver);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let queue = &queue;
            scope.spawn(move || push(queue, (0..1000).map(|n| thread * 1000 + n)));
        }
    });
    let mut all: Vec<u32> = Vec::new();
    while all.len() < 4000 {
        let batch = came.blocking_recv().unwrap();
        assert!((1..=7).contains(&batch.len()));
        all.extend(batch.iter().map(|n| n.parse::<u32>().unwrap()));
    }
    all.sort_unstable();
    assert_eq!(all, (0..4000).collect::<Vec<_>>());
    assert_eq!(queue.losses(), 0);
    assert!(queue.is_empty());
}
