//! Endpoints that plugins bring ([`silverback_plugin::endpoint`]): a call is taken apart for the plugin, and what it answers becomes an answer.

use axum::response::Response;
use http::StatusCode;
use silverback_plugin::{AdminAnswer, AdminCall};

use crate::crud::Call;
use crate::errors::{Answer, ApiError};
use crate::respond;

/// What the topics of plugins' announcements begin with.
const TOPIC: &str = "plugin/";

/// The plugin that told all nodes something; `None` when the announcement is about something else.
pub fn plugin_told(topic: &str) -> Option<&str> {
    topic.strip_prefix(TOPIC)
}

/// Serves an endpoint: the plugin's nth.
pub(crate) async fn serve(call: Call<'_>, plugin: &'static str, nth: usize) -> Answer {
    let app = call.app;
    let def = app.model.plugin(plugin).map(|p| &p.plugin);
    let endpoint = def.and_then(|def| def.endpoints.get(nth));
    let endpoint = endpoint.ok_or_else(ApiError::not_found)?;
    let operation = endpoint.operation(call.method);
    let operation = operation.ok_or(ApiError::MethodNotAllowed)?;
    let mut parameters = Vec::new();
    let pattern = endpoint.path.trim_matches('/').split('/');
    for (n, name) in pattern.enumerate() {
        let name = name.strip_prefix('{').and_then(|n| n.strip_suffix('}'));
        if let Some(name) = name {
            parameters.push((name, call.segment(n)?));
        }
    }
    let answer = (operation.serve)(&AdminCall {
        parameters,
        query: call.args.into_pairs(),
        body: call.payload.fields,
        services: &*app.services,
    });
    if let Some(text) = &answer.told {
        let topic = format!("{TOPIC}{plugin}");
        // As in Kong what was asked for has happened here, whether others hear of it or not.
        if let Err(error) = app.store.announce(&topic, text).await {
            tracing::error!(plugin, %error, "other nodes were not told");
        }
    }
    Ok(shown(answer))
}

fn shown(answer: AdminAnswer) -> Response {
    match answer.body {
        Some(body) => respond::json(answer.status, &body),
        None if answer.status >= StatusCode::BAD_REQUEST => respond::page(answer.status),
        None => respond::empty(answer.status),
    }
}
