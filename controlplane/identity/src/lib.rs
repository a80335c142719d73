//! Who is calling: opaque tokens of ours, JWTs of trusted issuers, local users; and taking it back.
//!
//! Invariant: nothing that opens a door is kept. Of a token the store has the SHA-256, of a password the Argon2 hash, of a JWT nothing.
//! Invariant: a revocation is in the store before anybody is told of it, and is asked for with each sign-in.
//! Invariant: what was minted from a credential has never more than it, never lives longer, and is revoked with it.
//! Never here: which target somebody may open (that is the server's, with the rules).
//! Bounds: CREDENTIAL_BYTES_MAX, CHAIN_MAX, GROUPS_MAX, and the limits beside each module's tables.
#![forbid(unsafe_code)]

mod attempts;
mod clock;
mod device;
mod error;
mod http;
mod issuer;
mod jwt;
mod keys;
mod local;
mod names;
mod revoked;
mod tokens;
mod types;

#[cfg(test)]
mod tests;

pub use error::IdentityError;
pub use http::http_client;
pub use local::{LOCAL_ISSUER, hash_password};
pub use names::{CHAIN_MAX, CREDENTIAL_BYTES_MAX, GROUPS_MAX, NAME_BYTES_MAX};
pub use tokens::TTL_MAX;
pub use types::{
    ChildRequest, DevicePoll, DeviceStart, Revocation, RevokedSubject, TokenInfo, TokenRequest, TokenState,
    VerifiedIdentity,
};

use clock::Clock;
use device::{Logins, Polled};
use error::bad;
use headgate_config::{Issuer, Local};
use headgate_plane::{Credential, Refusal, RefusalKind, Secret, SignIn};
use headgate_store::Store;
use issuer::{Timing, TrustedIssuer};
use local::LocalUsers;
use revoked::{Revoked, Subject};
use std::sync::Arc;
use std::time::Duration;
use tokens::{Origin, Tokens};
use tokio::sync::broadcast;

/// Of a login, local or with an issuer: a working day.
pub const LOGIN_TTL: Duration = Duration::from_secs(12 * 3600);
const REVOCATIONS_WAITING_MAX: usize = 256;

pub struct Identity {
    clock: Clock,
    issuers: Vec<Arc<TrustedIssuer>>,
    local: Option<LocalUsers>,
    tokens: Tokens,
    revoked: Revoked,
    logins: Logins,
    announce: broadcast::Sender<Revocation>,
}

/// A proved credential with what only this crate asks about it.
struct Proved {
    identity: VerifiedIdentity,
    root_issued_unix_ms: u64,
    local_login: bool,
}

impl Identity {
    /// Discovery of issuers happens when they are first needed: an issuer that is away does not keep the appliance from starting.
    pub fn start(
        issuers: &[Issuer],
        local: Option<&Local>,
        store: Arc<dyn Store>,
    ) -> Result<Arc<Identity>, IdentityError> {
        Identity::start_with(issuers, local, store, Clock::default(), Timing::default())
    }

    fn start_with(
        issuers: &[Issuer],
        local: Option<&Local>,
        store: Arc<dyn Store>,
        clock: Clock,
        timing: Timing,
    ) -> Result<Arc<Identity>, IdentityError> {
        let trusted = issuers
            .iter()
            .map(|issuer| TrustedIssuer::new(issuer.clone(), timing).map(Arc::new));
        let identity = Identity {
            issuers: trusted.collect::<Result<_, _>>()?,
            local: local
                .map(|local| LocalUsers::open(local.users.clone()))
                .transpose()?,
            tokens: Tokens::new(store.clone(), clock.clone()),
            revoked: Revoked::new(store, clock.clone()),
            logins: Logins::new(clock.clone()),
            announce: broadcast::channel(REVOCATIONS_WAITING_MAX).0,
            clock,
        };
        identity.tokens.prune()?;
        identity.revoked.prune()?;
        Ok(Arc::new(identity))
    }

    /// Proves the credential of a session. Which target it may open is the caller's question, but for the token's own limit.
    pub async fn sign_in(&self, ask: &SignIn) -> Result<VerifiedIdentity, Refusal> {
        let Credential::Password(credential) = &ask.credential;
        let identity = self.verify(credential, &ask.address, &ask.application).await?;
        if identity
            .targets
            .as_ref()
            .is_some_and(|targets| !targets.contains(&ask.target))
        {
            let detail = format!("{} is not for target {:?}", identity.credential_id, ask.target);
            return Err(Refusal {
                kind: RefusalKind::NoSuchTarget,
                detail,
            });
        }
        Ok(identity)
    }

    /// Proves a bearer credential of the API: no target is asked for. `address` and `application` go into `who`.
    pub async fn verify(
        &self,
        credential: &Secret,
        address: &str,
        application: &str,
    ) -> Result<VerifiedIdentity, Refusal> {
        let mut identity = self.prove(credential).await?.identity;
        identity.who.address = address.to_owned();
        identity.who.application = application.to_owned();
        Ok(identity)
    }

    async fn prove(&self, credential: &Secret) -> Result<Proved, IdentityError> {
        let text = credential.danger_reveal();
        if text.len() > CREDENTIAL_BYTES_MAX {
            return Err(bad("too long for a credential").into());
        }
        let proved = if text.starts_with(tokens::PREFIX) {
            self.prove_token(credential)?
        } else {
            self.prove_jwt(text).await?
        };
        let subject = Subject {
            credential_id: &proved.identity.credential_id,
            ancestors: &proved.identity.ancestors,
            principal: &proved.identity.who.principal,
            chain: &proved.identity.who.chain,
            root_issued_unix_ms: proved.root_issued_unix_ms,
        };
        match self.revoked.look_up(&subject)? {
            Some(why) => Err(bad(why).into()),
            None => Ok(proved),
        }
    }

    fn prove_token(&self, token: &Secret) -> Result<Proved, IdentityError> {
        let mut record = self.tokens.look_up(token)?;
        if record.local_login {
            let local = self
                .local
                .as_ref()
                .ok_or_else(|| bad("local users are switched off"))?;
            let now = local
                .groups(&record.principal)?
                .ok_or_else(|| bad(format!("user {:?} is gone", record.principal)))?;
            record.groups.retain(|group| now.contains(group));
        }
        let (root_issued_unix_ms, local_login) = (record.root_issued_unix_ms, record.local_login);
        Ok(Proved {
            identity: record.identity("", ""),
            root_issued_unix_ms,
            local_login,
        })
    }

    async fn prove_jwt(&self, token: &str) -> Result<Proved, IdentityError> {
        let claimed = jwt::claimed_issuer(token)?;
        let Some(issuer) = self.issuers.iter().find(|issuer| issuer.config.url == claimed) else {
            return Err(bad("JWT of an issuer that is not trusted").into());
        };
        let proven = jwt::verify(token, issuer, &issuer.config.audience, self.clock.now_ms()).await?;
        let root_issued_unix_ms = proven.issued_unix_ms;
        Ok(Proved {
            identity: proven.identity(&issuer.config.url),
            root_issued_unix_ms,
            local_login: false,
        })
    }

    /// The caller has made sure that whoever asks may have this.
    pub fn mint_token(&self, request: &TokenRequest) -> Result<(Secret, TokenInfo), IdentityError> {
        self.mint(request, Origin::default())
    }

    fn mint(&self, request: &TokenRequest, origin: Origin) -> Result<(Secret, TokenInfo), IdentityError> {
        let (token, record) = self.tokens.mint(request, origin)?;
        tracing::info!(id = %record.id, principal = %record.principal, "a token was minted");
        Ok((token, record.info(self.clock.now_ms(), false)))
    }

    /// Whoever holds `parent` (a token or a JWT) gets a narrower one.
    pub async fn mint_child(
        &self,
        parent: &Secret,
        request: &ChildRequest,
    ) -> Result<(Secret, TokenInfo), IdentityError> {
        let Proved {
            identity: parent,
            root_issued_unix_ms,
            local_login,
        } = self.prove(parent).await?;
        let targets = match (&parent.targets, &request.targets) {
            (None, wanted) => wanted.clone(),
            (Some(limit), wanted) => Some(tokens::narrowed("target", limit, wanted.as_ref())?),
        };
        let mut chain = parent.who.chain;
        if let Some(actor) = &request.act_as {
            chain.insert(0, actor.clone());
        }
        let child = TokenRequest {
            groups: tokens::narrowed("group", &parent.who.groups, request.groups.as_ref())?,
            principal: parent.who.principal,
            chain,
            issuer: parent.who.issuer,
            ttl: request.ttl,
            name: request.name.clone(),
            targets,
        };
        let mut ancestors = parent.ancestors;
        ancestors.insert(0, parent.credential_id);
        let origin = Origin {
            ancestors,
            root_issued_unix_ms: Some(root_issued_unix_ms),
            expires_unix_ms: Some(parent.expires_unix_ms),
            local_login,
        };
        self.mint(&child, origin)
    }

    /// Newest first, with those that have ended lately.
    pub fn list_tokens(&self) -> Result<Vec<TokenInfo>, IdentityError> {
        let mut records = Vec::new();
        self.tokens.each(|_, record| records.push(record))?;
        let now = self.clock.now_ms();
        let mut found = Vec::with_capacity(records.len());
        for record in records {
            let subject = Subject {
                credential_id: &record.id,
                ancestors: &record.ancestors,
                principal: &record.principal,
                chain: &record.chain,
                root_issued_unix_ms: record.root_issued_unix_ms,
            };
            let revoked = self.revoked.look_up(&subject)?.is_some();
            found.push(record.info(now, revoked));
        }
        found.sort_by(|a, b| {
            b.created_unix_ms
                .cmp(&a.created_unix_ms)
                .then_with(|| a.id.cmp(&b.id))
        });
        Ok(found)
    }

    /// With all that was minted from it.
    pub fn revoke_token(&self, id: &str, reason: &str) -> Result<Revocation, IdentityError> {
        match self.tokens.by_id(id)? {
            Some(_) => self.revoke_credential(id, reason),
            None => Err(IdentityError::Unknown {
                what: format!("token {id:?}"),
            }),
        }
    }

    /// Any credential by its id: a token's, or `jwt:…` as audit and sessions show it.
    pub fn revoke_credential(&self, id: &str, reason: &str) -> Result<Revocation, IdentityError> {
        if !names::is_credential_id(id) {
            return Err(IdentityError::Request {
                why: format!("{id:?} is no credential's id"),
            });
        }
        let mut ids = self.tokens.descendants(id)?;
        ids.insert(0, id.to_owned());
        self.revoke(RevokedSubject::Credential(id.to_owned()), reason, ids)
    }

    /// Everything issued until now to this principal, and to anyone with this name in the actor chain.
    pub fn revoke_principal(&self, principal: &str, reason: &str) -> Result<Revocation, IdentityError> {
        if !names::is_name(principal) {
            return Err(IdentityError::Request {
                why: format!("{principal:?} is no principal"),
            });
        }
        let now = self.clock.now_ms();
        let mut ids = Vec::new();
        self.tokens.each(|_, record| {
            let named = record.principal == principal || record.chain.iter().any(|actor| actor == principal);
            if named && record.expires_unix_ms > now {
                ids.push(record.id);
            }
        })?;
        self.revoke(RevokedSubject::Principal(principal.to_owned()), reason, ids)
    }

    fn revoke(
        &self,
        subject: RevokedSubject,
        reason: &str,
        ids: Vec<String>,
    ) -> Result<Revocation, IdentityError> {
        let revocation = self.revoked.add(subject, reason, ids)?;
        tracing::info!(subject = ?revocation.subject, credentials = revocation.credential_ids.len(), "revoked");
        // Nobody listening is no error: the store has it.
        let _ = self.announce.send(revocation.clone());
        Ok(revocation)
    }

    /// For the server, which ends live sessions. A receiver that lags must ask [`Identity::revocation_list`].
    pub fn revocations(&self) -> broadcast::Receiver<Revocation> {
        self.announce.subscribe()
    }

    /// All that still matter, oldest first.
    pub fn revocation_list(&self) -> Result<Vec<Revocation>, IdentityError> {
        self.revoked.list()
    }

    /// Issuers by URL, and whether `headgate login` works with them.
    pub fn issuers(&self) -> Vec<(String, bool)> {
        self.issuers
            .iter()
            .map(|issuer| (issuer.config.url.clone(), issuer.config.client_id.is_some()))
            .collect()
    }

    /// A local user's password for a token. `address` is where the attempt comes from.
    pub async fn local_login(
        &self,
        user: &str,
        password: &Secret,
        address: &str,
    ) -> Result<(Secret, TokenInfo), IdentityError> {
        let local = self.local.as_ref().ok_or_else(|| IdentityError::Unknown {
            what: "local users".into(),
        })?;
        let groups = local.check(user, password, address, self.clock.now_ms()).await?;
        let request = TokenRequest {
            principal: user.to_owned(),
            groups,
            issuer: LOCAL_ISSUER.to_owned(),
            ttl: LOGIN_TTL,
            name: "login".to_owned(),
            ..TokenRequest::default()
        };
        self.mint(
            &request,
            Origin {
                local_login: true,
                ..Origin::default()
            },
        )
    }

    /// `issuer`: its URL; empty: the only one with a `client_id`.
    pub async fn device_start(&self, issuer: &str) -> Result<DeviceStart, IdentityError> {
        let mut fitting = self.issuers.iter().filter(|i| {
            if issuer.is_empty() {
                i.config.client_id.is_some()
            } else {
                i.config.url == issuer
            }
        });
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => self.logins.start(only.clone()).await,
            (Some(_), Some(_)) => Err(IdentityError::Request {
                why: "there are several issuers: name one".into(),
            }),
            (None, _) => Err(IdentityError::Unknown {
                what: format!("issuer {issuer:?} to log in with"),
            }),
        }
    }

    pub async fn device_poll(&self, handle: &str) -> Result<DevicePoll, IdentityError> {
        let (issuer, proven) = match self.logins.poll(handle).await? {
            Polled::Pending { interval_seconds } => return Ok(DevicePoll::Pending { interval_seconds }),
            Polled::Done { issuer, proven } => (issuer, proven),
        };
        let request = TokenRequest {
            principal: proven.principal,
            groups: proven.groups,
            chain: proven.chain,
            issuer: issuer.config.url.clone(),
            ttl: LOGIN_TTL.min(issuer.config.lifetime_max),
            name: "login".to_owned(),
            targets: None,
        };
        let origin = Origin {
            root_issued_unix_ms: Some(proven.issued_unix_ms),
            ..Origin::default()
        };
        let (token, info) = self.mint(&request, origin)?;
        Ok(DevicePoll::Done { token, info })
    }
}
