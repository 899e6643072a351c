//! Whose requests are counted together.

use std::fmt;
use std::net::IpAddr;

use http::HeaderName;
use silverback_plugin::AccessCtx;
use silverback_plugin::schema::checks::normalize_path;
use uuid::Uuid;

/// What identifies a caller.
#[derive(Debug)]
pub(crate) enum LimitBy {
    Consumer,
    Credential,
    Ip,
    Service,
    Header(HeaderName),
    Path(String),
}

/// A caller. Displayed as in Kong's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identifier<'a> {
    Id(Uuid),
    Ip(IpAddr),
    Text(&'a [u8]),
}

impl LimitBy {
    /// Who sent this request; the client's address where nothing else is known.
    pub(crate) fn of<'a>(&'a self, ctx: &'a AccessCtx<'_>) -> Identifier<'a> {
        let facts = &*ctx.facts;
        let known = match self {
            LimitBy::Ip => None,
            LimitBy::Consumer => {
                let consumer = facts.consumer.as_ref().map(|c| c.id);
                consumer
                    .or_else(|| facts.credential.as_ref().map(|c| c.id))
                    .map(Identifier::Id)
            }
            LimitBy::Credential => facts.credential.as_ref().map(|c| Identifier::Id(c.id)),
            LimitBy::Service => ctx.service.map(|s| Identifier::Id(s.id)),
            LimitBy::Header(name) => ctx.header(name).map(|v| Identifier::Text(v.as_bytes())),
            LimitBy::Path(path) => {
                is(ctx.request.path(), path).then_some(Identifier::Text(path.as_bytes()))
            }
        };
        known.unwrap_or(Identifier::Ip(facts.client_ip))
    }
}

fn is(raw: &[u8], path: &str) -> bool {
    if raw == path.as_bytes() {
        return true;
    }
    let odd = raw.contains(&b'%') || raw.windows(2).any(|w| w == b"//" || w == b"/.");
    odd && normalize_path(raw) == path.as_bytes()
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
