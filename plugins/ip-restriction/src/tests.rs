#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use serde_json::{Value, json};
use silverback_plugin::InstanceInfo;
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, Outcome, config, schema_without_descriptions,
};

use crate::IpRestriction;

async fn from(ip: &str, settings: Value) -> Outcome {
    let ip: IpAddr = ip.parse().unwrap();
    Exchange::get("/")
        .client_ip(ip)
        .run::<IpRestriction>(settings)
        .await
}

fn refused(done: &Outcome, status: u16, text: &str) {
    assert_eq!(done.exit_status(status).body_json()["message"], text);
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<IpRestriction>(), facts);
}

#[test]
fn a_list_of_addresses_is_needed() {
    let refused = |v: Value| config::<IpRestriction>(v).unwrap_err().message();
    for none in [json!({}), json!({ "allow": [], "deny": null })] {
        assert_eq!(
            refused(none),
            "schema violation (at least one of these fields must be non-empty: 'config.allow', 'config.deny')"
        );
    }
    let bad = refused(json!({ "deny": ["1.2.3"] }));
    assert!(bad.contains("invalid ip or cidr range: '1.2.3'"), "{bad}");
}

#[test]
fn a_status_must_be_one() {
    let made = |status: Value| {
        let settings = json!({ "deny": ["1.2.3.4"], "status": status });
        let services = FakeServices::default();
        Compiled::<IpRestriction>::try_with(settings, &InstanceInfo::default(), &services)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    assert_eq!(made(json!(null)), Ok(()));
    assert_eq!(made(json!(599)), Ok(()));
    for bad in [json!(99), json!(600), json!(403.5), json!(-1)] {
        let text = "status: is no HTTP status".to_owned();
        assert_eq!(made(bad.clone()), Err(text), "{bad}");
    }
}

#[tokio::test]
async fn only_those_in_the_list_are_let_in() {
    let settings = json!({ "allow": ["10.0.0.0/8", "2001:db8::/32"] });
    for inside in ["10.1.1.1", "2001:db8::1"] {
        from(inside, settings.clone()).await.passed();
    }
    for outside in ["127.0.0.1", "2001:db9::1"] {
        let done = from(outside, settings.clone()).await;
        refused(&done, 403, &format!("IP address not allowed: {outside}"));
    }
}

#[tokio::test]
async fn those_in_the_list_are_kept_out() {
    let settings = json!({ "deny": ["127.0.0.0/8"], "status": 418, "message": "go away" });
    refused(&from("127.9.9.9", settings.clone()).await, 418, "go away");
    from("128.0.0.1", settings.clone()).await.passed();
    from("::1", settings).await.passed();
}

#[tokio::test]
async fn who_is_in_both_lists_is_kept_out() {
    let settings = json!({ "allow": ["10.0.0.0/8"], "deny": ["10.0.0.1"] });
    from("10.0.0.2", settings.clone()).await.passed();
    for outside in ["10.0.0.1", "11.0.0.1"] {
        from(outside, settings.clone()).await.exit_status(403);
    }
}
