#![allow(clippy::unwrap_used)]

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use silverback_plugin::InstanceInfo;
use silverback_plugin::env::hostname;
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, config, schema_without_descriptions,
};
use tokio::net::UdpSocket;

use crate::{Loggly, head, now};

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<Loggly>(), facts);
}

#[test]
fn a_key_is_required_and_lua_is_refused() {
    let refused = |given: Value| config::<Loggly>(given).unwrap_err().message();
    assert_eq!(
        refused(json!({})),
        "schema violation (config.key: required field missing)"
    );
    let lua = refused(json!({ "key": "k", "custom_fields_by_lua": { "a": "return 1" } }));
    assert!(
        lua.contains("config.custom_fields_by_lua: Lua is not supported"),
        "{lua}"
    );
}

#[test]
fn messages_have_the_key_and_the_tags_in_front() {
    let tags = ["a".to_owned(), "b c".to_owned()];
    assert_eq!(
        head("vm", "k", Some(&tags)),
        "vm kong - - [k@41058 tag=\"a\" tag=\"b c\"]"
    );
    assert_eq!(head("vm", "k", None), "vm kong - - [k@41058 ]");
    let at = UNIX_EPOCH + Duration::from_millis(1_795_342_025_999);
    assert_eq!(now(at), "2026-11-22T10:07:05Z");
}

#[tokio::test]
async fn what_is_grave_enough_is_a_message() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let given = json!({
        "host": "127.0.0.1", "port": server.local_addr().unwrap().port(), "key": "loggly-key",
        "successful_severity": "debug", "client_errors_severity": "warning", "server_errors_severity": "crit"
    });
    let services = FakeServices::default();
    let plugin = Compiled::<Loggly>::with(given, &InstanceInfo::default(), &services);
    for status in [200, 404, 503] {
        let exchange = Exchange::get("/").upstream(status, &[], "");
        exchange.run_on(&plugin).await;
    }
    let mut datagram = vec![0; 65536];
    for (priority, status) in [(12, 404), (10, 503)] {
        let length = server.recv(&mut datagram).await.unwrap();
        let message = std::str::from_utf8(&datagram[..length]).unwrap();
        let (head, entry) = message.split_at(message.find('{').unwrap());
        let words: Vec<_> = head.trim_end().split(' ').collect();
        assert_eq!(words[0], format!("<{priority}>1"));
        let rest = [
            &*hostname(),
            "kong",
            "-",
            "-",
            "[loggly-key@41058",
            "tag=\"kong\"]",
        ];
        assert_eq!(words[2..], rest);
        let entry: Value = serde_json::from_str(entry).unwrap();
        assert_eq!(entry["response"]["status"], status);
    }
}
