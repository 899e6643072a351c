#![allow(clippy::unwrap_used)]

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use silverback_export::Answer;
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, config, schema_without_descriptions,
};
use silverback_plugin::{
    AccessCtx, Body, ConfigError, Flow, Handler, InstanceInfo, PhaseResult, Phases, Plugin,
    PluginEnv, Response,
};

use crate::answer::Answers;
use crate::payload::Payload;
use crate::{AwsLambda, Config};

/// A configuration with its defaults.
pub(crate) fn settings(given: Value) -> Config {
    let filled = config::<AwsLambda>(given).unwrap();
    serde_json::from_value(Value::Object(filled)).unwrap()
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<AwsLambda>(), facts);
}

#[test]
fn key_and_secret_go_together_and_a_proxy_speaks_http() {
    let refused = |given: Value| config::<AwsLambda>(given).unwrap_err().message();
    assert_eq!(
        refused(json!({"aws_key": "k"})),
        "schema violation (all or none of these fields must be set: 'config.aws_key', 'config.aws_secret')"
    );
    assert_eq!(
        refused(json!({"proxy_url": "https://p.test"})),
        "schema violation (proxy_url scheme must be http)"
    );
}

#[test]
fn a_proxy_is_refused() {
    let given = json!({"proxy_url": "http://p.test"});
    let made =
        Compiled::<AwsLambda>::try_with(given, &InstanceInfo::default(), &FakeServices::default());
    assert_eq!(
        made.err().unwrap().to_string(),
        "proxy_url: is not supported"
    );
}

#[tokio::test]
async fn what_is_missing_is_found_out_by_the_request() {
    let done = Exchange::get("/")
        .run::<AwsLambda>(json!({"aws_region": "eu-west-1", "aws_key": "k", "aws_secret": "s"}))
        .await;
    assert_eq!(
        done.failed().to_string(),
        "no function: function_name is not set"
    );
}

/// Answers with the payload that the function would get.
struct Probe(Payload);

impl Plugin for Probe {
    const NAME: &'static str = "probe";
    const PRIORITY: i32 = 1;
    const VERSION: &'static str = "0.1.0";
    const PHASES: Phases = Phases::ACCESS;
    type Config = Config;

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        Ok(Probe(Payload::new(&config)))
    }
}

impl Handler for Probe {
    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let payload = self.0.of(ctx).await?;
        Ok(Flow::Exit(Response::json(StatusCode::OK, payload)))
    }
}

async fn payload(exchange: Exchange, settings: Value) -> Value {
    exchange
        .run::<Probe>(settings)
        .await
        .exit_status(200)
        .body_json()
}

fn form(body: &'static str) -> Exchange {
    Exchange::post(
        "/x?a=1&b&c=q&c=r",
        "application/x-www-form-urlencoded",
        body,
    )
}

#[tokio::test]
async fn without_settings_the_function_gets_the_arguments() {
    assert_eq!(
        payload(form("a=2&d=%C3%BC+"), json!({})).await,
        json!({"a": "2", "b": true, "c": ["q", "r"], "d": "ü "})
    );
    let json_body = |body: &'static str| Exchange::post("/x?a=1", "application/json", body);
    assert_eq!(
        payload(
            json_body(r#"{"a": [], "n": 12345678901234567890}"#),
            json!({})
        )
        .await,
        json!({"a": [], "n": 12_345_678_901_234_567_890_u64})
    );
    assert_eq!(
        payload(json_body("[true]"), json!({})).await,
        json!({"a": "1", "1": true})
    );
    assert_eq!(payload(json_body("{"), json!({})).await, json!({"a": "1"}));
    let multipart = Exchange::post(
        "/x",
        "multipart/form-data; boundary=b",
        "--b\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n1\r\n\
         --b\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n2\r\n--b--\r\n",
    );
    assert_eq!(
        payload(multipart, json!({})).await,
        json!({"f": ["1", "2"]})
    );
    let list = Exchange::post("/x", "application/json", "[1,2]");
    assert_eq!(payload(list, json!({})).await, json!([1, 2]));
    assert_eq!(payload(Exchange::get("/x"), json!({})).await, json!({}));
}

#[tokio::test]
async fn parts_are_given_as_asked_for() {
    let request = || {
        Exchange::post("/p%20q?a=1", "application/json", r#"{"k":"v"}"#)
            .header("x-two", "1")
            .header("x-two", "2")
    };
    assert_eq!(
        payload(request(), json!({"forward_request_method": true})).await,
        json!({"request_method": "POST"})
    );
    assert_eq!(
        payload(request(), json!({"forward_request_uri": true})).await,
        json!({"request_uri": "/p%20q?a=1", "request_uri_args": {"a": "1"}})
    );
    let given = payload(request(), json!({"forward_request_headers": true})).await;
    assert_eq!(given["request_headers"]["x-two"], json!(["1", "2"]));
    assert_eq!(given["request_headers"]["content-type"], "application/json");
    assert_eq!(
        payload(request(), json!({"forward_request_body": true})).await,
        json!({"request_body": r#"{"k":"v"}"#, "request_body_args": {"k": "v"}})
    );
}

#[tokio::test]
async fn a_body_that_may_be_binary_is_given_in_base64() {
    let body = |kind: &str| Exchange::post("/", kind, "<x/>");
    let asked = || json!({"forward_request_body": true});
    let plain = json!({"request_body": "<x/>", "request_body_args": {}});
    let encoded =
        json!({"request_body": "PHgvPg==", "request_body_args": {}, "request_body_base64": true});
    assert_eq!(payload(body("application/xml"), asked()).await, plain);
    assert_eq!(payload(body("image/png"), asked()).await, encoded);
    assert_eq!(
        payload(body("text/plain; charset=utf-8"), asked()).await,
        encoded
    );
    let never = json!({"forward_request_body": true, "base64_encode_body": false});
    assert_eq!(payload(body("image/png"), never).await, plain);
    assert_eq!(
        payload(Exchange::get("/"), asked()).await,
        json!({"request_body": "", "request_body_args": {}, "request_body_base64": true})
    );
    let malformed = Exchange::post("/", "application/json", "{");
    assert_eq!(
        payload(malformed, asked()).await,
        json!({"request_body": "{"})
    );
}

#[tokio::test]
async fn large_bodies_are_skipped_unless_they_are_wanted() {
    for length in [8 << 10, (8 << 10) + 1] {
        let body = "x".repeat(length);
        let request = |told: bool| {
            let exchange = Exchange::post("/", "text/plain", body.clone());
            if told {
                exchange.header("content-length", &length.to_string())
            } else {
                exchange
            }
        };
        for told in [true, false] {
            let skipping = json!({"forward_request_body": true});
            let given = payload(request(told), skipping).await;
            assert_eq!(given.get("request_body").is_none(), length > 8 << 10);
            let all = json!({"forward_request_body": true, "skip_large_bodies": false});
            let given = payload(request(told), all).await;
            assert_eq!(given["request_body"].as_str().unwrap().len(), length);
        }
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_whole_is_skipped_or_refused() {
    let request = || Exchange::post("/", "text/plain", vec![b'x'; (8 << 20) + 1]);
    let skipping = json!({"forward_request_body": true, "forward_request_method": true});
    let given = payload(request(), skipping).await;
    assert_eq!(given["request_method"], "POST");
    assert!(given.get("request_body").is_none());
    let all = json!({
        "aws_region": "eu-west-1", "aws_key": "k", "aws_secret": "s", "function_name": "f", "skip_large_bodies": false
    });
    request().run::<AwsLambda>(all).await.exit_status(413);
}

#[tokio::test]
async fn requests_look_as_from_amazons_gateway() {
    let request = Exchange::post("/x?a=1&a=2&b", "text/plain", "hi")
        .host("api.shop.test")
        .header("user-agent", "t")
        .header("x-two", "1")
        .header("x-two", "2")
        .client_ip([127, 0, 0, 1])
        .at(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
    let mut given = payload(request, json!({"awsgateway_compatible": true})).await;
    let id = given["requestContext"]
        .as_object_mut()
        .unwrap()
        .remove("requestId");
    assert_eq!(id.unwrap().as_str().unwrap().len(), 32);
    assert_eq!(
        given,
        json!({
            "version": "1.0",
            "path": "/x",
            "httpMethod": "POST",
            "headers": {"content-type": "text/plain", "user-agent": "t", "x-two": "1"},
            "multiValueHeaders": {"content-type": ["text/plain"], "user-agent": ["t"], "x-two": ["1", "2"]},
            "pathParameters": {},
            "queryStringParameters": {"a": "1", "b": true},
            "multiValueQueryStringParameters": {"a": ["1", "2"], "b": [true]},
            "body": "aGk=",
            "isBase64Encoded": true,
            "requestContext": {
                "path": "/x",
                "resourcePath": "/x",
                "protocol": "HTTP/1.1",
                "httpMethod": "POST",
                "domainName": "api.shop.test",
                "domainPrefix": "api",
                "identity": {"sourceIp": "127.0.0.1", "userAgent": "t"},
                "requestTime": "14/Nov/2023:22:13:20 +0000",
                "requestTimeEpoch": 1_700_000_000_123_u64,
            },
        })
    );
    let plain = json!({"awsgateway_compatible": true, "base64_encode_body": false});
    let given = payload(Exchange::post("/", "text/plain", "hi"), plain.clone()).await;
    assert_eq!(
        (&given["body"], &given["isBase64Encoded"]),
        (&json!("hi"), &json!(false))
    );
    let given = payload(Exchange::get("/"), plain).await;
    assert!(given.get("body").is_none());
}

fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Answer {
    let headers: HeaderMap = headers
        .iter()
        .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
        .collect();
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        body: Bytes::from_static(body.as_bytes()),
    }
}

fn json_answer(body: &'static str) -> Answer {
    answer(200, &[("content-type", "application/json")], body)
}

/// Status, headers as `name: value`, and body.
fn shown(response: Response) -> (u16, Vec<String>, String) {
    let headers = response.headers.iter();
    let headers = headers.map(|(k, v)| format!("{}: {}", k.name(), v.to_str().unwrap()));
    let body = match response.body {
        Body::Bytes { bytes, .. } => String::from_utf8(bytes.to_vec()).unwrap(),
        Body::Empty => String::new(),
        other => panic!("{other:?}"),
    };
    (response.status.as_u16(), headers.collect(), body)
}

fn respond(given: Value, answer: Answer) -> (u16, Vec<String>, String) {
    let answers = Answers::new(&settings(given)).unwrap();
    shown(answers.response(answer).unwrap())
}

#[test]
fn the_functions_answer_is_the_response() {
    let headers = [
        ("content-type", "application/json"),
        ("content-length", "9"),
        ("connection", "keep-alive"),
        ("x-amzn-requestid", "1"),
    ];
    assert_eq!(
        respond(json!({}), answer(200, &headers, r#"{"a": []}"#)),
        (
            200,
            vec![
                "content-type: application/json".to_owned(),
                "x-amzn-requestid: 1".to_owned()
            ],
            r#"{"a": {}}"#.to_owned()
        )
    );
    let correct = json!({"empty_arrays_mode": "correct"});
    assert_eq!(
        respond(correct, json_answer(r#"{"a": []}"#)).2,
        r#"{"a": []}"#
    );
    assert_eq!(
        respond(json!({}), json_answer(r#""all of it""#)).2,
        "all of it"
    );
    assert_eq!(respond(json!({}), json_answer("{")).2, "{");
    assert_eq!(
        respond(json!({}), answer(202, &[], "")),
        (202, vec![], String::new())
    );
}

#[test]
fn a_failed_function_may_have_a_status_of_its_own() {
    let failed = || answer(200, &[("x-amz-function-error", "Unhandled")], "{}");
    assert_eq!(respond(json!({}), failed()).0, 200);
    let own = json!({"unhandled_status": 412});
    assert_eq!(respond(own.clone(), failed()).0, 412);
    assert_eq!(respond(own, json_answer("{}")).0, 200);
}

#[test]
fn what_lambda_refuses_is_an_error_of_the_gateway() {
    let answers = Answers::new(&settings(json!({}))).unwrap();
    let refused = answers.response(answer(403, &[], r#"{"Message":"no"}"#));
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains(r#"{"Message":"no"}"#)
    );
}

#[test]
fn a_function_describes_the_response() {
    let described = r#"{
        "statusCode": "201", "headers": {"X-A": "1", "Age": 3600, "X-Amzn-RequestId": "own", "transfer-encoding": "chunked"},
        "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"], "x-a": ["2"]}, "body": "dGVzdA", "isBase64Encoded": true
    }"#;
    let headers = [
        ("content-type", "application/json"),
        ("x-amzn-requestid", "foo"),
    ];
    let proxy = json!({"is_proxy_integration": true});
    let (status, headers, body) = respond(proxy.clone(), answer(200, &headers, described));
    assert_eq!((status, body.as_str()), (201, "test"));
    assert_eq!(
        headers,
        [
            "content-type: application/json",
            "age: 3600",
            "x-amzn-requestid: own",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "x-a: 2",
        ]
    );
    // As text in JSON, or as text alone, it is read just the same.
    assert_eq!(
        respond(proxy.clone(), json_answer(r#""{\"statusCode\":204}""#)).0,
        204
    );
    assert_eq!(
        respond(proxy, answer(200, &[], r#"{"statusCode":204}"#)).0,
        204
    );
}

#[test]
fn what_describes_no_response_is_a_bad_gateway() {
    for (described, why) in [
        ("", "proxy response must be json format"),
        ("[]", "statusCode validation failed"),
        (r#"{"statusCode":"x"}"#, "statusCode validation failed"),
        (
            r#"{"statusCode":200,"headers":null}"#,
            "headers must be a table",
        ),
        (r#"{"statusCode":200,"body":{}}"#, "body must be a string"),
        (
            r#"{"statusCode":200,"isBase64Encoded":"x"}"#,
            "isBase64Encoded must be a boolean",
        ),
        (
            r#"{"statusCode":200,"headers":{"a b":"1"}}"#,
            "header a b cannot be sent",
        ),
        (
            r#"{"statusCode":200,"headers":{"x":"a\r\nb: c"}}"#,
            "header x cannot be sent",
        ),
    ] {
        let proxy = json!({"is_proxy_integration": true});
        let (status, _, body) = respond(proxy, json_answer(described));
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["message"]), (502, &json!("Bad Gateway")));
        assert_eq!(
            body["error"],
            format!("could not JSON decode Lambda function response: {why}")
        );
    }
    let proxy = || json!({"is_proxy_integration": true});
    for described in [
        "{",
        r#"{"statusCode":200,"body":"*","isBase64Encoded":true}"#,
    ] {
        assert_eq!(
            respond(proxy(), json_answer(described)).0,
            502,
            "{described}"
        );
    }
}
