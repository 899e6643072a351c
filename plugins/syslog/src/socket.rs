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
        let mut failed = None;
        for message in messages {
            let mut sent = send_one(&socket, message).await;
            if sent.as_ref().is_err_and(|e| !is_too_long(e)) {
                // The daemon may have been started anew.
                socket = self.connect()?;
                sent = send_one(&socket, message).await;
            }
            match sent {
                Ok(()) => {}
                // That is about this message alone.
                Err(e) if is_too_long(&e) => drop(failed.get_or_insert(e)),
                Err(e) => return Err(e),
            }
        }
        *kept = Some(socket);
        failed.map_or(Ok(()), Err)
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

/// Whether a message is longer than what the socket takes at once.
fn is_too_long(e: &io::Error) -> bool {
    e.raw_os_error() == Some(libc::EMSGSIZE)
}
