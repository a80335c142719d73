//! People known to this appliance alone: `users.toml`, with Argon2id hashes.
//!
//! ```toml
//! [[user]]
//! name = "alice"
//! password = "$argon2id$v=19$…"
//! groups = ["dba"]
//! ```
//! The file is read again when it changes: a user who is gone from it, or from a group, is gone at the next sign-in.
//! Invariant: an unknown user costs as much time as a wrong password, and reads the same.
//! Bounds: FILE_BYTES_MAX, PASSWORD_BYTES_MAX, HASHES_AT_ONCE.

use crate::IdentityError;
use crate::attempts::Attempts;
use crate::error::bad;
use crate::names::{GROUPS_MAX, is_name};
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use headgate_plane::Secret;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tokio::sync::Semaphore;

const FILE_BYTES_MAX: u64 = 4 << 20;
pub(crate) const PASSWORD_BYTES_MAX: usize = 1024;
/// Each takes 19 MiB and a core for some tens of milliseconds.
const HASHES_AT_ONCE: usize = 2;
/// Issuer of local users, in `who.issuer`.
pub const LOCAL_ISSUER: &str = "local";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "user")]
    users: Vec<User>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    name: String,
    password: String,
    #[serde(default)]
    groups: Vec<String>,
}

type Users = Arc<HashMap<String, User>>;

pub(crate) struct LocalUsers {
    path: PathBuf,
    read: Mutex<Option<(Stamp, Users)>>,
    /// Of a password that nobody knows.
    decoy: String,
    hashing: Arc<Semaphore>,
    attempts: Attempts,
}

/// What changes when the file does.
#[derive(PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl LocalUsers {
    pub(crate) fn open(path: PathBuf) -> Result<LocalUsers, IdentityError> {
        let decoy = hash_password(&Secret::new(crate::names::random_256()?.as_str()))?;
        let hashing = Arc::new(Semaphore::new(HASHES_AT_ONCE));
        let local = LocalUsers {
            path,
            read: Mutex::new(None),
            decoy,
            hashing,
            attempts: Attempts::default(),
        };
        local.users()?;
        Ok(local)
    }

    fn users(&self) -> Result<Users, IdentityError> {
        use std::os::unix::fs::MetadataExt;
        let config = |why: String| IdentityError::Config {
            why: format!("{}: {why}", self.path.display()),
        };
        let meta = std::fs::metadata(&self.path).map_err(|error| config(error.to_string()))?;
        let stamp = Stamp {
            modified: meta.modified().ok(),
            bytes: meta.len(),
            inode: meta.ino(),
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, users)) = &*read
            && *known == stamp
        {
            return Ok(users.clone());
        }
        if meta.len() > FILE_BYTES_MAX {
            return Err(config(format!("longer than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(&self.path).map_err(|error| config(error.to_string()))?;
        // The message alone: the excerpt that `Display` adds could show a hash.
        let file: File = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| {
                text.get(..span.start).unwrap_or_default().matches('\n').count() + 1
            });
            config(format!("line {line}: {}", error.message()))
        })?;
        let mut users = HashMap::with_capacity(file.users.len());
        for user in file.users {
            if !is_name(&user.name)
                || user.groups.len() > GROUPS_MAX
                || !user.groups.iter().all(|group| is_name(group))
            {
                return Err(config(format!(
                    "user {:?}: a name or group that is none",
                    user.name
                )));
            }
            if PasswordHash::new(&user.password).is_err() {
                return Err(config(format!(
                    "user {:?}: `password` is no Argon2 hash",
                    user.name
                )));
            }
            let name = user.name.clone();
            if users.insert(name.clone(), user).is_some() {
                return Err(config(format!("user {name:?} is there twice")));
            }
        }
        let users = Arc::new(users);
        *read = Some((stamp, users.clone()));
        Ok(users)
    }

    /// The user's groups now; `None`: there is no such user any more.
    pub(crate) fn groups(&self, name: &str) -> Result<Option<Vec<String>>, IdentityError> {
        Ok(self.users()?.get(name).map(|user| user.groups.clone()))
    }

    /// Groups of the user whose password this is.
    pub(crate) async fn check(
        &self,
        name: &str,
        password: &Secret,
        address: &str,
        now_ms: u64,
    ) -> Result<Vec<String>, IdentityError> {
        let wrong = || IdentityError::from(bad("wrong user or password"));
        if !is_name(name) || password.danger_reveal().len() > PASSWORD_BYTES_MAX {
            return Err(wrong());
        }
        self.attempts.begin(name, address, now_ms)?;
        let user = self.users()?.get(name).cloned();
        let hash = user.as_ref().map_or(&self.decoy, |user| &user.password).clone();
        let password = password.clone();
        let permit = self
            .hashing
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| IdentityError::Crypto)?;
        let fits = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            fits(&hash, &password)
        });
        let fits = fits.await.map_err(|_| IdentityError::Crypto)?;
        match user {
            Some(user) if fits => {
                self.attempts.succeeded(name, address);
                Ok(user.groups)
            }
            _ => Err(wrong()),
        }
    }
}

fn fits(hash: &str, password: &Secret) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.danger_reveal().as_bytes(), &hash)
            .is_ok()
    })
}

/// For `users.toml`: an Argon2id hash in PHC form.
pub fn hash_password(password: &Secret) -> Result<String, IdentityError> {
    let bytes = password.danger_reveal().as_bytes();
    if bytes.is_empty() || bytes.len() > PASSWORD_BYTES_MAX {
        return Err(IdentityError::Request {
            why: format!("a password has 1 to {PASSWORD_BYTES_MAX} bytes"),
        });
    }
    let mut salt = [0u8; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| IdentityError::Crypto)?;
    let salt = SaltString::encode_b64(&salt).map_err(|_| IdentityError::Crypto)?;
    match Argon2::default().hash_password(bytes, &salt) {
        Ok(hash) => Ok(hash.to_string()),
        Err(_) => Err(IdentityError::Crypto),
    }
}
