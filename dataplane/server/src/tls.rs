//! TLS configurations: our certificate towards clients, roots and names towards targets.

use aws_lc_rs::digest;
use headgate_config::TlsFiles;
use headgate_plane::{TargetSpec, TargetTls};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// One listener's certificate, read again when its files change. Sessions that are open keep the one they began with.
///
/// What the files hold decides, not when they were written: a copy may keep its old time, a link may come to point elsewhere.
#[derive(Debug)]
pub struct Certificate {
    files: TlsFiles,
    current: RwLock<Arc<CertifiedKey>>,
    /// Of both files, as they were looked at last.
    seen: Mutex<Seen>,
}

/// A digest, so that the key stays in one place.
type Digest = [u8; 32];

#[derive(Debug)]
struct Seen {
    files: Result<Digest, String>,
    /// Whether what they hold is what new sessions get.
    taken: bool,
}

impl Certificate {
    pub fn load(files: &TlsFiles) -> Result<Arc<Certificate>, String> {
        let (digest, key) = read(files)?;
        let seen = Mutex::new(Seen {
            files: Ok(digest),
            taken: true,
        });
        Ok(Arc::new(Certificate {
            files: files.clone(),
            current: RwLock::new(Arc::new(key?)),
            seen,
        }))
    }

    /// Housekeeping calls this now and then. Files that cannot be used leave the old certificate in place; that is said once
    /// for each thing that is found in them.
    pub fn reload(&self) {
        self.look(false);
    }

    /// As [`Certificate::reload`], with a word in the log in any case: somebody waits for it.
    pub fn reload_now(&self) {
        self.look(true);
    }

    fn look(&self, say: bool) {
        let certificate = self.files.certificate.display();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (files, key) = match read(&self.files) {
            Ok((digest, key)) => (Ok(digest), key),
            Err(why) => (Err(why.clone()), Err(why)),
        };
        if !say && files == seen.files {
            return;
        }
        match key {
            Ok(_) if files == seen.files && seen.taken => {
                tracing::info!(%certificate, "certificate: the files are unchanged");
            }
            Ok(key) => {
                let fingerprint = key
                    .end_entity_cert()
                    .map(|der| fingerprint(der))
                    .unwrap_or_default();
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                *seen = Seen { files, taken: true };
                tracing::info!(%certificate, fingerprint, "certificate: read again; new sessions get it");
            }
            // Certificate and key are seldom written in one moment: tried again until they fit.
            Err(why) => {
                *seen = Seen { files, taken: false };
                tracing::warn!(%certificate, why, "certificate: the changed files cannot be used yet; the old one stays");
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(
            &self.current.read().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

/// SHA-256 in hex, as `openssl x509 -fingerprint -sha256` shows it.
fn fingerprint(der: &[u8]) -> String {
    let bytes: Vec<String> = digest::digest(&digest::SHA256, der)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    bytes.join(":")
}

/// What both files hold, as a digest, and the two as one if they fit. An error: a file cannot be read.
fn read(files: &TlsFiles) -> Result<(Digest, Result<CertifiedKey, String>), String> {
    let said = |what: &str, path: &std::path::Path, e: &dyn std::fmt::Display| {
        format!("{what} {}: {e}", path.display())
    };
    let chain = std::fs::read(&files.certificate).map_err(|e| said("certificate", &files.certificate, &e))?;
    let key = std::fs::read(&files.key).map_err(|e| said("key", &files.key, &e))?;
    let mut digest = digest::Context::new(&digest::SHA256);
    digest.update(&(chain.len() as u64).to_be_bytes());
    digest.update(&chain);
    digest.update(&key);
    let digest: Digest = digest
        .finish()
        .as_ref()
        .try_into()
        .map_err(|_| "a digest of SHA-256 has 32 bytes".to_owned())?;
    let certified = || {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
            .collect::<Result<_, _>>()
            .map_err(|e| said("certificate", &files.certificate, &e))?;
        if chain.is_empty() {
            return Err(said("certificate", &files.certificate, &"no certificate in it"));
        }
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| said("key", &files.key, &e))?;
        CertifiedKey::from_der(chain, key, &provider())
            .map_err(|e| said("certificate and key", &files.certificate, &e))
    };
    Ok((digest, certified()))
}

/// AES-128 and SHA-256 before AES-256 and SHA-384: as strong as the key exchange, and both are instructions of the processor,
/// which SHA-384 is not.
fn short_keys_first(mut provider: CryptoProvider) -> CryptoProvider {
    provider
        .cipher_suites
        .sort_by_key(|suite| format!("{:?}", suite.suite()).contains("AES_256"));
    provider
}

/// For one listener.
pub fn server(certificate: Arc<Certificate>) -> Result<Arc<ServerConfig>, String> {
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(short_keys_first(CryptoProvider::clone(&provider()))))
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
            let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .map_err(|e| format!("ca {path}: {e}"))?;
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
        return Err(
            "no roots to trust: name its CA with `ca`, or install the system's (package ca-certificates)"
                .to_owned(),
        );
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let config = match target.tls {
        TargetTls::VerifyCa => {
            let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|e| e.to_string())?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(ChainOnly(inner)))
                .with_no_client_auth()
        }
        TargetTls::VerifyFull | TargetTls::DangerOff => {
            builder.with_root_certificates(roots).with_no_client_auth()
        }
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
        match self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
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
        let names = |provider: &CryptoProvider| {
            provider
                .cipher_suites
                .iter()
                .map(|s| format!("{:?}", s.suite()))
                .collect::<Vec<_>>()
        };
        let (all, sorted) = (provider(), short_keys_first(CryptoProvider::clone(&provider())));
        assert_eq!(names(&sorted)[0], "TLS13_AES_128_GCM_SHA256");
        let (mut before, mut after) = (names(&all), names(&sorted));
        assert!(
            after.iter().rev().take_while(|n| n.contains("AES_256")).count()
                == after.iter().filter(|n| n.contains("AES_256")).count()
        );
        before.sort();
        after.sort();
        assert_eq!(before, after);
    }

    #[test]
    fn a_changed_certificate_is_taken_up_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            certificate: folder.path().join("c.crt"),
            key: folder.path().join("c.key"),
        };
        write(folder.path(), "one.test");
        let certificate = Certificate::load(&files).unwrap();
        let now = || certificate.current.read().unwrap().cert[0].to_vec();
        let first = now();
        certificate.reload();
        assert_eq!(now(), first);
        // The times say nothing: each file keeps the one of the first.
        let old = std::fs::metadata(&files.certificate).unwrap().modified().unwrap();
        let as_old = || {
            for path in [&files.certificate, &files.key] {
                std::fs::File::options()
                    .append(true)
                    .open(path)
                    .unwrap()
                    .set_modified(old)
                    .unwrap();
            }
        };
        let good = std::fs::read(&files.key).unwrap();
        for broken in [&b"not a key"[..], b""] {
            std::fs::write(&files.key, broken).unwrap();
            as_old();
            certificate.reload_now();
            assert_eq!(now(), first, "the old one stays");
        }
        std::fs::remove_file(&files.key).unwrap();
        certificate.reload();
        assert_eq!(now(), first, "the old one stays");
        std::fs::write(&files.key, good).unwrap();
        certificate.reload();
        assert_eq!(now(), first, "what was broken is mended as it was");
        // The certificate comes first, and the key that fits it a moment later.
        let other = tempfile::tempdir().unwrap();
        write(other.path(), "two.test");
        std::fs::copy(other.path().join("c.crt"), &files.certificate).unwrap();
        as_old();
        certificate.reload();
        assert_eq!(now(), first, "half of a new one is none");
        std::fs::copy(other.path().join("c.key"), &files.key).unwrap();
        as_old();
        certificate.reload();
        assert_ne!(now(), first);
        let seen = certificate.seen.lock().unwrap();
        assert!(seen.taken && seen.files.is_ok());
    }
}
