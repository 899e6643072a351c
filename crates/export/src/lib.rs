//! What plugins that send data elsewhere share.
//!
//! * [`Entry`]: what Kong logs of an exchange (`kong.log.serialize`).
//! * [`Queue`]: Kong's batch queue, from proxy threads, which never wait, to a task in the background that sends, and tries again.
//! * [`HttpClient`], [`TcpSender`], [`UdpSender`]: ways out.
//! * [`propagation`]: headers by which traces go from one server to the next.
//! * [`statsd`]: what Kong measures of an exchange, as StatsD's metrics.
//! * [`fields`]: fields that several plugins' configurations have.
//!
//! Plugins import this room beside `silverback-plugin`.

pub mod entry;
pub mod fields;
pub mod http;
mod limited;
pub mod propagation;
pub mod queue;
pub mod receiver;
mod send_error;
pub mod statsd;
pub mod tcp;
pub mod udp;

pub use entry::Entry;
pub use http::{Answer, HttpClient, HttpError, Timeouts};
pub use limited::Limited;
pub use propagation::Propagation;
pub use queue::{Deliver, Queue, QueueConfig, Queued, Terms};
pub use receiver::Receiver;
pub use send_error::SendError;
pub use tcp::TcpSender;
pub use udp::UdpSender;
