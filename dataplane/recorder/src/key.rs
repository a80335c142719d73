//! The signing key's file: PKCS#8, 0600, made at the first start and never changed. The public key is text beside it.

use crate::RecorderError;
use headgate_recording::checkpoint::Signer;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where the public key of a key file is.
fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

pub fn load_or_create(path: &Path) -> Result<Signer, RecorderError> {
    let wrong = |why: String| RecorderError::Key {
        path: path.to_owned(),
        why,
    };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let bytes = Signer::generate().map_err(|e| wrong(e.to_string()))?;
            // Written whole under another name first: a torn key file would end all signing.
            let mut new = path.as_os_str().to_owned();
            new.push(".new");
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)
                .map_err(|e| wrong(e.to_string()))?;
            file.write_all(&bytes)
                .and_then(|()| file.sync_all())
                .map_err(|e| wrong(e.to_string()))?;
            std::fs::rename(&new, path).map_err(|e| wrong(e.to_string()))?;
            bytes
        }
        Err(error) => return Err(wrong(error.to_string())),
    };
    let signer = Signer::from_pkcs8(&bytes, None).map_err(|e| wrong(e.to_string()))?;
    let text = format!("{}\n", signer.public());
    let public = public_path(path);
    if std::fs::read_to_string(&public).ok().as_deref() != Some(text.as_str()) {
        std::fs::write(&public, text).map_err(|e| wrong(e.to_string()))?;
    }
    Ok(signer)
}
