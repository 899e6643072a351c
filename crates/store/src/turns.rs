//! Whose turn it is: the writes that wait, and the groups that are made of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::write::{Refusal, Step, Writer, Written};

/// Most writes in a transaction: enough to make the flush cheap, few enough that carrying them out again is.
const GROUP: usize = 64;
/// How long to wait for those who have just had their answers and are likely to write again.
const GATHER: Duration = Duration::from_millis(1);
/// After how many groups to try that again when it was in vain.
const PATIENCE: u32 = 32;

pub(crate) type Reply = Result<Written, Refusal>;

/// A write that waits.
pub(crate) struct Job {
    pub(crate) steps: Vec<Step>,
    /// On whose behalf.
    pub(crate) actor: Option<Arc<str>>,
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// The writes that wait, and whether somebody carries them out.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) busy: bool,
    /// How many jobs are waited for before the next group; 0 when nobody waits.
    pub(crate) wanted: usize,
}

/// One group after the other, until no write waits.
pub(crate) struct Turns {
    writer: Writer,
    end: End,
    /// How many writes the last group had.
    size: usize,
    /// How many groups are still made without waiting for more writes.
    in_vain: u32,
}

impl Turns {
    pub(crate) fn new(writer: Writer) -> Self {
        Turns {
            end: End {
                queue: writer.queue.clone(),
                over: false,
            },
            writer,
            size: 0,
            in_vain: 0,
        }
    }

    pub(crate) async fn run(mut self) {
        while self.next().await {
            self.gather().await;
        }
    }

    /// Carries out the next group. Whether there was one.
    async fn next(&mut self) -> bool {
        let group: Vec<Job> = {
            let mut q = lock(&self.writer.queue);
            let n = q.jobs.len().min(GROUP);
            if n == 0 {
                q.busy = false;
                self.end.over = true;
                return false;
            }
            q.jobs.drain(..n).collect()
        };
        self.size = group.len();
        self.writer.carry_out(group).await;
        true
    }

    /// Waits a moment for those who were just answered: clients that wait for each answer before they go on come in two halves otherwise,
    /// each waiting for the other's commit.
    async fn gather(&mut self) {
        let Writer {
            queue, gathered, ..
        } = &self.writer;
        let enough = {
            let mut q = lock(queue);
            let wanted = (self.size + q.jobs.len()).min(GROUP);
            if wanted <= 1 || self.in_vain > 0 {
                self.in_vain = self.in_vain.saturating_sub(1);
                return;
            }
            q.wanted = wanted;
            q.jobs.len() >= wanted
        };
        let came = enough
            || tokio::time::timeout(GATHER, gathered.notified())
                .await
                .is_ok();
        lock(queue).wanted = 0;
        self.in_vain = if came { 0 } else { PATIENCE };
    }
}

/// When turns end in the middle (their runtime stops), those who wait are told, and the next write begins anew.
struct End {
    queue: Arc<Mutex<Queue>>,
    /// Whether nothing was left to do: what is in the queue by now is another's.
    over: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.over {
            let mut q = lock(&self.queue);
            q.jobs.clear();
            q.busy = false;
        }
    }
}

pub(crate) fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(queue: &Mutex<Queue>) -> oneshot::Receiver<Reply> {
        let (reply, answer) = oneshot::channel();
        let mut q = lock(queue);
        q.busy = true;
        q.jobs.push_back(Job {
            steps: Vec::new(),
            actor: None,
            reply,
        });
        answer
    }

    #[test]
    fn turns_that_end_take_nobody_elses_writes_with_them() {
        let queue = Arc::new(Mutex::new(Queue::default()));
        let end = |over| End {
            queue: queue.clone(),
            over,
        };
        // The next began between the last look of these and their end.
        let mut answer = asked(&queue);
        drop(end(true));
        assert!(lock(&queue).busy);
        assert_eq!(lock(&queue).jobs.len(), 1);
        assert!(matches!(
            answer.try_recv(),
            Err(oneshot::error::TryRecvError::Empty)
        ));

        drop(end(false));
        assert!(!lock(&queue).busy);
        assert!(matches!(
            answer.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        ));
    }
}
