#![allow(clippy::unwrap_used)]

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use silverback_plugin::InstanceInfo;
use silverback_plugin::exchange::{Compiled, Exchange, FakeServices, schema_without_descriptions};
use uuid::Uuid;

use crate::CorrelationId;

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<CorrelationId>(), facts);
}

#[tokio::test]
async fn a_worker_counts_its_requests() {
    let plugin = Compiled::<CorrelationId>::new(json!({}));
    let mut ids = Vec::new();
    for _ in 0..2 {
        let done = Exchange::get("/").run_on(&plugin).await;
        let id = done
            .passed()
            .upstream_header("kong-request-id")
            .unwrap()
            .to_owned();
        assert_eq!(done.header("kong-request-id"), None);
        let (worker, number) = id.split_once('#').unwrap();
        ids.push((
            Uuid::parse_str(worker).unwrap(),
            number.parse::<u64>().unwrap(),
        ));
    }
    assert_eq!(ids[0].0, ids[1].0);
    assert_eq!(ids[0].1 + 1, ids[1].1);
}

#[tokio::test]
async fn uuids_are_random() {
    let plugin =
        Compiled::<CorrelationId>::new(json!({ "generator": "uuid", "header_name": "X-Cid" }));
    let one = Exchange::get("/").run_on(&plugin).await;
    let two = Exchange::get("/").header("x-cid", "").run_on(&plugin).await;
    let id = |done: &silverback_plugin::exchange::Outcome| {
        Uuid::parse_str(done.upstream_header("x-cid").unwrap()).unwrap()
    };
    assert_eq!(id(&one).get_version_num(), 4);
    assert_ne!(id(&one), id(&two));
}

#[tokio::test]
async fn a_tracker_names_addresses_process_connection_and_time() {
    let at = UNIX_EPOCH + Duration::from_millis(1_795_342_012_343);
    let done = Exchange::get("/")
        .at(at)
        .run::<CorrelationId>(json!({ "generator": "tracker", "echo_downstream": true }))
        .await;
    let id = format!("127.0.0.1-8000-{}-7-1-1795342012.343", std::process::id());
    assert_eq!(done.upstream_header("kong-request-id"), Some(id.as_str()));
    assert_eq!(done.header("kong-request-id"), Some(id.as_str()));
}

#[tokio::test]
async fn an_id_of_the_client_is_kept() {
    let config = |echo: bool| json!({ "header_name": "X-Cid", "echo_downstream": echo });
    let exchange = || {
        Exchange::get("/")
            .header("x-cid", "mine")
            .upstream(200, &[("x-cid", "upstream's")], "")
    };
    let done = exchange().run::<CorrelationId>(config(true)).await;
    assert!(done.edits().headers.is_empty());
    assert_eq!(done.upstream_header("x-cid"), Some("mine"));
    assert_eq!(done.header("x-cid"), Some("mine"));
    let done = exchange().run::<CorrelationId>(config(false)).await;
    assert_eq!(done.header("x-cid"), Some("upstream's"));
}

#[test]
fn a_name_that_is_no_header_is_refused() {
    let refused = |name: &str| {
        let config = json!({ "header_name": name });
        Compiled::<CorrelationId>::try_with(
            config,
            &InstanceInfo::default(),
            &FakeServices::default(),
        )
        .map(|_| ())
    };
    assert_eq!(refused("a b").unwrap_err().field, "header_name");
    assert!(refused("a-b").is_ok());
}
