//! Whether a matched route may be used over the request's protocol.

use silverback_entities::Protocol;
use silverback_entities::Route;

/// What to answer before a matched request is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolVerdict {
    /// The request may go on.
    Fine,
    /// The route wants TLS. 426 asks for an upgrade; 301, 302, 307 and 308 redirect to the same URL with `https`.
    NeedsHttps {
        /// The route's `https_redirect_status_code`.
        status: u16,
    },
    /// gRPC over HTTP/1: 426, `Upgrade: HTTP/2`.
    NeedsHttp2,
    /// Something else than gRPC on a gRPC route: 415.
    NotGrpc,
    /// gRPC in clear text on a route for gRPC over TLS: status 200 with `grpc-status: 1`.
    NeedsGrpcTls,
}

pub(crate) fn wants_https(route: &Route) -> bool {
    route.protocols.contains(&Protocol::Https) && !route.protocols.contains(&Protocol::Http)
}

/// What a route says of the protocols it is for, read from its row once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolRule {
    https_only: bool,
    grpc: bool,
    grpcs: bool,
    redirect_status: u16,
}

impl ProtocolRule {
    /// A route's.
    pub fn of(route: &Route) -> Self {
        ProtocolRule {
            https_only: wants_https(route),
            grpc: route.protocols.contains(&Protocol::Grpc),
            grpcs: route.protocols.contains(&Protocol::Grpcs),
            redirect_status: route.https_redirect_status_code,
        }
    }

    /// Judges the protocol of a request whose route was found.
    ///
    /// `forwarded_proto` is the connection's scheme, or what a trusted proxy says of it in `X-Forwarded-Proto`.
    /// A route for `http` alone serves `https` too. Learnt from the access phase in `kong/runloop/handler.lua`.
    pub fn verdict(
        self,
        forwarded_proto: &str,
        http2: bool,
        content_type: Option<&[u8]>,
    ) -> ProtocolVerdict {
        if self.https_only && forwarded_proto != "https" {
            return ProtocolVerdict::NeedsHttps {
                status: self.redirect_status,
            };
        }
        if self.grpc || self.grpcs {
            if !content_type.is_some_and(|t| t.starts_with(b"application/grpc")) {
                return ProtocolVerdict::NotGrpc;
            }
            if !http2 {
                return ProtocolVerdict::NeedsHttp2;
            }
            if !self.grpc && forwarded_proto != "https" {
                return ProtocolVerdict::NeedsGrpcTls;
            }
        }
        ProtocolVerdict::Fine
    }
}

#[cfg(test)]
mod tests {
    use super::ProtocolVerdict::*;
    use super::*;
    use crate::oracle::route;

    #[test]
    fn https_only_routes_ask_for_tls_with_the_routes_status() {
        let r = route(1, |r| {
            r.protocols = vec![Protocol::Https];
            r.https_redirect_status_code = 308;
        });
        assert_eq!(
            ProtocolRule::of(&r).verdict("http", false, None),
            NeedsHttps { status: 308 }
        );
        assert_eq!(ProtocolRule::of(&r).verdict("https", false, None), Fine);
    }

    #[test]
    fn http_only_routes_serve_https_too() {
        let r = route(1, |r| r.protocols = vec![Protocol::Http]);
        assert_eq!(ProtocolRule::of(&r).verdict("https", false, None), Fine);
    }

    #[test]
    fn grpc_routes_want_grpc_over_http2() {
        let r = route(1, |r| r.protocols = vec![Protocol::Grpc]);
        assert_eq!(ProtocolRule::of(&r).verdict("http", true, None), NotGrpc);
        assert_eq!(
            ProtocolRule::of(&r).verdict("http", true, Some(b"text/plain")),
            NotGrpc
        );
        assert_eq!(
            ProtocolRule::of(&r).verdict("http", false, Some(b"application/grpc")),
            NeedsHttp2
        );
        assert_eq!(
            ProtocolRule::of(&r).verdict("http", true, Some(b"application/grpc+proto")),
            Fine
        );
    }

    #[test]
    fn grpcs_routes_want_tls() {
        let r = route(1, |r| r.protocols = vec![Protocol::Grpcs]);
        assert_eq!(
            ProtocolRule::of(&r).verdict("http", true, Some(b"application/grpc")),
            NeedsGrpcTls
        );
        assert_eq!(
            ProtocolRule::of(&r).verdict("https", true, Some(b"application/grpc")),
            Fine
        );
    }
}
