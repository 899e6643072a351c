//! Waiting for what no revision tells.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, MissedTickBehavior};

/// Asks every few milliseconds until `check` answers `Ok(Some(..))`; at the deadline tells what `what` was waited for.
/// For what has no event of its own, such as a server that comes back.
///
/// # Errors
/// The last error of `check`, or that it never answered, after `limit`.
pub async fn eventually<T, F>(
    what: &str,
    limit: Duration,
    mut check: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let end = Instant::now() + limit;
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match check().await {
            Ok(Some(value)) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("{what}: not within {limit:?}")));
            }
            Ok(None) if Instant::now() >= end => bail!("{what}: not within {limit:?}"),
            _ => {}
        }
    }
}
