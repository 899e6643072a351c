#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use serde_json::{Value, json};
use silverback_plugin::exchange::{
    Compiled, Exchange, Head, Outcome, config, schema_without_descriptions,
};
use silverback_plugin::{BodyCtx, Facts, Handler, RequestView, ResponseCtx};

use crate::ResponseTransformer;

#[test]
fn schema_is_that_of_kong() {
    let mut facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    // Kong shows these two for some plugins, such as key-auth, and not for others; here all show them.
    let protocol = &mut facts["fields"][0]["protocols"]["elements"];
    protocol["required"] = true.into();
    protocol["len_min"] = 1.into();
    assert_eq!(schema_without_descriptions::<ResponseTransformer>(), facts);
}

#[test]
fn malformed_pairs_are_refused_in_kongs_words() {
    #[track_caller]
    fn refused(given: Value, violations: Value) {
        let found = config::<ResponseTransformer>(given).unwrap_err();
        assert_eq!(found.to_json()["fields"]["config"], violations);
    }
    refused(
        json!({ "add": { "headers": ["a:b", "x"] } }),
        json!({ "add": { "headers": [null, "invalid value: x"] } }),
    );
    refused(
        json!({ "replace": { "json": [":x"], "json_types": ["text"] } }),
        json!({ "replace": {
            "json": ["invalid value: :x"],
            "json_types": ["expected one of: boolean, number, string"],
        } }),
    );
    refused(
        json!({ "rename": { "headers": ["a b:c", "a:", "a:b:c", "a"] } }),
        json!({ "rename": { "headers": [
            "'a b' is not a valid header",
            "'' is not a valid header",
            "'b:c' is not a valid header",
            "invalid value: a",
        ] } }),
    );
    refused(
        json!({ "remove": { "headers": [""] } }),
        json!({ "remove": { "headers": ["length must be at least 1"] } }),
    );
}

async fn answered(config: Value, headers: &[(&str, &str)], body: &str) -> Outcome {
    Exchange::get("/")
        .upstream(200, headers, body.to_owned())
        .run::<ResponseTransformer>(config)
        .await
}

#[test]
fn headers_are_judged_by_what_came_from_the_upstream() {
    let config = json!({
        "remove": { "headers": ["X-Gone", "X_Under:said in vain", ":"] },
        "rename": { "headers": ["X-Old:X-New", "X-Absent:X-Never"] },
        "replace": { "headers": ["X-Up:rep", "X-New:no", "X-Nothing:"] },
        "add": { "headers": ["X-Gone:no", "X-Up:no", "X-More::1:2", "X-Under_Score:1", "X-Nothing:"] },
        "append": { "headers": ["X-Up:app", "X-Other:1", "X-Other:2", "X-Nothing:"] },
    });
    let upstream = [
        ("x-gone", "1"),
        ("x_under", "1"),
        ("x-old", "1"),
        ("x-old", "2"),
        ("x-up", "u"),
        ("content-length", "2"),
        ("content-type", "application/json"),
    ];
    let (_, _, after) = headed(config, &upstream);
    let mut all: Vec<_> = after
        .iter()
        .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
        .collect();
    all.sort_unstable();
    assert_eq!(
        all,
        [
            "content-length: 2",
            "content-type: application/json",
            "x-more: 1:2",
            "x-new: 1",
            "x-new: 2",
            "x-other: 1",
            "x-other: 2",
            "x-under-score: 1",
            "x-up: app",
            "x-up: rep",
        ]
    );
}

#[test]
fn framing_and_the_form_of_headers_cannot_be_broken() {
    let config = json!({
        "remove": { "headers": ["Transfer-Encoding"] },
        "rename": { "headers": ["X-Up:Content-Length", "Transfer-Encoding:X-Te"] },
        "replace": { "headers": ["Content-Length:9"] },
        "add": { "headers": ["Transfer-Encoding:gzip", "a b:1", "X-Split:1\r\nX-Evil: 2"] },
        "append": { "headers": ["Content-Length:9", "Content-Type:text/html"] },
    });
    let upstream = [
        ("x-up", "7"),
        ("transfer-encoding", "chunked"),
        ("content-type", "text/plain"),
        ("content-length", "1"),
    ];
    let (_, _, after) = headed(config, &upstream);
    let header = |name: &str| after.get(name).map(|v| v.to_str().unwrap());
    assert_eq!(header("transfer-encoding"), Some("chunked"));
    assert_eq!(header("content-length"), Some("1"));
    assert_eq!(header("x-up"), None);
    assert_eq!(header("a%20b"), Some("1"));
    assert_eq!(header("x-split"), Some("1%0D%0AX-Evil: 2"));
    let types = after.get_all("content-type");
    assert_eq!(types.iter().collect::<Vec<_>>(), ["text/html"]);
}

const JSON: [(&str, &str); 2] = [
    ("content-type", "application/json"),
    ("content-length", "1"),
];

#[tokio::test]
async fn members_are_removed_renamed_replaced_added_and_appended_in_turn() {
    let config = json!({
        "remove": { "json": ["gone", "absent"] },
        "rename": { "json": ["old:new", "absent:never", "kept:"] },
        "replace": { "json": ["new:2", "absent:1", "no:1", "nil:x", "kept:nan"], "json_types": ["number", "string", "string", "string", "number"] },
        "add": { "json": ["gone:back", "kept:no", "no:true", "u:http://a/b"], "json_types": ["string", "string", "boolean"] },
        "append": { "json": ["kept:2", "list:3", "gone:4"], "json_types": ["number", "number"] },
    });
    let body =
        r#"{"gone": 1, "old": {"a": 1}, "kept": "1", "no": false, "nil": null, "list": [1, 2]}"#;
    let done = answered(config, &JSON, body).await;
    assert_eq!(
        done.body_json(),
        json!({
            "kept": ["1", 2], "no": true, "nil": "x", "list": [1, 2, 3], "new": 2, "gone": ["back", "4"],
            "u": "http://a/b",
        })
    );
    assert_eq!(done.header("content-length"), None);
}

#[tokio::test]
async fn a_body_that_is_no_json_object_stays_as_it_is() {
    for body in [
        " {bad json",
        " [1,2]",
        "\"a\"",
        "null",
        "",
        "\u{1f}\u{8b}",
        "{} x",
    ] {
        let done = answered(json!({ "add": { "json": ["a:1"] } }), &JSON, body).await;
        assert_eq!(done.body_text(), body);
        assert_eq!(done.header("content-length"), None, "{body:?}");
    }
}

#[tokio::test]
async fn only_bodies_with_a_json_type_are_changed() {
    let add = json!({ "add": { "json": ["a:1"] } });
    let text = [("content-type", "text/plain"), ("content-length", "2")];
    let done = answered(add.clone(), &text, "{}").await;
    assert_eq!(done.body_text(), "{}");
    assert_eq!(done.header("content-length"), Some("2"));
    assert_eq!(answered(add, &[], "{}").await.body_text(), "{}");

    let typed = |t: &str| json!({ "replace": { "headers": [format!("Content-Type:{t}")] }, "add": { "json": ["a:1"] } });
    let done = answered(typed("application/json"), &text, "{}").await;
    assert_eq!(done.body_text(), r#"{"a":"1"}"#);
    assert_eq!(done.header("content-length"), None);
    let done = answered(typed("text/plain"), &JSON, "{}").await;
    assert_eq!(done.body_text(), "{}");
    assert_eq!(done.header("content-length"), None);
}

/// A plugin that has seen the head of a response.
fn headed(
    config: Value,
    headers: &[(&'static str, &'static str)],
) -> (Compiled<ResponseTransformer>, Facts, HeaderMap) {
    let plugin = Compiled::<ResponseTransformer>::new(config);
    let (request, ()) = Request::new(()).into_parts();
    let mut facts = Facts::new([b'0'; 32], ([127, 0, 0, 1], 1).into(), "http", 80);
    let mut head = Head::default();
    for (name, value) in headers {
        head.headers.append(*name, HeaderValue::from_static(value));
    }
    let mut ctx = ResponseCtx {
        request: RequestView {
            parts: &request,
            path_and_query: b"/",
            host: "",
        },
        facts: &mut facts,
        head: &mut head,
        route: None,
        service: None,
    };
    plugin.plugin().header_filter(&mut ctx).unwrap();
    (plugin, facts, head.headers)
}

/// What leaves at each piece of a body that comes in pieces.
fn pieces(config: Value, pieces: &[&str]) -> Vec<Option<String>> {
    let (plugin, mut facts, _) = headed(config, &JSON);
    let each = pieces.iter().enumerate().map(|(n, piece)| {
        let mut chunk = Some(Bytes::copy_from_slice(piece.as_bytes())).filter(|c| !c.is_empty());
        let end = n + 1 == pieces.len();
        let mut ctx = BodyCtx { facts: &mut facts };
        let done = plugin.plugin().body_filter(&mut ctx, &mut chunk, end);
        done.unwrap();
        chunk.map(|c| String::from_utf8(c.to_vec()).unwrap())
    });
    each.collect()
}

#[test]
fn an_object_is_held_until_it_is_whole() {
    let add = || json!({ "add": { "json": ["b:2"] } });
    let leaves = |whole: &str| Some(whole.to_owned());
    assert_eq!(
        pieces(add(), &[" ", "\n{\"a\"", ":[1", "]}", ""]),
        [None, None, None, None, leaves(r#"{"a":[1],"b":"2"}"#)]
    );
    assert_eq!(pieces(add(), &["{", "}"]), [None, leaves(r#"{"b":"2"}"#)]);
    assert_eq!(
        pieces(add(), &[" {", "oops", ""]),
        [None, None, leaves(" {oops")]
    );
    assert_eq!(pieces(add(), &["", ""]), [None, None]);
}

#[test]
fn what_is_no_object_is_not_held() {
    let leaves = |piece: &str| Some(piece.to_owned());
    assert_eq!(
        pieces(
            json!({ "add": { "json": ["b:2"] } }),
            &[" ", " [1", "{}", "]"]
        ),
        [None, leaves("  [1"), leaves("{}"), leaves("]")]
    );
    assert_eq!(
        pieces(json!({ "add": { "headers": ["b:2"] } }), &["{", "}"]),
        [leaves("{"), leaves("}")]
    );
}

#[tokio::test]
async fn settings_without_effect_leave_everything_alone() {
    let done = answered(json!({}), &JSON, "{ }").await;
    assert_eq!(done.body_text(), "{ }");
    assert_eq!(done.header("content-length"), Some("1"));
}
