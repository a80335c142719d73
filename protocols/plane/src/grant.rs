//! Sign-in: the identity question of the data plane and the grant that comes back.

use crate::ids::{Epoch, SessionId};
use crate::target::{Secret, TargetSpec};
use serde::{Deserialize, Serialize};

/// Asked once per session, after the client's credential has been read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignIn {
    /// The session that wants to begin.
    pub session: SessionId,
    /// What the client proves itself by.
    pub credential: Credential,
    /// `database` of the startup packet: names the target.
    pub target: String,
    /// `user` of the startup packet. Informational: identity comes from the credential alone.
    pub user: String,
    /// Client's address without port, as text.
    pub address: String,
    /// `application_name` of the startup packet; empty if absent.
    pub application: String,
    /// Whether the credential came inside TLS.
    pub tls: bool,
}

/// What a client proves itself by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Credential {
    /// The password field: a short opaque token of ours (`hgt_…`) or a JWT of a trusted issuer.
    Password(Secret),
}

/// Who is calling. Frozen when the session begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Who {
    /// Who is answerable (JWT `sub`, or the claim that the issuer's configuration names).
    pub principal: String,
    /// As the credential, or the identity provider, has them.
    pub groups: Vec<String>,
    /// Who acts for the principal, outermost (current) actor first: RFC 8693 `act`. Empty: the principal itself.
    pub chain: Vec<String>,
    /// Issuer URL, or `local`.
    pub issuer: String,
    /// The client's, without port.
    pub address: String,
    /// `application_name`; empty if absent.
    pub application: String,
}

impl Who {
    /// The outermost actor: who holds the connection. The principal itself when nobody acts for it.
    pub fn actor(&self) -> &str {
        self.chain.first().map_or(self.principal.as_str(), String::as_str)
    }
}

/// What the control plane hands out for one session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// The session that asked.
    pub session: SessionId,
    /// Who it is.
    pub who: Who,
    /// What it may reach.
    pub target: TargetSpec,
    /// The secret that the target wants; never shown to the client.
    pub target_secret: Secret,
    /// Who reads the target's catalog for the gateway; `None`: the target's own user.
    pub catalog_reader: Option<CatalogReader>,
    /// Of the rules that let it in.
    pub epoch: Epoch,
    /// The session ends at this time, Unix milliseconds.
    pub expires_unix_ms: u64,
    /// The credential's id (token id, or JWT `jti`), for revocation and the audit. Never the credential.
    pub credential_id: String,
}

/// A user of the target that reads its catalog, and nothing else, on a connection of the gateway's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CatalogReader {
    /// Its name at the target.
    pub user: String,
    /// Its password there.
    pub secret: Secret,
}

/// Why nobody was let in. `detail` goes to the audit and the log; the client reads [`RefusalKind::to_client`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind.
    pub kind: RefusalKind,
    /// More of it, not for the client.
    pub detail: String,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalKind {
    /// Unknown, expired, revoked or malformed credential; all alike to the client.
    BadCredential,
    /// The credential is good, but no target of that name is there for this identity. Unknown and forbidden are alike.
    NoSuchTarget,
    /// The control plane cannot be reached, or did not answer in time.
    Unavailable,
    /// The target's secret is missing.
    Misconfigured,
}

impl RefusalKind {
    /// What the client may read.
    pub fn to_client(self) -> &'static str {
        match self {
            RefusalKind::BadCredential => "Headgate does not accept this credential",
            RefusalKind::NoSuchTarget => "no such target for this identity",
            RefusalKind::Unavailable => "Headgate cannot check identities at the moment",
            RefusalKind::Misconfigured => "this target is not ready to be used",
        }
    }
}
