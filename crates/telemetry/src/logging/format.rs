//! The layouts of an error log line: nginx', with Kong's request id at the end, and JSON.

use std::fmt::{self, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::LogLevel;
use crate::clock;
use crate::escape;
use crate::striped::thread_index;

/// The layout of an error log's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorFormat {
    /// `2025/10/13 12:34:56 [warn] 123#4: target: message, key: value, request_id: "..."`, as nginx and Kong.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The field that names the request.
const REQUEST_ID: &str = "request_id";

pub(super) struct NginxLike {
    format: ErrorFormat,
    pid: u32,
}

impl NginxLike {
    pub(super) fn new(format: ErrorFormat) -> Self {
        Self {
            format,
            pid: std::process::id(),
        }
    }
}

impl<S, N> FormatEvent<S, N> for NginxLike
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // Records of the `log` crate arrive with the metadata of the bridge; this finds their own.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let spans = spans(context);
        let mut line = String::new();
        match self.format {
            ErrorFormat::Text => {
                let mut fields = TextFields::default();
                event.record(&mut fields);
                clock::append_error_time(&mut line, SystemTime::now());
                let level = LogLevel::name_of(*metadata.level());
                write!(
                    line,
                    " [{level}] {}#{}: {}: ",
                    self.pid,
                    thread_index(),
                    metadata.target()
                )?;
                if !spans.is_empty() {
                    line.push('(');
                    escape::push_without_controls(&mut line, &spans);
                    line.push_str(") ");
                }
                line.push_str(&fields.message);
                line.push_str(&fields.others);
                line.push_str(&fields.request_id);
            }
            ErrorFormat::Json => {
                line.push_str("{\"time\":\"");
                clock::append_iso8601(&mut line, SystemTime::now());
                let level = LogLevel::name_of(*metadata.level());
                write!(line, "\",\"level\":\"{level}\",\"pid\":{}", self.pid)?;
                line.push_str(",\"target\":");
                escape::push_json(&mut line, metadata.target().as_bytes());
                if !spans.is_empty() {
                    line.push_str(",\"spans\":");
                    escape::push_json(&mut line, spans.as_bytes());
                }
                event.record(&mut JsonFields(&mut line));
                line.push('}');
            }
        }
        line.push('\n');
        writer.write_str(&line)
    }
}

/// `outer{key=value}:inner`, or nothing outside of spans.
fn spans<S, N>(context: &FmtContext<'_, S, N>) -> String
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    let mut out = String::new();
    for span in context
        .event_scope()
        .into_iter()
        .flat_map(tracing_subscriber::registry::Scope::from_root)
    {
        if !out.is_empty() {
            out.push(':');
        }
        out.push_str(span.name());
        let extensions = span.extensions();
        if let Some(fields) = extensions.get::<FormattedFields<N>>()
            && !fields.is_empty()
        {
            out.push('{');
            out.push_str(fields);
            out.push('}');
        }
    }
    out
}

/// The bridge from the `log` crate adds these, which the metadata already say.
fn is_bookkeeping(field: &Field) -> bool {
    field.name().starts_with("log.")
}

#[derive(Default)]
struct TextFields {
    message: String,
    others: String,
    request_id: String,
}

impl TextFields {
    fn push(&mut self, field: &Field, quoted: bool, value: &str) {
        if is_bookkeeping(field) {
            return;
        }
        let (out, quoted) = match field.name() {
            "message" => return escape::push_without_controls(&mut self.message, value),
            REQUEST_ID => (&mut self.request_id, true),
            _ => (&mut self.others, quoted),
        };
        out.push_str(", ");
        out.push_str(field.name());
        out.push_str(": ");
        if quoted {
            out.push('"');
            escape::push_nginx(out, value.as_bytes());
            out.push('"');
        } else {
            escape::push_without_controls(out, value);
        }
    }
}

impl Visit for TextFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, true, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, false, &format!("{value:?}"));
    }
}

struct JsonFields<'a>(&'a mut String);

impl JsonFields<'_> {
    fn key(&mut self, field: &Field) {
        self.0.push(',');
        escape::push_json(self.0, field.name().as_bytes());
        self.0.push(':');
    }

    fn text(&mut self, field: &Field, value: &str) {
        if !is_bookkeeping(field) {
            self.key(field);
            escape::push_json(self.0, value.as_bytes());
        }
    }

    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        if !is_bookkeeping(field) {
            self.key(field);
            // Writing to a String cannot fail.
            let _ = write!(self.0, "{value}");
        }
    }
}

impl Visit for JsonFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no way to write infinities and NaN.
        if value.is_finite() {
            self.bare(field, value);
        } else {
            self.text(field, &value.to_string());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}
