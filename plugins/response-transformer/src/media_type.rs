//! Whether a `Content-Type` says JSON. Learnt from `kong/tools/mime_type.lua`.

use silverback_plugin::MediaType;

/// Whether one of the media types, which commas divide, is `application/json` or `application/<anything>+json`. A malformed one is none.
pub(crate) fn is_json(content_type: &[u8]) -> bool {
    content_type
        .split(|b| *b == b',')
        .filter_map(|one| MediaType::parse(one.trim_ascii()))
        .any(|one| one.main.eq_ignore_ascii_case(b"application") && is_json_or_like_it(one.sub))
}

fn is_json_or_like_it(sub: &[u8]) -> bool {
    let suffix = sub.len().checked_sub(5).map(|at| &sub[at..]);
    sub.eq_ignore_ascii_case(b"json") || suffix.is_some_and(|s| s.eq_ignore_ascii_case(b"+json"))
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
