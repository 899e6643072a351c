//! Whose use is counted.

use std::fmt;
use std::net::IpAddr;

use silverback_plugin::Facts;
use uuid::Uuid;

/// Who is counted as a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The consumer, or else the credential.
    Consumer,
    /// The credential.
    Credential,
    /// The client's address.
    Ip,
}

/// Who or what is counted. Displayed as in Kong's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identifier<'a> {
    /// A row of the configuration.
    Id(Uuid),
    /// An address.
    Ip(IpAddr),
    /// Any text, such as the value of a header.
    Text(&'a [u8]),
}

impl Caller {
    /// Who sent this request; the client's address where nothing else is known.
    pub fn of(self, facts: &Facts) -> Identifier<'static> {
        let credential = || facts.credential.as_ref().map(|c| c.id);
        let known = match self {
            Caller::Consumer => facts.consumer.as_ref().map(|c| c.id).or_else(credential),
            Caller::Credential => credential(),
            Caller::Ip => None,
        };
        known.map_or(Identifier::Ip(facts.client_ip), Identifier::Id)
    }
}

impl fmt::Display for Identifier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identifier::Id(id) => id.as_hyphenated().fmt(f),
            Identifier::Ip(ip) => ip.fmt(f),
            Identifier::Text(text) => f.write_str(&String::from_utf8_lossy(text)),
        }
    }
}
