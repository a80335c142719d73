//! Why the control plane could not start, or had to stop. Each says what to do.

use std::fmt;
use std::path::PathBuf;

#[derive(Debug)]
pub enum ServerError {
    Config(headgate_config::ConfigErrors),
    Runtime {
        dir: PathBuf,
        why: String,
    },
    Data {
        dir: PathBuf,
        why: String,
    },
    Socket {
        path: PathBuf,
        why: String,
    },
    Address {
        address: std::net::SocketAddr,
        why: String,
    },
    Tls {
        why: String,
    },
    Store(headgate_store::StoreError),
    Secrets(headgate_secrets::SecretsError),
    Identity(headgate_identity::IdentityError),
    Audit(headgate_audit::AuditError),
    Desk(headgate_questions::DeskError),
    Signal(std::io::Error),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Config(errors) => errors.fmt(f),
            ServerError::Runtime { dir, why } => write!(f, "runtime directory {}: {why}", dir.display()),
            ServerError::Data { dir, why } => write!(f, "data directory {}: {why}", dir.display()),
            ServerError::Socket { path, why } => write!(f, "socket {}: {why}", path.display()),
            ServerError::Address { address, why } => write!(f, "[api] address {address}: {why}"),
            ServerError::Tls { why } => write!(f, "[api] tls: {why}"),
            ServerError::Store(error) => write!(f, "the control plane's store: {error}"),
            ServerError::Secrets(error) => write!(f, "secrets: {error}"),
            ServerError::Identity(error) => write!(f, "identities: {error}"),
            ServerError::Audit(error) => write!(f, "audit: {error}"),
            ServerError::Desk(error) => write!(f, "questions: {error}"),
            ServerError::Signal(error) => write!(f, "signals cannot be caught: {error}"),
        }
    }
}

impl std::error::Error for ServerError {}

macro_rules! from {
    ($($variant:ident($error:ty)),* $(,)?) => {
        $(impl From<$error> for ServerError {
            fn from(error: $error) -> Self {
                ServerError::$variant(error)
            }
        })*
    };
}

from! {
    Config(headgate_config::ConfigErrors),
    Store(headgate_store::StoreError),
    Secrets(headgate_secrets::SecretsError),
    Identity(headgate_identity::IdentityError),
    Audit(headgate_audit::AuditError),
    Desk(headgate_questions::DeskError),
}
