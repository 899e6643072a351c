#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use silverback_plugin::exchange::{Exchange, Outcome, config};
use silverback_plugin::schema::record;
use silverback_plugin::{Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv};

use super::*;

record! {
    /// Settings of a plugin that passes traces on.
    pub struct Settings {
        /// As plugins have it.
        pub propagation: PropagationConfig = field("w3c"),
        /// The former way.
        pub header_type: Option<String> = string(),
    }
}

/// Tells the upstream of a span whose bytes are all `0xab`, in the request's trace or in one whose bytes are all `0xcd`.
struct Passing(Propagation);

/// What it read.
struct Read(Extracted);

impl Plugin for Passing {
    const NAME: &'static str = "passing";
    const PRIORITY: i32 = 1;
    const VERSION: &'static str = "1";
    const PHASES: Phases = Phases::ACCESS.and(Phases::LOG);
    type Config = Settings;

    fn compile(config: Settings, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        Propagation::new(&config.propagation, config.header_type.as_deref()).map(Passing)
    }
}

impl Handler for Passing {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let extracted = self.0.extract(ctx);
        let next = Next {
            trace_id: extracted.trace_id.unwrap_or([0xcd; 16]),
            span_id: [0xab; 8],
            parent_id: extracted.span_id,
            sampled: extracted.sampled.unwrap_or(false),
            extracted: &extracted,
        };
        self.0.inject(ctx, &next);
        ctx.facts.slots.insert(Read(extracted));
        Ok(Flow::Next)
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const NEXT: &str = "abababababababab";
const NEW: &str = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";

async fn passed(headers: &[(&str, &str)], mut settings: Value) -> Outcome {
    if let Some(given) = settings
        .get_mut("propagation")
        .and_then(Value::as_object_mut)
    {
        // Whoever says anything has to say this.
        given.entry("default_format").or_insert("w3c".into());
    }
    let mut exchange = Exchange::get("/");
    for (name, value) in headers {
        exchange = exchange.header(name, value);
    }
    exchange.run::<Passing>(settings).await
}

async fn read(headers: &[(&str, &str)]) -> Extracted {
    let done = passed(headers, json!({ "header_type": "preserve" })).await;
    let Read(extracted) = done.facts().slots.get().unwrap();
    extracted.clone()
}

/// The trace, the span, whether it is sampled, in the format.
fn summary(e: &Extracted) -> (Option<Format>, String, String, Option<bool>) {
    let text = |id: Option<&[u8]>| id.map(hex).unwrap_or_default();
    (
        e.format,
        text(e.trace_id.as_ref().map(|id| &id[..])),
        text(e.span_id.as_ref().map(|id| &id[..])),
        e.sampled,
    )
}

#[tokio::test]
async fn each_format_is_read() {
    let whole = |format, sampled| (Some(format), TRACE.into(), SPAN.into(), sampled);
    let one = |name: &'static str, value: String| vec![(name, value)];
    let cases = [
        (
            one("traceparent", format!("00-{TRACE}-{SPAN}-01")),
            whole(Format::W3c, Some(true)),
        ),
        (
            one("uber-trace-id", format!("{TRACE}:{SPAN}:0:3")),
            whole(Format::Jaeger, Some(true)),
        ),
        (
            one("b3", format!("{TRACE}-{SPAN}-d")),
            whole(Format::B3, Some(true)),
        ),
        (
            one("b3", format!("{TRACE}-{SPAN}")),
            whole(Format::B3, None),
        ),
        (
            one("tracestate", format!("b3={TRACE}-{SPAN}-0-{SPAN}")),
            whole(Format::B3, Some(false)),
        ),
        (
            vec![
                ("x-b3-traceid", TRACE.into()),
                ("x-b3-spanid", SPAN.into()),
                ("x-b3-sampled", "0".into()),
                ("x-b3-flags", "1".into()),
            ],
            whole(Format::B3, Some(true)),
        ),
        (
            vec![
                ("ot-tracer-traceid", TRACE.into()),
                ("ot-tracer-spanid", SPAN.into()),
                ("ot-tracer-sampled", "false".into()),
            ],
            whole(Format::Ot, Some(false)),
        ),
        (
            one(
                "x-amzn-trace-id",
                format!(
                    "Root=1-{}-{}; Parent={SPAN};Sampled=1",
                    &TRACE[..8],
                    &TRACE[8..]
                ),
            ),
            whole(Format::Aws, Some(true)),
        ),
        (
            one(
                "x-cloud-trace-context",
                format!("{TRACE}/{};o=1", 0xb7ad_6b71_6920_3331_u64),
            ),
            whole(Format::Gcp, Some(true)),
        ),
        (
            vec![
                ("x-datadog-trace-id", "7".into()),
                ("x-datadog-parent-id", 0xb7ad_6b71_6920_3331_u64.to_string()),
                ("x-datadog-sampling-priority", "-1".into()),
            ],
            (
                Some(Format::Datadog),
                format!("{:032x}", 7),
                SPAN.into(),
                Some(false),
            ),
        ),
    ];
    for (headers, expected) in cases {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(summary(&read(&headers).await), expected, "{headers:?}");
    }
}

#[tokio::test]
async fn what_is_malformed_is_as_good_as_not_there() {
    let zero = "0".repeat(32);
    let cases = [
        ("traceparent", format!("01-{TRACE}-{SPAN}-01")),
        ("traceparent", format!("00-{zero}-{SPAN}-01")),
        ("traceparent", format!("00-{TRACE}-{SPAN}")),
        ("traceparent", format!("00-{TRACE}-{SPAN}-01-x")),
        ("traceparent", format!("00-{TRACE}-{SPAN}-1")),
        ("uber-trace-id", format!("{zero}:{SPAN}:0:1")),
        ("uber-trace-id", format!("{TRACE}1:{SPAN}:0:1")),
        ("uber-trace-id", format!("{TRACE}:{SPAN}:0:123")),
        ("x-amzn-trace-id", format!("Root=1-{TRACE}")),
        ("x-amzn-trace-id", "Sampled=2".to_owned()),
        ("x-cloud-trace-context", format!("{TRACE}/x")),
        ("x-cloud-trace-context", format!("{TRACE}/1;o=x")),
        ("x-cloud-trace-context", "short/1".to_owned()),
        ("x-datadog-trace-id", "12x".to_owned()),
        ("x-datadog-sampling-priority", "7".to_owned()),
        ("ot-tracer-traceid", "12".to_owned()),
        ("tracestate", "vendor=1".to_owned()),
    ];
    for (name, value) in cases {
        let found = read(&[(name, &value)]).await;
        assert_eq!(found, Extracted::default(), "{name}: {value}");
    }
    // Of B3 it is known at least that it is B3.
    for (name, value) in [("b3", "x-y"), ("x-b3-traceid", "12"), ("x-b3-sampled", "x")] {
        let found = read(&[(name, value)]).await;
        let expected = (Some(Format::B3), String::new(), String::new(), None);
        assert_eq!(summary(&found), expected, "{name}: {value}");
    }
    let twice = format!("00-{TRACE}-{SPAN}-01");
    let found = read(&[("traceparent", &twice), ("traceparent", &twice)]).await;
    assert_eq!(found, Extracted::default());
}

#[tokio::test]
async fn a_state_of_others_does_not_hide_the_trace() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let found = read(&[("traceparent", &parent), ("tracestate", "vendor=1")]).await;
    assert_eq!(found.format, Some(Format::W3c));
}

#[tokio::test]
async fn each_format_is_written() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let expected = |format: &str| -> Vec<(&str, String)> {
        match format {
            "w3c" => vec![("traceparent", format!("00-{TRACE}-{NEXT}-01"))],
            "b3" => vec![
                ("x-b3-traceid", TRACE.into()),
                ("x-b3-spanid", NEXT.into()),
                ("x-b3-parentspanid", SPAN.into()),
                ("x-b3-sampled", "1".into()),
            ],
            "b3-single" => vec![("b3", format!("{TRACE}-{NEXT}-1-{SPAN}"))],
            "jaeger" => vec![("uber-trace-id", format!("{TRACE}:{NEXT}:{SPAN}:01"))],
            "ot" => vec![
                ("ot-tracer-traceid", TRACE.into()),
                ("ot-tracer-spanid", NEXT.into()),
                ("ot-tracer-sampled", "1".into()),
            ],
            "datadog" => vec![
                ("x-datadog-trace-id", 0x8448_eb21_1c80_319c_u64.to_string()),
                ("x-datadog-parent-id", 0xabab_abab_abab_abab_u64.to_string()),
                ("x-datadog-sampling-priority", "1".into()),
            ],
            "aws" => vec![(
                "x-amzn-trace-id",
                format!(
                    "Root=1-{}-{};Parent={NEXT};Sampled=1",
                    &TRACE[..8],
                    &TRACE[8..]
                ),
            )],
            _ => vec![(
                "x-cloud-trace-context",
                format!("{TRACE}/{};o=1", 0xabab_abab_abab_abab_u64),
            )],
        }
    };
    for format in WRITTEN {
        let settings = json!({ "propagation": { "extract": ["w3c"], "inject": [format] } });
        let done = passed(&[("traceparent", &parent)], settings).await;
        for (name, value) in expected(format) {
            assert_eq!(done.upstream_header(name), Some(&*value), "{format}");
        }
        assert_eq!(expected(format).len(), done.edits().headers.len());
    }
}

#[tokio::test]
async fn new_ids_have_the_length_that_the_format_has_first() {
    for (format, header, id) in [
        ("ot", "ot-tracer-traceid", &NEW[..16]),
        ("b3", "x-b3-traceid", NEW),
    ] {
        let settings = json!({ "propagation": { "inject": [format] } });
        let done = passed(&[], settings).await;
        assert_eq!(done.upstream_header(header), Some(id));
    }
    // What came short stays short.
    let short = &TRACE[16..];
    let headers = [("x-b3-traceid", short), ("x-b3-spanid", SPAN)];
    let done = passed(&headers, json!({ "header_type": "preserve" })).await;
    assert_eq!(done.upstream_header("x-b3-traceid"), Some(short));
    assert_eq!(done.upstream_header("x-b3-parentspanid"), Some(SPAN));
}

#[tokio::test]
async fn preserve_is_the_format_of_the_request_or_the_default() {
    let preserve = || json!({ "header_type": "preserve" });
    let single = format!("{TRACE}-{SPAN}-d");
    let done = passed(&[("b3", &single)], preserve()).await;
    let expected = format!("{TRACE}-{NEXT}-d-{SPAN}");
    assert_eq!(done.upstream_header("b3"), Some(&*expected));
    let done = passed(&[], preserve()).await;
    let new = format!("00-{NEW}-{NEXT}-00");
    assert_eq!(done.upstream_header("traceparent"), Some(&*new));
    let b3 = json!({ "header_type": "preserve", "propagation": { "default_format": "b3" } });
    let done = passed(&[], b3).await;
    assert_eq!(done.upstream_header("x-b3-traceid"), Some(NEW));
}

#[tokio::test]
async fn the_former_header_type_counts_where_propagation_says_nothing() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let headers = [("traceparent", &*parent)];
    let done = passed(&headers, json!({ "header_type": "ignore" })).await;
    let new = format!("00-{NEW}-{NEXT}-00");
    assert_eq!(done.upstream_header("traceparent"), Some(&*new));
    let done = passed(&headers, json!({ "header_type": "jaeger" })).await;
    let both = [
        ("traceparent", format!("00-{TRACE}-{NEXT}-01")),
        ("uber-trace-id", format!("{TRACE}:{NEXT}:{SPAN}:01")),
    ];
    for (name, value) in both {
        assert_eq!(done.upstream_header(name), Some(&*value));
    }
    let nothing = json!({ "header_type": "preserve", "propagation": { "extract": [] } });
    let done = passed(&headers, nothing).await;
    assert_eq!(done.upstream_header("traceparent"), Some(&*parent));
    let done = passed(&headers, json!({})).await;
    assert!(done.edits().headers.is_empty());
}

#[tokio::test]
async fn headers_are_cleared_once_they_have_been_read() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let settings = json!({
        "propagation": { "extract": ["w3c"], "clear": ["traceparent", "X-Other"], "inject": ["b3"] }
    });
    let headers = [("traceparent", &*parent), ("x-other", "1")];
    let done = passed(&headers, settings).await;
    assert_eq!(done.upstream_header("traceparent"), None);
    assert_eq!(done.upstream_header("x-other"), None);
    assert_eq!(done.upstream_header("x-b3-traceid"), Some(TRACE));
}

#[tokio::test]
async fn baggage_goes_along_in_jaegers_and_opentracings_headers() {
    let uber = format!("{TRACE}:{SPAN}:0:1");
    let headers = [("uber-trace-id", &*uber), ("uberctx-User", "a%20b")];
    let settings =
        json!({ "propagation": { "extract": ["jaeger"], "inject": ["preserve", "ot", "w3c"] } });
    let done = passed(&headers, settings).await;
    assert_eq!(done.upstream_header("uberctx-user"), Some("a%20b"));
    assert_eq!(done.upstream_header("ot-baggage-user"), Some("a%20b"));
}

#[tokio::test]
async fn logs_show_the_id_in_each_format_that_was_written() {
    let settings = json!({ "propagation": { "inject": ["w3c", "datadog"] } });
    let done = passed(&[], settings).await;
    let (field, value) = done.facts().log_values.iter().last().unwrap();
    let decimal = 0xcdcd_cdcd_cdcd_cdcd_u64.to_string();
    assert_eq!(field, "trace_id");
    assert_eq!(*value, json!({ "w3c": NEW, "datadog": decimal }));
}

#[test]
fn unknown_formats_are_refused() {
    let given = json!({ "propagation": { "default_format": "w3c", "extract": ["b3-single"] } });
    assert!(config::<Passing>(given).is_err());
    let given = json!({ "propagation": { "default_format": "w3c", "clear": ["a b"] } });
    assert!(config::<Passing>(given).is_err());
}
