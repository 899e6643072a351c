//! [`Store`]: what it is made of. Reads are in `read`, writes in `put` and `update`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use silverback_schema::EntityDef;

use crate::memory::Memory;
use crate::pool::Pool;
use crate::scope::Scope;
use crate::table::Tables;
use crate::write::Writer;
use crate::{PgConfig, PgCounters, StoreError};

/// Changes that the log keeps unless it is told otherwise.
const HISTORY: i64 = 100_000;

/// The configuration in Postgres. Clones share the connections.
#[derive(Clone)]
pub struct Store {
    core: Arc<Core>,
    pub(crate) scope: Scope,
}

struct Core {
    cfg: PgConfig,
    pool: Pool,
    tables: Tables,
    writer: Writer,
    counters: PgCounters,
    /// Changes that the log keeps.
    history: AtomicI64,
    /// Whether it keeps what rows were and are.
    documents: Arc<AtomicBool>,
    /// Where the rows are instead when there is no database.
    memory: Option<Memory>,
}

/// What Postgres says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// `server_version`, such as `15.6`.
    pub version: String,
}

impl Store {
    /// A store of these entities, each of which has a table made by the migrations. Makes no connection.
    ///
    /// # Errors
    /// When an entity cannot be a table or the TLS settings cannot be used.
    pub fn new(cfg: PgConfig, defs: Vec<EntityDef>) -> Result<Store, StoreError> {
        Self::with(cfg, defs, None)
    }

    pub(crate) fn with(
        cfg: PgConfig,
        defs: Vec<EntityDef>,
        memory: Option<Memory>,
    ) -> Result<Store, StoreError> {
        let pool = Pool::new(&cfg)?;
        let tables = Tables::new(defs)?;
        let documents = Arc::new(AtomicBool::new(true));
        let writer = Writer::new(pool.clone(), documents.clone());
        let counters = PgCounters::new(pool.clone());
        Ok(Store {
            core: Arc::new(Core {
                cfg,
                pool,
                tables,
                writer,
                counters,
                history: AtomicI64::new(HISTORY),
                documents,
                memory,
            }),
            scope: Scope::default(),
        })
    }

    /// How many changes of rows are remembered (100,000 when this is not said), oldest revisions forgotten first. With 0 it is not kept what
    /// rows were and are; the log then only tells nodes what to read.
    pub fn keep_history(&self, changes: u64) {
        let documents = changes > 0;
        let most = i64::try_from(changes).unwrap_or(i64::MAX);
        self.core.history.store(most, Ordering::Relaxed);
        self.core.documents.store(documents, Ordering::Relaxed);
    }

    pub(crate) fn history(&self) -> i64 {
        self.core.history.load(Ordering::Relaxed)
    }

    pub(crate) fn documents(&self) -> bool {
        self.core.documents.load(Ordering::Relaxed)
    }

    /// Asks Postgres for its version.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn ping(&self) -> Result<ServerInfo, StoreError> {
        if self.memory().is_some() {
            let version = String::new();
            return Ok(ServerInfo { version });
        }
        let rows = self.query("show server_version", &[]).await?;
        let version = rows
            .first()
            .map(|r| r.try_get::<_, String>(0))
            .transpose()?
            .unwrap_or_default();
        Ok(ServerInfo { version })
    }

    /// The counters that nodes share.
    pub fn counters(&self) -> PgCounters {
        self.core.counters.clone()
    }

    /// The rows when there is no database.
    pub(crate) fn memory(&self) -> Option<&Memory> {
        self.core.memory.as_ref()
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.core.writer
    }

    pub(crate) fn cfg(&self) -> &PgConfig {
        &self.core.cfg
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.core.pool
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.core.tables
    }
}
