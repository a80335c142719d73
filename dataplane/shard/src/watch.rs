//! Turns what the recorder gives back into wakes of the shards that wait for it. One thread of the process; it sleeps in the
//! kernel, on a word of each spool, until a wish was fulfilled.

use crate::inbox::Inbox;
use headgate_spool::Watch;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a stop may go unseen.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs on the calling thread until `stop`. The spool at a place is that of the shard with the inbox at the same place.
pub fn watch_spools(watches: &mut [Watch], inboxes: &[Arc<Inbox>], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        Watch::wait_any(watches, LOOK_EVERY, |at| {
            if let Some(inbox) = inboxes.get(at) {
                inbox.spool_moved();
            }
        });
    }
}
