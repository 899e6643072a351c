#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use silverback_plugin::InstanceInfo;
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, config, schema_without_descriptions,
};

use crate::Redirect;

/// Where a request for that path and query is sent to.
async fn sent(path_and_query: &str, location: &str, keep: bool) -> String {
    let settings = json!({ "location": location, "keep_incoming_path": keep });
    let exchange = Exchange::get(path_and_query);
    let done = exchange.run::<Redirect>(settings).await;
    done.exit_status(301);
    assert_eq!(done.body_text(), "redirecting");
    assert_eq!(done.header("content-type"), None);
    done.header("location").unwrap().to_owned()
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<Redirect>(), facts);
}

#[test]
fn a_location_is_a_url() {
    let refused = |v: Value| config::<Redirect>(v).unwrap_err().message();
    assert_eq!(
        refused(json!({})),
        "schema violation (config.location: required field missing)"
    );
    assert_eq!(
        refused(json!({ "location": "/x" })),
        "schema violation (config.location: missing host in url)"
    );
    let unusable = |v: Value| {
        let services = FakeServices::default();
        let made = Compiled::<Redirect>::try_with(v, &InstanceInfo::default(), &services);
        made.map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(
        unusable(json!({ "location": "http://x/\n" })),
        "location: cannot be a header's value"
    );
    assert_eq!(
        unusable(json!({ "location": "http://x:y/", "keep_incoming_path": true })),
        "location: invalid port number"
    );
}

#[tokio::test]
async fn clients_are_sent_to_the_location_as_it_is() {
    let base = "http://new.test/a b?z=1#top";
    assert_eq!(sent("/x?y=1", base, false).await, base);
}

#[tokio::test]
async fn clients_may_be_sent_to_the_same_path() {
    let base = "http://new.test:80/base?z=1";
    for (target, location) in [
        ("/x?y=1", "http://new.test/x?y=1"),
        ("/", "http://new.test/"),
        ("/x?", "http://new.test/x"),
        ("/a/../b/%41", "http://new.test/b/A"),
        ("//evil.test/x", "http://new.test/evil.test/x"),
        ("/a\u{e9}?\u{e9}", "http://new.test/a%C3%A9?%C3%A9"),
    ] {
        assert_eq!(sent(target, base, true).await, location, "{target}");
    }
    assert_eq!(
        sent("/x", "https://me@new.test:8443/#top", true).await,
        "https://me@new.test:8443/x#top"
    );
}

#[tokio::test]
async fn the_status_is_configured() {
    let settings =
        json!({ "location": "http://new.test/", "status_code": 302, "keep_incoming_path": null });
    let done = Exchange::get("/").run::<Redirect>(settings).await;
    assert_eq!(
        done.exit_status(302).header("location"),
        Some("http://new.test/")
    );
}
