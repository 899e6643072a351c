//! Where tokens are looked for: arguments of the query, cookies and headers (`retrieve_tokens` in `kong/plugins/jwt/handler.lua`).

use http::header::COOKIE;
use http::{HeaderMap, HeaderName};
use silverback_plugin::{AccessCtx, ConfigError};

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
            for (name, value) in arguments(query_of(ctx)) {
                if self.arguments.iter().any(|a| a.as_bytes() == name) {
                    match value {
                        Some(text) if text.is_empty() => {}
                        Some(text) => add(Found::Text(text)),
                        None => add(Found::NoText),
                    }
                }
            }
        }
        for name in &self.cookies {
            if let Some(text) = cookie(&ctx.request.parts.headers, name) {
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

/// The query as earlier plugins left it.
fn query_of<'a>(ctx: &'a AccessCtx<'_>) -> &'a [u8] {
    match &ctx.upstream.query {
        Some(edited) => edited.as_bytes(),
        None => ctx.request.query().unwrap_or_default(),
    }
}

/// Names and values, decoded; no value where there is no `=`.
fn arguments(query: &[u8]) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
    let decode = |part: &[u8]| -> Vec<u8> {
        let spaced: Vec<u8> = part
            .iter()
            .map(|b| if *b == b'+' { b' ' } else { *b })
            .collect();
        percent_encoding::percent_decode(&spaced).collect()
    };
    query.split(|b| *b == b'&').map(move |piece| {
        let mut halves = piece.splitn(2, |b| *b == b'=');
        let name = halves.next().unwrap_or_default();
        (decode(name), halves.next().map(decode))
    })
}

/// The value of a cookie that is not empty, as nginx finds it: case does not matter.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|v| v.as_bytes().split(|b| *b == b';'))
        .find_map(|pair| {
            let at = pair.iter().position(|b| *b == b'=')?;
            let is = pair[..at]
                .trim_ascii()
                .eq_ignore_ascii_case(name.as_bytes());
            is.then(|| pair[at + 1..].trim_ascii())
        })
        .filter(|value| !value.is_empty())
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
#[allow(clippy::unwrap_used)]
mod tests {
    use http::HeaderValue;

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

    #[test]
    fn cookies_are_found_by_name() {
        let mut headers = HeaderMap::new();
        headers.append(
            COOKIE,
            HeaderValue::from_static("a=b; jc = x=y ; jc=second"),
        );
        headers.append(COOKIE, HeaderValue::from_static("other=z; empty="));
        assert_eq!(cookie(&headers, "jc"), Some(&b"x=y"[..]));
        assert_eq!(cookie(&headers, "JC"), Some(&b"x=y"[..]));
        assert_eq!(cookie(&headers, "other"), Some(&b"z"[..]));
        assert_eq!(cookie(&headers, "empty"), None);
        assert_eq!(cookie(&headers, "j"), None);
    }

    #[test]
    fn arguments_are_decoded() {
        let all: Vec<_> = arguments(b"a%62=1+2&flag&e=").collect();
        let want: [(&[u8], Option<&[u8]>); 3] =
            [(b"ab", Some(b"1 2")), (b"flag", None), (b"e", Some(b""))];
        for (got, want) in all.iter().zip(want) {
            assert_eq!((got.0.as_slice(), got.1.as_deref()), want);
        }
        assert_eq!(all.len(), 3);
    }
}
