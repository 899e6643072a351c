//! What the Admin API does with caches. Learnt from `kong/plugins/proxy-cache/api.lua` and its `proxy-cache:purge` events.
//!
//! What is to be forgotten is forgotten by all nodes: the one that is asked tells the others. It tells them also of keys that it does not know itself.

use std::sync::Arc;
use std::time::SystemTime;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use silverback_plugin::{AdminAnswer, AdminCall, AdminEndpoint, AdminOperation, Services};
use uuid::Uuid;

use crate::caches::Caches;
use crate::key::{Digest, digest_of};
use crate::store::Dictionary;

/// In what nodes tell each other: any configuration, any key.
const ANY: &str = "*";

/// `/proxy-cache` and what is below it.
pub(crate) fn all() -> Vec<AdminEndpoint> {
    const KEY: &str = "The key, as `X-Cache-Key` has it.";
    let see = |summary, serve| {
        AdminOperation::new(Method::GET, summary, serve)
            .answers(200, schema())
            .also(&[404])
    };
    let forget =
        |summary, serve| AdminOperation::new(Method::DELETE, summary, serve).also(&[204, 404]);
    let forget_all = AdminOperation::new(
        Method::DELETE,
        "Forget all kept answers, on all nodes",
        flush,
    );
    vec![
        AdminEndpoint::new("/proxy-cache").on(forget_all.also(&[204])),
        AdminEndpoint::new("/proxy-cache/{cache_key}")
            .parameter("cache_key", KEY)
            .on(see("Read an answer that the node keeps", find))
            .on(forget("Forget a kept answer, on all nodes", purge)),
        AdminEndpoint::new("/proxy-cache/{plugin_id}/caches/{cache_key}")
            .parameter("plugin_id", "The `id` of the plugin's configuration.")
            .parameter("cache_key", KEY)
            .on(see(
                "Read an answer that the node keeps for a configuration",
                find,
            ))
            .on(forget(
                "Forget an answer that is kept for a configuration, on all nodes",
                purge,
            )),
    ]
}

/// Takes in what a node told.
pub(crate) fn hear(text: &str, services: &dyn Services) {
    let Some((plugin, key)) = text.split_once(':') else {
        return;
    };
    let dictionaries = dictionaries(services, Some(plugin).filter(|p| *p != ANY));
    match digest_of(key) {
        Some(digest) => drop(forgotten(&dictionaries, &digest)),
        None if key == ANY => dictionaries.iter().for_each(|d| d.clear()),
        None => {}
    }
}

fn flush(call: &AdminCall<'_>) -> AdminAnswer {
    for dictionary in Caches::of(call.services).dictionaries() {
        dictionary.clear();
    }
    AdminAnswer::empty(StatusCode::NO_CONTENT).telling(format!("{ANY}:{ANY}"))
}

fn find(call: &AdminCall<'_>) -> AdminAnswer {
    let now = SystemTime::now();
    let digest = digest_of(call.parameter("cache_key"));
    let found = digest.and_then(|digest| {
        let all = dictionaries(call.services, plugin(call));
        all.iter().find_map(|d| d.get(&digest, now))
    });
    match found {
        Some(kept) => AdminAnswer::json(StatusCode::OK, kept.to_json()),
        None => AdminAnswer::empty(StatusCode::NOT_FOUND),
    }
}

fn purge(call: &AdminCall<'_>) -> AdminAnswer {
    let key = call.parameter("cache_key");
    let Some(digest) = digest_of(key) else {
        // What is no key is kept nowhere.
        return AdminAnswer::empty(StatusCode::NOT_FOUND);
    };
    let plugin = plugin(call);
    let status = match forgotten(&dictionaries(call.services, plugin), &digest) {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::NOT_FOUND,
    };
    AdminAnswer::empty(status).telling(format!("{}:{key}", plugin.unwrap_or(ANY)))
}

/// The configuration that a path names, if it names one.
fn plugin<'a>(call: &'a AdminCall<'_>) -> Option<&'a str> {
    let plugin = call.parameter("plugin_id");
    (!plugin.is_empty()).then_some(plugin)
}

/// The dictionaries of all configurations, or that of one.
fn dictionaries(services: &dyn Services, plugin: Option<&str>) -> Vec<Arc<Dictionary>> {
    let caches = Caches::of(services);
    match plugin {
        None => caches.dictionaries(),
        Some(id) => {
            let id = Uuid::try_parse(id).ok();
            id.and_then(|id| caches.dictionary(id))
                .into_iter()
                .collect()
        }
    }
}

/// Forgets an answer wherever it is; whether it was anywhere.
fn forgotten(dictionaries: &[Arc<Dictionary>], digest: &Digest) -> bool {
    dictionaries
        .iter()
        .filter(|dictionary| dictionary.forget(digest))
        .count()
        > 0
}

/// What a kept answer looks like.
fn schema() -> Value {
    let count = |text: &str| json!({ "type": "integer", "minimum": 0, "description": text });
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    json!({
        "type": "object",
        "properties": {
            "status": { "type": "integer" },
            "headers": { "type": "object", "additionalProperties": { "anyOf": [{ "type": "string" }, texts] } },
            "body": { "type": "string", "description": "As text; what is no text is replaced." },
            "body_len": count("The length of the body in bytes."),
            "timestamp": count("When it came, in seconds since 1970."),
            "ttl": count("For how many seconds it is good."),
            "version": count("The form of what is kept."),
            "req_body": { "type": "string", "description": "The body of the request, if that is known: empty." },
        },
        "required": ["status", "headers", "body", "body_len", "timestamp", "ttl", "version"],
        "additionalProperties": false,
    })
}
