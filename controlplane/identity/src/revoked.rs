//! What was taken back, and when. Asked with each sign-in; written before anybody is told.
//!
//! Keys of the table: `c` and a credential's id; `p` and a principal's name.
//! A revoked principal refuses whatever is rooted in something issued until then; later logins are new.

use crate::clock::{Clock, millis};
use crate::types::{Revocation, RevokedSubject};
use crate::{IdentityError, tokens};
use headgate_store::{Batch, Store, StoreJson, Table, read_json, write_json};
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything that was issued before can live: the longest token, and the longest JWT.
const KEEP: Duration = Duration::from_secs(tokens::TTL_MAX.as_secs() + 8 * 86_400);
const PAGE: usize = 1024;

pub(crate) struct Revoked {
    store: Arc<dyn Store>,
    clock: Clock,
}

/// What the list is asked about one credential.
pub(crate) struct Subject<'a> {
    pub credential_id: &'a str,
    pub ancestors: &'a [String],
    pub principal: &'a str,
    pub chain: &'a [String],
    /// When the credential that all began with was issued.
    pub root_issued_unix_ms: u64,
}

fn credential_key(id: &str) -> Vec<u8> {
    [b"c", id.as_bytes()].concat()
}

fn principal_key(name: &str) -> Vec<u8> {
    [b"p", name.as_bytes()].concat()
}

impl Revoked {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Revoked { store, clock }
    }

    /// Why it is refused, for the log.
    pub(crate) fn look_up(&self, subject: &Subject<'_>) -> Result<Option<String>, IdentityError> {
        for id in std::iter::once(subject.credential_id).chain(subject.ancestors.iter().map(String::as_str)) {
            if self.store.get(Table::Revocations, &credential_key(id))?.is_some() {
                return Ok(Some(format!("{id} was revoked")));
            }
        }
        for name in std::iter::once(subject.principal).chain(subject.chain.iter().map(String::as_str)) {
            if let Some((_, found)) = self
                .store
                .get_json::<Revocation>(Table::Revocations, &principal_key(name))?
                && subject.root_issued_unix_ms <= found.at_unix_ms
            {
                return Ok(Some(format!("what was issued to {name} was revoked")));
            }
        }
        Ok(None)
    }

    pub(crate) fn add(
        &self,
        subject: RevokedSubject,
        reason: &str,
        credential_ids: Vec<String>,
    ) -> Result<Revocation, IdentityError> {
        let key = match &subject {
            RevokedSubject::Credential(id) => credential_key(id),
            RevokedSubject::Principal(name) => principal_key(name),
        };
        let reason = reason.chars().filter(|c| !c.is_control()).take(500).collect();
        let revocation = Revocation {
            subject,
            reason,
            at_unix_ms: self.clock.now_ms(),
            credential_ids,
        };
        self.store.put(
            Table::Revocations,
            &key,
            &write_json(Table::Revocations, &revocation)?,
        )?;
        Ok(revocation)
    }

    pub(crate) fn list(&self) -> Result<Vec<Revocation>, IdentityError> {
        let mut all = Vec::new();
        self.each(|_, revocation| all.push(revocation))?;
        all.sort_by_key(|r| r.at_unix_ms);
        Ok(all)
    }

    pub(crate) fn prune(&self) -> Result<(), IdentityError> {
        let before = self.clock.now_ms().saturating_sub(millis(KEEP));
        let mut old = Vec::new();
        self.each(|key, revocation| {
            if revocation.at_unix_ms < before {
                old.push(key);
            }
        })?;
        for keys in old.chunks(PAGE) {
            let batch = keys.iter().fold(Batch::new(), |batch, key| {
                batch.delete(Table::Revocations, key.as_slice())
            });
            self.store.write(batch)?;
        }
        Ok(())
    }

    fn each(&self, mut visit: impl FnMut(Vec<u8>, Revocation)) -> Result<(), IdentityError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self
                .store
                .scan_after(Table::Revocations, b"", after.as_deref(), PAGE)?;
            after = page.last().map(|entry| entry.key.clone());
            for entry in page {
                let revocation = read_json(Table::Revocations, &entry.value)?;
                visit(entry.key, revocation);
            }
            if after.is_none() {
                return Ok(());
            }
        }
    }
}
