//! Writes a session's events into the core's spool.
//!
//! Invariant: before anything is forwarded there was room to record it ([`has_room`]); so a write never fails in
//! between, and `seq` has no gap.

use crate::core::Core;
use headgate_plane::SessionId;
use headgate_recording::{BodyRef, EventRef, encode_into};

/// Room that must be free beside a message's own bytes before the message is handled: what its end can write.
pub fn room_bytes(core: &Core) -> usize {
    (core.settings.reply_record_bytes + (192 << 10)).min(core.spool.capacity() / 3)
}

/// Whether a message of `bytes` can be recorded whole now.
pub fn has_room(core: &mut Core, bytes: usize) -> bool {
    let need = bytes.saturating_mul(2).saturating_add(room_bytes(core));
    core.spool.has_free(need)
}

/// Whether a message of `bytes` can ever be recorded.
pub fn can_fit(core: &Core, bytes: usize) -> bool {
    bytes.saturating_mul(2).saturating_add(room_bytes(core)) <= core.spool.capacity() / 2
}

/// Numbers a session's events.
pub struct Recorder {
    pub session: SessionId,
    next: u32,
}

impl Recorder {
    pub fn new(session: SessionId) -> Recorder {
        Recorder { session, next: 0 }
    }

    /// Straight into the spool; nothing is allocated.
    pub fn write(&mut self, core: &mut Core, body: BodyRef<'_>) {
        let event = EventRef { session: self.session, seq: self.next, unix_us: core.clock.unix_us(), body };
        // If there is no room where room was promised, the gap in `seq` must show: so count on.
        self.next = self.next.wrapping_add(1);
        let written = match core.spool.reserve(event.size_bound()) {
            Some(room) => encode_into(&event, room).ok(),
            None => None,
        };
        match written {
            Some(used) => core.spool.commit(used),
            None => {
                core.metrics.spool_waits += 1;
                tracing::error!(session = %self.session, "record: no room where room was promised");
            }
        }
    }
}
