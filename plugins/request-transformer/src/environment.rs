//! What templates can look at: the request's headers, query and captures.
//!
//! As in Kong, each of them is seen as it was when a template first looked at it, whatever the plugin has changed since.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};

use http::header::{HOST, HeaderName};
use silverback_plugin::edits::values_after;
use silverback_plugin::{AccessCtx, CaptureSource, Captures, RequestView, UpstreamEdits};

use crate::arguments::Arguments;
use crate::expression::Value;

/// What is kept between the templates of one request.
pub(crate) struct Environment<'a> {
    request: RequestView<'a>,
    source: &'a dyn CaptureSource,
    captures: OnceCell<Option<Captures>>,
    query: OnceCell<Arguments<'static>>,
    /// How many edits of headers there were when they were first looked at.
    edits_seen: Cell<Option<usize>>,
}

impl<'a> Environment<'a> {
    pub(crate) fn new(ctx: &AccessCtx<'a>) -> Self {
        Environment {
            request: ctx.request,
            source: ctx.captures,
            captures: OnceCell::new(),
            query: OnceCell::new(),
            edits_seen: Cell::new(None),
        }
    }

    /// The environment after these edits.
    pub(crate) fn after<'s>(&'s self, edits: &'s UpstreamEdits) -> Scope<'s> {
        self.after_first(edits.headers.len(), edits)
    }

    /// The environment after these edits, of those of headers the first ones only.
    pub(crate) fn after_first<'s>(
        &'s self,
        of_headers: usize,
        edits: &'s UpstreamEdits,
    ) -> Scope<'s> {
        Scope {
            kept: self,
            edits,
            of_headers,
        }
    }

    /// The query as templates see it.
    pub(crate) fn query(&self, edits: &UpstreamEdits) -> &Arguments<'static> {
        self.query.get_or_init(|| {
            let query = match &edits.query {
                Some(edited) => edited.as_bytes(),
                None => self.request.query().unwrap_or_default(),
            };
            Arguments::parse(query).into_owned()
        })
    }
}

/// The environment of one template.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'s> {
    kept: &'s Environment<'s>,
    edits: &'s UpstreamEdits,
    of_headers: usize,
}

impl<'s> Scope<'s> {
    /// A header by the names it may go by, the first that is there.
    pub(crate) fn header(self, names: &[HeaderName]) -> Value<'s> {
        let seen = self.kept.edits_seen.get().unwrap_or_else(|| {
            self.kept.edits_seen.set(Some(self.of_headers));
            self.of_headers
        });
        let edits = self.edits.headers.get(..seen).unwrap_or_default();
        let parts = self.kept.request.parts;
        for name in names {
            let mut values = values_after(&parts.headers, edits, name);
            match values.len() {
                0 => {}
                1 => return Value::text(values.remove(0).as_bytes()),
                _ => {
                    let all = values.iter().map(|v| Value::text(v.as_bytes()));
                    return Value::List(all.collect());
                }
            }
        }
        // HTTP/2 says the host elsewhere.
        match parts.uri.authority() {
            Some(authority) if names.contains(&HOST) => Value::text(authority.as_str().as_bytes()),
            _ => Value::Nil,
        }
    }

    /// An argument of the query.
    pub(crate) fn argument(self, name: &[u8]) -> Value<'s> {
        let mut values = self.kept.query(self.edits).values(name).map(|v| match v {
            Some(text) => Value::Text(Cow::Borrowed(text)),
            None => Value::Boolean(true),
        });
        let Some(first) = values.next() else {
            return Value::Nil;
        };
        let rest: Vec<_> = values.collect();
        if rest.is_empty() {
            first
        } else {
            Value::List(std::iter::once(first).chain(rest).collect())
        }
    }

    /// A capture by its number.
    pub(crate) fn numbered_capture(self, number: usize) -> Value<'s> {
        let all = self.captures().map(|c| &c.numbered);
        let text = all.and_then(|n| n.get(number)?.as_ref());
        text.map_or(Value::Nil, |t| Value::text(t.as_bytes()))
    }

    /// A capture by its name.
    pub(crate) fn named_capture(self, name: &[u8]) -> Value<'s> {
        let all = self.captures().map(|c| c.named.as_slice());
        let found = all.unwrap_or_default();
        let found = found.iter().find(|(n, _)| n.as_bytes() == name);
        found.map_or(Value::Nil, |(_, t)| Value::text(t.as_bytes()))
    }

    fn captures(self) -> Option<&'s Captures> {
        let kept = self.kept;
        let captures = kept.captures.get_or_init(|| kept.source.captures());
        captures.as_ref()
    }
}
