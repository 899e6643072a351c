//! TLS with clients.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use openssl::ssl::{AlpnError, NameType, SslAcceptor, SslFiletype, SslMethod, select_next_proto};
use pingora_core::listeners::TlsAccept;
use pingora_core::protocols::IO;
use pingora_core::protocols::tls::{SslStream, TlsRef, server};

/// The server name that a client asked for in the handshake.
pub(crate) struct ServerName(pub(crate) Box<str>);

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, leaf first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use TLS certificate {chain}: {source}")]
pub struct CertificateError {
    /// The chain's file.
    pub chain: PathBuf,
    /// What OpenSSL said.
    pub source: openssl::error::ErrorStack,
}

/// Accepts TLS connections on a listener.
#[derive(Clone)]
pub(crate) struct Acceptor {
    plain: Arc<SslAcceptor>,
}

impl Acceptor {
    /// With a default certificate; further pairs of another key type may follow (RSA and ECDSA).
    pub(crate) fn new(certificates: &[Certificate], http2: bool) -> Result<Self, CertificateError> {
        let failed = |c: &Certificate| {
            let chain = c.chain.clone();
            move |source| CertificateError { chain, source }
        };
        let none = Certificate {
            chain: PathBuf::new(),
            key: PathBuf::new(),
        };
        let first = certificates.first().unwrap_or(&none);
        let mut builder =
            SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).map_err(failed(first))?;
        for c in certificates {
            builder
                .set_private_key_file(&c.key, SslFiletype::PEM)
                .map_err(failed(c))?;
            builder
                .set_certificate_chain_file(&c.chain)
                .map_err(failed(c))?;
        }
        // Fewer reads: whole records, and more, at once.
        builder.set_read_ahead(true);
        builder.check_private_key().map_err(failed(first))?;
        let protocols: &'static [u8] = if http2 {
            b"\x02h2\x08http/1.1"
        } else {
            b"\x08http/1.1"
        };
        builder.set_alpn_select_callback(move |_, offered| {
            select_next_proto(protocols, offered).ok_or(AlpnError::NOACK)
        });
        Ok(Acceptor {
            plain: Arc::new(builder.build()),
        })
    }

    /// The handshake.
    pub(crate) async fn accept<S: IO>(&self, io: S) -> pingora_core::Result<SslStream<S>> {
        server::handshake_with_callback(&self.plain, io, &Callbacks).await
    }
}

struct Callbacks;

#[async_trait]
impl TlsAccept for Callbacks {
    async fn handshake_complete_callback(
        &self,
        ssl: &TlsRef,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        let name = ssl.servername(NameType::HOST_NAME)?;
        Some(Arc::new(ServerName(name.to_ascii_lowercase().into())))
    }
}
