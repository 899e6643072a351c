//! What is known about a request, for all plugins to read.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use compact_str::CompactString;
use serde_json::{Map, Value};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::RetryTerms;
use crate::log_values::LogValues;
use crate::prepared::Prepared;
use crate::slots::Slots;

/// The id of the one workspace. Kong has this one without a database (`DECLARATIVE_DEFAULT_WORKSPACE_ID` in `kong/constants.lua`); with one
/// it makes up another at each installation.
pub const WORKSPACE_ID: &str = "0dc6f45b-8f8d-40d2-a504-473544ee190b";

/// The name of the one workspace.
pub const WORKSPACE_NAME: &str = "default";

/// A consumer, as plugins see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Consumer {
    /// Primary key.
    pub id: Uuid,
    /// Name.
    pub username: Option<CompactString>,
    /// Id in the user's own system.
    pub custom_id: Option<CompactString>,
}

/// Text that a credential is found by. That of a usual key lies where the credential lies, so that looking at it costs nothing more.
pub type Lookup = SmallVec<[u8; 40]>;

/// A credential found by its lookup field.
#[derive(Debug, Clone)]
// What finding one looks at stands first, side by side.
#[repr(C)]
pub struct Credential {
    /// The lookup field: a key, a name.
    pub lookup: Lookup,
    /// Whose it is.
    pub consumer: Arc<Consumer>,
    /// Seconds since 1970 after which it is void.
    pub expires_at: Option<i64>,
    /// Primary key.
    pub id: Uuid,
    /// The entity's other fields, without id, times, consumer, tags and the lookup field; empty for a key.
    pub extra: Map<String, Value>,
    /// What its plugin made of it.
    pub prepared: Prepared,
}

/// A row that a plugin gives out while requests are served, such as a token or a session: of an entity with a lookup field that is nobody's
/// credential.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The lookup field.
    pub lookup: Lookup,
    /// Seconds since 1970 after which it is void.
    pub expires_at: Option<i64>,
    /// Primary key.
    pub id: Uuid,
    /// The entity's other fields that are not null.
    pub fields: Map<String, Value>,
    /// The credential that it was given out to, where one of its fields refers to one.
    pub credential: Option<Arc<Credential>>,
}

/// Finds consumers and credentials; answered from the node's memory.
pub trait Directory: Send + Sync {
    /// A credential of the named entity (`keyauth_credentials`) by its lookup field. One that has expired is not found.
    fn credential(&self, entity: &'static str, key: &str) -> Option<&Arc<Credential>>;
    /// Something given out, of the named entity (`oauth2_tokens`), by its lookup field. What has expired is not found.
    fn issued(&self, entity: &'static str, key: &str) -> Option<&Arc<Issued>>;
    /// A consumer by id or, failing that, by username.
    fn consumer(&self, id_or_username: &str) -> Option<&Arc<Consumer>>;
    /// Of an entity whose lookup field is not unique (`acls`): the values of that field in the consumer's rows, in the order of the rows'
    /// ids.
    fn values_of(&self, entity: &'static str, consumer: Uuid) -> &[Box<str>];
    /// A row of `routes` or `services` as the Admin API shows it, for plugins that show it; `None` where rows are not kept. Slow.
    fn row(&self, _entity: &str, _id: Uuid) -> Option<Map<String, Value>> {
        None
    }
}

/// The route a request matched, as plugins see it.
#[derive(Debug, Clone)]
pub struct RouteInfo {
    /// Primary key.
    pub id: Uuid,
    /// Name.
    pub name: Option<String>,
}

/// The service behind a route, as plugins see it.
#[derive(Debug, Clone)]
pub struct ServiceInfo {
    /// Primary key.
    pub id: Uuid,
    /// Name.
    pub name: Option<String>,
    /// The host it is configured with: a name, an address, or the name of an upstream.
    pub host: String,
}

/// One try at the upstream; Kong's `tries`.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Where it went.
    pub target: SocketAddr,
    /// When it began.
    pub started: SystemTime,
    /// How long choosing the target took; measured only for requests that some plugin logs.
    pub choosing: Option<Duration>,
    /// How long choosing and connecting took.
    pub connect: Option<Duration>,
    /// The upstream's status, where it answered.
    pub status: Option<u16>,
    /// Why it failed; `None` for the one that did not.
    pub failure: Option<&'static str>,
}

/// Facts about one request, filled as it goes through the phases.
#[derive(Debug)]
pub struct Facts {
    /// 32 lower-case hexadecimal digits.
    pub request_id: [u8; 32],
    /// When the request's header had been read.
    pub started: Instant,
    /// The same on the wall clock.
    pub started_at: SystemTime,
    /// The peer of the connection.
    pub peer: SocketAddr,
    /// The client's address: the peer, or what a trusted proxy says.
    pub client_ip: IpAddr,
    /// Whether the peer is one of the trusted proxies, whose `X-Forwarded-*` are believed.
    pub peer_trusted: bool,
    /// `http` or `https`, of the connection.
    pub scheme: &'static str,
    /// The listener's port.
    pub port: u16,
    /// The listener's address, as the client reached it; `None` where the proxy does not know it.
    pub server: Option<IpAddr>,
    /// Serial number of the connection on this node, from 1; 0 where it is not known.
    pub connection: u64,
    /// Which request of its connection this is, from 1.
    pub connection_requests: u64,
    /// Set by an authentication plugin.
    pub consumer: Option<Arc<Consumer>>,
    /// Set by an authentication plugin.
    pub credential: Option<Arc<Credential>>,
    /// The tries at the upstream so far.
    pub attempts: SmallVec<[Attempt; 1]>,
    /// Terms of retrying, when a plugin gave some.
    pub retry: Option<Arc<RetryTerms>>,
    /// When access ended and the upstream was turned to.
    pub proxied: Option<Instant>,
    /// When the upstream's response header had been read.
    pub upstream_header: Option<Instant>,
    /// Whether the response is the gateway's own.
    pub local_response: bool,
    /// When the head of the gateway's own response was made.
    pub responded: Option<Instant>,
    /// Status sent to the client.
    pub status: u16,
    /// Bytes of the response's body sent to the client.
    pub response_bytes: u64,
    /// Bytes of the request's body received.
    pub request_bytes: u64,
    /// What plugins add to what is logged.
    pub log_values: LogValues,
    /// State of plugins.
    pub slots: Slots,
}

impl Facts {
    /// The present moment, by the request's clock. Access may come long after the head: other plugins wait for the body.
    pub fn now(&self) -> SystemTime {
        self.started_at + self.started.elapsed()
    }

    /// Facts of a request that has just arrived.
    pub fn new(request_id: [u8; 32], peer: SocketAddr, scheme: &'static str, port: u16) -> Self {
        Facts {
            request_id,
            started: Instant::now(),
            started_at: SystemTime::now(),
            peer,
            client_ip: peer.ip(),
            peer_trusted: false,
            scheme,
            port,
            server: None,
            connection: 0,
            connection_requests: 1,
            consumer: None,
            credential: None,
            attempts: SmallVec::new(),
            retry: None,
            proxied: None,
            upstream_header: None,
            local_response: false,
            responded: None,
            status: 0,
            response_bytes: 0,
            request_bytes: 0,
            log_values: LogValues::default(),
            slots: Slots::default(),
        }
    }

    /// The request id as text.
    pub fn request_id(&self) -> &str {
        std::str::from_utf8(&self.request_id).unwrap_or_default()
    }
}
