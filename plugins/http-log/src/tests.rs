#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use silverback_export::Terms;
use silverback_plugin::exchange::{Compiled, FakeServices, config, schema_without_descriptions};
use silverback_plugin::{InstanceInfo, PluginEnv};

use crate::{Config, HttpLog, Plugin as _};

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<HttpLog>(), facts);
}

#[test]
fn bad_configurations_are_refused_in_kongs_words() {
    let refused = |given: Value| config::<HttpLog>(given).unwrap_err().message();
    let at = |field: &str, text: &str| format!("schema violation (config.{field}: {text})");
    let url = "http://log.test/";
    assert_eq!(
        refused(json!({ "http_endpoint": "foo" })),
        at("http_endpoint", "missing host in url")
    );
    assert_eq!(
        refused(json!({ "http_endpoint": url, "headers": { "hOst": "x" } })),
        at("headers", "cannot contain 'Host' header")
    );
    assert_eq!(
        refused(json!({ "http_endpoint": url, "headers": { "content-type": "x" } })),
        at("headers", "cannot contain 'Content-Type' header")
    );
    assert_eq!(
        refused(json!({ "http_endpoint": url, "headers": { "X-A": "" } })),
        at("headers", "length must be at least 1")
    );
    let in_queue = |field: &str, text: &str| {
        format!("schema violation (config.queue: {{\n  {field} = \"{text}\"\n}})")
    };
    assert_eq!(
        refused(json!({ "http_endpoint": url, "queue": { "max_batch_size": 0 } })),
        in_queue("max_batch_size", "value should be between 1 and 1000000")
    );
    assert_eq!(
        refused(json!({ "http_endpoint": url, "queue": { "initial_retry_delay": 0 } })),
        in_queue(
            "initial_retry_delay",
            "value should be between 0.001 and 1000000"
        )
    );
    let both = json!({
        "http_endpoint": "http://bob:secret@log.test/", "headers": { "AuthoRization": "Basic x" }
    });
    assert_eq!(
        refused(both),
        "schema violation (config: specifying both an 'Authorization' header and user info in 'http_endpoint' is not allowed)"
    );
}

#[test]
fn lua_is_refused_where_it_would_do_something() {
    let given =
        |lua: Value| json!({ "http_endpoint": "http://log.test/", "custom_fields_by_lua": lua });
    let refused = config::<HttpLog>(given(json!({ "cf": "return 1" }))).unwrap_err();
    assert_eq!(
        refused.message(),
        "schema violation (config.custom_fields_by_lua: Lua is not supported: fields cannot be computed by Lua code)"
    );
    config::<HttpLog>(given(json!({}))).unwrap();
    config::<HttpLog>(given(Value::Null)).unwrap();
}

#[test]
fn endpoints_that_pass_the_schema_and_lead_nowhere_are_refused() {
    let services = FakeServices::default();
    let make = |endpoint: &str| {
        let given = json!({ "http_endpoint": endpoint });
        Compiled::<HttpLog>::try_with(given, &InstanceInfo::default(), &services)
    };
    for bad in ["ftp://log.test/", "http://log.test:port/", "http://a b/"] {
        let refused = make(bad).err().unwrap();
        assert_eq!(refused.field, "http_endpoint", "{bad}");
    }
    for good in [
        "http://[::1]:80/x",
        "HTTPS://log.test",
        "http://u:p@log.test:1/x?y=1#z",
    ] {
        assert!(make(good).is_ok(), "{good}");
    }
}

fn typed(given: Value) -> Config {
    let filled = config::<HttpLog>(given).unwrap();
    serde_json::from_value(Value::Object(filled)).unwrap()
}

#[test]
fn former_names_of_the_queues_settings_still_count() {
    let terms = |given: Value| {
        let config = typed(given);
        let terms = Terms::from(&config.queue);
        let terms = terms.with_former(config.queue_size, config.flush_timeout);
        (
            terms.max_batch_size,
            terms.max_coalescing_delay.as_secs_f64(),
        )
    };
    let url = "http://log.test/";
    assert_eq!(terms(json!({ "http_endpoint": url })), (1, 1.0));
    assert_eq!(
        terms(json!({ "http_endpoint": url, "queue_size": 5, "flush_timeout": 0.5 })),
        (5, 0.5)
    );
    let former_defaults = json!({
        "http_endpoint": url, "queue_size": 1, "flush_timeout": 2, "queue": { "max_batch_size": 7, "max_coalescing_delay": 3 }
    });
    assert_eq!(terms(former_defaults), (7, 3.0));
}

#[tokio::test]
async fn configurations_for_the_same_server_share_a_queue() {
    let services = FakeServices::default();
    let make = |given: Value| {
        let env = PluginEnv {
            instance: &InstanceInfo::default(),
            services: &services,
        };
        HttpLog::compile(typed(given), &env).unwrap()
    };
    let one = make(json!({ "http_endpoint": "http://log.test/" }));
    let same =
        make(json!({ "http_endpoint": "http://log.test/", "queue": { "max_batch_size": 9 } }));
    let other = make(json!({ "http_endpoint": "http://log.test/", "method": "PUT" }));
    assert!(std::sync::Arc::ptr_eq(&one.queue, &same.queue));
    assert!(!std::sync::Arc::ptr_eq(&one.queue, &other.queue));
}
