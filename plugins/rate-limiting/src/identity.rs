//! Whose requests are counted together.

use http::HeaderName;
use silverback_limits::{Caller, Identifier};
use silverback_plugin::AccessCtx;
use silverback_plugin::schema::checks::normalize_path;

/// What requests are counted by.
#[derive(Debug)]
pub(crate) enum LimitBy {
    Caller(Caller),
    Service,
    Header(HeaderName),
    Path(String),
}

impl LimitBy {
    /// What this request is counted as; by the client's address where nothing else is known.
    pub(crate) fn of<'a>(&'a self, ctx: &'a AccessCtx<'_>) -> Identifier<'a> {
        let known = match self {
            LimitBy::Caller(caller) => return caller.of(ctx.facts),
            LimitBy::Service => ctx.service.map(|s| Identifier::Id(s.id)),
            LimitBy::Header(name) => ctx.header(name).map(|v| Identifier::Text(v.as_bytes())),
            LimitBy::Path(path) => {
                is(ctx.request.path(), path).then_some(Identifier::Text(path.as_bytes()))
            }
        };
        known.unwrap_or_else(|| Caller::Ip.of(ctx.facts))
    }
}

fn is(raw: &[u8], path: &str) -> bool {
    if raw == path.as_bytes() {
        return true;
    }
    let odd = raw.contains(&b'%') || raw.windows(2).any(|w| w == b"//" || w == b"/.");
    odd && normalize_path(raw) == path.as_bytes()
}
