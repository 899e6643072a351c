//! Certificates that services show to upstreams.

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::x509::X509;
use silverback_entities::Certificate;
use silverback_schema::reference::is_reference;

use crate::snapshot::ClientCertificate;
use crate::vault::Vaults;

/// A certificate and its key in PEM, with references resolved.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pair {
    cert: String,
    key: String,
}

impl Pair {
    /// Of a row. An error says which reference stands for nothing.
    pub(super) fn of(row: &Certificate, vaults: &Vaults<'_>) -> Result<Self, String> {
        let text = |text: &str| {
            if !is_reference(text) {
                return Ok(text.to_owned());
            }
            vaults
                .secret(text)
                .map_err(|why| format!("unable to resolve reference {text} ({why})"))
        };
        Ok(Pair {
            cert: text(&row.cert)?,
            key: text(&row.key)?,
        })
    }

    /// As it is shown.
    pub(super) fn parse(&self) -> Result<ClientCertificate, String> {
        let bad =
            |what: &'static str| move |e: ErrorStack| format!("the {what} cannot be used: {e}");
        let chain = X509::stack_from_pem(self.cert.as_bytes()).map_err(bad("certificate"))?;
        if chain.is_empty() {
            return Err("there is no certificate in it".to_owned());
        }
        // Without a callback OpenSSL would ask for the passphrase on the terminal.
        let key = PKey::private_key_from_pem_callback(self.key.as_bytes(), |_| Ok(0))
            .map_err(bad("private key"))?;
        Ok(ClientCertificate::new(chain, key))
    }
}
