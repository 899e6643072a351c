//! URLs, split as LuaSocket's `url.parse` splits them: `typedefs.url` and the `url` of a service depend on its view of broken ones.

use serde_json::Value;

use super::text;

/// The parts of a URL that Kong looks at. Nothing is decoded or lower-cased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UrlParts<'a> {
    /// Before the first `:`, when it looks like a scheme; `127.0.0.1:80` has the scheme `127.0.0.1`.
    pub scheme: Option<&'a str>,
    /// A user, and a password behind a `:`.
    pub userinfo: Option<&'a str>,
    /// Without user, port and the brackets of an IPv6 address.
    pub host: Option<&'a str>,
    /// After the last `:` of the authority; may be empty or no number.
    pub port: Option<&'a str>,
    /// Without query, fragment and `;params`.
    pub path: Option<&'a str>,
}

/// Splits a URL. Never fails: what is not there is `None`.
pub fn split_url(url: &str) -> UrlParts<'_> {
    let mut parts = UrlParts::default();
    let mut rest = url;
    if let Some((scheme, after)) = url.split_once(':') {
        let mut chars = scheme.bytes();
        let first = chars.next().is_some_and(|b| b.is_ascii_alphanumeric());
        if first && chars.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
            parts.scheme = Some(scheme);
            rest = after;
        }
    }
    if let Some(after) = rest.strip_prefix("//") {
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, path) = after.split_at(end);
        rest = path;
        let mut host = authority;
        if let Some((userinfo, h)) = authority.split_once('@') {
            parts.userinfo = Some(userinfo);
            host = h;
        }
        if let Some((h, port)) = host.rsplit_once(':')
            && !port.contains(']')
        {
            parts.port = Some(port);
            host = h;
        }
        if !host.is_empty() {
            let bare = host
                .strip_prefix('[')
                .and_then(|h| h.strip_suffix(']'))
                .filter(|h| !h.is_empty());
            parts.host = Some(bare.unwrap_or(host));
        }
    }
    for delimiter in ['#', '?', ';'] {
        rest = rest
            .split_once(delimiter)
            .map_or(rest, |(before, _)| before);
    }
    if !rest.is_empty() {
        parts.path = Some(rest);
    }
    parts
}

/// A URL with scheme and host.
pub fn url(v: &Value) -> Result<(), String> {
    let parts = split_url(text(v));
    if parts.host.is_none() {
        return Err("missing host in url".into());
    }
    if parts.scheme.is_none() {
        return Err("missing scheme in url".into());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn url_is_split_into_its_parts() {
        let full = split_url("https://me:pw@example.com:8443/a;x?b=c#d");
        assert_eq!(
            full,
            UrlParts {
                scheme: Some("https"),
                userinfo: Some("me:pw"),
                host: Some("example.com"),
                port: Some("8443"),
                path: Some("/a")
            }
        );
        assert_eq!(split_url("http://[::1]:80/x").host, Some("::1"));
        assert_eq!(split_url("http://[::1]/x").port, None);
        assert_eq!(split_url("http://x?a=/b").host, Some("x"));
        assert_eq!(
            split_url("foo"),
            UrlParts {
                path: Some("foo"),
                ..UrlParts::default()
            }
        );
        assert_eq!(split_url("127.0.0.1:80/x").scheme, Some("127.0.0.1"));
        assert_eq!(split_url("http://x:/").port, Some(""));
    }

    #[test]
    fn url_needs_host_and_scheme() {
        assert_eq!(url(&json!("http://x")), Ok(()));
        assert_eq!(url(&json!("foo")).unwrap_err(), "missing host in url");
        assert_eq!(url(&json!("//x/y")).unwrap_err(), "missing scheme in url");
    }
}
