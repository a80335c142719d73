//! What callers of this crate see: identities, tokens, revocations, the steps of a login.

use headgate_plane::{Secret, Who};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// A credential that was proved just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedIdentity {
    pub who: Who,
    /// A token's id (`tok_…`), or `jwt:` and the JWT's `jti`, or `jwt#` and a digest when it has none. Never the credential.
    pub credential_id: String,
    /// This credential and those that it came from; revoking any of them ends what began with it.
    pub ancestors: Vec<String>,
    pub expires_unix_ms: u64,
    /// The only targets that it opens; `None`: no limit.
    pub targets: Option<Vec<String>>,
}

/// A token to be made for somebody who has been proved by other means, or for a job that an administrator sets up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRequest {
    pub principal: String,
    #[serde(default)]
    pub groups: Vec<String>,
    /// Outermost actor first.
    #[serde(default)]
    pub chain: Vec<String>,
    /// Issuer URL, or `local`.
    pub issuer: String,
    pub ttl: Duration,
    /// What people call it: `alice's laptop`, `nightly job`.
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub targets: Option<Vec<String>>,
}

/// A narrower token, for one whom the holder starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildRequest {
    /// Becomes the outermost actor. Absent: the same actor, only narrower.
    #[serde(default)]
    pub act_as: Option<String>,
    /// Cut to what the parent has left.
    pub ttl: Duration,
    #[serde(default)]
    pub name: String,
    /// A subset of the parent's. Absent: the same.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
    /// A subset of the parent's. Absent: the same.
    #[serde(default)]
    pub targets: Option<Vec<String>>,
}

/// Everything that may be shown of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    pub id: String,
    pub name: String,
    pub principal: String,
    pub groups: Vec<String>,
    pub chain: Vec<String>,
    pub issuer: String,
    pub targets: Option<Vec<String>>,
    /// The credential that it was minted with, if it is a child; then that one's, and so on.
    pub ancestors: Vec<String>,
    pub created_unix_ms: u64,
    pub expires_unix_ms: u64,
    pub state: TokenState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    Live,
    Expired,
    Revoked,
}

/// Told to all listeners after it has been written to the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revocation {
    pub subject: RevokedSubject,
    pub reason: String,
    pub at_unix_ms: u64,
    /// Every credential known to end with this one: itself, its children, and theirs.
    pub credential_ids: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RevokedSubject {
    /// One credential, with those that were minted from it.
    Credential(String),
    /// Whatever was issued until now to this principal, or to anyone with this actor in the chain, by any issuer.
    Principal(String),
}

impl Revocation {
    /// Whether a live session with this identity must end.
    pub fn ends(&self, who: &Who, credential_id: &str) -> bool {
        if self.credential_ids.iter().any(|id| id == credential_id) {
            return true;
        }
        match &self.subject {
            RevokedSubject::Credential(id) => id == credential_id,
            RevokedSubject::Principal(name) => who.principal == *name || who.chain.contains(name),
        }
    }
}

/// Shown to the person who logs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceStart {
    pub verification_uri: String,
    /// With the code in it, where the issuer offers one.
    pub verification_uri_complete: Option<String>,
    pub user_code: String,
    /// For [`crate::Identity::device_poll`]. The issuer's device code stays inside.
    pub handle: String,
    /// Do not poll more often.
    pub interval_seconds: u64,
    pub expires_unix_ms: u64,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Made a few times a day, moved once.
pub enum DevicePoll {
    Pending { interval_seconds: u64 },
    Done { token: Secret, info: TokenInfo },
}
