//! A throw-away certificate authority, and certificates for localhost.

use crate::{Result, during};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The root's certificate, PEM.
    pub root: PathBuf,
    folder: PathBuf,
}

/// PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// Makes an authority whose files are in `folder`, which is made if it is not there.
    pub fn new(folder: &Path) -> Result<Authority> {
        std::fs::create_dir_all(folder).map_err(during(folder.display()))?;
        let mut params = CertificateParams::new(Vec::new()).map_err(during("certificate"))?;
        params
            .distinguished_name
            .push(DnType::CommonName, "Headgate throw-away CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(during("key"))?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(during("certificate"))?;
        let root = folder.join("ca.crt");
        std::fs::write(&root, issuer.pem()).map_err(during(root.display()))?;
        Ok(Authority {
            issuer,
            root,
            folder: folder.to_owned(),
        })
    }

    /// A certificate for localhost and 127.0.0.1, as `NAME.crt` and `NAME.key`.
    pub fn issue(&self, name: &str) -> Result<Certificate> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
            .map_err(during("certificate"))?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(during("key"))?;
        let signed = params
            .signed_by(&key, &self.issuer)
            .map_err(during("certificate"))?;
        let made = Certificate {
            certificate: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        };
        std::fs::write(&made.certificate, signed.pem()).map_err(during(made.certificate.display()))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&made.key)
            .map_err(during(made.key.display()))?;
        file.write_all(key.serialize_pem().as_bytes())
            .map_err(during(made.key.display()))?;
        Ok(made)
    }
}
