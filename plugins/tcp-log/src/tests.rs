#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use silverback_plugin::InstanceInfo;
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, config, schema_without_descriptions,
};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;

use crate::TcpLog;

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<TcpLog>(), facts);
}

#[test]
fn a_server_is_a_host_and_a_port() {
    let refused = |given: Value| config::<TcpLog>(given).unwrap_err().message();
    let missing = refused(json!({}));
    assert!(
        missing.contains("config.host: required field missing"),
        "{missing}"
    );
    assert!(
        missing.contains("config.port: required field missing"),
        "{missing}"
    );
    let port = refused(json!({ "host": "x", "port": 70000 }));
    assert!(
        port.contains("config.port: value should be between 0 and 65535"),
        "{port}"
    );
    let lua =
        refused(json!({ "host": "x", "port": 1, "custom_fields_by_lua": { "a": "return 1" } }));
    assert!(
        lua.contains("config.custom_fields_by_lua: Lua is not supported"),
        "{lua}"
    );
}

#[tokio::test]
async fn entries_are_lines_in_order() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let given = json!({ "host": "127.0.0.1", "port": listener.local_addr().unwrap().port() });
    let services = FakeServices::default();
    let plugin = Compiled::<TcpLog>::with(given, &InstanceInfo::default(), &services);
    for n in 0..3 {
        Exchange::get(&format!("/{n}")).run_on(&plugin).await;
    }
    let mut lines = BufReader::new(listener.accept().await.unwrap().0).lines();
    for n in 0..3 {
        let line = lines.next_line().await.unwrap().unwrap();
        let entry: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(entry["request"]["uri"], format!("/{n}"));
    }
}
