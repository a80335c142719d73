//! Our own tokens: `hgt_` and 256 random bits. The store has their SHA-256 and what they stand for.
//!
//! Keys of the table: `t` and the digest: the record; `i` and the id: the digest; `c`, parent's id, NUL, child's id: the
//! child's end, so that descendants and living children are found without reading all.
//! Bounds: TTL_MAX, CHILDREN_MAX living children of one credential, ANCESTORS_MAX.

use crate::clock::{Clock, millis};
use crate::error::bad;
use crate::names::{
    BASE62_OF_256_BITS, CHAIN_MAX, GROUPS_MAX, TITLE_BYTES_MAX, is_name, random_256, random_id,
};
use crate::types::{TokenInfo, TokenRequest, TokenState};
use crate::{IdentityError, types::VerifiedIdentity};
use headgate_plane::{Refusal, Secret, Who};
use headgate_store::{Batch, Expected, Store, StoreJson, Table, read_json, write_json};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const PREFIX: &str = "hgt_";
pub const TTL_MAX: Duration = Duration::from_secs(366 * 86_400);
const TTL_MIN: Duration = Duration::from_secs(1);
pub(crate) const ANCESTORS_MAX: usize = 16;
const CHILDREN_MAX: usize = 1024;
const TARGETS_MAX: usize = 1000;
/// How long an ended token is still shown.
const KEEP_ENDED: Duration = Duration::from_secs(30 * 86_400);
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
const PAGE: usize = 1024;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub id: String,
    pub name: String,
    pub principal: String,
    pub groups: Vec<String>,
    pub chain: Vec<String>,
    pub issuer: String,
    pub targets: Option<Vec<String>>,
    pub ancestors: Vec<String>,
    pub created_unix_ms: u64,
    pub expires_unix_ms: u64,
    /// When the credential that it came from was issued, at the latest.
    pub root_issued_unix_ms: u64,
    /// It (or the first of its ancestors) came from a local user's password: it lives no longer than the user.
    pub local_login: bool,
}

/// Where a new token comes from.
#[derive(Default)]
pub(crate) struct Origin {
    /// Nearest first.
    pub ancestors: Vec<String>,
    /// `None`: it is its own root.
    pub root_issued_unix_ms: Option<u64>,
    /// It ends with that which it came from.
    pub expires_unix_ms: Option<u64>,
    pub local_login: bool,
}

pub(crate) struct Tokens {
    store: Arc<dyn Store>,
    clock: Clock,
    pruned_unix_ms: AtomicU64,
}

fn record_key(token: &str) -> Vec<u8> {
    [b"t".as_slice(), &Sha256::digest(token.as_bytes())].concat()
}

fn id_key(id: &str) -> Vec<u8> {
    [b"i", id.as_bytes()].concat()
}

fn children_key(parent: &str, child: &str) -> Vec<u8> {
    [b"c", parent.as_bytes(), b"\0", child.as_bytes()].concat()
}

fn is_token(text: &str) -> bool {
    let digits = text.strip_prefix(PREFIX).unwrap_or_default();
    digits.len() == BASE62_OF_256_BITS && digits.bytes().all(|b| b.is_ascii_alphanumeric())
}

impl Tokens {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Tokens {
            store,
            clock,
            pruned_unix_ms: AtomicU64::new(0),
        }
    }

    /// The record of a token that has not expired. Whether it was revoked is another question.
    pub(crate) fn look_up(&self, token: &Secret) -> Result<Record, IdentityError> {
        let text = token.danger_reveal();
        if !is_token(text) {
            return Err(bad("not the form of a token").into());
        }
        let Some((_, record)) = self.store.get_json::<Record>(Table::Tokens, &record_key(text))? else {
            return Err(bad("unknown token").into());
        };
        if record.expires_unix_ms <= self.clock.now_ms() {
            return Err(bad(format!("{} has expired", record.id)).into());
        }
        Ok(record)
    }

    pub(crate) fn mint(
        &self,
        request: &TokenRequest,
        origin: Origin,
    ) -> Result<(Secret, Record), IdentityError> {
        check(request)?;
        if origin.ancestors.len() > ANCESTORS_MAX {
            return Err(IdentityError::Request {
                why: format!("a token has at most {ANCESTORS_MAX} tokens before it"),
            });
        }
        self.prune_sometimes()?;
        let now = self.clock.now_ms();
        let expires = now
            .saturating_add(millis(request.ttl))
            .min(origin.expires_unix_ms.unwrap_or(u64::MAX));
        if expires <= now {
            return Err(bad("what the token would come from has expired").into());
        }
        if let Some(parent) = origin.ancestors.first() {
            self.room_for_child(parent, now)?;
        }
        let digits = random_256()?;
        let token = Secret::new(format!("{PREFIX}{}", digits.as_str()));
        let record = Record {
            id: random_id("tok_")?,
            name: request.name.clone(),
            principal: request.principal.clone(),
            groups: request.groups.clone(),
            chain: request.chain.clone(),
            issuer: request.issuer.clone(),
            targets: request.targets.clone(),
            ancestors: origin.ancestors,
            created_unix_ms: now,
            expires_unix_ms: expires,
            root_issued_unix_ms: origin.root_issued_unix_ms.unwrap_or(now),
            local_login: origin.local_login,
        };
        let key = record_key(token.danger_reveal());
        let mut batch = Batch::new()
            .require(Table::Tokens, key.clone(), Expected::Absent)
            .require(Table::Tokens, id_key(&record.id), Expected::Absent)
            .put(Table::Tokens, id_key(&record.id), key.clone())
            .put(Table::Tokens, key, write_json(Table::Tokens, &record)?);
        if let Some(parent) = record.ancestors.first() {
            batch = batch.put(
                Table::Tokens,
                children_key(parent, &record.id),
                expires.to_be_bytes(),
            );
        }
        self.store.write(batch)?;
        Ok((token, record))
    }

    fn room_for_child(&self, parent: &str, now: u64) -> Result<(), IdentityError> {
        let mut living = 0;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page =
                self.store
                    .scan_after(Table::Tokens, &children_key(parent, ""), after.as_deref(), PAGE)?;
            living += page.iter().filter(|entry| end_of(&entry.value) > now).count();
            if living >= CHILDREN_MAX {
                return Err(IdentityError::TooMany {
                    what: "tokens from one token",
                });
            }
            match page.last() {
                Some(entry) => after = Some(entry.key.clone()),
                None => return Ok(()),
            }
        }
    }

    pub(crate) fn by_id(&self, id: &str) -> Result<Option<Record>, IdentityError> {
        let Some(found) = self.store.get(Table::Tokens, &id_key(id))? else {
            return Ok(None);
        };
        Ok(self
            .store
            .get_json(Table::Tokens, &found.value)?
            .map(|(_, record)| record))
    }

    /// Ids of all that were minted from this credential, and from those; nearest first.
    pub(crate) fn descendants(&self, id: &str) -> Result<Vec<String>, IdentityError> {
        let mut found: Vec<String> = Vec::new();
        let mut next = 0;
        let mut parent = id.to_owned();
        loop {
            let prefix = children_key(&parent, "");
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = self
                    .store
                    .scan_after(Table::Tokens, &prefix, after.as_deref(), PAGE)?;
                let ids = page
                    .iter()
                    .filter_map(|entry| entry.key.strip_prefix(prefix.as_slice()));
                found.extend(ids.map(|id| String::from_utf8_lossy(id).into_owned()));
                match page.last() {
                    Some(entry) => after = Some(entry.key.clone()),
                    None => break,
                }
            }
            match found.get(next) {
                Some(id) => parent = id.clone(),
                None => return Ok(found),
            }
            next += 1;
        }
    }

    /// Every record, ended ones too.
    pub(crate) fn each(&self, mut visit: impl FnMut(&[u8], Record)) -> Result<(), IdentityError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self
                .store
                .scan_after(Table::Tokens, b"t", after.as_deref(), PAGE)?;
            for entry in &page {
                visit(&entry.key, read_json(Table::Tokens, &entry.value)?);
            }
            match page.last() {
                Some(entry) => after = Some(entry.key.clone()),
                None => return Ok(()),
            }
        }
    }

    fn prune_sometimes(&self) -> Result<(), IdentityError> {
        let now = self.clock.now_ms();
        let last = self.pruned_unix_ms.load(Ordering::Relaxed);
        let due = now.saturating_sub(last) >= millis(PRUNE_EVERY);
        if due
            && self
                .pruned_unix_ms
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.prune()?;
        }
        Ok(())
    }

    pub(crate) fn prune(&self) -> Result<(), IdentityError> {
        let before = self.clock.now_ms().saturating_sub(millis(KEEP_ENDED));
        let mut old = Vec::new();
        self.each(|key, record| {
            if record.expires_unix_ms < before {
                old.push((key.to_vec(), record.id, record.ancestors.into_iter().next()));
            }
        })?;
        for page in old.chunks(PAGE) {
            let batch = page.iter().fold(Batch::new(), |batch, (key, id, parent)| {
                let batch = batch
                    .delete(Table::Tokens, key.as_slice())
                    .delete(Table::Tokens, id_key(id));
                match parent {
                    Some(parent) => batch.delete(Table::Tokens, children_key(parent, id)),
                    None => batch,
                }
            });
            self.store.write(batch)?;
        }
        Ok(())
    }
}

fn end_of(value: &[u8]) -> u64 {
    value
        .first_chunk()
        .map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes))
}

fn check(request: &TokenRequest) -> Result<(), IdentityError> {
    let wrong = |why: String| Err(IdentityError::Request { why });
    if request.ttl < TTL_MIN || request.ttl > TTL_MAX {
        return wrong(format!(
            "a token lives between 1 second and {} days",
            TTL_MAX.as_secs() / 86_400
        ));
    }
    if !is_name(&request.principal) {
        return wrong("that is no name for a principal".into());
    }
    if request.issuer.is_empty() || request.issuer.len() > 2048 {
        return wrong("a token names its issuer".into());
    }
    if request.chain.len() > CHAIN_MAX {
        return wrong(format!("at most {CHAIN_MAX} actors may act for each other"));
    }
    if request.groups.len() > GROUPS_MAX || request.targets.as_ref().is_some_and(|t| t.len() > TARGETS_MAX) {
        return wrong("too many groups or targets for one token".into());
    }
    if request.name.len() > TITLE_BYTES_MAX || request.name.chars().any(char::is_control) {
        return wrong(format!(
            "a token's name has at most {TITLE_BYTES_MAX} printable characters"
        ));
    }
    match request
        .chain
        .iter()
        .chain(&request.groups)
        .chain(request.targets.iter().flatten())
        .find(|name| !is_name(name))
    {
        Some(name) => wrong(format!("{name:?} is no name")),
        None => Ok(()),
    }
}

impl Record {
    pub(crate) fn info(self, now: u64, revoked: bool) -> TokenInfo {
        let state = match (revoked, self.expires_unix_ms <= now) {
            (true, _) => TokenState::Revoked,
            (false, true) => TokenState::Expired,
            (false, false) => TokenState::Live,
        };
        TokenInfo {
            id: self.id,
            name: self.name,
            principal: self.principal,
            groups: self.groups,
            chain: self.chain,
            issuer: self.issuer,
            targets: self.targets,
            ancestors: self.ancestors,
            created_unix_ms: self.created_unix_ms,
            expires_unix_ms: self.expires_unix_ms,
            state,
        }
    }

    pub(crate) fn identity(self, address: &str, application: &str) -> VerifiedIdentity {
        VerifiedIdentity {
            who: Who {
                principal: self.principal,
                groups: self.groups,
                chain: self.chain,
                issuer: self.issuer,
                address: address.to_owned(),
                application: application.to_owned(),
            },
            credential_id: self.id,
            ancestors: self.ancestors,
            expires_unix_ms: self.expires_unix_ms,
            targets: self.targets,
        }
    }
}

/// What a child may have: never more than its parent.
pub(crate) fn narrowed(
    what: &'static str,
    parent: &[String],
    wanted: Option<&Vec<String>>,
) -> Result<Vec<String>, Refusal> {
    match wanted {
        None => Ok(parent.to_vec()),
        Some(wanted) => match wanted.iter().find(|name| !parent.contains(name)) {
            Some(name) => Err(bad(format!("the parent does not have the {what} {name:?}"))),
            None => Ok(wanted.clone()),
        },
    }
}
