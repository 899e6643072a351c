//! Endpoints that a plugin adds to the Admin API; Kong's `api.lua` files. What is about rows needs none: see [`Plugin::entities`].
//!
//! The Admin API serves them like its own: they are in `GET /endpoints` and in the OpenAPI document, tokens and their roles hold for them, `HEAD` is
//! answered as `GET`, `OPTIONS` says the methods and other methods get 405.
//!
//! [`Plugin::entities`]: crate::Plugin::entities

use std::borrow::Cow;

use http::{Method, StatusCode};
use serde_json::{Map, Value};

use crate::env::Services;

/// A path with what can be done there.
#[derive(Clone, Debug)]
pub struct AdminEndpoint {
    /// The path, with parameters in braces: `/proxy-cache/{cache_key}`.
    pub path: &'static str,
    /// The parameters of the path and what they are, for the OpenAPI document.
    pub parameters: Vec<(&'static str, &'static str)>,
    /// What can be done, each method once.
    pub operations: Vec<AdminOperation>,
}

impl AdminEndpoint {
    /// A path where nothing can be done yet.
    pub fn new(path: &'static str) -> Self {
        AdminEndpoint {
            path,
            parameters: Vec::new(),
            operations: Vec::new(),
        }
    }

    /// Says what a parameter of the path is.
    pub fn parameter(mut self, name: &'static str, text: &'static str) -> Self {
        self.parameters.push((name, text));
        self
    }

    /// One thing more that can be done.
    pub fn on(mut self, operation: AdminOperation) -> Self {
        self.operations.push(operation);
        self
    }

    /// What is done with a method; with `HEAD` what is done with `GET`.
    pub fn operation(&self, method: &Method) -> Option<&AdminOperation> {
        let method = match *method {
            Method::HEAD => &Method::GET,
            _ => method,
        };
        self.operations.iter().find(|o| o.method == *method)
    }

    /// The methods in alphabetical order, as `Allow` says them.
    pub fn allow(&self) -> String {
        let mut methods: Vec<&str> = self.operations.iter().map(|o| o.method.as_str()).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        methods.sort_unstable();
        methods.join(", ")
    }
}

/// What is done at an endpoint with a method.
#[derive(Clone, Debug)]
pub struct AdminOperation {
    /// The method.
    pub method: Method,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// The status of a success with a body, and the JSON schema of that body.
    pub answer: Option<(u16, Value)>,
    /// Other statuses it answers with.
    pub also: &'static [u16],
    /// Does it. It must not block: what takes time is a task ([`Services::spawn`]).
    pub serve: fn(&AdminCall<'_>) -> AdminAnswer,
}

impl AdminOperation {
    /// What is done with that method.
    pub fn new(
        method: Method,
        summary: &'static str,
        serve: fn(&AdminCall<'_>) -> AdminAnswer,
    ) -> Self {
        AdminOperation {
            method,
            summary,
            answer: None,
            also: &[],
            serve,
        }
    }

    /// A success has that status and a body of that JSON schema.
    pub fn answers(mut self, status: u16, schema: Value) -> Self {
        self.answer = Some((status, schema));
        self
    }

    /// Other statuses it answers with, those of a success without a body among them.
    pub fn also(mut self, statuses: &'static [u16]) -> Self {
        self.also = statuses;
        self
    }
}

/// A call of an endpoint.
pub struct AdminCall<'a> {
    /// What the parameters of the path are, decoded.
    pub parameters: Vec<(&'static str, String)>,
    /// The arguments of the query, decoded.
    pub query: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The fields of the body, from JSON or a form; none without a body.
    pub body: Map<String, Value>,
    /// The node.
    pub services: &'a dyn Services,
}

impl<'a> AdminCall<'a> {
    /// A call with nothing in it.
    pub fn new(services: &'a dyn Services) -> Self {
        AdminCall {
            parameters: Vec::new(),
            query: Vec::new(),
            body: Map::new(),
            services,
        }
    }

    /// With a parameter of the path.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.parameters.push((name, value.into()));
        self
    }

    /// A parameter of the path; empty when the path has none of that name.
    pub fn parameter(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(n, _)| *n == name);
        found.map_or("", |(_, value)| value)
    }

    /// An argument of the query. Of one that comes several times the first counts.
    pub fn argument(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_ref())
    }
}

/// What an endpoint answers.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminAnswer {
    /// The status.
    pub status: StatusCode,
    /// The body; without one an error gets nginx's page, as in Kong.
    pub body: Option<Value>,
    /// What all nodes are told of it, this one included: see [`Plugin::hear`](crate::Plugin::hear).
    pub told: Option<String>,
}

impl AdminAnswer {
    /// With a body.
    pub fn json(status: StatusCode, body: Value) -> Self {
        AdminAnswer {
            status,
            body: Some(body),
            told: None,
        }
    }

    /// Without one.
    pub fn empty(status: StatusCode) -> Self {
        AdminAnswer {
            status,
            body: None,
            told: None,
        }
    }

    /// Tells all nodes that are connected to the database at this moment; at most some 7,000 bytes. Should that fail, it is logged.
    pub fn telling(mut self, text: impl Into<String>) -> Self {
        self.told = Some(text.into());
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::exchange::FakeServices;

    fn nothing(_: &AdminCall<'_>) -> AdminAnswer {
        AdminAnswer::empty(StatusCode::NO_CONTENT)
    }

    #[test]
    fn an_endpoint_with_get_has_head() {
        let of = |method| AdminOperation::new(method, "Do it", nothing);
        let both = AdminEndpoint::new("/x")
            .on(of(Method::GET))
            .on(of(Method::DELETE));
        assert_eq!(both.allow(), "DELETE, GET, HEAD, OPTIONS");
        assert_eq!(both.operation(&Method::HEAD).unwrap().method, Method::GET);
        let post = AdminEndpoint::new("/x").on(of(Method::POST));
        assert_eq!(post.allow(), "OPTIONS, POST");
        assert!(post.operation(&Method::HEAD).is_none());
    }

    #[test]
    fn a_call_knows_its_parameters_and_arguments() {
        let services = FakeServices::default();
        let mut call = AdminCall::new(&services).with("key", "k");
        call.query = vec![("a".into(), "1".into()), ("a".into(), "2".into())];
        assert_eq!((call.parameter("key"), call.parameter("other")), ("k", ""));
        assert_eq!((call.argument("a"), call.argument("b")), (Some("1"), None));
    }
}
