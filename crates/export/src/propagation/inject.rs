//! Writing each format.

use std::fmt::Write as _;
use std::sync::LazyLock;

use http::HeaderValue;
use silverback_plugin::args::Arg;
use silverback_plugin::{HeaderKey, UpstreamEdits};

use super::ids::{SpanId, TraceId, hex, push_hex};
use super::{Format, Next};

/// What the names of Jaeger's baggage begin with.
pub(super) const UBER_BAGGAGE: &str = "uberctx-";

/// What the names of OpenTracing's baggage begin with.
pub(super) const OT_BAGGAGE: &str = "ot-baggage-";

/// The headers of all formats.
pub(super) struct Keys {
    pub(super) traceparent: HeaderKey,
    pub(super) b3: HeaderKey,
    pub(super) b3_trace_id: HeaderKey,
    pub(super) b3_span_id: HeaderKey,
    pub(super) b3_parent_id: HeaderKey,
    pub(super) b3_sampled: HeaderKey,
    pub(super) b3_flags: HeaderKey,
    pub(super) uber_trace_id: HeaderKey,
    pub(super) ot_trace_id: HeaderKey,
    pub(super) ot_span_id: HeaderKey,
    pub(super) ot_sampled: HeaderKey,
    pub(super) datadog_trace_id: HeaderKey,
    pub(super) datadog_parent_id: HeaderKey,
    pub(super) datadog_priority: HeaderKey,
    pub(super) amzn_trace_id: HeaderKey,
    pub(super) cloud_trace: HeaderKey,
}

pub(super) static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let key = HeaderKey::from_static;
    Keys {
        traceparent: key("traceparent"),
        b3: key("b3"),
        b3_trace_id: key("x-b3-traceid"),
        b3_span_id: key("x-b3-spanid"),
        b3_parent_id: key("x-b3-parentspanid"),
        b3_sampled: key("x-b3-sampled"),
        b3_flags: key("x-b3-flags"),
        uber_trace_id: key("uber-trace-id"),
        ot_trace_id: key("ot-tracer-traceid"),
        ot_span_id: key("ot-tracer-spanid"),
        ot_sampled: key("ot-tracer-sampled"),
        datadog_trace_id: key("x-datadog-trace-id"),
        datadog_parent_id: key("x-datadog-parent-id"),
        datadog_priority: key("x-datadog-sampling-priority"),
        amzn_trace_id: key("x-amzn-trace-id"),
        cloud_trace: key("x-cloud-trace-context"),
    }
});

/// Writes a format's headers.
pub(super) fn write(format: Format, edits: &mut UpstreamEdits, next: &Next<'_>) {
    let trace_id = trace_id(format, next);
    let sampled = next.sampled;
    let mut set = |key: &HeaderKey, value: String| {
        // Digits, letters and a few signs: always a value.
        if let Ok(value) = HeaderValue::try_from(value) {
            edits.set(key.clone(), value);
        }
    };
    match format {
        Format::W3c => {
            let mut value = String::with_capacity(55);
            value.push_str("00-");
            push_hex(&mut value, trace_id);
            value.push('-');
            push_hex(&mut value, &next.span_id);
            value.push_str(if sampled { "-01" } else { "-00" });
            set(&KEYS.traceparent, value);
        }
        Format::B3 => {
            set(&KEYS.b3_trace_id, hex(trace_id));
            set(&KEYS.b3_span_id, hex(&next.span_id));
            if let Some(parent_id) = next.parent_id {
                set(&KEYS.b3_parent_id, hex(&parent_id));
            }
            match &next.extracted.b3_flags {
                Some(flags) => edits.set(KEYS.b3_flags.clone(), flags.clone()),
                None => edits.set(KEYS.b3_sampled.clone(), digit(sampled)),
            }
        }
        Format::B3Single => {
            let debug = next.extracted.b3_flags.as_ref().is_some_and(|f| f == "1");
            let mut value = hex(trace_id);
            value.push('-');
            push_hex(&mut value, &next.span_id);
            value.push_str(match (debug, sampled) {
                (true, _) => "-d",
                (_, true) => "-1",
                (_, false) => "-0",
            });
            if let Some(parent_id) = next.parent_id {
                value.push('-');
                push_hex(&mut value, &parent_id);
            }
            set(&KEYS.b3, value);
        }
        Format::Jaeger => {
            let mut value = hex(trace_id);
            value.push(':');
            push_hex(&mut value, &next.span_id);
            value.push(':');
            match next.parent_id {
                Some(parent_id) => push_hex(&mut value, &parent_id),
                None => value.push('0'),
            }
            value.push_str(if sampled { ":01" } else { ":00" });
            set(&KEYS.uber_trace_id, value);
            baggage(edits, UBER_BAGGAGE, next);
        }
        Format::Ot => {
            set(&KEYS.ot_trace_id, hex(trace_id));
            set(&KEYS.ot_span_id, hex(&next.span_id));
            edits.set(KEYS.ot_sampled.clone(), digit(sampled));
            baggage(edits, OT_BAGGAGE, next);
        }
        Format::Datadog => {
            set(&KEYS.datadog_trace_id, decimal(trace_id));
            set(&KEYS.datadog_parent_id, decimal(&next.span_id));
            edits.set(KEYS.datadog_priority.clone(), digit(sampled));
        }
        Format::Aws => {
            let (time, rest) = trace_id.split_at(4);
            let mut value = String::with_capacity(74);
            value.push_str("Root=1-");
            push_hex(&mut value, time);
            value.push('-');
            push_hex(&mut value, rest);
            value.push_str(";Parent=");
            push_hex(&mut value, &next.span_id);
            value.push_str(if sampled { ";Sampled=1" } else { ";Sampled=0" });
            set(&KEYS.amzn_trace_id, value);
        }
        Format::Gcp => {
            let mut value = hex(trace_id);
            // Writing to a string cannot fail.
            let _ = write!(value, "/{}", u64::from_be_bytes(next.span_id));
            value.push_str(if sampled { ";o=1" } else { ";o=0" });
            set(&KEYS.cloud_trace, value);
        }
    }
}

/// A format's name in logs, and the trace's id in it.
pub(super) fn shown(format: Format, next: &Next<'_>) -> (&'static str, String) {
    let trace_id = trace_id(format, next);
    let name = match format {
        Format::W3c => "w3c",
        Format::B3 | Format::B3Single => "b3",
        Format::Jaeger => "jaeger",
        Format::Ot => "ot",
        Format::Datadog => return ("datadog", decimal(trace_id)),
        Format::Aws => "aws",
        Format::Gcp => "gcp",
    };
    (name, hex(trace_id))
}

/// As much of the trace's id as the format has: as much as the request had, where the format leaves the choice.
fn trace_id<'a>(format: Format, next: &'a Next<'_>) -> &'a [u8] {
    let sizes: &[usize] = match format {
        Format::W3c | Format::Aws | Format::Gcp => &[16],
        Format::B3 | Format::B3Single | Format::Jaeger => &[16, 8],
        Format::Ot => &[8, 16],
        Format::Datadog => &[8],
    };
    let came = next.extracted.trace_id_size;
    let size = if sizes.contains(&came) {
        came
    } else {
        sizes[0]
    };
    &next.trace_id[size_of::<TraceId>() - size..]
}

fn baggage(edits: &mut UpstreamEdits, prefix: &str, next: &Next<'_>) {
    for (name, value) in &next.extracted.baggage {
        let mut escaped = String::new();
        let arg = Arg {
            name: value.into(),
            value: None,
        };
        arg.encode(&mut escaped);
        let key = HeaderKey::new(&format!("{prefix}{name}"));
        if let (Ok(key), Ok(value)) = (key, HeaderValue::try_from(escaped)) {
            edits.set(key, value);
        }
    }
}

fn digit(yes: bool) -> HeaderValue {
    HeaderValue::from_static(if yes { "1" } else { "0" })
}

/// The number that the last eight bytes are.
fn decimal(id: &[u8]) -> String {
    let last: Option<&SpanId> = id.last_chunk();
    last.map(|id| u64::from_be_bytes(*id))
        .unwrap_or_default()
        .to_string()
}
