//! Secrets at rest: each under a data key of its own, and that under the master key of a file that only we may read.
//!
//! A record is AES-256-GCM of the secret under a random data key, and AES-256-GCM of the data key under the master key.
//! Both have the record's name as additional data, so that a record moved to another name does not open.
//! Invariant: no clear byte of a secret is handed to the store, an error or `Debug`.
//! Never here: rotation of the master key, remote key services.
//! Bounds: NAME_BYTES_MAX, SECRET_BYTES_MAX, SECRETS_MAX.
#![forbid(unsafe_code)]

mod envelope;
mod master;

use envelope::Sealed;
use headgate_plane::Secret;
use headgate_store::{Expected, Store, StoreError, StoreJson, Table, read_json, write_json};
use master::MasterKey;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub const NAME_BYTES_MAX: usize = 63;
pub const SECRET_BYTES_MAX: usize = 64 << 10;
pub const SECRETS_MAX: usize = 100_000;

/// A key that seals this text is the store's own key: another key file is found out at start, not at the first sign-in.
const CHECK_KEY: &[u8] = b"secrets/check";
const CHECK_TEXT: &str = "headgate secrets v1";

pub struct Secrets {
    store: Arc<dyn Store>,
    master: MasterKey,
}

/// Everything that may be shown of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecretInfo {
    pub name: String,
    pub created_unix_ms: u64,
    pub updated_unix_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    created_unix_ms: u64,
    updated_unix_ms: u64,
    sealed: Sealed,
}

impl Secrets {
    /// Reads the master key from `key_file`; makes it (mode 0600) when neither it nor any secret is there yet.
    pub fn open(store: Arc<dyn Store>, key_file: impl AsRef<Path>) -> Result<Secrets, SecretsError> {
        let key_file = key_file.as_ref();
        let check: Option<(u64, Sealed)> = store.get_json(Table::Meta, CHECK_KEY)?;
        // A key file that went missing is not replaced by a new one: the old secrets would be lost without a word.
        let master = if check.is_some() {
            MasterKey::read(key_file)?
        } else {
            MasterKey::read_or_create(key_file)?
        };
        match check {
            Some((_, sealed)) => {
                let wrong = |_| SecretsError::WrongKey {
                    path: key_file.to_owned(),
                };
                sealed.open(&master, CHECK_TEXT).map_err(wrong)?;
            }
            None => {
                let sealed = Sealed::seal(&master, CHECK_TEXT, CHECK_TEXT.as_bytes())?;
                let value = write_json(Table::Meta, &sealed)?;
                store.put_if(Table::Meta, CHECK_KEY, Expected::Absent, &value)?;
            }
        }
        Ok(Secrets { store, master })
    }

    /// Replaces what was there.
    pub fn put(&self, name: &str, secret: &Secret) -> Result<SecretInfo, SecretsError> {
        check_name(name)?;
        let clear = secret.danger_reveal().as_bytes();
        if clear.is_empty() || clear.len() > SECRET_BYTES_MAX {
            return Err(SecretsError::Length { bytes: clear.len() });
        }
        let found: Option<(u64, Record)> = self.store.get_json(Table::Secrets, name.as_bytes())?;
        if found.is_none() && self.store.scan(Table::Secrets, b"", SECRETS_MAX)?.len() >= SECRETS_MAX {
            return Err(SecretsError::TooMany);
        }
        let now = now_unix_ms();
        let record = Record {
            created_unix_ms: found.as_ref().map_or(now, |(_, record)| record.created_unix_ms),
            updated_unix_ms: now,
            sealed: Sealed::seal(&self.master, name, clear)?,
        };
        self.store.put_json(Table::Secrets, name.as_bytes(), &record)?;
        Ok(info(name, &record))
    }

    pub fn get(&self, name: &str) -> Result<Option<Secret>, SecretsError> {
        if name.is_empty() {
            return Ok(None);
        }
        match self.store.get_json::<Record>(Table::Secrets, name.as_bytes())? {
            None => Ok(None),
            Some((_, record)) => record.sealed.open(&self.master, name).map(Some),
        }
    }

    /// By name.
    pub fn list(&self) -> Result<Vec<SecretInfo>, SecretsError> {
        let mut found = Vec::new();
        for entry in self.store.scan(Table::Secrets, b"", SECRETS_MAX)? {
            let record: Record = read_json(Table::Secrets, &entry.value)?;
            found.push(info(&String::from_utf8_lossy(&entry.key), &record));
        }
        Ok(found)
    }

    /// Whether it was there.
    pub fn delete(&self, name: &str) -> Result<bool, SecretsError> {
        if name.is_empty() || self.store.get(Table::Secrets, name.as_bytes())?.is_none() {
            return Ok(false);
        }
        self.store.delete(Table::Secrets, name.as_bytes())?;
        Ok(true)
    }
}

fn info(name: &str, record: &Record) -> SecretInfo {
    SecretInfo {
        name: name.to_owned(),
        created_unix_ms: record.created_unix_ms,
        updated_unix_ms: record.updated_unix_ms,
    }
}

fn check_name(name: &str) -> Result<(), SecretsError> {
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !plain {
        Err(SecretsError::Name)
    } else {
        Ok(())
    }
}

fn now_unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[derive(Debug, PartialEq, Eq)]
pub enum SecretsError {
    Name,
    Length {
        bytes: usize,
    },
    TooMany,
    /// The record was changed, or moved from another name.
    Damaged,
    /// The key file does not fit the secrets that are there.
    WrongKey {
        path: PathBuf,
    },
    /// The key file is missing, too open, or not a key.
    KeyFile {
        path: PathBuf,
        why: String,
    },
    /// The random source or the cipher failed.
    Crypto,
    Store(StoreError),
}

impl From<StoreError> for SecretsError {
    fn from(error: StoreError) -> Self {
        SecretsError::Store(error)
    }
}

impl fmt::Display for SecretsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretsError::Name => write!(
                f,
                "a secret's name has 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`"
            ),
            SecretsError::Length { bytes } => write!(
                f,
                "a secret of {bytes} bytes is not between 1 and {SECRET_BYTES_MAX}"
            ),
            SecretsError::TooMany => write!(f, "there are {SECRETS_MAX} secrets already"),
            SecretsError::Damaged => f.write_str("the stored secret was changed or moved: it does not open"),
            SecretsError::WrongKey { path } => {
                write!(f, "{} is not the key of these secrets", path.display())
            }
            SecretsError::KeyFile { path, why } => write!(f, "key file {}: {why}", path.display()),
            SecretsError::Crypto => f.write_str("the cipher or the random source failed"),
            SecretsError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SecretsError {}
