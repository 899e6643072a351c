//! The socket of the syslog daemon.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use silverback_export::Deliver;
use tokio::net::UnixDatagram;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long a daemon that is busy is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Gives messages to the daemon.
pub(crate) struct Socket {
    path: PathBuf,
    connected: Mutex<Option<UnixDatagram>>,
}

impl Socket {
    /// To the daemon that listens there.
    pub(crate) fn new(path: PathBuf) -> Self {
        Socket {
            path,
            connected: Mutex::new(None),
        }
    }

    fn connect(&self) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.path)?;
        Ok(socket)
    }

    async fn send(&self, messages: &[String]) -> io::Result<()> {
        let mut kept = self.connected.lock().await;
        let mut socket = match kept.take() {
            Some(socket) => socket,
            None => self.connect()?,
        };
        for message in messages {
            if send_one(&socket, message).await.is_err() {
                // The daemon may have been started anew.
                socket = self.connect()?;
                send_one(&socket, message).await?;
            }
        }
        *kept = Some(socket);
        Ok(())
    }
}

impl Deliver for Socket {
    type Entry = String;

    async fn deliver(&self, batch: &[String]) -> Result<(), String> {
        let sent = self.send(batch).await;
        sent.map_err(|e| format!("{}: {e}", self.path.display()))
    }
}

async fn send_one(socket: &UnixDatagram, message: &str) -> io::Result<()> {
    let sent = timeout(PATIENCE, socket.send(message.as_bytes())).await;
    let sent = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    sent.map(drop)
}
