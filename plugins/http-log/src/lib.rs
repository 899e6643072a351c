//! `http-log`: sends what is logged of each exchange to a server over HTTP, one by one or in batches.
//!
//! Learnt from `kong/plugins/http-log/handler.lua` and `schema.lua`. Configurations that name the same server in the same way share a queue.

mod config;
mod deliver;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use silverback_export::{Entry, Queue, Terms};
use silverback_plugin::schema::EntityCheck;
use silverback_plugin::{ConfigError, Handler, LogCtx, Phases, Plugin, PluginEnv};

pub use config::Config;
use deliver::Post;

/// The plugin.
pub struct HttpLog {
    queue: Arc<Queue<Post>>,
}

impl Plugin for HttpLog {
    const NAME: &'static str = "http-log";
    const PRIORITY: i32 = 12;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::LOG;
    const STREAM_TOO: bool = true;
    type Config = Config;

    fn checks() -> Vec<EntityCheck> {
        config::checks()
    }

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let terms = Terms::from(&config.queue);
        let terms = terms.with_former(config.queue_size, config.flush_timeout);
        let post = Post::new(&config, terms.max_batch_size > 1)?;
        let label = format!("http-log to {}", post.server());
        let queue = Queue::open(env, &config.queue_name(), label, terms, post);
        Ok(HttpLog { queue })
    }
}

impl Handler for HttpLog {
    fn log(&self, ctx: &LogCtx<'_>) {
        self.queue.push(Entry::of(ctx).to_json());
    }
}
