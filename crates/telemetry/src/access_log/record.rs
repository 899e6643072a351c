//! A request as the access log sees it, and its two renderings.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use super::LogFormat;
use crate::clock;
use crate::escape;

/// One finished request. Everything is borrowed; texts that a client or an upstream may have chosen are
/// bytes, for they need not be UTF-8.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccessRecord<'a> {
    /// The client, after `real_ip` treatment; `None` for a Unix socket (`unix:` in the log).
    pub remote_addr: Option<IpAddr>,
    /// User of HTTP basic authentication as the client sent it.
    pub remote_user: Option<&'a [u8]>,
    /// Method; empty when the request line could not be read, which leaves `$request` empty.
    pub method: &'a [u8],
    /// Path and query as received.
    pub target: &'a [u8],
    /// `HTTP/1.1`, `HTTP/2.0`, ...
    pub protocol: &'a str,
    /// Status sent to the client.
    pub status: u16,
    /// Bytes of body sent to the client.
    pub body_bytes_sent: u64,
    /// `Referer` of the request.
    pub referer: Option<&'a [u8]>,
    /// `User-Agent` of the request.
    pub user_agent: Option<&'a [u8]>,
    /// What `X-Kong-Request-Id` says.
    pub request_id: &'a str,
    /// `Host` of the request (JSON only).
    pub host: Option<&'a [u8]>,
    /// Name or id of the route (JSON only).
    pub route: Option<&'a str>,
    /// Name or host of the service (JSON only).
    pub service: Option<&'a str>,
    /// Name or id of the consumer (JSON only).
    pub consumer: Option<&'a str>,
    /// The upstream that answered (JSON only).
    pub upstream: Option<SocketAddr>,
    /// How often the request was sent to an upstream; 0 when the gateway answered itself (JSON only).
    pub attempts: u32,
    /// Microseconds from the first byte of the request to the last of the response (JSON only).
    pub request_us: u64,
    /// Microseconds spent waiting for the upstream (JSON only).
    pub upstream_us: Option<u64>,
}

impl AccessRecord<'_> {
    /// Appends the record as one line, line feed included.
    pub fn append(&self, format: LogFormat, now: SystemTime, out: &mut String) {
        match format {
            LogFormat::Json => self.append_json(now, out),
            LogFormat::Combined => self.append_combined(now, out),
            LogFormat::Kong => {
                self.append_combined(now, out);
                out.push_str(" kong_request_id: \"");
                escape::push_nginx(out, self.request_id.as_bytes());
                out.push('"');
            }
        }
        out.push('\n');
    }

    fn append_combined(&self, now: SystemTime, out: &mut String) {
        self.push_remote_addr(out);
        out.push_str(" - ");
        push_or_dash(out, self.remote_user);
        out.push_str(" [");
        clock::append_local_time(out, now);
        out.push_str("] \"");
        if !self.method.is_empty() {
            escape::push_nginx(out, self.method);
            out.push(' ');
            escape::push_nginx(out, self.target);
            out.push(' ');
            escape::push_nginx(out, self.protocol.as_bytes());
        }
        out.push_str("\" ");
        clock::push_three_digits(out, u32::from(self.status));
        out.push(' ');
        out.push_str(itoa::Buffer::new().format(self.body_bytes_sent));
        out.push_str(" \"");
        push_or_dash(out, self.referer);
        out.push_str("\" \"");
        push_or_dash(out, self.user_agent);
        out.push('"');
    }

    fn append_json(&self, now: SystemTime, out: &mut String) {
        out.push_str("{\"time\":\"");
        clock::append_iso8601(out, now);
        out.push_str("\",\"remote_addr\":\"");
        self.push_remote_addr(out);
        out.push('"');
        push_text(out, "remote_user", self.remote_user);
        push_text(out, "method", Some(self.method));
        push_text(out, "uri", Some(self.target));
        push_text(out, "protocol", Some(self.protocol.as_bytes()));
        push_text(out, "host", self.host);
        push_number(out, "status", u64::from(self.status));
        push_number(out, "body_bytes_sent", self.body_bytes_sent);
        push_text(out, "referer", self.referer);
        push_text(out, "user_agent", self.user_agent);
        push_text(out, "request_id", Some(self.request_id.as_bytes()));
        push_text(out, "service", self.service.map(str::as_bytes));
        push_text(out, "route", self.route.map(str::as_bytes));
        push_text(out, "consumer", self.consumer.map(str::as_bytes));
        push_text(
            out,
            "upstream",
            self.upstream
                .map(|a| a.to_string())
                .as_deref()
                .map(str::as_bytes),
        );
        push_number(out, "attempts", u64::from(self.attempts));
        push_millis(out, "request_ms", Some(self.request_us));
        push_millis(out, "upstream_ms", self.upstream_us);
        out.push('}');
    }

    fn push_remote_addr(&self, out: &mut String) {
        match self.remote_addr {
            // Writing to a String cannot fail.
            Some(addr) => {
                let _ = write!(out, "{addr}");
            }
            None => out.push_str("unix:"),
        }
    }
}

/// nginx writes `-` for what is missing, but nothing for what is there and empty.
fn push_or_dash(out: &mut String, value: Option<&[u8]>) {
    match value {
        Some(value) => escape::push_nginx(out, value),
        None => out.push('-'),
    }
}

fn push_key(out: &mut String, key: &str) {
    out.push_str(",\"");
    out.push_str(key);
    out.push_str("\":");
}

/// Absent values are left out of the object.
fn push_text(out: &mut String, key: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        push_key(out, key);
        escape::push_json(out, value);
    }
}

fn push_number(out: &mut String, key: &str, value: u64) {
    push_key(out, key);
    out.push_str(itoa::Buffer::new().format(value));
}

/// Microseconds as milliseconds with three decimals.
fn push_millis(out: &mut String, key: &str, micros: Option<u64>) {
    if let Some(micros) = micros {
        push_number(out, key, micros / 1000);
        out.push('.');
        clock::push_three_digits(out, u32::try_from(micros % 1000).unwrap_or(0));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_760_359_696_250)
    }

    fn line(record: &AccessRecord<'_>, format: LogFormat) -> String {
        let mut out = String::new();
        record.append(format, now(), &mut out);
        out
    }

    fn local_time() -> String {
        let mut out = String::new();
        clock::append_local_time(&mut out, now());
        out
    }

    fn full() -> AccessRecord<'static> {
        AccessRecord {
            remote_addr: Some("192.0.2.7".parse().unwrap()),
            remote_user: Some(b"ann"),
            method: b"GET",
            target: b"/a?b=c",
            protocol: "HTTP/1.1",
            status: 200,
            body_bytes_sent: 1234,
            referer: Some(b"http://x/"),
            user_agent: Some(b"curl/8"),
            request_id: "abc123",
            host: Some(b"example.com"),
            route: Some("r"),
            service: Some("s"),
            consumer: Some("alice"),
            upstream: Some(SocketAddr::from(([10, 0, 0, 1], 80))),
            attempts: 2,
            request_us: 12_034,
            upstream_us: Some(9_000),
        }
    }

    #[test]
    fn the_line_has_the_fields_of_kong_log_format_in_order() {
        let expected = format!(
            "192.0.2.7 - ann [{}] \"GET /a?b=c HTTP/1.1\" 200 1234 \"http://x/\" \"curl/8\" \
             kong_request_id: \"abc123\"\n",
            local_time()
        );
        assert_eq!(line(&full(), LogFormat::Kong), expected);
    }

    #[test]
    fn combined_ends_with_the_user_agent() {
        assert!(line(&full(), LogFormat::Combined).ends_with(" \"http://x/\" \"curl/8\"\n"));
    }

    #[test]
    fn missing_fields_are_dashes_and_empty_ones_are_empty() {
        let record = AccessRecord {
            status: 400,
            referer: Some(b""),
            ..AccessRecord::default()
        };
        let expected = format!(
            "unix: - - [{}] \"\" 400 0 \"\" \"-\" kong_request_id: \"\"\n",
            local_time()
        );
        assert_eq!(line(&record, LogFormat::Kong), expected);
    }

    #[test]
    fn nothing_a_client_sends_can_forge_a_line_or_end_a_quoted_field() {
        let evil: &[u8] = b"x\" 200 0\n10.0.0.1 - - \\\"\r\x1b[31m\xff";
        let record = AccessRecord {
            target: evil,
            user_agent: Some(evil),
            referer: Some(evil),
            remote_user: Some(evil),
            request_id: "a\"\nb",
            ..full()
        };
        let text = line(&record, LogFormat::Kong);
        assert_eq!(text.matches('\n').count(), 1);
        assert!(
            text.ends_with("kong_request_id: \"a\\x22\\x0Ab\"\n"),
            "{text}"
        );
        assert_eq!(text.matches('"').count(), 8, "four quoted fields: {text}");
        assert!(
            text.contains("x\\x22 200 0\\x0A10.0.0.1 - - \\x5C\\x22\\x0D\\x1B[31m\\xFF"),
            "{text}"
        );
    }

    #[test]
    fn json_is_one_object_with_latencies_in_milliseconds() {
        let text = line(&full(), LogFormat::Json);
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["remote_addr"], "192.0.2.7");
        assert_eq!(value["uri"], "/a?b=c");
        assert_eq!(value["status"], 200);
        assert_eq!(value["request_ms"], 12.034);
        assert_eq!(value["upstream_ms"], 9.0);
        assert_eq!(value["attempts"], 2);
        assert_eq!(value["consumer"], "alice");
        assert!(value["time"].as_str().unwrap().contains(".250"));
    }

    #[test]
    fn json_leaves_out_what_is_absent_and_survives_hostile_bytes() {
        let record = AccessRecord {
            user_agent: Some(b"\"},\n{\xff"),
            ..AccessRecord::default()
        };
        let text = line(&record, LogFormat::Json);
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["user_agent"], "\"},\n{\u{fffd}");
        assert!(value.get("consumer").is_none());
        assert!(value.get("upstream_ms").is_none());
    }
}
