//! A server that speaks TLS, with a certificate that nobody would trust.

use std::pin::Pin;

use openssl::pkey::PKey;
use openssl::ssl::{NameType, Ssl, SslAcceptor, SslMethod};
use openssl::x509::X509;
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

/// Listens on a port of its own.
pub(super) struct TlsServer {
    listener: TcpListener,
    acceptor: SslAcceptor,
}

/// A connection with the name of the server that the client wanted.
pub(super) struct Accepted {
    pub(super) server_name: Option<String>,
    pub(super) stream: BufReader<SslStream<TcpStream>>,
}

impl TlsServer {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["elsewhere.test".to_owned()])?;
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
        let key = PKey::private_key_from_pem(made.signing_key.serialize_pem().as_bytes())?;
        acceptor.set_private_key(&key)?;
        acceptor.set_certificate(&*X509::from_pem(made.cert.pem().as_bytes())?)?;
        Ok(TlsServer {
            listener: TcpListener::bind("127.0.0.1:0").await?,
            acceptor: acceptor.build(),
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub(super) async fn accept(&self) -> anyhow::Result<Accepted> {
        let (tcp, _) = self.listener.accept().await?;
        let mut stream = SslStream::new(Ssl::new(self.acceptor.context())?, tcp)?;
        Pin::new(&mut stream).accept().await?;
        let server_name = stream.ssl().servername(NameType::HOST_NAME);
        Ok(Accepted {
            server_name: server_name.map(str::to_owned),
            stream: BufReader::new(stream),
        })
    }
}
