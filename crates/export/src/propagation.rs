//! Headers by which traces go from one server to the next: reading those of a request, and writing those for the upstream.
//!
//! Learnt from `kong/observability/tracing/propagation`. Eight formats are understood: W3C Trace Context, B3 in several headers and in one,
//! Jaeger, OpenTracing, Datadog, AWS X-Ray and Google Cloud. A plugin makes a [`Propagation`] of its configuration, asks it for what a request
//! says ([`Propagation::extract`]), decides which span comes next, and has it written ([`Propagation::inject`]).

mod extract;
mod ids;
mod inject;
#[cfg(test)]
mod tests;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use silverback_plugin::schema::field::{array, record as record_field, string};
use silverback_plugin::schema::typedefs::header_name;
use silverback_plugin::schema::{Field, record};
use silverback_plugin::{AccessCtx, ConfigError};

pub use ids::{SpanId, TraceId, hex, new_span_id, new_trace_id};

/// The formats that can be read, in the order in which Kong's schema shows them. B3 is read from one header and from several.
const READ: [&str; 7] = ["jaeger", "gcp", "ot", "w3c", "datadog", "b3", "aws"];

/// The formats that can be written.
const WRITTEN: [&str; 8] = [
    "jaeger",
    "gcp",
    "ot",
    "w3c",
    "datadog",
    "b3",
    "aws",
    "b3-single",
];

record! {
    /// How traces are passed on.
    pub struct PropagationConfig {
        /// The formats that are looked for in requests, in this order; the first that is found counts. Without any, each request begins a trace.
        pub extract: Option<Vec<String>> = array(string().one_of(READ)),
        /// Headers that are taken away once they have been read.
        pub clear: Option<Vec<String>> = array(header_name()),
        /// The formats that the upstream gets. `preserve` is the format that the request came with. Without any, the upstream gets none.
        pub inject: Option<Vec<String>> = array(string().one_of(std::iter::once("preserve").chain(WRITTEN))),
        /// The format that `preserve` means when the request came with none.
        pub default_format: String = string().required().one_of(WRITTEN),
    }
}

/// The field `propagation` of a configuration, with that `default_format`.
pub fn field(default_format: &'static str) -> Field {
    let default = json!({ "default_format": default_format });
    record_field::<PropagationConfig>()
        .required()
        .default(default)
}

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `traceparent`.
    W3c,
    /// `X-B3-...`.
    B3,
    /// `b3`.
    B3Single,
    /// `uber-trace-id`.
    Jaeger,
    /// `ot-tracer-...`.
    Ot,
    /// `x-datadog-...`.
    Datadog,
    /// `x-amzn-trace-id`.
    Aws,
    /// `x-cloud-trace-context`.
    Gcp,
}

impl Format {
    /// All that can be read, in the order in which they are looked for where nothing else is said.
    const PRESERVED: [Format; 7] = [
        Format::B3,
        Format::W3c,
        Format::Jaeger,
        Format::Ot,
        Format::Datadog,
        Format::Aws,
        Format::Gcp,
    ];

    /// The format of that name.
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "w3c" => Format::W3c,
            "b3" => Format::B3,
            "b3-single" => Format::B3Single,
            "jaeger" => Format::Jaeger,
            "ot" => Format::Ot,
            "datadog" => Format::Datadog,
            "aws" => Format::Aws,
            "gcp" => Format::Gcp,
            _ => return None,
        })
    }
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inject {
    /// The format that the request came with.
    Preserve,
    /// This one.
    As(Format),
}

/// What a request says about the trace that it is part of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extracted {
    /// The format that it was found in.
    pub format: Option<Format>,
    /// The trace.
    pub trace_id: Option<TraceId>,
    /// How many bytes the trace's id had.
    pub trace_id_size: usize,
    /// The span that the request is part of.
    pub span_id: Option<SpanId>,
    /// That span's parent.
    pub parent_id: Option<SpanId>,
    /// Whether the trace is to be recorded.
    pub sampled: Option<bool>,
    /// The flags of `traceparent`.
    pub w3c_flags: Option<u8>,
    /// `X-B3-Flags`, and `1` for what the single header calls `d`.
    pub b3_flags: Option<HeaderValue>,
    /// Whether B3 was found in one header.
    pub single_header: bool,
    /// Further names and values that go along, decoded.
    pub baggage: Vec<(String, Vec<u8>)>,
}

/// What the upstream is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Next<'a> {
    /// The trace.
    pub trace_id: TraceId,
    /// The span that the upstream's are part of.
    pub span_id: SpanId,
    /// That span's parent.
    pub parent_id: Option<SpanId>,
    /// Whether the trace is recorded.
    pub sampled: bool,
    /// What the request said.
    pub extracted: &'a Extracted,
}

/// Reads and writes as a configuration says.
#[derive(Debug, Clone, PartialEq)]
pub struct Propagation {
    extract: Vec<Format>,
    clear: Vec<HeaderName>,
    inject: Vec<Inject>,
    default: Format,
}

/// The trace's id in each format in which some plugin wrote it, as logs show it; kept in `facts.slots`.
struct Shown(Map<String, Value>);

impl Propagation {
    /// By `propagation`, or by the former `header_type` where that says nothing.
    ///
    /// # Errors
    /// At `propagation.clear`, when there is no header of such a name.
    pub fn new(config: &PropagationConfig, header_type: Option<&str>) -> Result<Self, ConfigError> {
        let default = Format::of(&config.default_format).unwrap_or(Format::W3c);
        let said = config.extract.is_some() || config.clear.is_some() || config.inject.is_some();
        if !said {
            let (extract, inject) = match header_type {
                None => (Vec::new(), Vec::new()),
                Some("preserve") => (Format::PRESERVED.to_vec(), vec![Inject::Preserve]),
                Some("ignore") => (Vec::new(), vec![Inject::As(default)]),
                Some(other) => {
                    let also = Format::of(other).map(Inject::As);
                    let inject = std::iter::once(Inject::Preserve).chain(also).collect();
                    (Format::PRESERVED.to_vec(), inject)
                }
            };
            return Ok(Propagation {
                extract,
                clear: Vec::new(),
                inject,
                default,
            });
        }
        let named = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
        let clear = named(&config.clear).into_iter().map(HeaderName::try_from);
        let clear = clear.collect::<Result<_, _>>();
        let inject = named(&config.inject);
        let inject = inject.iter().map(|name| match Format::of(name) {
            Some(format) => Inject::As(format),
            None => Inject::Preserve,
        });
        Ok(Propagation {
            extract: named(&config.extract)
                .iter()
                .filter_map(|n| Format::of(n))
                .collect(),
            clear: clear.map_err(|e| ConfigError::new("propagation.clear", e.to_string()))?,
            inject: inject.collect(),
            default,
        })
    }

    /// What the request says, as plugins before left it.
    pub fn extract(&self, ctx: &AccessCtx<'_>) -> Extracted {
        let mut formats = self.extract.iter();
        formats
            .find_map(|format| extract::read(*format, ctx))
            .unwrap_or_default()
    }

    /// Tells the upstream, and logs the trace's id.
    pub fn inject(&self, ctx: &mut AccessCtx<'_>, next: &Next<'_>) {
        for name in &self.clear {
            ctx.upstream.remove(name.clone());
        }
        for format in self.inject.iter().map(|i| self.written(*i, next.extracted)) {
            inject::write(format, ctx.upstream, next);
            if ctx.facts.log_values.wanted() {
                let (name, id) = inject::shown(format, next);
                if ctx.facts.slots.get::<Shown>().is_none() {
                    ctx.facts.slots.insert(Shown(Map::new()));
                }
                if let Some(Shown(ids)) = ctx.facts.slots.get_mut() {
                    ids.insert(name.to_owned(), id.into());
                }
            }
        }
        if let Some(Shown(ids)) = ctx.facts.slots.get() {
            let ids = ids.clone();
            ctx.facts.log_values.set("trace_id", || Value::Object(ids));
        }
    }

    fn written(&self, inject: Inject, extracted: &Extracted) -> Format {
        match inject {
            Inject::As(format) => format,
            Inject::Preserve => match extracted.format {
                Some(Format::B3) if extracted.single_header => Format::B3Single,
                found => found.unwrap_or(self.default),
            },
        }
    }
}
