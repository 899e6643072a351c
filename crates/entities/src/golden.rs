//! What Kong 3.9.1 answered to writes and to `GET /schemas/...`, compared with what the definitions make of them.
//!
//! `testdata/exchanges.jsonl`: `entity`, `op`, the `body` (or the pairs of a `form` or `multipart` form), what the `path` adds to it, for updates the
//! `existing` row, and the answer: a `row`, a `violation`, or `valid`. Times and made-up ids are not compared. `plugin_exchanges.jsonl` is the same
//! for rows of a few plugins.

use serde_json::{Map, Value, json};
use silverback_schema::field::{Kind, array, boolean, integer, number, string};
use silverback_schema::plugin_def::{Scopes, plugin_entity, unknown_plugin};
use silverback_schema::render::{plugin_schema_json, schema_json};
use silverback_schema::{
    CustomViolation, EntityCheck, EntityDef, Field, Named, Op, RecordDef, Shorthand, Violations,
    complete, form, output, patch, typedefs,
};

const NOW: i64 = 1_795_341_400;
const HTTP: &[&str] = &["grpc", "grpcs", "http", "https"];

fn write(def: &EntityDef, exchange: &Value) -> Result<Map<String, Value>, Violations> {
    let pairs = |v: &Value| -> Vec<(String, String)> { serde_json::from_value(v.clone()).unwrap() };
    let mut body = match exchange {
        e if e.get("form").is_some() => form::infer(def, form::decode(&pairs(&e["form"]))),
        e if e.get("multipart").is_some() => {
            form::infer(def, form::decode_multipart(&pairs(&e["multipart"])))
        }
        e => e["body"].as_object().unwrap().clone(),
    };
    if let Some(from_path) = exchange.get("path") {
        body.extend(from_path.as_object().unwrap().clone());
    }
    let row = match exchange["op"].as_str().unwrap() {
        "insert" => complete(def, body, Op::Insert, NOW)?,
        "upsert" => complete(def, body, Op::Upsert, NOW)?,
        _ => patch(def, exchange["existing"].as_object().unwrap(), body, NOW)?,
    };
    Ok(output::show(def, row))
}

fn same(exchange: &Value, got: Result<Map<String, Value>, Violations>) -> Result<(), String> {
    match (exchange.get("row"), exchange.get("violation"), got) {
        (Some(want), _, Ok(mut got)) => {
            let mut want = want.as_object().unwrap().clone();
            let mut ignored = vec!["created_at", "updated_at"];
            if exchange.get("byname").is_some() {
                ignored.push("service");
            }
            let given =
                |part: &str| exchange[part].get("id").is_some() || exchange[part].is_array();
            if !["body", "form", "multipart", "path", "existing"]
                .into_iter()
                .any(given)
            {
                ignored.push("id");
            }
            for name in ignored {
                want.remove(name);
                got.remove(name);
            }
            if want == got {
                Ok(())
            } else {
                Err(format!("row: want {} got {}", json!(want), json!(got)))
            }
        }
        (_, Some(want), Err(got)) => {
            let got = json!({ "message": got.message(), "fields": got.0 });
            if *want == got {
                Ok(())
            } else {
                Err(format!("violation: want {want} got {got}"))
            }
        }
        (None, None, Ok(_)) => Ok(()),
        (_, _, got) => Err(format!("got {got:?}")),
    }
}

fn replay(file: &str, def: impl Fn(&Value) -> Option<EntityDef>) {
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in file.lines() {
        let exchange: Value = serde_json::from_str(line).unwrap();
        let got = match def(&exchange) {
            Some(def) => write(&def, &exchange),
            None => Err(unknown_plugin(exchange["body"].get("name"))),
        };
        count += 1;
        if let Err(e) = same(&exchange, got) {
            wrong.push(format!("{}: {e}", exchange["seq"]));
        }
    }
    assert!(count > 30, "{count} exchanges");
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn writes_of_core_entities_are_answered_as_kong_does() {
    replay(include_str!("../testdata/exchanges.jsonl"), |e| {
        crate::core(e["entity"].as_str().unwrap()).cloned()
    });
}

#[test]
fn writes_of_plugins_are_answered_as_kong_does() {
    replay(include_str!("../testdata/plugin_exchanges.jsonl"), |e| {
        plugin(e["plugin"].as_str()?)
    });
}

#[test]
fn a_plugin_row_under_another_name_keeps_its_config_and_is_refused() {
    let existing = json!({ "name": "acl", "config": { "allow": ["a"], "deny": null } });
    let def = plugin("key-auth").unwrap();
    let input = Map::from_iter([("name".to_owned(), json!("key-auth"))]);
    let got = patch(&def, existing.as_object().unwrap(), input, NOW).unwrap_err();
    assert_eq!(
        got.message(),
        "2 schema violations (config.allow: unknown field; config.deny: unknown field)"
    );
}

#[test]
fn schemas_are_those_of_kong() {
    for (name, want) in [
        ("services", include_str!("../testdata/schema_services.json")),
        ("routes", include_str!("../testdata/schema_routes.json")),
        (
            "consumers",
            include_str!("../testdata/schema_consumers.json"),
        ),
        ("plugins", include_str!("../testdata/schema_plugins.json")),
        (
            "upstreams",
            include_str!("../testdata/schema_upstreams.json"),
        ),
        ("targets", include_str!("../testdata/schema_targets.json")),
        (
            "certificates",
            include_str!("../testdata/schema_certificates.json"),
        ),
        ("snis", include_str!("../testdata/schema_snis.json")),
        (
            "ca_certificates",
            include_str!("../testdata/schema_ca_certificates.json"),
        ),
        ("vaults", include_str!("../testdata/schema_vaults.json")),
        ("key_sets", include_str!("../testdata/schema_key_sets.json")),
        ("keys", include_str!("../testdata/schema_keys.json")),
    ] {
        let def = crate::core(name).unwrap();
        assert_schema(name, schema_json(def), want);
    }
    for (name, want) in [
        (
            "workspaces",
            include_str!("../testdata/schema_workspaces.json"),
        ),
        (
            "clustering_data_planes",
            include_str!("../testdata/schema_clustering_data_planes.json"),
        ),
        (
            "parameters",
            include_str!("../testdata/schema_parameters.json"),
        ),
        ("tags", include_str!("../testdata/schema_tags.json")),
        (
            "ratelimiting_metrics",
            include_str!("../testdata/schema_ratelimiting_metrics.json"),
        ),
    ] {
        let def = crate::SCHEMAS_ONLY.iter().find(|d| d.name == name);
        assert_schema(name, schema_json(def.unwrap()), want);
    }
    let want = include_str!("../testdata/schema_vault_env.json");
    assert_schema("env", plugin_schema_json(&crate::VAULT_KINDS[0].1), want);
    for (name, want) in [
        (
            "key-auth",
            include_str!("../testdata/schema_plugin_key-auth.json"),
        ),
        (
            "rate-limiting",
            include_str!("../testdata/schema_plugin_rate-limiting.json"),
        ),
    ] {
        assert_schema(name, plugin_schema_json(&plugin(name).unwrap()), want);
    }
}

#[test]
fn every_field_of_a_core_entity_is_described() {
    for def in crate::CORE.iter() {
        for (name, field) in &def.record.fields {
            assert!(!field.description.is_empty(), "{}.{name}", def.name);
        }
    }
}

fn assert_schema(name: &str, got: Value, want: &str) {
    let want: Value = serde_json::from_str(want).unwrap();
    let got = without_descriptions(got);
    let fields = |v: &Value| -> Vec<String> {
        v["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f.as_object().unwrap().keys().next().unwrap().clone())
            .collect()
    };
    assert_eq!(fields(&got), fields(&want), "{name}");
    for (g, w) in got["fields"]
        .as_array()
        .unwrap()
        .iter()
        .zip(want["fields"].as_array().unwrap())
    {
        assert_eq!(g, w, "{name}");
    }
    assert_eq!(got, want, "{name}");
}

fn without_descriptions(v: Value) -> Value {
    match v {
        Value::Object(map) => map
            .into_iter()
            .filter(|(k, v)| !((k == "description" && v.is_string()) || k == "deprecation"))
            .map(|(k, v)| (k, without_descriptions(v)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_descriptions).collect(),
        other => other,
    }
}

/// The forms of a few plugins, as far as the exchanges need them.
fn plugin(name: &str) -> Option<EntityDef> {
    let base = crate::core("plugins").unwrap();
    let all = Scopes {
        consumer: true,
        service: true,
        route: true,
    };
    let no_consumer = Scopes {
        consumer: false,
        ..all
    };
    let config = |fields: Vec<Named>| RecordDef {
        fields,
        ..RecordDef::default()
    };
    Some(match name {
        "key-auth" => plugin_entity(
            base,
            "key-auth",
            config(key_auth()),
            vec![],
            HTTP,
            no_consumer,
        ),
        "acl" => plugin_entity(
            base,
            "acl",
            config(vec![
                ("allow", array(string())),
                ("deny", array(string())),
                ("hide_groups_header", boolean().required().default(false)),
                (
                    "always_use_authenticated_groups",
                    boolean().required().default(false),
                ),
            ]),
            vec![
                EntityCheck::OnlyOneOf(vec!["config.allow", "config.deny"]),
                EntityCheck::AtLeastOneOf(vec!["config.allow", "config.deny"]),
            ],
            HTTP,
            no_consumer,
        ),
        "correlation-id" => plugin_entity(
            base,
            "correlation-id",
            config(vec![
                ("header_name", string().default("Kong-Request-ID")),
                (
                    "generator",
                    string().required().default("uuid#counter").one_of([
                        "uuid",
                        "uuid#counter",
                        "tracker",
                    ]),
                ),
                ("echo_downstream", boolean().required().default(false)),
            ]),
            vec![],
            HTTP,
            all,
        ),
        "request-termination" => plugin_entity(
            base,
            "request-termination",
            config(vec![
                (
                    "status_code",
                    integer().required().default(503).between(100, 599),
                ),
                ("message", string()),
                ("content_type", string()),
                ("body", string()),
                ("echo", boolean().required().default(false)),
                ("trigger", string()),
            ]),
            vec![EntityCheck::Unlisted {
                when_valid: vec!["config"],
                run: message_or_body,
            }],
            HTTP,
            all,
        ),
        "rate-limiting" => {
            let mut config = config(rate_limiting());
            config.shorthands = redis_shorthands();
            plugin_entity(
                base,
                "rate-limiting",
                config,
                rate_limiting_checks(),
                HTTP,
                all,
            )
        }
        _ => return None,
    })
}

fn key_auth() -> Vec<Named> {
    vec![
        (
            "key_names",
            array(typedefs::header_name())
                .required()
                .default(vec!["apikey"]),
        ),
        ("hide_credentials", boolean().required().default(false)),
        ("anonymous", string()),
        ("key_in_header", boolean().required().default(true)),
        ("key_in_query", boolean().required().default(true)),
        ("key_in_body", boolean().required().default(false)),
        ("run_on_preflight", boolean().required().default(true)),
        ("realm", string().optional()),
    ]
}

fn message_or_body(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    let config = &row["config"];
    if !config["message"].is_null()
        && (!config["body"].is_null() || !config["content_type"].is_null())
    {
        return Err(CustomViolation::Field(
            "config",
            "message cannot be used with content_type or body".into(),
        ));
    }
    Ok(())
}

fn rate_limiting() -> Vec<Named> {
    let mut fields: Vec<Named> = ["second", "minute", "hour", "day", "month", "year"]
        .map(|n| (n, number().gt(0.0)))
        .into();
    fields.extend([
        (
            "limit_by",
            string().default("consumer").one_of([
                "consumer",
                "credential",
                "ip",
                "service",
                "header",
                "path",
            ]),
        ),
        ("header_name", typedefs::header_name()),
        ("path", typedefs::path()),
        (
            "policy",
            string()
                .default("local")
                .len_min(0)
                .one_of(["local", "cluster", "redis"]),
        ),
        ("fault_tolerant", boolean().required().default(true)),
        ("redis", typedefs::redis()),
        ("hide_client_headers", boolean().required().default(false)),
        ("error_code", number().default(429).gt(0.0)),
        ("error_message", string().default("API rate limit exceeded")),
        ("sync_rate", number().required().default(-1)),
    ]);
    fields
}

fn redis_shorthands() -> Vec<Shorthand> {
    macro_rules! moved {
        ($($name:literal $field:expr, $to:literal;)*) => { vec![$(Shorthand {
            name: $name,
            field: $field,
            translate: |v| Map::from_iter([("redis".to_owned(), json!({ $to: v }))]),
            shown_from: Some(concat!("redis.", $to)),
            wins: false,
        }),*] };
    }
    moved![
        "redis_host" string(), "host";
        "redis_port" integer(), "port";
        "redis_password" string().len_min(0), "password";
        "redis_username" string(), "username";
        "redis_ssl" boolean(), "ssl";
        "redis_ssl_verify" boolean(), "ssl_verify";
        "redis_server_name" string(), "server_name";
        "redis_timeout" integer(), "timeout";
        "redis_database" integer(), "database";
    ]
}

fn rate_limiting_checks() -> Vec<EntityCheck> {
    let when =
        |if_field, if_match: Field, then_field, then_match: Field| EntityCheck::Conditional {
            if_field,
            if_match: Box::new(if_match),
            then_field,
            then_match: Box::new(then_match),
            then_err: None,
        };
    let redis = || string().eq("redis");
    vec![
        EntityCheck::AtLeastOneOf(vec![
            "config.second",
            "config.minute",
            "config.hour",
            "config.day",
            "config.month",
            "config.year",
        ]),
        when(
            "config.policy",
            redis(),
            "config.redis.host",
            string().required().len_min(1),
        ),
        when(
            "config.policy",
            redis(),
            "config.redis.port",
            integer().required(),
        ),
        when(
            "config.policy",
            redis(),
            "config.redis.timeout",
            integer().required(),
        ),
        when(
            "config.limit_by",
            string().eq("header").len_min(1),
            "config.header_name",
            string().required(),
        ),
        when(
            "config.limit_by",
            string().eq("path").len_min(1),
            "config.path",
            string().required(),
        ),
        EntityCheck::Unlisted {
            when_valid: vec!["config"],
            run: rising_limits,
        },
    ]
}

fn rising_limits(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    let limit = |name: &str| row["config"][name].as_f64();
    let names = ["second", "minute", "hour", "day", "month", "year"];
    for (i, low) in names.iter().enumerate() {
        for high in &names[i + 1..] {
            if let (Some(l), Some(h)) = (limit(low), limit(high))
                && h < l
            {
                let text = format!(
                    "The limit for {high}({h:.1}) cannot be lower than the limit for {low}({l:.1})"
                );
                return Err(CustomViolation::Field("config", text.into()));
            }
        }
    }
    Ok(())
}

#[test]
fn config_of_an_unknown_plugin_is_any_record() {
    let def = crate::core("plugins").unwrap();
    assert!(matches!(def.field("config").unwrap().kind, Kind::Abstract));
}

/// Texts that look like hosts, paths, addresses, patterns and URLs.
fn any_text() -> impl proptest::strategy::Strategy<Value = String> {
    "[~a-f0-9:/.%\\[\\]()*?@#;_ \\-é\u{0}]{0,12}"
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_core_entity_panic(text in any_text(), url in any_text()) {
        for def in crate::CORE.iter() {
            let list = || json!([text]);
            let mut body: Map<String, Value> =
                def.record.fields.iter().map(|(n, _)| ((*n).to_owned(), json!(text))).collect();
            for input in [
                json!({ "paths": list(), "hosts": list(), "snis": list(), "tags": list(), "sources": [{ "ip": text }] }),
                json!({ "host": text, "path": text, "protocol": "https" }),
                json!({ "url": url }),
                json!({ "headers": { &text: list() }, "protocols": list(), "service": { "name": text } }),
            ] {
                let input = input.as_object().unwrap().clone();
                let _ = complete(def, input.clone(), Op::Insert, NOW).map_err(|e| e.to_json());
                body.extend(input);
                let _ = patch(def, &Map::new(), body.clone(), NOW).map_err(|e| e.to_json());
            }
        }
    }
}
