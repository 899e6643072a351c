//! Whether a `Content-Type` says JSON. Learnt from `kong/tools/mime_type.lua`.

/// Whether one of the media types, which commas divide, is `application/json` or `application/<anything>+json`. A malformed one is none.
pub(crate) fn is_json(content_type: &[u8]) -> bool {
    content_type
        .split(|b| *b == b',')
        .any(|one| json(one.trim_ascii()).is_some())
}

/// `type/subtype`, then any number of `; attribute=value`, and nothing else.
fn json(text: &[u8]) -> Option<()> {
    let (main, rest) = token(text)?;
    let (sub, mut rest) = token(rest.strip_prefix(b"/")?)?;
    let suffix = sub.len().checked_sub(5).map(|at| &sub[at..]);
    let json = sub.eq_ignore_ascii_case(b"json")
        || suffix.is_some_and(|s| s.eq_ignore_ascii_case(b"+json"));
    if !main.eq_ignore_ascii_case(b"application") || !json {
        return None;
    }
    while !rest.is_empty() {
        let parameter = blank(rest).strip_prefix(b";")?;
        let (_, value) = token(blank(parameter))?;
        let value = value.strip_prefix(b"=")?;
        rest = match value.strip_prefix(b"\"") {
            Some(quoted) => after_quoted(quoted)?,
            None => token(value)?.1,
        };
    }
    Some(())
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

fn after_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut escaped = false;
    let end = text.iter().position(|b| {
        let closes = *b == b'"' && !escaped;
        escaped = *b == b'\\' && !escaped;
        closes
    })?;
    Some(&text[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::is_json;

    #[test]
    fn json_is_known_by_its_media_type() {
        for yes in [
            "application/json",
            "APPLICATION/JSON",
            "application/json; charset=utf-8",
            "application/json ;a=b\t; c=\"d; \\\" e\"",
            "application/problem+json",
            "text/plain, application/json",
        ] {
            assert!(is_json(yes.as_bytes()), "{yes}");
        }
        for no in [
            "",
            "application",
            "application/",
            "application/jsonp",
            "application/+jso",
            "json/application",
            "text/json",
            "*/*",
            "application/json;",
            "application/json; charset",
            "application/json; charset=\"utf-8",
            "application/json x",
        ] {
            assert!(!is_json(no.as_bytes()), "{no}");
        }
    }
}
