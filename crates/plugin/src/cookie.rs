//! Cookies of a request, as nginx finds them.

use http::HeaderMap;
use http::header::COOKIE;

/// The value of the first cookie of that name, whose case does not matter; `None` when it is empty.
pub fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn cookies_are_found_by_name() {
        let mut headers = HeaderMap::new();
        headers.append(
            COOKIE,
            HeaderValue::from_static("a=b; jc = x=y ; jc=second"),
        );
        headers.append(COOKIE, HeaderValue::from_static("other=z; empty="));
        assert_eq!(find(&headers, "jc"), Some(&b"x=y"[..]));
        assert_eq!(find(&headers, "JC"), Some(&b"x=y"[..]));
        assert_eq!(find(&headers, "other"), Some(&b"z"[..]));
        assert_eq!(find(&headers, "empty"), None);
        assert_eq!(find(&headers, "j"), None);
    }
}
