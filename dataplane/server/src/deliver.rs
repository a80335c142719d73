//! From the link into the shards' inboxes. Runs on the link's executor.

use headgate_gate::Core;
use headgate_plane::ToData;
use headgate_shard::{Inbox, Message};
use std::sync::Arc;

/// A session's shard is not known here, and a message for a session is rare: it goes to all, and one takes it.
pub fn deliver(inboxes: &[Arc<Inbox>], message: ToData) {
    let all = |make: &dyn Fn() -> Message| inboxes.iter().for_each(|inbox| inbox.send(make()));
    match message {
        ToData::Welcome { .. } => {}
        ToData::Snapshot(snapshot) => {
            let epoch = snapshot.epoch.0;
            let (compiled, problems) = Core::compile(snapshot);
            for problem in &problems {
                tracing::error!(epoch, %problem, "rules: this snapshot cannot be used; everything is refused until another comes");
            }
            all(&|| Message::Snapshot(Arc::clone(&compiled)));
        }
        ToData::SignedIn { session, result } => all(&|| Message::SignedIn {
            session,
            result: result.clone(),
        }),
        ToData::Asked(asked) => all(&|| Message::Asked(asked.clone())),
        ToData::Answer { key, answer } => all(&|| Message::Answer {
            key,
            answer: answer.clone(),
        }),
        ToData::Revoke { sessions, reason } => {
            let (sessions, reason): (Arc<[_]>, Arc<str>) = (sessions.into(), reason.into());
            all(&|| Message::Revoke {
                sessions: Arc::clone(&sessions),
                reason: Arc::clone(&reason),
            });
        }
    }
}
