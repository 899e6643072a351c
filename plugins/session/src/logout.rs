//! Whether a request wants to log out (`kong/plugins/session/session.lua`).

use http::Method;
use http::header::CONTENT_TYPE;
use serde_json::Value;
use silverback_plugin::AccessCtx;
use silverback_plugin::args::{self, Found};
use silverback_plugin::fields::Fields;

/// The longest body that is searched, in bytes; a longer one asks for nothing.
const MAX_BODY: usize = 8 << 20;

/// How to ask for it.
#[derive(Debug)]
pub(crate) struct Logout {
    pub(crate) methods: Vec<Method>,
    pub(crate) argument: Option<String>,
    /// `None` when bodies are not read.
    pub(crate) field: Option<String>,
}

impl Logout {
    /// Whether the body has to be read to know.
    pub(crate) fn needs_body(&self, ctx: &AccessCtx<'_>) -> bool {
        let method = &ctx.request.parts.method;
        self.field.is_some()
            && *method != Method::GET
            && self.methods.contains(method)
            && Fields::readable(ctx.header(&CONTENT_TYPE))
            && !self.in_query(ctx)
    }

    /// Whether this request does.
    pub(crate) async fn is_asked_for(&self, ctx: &mut AccessCtx<'_>) -> bool {
        if !self.methods.contains(&ctx.request.parts.method) {
            return false;
        }
        if !self.needs_body(ctx) {
            return self.in_query(ctx);
        }
        let Ok(body) = ctx.read_body(MAX_BODY).await else {
            return false;
        };
        let fields = Fields::parse(ctx.header(&CONTENT_TYPE), body);
        let (Some(fields), Some(name)) = (fields, &self.field) else {
            return false;
        };
        match &fields {
            Fields::Json(map) => map.get(name).is_some_and(|v| *v != Value::Bool(false)),
            fields => fields.find(name) != Found::Nothing,
        }
    }

    fn in_query(&self, ctx: &AccessCtx<'_>) -> bool {
        let argument = self.argument.as_deref();
        argument.is_some_and(|name| args::find(ctx.query(), name.as_bytes()) != Found::Nothing)
    }
}
