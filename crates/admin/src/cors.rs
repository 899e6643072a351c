//! Who may read the answers in a browser (`cors_filter` in `kong/api/api_helpers.lua`): every answer says so, errors too.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue};

/// The origins of the user interfaces; with none every origin is welcome.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins(Vec<HeaderValue>);

impl Origins {
    /// From URLs (`admin_gui_url`): scheme, host and port of each. A URL without a scheme is passed over.
    pub(crate) fn new(urls: &[String]) -> Self {
        let origin = |url: &String| {
            let (scheme, rest) = url.trim().split_once("://")?;
            let authority = rest
                .split(['/', '?', '#'])
                .next()
                .filter(|a| !a.is_empty())?;
            HeaderValue::try_from(format!("{scheme}://{authority}").to_ascii_lowercase()).ok()
        };
        Origins(urls.iter().filter_map(origin).collect())
    }

    /// The value of `Access-Control-Allow-Origin` for a request: its own origin if that is welcome, the first welcome one otherwise.
    fn allowed(&self, origin: Option<&HeaderValue>) -> HeaderValue {
        match (self.0.first(), origin) {
            (None, Some(origin)) => origin.clone(),
            (None, None) => HeaderValue::from_static("*"),
            (Some(_), Some(origin)) if self.0.contains(origin) => origin.clone(),
            (Some(first), _) => first.clone(),
        }
    }
}

/// What a request says about where it comes from; kept because the request is gone when its answer is there.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    origin: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    preflight: bool,
}

impl Asked {
    /// From a request.
    pub(crate) fn of(method: &http::Method, headers: &HeaderMap) -> Self {
        let preflight = method == http::Method::OPTIONS;
        Asked {
            origin: headers.get(ORIGIN).cloned(),
            headers: headers
                .get(ACCESS_CONTROL_REQUEST_HEADERS)
                .filter(|_| preflight)
                .cloned(),
            preflight,
        }
    }

    /// Says it in an answer.
    pub(crate) fn answer(self, origins: &Origins, headers: &mut HeaderMap) {
        headers.insert(
            ACCESS_CONTROL_ALLOW_ORIGIN,
            origins.allowed(self.origin.as_ref()),
        );
        headers.insert(
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        if self.origin.is_some() {
            headers.insert(VARY, HeaderValue::from_static("Origin"));
        }
        let known = self.preflight && headers.contains_key(ALLOW);
        match self.headers {
            Some(asked) => {
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
            }
            None if known => {
                headers.insert(
                    ACCESS_CONTROL_ALLOW_HEADERS,
                    HeaderValue::from_static("Content-Type"),
                );
            }
            None => {}
        }
    }
}

/// The methods of an endpoint, in the answer to OPTIONS.
pub(crate) fn methods(headers: &mut HeaderMap, allow: &str) {
    // Names of methods can be in a header.
    if let Ok(allow) = HeaderValue::from_str(allow) {
        headers.insert(ALLOW, allow.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, allow);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Method;

    use super::*;

    fn answered(
        origins: &[&str],
        method: Method,
        request: &[(http::HeaderName, &str)],
    ) -> HeaderMap {
        let asked = request
            .iter()
            .map(|(n, v)| (n.clone(), v.parse().unwrap()))
            .collect();
        let mut out = HeaderMap::new();
        if method == Method::OPTIONS {
            methods(&mut out, "GET, HEAD, OPTIONS");
        }
        let origins = Origins::new(&origins.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        Asked::of(&method, &asked).answer(&origins, &mut out);
        out
    }

    #[test]
    fn without_settings_every_origin_is_welcome() {
        assert_eq!(
            answered(&[], Method::GET, &[])[ACCESS_CONTROL_ALLOW_ORIGIN],
            "*"
        );
        let h = answered(&[], Method::GET, &[(ORIGIN, "http://gui.test")]);
        assert_eq!(h[ACCESS_CONTROL_ALLOW_ORIGIN], "http://gui.test");
        assert_eq!(h[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
    }

    #[test]
    fn strangers_are_told_the_first_welcome_origin() {
        let gui = ["https://a.test/manager", "http://b.test:8002"];
        let asked =
            |o| answered(&gui, Method::GET, &[(ORIGIN, o)])[ACCESS_CONTROL_ALLOW_ORIGIN].clone();
        assert_eq!(asked("http://b.test:8002"), "http://b.test:8002");
        assert_eq!(asked("http://evil.test"), "https://a.test");
        assert_eq!(
            answered(&gui, Method::GET, &[])[ACCESS_CONTROL_ALLOW_ORIGIN],
            "https://a.test"
        );
    }

    #[test]
    fn preflights_get_the_headers_they_ask_for() {
        let h = answered(
            &[],
            Method::OPTIONS,
            &[(ACCESS_CONTROL_REQUEST_HEADERS, "x-foo, content-type")],
        );
        assert_eq!(h[ACCESS_CONTROL_ALLOW_HEADERS], "x-foo, content-type");
        assert_eq!(h[ACCESS_CONTROL_ALLOW_METHODS], "GET, HEAD, OPTIONS");
        assert_eq!(
            answered(&[], Method::OPTIONS, &[])[ACCESS_CONTROL_ALLOW_HEADERS],
            "Content-Type"
        );
        assert!(!answered(&[], Method::GET, &[]).contains_key(ACCESS_CONTROL_ALLOW_HEADERS));
    }
}
