//! The Go client of Kong's makers, which decK, the Kubernetes controller and Terraform providers are built on: how it lists, what types it
//! decodes into, what it makes of errors. Learnt from the sources of `Kong/go-kong` (June 2026).

use serde_json::{Value, json};
use silverback_testkit::gateway::Gateway;

use crate::Outcome;

/// What the client decodes a field into. A value of another type is an error for it, null and nothing are not.
#[derive(Clone, Copy, Debug)]
pub(super) enum Is {
    Text,
    Texts,
    Whole,
    Number,
    Bool,
    /// An object of which it reads `id`.
    Row,
    Object,
    Objects,
    /// Lists of texts under free names.
    Headers,
}

use Is::{Bool, Headers, Number, Object, Objects, Row, Text, Texts, Whole};

/// What each kind of row is decoded into.
pub(super) const ROWS: &[(&str, &[(&str, Is)])] = &[
    (
        "services",
        &[
            ("id", Text),
            ("name", Text),
            ("host", Text),
            ("path", Text),
            ("protocol", Text),
            ("port", Whole),
            ("retries", Whole),
            ("connect_timeout", Whole),
            ("read_timeout", Whole),
            ("write_timeout", Whole),
            ("client_certificate", Row),
            ("ca_certificates", Texts),
            ("tls_verify", Bool),
            ("tls_verify_depth", Whole),
            ("enabled", Bool),
            ("tags", Texts),
            ("created_at", Whole),
            ("updated_at", Whole),
        ],
    ),
    (
        "routes",
        &[
            ("id", Text),
            ("name", Text),
            ("hosts", Texts),
            ("paths", Texts),
            ("methods", Texts),
            ("headers", Headers),
            ("snis", Texts),
            ("protocols", Texts),
            ("sources", Objects),
            ("destinations", Objects),
            ("path_handling", Text),
            ("preserve_host", Bool),
            ("strip_path", Bool),
            ("regex_priority", Whole),
            ("https_redirect_status_code", Whole),
            ("request_buffering", Bool),
            ("response_buffering", Bool),
            ("service", Row),
            ("tags", Texts),
            ("created_at", Whole),
            ("updated_at", Whole),
        ],
    ),
    (
        "consumers",
        &[
            ("id", Text),
            ("username", Text),
            ("custom_id", Text),
            ("tags", Texts),
            ("created_at", Whole),
        ],
    ),
    (
        "plugins",
        &[
            ("id", Text),
            ("name", Text),
            ("instance_name", Text),
            ("route", Row),
            ("service", Row),
            ("consumer", Row),
            ("config", Object),
            ("enabled", Bool),
            ("protocols", Texts),
            ("tags", Texts),
            ("created_at", Whole),
        ],
    ),
    (
        "upstreams",
        &[
            ("id", Text),
            ("name", Text),
            ("algorithm", Text),
            ("slots", Whole),
            ("hash_on", Text),
            ("hash_fallback", Text),
            ("hash_on_header", Text),
            ("hash_on_cookie", Text),
            ("hash_on_cookie_path", Text),
            ("hash_on_query_arg", Text),
            ("hash_on_uri_capture", Text),
            ("hash_fallback_header", Text),
            ("hash_fallback_query_arg", Text),
            ("hash_fallback_uri_capture", Text),
            ("healthchecks", Object),
            ("host_header", Text),
            ("client_certificate", Row),
            ("use_srv_name", Bool),
            ("tags", Texts),
            ("created_at", Whole),
        ],
    ),
    (
        "targets",
        &[
            ("id", Text),
            ("target", Text),
            ("upstream", Row),
            ("weight", Whole),
            ("tags", Texts),
            ("created_at", Number),
        ],
    ),
    (
        "certificates",
        &[
            ("id", Text),
            ("cert", Text),
            ("key", Text),
            ("cert_alt", Text),
            ("key_alt", Text),
            ("snis", Texts),
            ("tags", Texts),
            ("created_at", Whole),
        ],
    ),
    (
        "ca_certificates",
        &[
            ("id", Text),
            ("cert", Text),
            ("cert_digest", Text),
            ("tags", Texts),
            ("created_at", Whole),
        ],
    ),
    (
        "snis",
        &[
            ("id", Text),
            ("name", Text),
            ("certificate", Row),
            ("tags", Texts),
            ("created_at", Whole),
        ],
    ),
    (
        "vaults",
        &[
            ("id", Text),
            ("name", Text),
            ("prefix", Text),
            ("description", Text),
            ("config", Object),
            ("tags", Texts),
            ("created_at", Whole),
            ("updated_at", Whole),
        ],
    ),
    (
        "key-sets",
        &[
            ("id", Text),
            ("name", Text),
            ("tags", Texts),
            ("created_at", Whole),
            ("updated_at", Whole),
        ],
    ),
    (
        "keys",
        &[
            ("id", Text),
            ("name", Text),
            ("kid", Text),
            ("jwk", Text),
            ("pem", Object),
            ("set", Row),
            ("tags", Texts),
            ("created_at", Whole),
            ("updated_at", Whole),
        ],
    ),
    (
        "key-auth",
        &[
            ("id", Text),
            ("key", Text),
            ("ttl", Whole),
            ("consumer", Row),
            ("tags", Texts),
            ("created_at", Whole),
        ],
    ),
];

/// Checks that a row can be decoded, and that it has an id.
#[track_caller]
pub(super) fn decodes(kind: &str, row: &Value) {
    let (_, fields) = ROWS.iter().find(|(name, _)| *name == kind).unwrap();
    assert!(row["id"].is_string(), "{kind}: {row}");
    for (name, is) in *fields {
        let value = &row[*name];
        let texts = |v: &Value| {
            v.as_array()
                .is_some_and(|all| all.iter().all(Value::is_string))
        };
        let fits = value.is_null()
            || match is {
                Text => value.is_string(),
                Texts => texts(value),
                Whole => value.is_i64() || value.is_u64(),
                Number => value.is_number(),
                Bool => value.is_boolean(),
                Row => value["id"].is_string(),
                Object => value.is_object(),
                Objects => value
                    .as_array()
                    .is_some_and(|all| all.iter().all(Value::is_object)),
                Headers => value.as_object().is_some_and(|all| all.values().all(texts)),
            };
        assert!(fits, "{kind}.{name} is no {is:?}: {value}");
    }
}

/// All rows of a collection as the client gets them: it goes on with `offset`, and sends size and tags again.
pub(super) async fn list_all(
    gateway: &Gateway,
    path: &str,
    size: usize,
    tags: Option<&str>,
) -> anyhow::Result<Vec<Value>> {
    let tags = tags.map(|t| format!("&tags={t}")).unwrap_or_default();
    let mut rows = Vec::new();
    let mut offset: Option<String> = None;
    loop {
        let from = offset.map(|o| format!("offset={o}&")).unwrap_or_default();
        let page = gateway
            .admin()
            .get(&format!("{path}?{from}size={size}{tags}"));
        let page = page.expect(200).await?.json();
        let data = page["data"].as_array().cloned();
        rows.extend(data.ok_or_else(|| anyhow::anyhow!("{path}: data is no list: {page}"))?);
        offset = match &page["offset"] {
            Value::Null => return Ok(rows),
            Value::String(next) => Some(next.replace('=', "%3D").replace('+', "%2B")),
            other => anyhow::bail!("{path}: offset is {other}"),
        };
    }
}

#[tokio::test]
async fn the_node_says_what_it_is() -> Outcome {
    let gateway = Gateway::start().await?;
    let root = gateway.admin().get("/").expect(200).await?.json();
    let version = root["version"].as_str().unwrap();
    let parts: Vec<u32> = version.split('.').map(|p| p.parse().unwrap()).collect();
    // decK: credentials, key sets, vaults and regular expressions in paths go by it.
    assert!(parts.as_slice() >= [3, 4, 0].as_slice(), "{version}");
    let configuration = &root["configuration"];
    assert_eq!(configuration["database"], "postgres");
    assert!(matches!(
        configuration["portal"],
        Value::Null | Value::Bool(_)
    ));
    assert!(matches!(
        configuration["rbac"],
        Value::Null | Value::String(_)
    ));
    let listeners = configuration["proxy_listeners"].as_array().unwrap();
    for listener in listeners {
        assert!(
            listener["port"].is_u64() && listener["ssl"].is_boolean(),
            "{listener}"
        );
        assert!(
            listener["ip"].is_string() && listener["listener"].is_string(),
            "{listener}"
        );
    }
    assert!(!listeners.is_empty());
    let status = gateway.admin().get("/status").expect(200).await?.json();
    for (name, value) in status["server"].as_object().unwrap() {
        assert!(value.is_u64(), "{name}: {value}");
    }
    assert_eq!(status["database"]["reachable"], true);
    assert!(matches!(
        status["configuration_hash"],
        Value::Null | Value::String(_)
    ));
    // With a workspace it would ask here. The open source edition has none, and a client sees that by the 404.
    for path in [
        "/kong",
        "/default/kong",
        "/default/services",
        "/workspaces/default",
    ] {
        let missing = gateway.admin().get(path).expect(404).await?.json();
        assert!(missing["message"].is_string(), "{path}");
    }
    // How it finds out whether there are tags.
    gateway.admin().get("/tags").expect(200).await?;
    Ok(())
}

#[tokio::test]
async fn lists_are_read_to_their_end_and_by_tags() -> Outcome {
    let gateway = Gateway::start().await?;
    for n in 0..7 {
        let tags = if n % 2 == 0 {
            json!(["even", "all"])
        } else {
            json!(["all", "odd one"])
        };
        let row = json!({"username": format!("u{n}"), "tags": tags});
        gateway.admin().post("/consumers", &row).expect(201).await?;
    }
    for (size, tags, count) in [
        (1000, None, 7),
        (2, None, 7),
        (7, None, 7),
        (2, Some("even"), 4),
        (1, Some("even%2Call"), 4),
        (2, Some("even%2Fodd+one"), 7),
        (1000, Some("none"), 0),
    ] {
        let rows = list_all(&gateway, "/consumers", size, tags).await?;
        assert_eq!(rows.len(), count, "{size} {tags:?}");
        let mut ids: Vec<_> = rows.iter().map(|r| r["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{size} {tags:?}: rows came twice");
        rows.iter().for_each(|row| decodes("consumers", row));
    }
    Ok(())
}

#[tokio::test]
async fn errors_are_json_with_a_message() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let row = json!({"username": "u"});
    admin.post("/consumers", &row).expect(201).await?;
    let id = "/services/10000000-0000-4000-8000-000000000000";
    for (call, status) in [
        (admin.get(id), 404),
        (admin.get("/services/none"), 404),
        (admin.get("/no/such/path"), 404),
        (admin.get("/consumers/u/key-auth/none"), 404),
        (admin.post("/services", &json!({})), 400),
        (admin.put(id, &json!({"host": ""})), 400),
        (admin.patch(id, &json!({"host": "a.test"})), 404),
        (admin.post("/consumers", &row), 409),
        (admin.call("DELETE", "/services"), 405),
    ] {
        let answer = call.expect(status).await?.json();
        assert!(
            answer["message"].as_str().is_some_and(|m| !m.is_empty()),
            "{answer}"
        );
    }
    // What is gone already is gone.
    admin.delete(id).expect(204).await?;
    Ok(())
}

#[tokio::test]
async fn rows_can_be_validated_without_being_made() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    for (path, good, bad) in [
        (
            "/schemas/plugins/validate",
            json!({"name": "key-auth", "config": {"key_names": ["k"]}}),
            json!({"name": "key-auth", "config": {"key_names": 1}}),
        ),
        (
            "/schemas/services/validate",
            json!({"name": "s", "host": "a.test"}),
            json!({"name": "s"}),
        ),
        (
            "/schemas/routes/validate",
            json!({"name": "r", "paths": ["/a"]}),
            json!({"name": "r", "paths": ["a"]}),
        ),
        (
            "/schemas/consumers/validate",
            json!({"username": "u"}),
            json!({}),
        ),
        (
            "/schemas/upstreams/validate",
            json!({"name": "u"}),
            json!({"name": "u", "slots": 1}),
        ),
        (
            "/schemas/vaults/validate",
            json!({"name": "env", "prefix": "my-env", "config": {}}),
            json!({"name": "env"}),
        ),
        (
            "/schemas/keyauth_credentials/validate",
            json!({"key": "k", "consumer": {"id": "10000000-0000-4000-8000-000000000000"}}),
            json!({"key": 1}),
        ),
    ] {
        admin.post(path, &good).expect(200).await?;
        let refused = admin.post(path, &bad).expect(400).await?.json();
        assert!(refused["message"].is_string(), "{path}");
    }
    assert_eq!(
        list_all(&gateway, "/services", 1000, None).await?,
        [] as [Value; 0]
    );
    Ok(())
}
