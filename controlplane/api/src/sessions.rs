//! Sessions that are open now, as the data planes tell; and how they are ended.
//!
//! Invariant: a session that was revoked stays revoked: a data plane that was away at that moment hears of it when it
//! tells of the session again.
//! Bounds: [`SESSIONS_MAX`], [`ENDED_MAX`].

use headgate_plane::{SessionId, Who};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// Over all data planes. One more is not listed, and cannot be revoked by its id; it is counted.
pub const SESSIONS_MAX: usize = 1_000_000;
/// Revoked ids that are remembered for data planes that were away.
const ENDED_MAX: usize = 100_000;
const ORDERS_BEHIND_MAX: usize = 1_024;

#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct LiveSession {
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String)]
    pub session: SessionId,
    #[schema(value_type = crate::view::Identity)]
    pub who: Who,
    pub target: String,
    pub credential_id: String,
    pub started_unix_ms: u64,
    /// Which data plane: appliance and boot.
    pub origin: String,
}

fn as_text<S: serde::Serializer>(id: &SessionId, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(id)
}

/// For every data plane: end these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndOrder {
    pub sessions: Vec<SessionId>,
    pub reason: String,
}

pub struct Registry {
    inner: Mutex<Inner>,
    orders: broadcast::Sender<EndOrder>,
}

#[derive(Default)]
struct Inner {
    live: BTreeMap<SessionId, LiveSession>,
    ended: BTreeSet<SessionId>,
    ended_order: VecDeque<SessionId>,
    unlisted: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Registry {
            inner: Mutex::default(),
            orders: broadcast::channel(ORDERS_BEHIND_MAX).0,
        }
    }
}

impl Registry {
    pub fn orders(&self) -> broadcast::Receiver<EndOrder> {
        self.orders.subscribe()
    }

    /// A data plane has (re)connected and will tell its sessions again; what it does not tell is gone. `None`: of every
    /// origin of this appliance.
    pub fn forget_appliance(&self, appliance_prefix: &str) {
        self.lock()
            .live
            .retain(|_, s| !s.origin.starts_with(appliance_prefix));
    }

    /// Whether the session was revoked before and must end at once.
    pub fn opened(&self, session: LiveSession) -> bool {
        let mut inner = self.lock();
        let must_end = inner.ended.contains(&session.session);
        if inner.live.len() < SESSIONS_MAX || inner.live.contains_key(&session.session) {
            inner.live.insert(session.session, session);
        } else {
            inner.unlisted += 1;
        }
        must_end
    }

    pub fn closed(&self, session: SessionId) {
        self.lock().live.remove(&session);
    }

    pub fn get(&self, session: SessionId) -> Option<LiveSession> {
        self.lock().live.get(&session).cloned()
    }

    /// Oldest first.
    pub fn list(&self, limit: usize) -> Vec<LiveSession> {
        self.lock().live.values().take(limit).cloned().collect()
    }

    pub fn count(&self) -> usize {
        self.lock().live.len()
    }

    /// Sessions that a revocation names.
    pub fn matching(&self, ends: impl Fn(&LiveSession) -> bool) -> Vec<SessionId> {
        self.lock()
            .live
            .values()
            .filter(|s| ends(s))
            .map(|s| s.session)
            .collect()
    }

    /// Ends these, now and when they are told of again. The list loses them when the data plane says that they are closed.
    pub fn end(&self, sessions: Vec<SessionId>, reason: &str) {
        if sessions.is_empty() {
            return;
        }
        let mut inner = self.lock();
        for session in &sessions {
            if inner.ended.insert(*session) {
                inner.ended_order.push_back(*session);
            }
        }
        while inner.ended_order.len() > ENDED_MAX {
            if let Some(oldest) = inner.ended_order.pop_front() {
                inner.ended.remove(&oldest);
            }
        }
        drop(inner);
        // Nobody connected: each data plane hears of it when it tells of the session again.
        let _ = self.orders.send(EndOrder {
            sessions,
            reason: reason.to_owned(),
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: u128, principal: &str) -> LiveSession {
        LiveSession {
            session: SessionId(id),
            who: Who {
                principal: principal.into(),
                ..Who::default()
            },
            target: "orders".into(),
            credential_id: "tok_1".into(),
            started_unix_ms: 1,
            origin: "gate-1/1".into(),
        }
    }

    #[test]
    fn a_session_revoked_while_its_data_plane_was_away_ends_when_it_is_told_of_again() {
        let registry = Registry::default();
        let mut orders = registry.orders();
        assert!(!registry.opened(session(1, "alice")));
        registry.end(vec![SessionId(1)], "revoked");
        assert_eq!(orders.try_recv().unwrap().sessions, vec![SessionId(1)]);
        registry.forget_appliance("gate-1/");
        assert_eq!(registry.count(), 0);
        assert!(registry.opened(session(1, "alice")));
        assert!(!registry.opened(session(2, "alice")));
    }

    #[test]
    fn what_a_data_plane_does_not_tell_again_is_gone_and_others_stay() {
        let registry = Registry::default();
        registry.opened(session(1, "alice"));
        registry.opened(LiveSession {
            origin: "gate-2/1".into(),
            ..session(2, "bob")
        });
        registry.forget_appliance("gate-1/");
        assert_eq!(registry.matching(|_| true), vec![SessionId(2)]);
    }
}
