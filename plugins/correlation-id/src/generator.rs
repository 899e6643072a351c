//! How ids are made.

use std::cell::Cell;
use std::fmt::Write;
use std::time::UNIX_EPOCH;

use http::HeaderValue;
use silverback_plugin::{Facts, PluginError};
use uuid::Uuid;

/// How ids are made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Generator {
    /// A random UUID.
    Uuid,
    /// `<uuid of the worker>#<number>`.
    Counter,
    /// `<server address>-<port>-<process>-<connection>-<request of the connection>-<seconds.milliseconds>`.
    Tracker,
}

thread_local! {
    // As in Kong each worker counts for itself: nothing is shared between threads.
    static WORKER: (Uuid, Cell<u64>) = (Uuid::new_v4(), Cell::new(0));
}

impl Generator {
    /// A new id.
    pub(crate) fn make(self, facts: &Facts) -> Result<HeaderValue, PluginError> {
        let mut text = Text::default();
        let written = match self {
            Generator::Uuid => write!(text, "{}", Uuid::new_v4().as_hyphenated()),
            Generator::Counter => WORKER.with(|(worker, counter)| {
                counter.set(counter.get() + 1);
                write!(text, "{}#{}", worker.as_hyphenated(), counter.get())
            }),
            Generator::Tracker => {
                let now = facts
                    .started_at
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                let server = facts.server.unwrap_or_else(|| facts.peer.ip());
                write!(
                    text,
                    "{server}-{}-{}-{}-{}-{}.{:03}",
                    facts.port,
                    std::process::id(),
                    facts.connection,
                    facts.connection_requests,
                    now.as_secs(),
                    now.subsec_millis()
                )
            }
        };
        let value = written
            .ok()
            .and_then(|()| HeaderValue::from_bytes(text.as_bytes()).ok());
        value.ok_or_else(|| PluginError::new("an id could not be written"))
    }
}

/// Room for the longest id: an IPv6 address, five numbers of up to 20 digits and what is between them.
struct Text {
    bytes: [u8; 160],
    len: usize,
}

impl Default for Text {
    fn default() -> Self {
        Text {
            bytes: [0; 160],
            len: 0,
        }
    }
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let room = self
            .bytes
            .get_mut(self.len..self.len + s.len())
            .ok_or(std::fmt::Error)?;
        room.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}
