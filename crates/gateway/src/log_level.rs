//! The level of the error log: the configured one, or for a while another.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use silverback_telemetry::logging::{LogHandle, LogLevel, LoggingError};
use tokio::runtime::Handle;

/// Changes the level of a node's error log, and back again. Clones are the same.
#[derive(Clone)]
pub(crate) struct LevelControl {
    log: LogHandle,
    runtime: Handle,
    state: Arc<Mutex<State>>,
}

struct State {
    configured: LogLevel,
    /// Counts changes, so that an older one does not end a newer one.
    changes: u64,
}

impl LevelControl {
    /// Of a log that has its configured level now; waits on `runtime`.
    pub(crate) fn new(log: LogHandle, runtime: Handle) -> Self {
        let configured = log.level();
        LevelControl {
            log,
            runtime,
            state: Arc::new(Mutex::new(State {
                configured,
                changes: 0,
            })),
        }
    }

    /// The level in force.
    pub(crate) fn level(&self) -> LogLevel {
        self.log.level()
    }

    /// Another level until the time is over or the next change.
    pub(crate) fn set_for(&self, level: LogLevel, time: Duration) -> Result<(), LoggingError> {
        let change = self.change(|_| level)?;
        let control = self.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(time).await;
            if control.state().changes == change
                && let Err(e) = control.change(|state| state.configured)
            {
                tracing::error!("the log level stays: {e}");
            }
        });
        Ok(())
    }

    /// Another configured level, in force at once.
    pub(crate) fn configure(&self, level: LogLevel) -> Result<(), LoggingError> {
        self.change(|state| {
            state.configured = level;
            level
        })
        .map(drop)
    }

    fn change(&self, to: impl FnOnce(&mut State) -> LogLevel) -> Result<u64, LoggingError> {
        let mut state = self.state();
        let level = to(&mut state);
        self.log.set_level(level)?;
        state.changes += 1;
        Ok(state.changes)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Whatever happens to a holder, both fields are whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use silverback_telemetry::logging::{self, LogConfig};

    use super::*;

    const SHORT: Duration = Duration::from_secs(10);
    const LONG: Duration = Duration::from_secs(20);

    async fn later(time: Duration) {
        tokio::time::sleep(time + Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_level_goes_back_by_itself_to_the_configured_one() {
        let (_log, handle) = logging::build(&LogConfig::default()).unwrap();
        let control = LevelControl::new(handle, Handle::current());
        control.set_for(LogLevel::Debug, SHORT).unwrap();
        assert_eq!(control.level(), LogLevel::Debug);
        later(SHORT).await;
        assert_eq!(control.level(), LogLevel::Notice);

        control.set_for(LogLevel::Debug, SHORT).unwrap();
        control.configure(LogLevel::Warn).unwrap();
        assert_eq!(control.level(), LogLevel::Warn);
        control.set_for(LogLevel::Info, SHORT).unwrap();
        later(SHORT).await;
        assert_eq!(control.level(), LogLevel::Warn);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_change_is_not_ended_by_an_older_one() {
        let (_log, handle) = logging::build(&LogConfig::default()).unwrap();
        let control = LevelControl::new(handle, Handle::current());
        control.set_for(LogLevel::Debug, SHORT).unwrap();
        control.set_for(LogLevel::Info, LONG).unwrap();
        later(SHORT).await;
        assert_eq!(control.level(), LogLevel::Info);
        later(SHORT).await;
        assert_eq!(control.level(), LogLevel::Notice);
    }
}
