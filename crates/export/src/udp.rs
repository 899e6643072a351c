//! Datagrams to one server.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::SendError;
use crate::queue::Deliver;

/// How long the addresses of a name are believed.
const RESOLVED_FOR: Duration = Duration::from_secs(30);

/// Sends datagrams to one server.
pub struct UdpSender {
    host: String,
    port: u16,
    timeout: Duration,
    socket: Mutex<Option<(UdpSocket, Instant)>>,
}

impl UdpSender {
    /// Sends to a server. `timeout` is for resolving its name and for sending.
    pub fn new(host: impl Into<String>, port: u16, timeout: Duration) -> Self {
        UdpSender {
            host: host.into(),
            port,
            timeout,
            socket: Mutex::new(None),
        }
    }

    /// Sends each as a datagram of its own.
    ///
    /// # Errors
    /// The first failure. Those after the one that failed are sent all the same.
    pub async fn send<B: AsRef<[u8]>>(
        &self,
        datagrams: impl IntoIterator<Item = B>,
    ) -> Result<(), SendError> {
        let mut kept = self.socket.lock().await;
        let (socket, since) = match kept.take() {
            Some((socket, since)) if since.elapsed() < RESOLVED_FOR => (socket, since),
            _ => {
                let connected = self.connect().await;
                (connected.map_err(SendError::Connect)?, Instant::now())
            }
        };
        let mut failed = None;
        for datagram in datagrams {
            let datagram = datagram.as_ref();
            let mut sent = self.send_one(&socket, datagram).await;
            if matches!(&sent, Err(e) if e.kind() == io::ErrorKind::ConnectionRefused) {
                // That is about an earlier datagram, which nobody took; this one has not been sent yet.
                sent = self.send_one(&socket, datagram).await;
            }
            if let Err(e) = sent {
                failed.get_or_insert(e);
            }
        }
        match failed {
            Some(e) => Err(SendError::Send(e)),
            None => {
                *kept = Some((socket, since));
                Ok(())
            }
        }
    }

    async fn send_one(&self, socket: &UdpSocket, datagram: &[u8]) -> io::Result<()> {
        let sent = timeout(self.timeout, socket.send(datagram)).await;
        let sent = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        sent.map(drop)
    }

    async fn connect(&self) -> io::Result<UdpSocket> {
        let found = timeout(self.timeout, lookup_host((self.host.as_str(), self.port))).await;
        let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for to in found {
            let from: IpAddr = if to.is_ipv4() {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            };
            let socket = UdpSocket::bind(SocketAddr::new(from, 0)).await?;
            match socket.connect(to).await {
                Ok(()) => return Ok(socket),
                Err(e) => failed = e,
            }
        }
        Err(failed)
    }
}

/// A queue of datagrams.
impl Deliver for UdpSender {
    type Entry = String;

    async fn deliver(&self, batch: &[String]) -> Result<(), String> {
        self.send(batch).await.map_err(|e| e.to_string())
    }
}

impl fmt::Debug for UdpSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UdpSender({}:{})", self.host, self.port)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
