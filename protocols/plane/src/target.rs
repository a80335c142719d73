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

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TargetSpec {
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    pub environment: String,
    /// `host:port`; the host is what `verify-full` checks the certificate against.
    pub address: String,
    pub database: String,
    pub user: String,
    pub tls: TargetTls,
    /// PEM file with the roots to trust; `None`: the system's.
    pub ca: Option<String>,
    /// The weakest authentication that the target may ask for.
    pub auth: TargetAuth,
    pub labels: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetTls {
    #[default]
    VerifyFull,
    /// The chain is checked, the host name is not.
    VerifyCa,
    /// Plain TCP. For loopback and Unix-like trust only.
    DangerOff,
}

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
