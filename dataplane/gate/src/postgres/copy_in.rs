//! What a client sends in COPY FROM STDIN: recorded up to the cap before it is forwarded, all of it by digest and count.
//!
//! Invariant: data is sent only while the target reads it (`CopyIn::Open`); any other is what the server ignores, and is
//! dropped here.

use super::owed::CopyIn;
use super::traffic::{Piece, Traffic, TrafficEnd};
use crate::clearance::Waiting;
use crate::clearance::doors::Doors;
use crate::clearance::room::{NoRoom, Room, Unrecorded};
use crate::core::Core;
use aws_lc_rs::digest::{Context, SHA256};
use headgate_postgres::frame::{self, HEADER_BYTES};
use headgate_recording::{BodyRef, Bytes, Direction, StreamOutcome};

/// The longest CopyData message, as the server has it.
const COPY_DATA_BYTES_MAX: usize = 1 << 30;
/// Of data that one event holds.
const EVENT_BYTES_MAX: usize = 64 << 10;
/// What the end of the data takes in the recording.
const END_BYTES: usize = 2 << 10;

/// The data of one COPY.
pub(super) struct DataIn {
    statement: u32,
    bytes: u64,
    messages: u64,
    /// So many bytes of the cap are used.
    kept: usize,
    truncated: bool,
    digest: Context,
}

impl Traffic {
    /// The target reads COPY data for `statement` now.
    pub(super) fn begin_data_in(&mut self, statement: u32) {
        let digest = Context::new(&SHA256);
        self.data_in = Some(Box::new(DataIn {
            statement,
            bytes: 0,
            messages: 0,
            kept: 0,
            truncated: false,
            digest,
        }));
    }

    /// CopyData at the front of `rest`: as much of it, and of the messages like it behind, as is there. 0: nothing yet.
    pub(super) fn data_in(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        rest: &[u8],
    ) -> Result<usize, TrafficEnd> {
        if matches!(self.owed.copy_in(), CopyIn::Awaited { .. })
            && !self.owed.is_skipping()
            && self.piece == Piece::None
        {
            self.lane.waiting = Waiting::Target;
            return Ok(0);
        }
        // What is recorded of it now: at most what the cap leaves, and what one event holds.
        let cap = core.settings.reply_record_bytes;
        let keeps = self
            .data_in
            .as_ref()
            .map_or(0, |d| cap.saturating_sub(d.kept))
            .min(rest.len())
            .min(EVENT_BYTES_MAX);
        let mut room = match Room::ask(core, keeps + END_BYTES, 2) {
            Ok(room) => room,
            Err(NoRoom::Yet { bytes } | NoRoom::Ever { bytes, .. }) => {
                self.lane.wait_for_room(bytes);
                return Ok(0);
            }
        };
        let mut kept = core.buffer();
        let mut used = 0;
        while let Some(more) = rest.get(used..).filter(|more| !more.is_empty()) {
            // An event holds no more: the rest is for the next round.
            if kept.len() == EVENT_BYTES_MAX {
                break;
            }
            match self.piece {
                Piece::Dropped(left) => {
                    let n = left.min(more.len());
                    self.piece = if left > n {
                        Piece::Dropped(left - n)
                    } else {
                        Piece::None
                    };
                    used += n;
                }
                Piece::Data(left) => {
                    let n = left.min(more.len());
                    let piece = more.get(..n).unwrap_or(more);
                    // A COPY that failed meanwhile reads nothing: what is left of the message is still a whole message there.
                    if let Some(data) = &mut self.data_in {
                        let keep = piece.len().min(keeps.saturating_sub(kept.len()));
                        kept.extend_from_slice(piece.get(..keep).unwrap_or(piece));
                        data.truncated |= keep < piece.len();
                        data.bytes += n as u64;
                        data.digest.update(piece);
                    }
                    doors.target.data(piece, &room);
                    self.piece = if left > n {
                        Piece::Data(left - n)
                    } else {
                        Piece::None
                    };
                    used += n;
                }
                Piece::None => {
                    if more.first() != Some(&b'd') {
                        break;
                    }
                    let Some(header) =
                        frame::peek(more, COPY_DATA_BYTES_MAX).map_err(TrafficEnd::ClientMisbehaved)?
                    else {
                        break;
                    };
                    let reads = matches!(self.owed.copy_in(), CopyIn::Open(_)) && !self.owed.is_skipping();
                    if reads {
                        doors.target.data(more.get(..HEADER_BYTES).unwrap_or(more), &room);
                        self.owed.copy_data_sent();
                        if let Some(data) = &mut self.data_in {
                            data.messages += 1;
                        }
                        self.piece = if header.len > HEADER_BYTES {
                            Piece::Data(header.len - HEADER_BYTES)
                        } else {
                            Piece::None
                        };
                        used += HEADER_BYTES;
                    } else {
                        self.piece = Piece::Dropped(header.len);
                    }
                }
            }
        }
        if let Some(data) = &mut self.data_in
            && !kept.is_empty()
        {
            let offset = data.kept as u64;
            data.kept += kept.len();
            let statement = data.statement;
            let body = BodyRef::Stream {
                statement,
                direction: Direction::ToTarget,
                offset,
                bytes: Bytes(&kept),
            };
            let _ = self.clearance.write(core, &mut room, body)?;
        }
        core.recycle(kept);
        Ok(used)
    }

    /// The data is over, or the COPY is.
    pub(super) fn end_data_in(
        &mut self,
        core: &mut Core,
        room: &mut Room,
        outcome: StreamOutcome,
        reason: &str,
    ) -> Result<(), Unrecorded> {
        let Some(data) = self.data_in.take() else {
            return Ok(());
        };
        let mut digest = [0; 32];
        digest.copy_from_slice(data.digest.finish().as_ref());
        let body = BodyRef::StreamEnd {
            statement: data.statement,
            direction: Direction::ToTarget,
            bytes: data.bytes,
            rows: data.messages,
            digest,
            truncated: data.truncated,
            outcome,
            reason,
        };
        self.clearance.write(core, room, body).map(drop)
    }
}
