//! Files as Kong's own tests have them (`spec/01-unit/01-db/01-schema/11-declarative_config`, `spec/02-integration/04-admin_api/15-off_spec.lua`),
//! told anew.

use serde_json::{Value, json};
use silverback_entities::CORE;

use crate::{Declared, Format, Invalid, Source, Writer};

fn format() -> Format {
    let plugins = silverback_bundled::all();
    let own = plugins.iter().flat_map(|p| p.entities.clone());
    Format::new(CORE.iter().cloned().chain(own).collect(), &plugins)
}

fn parse(text: &str) -> Result<Declared, Invalid> {
    format().parse(text.as_bytes(), Source::Nameless, 100, &|_, _| Ok(()))
}

fn rows(declared: &Declared, entity: &str) -> Vec<Value> {
    let found = declared.entities.iter().find(|(name, _)| *name == entity);
    found.map_or(Vec::new(), |(_, rows)| {
        rows.iter().cloned().map(Value::Object).collect()
    })
}

fn fields(text: &str) -> Value {
    parse(text).unwrap_err().to_json()["fields"].clone()
}

#[test]
fn nested_entities_become_rows_that_refer_to_each_other() {
    let file = "
_format_version: '3.0'
services:
- name: my-service
  url: https://example.com:8443/a
  _comment: mine
  _ignore: [1, {a: b}]
  routes:
  - name: my-route
    paths: [/]
    plugins:
    - name: key-auth
consumers:
- username: my-user
  keyauth_credentials:
  - key: my-key
upstreams:
- name: up
  targets:
  - target: 10.0.0.1
";
    let declared = parse(file).unwrap();
    let service = &rows(&declared, "services")[0];
    // The ids that Kong gives.
    assert_eq!(service["id"], "0855b320-0dd2-547d-891d-601e9b38647f");
    assert_eq!(
        (&service["host"], &service["port"], &service["retries"]),
        (&json!("example.com"), &json!(8443), &json!(5))
    );
    assert_eq!(service.get("_comment"), None);
    let route = &rows(&declared, "routes")[0];
    assert_eq!(route["id"], "481a9539-f49c-51b6-b2e2-fe99ee68866c");
    assert_eq!(route["service"]["id"], service["id"]);
    let plugin = &rows(&declared, "plugins")[0];
    assert_eq!(plugin["route"]["id"], route["id"]);
    assert_eq!(plugin["config"]["key_names"], json!(["apikey"]));
    let consumer = &rows(&declared, "consumers")[0];
    assert_eq!(consumer["id"], "4b1b701d-de2b-5588-9aa2-3b97061d9f52");
    assert_eq!(
        rows(&declared, "keyauth_credentials")[0]["consumer"]["id"],
        consumer["id"]
    );
    let target = &rows(&declared, "targets")[0];
    assert_eq!(target["target"], "10.0.0.1:8000");
    assert_eq!(
        target["upstream"]["id"],
        rows(&declared, "upstreams")[0]["id"]
    );

    // Each after those it refers to; and the same file has the same ids again.
    let order: Vec<_> = declared.entities.iter().map(|(n, _)| *n).collect();
    let at = |name| order.iter().position(|n| *n == name).unwrap();
    assert!(at("services") < at("routes") && at("routes") < at("plugins"));
    let again = parse(file).unwrap();
    for (name, _) in &declared.entities {
        let ids = |d| {
            rows(d, name)
                .iter()
                .map(|r| r["id"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&declared), ids(&again), "{name}");
    }
}

#[test]
fn references_are_names_or_ids() {
    let declared = parse(
        "
_format_version: '1.1'
consumers: [{username: bob, id: 00000001-0000-4000-8000-00000000000A}]
services: [{name: s, host: h}]
routes:
- {name: by-name, paths: [/a], service: s}
- {name: by-id, paths: [/b], service: {id: 95c1d6c8-5d3d-5cde-8d5b-2bd6ff7b2d7c}}
keyauth_credentials: [{key: k, consumer: 00000001-0000-4000-8000-00000000000a}]
plugins: [{name: key-auth, route: by-name}]
"
        .replace("95c1d6c8-5d3d-5cde-8d5b-2bd6ff7b2d7c", &{
            let one = parse("{_format_version: '3.0', services: [{name: s, host: h}]}").unwrap();
            rows(&one, "services")[0]["id"].as_str().unwrap().to_owned()
        })
        .as_str(),
    )
    .unwrap();
    let service = rows(&declared, "services")[0]["id"].clone();
    for route in rows(&declared, "routes") {
        assert_eq!(route["service"]["id"], service);
    }
    assert_eq!(
        rows(&declared, "keyauth_credentials")[0]["consumer"]["id"],
        "00000001-0000-4000-8000-00000000000a"
    );
    assert_eq!(declared.meta.format_version, "3.0");
}

#[test]
fn references_to_nothing_are_told_by_name() {
    assert_eq!(
        fields("{_format_version: '3.0', routes: [{name: r, paths: [/], service: nope}]}"),
        json!({ "routes": { "r": ["invalid reference 'service: nope' (no such entry in 'services')"] } })
    );
    // Within another entity a reference to a third one must lead somewhere.
    let nested = |consumers: &str| {
        format!(
            "{{_format_version: '3.0', consumers: [{consumers}], services: [{{name: s, host: h, plugins: [{{name: rate-limiting, consumer: bob, config: {{second: 1}}}}]}}]}}"
        )
    };
    assert_eq!(
        fields(&nested("")),
        json!({ "services": [{ "plugins": [{ "consumer": "value must be null" }] }] })
    );
    assert!(parse(&nested("{username: bob}")).is_ok());
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let e = parse("bobby tables").unwrap_err();
    assert_eq!(
        e.to_json(),
        json!({
            "code": 14, "name": "invalid declarative configuration",
            "fields": { "error": "failed parsing declarative configuration: expected an object" },
            "message": "declarative config is invalid: {error=\"failed parsing declarative configuration: expected an object\"}",
        })
    );
    assert_eq!(
        e.to_string(),
        "failed parsing declarative configuration: expected an object"
    );
    let of = |name: &str| {
        format()
            .read(b"{}", Source::File(name))
            .map_err(|e| e.to_string())
    };
    assert_eq!(
        of("/a/b.lua").unwrap_err(),
        "unknown file type: /a/b.lua. (Accepted types: json, yaml)"
    );
    assert!(of("a.json").is_ok() && of("a.yml").is_ok() && of("a.yaml").is_ok());
    assert!(format().read(b"a: 1", Source::File("a.json")).is_err());
}

#[test]
fn the_head_of_the_file_is_checked() {
    for (file, wrong) in [
        (
            "_format_version: 1.1",
            json!({ "_format_version": "expected a string" }),
        ),
        (
            "_format_version: foo",
            json!({ "_format_version": "expected one of: 1.1, 2.1, 3.0" }),
        ),
        ("{}", json!({ "_format_version": "required field missing" })),
        (
            "{_format_version: '3.0', _transform: 1}",
            json!({ "_transform": "expected a boolean" }),
        ),
        (
            "{_format_version: '2.1', _comment: 1, _ignore: 2}",
            json!({ "_comment": "expected a string", "_ignore": "expected an array" }),
        ),
        (
            "{_format_version: '3.0', foo: []}",
            json!({ "foo": "unknown field" }),
        ),
        (
            "{_format_version: '3.0', services: 1}",
            json!({ "services": "expected an array" }),
        ),
        (
            "{_format_version: '3.0', services: [{name: a, host: h, routes: 1}]}",
            json!({ "services": [{ "routes": "expected an array" }] }),
        ),
        (
            "{_format_version: '3.0', services: [1]}",
            json!({ "services": ["expected a record"] }),
        ),
    ] {
        assert_eq!(fields(file), wrong, "{file}");
    }
    // What Kong's exports have beside.
    let empty = parse("{_format_version: '3.0', services: , routes: {}, parameters: [{key: cluster_id, value: x}], workspaces: [{name: default}]}").unwrap();
    assert_eq!(empty.entities, []);
    assert_eq!(empty.to_json(), json!({}));
}

#[test]
fn everything_wrong_is_told_at_once_and_in_its_place() {
    let text = "
_format_version: '1.1'
services:
- name: fine
  host: h
- port: -12
  routes:
  - paths: [/ok, bla]
  - preserve_host: true
  plugins:
  - name: foo
  - enabled: true
";
    let e = parse(text).unwrap_err();
    let routes_text = "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'";
    assert_eq!(
        e.to_json()["fields"],
        json!({ "services": [null, {
            "host": "required field missing",
            "port": "value should be between 0 and 65535",
            "routes": [{ "paths": [null, "should start with: / (fixed path) or ~/ (regex path)"] }, { "@entity": [routes_text] }],
            "plugins": [
                { "name": "plugin 'foo' not enabled; add it to the 'plugins' configuration property" },
                { "name": "required field missing" },
            ],
        }] })
    );
    assert_eq!(
        e.to_string().lines().take(5).collect::<Vec<_>>(),
        [
            "in 'services':",
            "  - in entry 2 of 'services':",
            "    in 'host': required field missing",
            "    in 'plugins':",
            "      - in entry 1 of 'plugins':",
        ]
    );
    let one = parse("{_format_version: '1.1', services: [{port: -12}]}").unwrap_err();
    assert_eq!(
        one.to_json()["message"],
        "declarative config is invalid: {services={{host=\"required field missing\",port=\"value should be between 0 and 65535\"}}}"
    );
}

#[test]
fn what_is_unique_is_there_once() {
    let id = "0855b320-0dd2-547d-891d-601e9b38647f";
    let e = parse(&format!("{{_format_version: '1.1', services: [{{id: {id}, name: a, host: h}}, {{id: {id}, name: b, host: h}}]}}")).unwrap_err();
    let text = format!(
        "uniqueness violation: 'services' entity with primary key set to '{id}' already declared"
    );
    assert_eq!(e.to_json()["fields"], json!({ "services": [null, text] }));
    assert_eq!(
        e.to_json()["message"],
        format!("declarative config is invalid: {{services={{[2]=\"{text}\"}}}}")
    );
    assert_eq!(
        fields("{_format_version: '1.1', services: [{name: foo, host: h}, {name: foo, host: i}]}"),
        json!({ "services": [null, "uniqueness violation: 'services' entity with name set to 'foo' already declared"] })
    );
    assert_eq!(
        fields(
            "{_format_version: '1.1', consumers: [{username: foo, custom_id: c}, {username: bar, custom_id: c}]}"
        ),
        json!({ "consumers": { "bar": "uniqueness violation: 'consumers' entity with custom_id set to 'c' already declared" } })
    );
    // The same plugin in the same place has the same id.
    let twice = fields("{_format_version: '1.1', plugins: [{name: key-auth}, {name: key-auth}]}");
    assert!(
        twice["plugins"][1]
            .as_str()
            .unwrap()
            .contains("'plugins' entity with primary key")
    );
    let apart = "{_format_version: '1.1', plugins: [{name: key-auth}, {name: key-auth, id: 00000001-0000-4000-8000-000000000001}]}";
    assert_eq!(
        fields(apart)["plugins"]["00000001-0000-4000-8000-000000000001"],
        "uniqueness violation: 'plugins' entity with name, route, service, consumer set to 'key-auth, , , ' already declared"
    );
}

#[test]
fn very_sparse_lists_are_told_by_position() {
    let plugins = vec!["{name: key-auth}"; 30].join(", ");
    let mut many = plugins.replacen("key-auth}", "key-auth, enabled: 1}", 0);
    many.push_str(", {name: nope}");
    let wrong = fields(&format!("{{_format_version: '3.0', plugins: [{many}]}}"));
    assert_eq!(
        wrong["plugins"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["31"]
    );
}

#[test]
fn flattened_errors_have_each_entity_as_it_was_written() {
    let format = format();
    let text = "
_format_version: '3.0'
consumers:
- {username: u, not_allowed: true, tags: [c]}
services:
- name: nope
  host: localhost
  protocol: nope
  tags: [s]
  id: 00000001-0000-4000-8000-000000000001
  routes:
  - {name: r, protocols: [tcp], tags: [r, s]}
- {name: '', host: h, tags: [1]}
- name: bad-cert
  url: https://h
  client_certificate: {cert: '', key: '', tags: [t]}
unknown: 1
";
    let mut tree = format.read(text.as_bytes(), Source::Nameless).unwrap();
    let e = format.check(&mut tree, 1, &|_, _| Ok(())).unwrap_err();
    let body = e.to_json_flattened(&tree, &format);
    assert_eq!(body["fields"], json!({ "unknown": "unknown field" }));
    assert_eq!(
        body["message"],
        "declarative config is invalid: {unknown=\"unknown field\"}"
    );
    let flat = body["flattened_errors"].as_array().unwrap();
    let types: Vec<_> = flat
        .iter()
        .map(|e| e["entity_type"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        ["certificate", "service", "route", "service", "consumer"]
    );
    assert_eq!(
        flat[0]["entity"],
        json!({ "cert": "", "key": "", "tags": ["t"] })
    );
    assert_eq!(flat[1]["entity"]["name"], "");
    assert_eq!(
        (flat[1].get("entity_name"), flat[1].get("entity_tags")),
        (None, None)
    );
    assert_eq!(
        flat[2],
        json!({
            "entity_type": "route", "entity_name": "r", "entity_tags": ["r", "s"],
            "entity": { "name": "r", "protocols": ["tcp"], "tags": ["r", "s"], "service": { "id": "00000001-0000-4000-8000-000000000001" } },
            "errors": [{ "type": "entity", "message": "must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'" }],
        })
    );
    assert_eq!(flat[3]["entity_id"], "00000001-0000-4000-8000-000000000001");
    assert_eq!(flat[3]["entity"].get("routes"), None);
    assert_eq!(
        flat[3]["errors"],
        json!([{ "type": "field", "field": "protocol", "message": "expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp" }])
    );
    assert_eq!(
        flat[4]["errors"],
        json!([{ "type": "field", "field": "not_allowed", "message": "unknown field" }])
    );
}

#[test]
fn references_to_nothing_are_flattened_too() {
    let format = format();
    let text = b"{_format_version: '3.0', routes: [{name: r, paths: [/], service: nope}]}";
    let mut tree = format.read(text, Source::Nameless).unwrap();
    let e = format.check(&mut tree, 1, &|_, _| Ok(())).unwrap_err();
    let body = e.to_json_flattened(&tree, &format);
    assert_eq!(body["fields"], json!({}));
    assert_eq!(
        body["flattened_errors"][0]["errors"],
        json!([{ "type": "field", "field": "service", "message": "invalid reference 'service: nope' (no such entry in 'services')" }])
    );
}

#[test]
fn whoever_asks_may_refuse_rows() {
    let refuse = |entity: &str, row: &crate::Row| match (entity, row["name"].as_str()) {
        ("services", Some("no")) => {
            Err(silverback_schema::Violations::field("name", "not this one"))
        }
        _ => Ok(()),
    };
    let text =
        b"{_format_version: '3.0', services: [{name: 'no', host: h}, {name: 'yes', host: h}]}";
    let e = format()
        .parse(text, Source::Nameless, 1, &refuse)
        .unwrap_err();
    assert_eq!(
        e.to_json()["fields"],
        json!({ "services": [{ "name": "not this one" }] })
    );
}

#[test]
fn what_is_exported_is_read_back_as_it_was() {
    let declared = parse(
        "
_format_version: '3.0'
services:
- name: s
  url: http://h:1/p
  tags: [a, 'on']
  routes:
  - name: r
    paths: [~/\\d+$, /x]
    headers: {X-A: ['1', b]}
    plugins:
    - {name: request-termination, config: {message: \"two\\nlines: {}\"}}
consumers:
- username: '123'
  custom_id: ~
  keyauth_credentials: [{key: 'yes', ttl: 60}]
vaults: [{name: env, prefix: my-env, config: {prefix: A_}}]
",
    )
    .unwrap();
    let format = format();
    let mut w = Writer::new();
    for (name, rows) in &declared.entities {
        let def = format.entities().find(|d| d.name == *name).unwrap();
        rows.iter().for_each(|row| w.row(def, row.clone()));
    }
    let text = w.take();
    let mut again = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert!(!again.meta.transform);
    again.meta.transform = true;
    assert_eq!(again, declared, "{text}");
}

#[test]
fn passwords_are_hashed_unless_they_were() {
    let password = |transform: &str| {
        let text = format!(
            "{{_format_version: '3.0', {transform} consumers: [{{username: a, id: 00000001-0000-4000-8000-000000000001, basicauth_credentials: [{{username: u, password: p}}]}}]}}"
        );
        let declared = parse(&text).unwrap();
        rows(&declared, "basicauth_credentials")[0]["password"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(password("_transform: false,"), "p");
    // SHA-1 of the password and the consumer's id.
    assert_eq!(password("").len(), 40);
    assert_eq!(password("_transform: true,"), password(""));
}

#[test]
fn a_ttl_that_is_too_long_for_one_is_a_moment() {
    let key = |fields: &str| {
        let text = format!(
            "{{_format_version: '3.0', consumers: [{{username: a, keyauth_credentials: [{{key: k, {fields}}}]}}]}}"
        );
        parse(&text).map(|d| rows(&d, "keyauth_credentials")[0]["ttl"].clone())
    };
    let at = "created_at: 1700000000";
    assert_eq!(key(&format!("ttl: 1700003600, {at}")).unwrap(), 3600);
    assert_eq!(key(&format!("ttl: 1700003600.0, {at}")).unwrap(), 3600);
    // Longer than a client of the Admin API may ask for at once.
    assert_eq!(key(&format!("ttl: 2000000000, {at}")).unwrap(), 300_000_000);
    // It was over before it began.
    assert_eq!(key(&format!("ttl: 1600000000, {at}")).unwrap(), 1);
    assert_eq!(key(&format!("ttl: 100000000, {at}")).unwrap(), 100_000_000);
    assert_eq!(key(&format!("ttl: ~, {at}")).unwrap(), json!(null));
    for wrong in ["ttl: -1", "ttl: 1700000000.5", "ttl: 1.0e+20", "ttl: soon"] {
        let text = key(wrong).unwrap_err().to_string();
        assert!(
            text.contains("must be an integer between 0 and 100000000"),
            "{wrong}: {text}"
        );
    }
}
