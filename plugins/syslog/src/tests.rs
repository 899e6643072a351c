#![allow(clippy::unwrap_used)]

use chrono::{Local, TimeZone};
use serde_json::{Value, json};
use silverback_export::Deliver;
use silverback_export::fields::Severity;
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, config, schema_without_descriptions,
};
use silverback_plugin::{InstanceInfo, PluginEnv};
use tokio::net::UnixDatagram;

use crate::socket::Socket;
use crate::{Config, Syslog};

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<Syslog>(), facts);
}

#[test]
fn unknown_words_and_lua_are_refused() {
    let refused = |given: Value| config::<Syslog>(given).unwrap_err().message();
    let level = refused(json!({ "log_level": "loud" }));
    assert!(
        level.contains("config.log_level: expected one of: debug, info"),
        "{level}"
    );
    let facility = refused(json!({ "facility": "local8" }));
    assert!(
        facility.contains("config.facility: expected one of: auth"),
        "{facility}"
    );
    let lua = refused(json!({ "custom_fields_by_lua": { "a": "return 1" } }));
    assert!(
        lua.contains("config.custom_fields_by_lua: Lua is not supported"),
        "{lua}"
    );
}

fn plugin(daemon: &std::path::Path, given: Value, services: &FakeServices) -> Syslog {
    let filled = config::<Syslog>(given).unwrap();
    let config: Config = serde_json::from_value(Value::Object(filled)).unwrap();
    let env = PluginEnv {
        instance: &InstanceInfo::default(),
        services,
    };
    Syslog::to(daemon, &config, &env)
}

#[tokio::test]
async fn what_is_grave_enough_is_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let given = json!({
        "facility": "local3", "successful_severity": "debug", "client_errors_severity": "warning", "server_errors_severity": "crit"
    });
    let services = FakeServices::default();
    let plugin = Compiled::from(plugin(&path, given, &services));
    for status in [200, 404, 503] {
        let exchange = Exchange::get("/").upstream(status, &[], "");
        exchange.run_on(&plugin).await;
    }
    let mut message = vec![0; 65536];
    for (priority, status) in [(19 * 8 + 4, 404), (19 * 8 + 2, 503)] {
        let length = daemon.recv(&mut message).await.unwrap();
        let message = std::str::from_utf8(&message[..length]).unwrap();
        let (head, entry) = message.split_once(": ").unwrap();
        assert!(head.starts_with(&format!("<{priority}>")), "{head}");
        assert!(
            head.ends_with(&format!(" kong[{}]", std::process::id())),
            "{head}"
        );
        let entry: Value = serde_json::from_str(entry).unwrap();
        assert_eq!(entry["response"]["status"], status);
    }
}

#[tokio::test]
async fn times_are_those_of_the_machine() {
    let services = FakeServices::default();
    let plugin = plugin(std::path::Path::new("/nowhere"), json!({}), &services);
    let at = Local.with_ymd_and_hms(2026, 11, 2, 3, 4, 5).unwrap();
    let head = plugin.head(Severity::of("info"), at);
    assert!(head.starts_with("<14>Nov  2 03:04:05 kong["), "{head}");
}

#[tokio::test]
async fn a_daemon_that_is_started_anew_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let socket = Socket::new(path.clone());
    let failed = socket.deliver(&["lost".to_owned()]).await.unwrap_err();
    assert!(failed.contains("log: "), "{failed}");
    for message in ["one", "two"] {
        let daemon = UnixDatagram::bind(&path).unwrap();
        socket.deliver(&[message.to_owned()]).await.unwrap();
        let mut got = [0; 100];
        let length = daemon.recv(&mut got).await.unwrap();
        assert_eq!(&got[..length], message.as_bytes());
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_is_the_only_one_that_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let socket = Socket::new(path);
    let batch = ["one".to_owned(), "x".repeat(8 << 20), "two".to_owned()];
    socket.deliver(&batch).await.unwrap_err();
    for message in ["one", "two"] {
        let mut got = [0; 100];
        let length = daemon.recv(&mut got).await.unwrap();
        assert_eq!(&got[..length], message.as_bytes());
    }
}
