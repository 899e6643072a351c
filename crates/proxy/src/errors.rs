//! Texts and shapes of the gateway's own error responses.
//!
//! Learnt from `kong/tools/http.lua` (choice of the format, templates), `kong/error_handlers.lua` (texts by status) and nginx's
//! built-in pages, which Kong leaves for some statuses.

use bytes::Bytes;
use http::HeaderValue;

/// The form of an error body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `text/html`.
    Html,
    /// `application/xml`.
    Xml,
    /// `text/plain`; Kong's `error_default_type`.
    #[default]
    Plain,
}

impl Format {
    /// From a media type as in Kong's `error_default_type`.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        Some(match media_type {
            "application/json" | "application/*" | "*/*" => Format::Json,
            "text/html" => Format::Html,
            "application/xml" => Format::Xml,
            "text/plain" | "text/*" => Format::Plain,
            _ => return None,
        })
    }

    /// The format that an `Accept` header prefers; JSON where it names nothing known.
    pub(crate) fn negotiate(accept: Option<&[u8]>) -> Self {
        let Some(accept) = accept.and_then(|a| std::str::from_utf8(a).ok()) else {
            return Format::Json;
        };
        let mut best = Format::Json;
        let mut best_quality = 0.0;
        for entry in accept.split(',') {
            let mut parts = entry.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            if !is_media_range(media) {
                continue;
            }
            let quality = parts
                .find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")))
                .and_then(|q| q.trim().parse::<f32>().ok())
                .filter(|q| (0.0..=1.0).contains(q))
                .unwrap_or(1.0);
            if quality > best_quality {
                best_quality = quality;
                best = Format::of_media_type(media).unwrap_or(Format::Json);
            }
        }
        best
    }

    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Format::Json => "application/json; charset=utf-8",
            Format::Html => "text/html; charset=utf-8",
            Format::Xml => "application/xml; charset=utf-8",
            Format::Plain => "text/plain; charset=utf-8",
        })
    }

    /// The body.
    pub(crate) fn render(self, message: &str, request_id: &str) -> Bytes {
        let mut out = String::with_capacity(message.len() + 256);
        match self {
            Format::Json => {
                out.push_str("{\n  \"message\":\"");
                escape_json(&mut out, message);
                out.push_str("\",\n  \"request_id\":\"");
                out.push_str(request_id);
                out.push_str("\"\n}");
            }
            Format::Html => {
                out.push_str("<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n  <body>\n    <h1>Error</h1>\n    <p>");
                escape_markup(&mut out, message);
                out.push_str(".</p>\n    <p>request_id: ");
                out.push_str(request_id);
                out.push_str("</p>\n  </body>\n</html>\n");
            }
            Format::Xml => {
                out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>");
                escape_markup(&mut out, message);
                out.push_str("</message>\n  <requestid>");
                out.push_str(request_id);
                out.push_str("</requestid>\n</error>\n");
            }
            Format::Plain => {
                out.push_str(message);
                out.push_str("\nrequest_id: ");
                out.push_str(request_id);
                out.push('\n');
            }
        }
        Bytes::from(out)
    }
}

/// An error's body and its `Content-Type`, as Kong's error handler makes them for what nginx reports: by `Accept`, else by the
/// request's own `Content-Type`, else in the default format; for gRPC a JSON message without id.
pub(crate) fn handled(
    accept: Option<&[u8]>,
    content_type: Option<&[u8]>,
    default: Format,
    message: &str,
    request_id: &str,
) -> (HeaderValue, Bytes) {
    let wanted = accept.or(content_type);
    if wanted.is_some_and(|w| w.starts_with(b"application/grpc")) {
        let mut body = String::from("{\"message\":\"");
        escape_json(&mut body, message);
        body.push_str("\"}");
        return (Format::Json.content_type(), Bytes::from(body));
    }
    let format = if wanted.is_some() {
        Format::negotiate(wanted)
    } else {
        default
    };
    (format.content_type(), format.render(message, request_id))
}

/// The text for a status that nginx reports.
pub(crate) fn text_of(status: u16) -> &'static str {
    match status {
        400 => "Bad request",
        404 => "Not found",
        405 => "Method not allowed",
        408 => "Request timeout",
        411 => "Length required",
        412 => "Precondition failed",
        413 => "Payload too large",
        414 => "URI too long",
        417 => "Expectation failed",
        502 => "An invalid response was received from the upstream server",
        503 => "The upstream server is currently unavailable",
        504 => "The upstream server is timing out",
        _ => "An unexpected error occurred",
    }
}

/// nginx's own page.
pub(crate) fn page(title: &str) -> Bytes {
    Bytes::from(format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    ))
}

/// nginx's answer to plain HTTP on a TLS port.
pub(crate) fn page_plain_to_tls() -> Bytes {
    const TEXT: &str = "The plain HTTP request was sent to HTTPS port";
    Bytes::from(format!(
        "<html>\r\n<head><title>400 {TEXT}</title></head>\r\n<body>\r\n<center><h1>400 Bad Request</h1></center>\r\n<center>{TEXT}</center>\r\n</body>\r\n</html>\r\n"
    ))
}

/// Kong asks for at least two characters on each side of the slash, or `*`.
fn is_media_range(text: &str) -> bool {
    let part = |p: &str| {
        p == "*"
            || p.len() > 1
                && p.as_bytes()[0].is_ascii_alphanumeric()
                && p.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-!#$&^_+.".contains(&b))
    };
    text.split_once('/')
        .is_some_and(|(kind, sub)| part(kind) && part(sub))
}

fn escape_json(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

fn escape_markup(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_accept_as_kong_reads_it() {
        for (accept, want) in [
            ("application/json", Format::Json),
            ("text/html", Format::Html),
            ("text/plain", Format::Plain),
            ("application/xml", Format::Xml),
            ("text/xml", Format::Json),
            ("*/*", Format::Json),
            ("image/png", Format::Json),
            ("text/*", Format::Plain),
            ("application/*", Format::Json),
            ("garbage", Format::Json),
            ("", Format::Json),
            ("TEXT/HTML", Format::Json),
            ("text/html; charset=utf-8", Format::Html),
            ("text/html;q=0.5, application/json", Format::Json),
            ("application/xml;q=0.9, text/plain;q=0.8", Format::Xml),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Format::Html,
            ),
        ] {
            assert_eq!(
                Format::negotiate(Some(accept.as_bytes())),
                want,
                "{accept:?}"
            );
        }
        assert_eq!(Format::negotiate(None), Format::Json);
    }

    #[test]
    fn messages_cannot_break_out_of_their_format() {
        assert_eq!(
            Format::Json.render("a\"b\\", "id"),
            "{\n  \"message\":\"a\\\"b\\\\\",\n  \"request_id\":\"id\"\n}"
        );
        assert!(
            Format::Html
                .render("<b>", "id")
                .windows(9)
                .any(|w| w == b"&lt;b&gt;")
        );
    }

    #[test]
    fn without_accept_the_requests_own_type_decides_what_an_error_looks_like() {
        let (t, _) = handled(None, None, Format::Plain, "m", "i");
        assert_eq!(t, "text/plain; charset=utf-8");
        let (t, _) = handled(None, Some(b"application/json"), Format::Plain, "m", "i");
        assert_eq!(t, "application/json; charset=utf-8");
        let (_, b) = handled(None, Some(b"application/grpc"), Format::Plain, "m", "i");
        assert_eq!(b, "{\"message\":\"m\"}");
    }
}
