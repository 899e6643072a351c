//! Against a real Postgres.

mod bulk;
mod counters;
mod crud;
mod deletes;
mod errors;
mod history;
mod migrations;
mod outage;
mod paging;
mod speed;
mod tls;
mod tokens;
mod ttl;
mod watching;
mod writing;

use serde_json::{Value, json};
use silverback_entities::{CORE, Uuid};
use silverback_schema::field::{foreign, id, integer, string, timestamp};
use silverback_schema::{EntityDef, OnDelete};

use crate::testpg::database;
use crate::{PgConfig, Row, Store};

/// A store on a database of its own.
pub(crate) async fn store() -> Store {
    on(database().await)
}

pub(crate) fn on(cfg: PgConfig) -> Store {
    Store::new(cfg, defs()).unwrap()
}

/// The core entities and a credential as a plugin brings it.
pub(crate) fn defs() -> Vec<EntityDef> {
    let mut defs = CORE.clone();
    defs.push(key_def());
    defs.push(session_def());
    defs
}

pub(crate) fn def(name: &str) -> EntityDef {
    defs().into_iter().find(|d| d.name == name).unwrap()
}

fn key_def() -> EntityDef {
    let fields = vec![
        ("id", id()),
        ("created_at", timestamp()),
        (
            "consumer",
            foreign("consumers").required().on_delete(OnDelete::Cascade),
        ),
        ("key", string().optional().unique().auto()),
        ("tags", silverback_entities::tags()),
    ];
    EntityDef::new("keyauth_credentials", fields)
        .collection("key-auths")
        .endpoint_key("key")
        .with_ttl()
        .lookup("key")
}

fn session_def() -> EntityDef {
    let fields = vec![
        ("id", id()),
        ("session_id", string().required().unique()),
        ("expires", integer()),
        ("data", string()),
        ("created_at", timestamp()),
    ];
    EntityDef::new("sessions", fields)
        .endpoint_key("session_id")
        .with_ttl()
        .lookup("session_id")
}

/// A complete row: what is not said is null.
pub(crate) fn row(entity: &str, said: Value) -> Row {
    let mut out: Row = def(entity)
        .record
        .fields
        .iter()
        .map(|(n, _)| ((*n).to_owned(), Value::Null))
        .collect();
    if def(entity).ttl {
        out.insert("ttl".into(), Value::Null);
    }
    let Value::Object(said) = said else {
        panic!("an object")
    };
    for (k, v) in said {
        assert!(out.insert(k.clone(), v).is_some(), "{entity} has no {k}");
    }
    out
}

fn with(entity: &str, base: Value, said: Value) -> Row {
    let Value::Object(mut base) = base else {
        panic!("an object")
    };
    let Value::Object(said) = said else {
        panic!("an object")
    };
    base.extend(said);
    row(entity, Value::Object(base))
}

pub(crate) fn service(said: Value) -> Row {
    let base = json!({"id": Uuid::new_v4().to_string(), "created_at": 1_700_000_000, "updated_at": 1_700_000_001, "protocol": "http",
        "host": "up.test", "port": 80, "retries": 5, "connect_timeout": 60000, "enabled": true});
    with("services", base, said)
}

pub(crate) fn route(said: Value) -> Row {
    let base = json!({"id": Uuid::new_v4().to_string(), "created_at": 1_700_000_000, "updated_at": 1_700_000_001,
        "protocols": ["http", "https"], "https_redirect_status_code": 426, "strip_path": true, "preserve_host": false,
        "request_buffering": true, "response_buffering": true, "regex_priority": 0, "path_handling": "v0"});
    with("routes", base, said)
}

pub(crate) fn consumer(said: Value) -> Row {
    let base = json!({"id": Uuid::new_v4().to_string(), "created_at": 1_700_000_000, "updated_at": 1_700_000_001});
    with("consumers", base, said)
}

pub(crate) fn plugin(said: Value) -> Row {
    let base = json!({"id": Uuid::new_v4().to_string(), "created_at": 1_700_000_000, "updated_at": 1_700_000_001, "name": "key-auth",
        "config": {}, "protocols": ["http", "https"], "enabled": true});
    with("plugins", base, said)
}

pub(crate) fn key(consumer: &Row, said: Value) -> Row {
    let base = json!({"id": Uuid::new_v4().to_string(), "created_at": now(), "consumer": {"id": consumer["id"]}});
    with("keyauth_credentials", base, said)
}

pub(crate) fn now() -> i64 {
    crate::cell::now_micros() / 1_000_000
}

pub(crate) fn id_of(row: &Row) -> Uuid {
    row["id"].as_str().unwrap().parse().unwrap()
}

/// The change log: entity, id, operation, in order.
pub(crate) async fn log(store: &Store) -> Vec<(String, Uuid, String)> {
    let rows = store
        .pool()
        .query(
            "select entity, entity_id, op from config_changes order by id",
            &[],
        )
        .await
        .unwrap();
    rows.iter()
        .map(|r| (r.get(0), r.get(1), r.get(2)))
        .collect()
}

pub(crate) async fn revision(store: &Store) -> i64 {
    store
        .pool()
        .query("select revision from config_revision", &[])
        .await
        .unwrap()[0]
        .get(0)
}
