//! Addresses to listen on, in the notation of Kong's `*_listen` settings
//! (`kong/conf_loader/listeners.lua`).

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value, json};

use super::net::listen_ip;
use super::value::{Codec, entries};

/// One address to listen on, with its flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where to bind. Port 0 lets the system choose.
    pub addr: SocketAddr,
    /// Whether connections are TLS (`ssl`).
    pub tls: bool,
    /// Whether HTTP/2 is spoken (`http2`): by ALPN with TLS, by prior knowledge without.
    pub http2: bool,
    /// Whether connections begin with a PROXY protocol header (`proxy_protocol`).
    pub proxy_protocol: bool,
    /// `TCP_DEFER_ACCEPT` (`deferred`).
    pub deferred: bool,
    /// `SO_REUSEPORT` (`reuseport`).
    pub reuseport: bool,
    /// Whether nginx would call bind() for this very address (`bind`); it is always done here.
    pub bind: bool,
    /// Length of the queue of connections not yet accepted (`backlog=N`).
    pub backlog: Option<u32>,
    /// `IPV6_V6ONLY` (`ipv6only=on|off`).
    pub ipv6only: Option<bool>,
    /// `SO_KEEPALIVE` (`so_keepalive=on|off`).
    pub so_keepalive: Option<bool>,
}

impl Listener {
    /// A plain listener on `addr` without any flag.
    #[must_use]
    pub fn plain(addr: SocketAddr) -> Self {
        Self {
            addr,
            tls: false,
            http2: false,
            proxy_protocol: false,
            deferred: false,
            reuseport: false,
            bind: false,
            backlog: None,
            ipv6only: None,
            so_keepalive: None,
        }
    }

    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.addr.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => {
                ip.is_loopback()
                    || ip
                        .to_ipv4_mapped()
                        .is_some_and(|mapped| mapped.is_loopback())
            }
        }
    }

    /// The object that Kong shows for it under `proxy_listeners` and the like.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("listener".into(), json!(self.to_string()));
        object.insert("ip".into(), json!(host(self.addr.ip())));
        object.insert("port".into(), json!(self.addr.port()));
        for (flag, set) in self.flags() {
            object.insert(flag.into(), json!(set));
        }
        if let Some(backlog) = self.backlog {
            object.insert(format!("backlog={backlog}"), json!(true));
        }
        Value::Object(object)
    }

    fn parse(name: &str, entry: &str) -> Result<Self, String> {
        let mut words = entry.split_whitespace();
        let address = words.next().unwrap_or_default();
        if address.starts_with("unix:") {
            return Err(format!(
                "{name}: unix domain sockets are not supported yet, got '{entry}'"
            ));
        }
        let addr = address
            .rsplit_once(':')
            .and_then(|(host, port)| Some(SocketAddr::new(listen_ip(host)?, port.parse().ok()?)));
        let Some(addr) = addr else {
            return Err(format!("{name} {USAGE}, got '{entry}'"));
        };
        let mut listener = Self::plain(addr);
        for word in words {
            if !listener.set(word) {
                return Err(format!("{name} {USAGE}, got '{word}' in '{entry}'"));
            }
        }
        if listener.ipv6only.is_some() && addr.is_ipv4() {
            return Err(format!(
                "{name}: ipv6only needs an IPv6 address, got '{entry}'"
            ));
        }
        Ok(listener)
    }

    /// Takes one flag; false when there is no such flag.
    fn set(&mut self, word: &str) -> bool {
        match word {
            "ssl" => self.tls = true,
            "http2" => self.http2 = true,
            "proxy_protocol" => self.proxy_protocol = true,
            "deferred" => self.deferred = true,
            "bind" => self.bind = true,
            "reuseport" => self.reuseport = true,
            "ipv6only=on" => self.ipv6only = Some(true),
            "ipv6only=off" => self.ipv6only = Some(false),
            "so_keepalive=on" => self.so_keepalive = Some(true),
            "so_keepalive=off" => self.so_keepalive = Some(false),
            _ => match word.strip_prefix("backlog=").map(str::parse::<u32>) {
                Some(Ok(backlog)) if backlog > 0 => self.backlog = Some(backlog),
                _ => return false,
            },
        }
        true
    }

    fn flags(&self) -> [(&'static str, bool); 6] {
        [
            ("http2", self.http2),
            ("ssl", self.tls),
            ("proxy_protocol", self.proxy_protocol),
            ("deferred", self.deferred),
            ("bind", self.bind),
            ("reuseport", self.reuseport),
        ]
    }
}

impl std::fmt::Display for Listener {
    /// The notation of the configuration file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.addr)?;
        for (flag, set) in self.flags() {
            if set {
                write!(f, " {flag}")?;
            }
        }
        if let Some(backlog) = self.backlog {
            write!(f, " backlog={backlog}")?;
        }
        let switch = |on| if on { "on" } else { "off" };
        if let Some(on) = self.ipv6only {
            write!(f, " ipv6only={}", switch(on))?;
        }
        if let Some(on) = self.so_keepalive {
            write!(f, " so_keepalive={}", switch(on))?;
        }
        Ok(())
    }
}

const USAGE: &str = "must be of form: [off] | <ip>:<port> [ssl] [http2] [proxy_protocol] [deferred] [bind] [reuseport] \
     [backlog=N] [ipv6only=on|off] [so_keepalive=on|off], [... next entry ...]";

/// A comma-separated list of listeners, or `off` for none.
pub enum Listeners {}

impl Codec for Listeners {
    type Out = Vec<Listener>;

    fn parse(name: &str, raw: &str) -> Result<Self::Out, String> {
        let mut list = entries(raw).peekable();
        match list.peek() {
            None => return Err(format!("{name} {USAGE}")),
            // Kong looks at the first entry only.
            Some(&"off") => return Ok(Vec::new()),
            Some(_) => {}
        }
        list.map(|entry| Listener::parse(name, entry)).collect()
    }

    fn render(value: &Self::Out) -> String {
        if value.is_empty() {
            return "off".into();
        }
        value
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn describe() -> String {
        "`off`, or a comma-separated list of `<ip>:<port> [flag ...]`".into()
    }

    fn json(value: &Self::Out) -> Option<Value> {
        if value.is_empty() {
            return Some(json!(["off"]));
        }
        Some(value.iter().map(ToString::to_string).collect())
    }
}

/// nginx wants brackets around IPv6, and so Kong shows them.
fn host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> Result<Vec<Listener>, String> {
        Listeners::parse("proxy_listen", raw)
    }

    #[test]
    fn kongs_default_is_understood() {
        let list = parse(
            "0.0.0.0:8000 reuseport backlog=16384, 0.0.0.0:8443 http2 ssl reuseport backlog=16384",
        );
        let [plain, tls] = list.unwrap().try_into().unwrap();
        assert_eq!(plain.addr, "0.0.0.0:8000".parse().unwrap());
        assert!(plain.reuseport && !plain.tls && !plain.http2);
        assert_eq!(plain.backlog, Some(16384));
        assert!(tls.tls && tls.http2 && tls.reuseport);
        assert_eq!(
            tls.to_string(),
            "0.0.0.0:8443 http2 ssl reuseport backlog=16384"
        );
    }

    #[test]
    fn off_means_no_listener() {
        assert_eq!(parse("off"), Ok(vec![]));
        assert_eq!(parse("off, 127.0.0.1:1"), Ok(vec![]));
        assert_eq!(Listeners::render(&vec![]), "off");
    }

    #[test]
    fn names_that_need_no_resolver_are_understood() {
        for (raw, addr) in [
            ("*:80", "0.0.0.0:80"),
            ("localhost:80", "127.0.0.1:80"),
            ("[::]:80 ipv6only=off", "[::]:80"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ] {
            assert_eq!(parse(raw).unwrap()[0].addr.to_string(), addr);
        }
    }

    #[test]
    fn what_is_not_an_address_or_a_flag_is_refused_with_the_form() {
        for raw in [
            "",
            "8000",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:70000",
            "example.test:80",
            "::1:80",
            "127.0.0.1:80 sssl",
            "127.0.0.1:80 backlog=x",
            "127.0.0.1:80 backlog=0",
        ] {
            let error = parse(raw).unwrap_err();
            assert!(
                error.starts_with("proxy_listen must be of form: [off] | <ip>:<port> [ssl]"),
                "{raw}: {error}"
            );
        }
        assert!(
            parse("unix:/run/x.sock")
                .unwrap_err()
                .contains("unix domain sockets are not supported yet")
        );
        assert!(
            parse("0.0.0.0:80 ipv6only=on")
                .unwrap_err()
                .contains("ipv6only")
        );
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        let loopback = |raw: &str| parse(raw).unwrap()[0].is_loopback();
        assert!(loopback("127.0.0.1:1") && loopback("127.9.9.9:1") && loopback("[::1]:1"));
        assert!(loopback("[::ffff:127.0.0.1]:1"));
        assert!(!loopback("0.0.0.0:1") && !loopback("[::]:1") && !loopback("10.0.0.1:1"));
    }

    #[test]
    fn the_admin_api_shows_it_as_kong_does() {
        let listener = &parse("[::1]:8443 ssl http2 backlog=7").unwrap()[0];
        let object = listener.json();
        assert_eq!(object["ip"], "[::1]");
        assert_eq!(object["port"], 8443);
        assert_eq!(object["ssl"], true);
        assert_eq!(object["reuseport"], false);
        assert_eq!(object["backlog=7"], true);
        assert_eq!(Listeners::json(&vec![]), Some(json!(["off"])));
    }

    #[test]
    fn rendering_and_parsing_are_inverse() {
        let raw = "127.0.0.1:1 ssl proxy_protocol deferred bind so_keepalive=on, [::]:2 http2 ipv6only=off";
        let list = parse(raw).unwrap();
        assert_eq!(parse(&Listeners::render(&list)), Ok(list));
    }
}
