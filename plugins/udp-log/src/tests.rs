#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use silverback_plugin::InstanceInfo;
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, config, schema_without_descriptions,
};
use tokio::net::UdpSocket;

use crate::UdpLog;

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<UdpLog>(), facts);
}

#[test]
fn lua_is_refused() {
    let lua = json!({ "host": "x", "port": 1, "custom_fields_by_lua": { "a": "return 1" } });
    let refused = config::<UdpLog>(lua).unwrap_err().message();
    assert!(
        refused.contains("config.custom_fields_by_lua: Lua is not supported"),
        "{refused}"
    );
}

#[tokio::test]
async fn entries_are_datagrams() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let given = json!({ "host": "localhost", "port": server.local_addr().unwrap().port() });
    let services = FakeServices::default();
    let plugin = Compiled::<UdpLog>::with(given, &InstanceInfo::default(), &services);
    for n in 0..3 {
        Exchange::get(&format!("/{n}")).run_on(&plugin).await;
    }
    let mut datagram = vec![0; 65536];
    for n in 0..3 {
        let length = server.recv(&mut datagram).await.unwrap();
        let entry: Value = serde_json::from_slice(&datagram[..length]).unwrap();
        assert_eq!(entry["request"]["uri"], format!("/{n}"));
    }
}
