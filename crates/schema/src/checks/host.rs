//! Host names, addresses, server names: the checks of `kong/tools/ip.lua` and `kong/db/schema/typedefs.lua`.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::text;

/// What a host is, told by its characters alone: more than one colon is IPv6, digits and dots are IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// Four numbers.
    Ipv4,
    /// Groups of hexadecimal digits.
    Ipv6,
    /// Anything else.
    Name,
}

/// A host and its port, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostParts {
    /// What the host is.
    pub kind: HostKind,
    /// As Kong writes it (`normalize_ip` in `kong/tools/ip.lua`): IPv4 without leading zeros, IPv6 in full and in brackets, a name as it is.
    pub host: String,
    /// The port, when there is one.
    pub port: Option<u16>,
}

/// Takes a host with or without a port apart; `None` when it is none.
pub fn split_host(address: &str) -> Option<HostParts> {
    let (kind, port) = parse(address).ok()?;
    let bare = match (kind, port) {
        (HostKind::Ipv6, _) => address
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
            .map_or(address, |(ip, _)| ip),
        (_, Some(_)) => address.rsplit_once(':').map_or(address, |(host, _)| host),
        (_, None) => address,
    };
    let host = match kind {
        HostKind::Name => bare.to_owned(),
        HostKind::Ipv4 => {
            let octets = bare.split('.').map(|o| o.parse::<u8>().unwrap_or_default());
            octets.map(|o| o.to_string()).collect::<Vec<_>>().join(".")
        }
        HostKind::Ipv6 => {
            let groups = bare.parse::<Ipv6Addr>().ok()?.segments();
            let groups = groups.map(|g| format!("{g:04x}"));
            format!("[{}]", groups.join(":"))
        }
    };
    Some(HostParts { kind, host, port })
}

/// Why a host is none.
#[derive(Debug, PartialEq, Eq)]
enum HostError {
    /// The port is above 65535.
    Port,
    /// Anything else, with Kong's text.
    Invalid(String),
}

impl HostError {
    fn into_text(self) -> String {
        match self {
            HostError::Port => "invalid port number".into(),
            HostError::Invalid(text) => text,
        }
    }
}

/// A host without a port: an address or a name.
pub fn host(v: &Value) -> Result<(), String> {
    let host = text(v);
    match parse(host) {
        Err(HostError::Invalid(_)) => Err(format!("invalid value: {host}")),
        Err(HostError::Port) | Ok((_, Some(_))) => Err("must not have a port".into()),
        Ok((_, None)) => Ok(()),
    }
}

/// A host with or without a port.
pub fn host_with_optional_port(v: &Value) -> Result<(), String> {
    parse(text(v)).map(|_| ()).map_err(HostError::into_text)
}

/// A host with or without a port; `*` stands for any label.
pub fn host_pattern(v: &Value) -> Result<(), String> {
    parse(&text(v).replace('*', "abc"))
        .map(|_| ())
        .map_err(HostError::into_text)
}

/// A server name of the TLS handshake.
pub fn sni(v: &Value) -> Result<(), String> {
    server_name(text(v))
}

/// A server name of the TLS handshake, with at most one wildcard at its beginning or end.
pub fn wildcard_sni(v: &Value) -> Result<(), String> {
    let mut host = text(v).to_owned();
    if let Some(at) = host.find('*') {
        if at != 0 && at + 1 != host.len() {
            return Err("wildcard must be leftmost or rightmost character".into());
        }
        if host.matches('*').count() > 1 {
            return Err("only one wildcard must be specified".into());
        }
        host = host.replace('*', "wildcard");
    }
    server_name(&host)
}

fn server_name(host: &str) -> Result<(), String> {
    match parse(host) {
        Err(HostError::Invalid(_)) => Err(format!("invalid value: {host}")),
        Err(HostError::Port) => Err("must not have a port".into()),
        Ok((HostKind::Ipv4 | HostKind::Ipv6, _)) => Err("must not be an IP".into()),
        Ok((HostKind::Name, Some(_))) => Err("must not have a port".into()),
        Ok((HostKind::Name, None)) => Ok(()),
    }
}

/// An address of either family.
pub fn ip(v: &Value) -> Result<(), String> {
    let s = text(v);
    if is_ipv4(s) || is_ipv6(s) {
        Ok(())
    } else {
        Err(format!("not an ip address: {s}"))
    }
}

/// An address, or a block of addresses in CIDR notation.
pub fn ip_or_cidr(v: &Value) -> Result<(), String> {
    let s = text(v);
    let fine = match s.get(2..).and_then(|rest| rest.find('/')) {
        None => is_ipv4(s) || is_ipv6(s),
        Some(at) => {
            let (ip, prefix) = (&s[..at + 2], &s[at + 3..]);
            let within = |max: u32| {
                prefix
                    .parse::<u32>()
                    .is_ok_and(|n| n <= max && n.to_string() == prefix)
            };
            (is_ipv4(ip) && within(32)) || (is_ipv6(ip) && within(128))
        }
    };
    if fine {
        Ok(())
    } else {
        Err(format!("invalid ip or cidr range: '{s}'"))
    }
}

fn is_ipv4(s: &str) -> bool {
    s.parse::<Ipv4Addr>().is_ok()
}

fn is_ipv6(s: &str) -> bool {
    let bare = s
        .strip_prefix('[')
        .and_then(|s| s.strip_suffix(']'))
        .unwrap_or(s);
    bare.parse::<Ipv6Addr>().is_ok()
}

fn parse(address: &str) -> Result<(HostKind, Option<u16>), HostError> {
    let colons = address.bytes().filter(|b| *b == b':').count();
    let numeric = |b: u8| b.is_ascii_digit() || b == b'.';
    if colons > 1 {
        Ok((HostKind::Ipv6, ipv6(address)?))
    } else if address.len() > colons && address.bytes().all(|b| b == b':' || numeric(b)) {
        Ok((HostKind::Ipv4, ipv4(address)?))
    } else {
        Ok((HostKind::Name, name(address)?))
    }
}

fn ipv4(address: &str) -> Result<Option<u16>, HostError> {
    let invalid = || HostError::Invalid(format!("invalid ipv4 address: {address}"));
    let (ip, port) = match address.split_once(':') {
        Some((ip, port)) => (ip, Some(port)),
        None => (address, None),
    };
    let octets: Vec<&str> = ip.split('.').collect();
    // Kong takes leading zeros ("010.0.0.1") as decimal.
    let fine = |o: &&str| (1..=3).contains(&o.len()) && o.parse::<u16>().is_ok_and(|n| n <= 255);
    if octets.len() != 4 || !octets.iter().all(fine) {
        return Err(invalid());
    }
    match port {
        None => Ok(None),
        Some(p) if !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) => number(p).map(Some),
        Some(_) => Err(invalid()),
    }
}

fn ipv6(address: &str) -> Result<Option<u16>, HostError> {
    let invalid = || HostError::Invalid(format!("invalid ipv6 address: {address}"));
    let (ip, port) = match address
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((ip, "")) => (ip, None),
        Some((ip, rest)) => match rest.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => (ip, Some(digits)),
            _ => return Err(HostError::Invalid("invalid ipv6 address".into())),
        },
        None => (address, None),
    };
    if ip.parse::<Ipv6Addr>().is_err() || ip.contains('.') {
        return Err(invalid());
    }
    match port {
        None => Ok(None),
        Some("") => Err(HostError::Invalid("invalid ipv6 address".into())),
        Some(p) => number(p).map(Some),
    }
}

fn name(address: &str) -> Result<Option<u16>, HostError> {
    let invalid = || HostError::Invalid(format!("invalid hostname: {address}"));
    let (name, port) = match address.rsplit_once(':') {
        Some((n, p)) if !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) => {
            (n, Some(number(p)?))
        }
        _ => (address, None),
    };
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if name.is_empty() || !name.bytes().all(fine) {
        return Err(invalid());
    }
    let mut labels = name.split('.').peekable();
    while let Some(label) = labels.next() {
        // A trailing dot (the root) is fine, an empty label elsewhere is not.
        if label.ends_with('-') || (label.is_empty() && labels.peek().is_some()) {
            return Err(invalid());
        }
    }
    Ok(port)
}

fn number(digits: &str) -> Result<u16, HostError> {
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        Ok(0)
    } else {
        significant.parse().map_err(|_| HostError::Port)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_are_written_in_one_way() {
        let parts = |s: &str| {
            let p = split_host(s).unwrap();
            (p.kind, p.host, p.port)
        };
        let full = "[0000:0000:0000:0000:0000:0000:0000:0001]".to_owned();
        assert_eq!(parts("[::1]:80"), (HostKind::Ipv6, full.clone(), Some(80)));
        assert_eq!(parts("::1"), (HostKind::Ipv6, full, None));
        assert_eq!(
            parts("010.0.0.1:8"),
            (HostKind::Ipv4, "10.0.0.1".into(), Some(8))
        );
        assert_eq!(parts("a.Test"), (HostKind::Name, "a.Test".into(), None));
        assert_eq!(parts("a:1"), (HostKind::Name, "a".into(), Some(1)));
        assert_eq!(split_host("a:70000"), None);
        assert_eq!(split_host("a b"), None);
    }

    fn err(f: fn(&Value) -> Result<(), String>, s: &str) -> String {
        f(&json!(s)).unwrap_err()
    }

    #[test]
    fn host_takes_names_and_addresses_without_port() {
        for good in [
            "a.b",
            "localhost",
            "a_b.c",
            "a.",
            "1.2.3.4",
            "010.0.0.1",
            "::1",
            "[::1]",
            "-a",
            "1.2.3.4.x",
        ] {
            assert_eq!(host(&json!(good)), Ok(()), "{good}");
        }
        assert_eq!(err(host, "a.b:80"), "must not have a port");
        assert_eq!(err(host, "a.b:99999"), "must not have a port");
        assert_eq!(err(host, "1.2.3.4:80"), "must not have a port");
        assert_eq!(err(host, "[::1]:80"), "must not have a port");
        for bad in [
            "a b",
            "a..b",
            ".a",
            "a-.b",
            "256.1.1.1",
            "1.2.3",
            "1234",
            "::g",
            "1:2:3",
            "[::1]x",
            "a/b",
            "ä.de",
            ":",
        ] {
            assert_eq!(err(host, bad), format!("invalid value: {bad}"));
        }
    }

    #[test]
    fn host_pattern_takes_wildcards_and_ports() {
        for good in [
            "*.example.com",
            "example.*",
            "example.com:8080",
            "1.2.3.4:80",
            "[::1]:80",
            "*.example.com:443",
        ] {
            assert_eq!(host_pattern(&json!(good)), Ok(()), "{good}");
        }
        assert_eq!(err(host_pattern, "a b"), "invalid hostname: a b");
        assert_eq!(err(host_pattern, "a:70000"), "invalid port number");
        assert_eq!(err(host_pattern, "1.2.3"), "invalid ipv4 address: 1.2.3");
        assert_eq!(err(host_pattern, "1:2:3"), "invalid ipv6 address: 1:2:3");
    }

    #[test]
    fn sni_is_a_name_with_one_wildcard_at_an_end() {
        for good in ["a.b", "*.a.b", "a.*"] {
            assert_eq!(wildcard_sni(&json!(good)), Ok(()), "{good}");
        }
        assert_eq!(err(sni, "*.a.b"), "invalid value: *.a.b");
        assert_eq!(
            err(wildcard_sni, "a.*.b"),
            "wildcard must be leftmost or rightmost character"
        );
        assert_eq!(
            err(wildcard_sni, "*.a.*"),
            "only one wildcard must be specified"
        );
        assert_eq!(err(sni, "1.2.3.4"), "must not be an IP");
        assert_eq!(err(sni, "a.b:80"), "must not have a port");
        assert_eq!(err(sni, "a..b"), "invalid value: a..b");
    }

    #[test]
    fn ip_or_cidr_takes_both_families() {
        for good in [
            "1.2.3.4",
            "::1",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "fe80::/10",
            "[::1]",
        ] {
            assert_eq!(ip_or_cidr(&json!(good)), Ok(()), "{good}");
        }
        for bad in [
            "1.2.3",
            "1.2.3.4/33",
            "1.2.3.4/08",
            "1.2.3.4/",
            "::/129",
            "x",
            "é/8",
        ] {
            assert_eq!(
                err(ip_or_cidr, bad),
                format!("invalid ip or cidr range: '{bad}'")
            );
        }
    }
}
