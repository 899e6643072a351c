//! Reading each format. What is malformed is as good as not there; nothing of it fails a request.

use std::sync::LazyLock;

use http::{HeaderName, HeaderValue};
use silverback_plugin::{AccessCtx, HeaderEdit, args};

use super::ids::{bytes_of, from_decimal, from_hex, is_hex, last_half};
use super::inject::{KEYS, OT_BAGGAGE, UBER_BAGGAGE};
use super::{Extracted, Format};

static TRACESTATE: LazyLock<HeaderName> = LazyLock::new(|| HeaderName::from_static("tracestate"));

/// What a request says in a format.
pub(super) fn read(format: Format, ctx: &AccessCtx<'_>) -> Option<Extracted> {
    let found = match format {
        Format::W3c => w3c(ctx),
        Format::B3 | Format::B3Single => b3(ctx),
        Format::Jaeger => jaeger(ctx),
        Format::Ot => ot(ctx),
        Format::Datadog => datadog(ctx),
        Format::Aws => aws(ctx),
        Format::Gcp => gcp(ctx),
    };
    Some(Extracted {
        format: Some(format),
        ..found?
    })
}

/// The values of a header.
enum Given<'a> {
    Nothing,
    One(&'a [u8]),
    /// Several; no format has those.
    Several,
}

impl<'a> Given<'a> {
    fn is(&self) -> bool {
        !matches!(self, Given::Nothing)
    }

    fn one(&self) -> Option<&'a [u8]> {
        match self {
            Given::One(value) => Some(value),
            _ => None,
        }
    }

    /// Yes or no, in B3's words; nothing for what is neither.
    fn sampled(&self) -> Option<bool> {
        match self.one()? {
            b"1" | b"true" => Some(true),
            b"0" | b"false" => Some(false),
            _ => None,
        }
    }

    /// An id with one of these numbers of digits; `Err` for one that is malformed.
    fn id(&self, lengths: &[usize]) -> Result<Option<&'a [u8]>, ()> {
        match self {
            Given::Nothing => Ok(None),
            Given::One(id) if lengths.contains(&id.len()) && is_hex(id) => Ok(Some(id)),
            _ => Err(()),
        }
    }
}

fn given<'a>(ctx: &'a AccessCtx<'_>, name: &HeaderName) -> Given<'a> {
    let values = ctx.header_values(name);
    match values.as_slice() {
        [] => Given::Nothing,
        [one] => Given::One(one.as_bytes()),
        _ => Given::Several,
    }
}

/// `00-<trace>-<span>-<flags>`.
fn w3c(ctx: &AccessCtx<'_>) -> Option<Extracted> {
    let header = given(ctx, KEYS.traceparent.name()).one()?;
    let [version, trace_id, span_id, flags] = split(header, b'-')?;
    let fine = version == b"00"
        && trace_id.len() == 32
        && is_hex_and_not_zero(trace_id)
        && span_id.len() == 16
        && is_hex_and_not_zero(span_id)
        && flags.len() == 2
        && is_hex(flags);
    let [flags] = fine.then(|| from_hex::<1>(flags))?;
    Some(Extracted {
        trace_id: Some(from_hex(trace_id)),
        trace_id_size: 16,
        span_id: Some(from_hex(span_id)),
        sampled: Some(flags & 1 == 1),
        w3c_flags: Some(flags),
        ..Extracted::default()
    })
}

/// `<trace>:<span>:<parent>:<flags>`, and baggage.
fn jaeger(ctx: &AccessCtx<'_>) -> Option<Extracted> {
    let header = given(ctx, KEYS.uber_trace_id.name()).one()?;
    let [trace_id, span_id, parent_id, flags] = split(header, b':')?;
    let fine = trace_id.len() <= 32
        && is_hex_and_not_zero(trace_id)
        && span_id.len() <= 16
        && is_hex_and_not_zero(span_id)
        && is_hex(parent_id)
        && flags.len() <= 2
        && is_hex(flags);
    let [flags] = fine.then(|| from_hex::<1>(flags))?;
    Some(Extracted {
        trace_id: Some(from_hex(trace_id)),
        trace_id_size: bytes_of(trace_id),
        span_id: Some(from_hex(span_id)),
        parent_id: Some(from_hex(parent_id)),
        sampled: Some(flags & 1 == 1),
        baggage: baggage(ctx, UBER_BAGGAGE),
        ..Extracted::default()
    })
}

/// `ot-tracer-traceid`, `ot-tracer-spanid`, `ot-tracer-sampled`, and baggage.
fn ot(ctx: &AccessCtx<'_>) -> Option<Extracted> {
    let sampled = given(ctx, KEYS.ot_sampled.name());
    let trace_id = given(ctx, KEYS.ot_trace_id.name());
    let span_id = given(ctx, KEYS.ot_span_id.name());
    if !(sampled.is() || trace_id.is() || span_id.is()) {
        return None;
    }
    let ids = match (trace_id.id(&[16, 32]), span_id.id(&[16])) {
        (Ok(Some(trace_id)), Ok(span_id)) => Some((trace_id, span_id)),
        _ => None,
    };
    let found = Extracted {
        trace_id: ids.map(|(trace_id, _)| from_hex(trace_id)),
        trace_id_size: ids.map_or(0, |(trace_id, _)| bytes_of(trace_id)),
        span_id: ids.and_then(|(_, span_id)| span_id).map(from_hex),
        sampled: sampled.sampled(),
        baggage: baggage(ctx, OT_BAGGAGE),
        ..Extracted::default()
    };
    let says = found.trace_id.is_some() || found.sampled.is_some() || !found.baggage.is_empty();
    says.then_some(found)
}

/// `x-datadog-trace-id`, `x-datadog-parent-id`, `x-datadog-sampling-priority`, in decimal numbers.
fn datadog(ctx: &AccessCtx<'_>) -> Option<Extracted> {
    let sampled = match given(ctx, KEYS.datadog_priority.name()) {
        Given::Nothing => None,
        Given::One(b"1" | b"2") => Some(true),
        Given::One(b"0" | b"-1") => Some(false),
        _ => return None,
    };
    let number = |key: &HeaderName| from_decimal(given(ctx, key).one()?.trim_ascii());
    let trace_id = number(KEYS.datadog_trace_id.name());
    let span_id = trace_id.and_then(|_| number(KEYS.datadog_parent_id.name()));
    (trace_id.is_some() || sampled.is_some()).then(|| Extracted {
        trace_id: trace_id.map(|(id, _)| id),
        trace_id_size: trace_id.map_or(0, |(_, size)| size),
        span_id: span_id.map(|(id, _)| last_half(id)),
        sampled,
        ..Extracted::default()
    })
}

/// `Root=1-<8 digits>-<24 digits>;Parent=<span>;Sampled=<0 or 1>`.
fn aws(ctx: &AccessCtx<'_>) -> Option<Extracted> {
    let header = given(ctx, KEYS.amzn_trace_id.name()).one()?;
    let mut found = Extracted::default();
    for pair in header.split(|b| *b == b';') {
        let mut parts = pair.split(|b| *b == b'=').map(<[u8]>::trim_ascii);
        let key = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default();
        match key {
            b"Root" => {
                let [version, time, rest] = split(value, b'-')?;
                let fine = version == b"1"
                    && (time.len(), rest.len()) == (8, 24)
                    && is_hex(time)
                    && is_hex(rest);
                let digits = fine.then(|| [time, rest].concat())?;
                found.trace_id = Some(from_hex(&digits));
                found.trace_id_size = 16;
            }
            b"Parent" if value.len() == 16 && is_hex(value) => {
                found.span_id = Some(from_hex(value));
            }
            b"Sampled" if matches!(value, b"0" | b"1") => found.sampled = Some(value == b"1"),
            b"Parent" | b"Sampled" => return None,
            _ => {}
        }
    }
    let says = found.trace_id.is_some() || found.span_id.is_some() || found.sampled.is_some();
    says.then_some(found)
}

/// `<trace>/<span in decimal>;o=<flags>`.
fn gcp(ctx: &AccessCtx<'_>) -> Option<Extracted> {
    let header = given(ctx, KEYS.cloud_trace.name()).one()?;
    let (trace_id, rest) = header.split_at_checked(32)?;
    let rest = rest.strip_prefix(b"/")?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (span_id, rest) = rest.split_at(digits);
    let sampled = match rest {
        [] => false,
        [b';', b'o', b'=', flag] if flag.is_ascii_digit() => *flag == b'1',
        _ => return None,
    };
    let lower = |b: &u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
    let fine = trace_id.iter().all(lower) && span_id.len() <= 20;
    let (span_id, _) = fine.then(|| from_decimal(span_id))??;
    Some(Extracted {
        trace_id: Some(from_hex(trace_id)),
        trace_id_size: 16,
        span_id: Some(last_half(span_id)),
        sampled: Some(sampled),
        ..Extracted::default()
    })
}

/// The ids of one of B3's two forms, in digits.
#[derive(Default)]
struct B3<'a> {
    trace_id: Option<&'a [u8]>,
    span_id: Option<&'a [u8]>,
    parent_id: Option<&'a [u8]>,
    sampled: Option<bool>,
    debug: bool,
}

/// `b3`, or `b3=` in `tracestate`, and what that leaves out from `X-B3-...`.
fn b3(ctx: &AccessCtx<'_>) -> Option<Extracted> {
    let single = b3_single(ctx);
    let flags = given(ctx, KEYS.b3_flags.name());
    let sampled = given(ctx, KEYS.b3_sampled.name());
    let trace_id = given(ctx, KEYS.b3_trace_id.name());
    let span_id = given(ctx, KEYS.b3_span_id.name());
    let parent_id = given(ctx, KEYS.b3_parent_id.name());
    let parts = [&flags, &sampled, &trace_id, &span_id, &parent_id];
    if single.is_none() && !parts.iter().any(|p| p.is()) && !given(ctx, KEYS.b3.name()).is() {
        return None;
    }
    let single_header = single.is_some();
    let single = single.unwrap_or_default();
    let (mut trace, mut span, mut parent) = (single.trace_id, single.span_id, single.parent_id);
    // One malformed id spoils the others.
    let ids = (
        trace_id.id(&[16, 32]),
        span_id.id(&[16]),
        parent_id.id(&[16]),
    );
    if let (Ok(trace_id), Ok(span_id), Ok(parent_id)) = ids {
        trace = trace.or(trace_id);
        span = span.or(span_id);
        parent = parent.or(parent_id);
    }
    let forced = (flags.one() == Some(b"1")).then_some(true);
    let b3_flags = match single.debug {
        true => Some(HeaderValue::from_static("1")),
        false => flags
            .one()
            .and_then(|value| HeaderValue::from_bytes(value).ok()),
    };
    Some(Extracted {
        trace_id: trace.map(from_hex),
        trace_id_size: trace.map_or(0, bytes_of),
        span_id: trace.and(span).map(from_hex),
        parent_id: trace.and(parent).map(from_hex),
        sampled: single.sampled.or(forced).or(sampled.sampled()),
        b3_flags,
        single_header,
        ..Extracted::default()
    })
}

/// `<trace>-<span>-<sampled>-<parent>`, of which the last two may be missing, or `<sampled>` alone. Malformed ones are there and say nothing.
fn b3_single<'a>(ctx: &'a AccessCtx<'_>) -> Option<B3<'a>> {
    let header = match given(ctx, KEYS.b3.name()) {
        Given::One(value) => value,
        Given::Several => return None,
        Given::Nothing => {
            let states = ctx.header_values(&TRACESTATE);
            let mut states = states.into_iter();
            let found = states.find_map(|v| v.as_bytes().strip_prefix(b"b3="));
            found.filter(|value| !value.is_empty())?
        }
    };
    let decided = |word: &[u8]| match word {
        b"1" | b"d" => Some(true),
        b"0" => Some(false),
        _ => None,
    };
    if let Some(sampled) = decided(header) {
        return Some(B3 {
            sampled: Some(sampled),
            debug: header == b"d",
            ..B3::default()
        });
    }
    let parse = || {
        let end = header.iter().position(|b| *b == b'-')?;
        let (trace_id, rest) = (&header[..end], &header[end + 1..]);
        let (span_id, rest) = rest.split_at_checked(16)?;
        // The hyphens further on may be missing.
        let rest = rest.strip_prefix(b"-").unwrap_or(rest);
        let (word, rest) = match rest {
            [b'0' | b'1' | b'd', ..] => rest.split_at(1),
            _ => (&[][..], rest),
        };
        let parent_id = rest.strip_prefix(b"-").unwrap_or(rest);
        let fine = matches!(trace_id.len(), 16 | 32)
            && is_hex(trace_id)
            && is_hex(span_id)
            && (parent_id.is_empty() || parent_id.len() == 16 && is_hex(parent_id));
        fine.then(|| B3 {
            trace_id: Some(trace_id),
            span_id: Some(span_id),
            parent_id: Some(parent_id).filter(|id| !id.is_empty()),
            sampled: decided(word),
            debug: word == b"d",
        })
    };
    Some(parse().unwrap_or_default())
}

/// Headers that begin with `prefix`: the rest of their names, and their values.
fn baggage(ctx: &AccessCtx<'_>, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let edited = ctx.upstream.headers.iter().filter_map(|edit| match edit {
        HeaderEdit::Set(key, _) | HeaderEdit::Append(key, _) => Some(key.name()),
        HeaderEdit::Remove(_) => None,
    });
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    for name in ctx.request.parts.headers.keys().chain(edited) {
        let Some(key) = name.as_str().strip_prefix(prefix) else {
            continue;
        };
        if key.is_empty() || found.iter().any(|(k, _)| k == key) {
            continue;
        }
        if let Given::One(value) = given(ctx, name) {
            found.push((key.to_owned(), args::decode(value).into_owned()));
        }
    }
    found
}

/// Exactly so many parts.
fn split<const N: usize>(text: &[u8], at: u8) -> Option<[&[u8]; N]> {
    let mut parts = text.split(|b| *b == at);
    let mut found = [&text[..0]; N];
    for part in &mut found {
        *part = parts.next()?;
    }
    parts.next().is_none().then_some(found)
}

fn is_hex_and_not_zero(text: &[u8]) -> bool {
    is_hex(text) && text.iter().any(|b| *b != b'0')
}
