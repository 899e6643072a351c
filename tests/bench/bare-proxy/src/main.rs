//! The yardstick of the benchmarks: as little as a Pingora proxy can do. `bare-proxy LISTEN UPSTREAM THREADS`
//!
//! It knows one upstream, looks at nothing and changes nothing; connections to the upstream are kept alive. Its runtime does
//! not steal work, as the gateway's does not, and it is built with the same profile: what the gateway costs more is its own.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Bare {
    peer: HttpPeer,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(
        &self,
        _: &mut Session,
        (): &mut (),
    ) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, threads] = args.as_slice() else {
        return Err("usage: bare-proxy LISTEN UPSTREAM THREADS".into());
    };
    let upstream: SocketAddr = upstream.parse()?;
    let conf = ServerConf {
        threads: threads.parse()?,
        work_stealing: false,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    // One upstream, and its address is no name that would have to be looked up.
    #[allow(clippy::disallowed_methods)]
    let peer = HttpPeer::new(upstream, false, String::new());
    let mut proxy = http_proxy_service(&Arc::clone(&server.configuration), Bare { peer });
    proxy.add_tcp(listen);
    server.add_service(proxy);
    server.run_forever()
}
