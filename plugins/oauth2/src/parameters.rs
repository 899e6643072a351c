//! What a request says in its query and its body.

use std::borrow::Cow;

use http::Method;
use http::header::CONTENT_TYPE;
use silverback_plugin::AccessCtx;
use silverback_plugin::args::{self, Found};
use silverback_plugin::fields::Fields;

/// The longest body that is looked into, in bytes; a longer one says nothing.
const MAX_BODY: usize = 8 << 20;

/// The arguments of the query and the fields of the body, which come first.
pub(crate) struct Parameters {
    query: Vec<u8>,
    body: Option<Fields>,
}

/// The value of a parameter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parameter<'a> {
    Missing,
    Text(Cow<'a, str>),
    /// A number, several values, bytes that are no text.
    NoText,
}

impl Parameters {
    /// Whether the body of such a request is looked at.
    pub(crate) fn are_in_body(ctx: &AccessCtx<'_>) -> bool {
        [Method::POST, Method::PUT, Method::PATCH].contains(&ctx.request.parts.method)
            && Fields::readable(ctx.header(&CONTENT_TYPE))
    }

    /// Those of a request, whose body is read if it can have any.
    pub(crate) async fn read(ctx: &mut AccessCtx<'_>) -> Self {
        let mut body = None;
        if Self::are_in_body(ctx)
            && let Ok(bytes) = ctx.read_body(MAX_BODY).await
        {
            body = Fields::parse(ctx.header(&CONTENT_TYPE), bytes);
        }
        Parameters {
            query: ctx.query().to_vec(),
            body,
        }
    }

    /// The value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Parameter<'_> {
        let in_body = self.body.as_ref().map(|b| b.find(name));
        let found = match in_body {
            Some(found) if found != Found::Nothing => found,
            _ => args::find(&self.query, name.as_bytes()),
        };
        match found {
            Found::Nothing => Parameter::Missing,
            Found::One(Cow::Borrowed(bytes)) => {
                std::str::from_utf8(bytes).map_or(Parameter::NoText, |t| Parameter::Text(t.into()))
            }
            Found::One(Cow::Owned(bytes)) => {
                String::from_utf8(bytes).map_or(Parameter::NoText, |t| Parameter::Text(t.into()))
            }
            Found::NoText | Found::Many => Parameter::NoText,
        }
    }

    /// A parameter that is a text.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.get(name) {
            Parameter::Text(text) => Some(text),
            Parameter::Missing | Parameter::NoText => None,
        }
    }

    /// A parameter that is a text with something in it.
    pub(crate) fn word(&self, name: &str) -> Option<Cow<'_, str>> {
        self.text(name).filter(|t| !t.trim().is_empty())
    }

    /// The body without a parameter, where it is a form and has it.
    pub(crate) fn form_without(&self, name: &str) -> Option<bytes::Bytes> {
        match &self.body {
            Some(form @ Fields::Form(_)) => form.without(name),
            _ => None,
        }
    }
}
