//! Metrics on their way to a server.

use std::fmt;
use std::time::Duration;

use crate::queue::Deliver;
use crate::{Limited, SendError, TcpSender, UdpSender};

/// How long it may take to resolve a name, and to send a datagram.
const UDP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take to connect, and to send.
const TCP_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an idle connection is kept.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Sends metrics to one server. An entry of its queue is what one exchange gave: lines, each with its end.
pub struct StatsdSender {
    server: String,
    way: Way,
    lost: Limited,
}

enum Way {
    Udp {
        sender: UdpSender,
        /// Metrics share a datagram up to this many bytes.
        packet_size: usize,
    },
    Tcp(TcpSender),
}

impl StatsdSender {
    /// Over UDP. Metrics share a datagram as long as it has no more than `packet_size` bytes; with 0 each has its own.
    pub fn udp(host: &str, port: u16, packet_size: usize) -> Self {
        let sender = UdpSender::new(host, port, UDP_TIMEOUT);
        Self::by(
            host,
            port,
            Way::Udp {
                sender,
                packet_size,
            },
        )
    }

    /// Over TCP.
    pub fn tcp(host: &str, port: u16) -> Self {
        let sender = TcpSender::new(host, port, TCP_TIMEOUT, KEEPALIVE);
        Self::by(host, port, Way::Tcp(sender))
    }

    fn by(host: &str, port: u16, way: Way) -> Self {
        StatsdSender {
            server: format!("{host}:{port}"),
            way,
            lost: Limited::default(),
        }
    }
}

impl Deliver for StatsdSender {
    type Entry = String;

    async fn deliver(&self, batch: &[String]) -> Result<(), String> {
        let sent = match &self.way {
            Way::Udp {
                sender,
                packet_size,
            } => sender.send(datagrams(batch, *packet_size)).await,
            Way::Tcp(sender) => sender.send(batch.concat().as_bytes()).await,
        };
        match sent {
            Ok(()) => Ok(()),
            // Some of it may have arrived, and a counter must not count twice.
            Err(e @ SendError::Send(_)) => {
                if let Some(n) = self.lost.due(batch.len() as u64) {
                    tracing::error!(
                        server = self.server,
                        "the metrics of {n} exchanges were lost: {e}"
                    );
                }
                Ok(())
            }
            Err(e) => Err(e.to_string()),
        }
    }
}

impl fmt::Debug for StatsdSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatsdSender({})", self.server)
    }
}

/// The lines of a batch, as many to a datagram as fit. One that does not fit by itself has a datagram of its own.
pub(super) fn datagrams(batch: &[String], size: usize) -> Vec<String> {
    let lines = batch.iter().flat_map(|lines| lines.split_terminator('\n'));
    let mut datagrams: Vec<String> = Vec::new();
    for line in lines {
        match datagrams.last_mut() {
            Some(last) if last.len() + 1 + line.len() <= size => {
                last.push('\n');
                last.push_str(line);
            }
            _ => datagrams.push(line.to_owned()),
        }
    }
    datagrams
}
