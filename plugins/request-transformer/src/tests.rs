#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, Outcome, config, schema_without_descriptions,
};
use silverback_plugin::{Captures, InstanceInfo};

use crate::RequestTransformer;

#[test]
fn schema_is_that_of_kong() {
    let mut facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    // The protocols are those of the definition of all plugins, which is not here.
    let mut ours = schema_without_descriptions::<RequestTransformer>();
    facts["fields"][0] = Value::Null;
    ours["fields"][0] = Value::Null;
    assert_eq!(ours, facts);
}

#[test]
fn malformed_entries_are_refused_in_kongs_words() {
    #[track_caller]
    fn refused(given: Value, violations: Value) {
        let found = config::<RequestTransformer>(given).unwrap_err();
        assert_eq!(found.to_json()["fields"]["config"], violations);
    }
    refused(
        json!({ "http_method": "HELLO!", "add": { "headers": ["a:b", "x", "a b:c"] } }),
        json!({
            "http_method": "invalid value: HELLO!",
            "add": { "headers": [null, "invalid value: x", "'a b' is not a valid header"] },
        }),
    );
    refused(
        json!({ "remove": { "headers": [":x", "a b"], "querystring": [""] } }),
        json!({ "remove": {
            "headers": ["'nil' is not a valid header", "'a b' is not a valid header"],
            "querystring": ["length must be at least 1"],
        } }),
    );
    refused(
        json!({ "rename": { "headers": ["a:", "a:b c"], "body": ["a"], "querystring": [":x"] } }),
        json!({ "rename": {
            "headers": ["'' is not a valid header", "'b c' is not a valid header"],
            "body": ["key 'a' has no value"],
            "querystring": ["key '' has no value"],
        } }),
    );
    refused(
        json!({ "add": { "querystring": ["u:$(uri_captures user2)"], "headers": ["x:$(os.time())"] } }),
        json!({ "add": {
            "querystring": ["value '$(uri_captures user2)' is not in supported format, error:unexpected 'user2'"],
            "headers": [
                "value '$(os.time())' is not in supported format, error:unknown name 'os': there are headers, query_params, uri_captures, shared, type and string",
            ],
        } }),
    );
    refused(
        json!({ "replace": { "uri": "/$()" } }),
        json!({ "replace": { "uri": "value '/$()' is not in supported format, error:unexpected end" } }),
    );
}

#[test]
fn what_could_never_be_done_is_refused() {
    #[track_caller]
    fn refused(given: Value, why: &str) {
        let services = FakeServices::default();
        let made =
            Compiled::<RequestTransformer>::try_with(given, &InstanceInfo::default(), &services);
        assert_eq!(made.err().unwrap().to_string(), why);
    }
    refused(
        json!({ "http_method": "BREW" }),
        "http_method: invalid method: BREW",
    );
    refused(
        json!({ "replace": { "uri": "x/$(headers.a)" } }),
        "replace.uri: path must start with /",
    );
}

async fn sent(exchange: Exchange, config: Value) -> Outcome {
    let outcome = exchange.run::<RequestTransformer>(config).await;
    outcome.passed();
    outcome
}

fn query(outcome: &Outcome) -> Option<&str> {
    outcome.edits().query.as_deref()
}

fn body(outcome: &Outcome) -> Option<&str> {
    let body = outcome.edits().body.as_ref()?;
    Some(std::str::from_utf8(body).unwrap())
}

#[tokio::test]
async fn headers_are_removed_renamed_replaced_added_and_appended_in_turn() {
    let exchange = Exchange::get("/")
        .header("x-gone", "1")
        .header("x-old", "1")
        .header("x-old", "2")
        .header("x-new", "overwritten")
        .header("x-kept", "k")
        .header("x-dashed", "d")
        .header("user-agent", "u");
    let config = json!({
        "remove": { "headers": ["X-Gone:said in vain", "x-absent"] },
        "rename": { "headers": ["X-Old:X-New", "x-absent:x-never", "x-gone:x-never"] },
        "replace": { "headers": ["X-New:rep", "x-absent:no", "x-kept:"] },
        "add": { "headers": ["x-gone:back", "x-kept:no", "X_Dashed:no", "x-more::1:2"] },
        "append": { "headers": ["x-kept:a", "x-kept:b", "x-other:1", "user-agent:v"] },
    });
    let done = sent(exchange, config).await;
    let values = |name| done.upstream_header_values(name);
    assert_eq!(values("x-gone"), ["back"]);
    assert_eq!(values("x-old"), [""; 0]);
    assert_eq!(values("x-new"), ["rep"]);
    assert_eq!(values("x-never"), [""; 0]);
    assert_eq!(values("x-absent"), [""; 0]);
    assert_eq!(values("x-kept"), ["k", "a", "b"]);
    assert_eq!(values("x_dashed"), [""; 0]);
    assert_eq!(values("x-more"), ["1:2"]);
    assert_eq!(values("x-other"), ["1"]);
    assert_eq!(values("user-agent"), ["v"]);
}

#[tokio::test]
async fn several_values_are_renamed_together() {
    let exchange = Exchange::get("/").header("a", "1").header("a", "2");
    let done = sent(exchange, json!({ "rename": { "headers": ["A:B"] } })).await;
    assert_eq!(done.upstream_header_values("b"), ["1", "2"]);
    assert_eq!(done.upstream_header_values("a"), [""; 0]);
}

#[tokio::test]
async fn spelling_is_the_configured_one_or_small_letters_after_renaming() {
    let wires = |done: &Outcome| -> Vec<String> {
        let edits = done.edits().headers.iter();
        let key = edits.filter_map(|e| match e {
            silverback_plugin::HeaderEdit::Set(key, _) => Some(key.wire()),
            _ => None,
        });
        key.map(|k| String::from_utf8(k.to_vec()).unwrap())
            .collect()
    };
    let exchange = || Exchange::get("/").header("rename", "1").header("same", "1");
    let config = json!({
        "rename": { "headers": ["rename:Rename", "same:same"] }, "add": { "headers": ["X-aDDed:1"] },
    });
    assert_eq!(
        wires(&sent(exchange(), config).await),
        ["Rename", "X-aDDed"]
    );
    let config = json!({ "rename": { "headers": ["rename:X-New"] } });
    assert_eq!(wires(&sent(exchange(), config).await), ["x-new"]);
}

#[tokio::test]
async fn the_host_can_be_replaced_and_renamed_to_and_nothing_else() {
    let exchange = || {
        Exchange::get("/")
            .header("host", "h.test")
            .header("x-up", "up.test")
    };
    let config = json!({
        "remove": { "headers": ["Host"] }, "rename": { "headers": ["host:x-host"] },
        "add": { "headers": ["host:no"] }, "append": { "headers": ["Host:no"] },
    });
    assert!(sent(exchange(), config).await.edits().headers.is_empty());
    let config = json!({ "replace": { "headers": ["host:$(headers.x_up)"] } });
    let done = sent(exchange(), config).await;
    assert_eq!(done.upstream_header_values("host"), ["up.test"]);
    let config = json!({ "rename": { "headers": ["x-up:host"] } });
    let done = sent(exchange(), config).await;
    assert_eq!(done.upstream_header_values("host"), ["up.test"]);
    assert_eq!(done.upstream_header_values("x-up"), [""; 0]);
    let config = json!({ "replace": { "headers": ["host:$(nil)"] } });
    assert!(sent(exchange(), config).await.edits().headers.is_empty());
}

#[tokio::test]
async fn arguments_of_the_query_are_changed_and_sorted() {
    let config = json!({
        "remove": { "querystring": ["gone", "absent"] },
        "rename": { "querystring": ["old:new", "absent:never"] },
        "replace": { "querystring": ["rep:v w", "absent:no"] },
        "add": { "querystring": ["rep:no", "flag:no", "uri_param[a][1]:x"] },
        "append": { "querystring": ["rep:2", "flag:f", "q:1"] },
    });
    let done = sent(
        Exchange::get("/?z=1&gone=1&gone&old=o&new=n&rep=r&flag"),
        config.clone(),
    )
    .await;
    assert_eq!(
        query(&done),
        Some("flag=f&new=o&q=1&rep=v%20w&rep=2&uri_param%5Ba%5D%5B1%5D=x&z=1")
    );
    let only = json!({ "remove": { "querystring": ["a"] } });
    assert_eq!(
        query(&sent(Exchange::get("/?a=1"), only.clone()).await),
        Some("")
    );
    assert_eq!(query(&sent(Exchange::get("/"), only).await), Some(""));
    let nothing = json!({ "add": { "headers": ["a:b"] } });
    assert_eq!(query(&sent(Exchange::get("/?b=1&a"), nothing).await), None);
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

fn fields() -> Value {
    json!({
        "remove": { "body": ["gone", "absent"] },
        "rename": { "body": ["old:new", "absent:never"] },
        "replace": { "body": ["rep:r2", "absent:no"] },
        "add": { "body": ["rep:no", "more:$(query_params.q)"] },
        "append": { "body": ["rep:a", "other:1"] },
    })
}

#[tokio::test]
async fn members_of_a_json_object_are_changed() {
    let text = r#"{"gone": 1, "old": {"a": [1.50, {}]}, "new": 0, "rep": 7, "kept": [], "big": 12345678901234567890}"#;
    let done = sent(Exchange::post("/?q=m%22", JSON, text), fields()).await;
    assert_eq!(
        body(&done),
        Some(
            r#"{"new":{"a": [1.50, {}]},"rep":["r2","a"],"kept":[],"big":12345678901234567890,"more":"m\"","other":["1"]}"#
        )
    );
}

#[tokio::test]
async fn false_counts_as_not_there_in_json() {
    let config = json!({
        "rename": { "body": ["a:x"] }, "replace": { "body": ["b:1"] }, "add": { "body": ["c:2"] },
    });
    let text = r#"{"a":false,"b":false,"c":false,"d":null}"#;
    let done = sent(Exchange::post("/", JSON, text), config).await;
    assert_eq!(
        body(&done),
        Some(r#"{"a":false,"b":false,"c":"2","d":null}"#)
    );
}

#[tokio::test]
async fn a_body_in_which_nothing_is_changed_stays_as_it_is() {
    let config = || json!({ "remove": { "body": ["x"] }, "replace": { "body": ["y:1"] } });
    for (kind, text) in [
        (JSON, r#"{ "a": 1.0 }"#),
        (JSON, "{bad json"),
        (JSON, "[1]"),
        (JSON, "\"a\""),
        (JSON, ""),
        (FORM, "a=%61&b"),
        (FORM, ""),
        ("multipart/form-data; boundary=b", "--b\r\nbroken"),
        ("multipart/form-data", "x"),
        ("text/plain", "x=1"),
    ] {
        let done = sent(Exchange::post("/", kind, text), config()).await;
        assert_eq!(body(&done), None, "{kind} {text}");
    }
    for text in ["{bad json", "[1]", "1", "null"] {
        let done = sent(
            Exchange::post("/", JSON, text),
            json!({ "add": { "body": ["a:1"] } }),
        )
        .await;
        assert_eq!(body(&done), None, "{text}");
    }
}

#[tokio::test]
async fn fields_of_a_form_are_changed() {
    let text = "gone=1&old=o&kept=a+b&rep=r&rep=s";
    let kind = "Application/X-WWW-Form-Urlencoded; charset=utf-8";
    let done = sent(Exchange::post("/?q=m", kind, text), fields()).await;
    assert_eq!(
        body(&done),
        Some("new=o&kept=a%20b&rep=r2&more=m&rep=a&other=1")
    );
}

#[tokio::test]
async fn fields_of_a_multipart_form_are_changed_and_files_keep_their_names() {
    let part = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let file = |name: &str| {
        format!(
            "--b\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"f.bin\"\r\nContent-Type: a/b\r\n\r\n\0\r\n\r\n"
        )
    };
    let before = [
        part("gone", "1"),
        file("old"),
        file("kept"),
        part("rep", "r"),
        part("rep", "s"),
    ];
    let before = format!("{}--b--\r\n", before.concat());
    let kind = "multipart/form-data; boundary=b";
    let done = sent(Exchange::post("/?q=m", kind, before), fields()).await;
    let after = [
        file("new"),
        file("kept"),
        part("rep", "r2"),
        part("more", "m"),
    ];
    assert_eq!(body(&done), Some(&*format!("{}--b--\r\n", after.concat())));

    let done = sent(
        Exchange::post("/", kind, ""),
        json!({ "add": { "body": ["a:1"] } }),
    )
    .await;
    assert_eq!(body(&done), Some(&*format!("{}--b--\r\n", part("a", "1"))));
    let only = format!("{}--b--\r\n", part("a", "1"));
    let done = sent(
        Exchange::post("/", kind, only),
        json!({ "remove": { "body": ["a"] } }),
    )
    .await;
    assert_eq!(body(&done), Some(""));
}

#[tokio::test]
async fn a_body_can_be_made_by_giving_it_a_type() {
    let config = json!({
        "http_method": "POST", "add": { "headers": ["Content-Type:application/json"], "body": ["a:1"] },
    });
    let done = sent(Exchange::get("/"), config).await;
    assert_eq!(done.edits().method.as_ref().unwrap(), "POST");
    assert_eq!(body(&done), Some(r#"{"a":"1"}"#));
}

#[tokio::test]
async fn a_form_goes_into_the_query_of_a_method_without_body() {
    let config = json!({ "http_method": "GET", "add": { "body": ["x:1"] } });
    let form = Exchange::post("/?c=0&z", FORM, "old=o&remb=1&c=d");
    let done = sent(form, config.clone()).await;
    assert_eq!(query(&done), Some("c=0&c=d&old=o&remb=1&z"));
    assert_eq!(body(&done), Some("old=o&remb=1&c=d&x=1"));
    let done = sent(Exchange::post("/?c=0", JSON, r#"{"a":1}"#), config).await;
    assert_eq!(query(&done), None);
    let done = sent(
        Exchange::post("/?c=0", FORM, "a=1"),
        json!({ "http_method": "DELETE" }),
    )
    .await;
    assert_eq!(query(&done), None);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let config = || json!({ "remove": { "body": ["a"] } });
    let long = " ".repeat((8 << 20) + 1);
    let done = Exchange::post("/", JSON, long.clone())
        .run::<RequestTransformer>(config())
        .await;
    done.exit_status(413);
    sent(Exchange::post("/", "text/plain", long), config()).await;
}

#[tokio::test]
async fn a_form_of_too_many_fields_is_refused() {
    let form = |fields: usize| Exchange::post("/", FORM, vec!["b"; fields].join("&"));
    for config in [
        json!({ "remove": { "body": ["a"] } }),
        json!({ "http_method": "GET" }),
    ] {
        sent(form(10_000), config.clone()).await;
        let done = form(10_001).run::<RequestTransformer>(config).await;
        done.exit_status(413);
    }
    sent(form(10_001), json!({ "http_method": "PUT" })).await;
}

fn captures() -> Captures {
    let text = |s: &str| Some(s.to_owned());
    Captures {
        numbered: vec![text("/u/foo/bar"), text("foo"), None, text("b r")],
        named: vec![
            ("user1".into(), "foo".into()),
            ("user2".into(), "b r".into()),
        ],
    }
}

/// What a template comes to.
async fn rendered(template: &str) -> String {
    let exchange = Exchange::get("/?a=1&a=2&b=B%20&flag&n=5")
        .header("host", "h.test:80")
        .header("x-one", "one")
        .header("x-two", "1")
        .header("x-two", "2")
        .header("authorization", "Bearer tOken")
        .captures(captures());
    let config = json!({ "add": { "headers": [format!("out:[{template}]")] } });
    let done = exchange.run::<RequestTransformer>(config).await;
    if done.exited() {
        return done.failed().to_string();
    }
    let text = done.upstream_header("out").unwrap();
    text[1..text.len() - 1].to_owned()
}

#[tokio::test]
async fn templates_look_at_the_request() {
    for (template, text) in [
        ("$(headers.host)", "h.test:80"),
        ("$(headers['X-One'])-$(headers.x_one)", "one-one"),
        ("$(headers[\"x-none\"] or 'none')", "none"),
        ("$(headers['x-' .. 'one'])", "one"),
        ("$(headers.x_two)", "1, 2"),
        ("$(headers.x_two[2])$(headers.x_two[3])", "2"),
        ("$(query_params.b)", "B "),
        ("$(query_params['a'][1])", "1"),
        ("$(query_params.flag) $(query_params.none)", "true "),
        ("$(uri_captures.user1)/$(uri_captures['user2'])", "foo/b r"),
        (
            "$(uri_captures[0]) $(uri_captures[1]) $(uri_captures[2] or '-')",
            "/u/foo/bar foo -",
        ),
        (
            "$(uri_captures[99])$(uri_captures[-1])$(uri_captures['1'])",
            "",
        ),
        ("$(shared.version or 'no')", "no"),
        ("$('$(uri_captures.user1)')", "$(uri_captures.user1)"),
        ("$ $( $x $(1) ($)", "$ $( $x 1 ($)"),
        ("$(10 * query_params.n + 2 ^ 3 - 7 % 4 / 2)", "56.5"),
        ("$(1 == 1 and 'yes' or 'no')$(1 == '1')", "yes"),
        ("$('a' < 'b')$(2 >= 3)$('a' ~= 'b')", "truetrue"),
        ("$(-(1) .. -2)$(#headers.x_one)$(#headers.x_two)", "-1-232"),
        ("$(not headers.none)", "true"),
        ("$(headers.authorization:sub(8))", "tOken"),
        ("$(headers.authorization:sub(-5, -2):upper())", "TOKE"),
        (
            "$(string.lower(headers.authorization))$(('abc'):len())",
            "bearer token3",
        ),
        (
            "$(('abc'):sub(0))$(('abc'):sub(3, 2))$(('abc'):sub(2, 99))",
            "abcbc",
        ),
        (
            "$(type(headers['x-two']) == 'table' and headers['x-two'][1] .. '-first' or headers['x-two'])",
            "1-first",
        ),
        (
            "$(type(nil)) $(type(1)) $(type('')) $(type(true)) $(type(shared))",
            "nil number string boolean table",
        ),
    ] {
        assert_eq!(rendered(template).await, text, "{template}");
    }
}

#[tokio::test]
async fn the_host_of_http_2_is_a_header_as_well() {
    let config = json!({ "add": { "headers": ["out:$(headers.Host)"] } });
    let done = sent(Exchange::get("https://h.test:81/"), config).await;
    assert_eq!(done.upstream_header_values("out"), ["h.test:81"]);
}

#[tokio::test]
async fn a_template_that_makes_no_sense_for_a_request_fails() {
    for (template, why) in [
        (
            "$(10 * headers.x_one)",
            "attempt to perform arithmetic on a string value",
        ),
        (
            "$(headers.none .. 'x')",
            "attempt to concatenate a nil value",
        ),
        ("$(headers.none.x)", "attempt to index a nil value"),
        ("$(headers.none:lower())", "attempt to index a nil value"),
        ("$(headers.x_two:lower())", "attempt to index a table value"),
        ("$(#headers.none)", "attempt to get length of a nil value"),
        ("$(1 < 'a')", "attempt to compare number with string"),
        ("$(headers)", "'headers' is a table, not a text"),
    ] {
        assert_eq!(
            rendered(template).await,
            format!("template: {why}"),
            "{template}"
        );
    }
}

#[tokio::test]
async fn the_path_is_made_of_captures_and_escaped() {
    let exchange = Exchange::get("/u/foo/b%20r").captures(captures());
    let config = json!({ "replace": {
        "uri": "/requests/user2/$(uri_captures.user2)/user1/$(uri_captures.user1)/t\u{e9}st#?a=%20&b",
    } });
    let done = sent(exchange, config).await;
    assert_eq!(
        done.edits().path.as_deref(),
        Some("/requests/user2/b%20r/user1/foo/t%C3%A9st%23?a=%20&b")
    );
    let config = json!({ "replace": { "uri": "$(headers.none)" } });
    let done = Exchange::get("/").run::<RequestTransformer>(config).await;
    assert_eq!(
        done.failed().to_string(),
        "replace.uri: path must start with /"
    );
}

#[tokio::test]
async fn templates_see_what_was_there_when_the_first_one_looked() {
    let exchange = || Exchange::get("/?q2=20").header("x-a", "old");
    let config = json!({
        "remove": { "headers": ["x-a"] },
        "add": { "headers": ["x-b:$(headers['x-a'])"], "querystring": ["q:$(headers['x-a'])"] },
        "replace": { "querystring": ["q2:$(query_params.q2)1"] },
    });
    let done = sent(exchange(), config).await;
    assert_eq!(done.upstream_header_values("x-b"), ["old"]);
    assert_eq!(query(&done), Some("q2=201&q=old"));
    // Nobody looked before the header was gone.
    let config = json!({
        "remove": { "headers": ["x-a"] }, "add": { "querystring": ["q:$(headers['x-a'] or 'gone')"] },
    });
    assert_eq!(query(&sent(exchange(), config).await), Some("q2=20&q=gone"));
}

#[tokio::test]
async fn a_template_cannot_break_a_header_and_an_empty_value_is_no_header() {
    let config = json!({
        "add": { "headers": ["x-q:$(query_params.q)", "x-empty:$(nil)"] },
        "replace": { "headers": ["x-a:$(false)"] },
        "append": { "headers": ["x-b:$(nil)"] },
    });
    let exchange = Exchange::get("/?q=a%0d%0aX-Evil:%201")
        .header("x-a", "1")
        .header("x-b", "1");
    let done = sent(exchange, config).await;
    assert_eq!(done.upstream_header_values("x-q"), ["a%0D%0AX-Evil: 1"]);
    assert_eq!(done.upstream_header_values("x-empty"), [""; 0]);
    assert_eq!(done.upstream_header_values("x-a"), [""; 0]);
    assert_eq!(done.upstream_header_values("x-b"), ["1", ""]);
}

#[tokio::test]
async fn settings_without_effect_leave_everything_alone() {
    let done = sent(Exchange::post("/?b&a", JSON, "{ }"), json!({})).await;
    let edits = done.edits();
    assert!(edits.headers.is_empty() && edits.path.is_none() && edits.query.is_none());
    assert!(edits.body.is_none() && edits.method.is_none());
}
