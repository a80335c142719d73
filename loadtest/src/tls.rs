//! TLS of the client sessions: how to ask for it, whom to trust.
//!
//! Session tickets are not kept unless asked for, so that each login pays a whole handshake at every engine.

use crate::error::LoadFailed;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    #[default]
    Off,
    /// TLS with the first byte, ALPN `postgresql` (PostgreSQL 17; TLS that HAProxy terminates).
    Direct,
    /// SSLRequest first.
    Negotiate,
}

/// Whom to believe.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The certificates of the system.
    System,
    /// Those of a PEM file.
    File(PathBuf),
    /// Anybody: for a bench on one's own machine.
    DangerAnybody,
}

#[derive(Clone)]
pub struct Tls {
    pub start: Start,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("start", &self.start)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// `None` for [`Start::Off`].
    pub fn new(start: Start, trust: &Trust, name: &str, resumption: bool) -> Result<Option<Tls>, LoadFailed> {
        if start == Start::Off {
            return Ok(None);
        }
        let usage = |what: String| LoadFailed::Usage(what);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| usage(format!("TLS: {e}")))?;
        let mut config = match trust {
            Trust::DangerAnybody => versions
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
                .with_no_client_auth(),
            Trust::System | Trust::File(_) => versions
                .with_root_certificates(roots(trust)?)
                .with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        if !resumption {
            config.resumption = Resumption::disabled();
        }
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            usage(format!(
                "--server-name: {name} is neither a host name nor an address"
            ))
        })?;
        Ok(Some(Tls {
            start,
            config: Arc::new(config),
            name,
        }))
    }

    pub fn connection(&self) -> Result<ClientConnection, LoadFailed> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(|e| LoadFailed::Usage(format!("TLS: {e}")))
    }
}

fn roots(trust: &Trust) -> Result<RootCertStore, LoadFailed> {
    let mut roots = RootCertStore::empty();
    if let Trust::File(path) = trust {
        let bad =
            |what: &dyn std::fmt::Display| LoadFailed::Usage(format!("--ca {}: {what}", path.display()));
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| bad(&e))? {
            roots
                .add(certificate.map_err(|e| bad(&e))?)
                .map_err(|e| bad(&e))?;
        }
        if roots.is_empty() {
            return Err(bad(&"there is no certificate in it"));
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(LoadFailed::Usage(
                "this system has no certificate authorities: give --ca FILE or --tls-insecure".to_owned(),
            ));
        }
    }
    Ok(roots)
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
