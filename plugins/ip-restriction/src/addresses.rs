//! A set of addresses, given as blocks, that is asked for one address at a time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use silverback_plugin::ConfigError;

/// The blocks, sorted and without those that lie in others, so that an address is found by bisection.
#[derive(Debug)]
pub(crate) struct Addresses {
    v4: Box<[(Ipv4Addr, Ipv4Addr)]>,
    v6: Box<[(Ipv6Addr, Ipv6Addr)]>,
}

impl Addresses {
    /// From addresses and blocks; IPv6 may be in brackets, as the schema allows it.
    pub(crate) fn compile(field: &str, blocks: &[String]) -> Result<Self, ConfigError> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for text in blocks {
            let bare = text.replace(['[', ']'], "");
            let block = bare.parse::<IpNet>();
            let block = block.or_else(|e| bare.parse::<IpAddr>().map(IpNet::from).map_err(|_| e));
            match block {
                Ok(IpNet::V4(block)) => v4.push(block),
                Ok(IpNet::V6(block)) => v6.push(block),
                Err(_) => {
                    let why = format!("invalid ip or cidr range: '{text}'");
                    return Err(ConfigError::new(field, why));
                }
            }
        }
        let bounds4 = |b: Ipv4Net| (b.network(), b.broadcast());
        let bounds6 = |b: Ipv6Net| (b.network(), b.broadcast());
        Ok(Addresses {
            v4: Ipv4Net::aggregate(&v4).into_iter().map(bounds4).collect(),
            v6: Ipv6Net::aggregate(&v6).into_iter().map(bounds6).collect(),
        })
    }

    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => within(&self.v4, ip),
            IpAddr::V6(ip) => within(&self.v6, ip),
        }
    }
}

/// Whether an address lies between the bounds of one of the blocks.
fn within<A: Ord + Copy>(blocks: &[(A, A)], ip: A) -> bool {
    let after = blocks.partition_point(|(first, _)| *first <= ip);
    after
        .checked_sub(1)
        .is_some_and(|last| ip <= blocks[last].1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn addresses(blocks: &[&str]) -> Addresses {
        let blocks: Vec<String> = blocks.iter().map(|b| (*b).to_owned()).collect();
        Addresses::compile("allow", &blocks).unwrap()
    }

    fn contains(set: &Addresses, ip: &str) -> bool {
        set.contains(ip.parse().unwrap())
    }

    #[test]
    fn blocks_are_found_whatever_their_order_and_overlap() {
        let set = addresses(&[
            "192.168.7.9/16",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "1.2.3.4",
            "1.2.3.5/32",
            "fd00::/8",
            "::1",
            "[2001:db8::7]",
            "[2001:db8:1::]/48",
        ]);
        for inside in [
            "10.0.0.0",
            "10.1.2.3",
            "10.255.255.255",
            "192.168.0.1",
            "1.2.3.4",
            "1.2.3.5",
            "::1",
            "fd12:3::4",
            "2001:db8::7",
            "2001:db8:1:ffff::",
        ] {
            assert!(contains(&set, inside), "{inside}");
        }
        for outside in [
            "9.255.255.255",
            "11.0.0.0",
            "1.2.3.3",
            "1.2.3.6",
            "0.0.0.0",
            "255.255.255.255",
            "::",
            "::2",
            "fc00::",
            "2001:db8:2::",
        ] {
            assert!(!contains(&set, outside), "{outside}");
        }
    }

    #[test]
    fn each_family_has_its_own_all() {
        let v4 = addresses(&["0.0.0.0/0"]);
        assert!(contains(&v4, "0.0.0.0") && contains(&v4, "255.255.255.255"));
        assert!(!contains(&v4, "::"));
        let v6 = addresses(&["::/0"]);
        assert!(contains(&v6, "::") && contains(&v6, "ffff::ffff"));
        assert!(!contains(&v6, "1.2.3.4"));
        assert!(!contains(&addresses(&[]), "1.2.3.4"));
    }

    #[test]
    fn what_is_no_address_is_named() {
        for bad in ["x", "1.2.3.4/33", "1.2.3.4/", "::/129", "1.2.3.4/-1"] {
            let refused = Addresses::compile("deny", &[bad.to_owned()]).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!("deny: invalid ip or cidr range: '{bad}'")
            );
        }
    }
}
