//! TLS configurations: our certificate towards clients, roots and names towards targets.

use headgate_config::TlsFiles;
use headgate_plane::{TargetSpec, TargetTls};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// One listener's certificate, read again when its files change. Sessions that are open keep the one they began with.
#[derive(Debug)]
pub struct Certificate {
    files: TlsFiles,
    current: RwLock<Arc<CertifiedKey>>,
    /// Of both files, when they were read.
    changed: Mutex<[Option<SystemTime>; 2]>,
}

impl Certificate {
    pub fn load(files: &TlsFiles) -> Result<Arc<Certificate>, String> {
        let changed = Mutex::new(changed_at(files));
        Ok(Arc::new(Certificate { files: files.clone(), current: RwLock::new(Arc::new(read(files)?)), changed }))
    }

    /// Housekeeping calls this now and then. Files that cannot be used leave the old certificate in place.
    pub fn reload(&self) {
        let now = changed_at(&self.files);
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if *changed == now {
            return;
        }
        match read(&self.files) {
            Ok(key) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                *changed = now;
                tracing::info!(certificate = %self.files.certificate.display(), "certificate: read again");
            }
            // Certificate and key are seldom written in one moment: tried again until they fit.
            Err(why) => tracing::warn!(why, "certificate: the changed files cannot be used yet; the old one stays"),
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn changed_at(files: &TlsFiles) -> [Option<SystemTime>; 2] {
    [&files.certificate, &files.key].map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, String> {
    let said = |what: &str, path: &std::path::Path, e: &dyn std::fmt::Display| format!("{what} {}: {e}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|e| said("certificate", &files.certificate, &e))?;
    if chain.is_empty() {
        return Err(said("certificate", &files.certificate, &"no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| said("key", &files.key, &e))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|e| said("certificate and key", &files.certificate, &e))
}

/// AES-128 and SHA-256 before AES-256 and SHA-384: as strong as the key exchange, and both are instructions of the processor,
/// which SHA-384 is not.
fn short_keys_first(mut provider: CryptoProvider) -> CryptoProvider {
    provider.cipher_suites.sort_by_key(|suite| format!("{:?}", suite.suite()).contains("AES_256"));
    provider
}

/// For one listener.
pub fn server(certificate: Arc<Certificate>) -> Result<Arc<ServerConfig>, String> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(short_keys_first(CryptoProvider::clone(&provider()))))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    config.ignore_client_order = true;
    // As PostgreSQL: its drivers do not come back with tickets, and each handshake would make two.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
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

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &std::path::Path, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::write(folder.join("c.crt"), made.cert.pem()).unwrap();
        std::fs::write(folder.join("c.key"), made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn every_suite_is_offered_and_the_short_keys_come_first() {
        let names = |provider: &CryptoProvider| provider.cipher_suites.iter().map(|s| format!("{:?}", s.suite())).collect::<Vec<_>>();
        let (all, sorted) = (provider(), short_keys_first(CryptoProvider::clone(&provider())));
        assert_eq!(names(&sorted)[0], "TLS13_AES_128_GCM_SHA256");
        let (mut before, mut after) = (names(&all), names(&sorted));
        assert!(after.iter().rev().take_while(|n| n.contains("AES_256")).count() == after.iter().filter(|n| n.contains("AES_256")).count());
        before.sort();
        after.sort();
        assert_eq!(before, after);
    }

    #[test]
    fn a_changed_certificate_is_taken_up_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles { certificate: folder.path().join("c.crt"), key: folder.path().join("c.key") };
        write(folder.path(), "one.test");
        let certificate = Certificate::load(&files).unwrap();
        let now = || certificate.current.read().unwrap().cert[0].to_vec();
        let first = now();
        certificate.reload();
        assert_eq!(now(), first);
        let later = |path: &std::path::Path, s: u64| {
            let file = std::fs::File::options().append(true).open(path).unwrap();
            file.set_modified(SystemTime::now() + std::time::Duration::from_secs(s)).unwrap();
        };
        std::fs::write(&files.key, "not a key").unwrap();
        later(&files.key, 10);
        certificate.reload();
        assert_eq!(now(), first, "the old one stays");
        write(folder.path(), "two.test");
        later(&files.certificate, 20);
        certificate.reload();
        assert_ne!(now(), first);
    }
}
