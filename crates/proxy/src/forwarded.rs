//! Who the client is when other proxies stand before the gateway: nginx's realip module as Kong sets it up
//! (`trusted_ips`, `real_ip_header`, `real_ip_recursive`).

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::{HeaderMap, HeaderName};

/// Addresses whose word on the client is believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedIps {
    blocks: Vec<(IpAddr, u8)>,
}

/// A text that is no address and no block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid IP address or CIDR block: {0}")]
pub struct InvalidBlock(pub String);

impl TrustedIps {
    /// From addresses and blocks (`10.0.0.0/8`, `::1`); `unix:` is skipped, for the gateway listens on no Unix socket.
    ///
    /// # Errors
    /// [`InvalidBlock`] for what is neither.
    pub fn parse<'a>(blocks: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidBlock> {
        let parse = |text: &str| {
            let (address, bits) = match text.split_once('/') {
                Some((a, b)) => (IpAddr::from_str(a).ok()?, Some(b.parse::<u8>().ok()?)),
                None => (IpAddr::from_str(text).ok()?, None),
            };
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.unwrap_or(longest);
            (bits <= longest).then_some((address, bits))
        };
        let blocks = blocks
            .into_iter()
            .map(str::trim)
            .filter(|b| !b.is_empty() && *b != "unix:");
        let blocks = blocks
            .map(|b| parse(b).ok_or_else(|| InvalidBlock(b.to_owned())))
            .collect::<Result<_, _>>()?;
        Ok(TrustedIps { blocks })
    }

    /// Whether that address is among them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.blocks
            .iter()
            .any(|(block, bits)| match (block, ip.to_canonical()) {
                (IpAddr::V4(b), IpAddr::V4(a)) => {
                    same(u32::from(*b).into(), u32::from(a).into(), *bits, 32)
                }
                (IpAddr::V6(b), IpAddr::V6(a)) => same(u128::from(*b), u128::from(a), *bits, 128),
                _ => false,
            })
    }
}

fn same(a: u128, b: u128, bits: u8, width: u8) -> bool {
    bits == 0 || (a ^ b) >> (width - bits) == 0
}

/// How the client's address is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealIp {
    /// Who is believed.
    pub trusted: TrustedIps,
    /// The header that names the client; `X-Real-IP` by default.
    pub header: HeaderName,
    /// Whether trusted addresses in the header are skipped.
    pub recursive: bool,
}

impl Default for RealIp {
    fn default() -> Self {
        RealIp {
            trusted: TrustedIps::default(),
            header: HeaderName::from_static("x-real-ip"),
            recursive: false,
        }
    }
}

impl RealIp {
    /// The client's address, and whether the peer is trusted.
    pub(crate) fn find(&self, peer: IpAddr, headers: &HeaderMap) -> (IpAddr, bool) {
        if self.trusted.blocks.is_empty() || !self.trusted.contains(peer) {
            return (peer, false);
        }
        let mut client = peer;
        let values: Vec<_> = headers
            .get_all(&self.header)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .collect();
        for text in values
            .iter()
            .rev()
            .flat_map(|v| v.rsplit(','))
            .map(str::trim)
            .filter(|t| !t.is_empty())
        {
            let parsed = text
                .parse()
                .or_else(|_| text.parse::<SocketAddr>().map(|a| a.ip()));
            let Ok(address) = parsed else { break };
            client = address;
            if !self.recursive || !self.trusted.contains(address) {
                break;
            }
        }
        (client, true)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(recursive: bool, peer: &str, values: &[&str]) -> String {
        let real = RealIp {
            trusted: TrustedIps::parse(["10.0.0.0/8", "::1"]).unwrap(),
            header: HeaderName::from_static("x-forwarded-for"),
            recursive,
        };
        let mut headers = HeaderMap::new();
        for v in values {
            headers.append("x-forwarded-for", v.parse().unwrap());
        }
        real.find(peer.parse().unwrap(), &headers).0.to_string()
    }

    #[test]
    fn only_trusted_peers_are_believed() {
        assert_eq!(found(false, "192.0.2.1", &["1.1.1.1"]), "192.0.2.1");
        assert_eq!(found(false, "10.1.2.3", &["1.1.1.1"]), "1.1.1.1");
        assert_eq!(found(false, "::ffff:10.1.2.3", &["1.1.1.1"]), "1.1.1.1");
        assert_eq!(found(false, "::1", &["1.1.1.1:99"]), "1.1.1.1");
        assert_eq!(found(false, "10.1.2.3", &[]), "10.1.2.3");
    }

    #[test]
    fn trusted_hops_are_skipped_when_recursive() {
        assert_eq!(found(false, "10.0.0.1", &["2.2.2.2, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(found(true, "10.0.0.1", &["2.2.2.2, 10.0.0.2"]), "2.2.2.2");
        assert_eq!(
            found(true, "10.0.0.1", &["3.3.3.3, 2.2.2.2", "10.0.0.2"]),
            "2.2.2.2"
        );
        assert_eq!(found(true, "10.0.0.1", &["garbage, 10.0.0.2"]), "10.0.0.2");
    }

    #[test]
    fn blocks_that_are_none_are_named() {
        assert_eq!(
            TrustedIps::parse(["10.0.0.0/33"]),
            Err(InvalidBlock("10.0.0.0/33".into()))
        );
        assert!(
            TrustedIps::parse(["0.0.0.0/0"])
                .unwrap()
                .contains("8.8.8.8".parse().unwrap())
        );
    }
}
