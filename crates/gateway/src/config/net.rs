//! Addresses, DNS and TLS versions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::value::{Codec, non_empty};

/// A block of IP addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// An address of the block.
    pub addr: IpAddr,
    /// How many leading bits count: at most 32 for IPv4, 128 for IPv6.
    pub len: u8,
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl Codec for Cidr {
    type Out = Self;

    fn parse(name: &str, raw: &str) -> Result<Self, String> {
        let invalid = || {
            format!(
                "{name} must be a comma separated list in the form of IPv4 or IPv6 address or CIDR block, got '{raw}'"
            )
        };
        let (addr, len) = match raw.split_once('/') {
            Some((addr, len)) => (addr, Some(len)),
            None => (raw, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| invalid())?;
        let widest = if addr.is_ipv4() { 32 } else { 128 };
        let len = match len {
            Some(len) => len.parse().map_err(|_| invalid())?,
            None => widest,
        };
        if len > widest {
            return Err(invalid());
        }
        Ok(Self { addr, len })
    }

    fn render(value: &Self) -> String {
        let widest = if value.addr.is_ipv4() { 32 } else { 128 };
        if value.len == widest {
            value.addr.to_string()
        } else {
            value.to_string()
        }
    }

    fn describe() -> String {
        "IP address or CIDR block".into()
    }
}

/// The address of a DNS server; port 53 when none is given.
pub enum DnsServer {}

impl Codec for DnsServer {
    type Out = SocketAddr;

    fn parse(name: &str, raw: &str) -> Result<SocketAddr, String> {
        let bare = raw.trim_start_matches('[').trim_end_matches(']');
        raw.parse().ok().or_else(|| bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53))).ok_or_else(|| {
            format!(
                "{name} must be a comma separated list in the form of IPv4/6 or IPv4/6:port, got '{raw}'"
            )
        })
    }

    fn render(value: &SocketAddr) -> String {
        value.to_string()
    }

    fn describe() -> String {
        "IP address, with or without a port".into()
    }
}

/// The address that a name of the file means: `*` is every IPv4 address, as in nginx.
pub(super) fn listen_ip(host: &str) -> Option<IpAddr> {
    match host {
        "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        _ => match host.strip_prefix('[') {
            Some(rest) => rest
                .strip_suffix(']')?
                .parse::<Ipv6Addr>()
                .ok()
                .map(Into::into),
            None => host.parse::<Ipv4Addr>().ok().map(Into::into),
        },
    }
}

/// Kinds of DNS record, in the order they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsOrder {
    /// The kind that worked last time for this name.
    Last,
    /// SRV records.
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Aliases; they are always followed.
    Cname,
}

impl Codec for DnsOrder {
    type Out = Self;

    fn parse(name: &str, raw: &str) -> Result<Self, String> {
        Ok(match raw.to_ascii_uppercase().as_str() {
            "LAST" => Self::Last,
            "SRV" => Self::Srv,
            "A" => Self::A,
            "AAAA" => Self::Aaaa,
            "CNAME" => Self::Cname,
            _ => return Err(format!("{name}: invalid entry '{raw}'")),
        })
    }

    fn render(value: &Self) -> String {
        match value {
            Self::Last => "LAST",
            Self::Srv => "SRV",
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
        }
        .into()
    }

    fn describe() -> String {
        "`LAST`, `SRV`, `A`, `AAAA`, `CNAME`".into()
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.0.
    V1_0,
    /// TLS 1.1.
    V1_1,
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// The versions of TLS that are offered, separated by spaces as nginx has them.
pub enum TlsVersions {}

impl TlsVersions {
    const WORDS: [(&'static str, TlsVersion); 4] = [
        ("TLSv1", TlsVersion::V1_0),
        ("TLSv1.1", TlsVersion::V1_1),
        ("TLSv1.2", TlsVersion::V1_2),
        ("TLSv1.3", TlsVersion::V1_3),
    ];
}

impl Codec for TlsVersions {
    type Out = Vec<TlsVersion>;

    fn parse(name: &str, raw: &str) -> Result<Self::Out, String> {
        let mut versions = non_empty(name, raw)?
            .split([' ', '\t', ','])
            .filter(|word| !word.is_empty())
            .map(|word| {
                Self::WORDS
                    .iter()
                    .find(|(known, _)| *known == word)
                    .map(|(_, version)| *version)
                    .ok_or_else(|| {
                        let known = Self::WORDS.map(|(known, _)| known).join(", ");
                        format!("{name} has an invalid value: '{word}' ({known})")
                    })
            })
            .collect::<Result<Vec<_>, _>>()?;
        versions.sort_unstable();
        versions.dedup();
        Ok(versions)
    }

    fn render(value: &Self::Out) -> String {
        let word = |version| {
            Self::WORDS
                .iter()
                .find(|(_, known)| *known == version)
                .map_or("", |(word, _)| *word)
        };
        value
            .iter()
            .map(|version| word(*version))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn describe() -> String {
        "space-separated: `TLSv1`, `TLSv1.1`, `TLSv1.2`, `TLSv1.3`".into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_blocks_are_checked() {
        assert_eq!(
            Cidr::render(&Cidr::parse("t", "10.0.0.0/8").unwrap()),
            "10.0.0.0/8"
        );
        assert_eq!(Cidr::render(&Cidr::parse("t", "::1").unwrap()), "::1");
        for raw in ["10.0.0.0/33", "x", "10.0.0.0/", "::/129", "unix:"] {
            assert!(
                Cidr::parse("trusted_ips", raw)
                    .unwrap_err()
                    .starts_with("trusted_ips must be"),
                "{raw}"
            );
        }
        assert_eq!(
            DnsServer::parse("d", "8.8.8.8").unwrap().to_string(),
            "8.8.8.8:53"
        );
        assert_eq!(
            DnsServer::parse("d", "[::1]").unwrap().to_string(),
            "[::1]:53"
        );
        assert_eq!(
            DnsServer::parse("d", "[::1]:54").unwrap().to_string(),
            "[::1]:54"
        );
        assert!(DnsServer::parse("d", "dns.test").is_err());
    }

    #[test]
    fn tls_versions_are_sorted_and_checked() {
        let versions = TlsVersions::parse("ssl_protocols", "TLSv1.3 TLSv1.2").unwrap();
        assert_eq!(versions, [TlsVersion::V1_2, TlsVersion::V1_3]);
        assert_eq!(TlsVersions::render(&versions), "TLSv1.2 TLSv1.3");
        assert!(
            TlsVersions::parse("ssl_protocols", "SSLv3")
                .unwrap_err()
                .contains("'SSLv3'")
        );
    }
}
