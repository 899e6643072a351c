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
    peer: Mutex<Option<Peer>>,
}

/// Where datagrams go.
struct Peer {
    /// To the first address.
    socket: UdpSocket,
    addresses: Vec<SocketAddr>,
    /// How many refusals came one after the other.
    refused: usize,
    since: Instant,
}

impl UdpSender {
    /// Sends to a server. `timeout` is for resolving its name and for sending.
    pub fn new(host: impl Into<String>, port: u16, timeout: Duration) -> Self {
        UdpSender {
            host: host.into(),
            port,
            timeout,
            peer: Mutex::new(None),
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
        let mut kept = self.peer.lock().await;
        let mut peer = match kept.take() {
            Some(peer) if peer.since.elapsed() < RESOLVED_FOR => peer,
            _ => self.find().await.map_err(SendError::Connect)?,
        };
        let mut failed = None;
        for datagram in datagrams {
            let sent = self.send_one(&mut peer, datagram.as_ref()).await;
            if let Err(e) = sent {
                failed.get_or_insert(e);
            }
        }
        match failed {
            Some(e) => Err(SendError::Send(e)),
            None => {
                *kept = Some(peer);
                Ok(())
            }
        }
    }

    /// To the first address that does not refuse it.
    async fn send_one(&self, peer: &mut Peer, datagram: &[u8]) -> io::Result<()> {
        // What comes before this datagram was sent is about an earlier one, which nobody took.
        let mut before = peer.socket.take_error()?;
        if before.is_none() {
            peer.refused = 0;
        }
        loop {
            let failed = match before.take() {
                Some(e) => e,
                None => {
                    let sent = timeout(self.timeout, peer.socket.send(datagram)).await;
                    let sent = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                    // A machine hears of its own refusals at once.
                    match sent.and_then(|_| peer.socket.take_error()) {
                        Ok(None) => return Ok(()),
                        Ok(Some(e)) | Err(e) => e,
                    }
                }
            };
            if failed.kind() != io::ErrorKind::ConnectionRefused {
                return Err(failed);
            }
            peer.refused += 1;
            // One more than there are: the first may have been about a server that is there again.
            if peer.refused > peer.addresses.len() {
                peer.refused = 0;
                return Err(failed);
            }
            peer.turn().await?;
        }
    }

    async fn find(&self) -> io::Result<Peer> {
        let found = timeout(self.timeout, lookup_host((self.host.as_str(), self.port))).await;
        let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        Peer::new(found.collect()).await
    }
}

impl Peer {
    async fn new(mut addresses: Vec<SocketAddr>) -> io::Result<Self> {
        // Connecting tells nothing of servers, so the address with the likeliest one comes first: many do not listen at `localhost`'s of IPv6.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for _ in 0..addresses.len() {
            match connect(addresses[0]).await {
                Ok(socket) => {
                    return Ok(Peer {
                        socket,
                        addresses,
                        refused: 0,
                        since: Instant::now(),
                    });
                }
                Err(e) => failed = e,
            }
            addresses.rotate_left(1);
        }
        Err(failed)
    }

    /// On to the next address, if there is another.
    async fn turn(&mut self) -> io::Result<()> {
        if self.addresses.len() > 1 {
            self.addresses.rotate_left(1);
            self.socket = connect(self.addresses[0]).await?;
        }
        Ok(())
    }
}

async fn connect(to: SocketAddr) -> io::Result<UdpSocket> {
    let from: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
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
