//! Media types as `Content-Type` says them. Learnt from `kong/tools/mime_type.lua`.

use smallvec::SmallVec;

/// A media type, taken apart. The parts are as they were written: types and names of parameters count whatever their case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType<'a> {
    /// `application` of `application/json`.
    pub main: &'a [u8],
    /// `json` of `application/json`.
    pub sub: &'a [u8],
    /// Names and values; a value in quotes is without them, its backslashes are kept.
    pub parameters: SmallVec<[(&'a [u8], &'a [u8]); 2]>,
}

impl<'a> MediaType<'a> {
    /// `type/subtype`, then any number of `; attribute=value`, and nothing else. `*` alone is `*/*`.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let (main, rest) = token(text)?;
        let (sub, mut rest) = match rest.strip_prefix(b"/") {
            Some(rest) => token(rest)?,
            None if main == b"*" => (main, rest),
            None => return None,
        };
        let mut parameters = SmallVec::new();
        while !rest.is_empty() {
            let parameter = blank(rest).strip_prefix(b";")?;
            let (name, value) = token(blank(parameter))?;
            let value = value.strip_prefix(b"=")?;
            let (value, after) = match value.strip_prefix(b"\"") {
                Some(quoted) => unquoted(quoted)?,
                None => token(value)?,
            };
            parameters.push((name, value));
            rest = after;
        }
        Some(MediaType {
            main,
            sub,
            parameters,
        })
    }
}

fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let part = |b: &u8| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(b);
    let end = text.iter().position(|b| !part(b)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn blank(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|b| !matches!(b, b' ' | b'\t'));
    &text[end.unwrap_or(text.len())..]
}

/// What is before the closing quote, and what is after it.
fn unquoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut escaped = false;
    let end = text.iter().position(|b| {
        let closes = *b == b'"' && !escaped;
        escaped = *b == b'\\' && !escaped;
        closes
    })?;
    Some((&text[..end], &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<String> {
        let t = MediaType::parse(text.as_bytes())?;
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let parameters = t.parameters.iter();
        let parameters = parameters.map(|(n, v)| format!(" {}={}", text(n), text(v)));
        Some(format!(
            "{}/{}{}",
            text(t.main),
            text(t.sub),
            parameters.collect::<String>()
        ))
    }

    #[test]
    fn a_media_type_has_parameters() {
        for (text, expected) in [
            ("application/json", "application/json"),
            (
                "Text/HTML ;a=b\t; C=\"d; \\\" e\"",
                "Text/HTML a=b C=d; \\\" e",
            ),
            ("*/*", "*/*"),
            ("*", "*/*"),
            ("text/*;q=1", "text/* q=1"),
            ("a/b; c=\"\"", "a/b c="),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_not_taken_for_one() {
        for text in [
            "",
            "application",
            "application/",
            "/json",
            "a/b;",
            "a/b; c",
            "a/b; c=",
            "a/b; c=\"d",
            "a/b c",
            "a/b, c/d",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
