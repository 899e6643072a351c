//! Why something did not reach a server.

use std::io;

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection.
    #[error("failed to connect: {0}")]
    Connect(io::Error),
    /// No TLS.
    #[error("failed to perform the TLS handshake: {0}")]
    Handshake(String),
    /// The connection broke.
    #[error("failed to send: {0}")]
    Send(io::Error),
}
