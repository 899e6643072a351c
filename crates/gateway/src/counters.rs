//! Cluster counters of plugins, kept in Postgres.

use async_trait::async_trait;
use silverback_plugin::env::{ClusterCounters, CounterError, Increment};
use silverback_store::PgCounters;

/// The store's counters in the form in which plugins know them.
pub(crate) struct Counters(pub(crate) PgCounters);

#[async_trait]
impl ClusterCounters for Counters {
    async fn add(&self, increments: &[Increment]) -> Result<Vec<u64>, CounterError> {
        let list: Vec<silverback_store::Increment<'_>> = increments
            .iter()
            .map(|i| silverback_store::Increment {
                key: &i.key,
                window: i.window,
                expires: i.expires,
                amount: i.amount,
            })
            .collect();
        self.0
            .add(&list)
            .await
            .map_err(|e| CounterError(e.to_string()))
    }
}
