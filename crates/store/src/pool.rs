//! Connections: borrowed so that one in an unknown state never goes back, and used so that several statements cost one round trip.

use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, QueueMode, RecyclingMethod, Runtime,
};
use futures::TryStreamExt;
use futures::future::{BoxFuture, MaybeDone, maybe_done};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Row, Statement};

use crate::cell::Cell;
use crate::error::from_pool;
use crate::{PgConfig, StoreError};

/// The pool.
#[derive(Clone)]
pub(crate) struct Pool {
    inner: deadpool_postgres::Pool,
    /// The longest anything may take. Postgres itself gives up earlier; this is for one that does not answer at all.
    pub(crate) limit: Duration,
}

impl Pool {
    pub(crate) fn new(cfg: &PgConfig) -> Result<Self, StoreError> {
        let manager = Manager::from_config(
            cfg.driver(),
            cfg.tls()?,
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let session = cfg.session_sql();
        let inner = deadpool_postgres::Pool::builder(manager)
            .max_size(cfg.pool_size.max(2))
            // The connection used last: its process is the one whose caches are warm.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(cfg.statement_timeout))
            .create_timeout(Some(cfg.connect_timeout))
            .recycle_timeout(Some(cfg.connect_timeout))
            .post_create(Hook::async_fn(move |client, _| {
                let session = session.clone();
                Box::pin(async move {
                    client
                        .batch_execute(&session)
                        .await
                        .map_err(HookError::Backend)
                })
            }))
            .build()
            .map_err(|e| StoreError::Internal(e.to_string()))?;
        Ok(Pool {
            inner,
            limit: cfg.statement_timeout + Duration::from_secs(2),
        })
    }

    /// How many connections there may be.
    pub(crate) fn max_size(&self) -> usize {
        self.inner.status().max_size
    }

    /// A connection.
    pub(crate) async fn get(&self) -> Result<Lease, StoreError> {
        Ok(Lease {
            conn: Some(self.inner.get().await.map_err(from_pool)?),
        })
    }

    /// The rows of one statement outside any transaction.
    pub(crate) async fn query(&self, sql: &str, cells: &[Cell]) -> Result<Vec<Row>, StoreError> {
        let mut again = true;
        loop {
            let lease = self.get().await?;
            let work = async {
                let statement = lease.prepare_cached(sql).await?;
                rows(&lease, &statement, cells).await
            };
            return match self.within(work).await? {
                Ok(rows) => {
                    lease.keep();
                    Ok(rows)
                }
                // The connection was cut while it lay in the pool.
                Err(e) if again && is_cut(&e) => {
                    again = false;
                    continue;
                }
                Err(e) => {
                    if e.as_db_error().is_some() {
                        lease.keep();
                    }
                    Err(e.into())
                }
            };
        }
    }

    /// The work's result, or that Postgres does not answer.
    pub(crate) async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, StoreError> {
        tokio::time::timeout(self.limit, work).await.map_err(|_| {
            StoreError::Unavailable(format!("no answer within {} ms", self.limit.as_millis()))
        })
    }
}

/// A borrowed connection. It is closed rather than given back unless [`Lease::keep`] says that nothing is left undone on it.
pub(crate) struct Lease {
    conn: Option<Object>,
}

impl Lease {
    /// Gives the connection back.
    pub(crate) fn keep(mut self) {
        drop(self.conn.take());
    }
}

impl Deref for Lease {
    type Target = deadpool_postgres::ClientWrapper;

    fn deref(&self) -> &Self::Target {
        // Only `keep` and `drop`, which consume the lease, empty it.
        self.conn
            .as_deref()
            .expect("a lease has its connection until it is consumed")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            drop(Object::take(conn));
        }
    }
}

/// Whether the connection is gone, so that what was asked did not happen unless it was a commit.
pub(crate) fn is_cut(e: &Error) -> bool {
    e.is_closed()
        || e.as_db_error().is_none()
            && std::error::Error::source(e).is_some_and(|s| s.is::<std::io::Error>())
        || e.code().is_some_and(|c| {
            [
                SqlState::ADMIN_SHUTDOWN,
                SqlState::CRASH_SHUTDOWN,
                SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            ]
            .contains(c)
        })
}

/// The rows of a prepared statement.
pub(crate) async fn rows<'a, C>(
    client: &Client,
    statement: &Statement,
    cells: C,
) -> Result<Vec<Row>, Error>
where
    C: IntoIterator<Item = &'a Cell, IntoIter: ExactSizeIterator>,
{
    client
        .query_raw(statement, cells)
        .await?
        .try_collect()
        .await
}

/// A statement without rows to run [`in_order`] with others.
pub(crate) fn plain<'a>(
    client: &'a Client,
    sql: &'a str,
) -> BoxFuture<'a, Result<Vec<Row>, Error>> {
    Box::pin(async move { client.batch_execute(sql).await.map(|()| Vec::new()) })
}

/// Sends all statements at once, in this order, and then waits for the answers: the driver sends a statement when its future is polled
/// first, and Postgres answers in the order of sending. Each future must read its own answer to the end, or the next never comes.
pub(crate) async fn in_order<T>(futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut futures: Vec<MaybeDone<BoxFuture<'_, T>>> =
        futures.into_iter().map(maybe_done).collect();
    poll_fn(|cx| {
        for f in &mut futures {
            let _ = Pin::new(f).poll(cx);
        }
        Poll::Ready(())
    })
    .await;
    let mut out = Vec::with_capacity(futures.len());
    for mut f in futures {
        (&mut f).await;
        // An awaited `MaybeDone` has its output until it is taken, which happens once, here.
        out.extend(Pin::new(&mut f).take_output());
    }
    out
}
