//! Writes a session's events into the core's spool.
//!
//! Invariant: before anything is forwarded there was room to record it ([`has_room`]); so a write never fails in
//! between, and `seq` has no gap.

use crate::core::Core;
use headgate_plane::{Parameter, SessionId};
use headgate_recording::{Body, Event};

/// Room that must be free beside a message's own bytes before the message is handled: what its end can write.
pub fn room_bytes(core: &Core) -> usize {
    (core.settings.reply_record_bytes + (192 << 10)).min(core.spool.capacity() / 3)
}

/// Whether a message of `bytes` can be recorded whole now.
pub fn has_room(core: &mut Core, bytes: usize) -> bool {
    let need = bytes.saturating_mul(2).saturating_add(room_bytes(core));
    core.spool.free() >= need
}

/// Whether a message of `bytes` can ever be recorded.
pub fn can_fit(core: &Core, bytes: usize) -> bool {
    bytes.saturating_mul(2).saturating_add(room_bytes(core)) <= core.spool.capacity() / 2
}

/// Numbers a session's events.
pub struct Recorder {
    pub session: SessionId,
    next: u32,
    scratch: Vec<u8>,
}

impl Recorder {
    pub fn new(session: SessionId) -> Recorder {
        Recorder { session, next: 0, scratch: Vec::new() }
    }

    pub fn write(&mut self, core: &mut Core, body: Body) {
        let event = Event { session: self.session, seq: self.next, unix_us: core.clock.unix_us(), body };
        self.scratch.clear();
        headgate_recording::encode(&event, &mut self.scratch);
        if let Some(room) = core.spool.reserve(self.scratch.len()) {
            room.copy_from_slice(&self.scratch);
            core.spool.commit(self.scratch.len());
            self.next += 1;
        } else {
            // Cannot be reached while `has_room` guards every message; if it is, the gap in `seq` must show, so count on.
            self.next += 1;
            core.metrics.spool_waits += 1;
            tracing::error!(session = %self.session, "record: no room where room was promised");
        }
        if self.scratch.capacity() > 64 << 10 {
            self.scratch = Vec::new();
        }
    }
}

/// Of one value, and of all values of one Bind, as much is recorded; approvals bind the whole by digest all the same.
const VALUE_BYTES_MAX: usize = 64 << 10;
const VALUES_BYTES_MAX: usize = 128 << 10;

/// Cuts parameters to what a recording keeps.
pub fn recorded(parameters: &[Parameter]) -> Vec<Parameter> {
    let mut left = VALUES_BYTES_MAX;
    parameters
        .iter()
        .map(|p| {
            let value = p.value.as_ref().map(|value| {
                let keep = value.len().min(VALUE_BYTES_MAX).min(left);
                left -= keep;
                value.get(..keep).unwrap_or(value).to_vec()
            });
            Parameter { type_oid: p.type_oid, format: p.format, value }
        })
        .collect()
}
