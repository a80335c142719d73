//! Sessions by filter, newest first: their ids sort by the time they began.

use crate::Audit;
use crate::error::AuditError;
use crate::statements::limit;
use crate::types::*;
use data_encoding::HEXLOWER;
use headgate_plane::SessionId;
use headgate_recording::keys;
use headgate_recording::rows::{SessionEnd, SessionRow, from_bytes};
use rocksdb::Direction;

const ROWS_READ_MAX: usize = 200_000;

pub(crate) fn summary(id: SessionId, row: SessionRow) -> SessionSummary {
    SessionSummary {
        session: id.to_string(),
        actor: row.who.actor().to_owned(),
        principal: row.who.principal,
        groups: row.who.groups,
        chain: row.who.chain,
        issuer: row.who.issuer,
        address: row.who.address,
        application: row.who.application,
        credential_id: row.credential_id,
        target: row.target,
        environment: row.environment,
        role: row.role,
        protocol: row.protocol,
        target_session: row.target_session,
        opened_us: row.opened_us,
        chain_head: (row.end != SessionEnd::Open).then(|| HEXLOWER.encode(&row.head)),
        state: row.end,
        ended_us: row.ended_us,
        reason: row.reason,
        statements: row.statements,
        bytes_from_client: row.bytes_from_client,
        bytes_to_client: row.bytes_to_client,
    }
}

fn fits(f: &SessionFilter, row: &SessionRow) -> bool {
    let is = |value: &str, wanted: &Option<String>| wanted.as_ref().is_none_or(|w| w == value);
    f.from_us.is_none_or(|from| row.opened_us >= from)
        && f.to_us.is_none_or(|to| row.opened_us < to)
        && is(&row.who.principal, &f.principal)
        && is(row.who.actor(), &f.actor)
        && is(&row.target, &f.target)
        && f.state.is_none_or(|state| state == row.end)
        && f.anyone
            .as_ref()
            .is_none_or(|w| row.who.principal == *w || row.who.chain.contains(w))
}

impl Audit {
    /// Sessions that fit the filter, newest first. Refused sign-ins are among them.
    pub fn sessions(
        &self,
        filter: &SessionFilter,
        page: &PageRequest,
    ) -> Result<Page<SessionSummary>, AuditError> {
        // A cursor is the session before which the page begins.
        let before = match &page.cursor {
            Some(text) => Some(SessionId::parse(text).ok_or(AuditError::Cursor)?),
            None => None,
        };
        let view = self.store.view()?;
        let start = keys::session(before.unwrap_or(SessionId(u128::MAX)));
        let limit = limit(page);
        let mut rows = Vec::new();
        for (read, entry) in view.scan(keys::SESS, &start, Direction::Reverse)?.enumerate() {
            let (key, value) = entry?;
            let (Some(id), Some(row)) = (keys::session_id(&key), from_bytes::<SessionRow>(&value)) else {
                continue;
            };
            if Some(id) == before {
                continue;
            }
            let fits = fits(filter, &row);
            if fits {
                rows.push(summary(id, row));
            }
            if rows.len() == limit || read >= ROWS_READ_MAX {
                return Ok(Page {
                    rows,
                    next: Some(id.to_string()),
                });
            }
        }
        Ok(Page { rows, next: None })
    }

    pub fn session(&self, id: &str) -> Result<Option<SessionSummary>, AuditError> {
        let id = SessionId::parse(id).ok_or(AuditError::SessionId)?;
        Ok(self.store.view()?.session(id)?.map(|row| summary(id, row)))
    }
}
