//! Where tokens are looked for: arguments of the query, cookies and headers (`retrieve_tokens` in `kong/plugins/jwt/handler.lua`).

use http::HeaderName;
use silverback_plugin::{AccessCtx, ConfigError, args, cookie};

/// A token, or what stands in its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Text, which may not be UTF-8.
    Text(Vec<u8>),
    /// An argument without a value.
    NoText,
}

/// The places, as the configuration names them.
#[derive(Debug)]
pub(crate) struct Places {
    arguments: Vec<String>,
    cookies: Vec<String>,
    /// Kong also takes `x-jwt` for `x_jwt`.
    headers: Vec<Vec<HeaderName>>,
}

impl Places {
    pub(crate) fn new(
        arguments: Vec<String>,
        cookies: Vec<String>,
        headers: Vec<String>,
    ) -> Result<Self, ConfigError> {
        let spelled = |name: String| {
            let mut spellings = vec![name.clone()];
            if name.contains('_') {
                spellings.push(name.replace('_', "-"));
            }
            let parsed = spellings
                .iter()
                .map(|s| HeaderName::from_bytes(s.as_bytes()));
            parsed
                .collect::<Result<Vec<HeaderName>, _>>()
                .map_err(|_| ConfigError::new("header_names", "no name of a header"))
        };
        Ok(Places {
            arguments,
            cookies,
            headers: headers.into_iter().map(spelled).collect::<Result<_, _>>()?,
        })
    }

    /// All that is there, each once.
    pub(crate) fn look(&self, ctx: &AccessCtx<'_>) -> Vec<Found> {
        let mut found = Vec::new();
        let mut add = |one: Found| {
            if !found.contains(&one) {
                found.push(one);
            }
        };
        if !self.arguments.is_empty() {
            for (name, value) in args::all(ctx.query()) {
                if self.arguments.iter().any(|a| a.as_bytes() == &*name) {
                    match value {
                        Some(text) if text.is_empty() => {}
                        Some(text) => add(Found::Text(text.into_owned())),
                        None => add(Found::NoText),
                    }
                }
            }
        }
        for name in &self.cookies {
            if let Some(text) = cookie::find(&ctx.request.parts.headers, name) {
                add(Found::Text(text.to_vec()));
            }
        }
        for spellings in &self.headers {
            let value = spellings.iter().find_map(|name| ctx.header(name));
            if let Some(text) = value.and_then(|v| bearer(v.as_bytes())) {
                add(Found::Text(text.to_vec()));
            }
        }
        found
    }
}

/// What stands behind the word `Bearer`, wherever that stands.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    value
        .windows(6)
        .enumerate()
        .filter(|(_, w)| matches!(w[0], b'B' | b'b') && &w[1..] == b"earer")
        .find_map(|(at, _)| {
            let rest = &value[at + 6..];
            let text = rest.trim_ascii_start();
            (text.len() < rest.len() && !text.is_empty()).then_some(text)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stand_behind_the_word() {
        for (value, text) in [
            ("Bearer abc", Some("abc")),
            ("bearer   abc d", Some("abc d")),
            ("x Bearer abc", Some("abc")),
            ("BearerBearer abc", Some("abc")),
            ("Bearerabc", None),
            ("BEARER abc", None),
            ("Bearer", None),
            ("abc", None),
            ("", None),
        ] {
            assert_eq!(bearer(value.as_bytes()), text.map(str::as_bytes), "{value}");
        }
    }
}
