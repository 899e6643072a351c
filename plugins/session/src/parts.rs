//! What is sealed in a session: JSON in the form of lua-resty-session, `[[data, audience, subject], ...]`.

use serde_json::{Value, json};

/// What a session is for one audience.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    pub(crate) data: Value,
    pub(crate) audience: String,
    pub(crate) subject: Option<String>,
}

impl Part {
    /// Of somebody who is not known yet.
    pub(crate) fn new(audience: &str) -> Self {
        Part {
            data: json!({}),
            audience: audience.to_owned(),
            subject: None,
        }
    }
}

/// Reads the parts; `None` when it is something else.
pub(crate) fn read(plain: &[u8]) -> Option<Vec<Part>> {
    let all: Vec<Vec<Value>> = serde_json::from_slice(plain).ok()?;
    let part = |part: Vec<Value>| {
        let mut members = part.into_iter();
        let (data, audience, subject) = (members.next()?, members.next()?, members.next());
        Some(Part {
            data,
            audience: audience.as_str()?.to_owned(),
            subject: subject.and_then(|s| Some(s.as_str()?.to_owned())),
        })
    };
    all.into_iter().map(part).collect()
}

/// Writes the parts.
pub(crate) fn write(parts: &[Part]) -> String {
    let part = |p: &Part| match &p.subject {
        Some(subject) => json!([p.data, p.audience, subject]),
        None => json!([p.data, p.audience]),
    };
    Value::Array(parts.iter().map(part).collect()).to_string()
}

/// What a row of the database holds of a session: its payload.
pub(crate) fn payload_of(row: &str) -> Option<String> {
    match serde_json::from_str(row).ok()? {
        Value::Array(mut members) if !members.is_empty() => match members.swap_remove(0) {
            Value::String(payload) => Some(payload),
            _ => None,
        },
        _ => None,
    }
}
