//! TLS configurations: our certificate towards clients, roots and names towards targets.

use headgate_config::TlsFiles;
use headgate_plane::{TargetSpec, TargetTls};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme};
use std::collections::HashMap;
use std::sync::Arc;

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// For one listener.
pub fn server(files: &TlsFiles) -> Result<Arc<ServerConfig>, String> {
    let said = |what: &str, path: &std::path::Path, e: &dyn std::fmt::Display| format!("{what} {}: {e}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|e| said("certificate", &files.certificate, &e))?;
    if chain.is_empty() {
        return Err(said("certificate", &files.certificate, &"no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| said("key", &files.key, &e))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| said("certificate", &files.certificate, &e))?;
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Arc::new(config))
}

/// For all targets of the configuration, made at start: a grant names only such.
pub struct TargetConfigs(HashMap<(TargetTls, Option<String>), Arc<ClientConfig>>);

impl TargetConfigs {
    pub fn load(targets: &[TargetSpec]) -> Result<TargetConfigs, String> {
        let mut configs = HashMap::new();
        for target in targets.iter().filter(|t| t.tls != TargetTls::DangerOff) {
            let key = (target.tls, target.ca.clone());
            if let std::collections::hash_map::Entry::Vacant(place) = configs.entry(key) {
                place.insert(client(target).map_err(|e| format!("target \"{}\": {e}", target.name))?);
            }
        }
        Ok(TargetConfigs(configs))
    }

    pub fn of(&self, target: &TargetSpec) -> Result<Arc<ClientConfig>, String> {
        self.0
            .get(&(target.tls, target.ca.clone()))
            .cloned()
            .ok_or_else(|| format!("no TLS configuration was loaded for target \"{}\"", target.name))
    }
}

fn client(target: &TargetSpec) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match &target.ca {
        Some(path) => {
            let certificates: Vec<CertificateDer<'static>> =
                CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|e| format!("ca {path}: {e}"))?;
            for certificate in certificates {
                roots.add(certificate).map_err(|e| format!("ca {path}: {e}"))?;
            }
        }
        None => {
            let native = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(native.certs);
        }
    }
    if roots.is_empty() {
        return Err("no roots to trust: name its CA with `ca`, or install the system's (package ca-certificates)".to_owned());
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    let config = match target.tls {
        TargetTls::VerifyCa => {
            let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().map_err(|e| e.to_string())?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(ChainOnly(inner))).with_no_client_auth()
        }
        TargetTls::VerifyFull | TargetTls::DangerOff => builder.with_root_certificates(roots).with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// `verify-ca`: the chain and the signature are checked in full, only the name is not.
#[derive(Debug)]
struct ChainOnly(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is the last thing that the verifier checks: an error about it says that all else is well.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
