//! Who is calling: opaque tokens of ours, JWTs of trusted issuers, local users; and taking it back.
//!
//! Invariant: nothing that opens a door is kept. Of a token the store has the SHA-256, of a password the Argon2 hash, of a JWT nothing.
//! Invariant: a revocation is in the store before anybody is told of it, and is asked for with each sign-in.
//! Never here: which target somebody may open (that is the server's, with the rules).
//! Bounds: CREDENTIAL_BYTES_MAX, CHAIN_MAX, GROUPS_MAX, and the limits beside each module's tables.
#![forbid(unsafe_code)]

mod error;
mod types;

pub use error::IdentityError;
pub use types::{
    ChildRequest, DevicePoll, DeviceStart, Revocation, RevokedSubject, TokenInfo, TokenRequest, TokenState, VerifiedIdentity,
};

use headgate_config::{Issuer, Local};
use headgate_plane::{Refusal, RefusalKind, Secret, SignIn};
use headgate_store::Store;
use std::sync::Arc;
use tokio::sync::broadcast;

pub struct Identity {
    revocations: broadcast::Sender<Revocation>,
}

impl Identity {
    /// Discovery of issuers happens when they are first needed: an issuer that is away does not keep the appliance from starting.
    pub fn start(_issuers: &[Issuer], _local: Option<&Local>, _store: Arc<dyn Store>) -> Result<Arc<Identity>, IdentityError> {
        Ok(Arc::new(Identity { revocations: broadcast::channel(64).0 }))
    }

    /// Proves the credential of a session. Which target it may open is the caller's question, but for the token's own limit.
    pub async fn sign_in(&self, _ask: &SignIn) -> Result<VerifiedIdentity, Refusal> {
        Err(Refusal { kind: RefusalKind::Unavailable, detail: String::new() })
    }

    /// Proves a bearer credential of the API: no target is asked for. `address` and `application` go into `who`.
    pub async fn verify(&self, _credential: &Secret, _address: &str, _application: &str) -> Result<VerifiedIdentity, Refusal> {
        Err(Refusal { kind: RefusalKind::Unavailable, detail: String::new() })
    }

    /// The caller has made sure that whoever asks may have this.
    pub fn mint_token(&self, _request: &TokenRequest) -> Result<(Secret, TokenInfo), IdentityError> {
        Err(IdentityError::Crypto)
    }

    /// Whoever holds `parent` (a token or a JWT) gets a narrower one.
    pub async fn mint_child(&self, _parent: &Secret, _request: &ChildRequest) -> Result<(Secret, TokenInfo), IdentityError> {
        Err(IdentityError::Crypto)
    }

    /// Newest first, with those that have ended lately.
    pub fn list_tokens(&self) -> Result<Vec<TokenInfo>, IdentityError> {
        Err(IdentityError::Crypto)
    }

    /// With all that was minted from it.
    pub fn revoke_token(&self, _id: &str, _reason: &str) -> Result<Revocation, IdentityError> {
        Err(IdentityError::Crypto)
    }

    /// Any credential by its id: a token's, or `jwt:…` as audit and sessions show it.
    pub fn revoke_credential(&self, _id: &str, _reason: &str) -> Result<Revocation, IdentityError> {
        Err(IdentityError::Crypto)
    }

    /// Everything issued until now to this principal, and to anyone with this name in the actor chain.
    pub fn revoke_principal(&self, _principal: &str, _reason: &str) -> Result<Revocation, IdentityError> {
        Err(IdentityError::Crypto)
    }

    /// For the server, which ends live sessions. A receiver that lags must ask [`Identity::revocation_list`].
    pub fn revocations(&self) -> broadcast::Receiver<Revocation> {
        self.revocations.subscribe()
    }

    /// All that still matter, oldest first.
    pub fn revocation_list(&self) -> Result<Vec<Revocation>, IdentityError> {
        Err(IdentityError::Crypto)
    }

    /// Issuers by URL, and whether `headgate login` works with them.
    pub fn issuers(&self) -> Vec<(String, bool)> {
        Vec::new()
    }

    /// A local user's password for a token. `address` is where the attempt comes from.
    pub async fn local_login(&self, _user: &str, _password: &Secret, _address: &str) -> Result<(Secret, TokenInfo), IdentityError> {
        Err(IdentityError::Crypto)
    }

    /// `issuer`: its URL; empty: the only one with a `client_id`.
    pub async fn device_start(&self, _issuer: &str) -> Result<DeviceStart, IdentityError> {
        Err(IdentityError::Crypto)
    }

    pub async fn device_poll(&self, _handle: &str) -> Result<DevicePoll, IdentityError> {
        Err(IdentityError::Crypto)
    }
}

/// For `users.toml`: an Argon2id hash in PHC form.
pub fn hash_password(_password: &Secret) -> Result<String, IdentityError> {
    Err(IdentityError::Crypto)
}
