//! `response-transformer`: changes headers of responses and members of JSON bodies.
//!
//! Learnt from `kong/plugins/response-transformer/handler.lua` and its neighbours.

mod body;
mod config;
mod headers;
mod media_type;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use silverback_plugin::{
    BodyCtx, ConfigError, Handler, Phases, Plugin, PluginEnv, PluginError, ResponseCtx,
    ResponseHead,
};

use body::BodyEdits;
pub use config::{Config, Names, Renames, Values};
use headers::HeaderEdits;

/// The plugin.
#[derive(Debug)]
pub struct ResponseTransformer {
    headers: Option<HeaderEdits>,
    body: Option<BodyEdits>,
}

/// How far a response's body is.
enum Progress {
    /// Passes by.
    Passing,
    /// What came so far, blanks or the begin of an object, is here.
    Holding {
        /// What came.
        held: BytesMut,
        /// Whether an object has begun.
        object: bool,
    },
}

impl Plugin for ResponseTransformer {
    const NAME: &'static str = "response-transformer";
    const PRIORITY: i32 = 800;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::HEADER_FILTER.and(Phases::BODY_FILTER);
    type Config = Config;

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let headers = HeaderEdits::compile(&config)?;
        Ok(ResponseTransformer {
            headers: Some(headers).filter(|h| !h.is_empty()),
            body: BodyEdits::compile(&config),
        })
    }
}

impl Handler for ResponseTransformer {
    fn header_filter(&self, ctx: &mut ResponseCtx<'_>) -> Result<(), PluginError> {
        let before = self.body.is_some() && has_json(ctx.head);
        if let Some(headers) = &self.headers {
            headers.apply(ctx.head);
        }
        if self.body.is_none() {
            return Ok(());
        }
        // The body is judged by its new type; the length goes by the old one too, as in Kong.
        let after = has_json(ctx.head);
        if before || after {
            ctx.head.remove(&CONTENT_LENGTH);
        }
        let progress = if after {
            Progress::Holding {
                held: BytesMut::new(),
                object: false,
            }
        } else {
            Progress::Passing
        };
        ctx.facts.slots.insert(progress);
        Ok(())
    }

    fn body_filter(
        &self,
        ctx: &mut BodyCtx<'_>,
        chunk: &mut Option<Bytes>,
        end: bool,
    ) -> Result<(), PluginError> {
        let Some(edits) = &self.body else {
            return Ok(());
        };
        let Some(progress) = ctx.facts.slots.get_mut::<Progress>() else {
            return Ok(());
        };
        let Progress::Holding { held, object } = progress else {
            return Ok(());
        };
        let new = chunk.take().unwrap_or_default();
        // What does not begin as an object, above all what is compressed, stays as it is: no need to hold it.
        let first = new.trim_ascii_start().first();
        let other = !*object && first.is_some_and(|b| *b != b'{');
        *object |= !other && first.is_some();
        let object = *object;
        if held.is_empty() {
            // Alone in its buffer, as a short body is, it is not copied.
            *held = new.try_into_mut().unwrap_or_else(|b| b[..].into());
        } else {
            held.extend_from_slice(&new);
        }
        if !end && !other {
            return Ok(());
        }
        let whole = std::mem::take(held).freeze();
        *progress = Progress::Passing;
        let changed = object.then(|| edits.apply(&whole)).flatten();
        if object && changed.is_none() {
            let request_id = ctx.facts.request_id();
            tracing::warn!(request_id, "body transform failed: the body is no JSON");
        }
        *chunk = Some(changed.map_or(whole, Bytes::from)).filter(|c| !c.is_empty());
        Ok(())
    }
}

fn has_json(head: &dyn ResponseHead) -> bool {
    let content_type = head.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|v| media_type::is_json(v.as_bytes()))
}
