//! Counters that nodes share, for plugins that count over a cluster.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio_postgres::Row;

use crate::StoreError;
use crate::cell::Cell;
use crate::pool::{Pool, in_order, plain, rows};

/// Adds what is in JSON (`[[key, window, expires, amount], ..]`) and answers the totals.
const ADD: &str = "insert into rate_limiting_counters as c (key, window_start, expires_at, value) \
     select x->>0, (x->>1)::bigint, to_timestamp((x->>2)::double precision), (x->>3)::bigint \
     from jsonb_array_elements($1::jsonb) as x \
     on conflict (key, window_start) do update set value = c.value + excluded.value, \
       expires_at = greatest(c.expires_at, excluded.expires_at) \
     returning key, window_start, value";

/// Answers the totals of what is in JSON (`[[key, window], ..]`), where there are any.
const READ: &str = "select c.key, c.window_start, c.value from jsonb_array_elements($1::jsonb) as x \
     join rate_limiting_counters as c on c.key = x->>0 and c.window_start = (x->>1)::bigint";

/// One at a time would be slow; waiting for those who add would be slower.
const SWEEP: &str = "delete from rate_limiting_counters where ctid = any(array(select ctid from rate_limiting_counters \
     where expires_at < now() limit $1 for update skip locked))";

/// Counters removed by one statement, so that none takes long.
const SWEPT_AT_ONCE: u32 = 1000;

/// What to add to a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Increment<'a> {
    /// Which counter.
    pub key: &'a str,
    /// Of which window: its start in seconds since 1970, or any other number that tells windows apart.
    pub window: i64,
    /// Seconds since 1970 after which the counter may be forgotten.
    pub expires: i64,
    /// How much to add; 0 only reads.
    pub amount: u64,
}

/// Counters in Postgres. Clones share the connections.
#[derive(Clone)]
pub struct PgCounters {
    pool: Pool,
}

impl PgCounters {
    pub(crate) fn new(pool: Pool) -> Self {
        PgCounters { pool }
    }

    /// Adds to counters and answers their totals in the same order, in one round trip. Additions of all nodes add up exactly; a crash of
    /// Postgres may forget the last half second, because waiting for the disk would make every count as dear as a write. Where there is
    /// nothing to add nothing is written.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`.
    pub async fn add(&self, increments: &[Increment<'_>]) -> Result<Vec<u64>, StoreError> {
        if increments.is_empty() {
            return Ok(Vec::new());
        }
        // In a fixed order, so that two nodes never wait for each other, and each once, as one statement may touch a row only once.
        let mut sums: BTreeMap<(&str, i64), (i64, u64)> = BTreeMap::new();
        for i in increments {
            let e = sums.entry((i.key, i.window)).or_default();
            *e = (e.0.max(i.expires), e.1.saturating_add(i.amount));
        }
        let (mut added, mut read) = (Vec::new(), Vec::new());
        for ((k, w), (e, a)) in sums {
            if a > 0 {
                let a = i64::try_from(a).unwrap_or(i64::MAX);
                added.push(serde_json::json!([k, w, e, a]));
            } else {
                read.push(serde_json::json!([k, w]));
            }
        }
        let cell = |list| [Cell::Json(Value::Array(list).to_string())];
        let answer = if added.is_empty() {
            self.pool.query(READ, &cell(read)).await?
        } else {
            let read = (!read.is_empty()).then(|| cell(read));
            self.run(&cell(added), read.as_ref()).await?
        };
        let mut totals: BTreeMap<(&str, i64), u64> = BTreeMap::new();
        for r in &answer {
            totals.insert(
                (r.try_get(0)?, r.try_get(1)?),
                r.try_get::<_, i64>(2)?.cast_unsigned(),
            );
        }
        let out = increments
            .iter()
            .map(|i| totals.get(&(i.key, i.window)).copied().unwrap_or_default())
            .collect();
        Ok(out)
    }

    /// Removes counters that are over. Answers how many went.
    pub(crate) async fn sweep(&self) -> Result<u64, StoreError> {
        let lease = self.pool.get().await?;
        let mut gone = 0;
        loop {
            let most = i64::from(SWEPT_AT_ONCE);
            let work = async { lease.execute(SWEEP, &[&most]).await };
            let now = self.pool.within(work).await??;
            gone += now;
            if now < u64::from(SWEPT_AT_ONCE) {
                break;
            }
        }
        lease.keep();
        Ok(gone)
    }

    /// Adds, and reads others.
    async fn run(
        &self,
        added: &[Cell; 1],
        read: Option<&[Cell; 1]>,
    ) -> Result<Vec<Row>, StoreError> {
        let lease = self.pool.get().await?;
        let work = async {
            let add = lease.prepare_cached(ADD).await?;
            let look = match read {
                Some(cells) => Some((lease.prepare_cached(READ).await?, cells)),
                None => None,
            };
            let mut statements = vec![
                plain(&lease, "begin; set local synchronous_commit = off"),
                Box::pin(rows(&lease, &add, added)),
            ];
            if let Some((look, cells)) = &look {
                statements.push(Box::pin(rows(&lease, look, *cells)));
            }
            statements.push(plain(&lease, "commit"));
            let answers = in_order(statements).await.into_iter();
            let answers = answers.collect::<Result<Vec<_>, tokio_postgres::Error>>()?;
            Ok::<_, tokio_postgres::Error>(answers.into_iter().flatten().collect())
        };
        let done = self.pool.within(work).await?;
        if done
            .as_ref()
            .map_or_else(|e| e.as_db_error().is_some(), |_| true)
        {
            lease.keep();
        }
        Ok(done?)
    }
}
