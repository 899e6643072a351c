//! `file-log`: writes what is logged of each exchange to a file, one line of JSON each.
//!
//! Learnt from `kong/plugins/file-log/handler.lua` and `schema.lua`. All configurations with the same path share one writer.

mod config;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use silverback_export::{Entry, Queue, Terms};
use silverback_plugin::{ConfigError, Handler, LogCtx, Phases, Plugin, PluginEnv};

pub use config::Config;
use writer::{Line, Writer};

/// The most lines that are written at once.
const AT_ONCE: i64 = 1000;

/// The plugin.
pub struct FileLog {
    lines: Arc<Queue<Writer>>,
    reopen: bool,
}

impl Plugin for FileLog {
    const NAME: &'static str = "file-log";
    const PRIORITY: i32 = 9;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::LOG;
    const STREAM_TOO: bool = true;
    type Config = Config;

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let file = env.shared(&config.path, || writer::File::new(&config.path));
        let terms = Terms {
            max_entries: 100_000,
            ..Terms::once(AT_ONCE)
        };
        let label = format!("file-log to {}", config.path);
        let lines = Queue::open(env, &config.path, label, terms, Writer(file));
        let reopen = config.reopen;
        Ok(FileLog { lines, reopen })
    }
}

impl Handler for FileLog {
    fn log(&self, ctx: &LogCtx<'_>) {
        let mut text = Entry::of(ctx).to_json();
        text.push('\n');
        let reopen = self.reopen;
        self.lines.push(Line { text, reopen });
    }
}
