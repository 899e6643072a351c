//! From the request's head to the decision whether it goes upstream: rewrite, routing, access. Learnt from the `rewrite` and
//! `access` phases in `kong/init.lua` and `kong/runloop/handler.lua`.

use std::net::SocketAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version, header};
use pingora_core::{ErrorType, OrErr, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use silverback_plugin::context::BodySource;
use silverback_plugin::{AccessCtx, CaptureSource, Captures, HeaderKey, Phases, Response};
use silverback_retry::{Decision, Tries};
use silverback_router::{
    Match, ProtocolVerdict, Request, Router, forwarded_prefix, normalize_path, split_host_port,
    strip_query, upstream_path,
};
use silverback_runtime::Outcome;
use silverback_telemetry::RetryOutcome;
use smallvec::SmallVec;

use crate::body::{Body, Left, NoBody};
use crate::errors::text_of;
use crate::exchange::{Exchange, at, authority, now, view};
use crate::framing::{valid_host, valid_path};
use crate::names::{
    FORWARDED_HOST, FORWARDED_PROTO, GRPC_ATTEMPTS, K_CONNECTION, K_CONTENT_TYPE, K_GRPC_MESSAGE,
    K_GRPC_STATUS, K_UPGRADE, KONG_DEBUG, RETRY_ATTEMPT,
};
use crate::respond::{Origin, handled, redirect, respond};
use crate::tls::ServerName;
use crate::upstream_headers::plain_host;

/// Runs a request up to the point where it goes upstream. Answers whether a response was sent instead.
pub(crate) async fn handle(session: &mut Session, x: &mut Exchange) -> Result<bool> {
    if session.req_header().version == Version::HTTP_2 {
        join_cookies(session.req_header_mut())?;
    }
    meet(session, x);
    if let Some(refusal) = examine(session, x) {
        return answer(session, x, refusal).await;
    }
    if x.snapshot.global.has(Phases::REWRITE)
        && let Some(response) = phase(session, x, true).await
    {
        return answer(session, x, response).await;
    }
    if let Some(response) = find_route(session, x) {
        return answer(session, x, response).await;
    }
    if !x.chain().is_empty()
        && let Some(response) = phase(session, x, false).await
    {
        return answer(session, x, response).await;
    }
    if let Some(response) = before_proxying(session, x) {
        return answer(session, x, response).await;
    }
    let client = session.req_header();
    if client.version == Version::HTTP_11
        && client
            .headers
            .get(header::EXPECT)
            .is_some_and(|e| e.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        && !session.is_body_done()
    {
        Box::pin(session.write_continue_response()).await?;
    }
    Ok(false)
}

async fn answer(session: &mut Session, x: &mut Exchange, response: Response) -> Result<bool> {
    // Rare next to requests that go upstream, whose future stays small without this one in it.
    Box::pin(respond(session, x, response, Origin::Gateway)).await?;
    Ok(true)
}

/// HTTP/2 clients may send each cookie in a field of its own, which nobody else understands (RFC 9113, 8.2.3): plugins and the upstream
/// see them as HTTP/1 has them.
fn join_cookies(head: &mut RequestHeader) -> Result<()> {
    let cookies: SmallVec<[&[u8]; 8]> = head
        .headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if cookies.len() < 2 {
        return Ok(());
    }
    let joined = Bytes::from(cookies.join(&b"; "[..]));
    drop(cookies);
    let joined = HeaderValue::from_maybe_shared(joined)
        .or_err(ErrorType::InvalidHTTPHeader, "joining cookies")?;
    head.insert_header(header::COOKIE, joined)
}

/// Notes who calls, and over what.
fn meet(session: &Session, x: &mut Exchange) {
    let inet = |a: Option<&pingora_core::protocols::l4::socket::SocketAddr>| {
        a.and_then(|a| a.as_inet().copied())
    };
    if let Some(peer) = inet(session.client_addr()) {
        x.facts.peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    }
    if let Some(local) = inet(session.server_addr()) {
        x.facts.port = local.port();
        x.facts.server = Some(local.ip().to_canonical());
    }
    if session.digest().is_some_and(|d| d.ssl_digest.is_some()) {
        x.facts.scheme = "https";
    }
    let headers = &session.req_header().headers;
    (x.facts.client_ip, x.facts.peer_trusted) =
        x.shared.config.real_ip.find(x.facts.peer.ip(), headers);
    x.debug = x.shared.config.debug_header && headers.get(&KONG_DEBUG).is_some_and(|v| v == "1");
}

/// What is refused before anything else. HTTP/1 heads were judged before they were parsed; HTTP/2's are judged here.
fn examine(session: &Session, x: &Exchange) -> Option<Response> {
    let client = session.req_header();
    if client.version == Version::HTTP_2 {
        if client.method == Method::TRACE {
            return Some(handled(session, x, 405));
        }
        if !valid_host(authority(client).as_bytes()) || !valid_path(client.raw_path()) {
            return Some(handled(session, x, 400));
        }
    }
    let most = x.shared.config.client_max_body_size;
    if most > 0 {
        let length = client
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|l| l > most) {
            return Some(handled(session, x, 413));
        }
    }
    None
}

/// Finds the route, checks the protocol, and notes what goes upstream; or answers the response to send instead.
fn find_route(session: &Session, x: &mut Exchange) -> Option<Response> {
    let client = session.req_header();
    let target = client.raw_path();
    let raw_path = strip_query(target);
    let path = normalize_path(raw_path);
    let (host, host_port) = split_host_port(authority(client));
    let content_type = client
        .headers
        .get(header::CONTENT_TYPE)
        .map(HeaderValue::as_bytes);
    let http2 = client.version == Version::HTTP_2;
    let tls = x.facts.scheme == "https";
    let grpc = http2 && content_type.is_some_and(|t| t.starts_with(b"application/grpc"));
    let digest = session.digest().and_then(|d| d.ssl_digest.as_ref());
    let found = x.snapshot.router.find(&Request {
        method: client.method.as_str(),
        host,
        host_port,
        port: x.facts.port,
        path: &path,
        headers: &client.headers,
        sni: digest
            .and_then(|d| d.extension.get::<ServerName>())
            .map(|n| &*n.0),
        scheme: match (tls, grpc) {
            (true, true) => "grpcs",
            (true, false) => "https",
            (false, true) => "grpc",
            (false, false) => "http",
        },
    });
    let Some(found) = found else {
        return Some(Response::error(
            StatusCode::NOT_FOUND,
            "no Route matched with those values",
        ));
    };
    // Fields apart, so that the route can be looked at while the rest is filled.
    let Exchange {
        snapshot,
        route: matched,
        found: kept,
        target: upstream_target,
        prefix,
        facts,
        ..
    } = x;
    *matched = Some(found.entry);
    *kept = Some(found);
    let route = &snapshot.routes[found.entry];
    route.metrics.prefetch();
    facts.log_values.want(route.chain.has(Phases::LOG));
    let forwarded_proto = if facts.peer_trusted {
        client
            .headers
            .get(&FORWARDED_PROTO)
            .and_then(|v| v.to_str().ok())
    } else {
        None
    };
    match route
        .protocols
        .verdict(forwarded_proto.unwrap_or(facts.scheme), http2, content_type)
    {
        ProtocolVerdict::Fine => {}
        verdict => return Some(wrong_protocol(verdict, client, facts.peer_trusted)),
    }
    let service = route.service.as_ref();
    let base = service.and_then(|s| s.service.path.as_deref());
    let upstream = upstream_path(route.paths, base, &found, &path);
    let query = &target[raw_path.len()..];
    if upstream.as_bytes() != raw_path {
        *upstream_target = Some(Bytes::from([upstream.as_bytes(), query].concat()));
    }
    *prefix = forwarded_prefix(route.paths, &found, &path).map(Bytes::copy_from_slice);
    None
}

fn wrong_protocol(verdict: ProtocolVerdict, client: &Parts, trusted: bool) -> Response {
    let set = |key: &HeaderKey, value| (key.clone(), HeaderValue::from_static(value));
    let asking = |text: &'static str, to: &'static str| {
        let mut r = Response::error(StatusCode::UPGRADE_REQUIRED, text);
        r.headers
            .extend([set(&K_CONNECTION, "Upgrade"), set(&K_UPGRADE, to)]);
        r
    };
    match verdict {
        ProtocolVerdict::Fine | ProtocolVerdict::NeedsHttps { status: 426 } => {
            asking("Please use HTTPS protocol", "TLS/1.2, HTTP/1.1")
        }
        ProtocolVerdict::NeedsHttps { status } => {
            let host = if trusted {
                client
                    .headers
                    .get(&FORWARDED_HOST)
                    .and_then(|v| v.to_str().ok())
            } else {
                None
            };
            let host =
                host.map_or_else(|| plain_host(authority(client)), std::borrow::Cow::Borrowed);
            let target = client.uri.path_and_query().map_or("/", |p| p.as_str());
            let location = HeaderValue::from_str(&["https://", &host, target].concat());
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY);
            redirect(
                status,
                location.unwrap_or(HeaderValue::from_static("https://")),
            )
        }
        ProtocolVerdict::NeedsHttp2 => asking("Please use HTTP2 protocol", "HTTP/2"),
        ProtocolVerdict::NotGrpc => Response::error(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Non-gRPC request matched gRPC route",
        ),
        ProtocolVerdict::NeedsGrpcTls => {
            let mut r = Response::empty(StatusCode::OK);
            r.headers.extend([
                set(&K_CONTENT_TYPE, "application/grpc"),
                set(&K_GRPC_STATUS, "1"),
                set(&K_GRPC_MESSAGE, "gRPC request matched gRPCs route"),
            ]);
            r
        }
    }
}

/// Runs `rewrite` or `access`; answers the response of a plugin that made one.
async fn phase(session: &mut Session, x: &mut Exchange, rewrite: bool) -> Option<Response> {
    let outcome = if session.is_body_empty() {
        let client = session.req_header();
        run(client, client.raw_path(), x, &mut NoBody, rewrite).await
    } else {
        match Box::pin(phase_with_body(session, x, rewrite)).await {
            Ok(outcome) => outcome,
            Err(refusal) => return Some(*refusal),
        }
    };
    match outcome {
        Outcome::Next => None,
        Outcome::Exit(response) => Some(response),
        Outcome::Failed(plugin, text) => {
            tracing::error!(plugin, request_id = x.facts.request_id(), "{text}");
            Some(unexpected())
        }
    }
}

/// The same for a request with a body. `Err` when a plugin read more of it than can be kept.
async fn phase_with_body(
    session: &mut Session,
    x: &mut Exchange,
    rewrite: bool,
) -> std::result::Result<Outcome, Box<Response>> {
    // The body is read through the session, so the head cannot be borrowed from it meanwhile.
    let parts = session.req_header().as_owned_parts();
    let target = session.req_header().raw_path().to_vec();
    let config = &x.shared.config;
    let mut body = Body::new(
        session,
        config.client_read_timeout,
        config.client_max_body_size,
    );
    let outcome = run(&parts, &target, x, &mut body, rewrite).await;
    // A plugin may have read it, and put another in its place, before one came that allows less.
    let refusal = body.length().and_then(|n| x.edits.refusal_of_body(n));
    let refusal = refusal.cloned().map(Box::new);
    let is_too_long = body.is_too_long();
    match (body.finish().await, &outcome) {
        (Left::Intact, _) => {}
        (Left::Preset(body), _) => _ = x.edits.body.get_or_insert(body),
        (Left::Lost, outcome) if is_too_long || matches!(outcome, Outcome::Next) => {
            session.set_keepalive(None);
            return Err(Box::new(handled(session, x, 413)));
        }
        (Left::Lost, _) => session.set_keepalive(None),
    }
    match (refusal, &outcome) {
        (Some(refusal), Outcome::Next) => Err(refusal),
        _ => Ok(outcome),
    }
}

/// The answer when something broke that should not have.
pub(crate) fn unexpected() -> Response {
    Response::error(
        StatusCode::INTERNAL_SERVER_ERROR,
        "An unexpected error occurred",
    )
}

async fn run(
    parts: &Parts,
    target: &[u8],
    x: &mut Exchange,
    body: &mut dyn BodySource,
    rewrite: bool,
) -> Outcome {
    let Exchange {
        snapshot,
        route,
        found,
        picks,
        facts,
        edits,
        target: upstream_target,
        ..
    } = x;
    let route = route.map(|r| &snapshot.routes[r]);
    let mut ctx = AccessCtx {
        request: view(parts, target),
        facts,
        upstream: edits,
        upstream_target: upstream_target.as_deref().unwrap_or(target),
        directory: &**snapshot,
        route: route.map(|r| r.info()),
        service: route.and_then(|r| r.service.as_ref()).map(|s| &s.info),
        body,
        captures: &PathCaptures {
            router: &snapshot.router,
            found: found.as_ref(),
            target,
        },
    };
    match route {
        Some(r) if !rewrite => r.chain.access(picks, &mut ctx).await,
        _ => snapshot.global.rewrite(&mut ctx).await,
    }
}

/// What the route's regular expression matched, found out once more when a plugin asks.
struct PathCaptures<'a> {
    router: &'a Router,
    found: Option<&'a Match>,
    target: &'a [u8],
}

impl CaptureSource for PathCaptures<'_> {
    fn captures(&self) -> Option<Captures> {
        let path = normalize_path(strip_query(self.target));
        let found = self.router.captures(self.found?, &path)?;
        Some(Captures {
            numbered: found.numbered,
            named: found.named,
        })
    }
}

/// Begins the attempts. A request that comes as somebody else's retry pays before it is sent.
fn before_proxying(session: &Session, x: &mut Exchange) -> Option<Response> {
    // Only here: as in Kong a plugin may answer where there is nobody to ask.
    if x.service().is_none() {
        return Some(Response::error(
            StatusCode::SERVICE_UNAVAILABLE,
            "no Service found with those values",
        ));
    }
    let tries = Tries::begin(at(x.facts.started), previous_attempts(session, x));
    x.tries = Some(tries);
    let route = x.route()?;
    route.metrics.prefetch_counters();
    let Decision::Deny(_) = tries.admit(&route.budgets, now())? else {
        return None;
    };
    x.exhausted = true;
    if let Some(service) = x.service() {
        service.metrics.retry(RetryOutcome::DeniedBudget);
    }
    Some(Response::error(
        StatusCode::SERVICE_UNAVAILABLE,
        text_of(503),
    ))
}

/// How many attempts were made at a request before it came here; only trusted peers are asked.
fn previous_attempts(session: &Session, x: &Exchange) -> u32 {
    if !x.facts.peer_trusted {
        return 0;
    }
    let headers = &session.req_header().headers;
    let text = |name| {
        headers
            .get(name)
            .and_then(|v: &HeaderValue| v.to_str().ok())
    };
    silverback_retry::previous_attempts(text(&RETRY_ATTEMPT), text(&GRPC_ATTEMPTS))
}
