//! Why the control plane could not start, or had to stop. Each says what to do.

use std::fmt;
use std::path::PathBuf;

#[derive(Debug)]
pub enum ControlPlaneError {
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

impl fmt::Display for ControlPlaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlPlaneError::Config(errors) => errors.fmt(f),
            ControlPlaneError::Runtime { dir, why } => {
                write!(f, "runtime directory {}: {why}", dir.display())
            }
            ControlPlaneError::Data { dir, why } => write!(f, "data directory {}: {why}", dir.display()),
            ControlPlaneError::Socket { path, why } => write!(f, "socket {}: {why}", path.display()),
            ControlPlaneError::Address { address, why } => write!(f, "[api] address {address}: {why}"),
            ControlPlaneError::Tls { why } => write!(f, "[api] tls: {why}"),
            ControlPlaneError::Store(error) => write!(f, "the control plane's store: {error}"),
            ControlPlaneError::Secrets(error) => write!(f, "secrets: {error}"),
            ControlPlaneError::Identity(error) => write!(f, "identities: {error}"),
            ControlPlaneError::Audit(error) => write!(f, "audit: {error}"),
            ControlPlaneError::Desk(error) => write!(f, "questions: {error}"),
            ControlPlaneError::Signal(error) => write!(f, "signals cannot be caught: {error}"),
        }
    }
}

impl std::error::Error for ControlPlaneError {}

macro_rules! from {
    ($($variant:ident($error:ty)),* $(,)?) => {
        $(impl From<$error> for ControlPlaneError {
            fn from(error: $error) -> Self {
                ControlPlaneError::$variant(error)
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
