//! What is done to a request's headers. Learnt from `kong/plugins/request-transformer/access.lua`.
//!
//! Each change sees what those before it did. `Host` can be replaced, and be what another header is renamed to; nothing else changes it.

use http::header::{self, HeaderName, HeaderValue};
use silverback_plugin::header::escaped_value;
use silverback_plugin::pairs::split;
use silverback_plugin::{AccessCtx, ConfigError, HeaderKey, PluginError, UpstreamEdits};
use smallvec::SmallVec;

use crate::config::Config;
use crate::environment::{Environment, Scope};
use crate::expression::spellings;
use crate::template::Template;

/// Changes of headers, in the order in which they are made.
#[derive(Debug)]
pub(crate) struct HeaderEdits {
    remove: Vec<HeaderName>,
    rename: Vec<Rename>,
    replace: Vec<Value>,
    add: Vec<Value>,
    append: Vec<Value>,
}

#[derive(Debug)]
struct Rename {
    old: Names,
    new: HeaderKey,
}

/// A name, and the one with dashes in place of underscores, which Kong finds a header by as well.
type Names = SmallVec<[HeaderName; 2]>;

#[derive(Debug)]
struct Value {
    names: Names,
    key: HeaderKey,
    text: Text,
}

#[derive(Debug)]
enum Text {
    Fixed(HeaderValue),
    Template(Template),
}

impl HeaderEdits {
    pub(crate) fn compile(config: &Config) -> Result<Self, ConfigError> {
        let mut remove = Vec::new();
        for (name, _) in config.remove.headers.iter().filter_map(|p| split(p)) {
            remove.push(key(name, "remove.headers")?.name().clone());
        }
        let mut rename = Vec::new();
        for (old, new) in config.rename.headers.iter().filter_map(|p| split(p)) {
            // What gets another name is written in lower case, as in Kong, unless case is all that changes.
            let new = match old.eq_ignore_ascii_case(new) {
                true if old == new => continue,
                true => key(new, "rename.headers")?,
                false => key(&new.to_ascii_lowercase(), "rename.headers")?,
            };
            let old = names(old);
            if old.first() != Some(&header::HOST) {
                rename.push(Rename { old, new });
            }
        }
        let no_host = |mut values: Vec<Value>| {
            values.retain(|v| *v.key.name() != header::HOST);
            values
        };
        remove.retain(|name| *name != header::HOST);
        Ok(HeaderEdits {
            remove,
            rename,
            replace: values(&config.replace.headers, "replace.headers")?,
            add: no_host(values(&config.add.headers, "add.headers")?),
            append: no_host(values(&config.append.headers, "append.headers")?),
        })
    }

    /// Whether `Content-Type` may be another one afterwards.
    pub(crate) fn touches_content_type(&self) -> bool {
        let values = self.replace.iter().chain(&self.add).chain(&self.append);
        let renamed = self.rename.iter().map(|r| r.new.name());
        let mut touched = values.map(|v| v.key.name()).chain(renamed);
        touched.any(|name| *name == header::CONTENT_TYPE)
    }

    pub(crate) fn apply(
        &self,
        ctx: &mut AccessCtx<'_>,
        environment: &Environment<'_>,
    ) -> Result<(), PluginError> {
        // Templates see the headers as they are before the first change.
        let environment = &Before {
            environment,
            edits: ctx.upstream.headers.len(),
        };
        for name in &self.remove {
            if ctx.header(name).is_some() {
                ctx.upstream.remove(name.clone());
            }
        }
        for Rename { old, new } in &self.rename {
            let Some(found) = old.iter().find(|name| ctx.header(name).is_some()) else {
                continue;
            };
            let found = found.clone();
            let values: SmallVec<[HeaderValue; 1]> =
                ctx.header_values(&found).into_iter().cloned().collect();
            ctx.upstream.remove(found);
            for (n, value) in values.into_iter().enumerate() {
                match n {
                    0 => ctx.upstream.set(new.clone(), value),
                    // Several hosts are none.
                    _ if *new.name() == header::HOST => {}
                    _ => ctx.upstream.append(new.clone(), value),
                }
            }
        }
        for value in &self.replace {
            if *value.key.name() == header::HOST || value.is_there(ctx) {
                value.set(ctx, environment)?;
            }
        }
        for value in &self.add {
            if !value.is_there(ctx) {
                value.set(ctx, environment)?;
            }
        }
        for value in &self.append {
            if single(value.key.name()) {
                value.set(ctx, environment)?;
            } else {
                let text = value.text(ctx, environment)?;
                if !text.is_empty() || value.is_there(ctx) {
                    ctx.upstream.append(value.key.clone(), text);
                }
            }
        }
        Ok(())
    }
}

/// What templates see while headers are changed.
struct Before<'a> {
    environment: &'a Environment<'a>,
    edits: usize,
}

impl Before<'_> {
    fn scope<'s>(&'s self, edits: &'s UpstreamEdits) -> Scope<'s> {
        self.environment.after_first(self.edits, edits)
    }
}

impl Value {
    fn is_there(&self, ctx: &AccessCtx<'_>) -> bool {
        self.names.iter().any(|name| ctx.header(name).is_some())
    }

    fn text(
        &self,
        ctx: &AccessCtx<'_>,
        environment: &Before<'_>,
    ) -> Result<HeaderValue, PluginError> {
        match &self.text {
            Text::Fixed(value) => Ok(value.clone()),
            Text::Template(template) => {
                let text = template.render(environment.scope(ctx.upstream))?;
                Ok(escaped_value(&text))
            }
        }
    }

    /// Makes the value the header's only one. An empty one takes the header away, as in nginx.
    fn set(&self, ctx: &mut AccessCtx<'_>, environment: &Before<'_>) -> Result<(), PluginError> {
        let text = self.text(ctx, environment)?;
        if !text.is_empty() {
            ctx.upstream.set(self.key.clone(), text);
        } else if ctx.header(self.key.name()).is_some() && *self.key.name() != header::HOST {
            ctx.upstream.remove(self.key.name().clone());
        }
        Ok(())
    }
}

/// Names and values. Those without a value do nothing and are left out.
fn values(pairs: &[String], field: &'static str) -> Result<Vec<Value>, ConfigError> {
    let mut out = Vec::with_capacity(pairs.len());
    for (name, text) in pairs.iter().filter_map(|p| split(p)) {
        let key = key(name, field)?;
        if text.is_empty() {
            continue;
        }
        let template = Template::parse(text).map_err(|e| ConfigError::new(field, e))?;
        out.push(Value {
            names: names(name),
            key,
            text: match template.fixed() {
                Some(text) => Text::Fixed(escaped_value(text)),
                None => Text::Template(template),
            },
        });
    }
    Ok(out)
}

fn key(name: &str, field: &'static str) -> Result<HeaderKey, ConfigError> {
    HeaderKey::new(name).map_err(|e| ConfigError::new(field, e.to_string()))
}

fn names(name: &str) -> Names {
    spellings(name.as_bytes()).into()
}

/// Headers of which a request has one: appending replaces it, as in nginx.
fn single(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::AUTHORIZATION
            | header::CONTENT_TYPE
            | header::IF_MODIFIED_SINCE
            | header::IF_RANGE
            | header::IF_UNMODIFIED_SINCE
            | header::RANGE
            | header::REFERER
            | header::USER_AGENT
    )
}
