//! Following the configuration: what changed, soon after it did, and never missing anything.
//!
//! One connection of its own listens. Whenever it is made, it listens first and reads the revision after, so nothing falls in between;
//! what came meanwhile is in the change log. A notification only says "look": it may be lost (a pooler in between, a silent
//! network), so the revision is also read every few seconds.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use silverback_entities::{Change, Tables};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Error, Row, Statement};
use uuid::Uuid;

use crate::cell::Cell;
use crate::load::{self, BEGIN, HEAD};
use crate::pool::{in_order, plain};
use crate::sql::CHANNEL;
use crate::tokens::{self, ADMIN_TOKENS, AdminToken};
use crate::{Store, StoreError};

/// Changes within this time are read together.
const COALESCE: Duration = Duration::from_millis(10);
/// Waiting between attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// With more changed rows than this, reading everything is the shorter way.
const MANY: usize = 20_000;
/// The longest a full load may take.
const LOAD_LIMIT: Duration = Duration::from_secs(120);
/// How often old log entries, expired rows and counters that are over are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// How many changes of the log are kept at least, whatever is said about the history: nodes that were away catch up with them.
const KEPT_CHANGES: i64 = MANY as i64;
/// The lock of whoever keeps house: any number no one else uses.
const HOUSE_LOCK: i64 = 0x5B_4855_5345;

/// Between topic and text of an announcement. Other notifications are revisions, which are numbers.
const SAYS: &str = "\n";
/// Most announcements that wait to be handed on.
const MANY_ANNOUNCED: usize = 64;
/// Postgres takes no longer notifications.
const LONGEST: usize = 7999;

/// Topics and texts as they arrive.
type Announced = mpsc::Receiver<(String, String)>;

/// What a watcher sees.
#[derive(Debug)]
pub enum Event {
    /// Everything: first of all, and whenever the change log does not reach back to what was seen last.
    Loaded(Box<Tables>),
    /// What changed since the event before.
    Changed {
        /// The revision reached.
        revision: i64,
        /// The rows as they are at that revision, each once.
        changes: Vec<Change>,
    },
    /// The tokens that let into the Admin API: first of all, and whenever one was created or revoked.
    Tokens(Vec<AdminToken>),
    /// A node told all nodes something ([`Store::announce`]); the sender hears it too.
    Announced {
        /// What it is about.
        topic: String,
        /// What was said.
        text: String,
    },
    /// Postgres is away, for this reason. Said once, until it is back.
    Lost(String),
    /// Postgres answers again.
    Back,
}

/// Follows the configuration in Postgres.
#[derive(Clone)]
pub struct Watcher {
    store: Store,
    poll: Duration,
    anew: Arc<Notify>,
}

/// Makes a running watcher read everything anew.
#[derive(Clone, Debug)]
pub struct Anew(Arc<Notify>);

impl Anew {
    /// Asks for it; a watcher that is away from Postgres does it when it is back.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

/// Up to where the configuration was seen.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    epoch: Uuid,
    revision: i64,
}

impl Watcher {
    /// A watcher of what the store holds, which looks every `poll` even when nothing calls it.
    pub fn new(store: &Store, poll: Duration) -> Self {
        Watcher {
            store: store.clone(),
            poll,
            anew: Arc::default(),
        }
    }

    /// What makes it read everything anew.
    pub fn anew(&self) -> Anew {
        Anew(self.anew.clone())
    }

    /// Hands every event to `sink` until `shutdown` is done. Connects by itself, again and again.
    pub async fn run(
        self,
        mut sink: impl FnMut(Event) + Send,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        if let Some(memory) = self.store.memory() {
            let mut changes = memory.changes();
            let follow = async {
                loop {
                    let revision = *changes.borrow_and_update();
                    if revision > 0 {
                        let tables = memory.content().served(self.store.tables());
                        sink(Event::Loaded(Box::new(tables)));
                    }
                    tokio::select! {
                        changed = changes.changed() => {
                            // The sender lives as long as the store.
                            if changed.is_err() {
                                return;
                            }
                        }
                        () = self.anew.notified() => {}
                    }
                }
            };
            tokio::select! {
                () = shutdown => {}
                () = follow => {}
            }
            return;
        }
        tokio::select! {
            () = shutdown => {}
            () = self.follow(&mut sink) => {}
            () = self.keep_house() => {}
        }
    }

    async fn follow(&self, sink: &mut (impl FnMut(Event) + Send)) {
        let mut seen = None;
        let mut lost = false;
        let mut pause = BACKOFF.0;
        loop {
            let Err(e) = Box::pin(self.session(sink, &mut seen, &mut lost, &mut pause)).await;
            if !lost {
                lost = true;
                sink(Event::Lost(e.to_string()));
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    /// One connection's life.
    async fn session(
        &self,
        sink: &mut (impl FnMut(Event) + Send),
        seen: &mut Option<Seen>,
        lost: &mut bool,
        pause: &mut Duration,
    ) -> Result<std::convert::Infallible, StoreError> {
        let (client, mut called, mut announced) = self.connect().await?;
        let reader = Reader::new(client, &self.store).await?;
        loop {
            let events = reader.read(seen).await?;
            if std::mem::take(lost) {
                sink(Event::Back);
            }
            *pause = BACKOFF.0;
            for event in events {
                sink(event);
            }
            let read_at = Instant::now();
            tokio::select! {
                call = called.recv() => {
                    if call.is_none() {
                        return Err(StoreError::Unavailable("the connection was closed".into()));
                    }
                    // The first call after a quiet time is answered at once, those of a storm together.
                    tokio::time::sleep_until(read_at + COALESCE).await;
                }
                () = self.anew.notified() => *seen = None,
                () = sleep(self.poll) => {}
            }
            // Whoever announced something called as well.
            while let Ok((topic, text)) = announced.try_recv() {
                sink(Event::Announced { topic, text });
            }
        }
    }

    /// A connection that listens; the channel has an item when it was called, and ends with the connection.
    async fn connect(&self) -> Result<(Client, mpsc::Receiver<()>, Announced), StoreError> {
        let cfg = self.store.cfg();
        let (call, called) = mpsc::channel(1);
        let (announce, announced) = mpsc::channel(MANY_ANNOUNCED);
        let work = async {
            let (client, mut connection) = cfg.driver().connect(cfg.tls()?).await?;
            tokio::spawn(async move {
                let mut messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
                while let Some(Ok(message)) = futures::StreamExt::next(&mut messages).await {
                    if let AsyncMessage::Notification(n) = message {
                        if let Some((topic, text)) = n.payload().split_once(SAYS)
                            && announce
                                .try_send((topic.to_owned(), text.to_owned()))
                                .is_err()
                        {
                            tracing::warn!(topic, "too many announcements at once, one is lost");
                        }
                        // A full channel already says that there is something to read.
                        let _ = call.try_send(());
                    }
                }
            });
            client.batch_execute(&cfg.session_sql()).await?;
            if let Err(e) = client.batch_execute(&format!("listen {CHANNEL}")).await {
                if client.is_closed() {
                    return Err(e.into());
                }
                tracing::warn!(
                    "LISTEN does not work here, changes are seen every {:?}: {e}",
                    self.poll
                );
            }
            Ok::<_, StoreError>(client)
        };
        let client = timeout(cfg.connect_timeout, work)
            .await
            .map_err(|_| StoreError::Unavailable("no connection in time".into()))??;
        Ok((client, called, announced))
    }

    async fn keep_house(&self) {
        loop {
            sleep(HOUSEKEEPING).await;
            if let Err(e) = self.store.keep_house().await {
                tracing::debug!("housekeeping is put off: {e}");
            }
        }
    }
}

/// Reads what is new on the listening connection.
struct Reader<'a> {
    client: Client,
    store: &'a Store,
    head: Statement,
    log: Statement,
}

impl<'a> Reader<'a> {
    async fn new(client: Client, store: &'a Store) -> Result<Self, StoreError> {
        let work = async {
            let head = client.prepare(HEAD).await?;
            let log = client
                .prepare("select distinct entity, entity_id from config_changes where revision > $1 limit $2")
                .await?;
            Ok::<_, Error>((head, log))
        };
        let (head, log) = store.pool().within(work).await??;
        Ok(Reader {
            client,
            store,
            head,
            log,
        })
    }

    /// What is new since `seen`, which is moved on. Who may no longer get in comes before everything else.
    async fn read(&self, seen: &mut Option<Seen>) -> Result<Vec<Event>, StoreError> {
        let (now, pruned, changed) = self
            .store
            .pool()
            .within(self.open(seen.map_or(i64::MAX, |s| s.revision)))
            .await??;
        let mut events = Vec::new();
        let tokens = async {
            let all = self
                .store
                .pool()
                .within(tokens::all(&self.client))
                .await??;
            Ok::<_, StoreError>(Event::Tokens(all))
        };
        match *seen {
            Some(s) if s == now => {}
            Some(s)
                if s.epoch == now.epoch
                    && s.revision < now.revision
                    && pruned <= s.revision
                    && changed.len() <= MANY =>
            {
                let mut wanted = group(changed)?;
                if wanted.remove(ADMIN_TOKENS).is_some() {
                    events.push(tokens.await?);
                }
                let wanted: Vec<_> = wanted.into_iter().collect();
                let changes = self
                    .store
                    .pool()
                    .within(load::some(&self.client, self.store.tables(), &wanted))
                    .await??;
                events.push(Event::Changed {
                    revision: now.revision,
                    changes,
                });
            }
            _ => {
                events.push(tokens.await?);
                let all = load::all(&self.client, self.store.tables(), now.revision);
                let tables = timeout(LOAD_LIMIT, all)
                    .await
                    .map_err(|_| StoreError::Unavailable("loading took too long".into()))??;
                events.push(Event::Loaded(Box::new(tables)));
            }
        }
        self.store
            .pool()
            .within(self.client.batch_execute("commit"))
            .await??;
        *seen = Some(now);
        Ok(events)
    }

    /// Begins the reading transaction: where the log is, up to where it was pruned, what changed after `after`.
    async fn open(&self, after: i64) -> Result<(Seen, i64, Vec<Row>), StoreError> {
        let most = MANY as i64 + 1;
        let statements: Vec<BoxFuture<'_, Result<Vec<Row>, Error>>> = vec![
            plain(&self.client, BEGIN),
            Box::pin(self.client.query(&self.head, &[])),
            Box::pin(async move { self.client.query(&self.log, &[&after, &most]).await }),
        ];
        let mut answers = in_order(statements)
            .await
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        let changed = answers.pop().unwrap_or_default();
        let head = answers.pop().unwrap_or_default();
        let row = head
            .first()
            .ok_or_else(|| StoreError::Internal("config_revision is empty".into()))?;
        Ok((
            Seen {
                revision: row.try_get(0)?,
                epoch: row.try_get(2)?,
            },
            row.try_get(1)?,
            changed,
        ))
    }
}

fn group(changed: Vec<Row>) -> Result<BTreeMap<String, Vec<Uuid>>, Error> {
    let mut out: BTreeMap<String, Vec<Uuid>> = BTreeMap::new();
    for row in changed {
        out.entry(row.try_get(0)?)
            .or_default()
            .push(row.try_get(1)?);
    }
    Ok(out)
}

impl Store {
    /// Tells all nodes something, this one included. Who is away from Postgres at that moment does not hear of it. Without a database
    /// there is nobody to tell.
    ///
    /// # Errors
    /// `Unavailable`; `Invalid` when it is longer than 7,999 bytes or the topic has several lines.
    pub async fn announce(&self, topic: &str, text: &str) -> Result<(), StoreError> {
        let payload = format!("{topic}{SAYS}{text}");
        if topic.contains(SAYS) || payload.len() > LONGEST {
            return Err(StoreError::Invalid("this cannot be announced".into()));
        }
        if !self.has_database() {
            return Ok(());
        }
        let cells = [Cell::Text(CHANNEL.into()), Cell::Text(payload)];
        self.pool()
            .query("select pg_notify($1, $2)::text", &cells)
            .await?;
        Ok(())
    }

    /// Deletes expired rows, log entries that are old and counters that are over, unless another node is at it.
    pub(crate) async fn keep_house(&self) -> Result<(), StoreError> {
        let lease = self.pool().get().await?;
        let work = async {
            lease.batch_execute("begin").await?;
            let mine: bool = lease
                .query_one("select pg_try_advisory_xact_lock($1)", &[&HOUSE_LOCK])
                .await?
                .try_get(0)?;
            Ok::<_, Error>(mine)
        };
        if self.pool().within(work).await?? {
            self.purge_expired().await?;
            self.prune(self.history().max(KEPT_CHANGES)).await?;
            self.counters().sweep().await?;
            // The lease would be gone if this took longer than Postgres lets a transaction idle; then the lock is gone as well.
        }
        self.pool().within(lease.batch_execute("commit")).await??;
        lease.keep();
        Ok(())
    }

    /// Forgets the oldest revisions of the log, so that it has at most `kept` changes.
    pub(crate) async fn prune(&self, kept: i64) -> Result<(), StoreError> {
        let lease = self.pool().get().await?;
        let work = async {
            // Said before it is done: who is behind then reads everything instead of half a log.
            let sql = "update config_revision set pruned = cut.revision from \
                   (select revision from config_changes order by revision desc offset $1 limit 1) as cut \
                 where cut.revision > pruned returning pruned";
            let Some(row) = lease.query_opt(sql, &[&kept]).await? else {
                return Ok(());
            };
            let cut: i64 = row.try_get(0)?;
            let delete = "delete from config_changes where id = any(array( \
                 select id from config_changes where revision <= $1 order by revision limit 5000))";
            while lease.execute(delete, &[&cut]).await? > 0 {}
            Ok::<_, Error>(())
        };
        work.await?;
        lease.keep();
        Ok(())
    }
}
