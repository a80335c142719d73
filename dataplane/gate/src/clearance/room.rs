//! "Recorded, or not done" as types: room is asked for before anything is written, and a record that was written is a
//! value without which nothing is forwarded ([`crate::clearance::permit::Subject::permit`]).
//!
//! Invariants: [`Room`] is made by asking the spool for bytes and is spent in the same call; a write that finds too little
//! of it writes nothing, and `seq` has no gap.

use crate::core::Core;
use headgate_plane::SessionId;
use headgate_recording::{BodyRef, EventRef, encode_into};

/// Around each record in the spool: its head, and what rounds it up.
const FRAME_BYTES: usize = 24;

/// Bytes of the spool that are free, for the records of one step.
#[derive(Debug)]
#[must_use = "room that is not written into was asked for in vain"]
pub struct Room {
    left: usize,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The recorder has not taken out enough yet: so many bytes must be free.
    Yet { bytes: usize },
    /// So much never fits.
    Ever { bytes: usize, max: usize },
}

/// A record stands in the spool. Only [`Recorder::write`] makes one.
#[derive(Debug)]
#[must_use = "a record is the proof that something may be forwarded"]
pub struct Recorded(());

/// A write found less room than was asked for: a mistake of ours, after which the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unrecorded;

impl Room {
    /// Room for `records` records of `bytes` in all.
    #[inline]
    pub fn ask(core: &mut Core, bytes: usize, records: usize) -> Result<Room, NoRoom> {
        let need = bytes.saturating_add(records.saturating_mul(FRAME_BYTES));
        if core.spool.has_free(need) {
            return Ok(Room { left: need });
        }
        let max = core.spool.capacity() / 2;
        if need > max {
            return Err(NoRoom::Ever { bytes: need, max });
        }
        core.metrics.spool_waits += 1;
        Err(NoRoom::Yet { bytes: need })
    }

    /// The same, but never more than can be had: for a session's last words, which must not wait for what never comes.
    pub fn ask_at_most(core: &mut Core, bytes: usize, records: usize) -> Result<Room, NoRoom> {
        let frames = records.saturating_mul(FRAME_BYTES);
        let max = (core.spool.capacity() / 2).saturating_sub(frames);
        Room::ask(core, bytes.min(max), records)
    }

    /// Room for exactly this.
    #[inline]
    pub fn for_body(core: &mut Core, body: &BodyRef<'_>) -> Result<Room, NoRoom> {
        Room::ask(core, size_bound(body), 1)
    }
}

/// An upper bound of what `body` takes when it is encoded.
#[inline]
pub fn size_bound(body: &BodyRef<'_>) -> usize {
    EventRef {
        session: SessionId(0),
        seq: 0,
        unix_us: 0,
        body: *body,
    }
    .size_bound()
}

/// Numbers a session's events.
pub struct Recorder {
    /// Whose records.
    pub session: SessionId,
    next: u32,
}

impl Recorder {
    /// Before the first record.
    pub fn new(session: SessionId) -> Recorder {
        Recorder { session, next: 0 }
    }

    /// What has this number (of [`BodyRef::Prepared`]) was recorded before, as it is now. `None` for 0, which is no number.
    pub fn again(&self, prepared: u32) -> Option<Recorded> {
        (prepared != 0).then_some(Recorded(()))
    }

    /// Asks for room for exactly this, and writes it.
    #[inline]
    pub fn record(
        &mut self,
        core: &mut Core,
        body: &BodyRef<'_>,
    ) -> Result<Result<Recorded, NoRoom>, Unrecorded> {
        let event = EventRef {
            session: self.session,
            seq: self.next,
            unix_us: core.clock.unix_us(),
            body: *body,
        };
        let bound = event.size_bound();
        match Room::ask(core, bound, 1) {
            // The room is for this record alone, whose bound is known: it is not worked out twice.
            Ok(_room) => self.put(core, &event, bound).map(Ok),
            Err(none) => Ok(Err(none)),
        }
    }

    #[inline]
    fn put(&mut self, core: &mut Core, event: &EventRef<'_>, bound: usize) -> Result<Recorded, Unrecorded> {
        let written = core
            .spool
            .reserve(bound)
            .and_then(|place| encode_into(event, place).ok());
        let Some(used) = written else {
            core.metrics.records_missed += 1;
            tracing::error!(session = %self.session, bytes = bound, "record: less room than was asked for; the session ends");
            return Err(Unrecorded);
        };
        core.spool.commit(used);
        self.next = self.next.wrapping_add(1);
        Ok(Recorded(()))
    }

    /// Straight into the spool; nothing is allocated.
    pub fn write(
        &mut self,
        core: &mut Core,
        room: &mut Room,
        body: BodyRef<'_>,
    ) -> Result<Recorded, Unrecorded> {
        let event = EventRef {
            session: self.session,
            seq: self.next,
            unix_us: core.clock.unix_us(),
            body,
        };
        let bound = event.size_bound();
        match room.left.checked_sub(bound.saturating_add(FRAME_BYTES)) {
            Some(left) => {
                room.left = left;
                self.put(core, &event, bound)
            }
            None => {
                core.metrics.records_missed += 1;
                tracing::error!(session = %self.session, bytes = bound, left = room.left, "record: less room than was asked for; the session ends");
                Err(Unrecorded)
            }
        }
    }
}
