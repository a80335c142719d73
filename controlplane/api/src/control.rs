//! What the link, the API and the watchers share.

use crate::caller::Roles;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::rules_board::RulesBoard;
use crate::sessions::{LiveSession, Registry};
use headgate_audit::Audit;
use headgate_config::Config;
use headgate_identity::{Identity, Revocation};
use headgate_questions::Desk;
use headgate_secrets::Secrets;
use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;

pub struct Control {
    pub config: Arc<Config>,
    pub identity: Arc<Identity>,
    pub secrets: Arc<Secrets>,
    pub desk: Arc<Desk>,
    pub rules: Arc<RulesBoard>,
    pub audit: Arc<Audit>,
    pub registry: Registry,
    pub journal: Journal,
    pub metrics: Metrics,
    pub roles: Roles,
    /// Data planes that are connected now.
    pub links: AtomicUsize,
    /// One permit for each event stream.
    pub streams: Arc<Semaphore>,
    /// Audit queries read much: a few at a time.
    pub queries: Arc<Semaphore>,
    /// Revocations that a session may have slipped past: see [`Control::session_opened`].
    pub recent: Mutex<VecDeque<Revocation>>,
}

const RECENT_MAX: usize = 10_000;

impl Control {
    /// Ends the sessions that a revocation names. Called for each, after it is in the store.
    pub fn end_revoked(&self, revocation: &Revocation) -> usize {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.back() != Some(revocation) {
            recent.push_back(revocation.clone());
        }
        while recent.len() > RECENT_MAX {
            recent.pop_front();
        }
        drop(recent);
        let sessions = self
            .registry
            .matching(|s| revocation.ends(&s.who, &s.credential_id));
        let count = sessions.len();
        for session in &sessions {
            if let Err(error) = self.desk.revoke_session(*session, &revocation.reason) {
                tracing::error!(%error, %session, "questions of a revoked session could not be ended");
            }
        }
        let left = self
            .desk
            .revoke_left(&revocation.reason, revocation.at_unix_ms, |who| {
                revocation.ends(who, "")
            });
        if let Err(error) = left {
            tracing::error!(%error, "questions that a revoked identity left could not be ended");
        }
        self.registry.end(sessions, &revocation.reason);
        count
    }

    /// A data plane tells of a session. The reason to end it at once, if its identity was revoked after it began: between
    /// the sign-in and now, or while the link was down. Listed first, looked up second: a revocation that comes in
    /// between finds it in the list.
    pub fn session_opened(&self, live: LiveSession) -> Option<String> {
        let (who, credential_id) = (live.who.clone(), live.credential_id.clone());
        let (session, began) = (live.session, live.session.unix_ms());
        if self.registry.opened(live) {
            return Some("the session was revoked".to_owned());
        }
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = recent
            .iter()
            .find(|r| r.at_unix_ms >= began && r.ends(&who, &credential_id))
            .map(|r| r.reason.clone());
        drop(recent);
        if let Some(reason) = &reason {
            self.registry.end(vec![session], reason);
        }
        reason
    }
}

/// Unix milliseconds.
pub fn now_unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Runs what waits for a disk where it may wait.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, crate::error::ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(crate::error::ApiError::internal)
}
