//! The master key: 32 random bytes, as hex, in a file of mode 0600.

use crate::SecretsError;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

pub(crate) const KEY_BYTES: usize = 32;
const HEX_BYTES: usize = 2 * KEY_BYTES;

pub(crate) struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

impl MasterKey {
    pub(crate) fn bytes(&self) -> &[u8] {
        &*self.0
    }

    pub(crate) fn read(path: &Path) -> Result<MasterKey, SecretsError> {
        let file = File::open(path).map_err(|error| wrong(path, error))?;
        MasterKey::read_from(file, path)
    }

    pub(crate) fn read_or_create(path: &Path) -> Result<MasterKey, SecretsError> {
        match File::open(path) {
            Ok(file) => MasterKey::read_from(file, path),
            Err(error) if error.kind() == ErrorKind::NotFound => MasterKey::create(path),
            Err(error) => Err(wrong(path, error)),
        }
    }

    fn create(path: &Path) -> Result<MasterKey, SecretsError> {
        let mut key = Zeroizing::new([0u8; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut *key).map_err(|_| SecretsError::Crypto)?;
        let mut text = Zeroizing::new(String::with_capacity(HEX_BYTES + 1));
        HEXLOWER.encode_append(&*key, &mut text);
        text.push('\n');
        // `create_new`: of two that start at once, one makes the key and the other is told to try again.
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            match path.parent().filter(|p| !p.as_os_str().is_empty()) {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(|error| wrong(path, error))?;
        Ok(MasterKey(key))
    }

    fn read_from(mut file: File, path: &Path) -> Result<MasterKey, SecretsError> {
        let meta = file.metadata().map_err(|error| wrong(path, error))?;
        if meta.mode() & 0o077 != 0 {
            return Err(wrong(path, "others may read it; its mode must be 0600"));
        }
        // One byte more than a key with its line end, so that a longer file is seen to be longer.
        let mut text = Zeroizing::new(String::with_capacity(HEX_BYTES + 8));
        let limit = u64::try_from(HEX_BYTES).unwrap_or(0) + 2;
        Read::take(&mut file, limit)
            .read_to_string(&mut text)
            .map_err(|error| wrong(path, error))?;
        let hex = text.trim_end().as_bytes();
        let mut key = Zeroizing::new([0u8; KEY_BYTES]);
        if hex.len() != HEX_BYTES {
            return Err(wrong(path, "not a key of 64 hexadecimal digits"));
        }
        HEXLOWER_PERMISSIVE
            .decode_mut(hex, &mut *key)
            .map_err(|_| wrong(path, "not a key of 64 hexadecimal digits"))?;
        Ok(MasterKey(key))
    }
}

fn wrong(path: &Path, why: impl ToString) -> SecretsError {
    SecretsError::KeyFile {
        path: path.to_owned(),
        why: why.to_string(),
    }
}
