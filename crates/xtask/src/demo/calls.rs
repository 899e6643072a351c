//! The calls of the demo: what it prints, what `--check` performs and what the README shows are the same data.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use silverback_testkit::client::Client;
use silverback_testkit::h1::Response;

use crate::gateway::Ports;

/// The key of the demo's consumer.
pub(super) const KEY: &str = "demo-key";

/// How many requests a minute the demo's rate limit lets through.
pub(super) const LIMIT: u32 = 10;

/// How long a change may take to reach the proxy before a check gives up on it.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Proxy,
    Admin,
}

/// One call, or the same call several times.
#[derive(Debug)]
pub(super) struct Call {
    say: &'static str,
    to: To,
    method: &'static str,
    path: &'static str,
    key: bool,
    form: &'static [(&'static str, &'static str)],
    repeat: u32,
    /// The status of the answer, or of the last.
    status: u16,
    /// A header that the answer has.
    header: Option<&'static str>,
}

const CALL: Call = Call {
    say: "",
    to: To::Proxy,
    method: "GET",
    path: "/echo/hello",
    key: false,
    form: &[],
    repeat: 1,
    status: 200,
    header: None,
};

/// The calls in an order in which each does what it says.
pub(super) const CALLS: &[Call] = &[
    Call {
        say: "Without a key: 401",
        status: 401,
        header: Some("WWW-Authenticate"),
        ..CALL
    },
    Call {
        say: "With a key: 200, and the upstream tells what it received",
        key: true,
        header: Some("X-RateLimit-Remaining-Minute"),
        ..CALL
    },
    Call {
        say: "The service, as the Admin API sees it",
        to: To::Admin,
        path: "/services/echo",
        ..CALL
    },
    Call {
        say: "The plugins on it",
        to: To::Admin,
        path: "/services/echo/plugins",
        ..CALL
    },
    Call {
        say: "Add a route to it",
        to: To::Admin,
        method: "PUT",
        path: "/services/echo/routes/second",
        form: &[("paths[]", "/second")],
        ..CALL
    },
    Call {
        say: "It takes effect within a moment",
        path: "/second/hello",
        key: true,
        ..CALL
    },
    Call {
        say: "More than ten requests a minute: 429",
        key: true,
        repeat: LIMIT + 5,
        status: 429,
        header: Some("Retry-After"),
        ..CALL
    },
];

impl Call {
    /// The comment and the command to type.
    pub(super) fn shell(&self, ports: Ports) -> String {
        let url = match self.to {
            To::Proxy => format!("http://localhost:{}{}", ports.proxy, self.path),
            To::Admin => format!("http://localhost:{}{}", ports.admin, self.path),
        };
        let mut curl = String::from("curl -i");
        if self.repeat > 1 {
            curl = "curl -s -o /dev/null -w '%{http_code}\\n'".into();
        } else if self.to == To::Admin {
            curl = "curl -s".into();
        }
        if self.method != "GET" {
            curl.push_str(&format!(" -X {}", self.method));
        }
        curl.push_str(&format!(" {url}"));
        if self.key {
            curl.push_str(&format!(" -H 'apikey: {KEY}'"));
        }
        for (name, value) in self.form {
            curl.push_str(&format!(" -d '{name}={value}'"));
        }
        if self.repeat > 1 {
            curl = format!("for i in $(seq {}); do {curl}; done", self.repeat);
        }
        format!("# {}\n{curl}", self.say)
    }

    /// Performs it and compares.
    pub(super) fn perform(&self, ports: Ports) -> Result<()> {
        let port = if self.to == To::Proxy {
            ports.proxy
        } else {
            ports.admin
        };
        let mut client = Client::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let body: Vec<_> = self
            .form
            .iter()
            .map(|(n, v)| format!("{}={}", escape(n), escape(v)))
            .collect();
        let body = body.join("&");
        let mut headers = Vec::new();
        if self.key {
            headers.push(("apikey", KEY));
        }
        if !body.is_empty() {
            headers.push(("Content-Type", "application/x-www-form-urlencoded"));
        }
        let mut send = || {
            client
                .send(self.method, self.path, &headers, body.as_bytes())
                .with_context(|| format!("{} {}", self.method, self.path))
        };
        let mut response = Response::default();
        for _ in 0..self.repeat {
            response = send()?;
        }
        // What the call before it has changed may be a moment away from taking effect.
        let end = Instant::now() + SETTLE;
        while response.status == 404 && self.to == To::Proxy && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
            response = send()?;
        }
        if response.status != self.status {
            bail!(
                "{}: {} {} was answered {} and not {}: {}",
                self.say,
                self.method,
                self.path,
                response.status,
                self.status,
                response.text().trim()
            );
        }
        match self.header {
            Some(name) if response.header(name).is_none() => {
                bail!("{}: the answer has no {name}", self.say)
            }
            _ => Ok(()),
        }
    }
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                out.push(char::from(byte))
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports {
        proxy: 8000,
        proxy_tls: 8443,
        admin: 8001,
        status: 8007,
    };

    #[test]
    fn calls_are_printed_as_one_types_them() {
        let printed: Vec<_> = CALLS.iter().map(|call| call.shell(PORTS)).collect();
        assert_eq!(
            printed[0],
            "# Without a key: 401\ncurl -i http://localhost:8000/echo/hello"
        );
        assert!(
            printed[1].ends_with("hello -H 'apikey: demo-key'"),
            "{}",
            printed[1]
        );
        let put =
            "curl -s -X PUT http://localhost:8001/services/echo/routes/second -d 'paths[]=/second'";
        assert!(printed[4].ends_with(put), "{}", printed[4]);
        assert!(
            printed[6].contains("for i in $(seq 15); do curl"),
            "{}",
            printed[6]
        );
    }

    #[test]
    fn the_loop_ends_beyond_the_limit_even_when_a_minute_begins_before_it() {
        assert!(
            CALLS
                .iter()
                .all(|call| call.repeat == 1 || call.repeat > LIMIT)
        );
    }

    #[test]
    fn form_values_are_escaped() {
        assert_eq!(escape("paths[]"), "paths%5B%5D");
        assert_eq!(escape("/a b"), "%2Fa%20b");
    }
}
