//! Where an attempt goes: an address of the service's host, or a target of its upstream.

use std::borrow::Cow;
use std::net::SocketAddr;

use http::{HeaderValue, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use silverback_balancer::{HashInput, Outcome};
use silverback_plugin::{Facts, cookie, shown};
use silverback_router::{Match, Router, normalize_path, strip_query};
use silverback_runtime::Destination;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::exchange::Exchange;
use crate::names::W_SET_COOKIE;

/// No address: the name does not resolve.
pub(crate) const DNS: ErrorType = ErrorType::Custom("NameResolution");
/// No address: the upstream has no target that could be asked.
pub(crate) const NO_PEER: ErrorType = ErrorType::Custom("NoPeer");

/// What a request is told apart by from others that go to the same upstream.
#[derive(Debug, Default)]
pub(crate) struct Hashed {
    value: Vec<u8>,
    /// Given to a client that had none: name, value and `Path`.
    cookie: Option<(String, String)>,
}

/// Chooses the address of the next attempt, not one that was tried if there is another. Waits for DNS only when nothing is known.
pub(crate) async fn choose(session: &Session, x: &mut Exchange) -> Result<SocketAddr> {
    // What the attempt before counted for is over.
    x.pick = None;
    let tried: SmallVec<[SocketAddr; 4]> = x.facts.attempts.iter().map(|a| a.target).collect();
    // Fields apart, so that the balancer can be looked at while the rest is filled: a handle of its own would be counted up and down by
    // all threads.
    let Exchange {
        snapshot,
        route,
        found,
        facts,
        pick,
        hashed,
        ..
    } = x;
    let route = route.map(|r| &snapshot.routes[r]);
    let Some(service) = route.and_then(|r| r.service.as_deref()) else {
        return Error::e_explain(
            ErrorType::InternalError,
            "a request without service was to be proxied",
        );
    };
    match &service.destination {
        Destination::Host(pool) => match pool.try_pick(&tried) {
            Some(target) => Ok(target),
            None => Box::pin(pool.pick(&tried)).await.map_err(|e| {
                let request_id = facts.request_id();
                tracing::error!(request_id, host = pool.host(), "{e}");
                Error::because(DNS, "choosing a target", e)
            }),
        },
        Destination::Upstream(balancer) => {
            if !balancer.inputs().is_empty() && hashed.is_none() {
                let asked = Asked {
                    session,
                    facts,
                    router: &snapshot.router,
                    found: found.as_ref(),
                };
                *hashed = Some(Box::new(asked.hashed(balancer.inputs())));
            }
            let value = hashed.as_ref().map_or(&[][..], |h| &h.value);
            let picked = match balancer.try_pick(value, &tried) {
                Some(picked) => picked,
                None => Box::pin(balancer.pick(value, &tried)).await,
            };
            match picked {
                Ok(picked) => Ok(pick.insert(picked).addr),
                Err(e) => {
                    let (request_id, upstream) = (facts.request_id(), balancer.name());
                    tracing::error!(request_id, upstream, "failure to get a peer: {e}");
                    Err(Error::because(NO_PEER, "choosing a target", e))
                }
            }
        }
    }
}

/// Takes in how the present attempt ended, for the health of its target.
pub(crate) fn ended(x: &Exchange, outcome: Outcome) {
    if let (Some(pick), Some(Destination::Upstream(balancer))) =
        (&x.pick, x.service().map(|s| &s.destination))
    {
        balancer.ended(pick, outcome);
    }
}

/// A request, for what is to be hashed of it.
struct Asked<'a> {
    session: &'a Session,
    facts: &'a Facts,
    router: &'a Router,
    found: Option<&'a Match>,
}

impl<'a> Asked<'a> {
    /// What is hashed of a request: the first that it has. A request that has none of them is like all others that have none.
    fn hashed(&self, inputs: &[HashInput]) -> Hashed {
        for input in inputs {
            if let Some(value) = self.value_of(input) {
                return Hashed {
                    value: value.into_owned(),
                    cookie: None,
                };
            }
            if let HashInput::Cookie { name, path } = input {
                let id = Uuid::new_v4().to_string();
                return Hashed {
                    cookie: Some((
                        name.clone(),
                        format!("{name}={id}; Path={path}; Same-Site=Lax; HttpOnly"),
                    )),
                    value: id.into_bytes(),
                };
            }
        }
        Hashed::default()
    }

    fn value_of(&self, input: &HashInput) -> Option<Cow<'a, [u8]>> {
        let client = self.session.req_header();
        let target = client.raw_path();
        let owned = |text: String| Some(Cow::Owned(text.into_bytes()));
        match input {
            HashInput::Consumer => {
                let consumer = self.facts.consumer.as_ref().map(|c| c.id);
                let id = consumer.or_else(|| self.facts.credential.as_ref().map(|c| c.id))?;
                owned(id.to_string())
            }
            HashInput::Ip => owned(self.facts.client_ip.to_string()),
            HashInput::Header(name) => {
                let mut all = client
                    .headers
                    .get_all(name)
                    .iter()
                    .map(HeaderValue::as_bytes);
                let first = all.next()?;
                let rest: Vec<_> = all.collect();
                if rest.is_empty() {
                    return Some(Cow::Borrowed(first));
                }
                let all: Vec<_> = std::iter::once(first).chain(rest).collect();
                Some(Cow::Owned(all.join(&b", "[..])))
            }
            HashInput::Cookie { name, .. } => {
                cookie::find(&client.headers, name).map(Cow::Borrowed)
            }
            HashInput::Path => Some(normalize_path(strip_query(target))),
            HashInput::QueryArg(name) => {
                let query = target.get(strip_query(target).len() + 1..)?;
                let named = shown::arguments(query).filter(|(n, _)| n == name);
                // One without a value is `true` to Kong.
                let mut values: Vec<_> = named
                    .map(|(_, v)| v.unwrap_or(Cow::Borrowed("true")))
                    .collect();
                values.sort_unstable();
                (!values.is_empty()).then(|| Cow::Owned(values.join(",").into_bytes()))
            }
            HashInput::UriCapture(group) => {
                let path = normalize_path(strip_query(target));
                let found = self.router.captures(self.found?, &path)?;
                let named = found
                    .named
                    .into_iter()
                    .find(|(n, _)| n == group)
                    .map(|(_, v)| v);
                let numbered = || {
                    found
                        .numbered
                        .into_iter()
                        .nth(group.parse().ok()?)
                        .flatten()
                };
                owned(named.or_else(numbered)?)
            }
        }
    }
}

/// Gives the client the cookie by which its next request goes where this one went, in place of one of the same name.
pub(crate) fn set_cookie(resp: &mut ResponseHeader, x: &Exchange) -> Result<()> {
    let Some((name, text)) = x.hashed.as_ref().and_then(|h| h.cookie.as_ref()) else {
        return Ok(());
    };
    let is_same = |v: &HeaderValue| {
        let rest = v.as_bytes().strip_prefix(name.as_bytes());
        rest.is_some_and(|rest| rest.first() == Some(&b'='))
    };
    let before = resp.headers.get_all(header::SET_COOKIE);
    let others: Vec<_> = before.iter().filter(|v| !is_same(v)).cloned().collect();
    resp.remove_header(&header::SET_COOKIE);
    for other in others {
        resp.append_header(W_SET_COOKIE, other)?;
    }
    resp.append_header(W_SET_COOKIE, text.as_str())?;
    Ok(())
}
