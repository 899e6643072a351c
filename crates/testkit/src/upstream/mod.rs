//! Mock upstreams on Tokio: they echo, follow a script, misbehave on purpose, and count what really reached them.
//!
//! HTTP/1.1 is spoken by hand ([`crate::h1`]): a test must see the names as the gateway wrote them, and a server library would
//! neither break off in the middle of a header nor reset a connection.

mod answer;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::Error;
use crate::echo;
use crate::h1::{self, Headers, Parsed, Request};
use crate::websocket;

pub use answer::Answer;

/// A bound on what an upstream gets done: requests wait in one queue and leave it at this rate. The work of a request whose
/// client has given up is done all the same, which is what makes retry storms last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// Requests per second.
    pub per_second: f64,
    /// How many may wait; further ones are answered 503 at once.
    pub queue: usize,
}

/// A mock upstream on a port of 127.0.0.1; gone when dropped.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: Option<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    usual: Mutex<Answer>,
    by_path: Mutex<Vec<(String, Answer)>>,
    script: Mutex<VecDeque<Answer>>,
    seen: Mutex<Vec<Request>>,
    arrived: Notify,
    requests: AtomicU64,
    connections: AtomicU64,
    open: AtomicUsize,
    capacity: Mutex<Option<Capacity>>,
    waiting: Mutex<VecDeque<oneshot::Sender<()>>>,
    queued: Notify,
}

/// Requests kept for [`Upstream::seen`]; those of a load test are only counted.
const KEPT: usize = 10_000;

impl Upstream {
    /// Starts one on a free port; it echoes until told otherwise. Needs a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot listen.
    pub async fn start() -> Result<Self, Error> {
        Self::named("upstream").await
    }

    /// As [`Upstream::start`], with a name that its echo tells (`server`), to tell targets apart.
    ///
    /// # Errors
    /// As [`Upstream::start`].
    pub async fn named(name: &str) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            usual: Mutex::new(Answer::echo()),
            by_path: Mutex::default(),
            script: Mutex::default(),
            seen: Mutex::default(),
            arrived: Notify::new(),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            capacity: Mutex::default(),
            waiting: Mutex::default(),
            queued: Notify::new(),
        });
        let mut upstream = Self {
            addr: (Ipv4Addr::LOCALHOST, 0).into(),
            shared,
            task: None,
        };
        upstream.restart().await?;
        Ok(upstream)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Answers every request like this from now on, unless the script or the path says otherwise.
    pub fn answer(&self, answer: Answer) {
        *lock(&self.shared.usual) = answer;
    }

    /// Answers requests whose path starts with `prefix` like this; the latest rule that matches counts.
    pub fn answer_path(&self, prefix: &str, answer: Answer) {
        lock(&self.shared.by_path).push((prefix.to_owned(), answer));
    }

    /// Answers the next requests like these, one each; afterwards as before. Comes before every other rule.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.shared.script).extend(answers);
    }

    /// Fails the next `count` requests with `answer`.
    pub fn fail(&self, count: usize, answer: &Answer) {
        self.script(std::iter::repeat_n(answer.clone(), count));
    }

    /// Bounds what it gets done from now on; `None` lifts the bound for requests that come later.
    pub fn set_capacity(&self, capacity: Option<Capacity>) {
        *lock(&self.shared.capacity) = capacity;
        self.shared.queued.notify_one();
    }

    /// How many requests wait for capacity, those that were given up included.
    pub fn queue_length(&self) -> usize {
        lock(&self.shared.waiting).len()
    }

    /// How many requests have reached it, whatever became of them.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// The requests so far, in order (the first 10,000).
    pub fn seen(&self) -> Vec<Request> {
        lock(&self.shared.seen).clone()
    }

    /// Forgets and zeroes what was seen and counted.
    pub fn forget(&self) {
        lock(&self.shared.seen).clear();
        self.shared.requests.store(0, Ordering::SeqCst);
        self.shared.connections.store(0, Ordering::SeqCst);
    }

    /// Waits until at least `count` requests have reached it.
    pub async fn wait_for(&self, count: u64) {
        loop {
            let arrived = self.shared.arrived.notified();
            if self.requests() >= count {
                return;
            }
            arrived.await;
        }
    }

    /// Closes its port and all connections: it refuses connections until [`Upstream::restart`].
    pub async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            while !task.is_finished() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Listens again, on the same port.
    ///
    /// # Errors
    /// [`Error::Io`] when somebody else has taken the port.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.stop().await;
        let what = || format!("an upstream cannot listen on {}", self.addr);
        let listener = TcpListener::bind(self.addr)
            .await
            .map_err(Error::io(what()))?;
        self.addr = listener.local_addr().map_err(Error::io(what()))?;
        let shared = Arc::clone(&self.shared);
        self.task = Some(tokio::spawn(accept(listener, shared)).abort_handle());
        Ok(())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Accepts until aborted; the connections are its own and end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut tasks = JoinSet::new();
    tasks.spawn(work_off(Arc::clone(&shared)));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(connection(stream, Arc::clone(&shared)));
            }
            Some(_ended) = tasks.join_next() => {}
        }
    }
}

/// Lets queued requests go at the rate of the capacity.
async fn work_off(shared: Arc<Shared>) {
    let mut next = Instant::now();
    loop {
        let queued = shared.queued.notified();
        if lock(&shared.waiting).is_empty() {
            queued.await;
            next = next.max(Instant::now());
            continue;
        }
        let rate = lock(&shared.capacity).map(|c| c.per_second);
        if let Some(rate) = rate {
            next += Duration::from_secs_f64(1.0 / rate.max(0.001));
            tokio::time::sleep_until(next).await;
        }
        let done = lock(&shared.waiting).pop_front();
        if let Some(done) = done {
            // Nobody waits any more when the connection is gone; its turn was used up all the same.
            let _given_up = done.send(());
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    struct Open<'a>(&'a AtomicUsize);
    impl Drop for Open<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    shared.open.fetch_add(1, Ordering::SeqCst);
    let _open = Open(&shared.open);
    // What the client does to the connection is its affair; a test looks at what it got.
    let _ended = serve(stream, &shared).await;
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    loop {
        let Some(request) = next_request(&mut stream, &mut received).await? else {
            return Ok(());
        };
        let answer = shared.take_answer(&request);
        shared.record(request.clone());
        if !shared.wait_for_capacity().await {
            let busy = echo::encode(503, &Headers::default(), b"", &request.method, false);
            stream.write_all(&busy).await?;
            continue;
        }
        tokio::time::sleep(answer.wait()).await;
        if answer.is_plain_echo() && websocket::is_upgrade(&request) {
            return websocket::serve(&mut stream, &mut received, &request).await;
        }
        if !answer.send(&mut stream, &request, &shared.name).await? {
            return Ok(());
        }
    }
}

/// Reads one request; `None` when the client has closed or sends what is none.
async fn next_request(
    stream: &mut TcpStream,
    received: &mut Vec<u8>,
) -> std::io::Result<Option<Request>> {
    let mut told_to_continue = false;
    loop {
        // A TLS handshake, say, would never become a request.
        if received
            .first()
            .is_some_and(|byte| !byte.is_ascii_graphic())
        {
            return Ok(None);
        }
        match h1::request(received) {
            Parsed::Complete(request, length) => {
                received.drain(..length);
                return Ok(Some(request));
            }
            Parsed::Invalid(_) => return Ok(None),
            Parsed::Partial => {}
        }
        if !told_to_continue
            && let Parsed::Complete(head, _) = h1::request_head(received)
            && head
                .headers
                .get("expect")
                .is_some_and(|v| v.eq_ignore_ascii_case("100-continue"))
        {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            told_to_continue = true;
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
}

impl Shared {
    fn take_answer(&self, request: &Request) -> Answer {
        if let Some(answer) = lock(&self.script).pop_front() {
            return answer;
        }
        let by_path = lock(&self.by_path);
        let rule = by_path
            .iter()
            .rev()
            .find(|(prefix, _)| request.target.starts_with(prefix.as_str()));
        rule.map_or_else(|| lock(&self.usual).clone(), |(_, answer)| answer.clone())
    }

    fn record(&self, request: Request) {
        {
            let mut seen = lock(&self.seen);
            if seen.len() < KEPT {
                seen.push(request);
            }
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.arrived.notify_waiters();
    }

    /// Waits for its turn; `false` when the queue is full.
    async fn wait_for_capacity(&self) -> bool {
        let turn = {
            let Some(capacity) = *lock(&self.capacity) else {
                return true;
            };
            let mut waiting = lock(&self.waiting);
            if waiting.len() >= capacity.queue {
                return false;
            }
            let (done, turn) = oneshot::channel();
            waiting.push_back(done);
            turn
        };
        self.queued.notify_one();
        turn.await.is_ok()
    }
}

/// A test that panicked with a lock held has failed already; the others still want an answer.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::client::{Client, exchange};
    use crate::h1::Response;

    async fn get(addr: SocketAddr) -> Result<Response, Error> {
        tokio::task::spawn_blocking(move || Client::new(addr).get("/x"))
            .await
            .unwrap()
    }

    async fn raw(addr: SocketAddr) -> String {
        let exchanged =
            tokio::task::spawn_blocking(move || exchange(addr, b"GET /x HTTP/1.1\r\n\r\n"))
                .await
                .unwrap();
        String::from_utf8(exchanged.unwrap().bytes).unwrap()
    }

    #[tokio::test]
    async fn it_echoes_and_remembers_what_it_saw() {
        let upstream = Upstream::named("one").await.unwrap();
        let answer = get(upstream.addr()).await.unwrap().json();
        assert_eq!(
            (answer["server"].as_str(), answer["path"].as_str()),
            (Some("one"), Some("/x"))
        );
        assert_eq!((upstream.requests(), upstream.connections()), (1, 1));
        assert_eq!(upstream.seen()[0].target, "/x");
    }

    #[tokio::test]
    async fn the_script_comes_before_the_path_and_the_path_before_the_usual_answer() {
        let upstream = Upstream::start().await.unwrap();
        upstream.answer(Answer::status(204));
        upstream.answer_path("/x", Answer::status(201));
        upstream.fail(2, &Answer::status(503).header("Retry-After", "1"));
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(get(upstream.addr()).await.unwrap().status);
        }
        assert_eq!(statuses, [503, 503, 201]);
    }

    #[tokio::test]
    async fn it_breaks_off_where_it_is_told_to() {
        let upstream = Upstream::start().await.unwrap();
        upstream.script([
            Answer::close_before_header(),
            Answer::status(200).body("abc").then_close_after_header(),
            Answer::status(200).then_close_after(5),
            Answer::raw("nonsense"),
            Answer::slow_body("abc", 2, Duration::ZERO).then_close_after_header(),
            Answer::slow_body("abc", 2, Duration::ZERO).then_close_after(50),
        ]);
        assert_eq!(raw(upstream.addr()).await, "");
        assert!(raw(upstream.addr()).await.ends_with("\r\n\r\n"));
        assert_eq!(raw(upstream.addr()).await, "HTTP/");
        assert_eq!(raw(upstream.addr()).await, "nonsense");
        assert!(raw(upstream.addr()).await.ends_with("chunked\r\n\r\n"));
        assert!(raw(upstream.addr()).await.ends_with("\r\n\r\n3\r\n"));
    }

    #[tokio::test]
    async fn a_reset_is_seen_as_a_reset() {
        let upstream = Upstream::start().await.unwrap();
        upstream.answer(Answer::reset());
        let Err(Error::Io { source, .. }) = get(upstream.addr()).await else {
            panic!("it answered")
        };
        assert_eq!(source.kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_slow_body_arrives_whole() {
        let upstream = Upstream::start().await.unwrap();
        upstream.answer(Answer::slow_body("ab", 3, Duration::from_millis(1)));
        assert_eq!(get(upstream.addr()).await.unwrap().text(), "ababab");
    }

    #[tokio::test]
    async fn a_stopped_upstream_refuses_and_comes_back_on_its_port() {
        let mut upstream = Upstream::start().await.unwrap();
        let addr = upstream.addr();
        upstream.stop().await;
        assert!(get(addr).await.is_err());
        upstream.restart().await.unwrap();
        assert_eq!(get(addr).await.unwrap().status, 200);
    }

    #[tokio::test]
    async fn work_of_abandoned_requests_is_done_before_that_of_later_ones() {
        let upstream = Upstream::start().await.unwrap();
        upstream.set_capacity(Some(Capacity {
            per_second: 20.0,
            queue: 3,
        }));
        let start = Instant::now();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(upstream.addr()).await.unwrap();
            stream
                .write_all(b"GET /gone HTTP/1.1\r\n\r\n")
                .await
                .unwrap();
        }
        upstream.wait_for(2).await;
        assert_eq!(get(upstream.addr()).await.unwrap().status, 200);
        assert!(
            start.elapsed() >= Duration::from_millis(145),
            "{:?}",
            start.elapsed()
        );
    }

    #[tokio::test]
    async fn a_full_queue_is_answered_503_at_once() {
        let upstream = Upstream::start().await.unwrap();
        upstream.set_capacity(Some(Capacity {
            per_second: 0.01,
            queue: 0,
        }));
        assert_eq!(get(upstream.addr()).await.unwrap().status, 503);
    }
}
