//! A target as the data plane needs it.

use crate::protocol::Protocol;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroize;

/// Bytes that must not be shown: wiped on drop, absent from `Debug`.
#[derive(Clone, Serialize, Deserialize, Zeroize)]
#[zeroize(drop)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text secret.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The clear text. Named so that a reader sees where it goes.
    pub fn danger_reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a data plane must know of a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TargetSpec {
    /// As clients call it.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// As rules call it.
    pub environment: String,
    /// `host:port`; the host is what `verify-full` checks the certificate against.
    pub address: String,
    /// The database's own name.
    pub database: String,
    /// Whom the target takes sessions for.
    pub user: String,
    /// How its certificate is checked.
    pub tls: TargetTls,
    /// PEM file with the roots to trust; `None`: the system's.
    pub ca: Option<String>,
    /// The weakest authentication that the target may ask for.
    pub auth: TargetAuth,
    /// Name and value, for rules.
    pub labels: Vec<(String, String)>,
}

/// How a target's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetTls {
    /// Chain and host name.
    #[default]
    VerifyFull,
    /// The chain is checked, the host name is not.
    VerifyCa,
    /// Plain TCP. For loopback and Unix-like trust only.
    DangerOff,
}

/// What a target may ask for as proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetAuth {
    /// SCRAM-SHA-256, with channel binding where offered; `trust` of the target is accepted as well, nothing is sent.
    #[default]
    Scram,
    /// Also MD5, for old targets.
    DangerMd5,
    /// Also the password in clear text (inside TLS or not).
    DangerCleartext,
}
