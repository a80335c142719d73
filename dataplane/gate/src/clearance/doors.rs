//! The two ways out of a session. No bare buffer leaves it.
//!
//! To the target go permitted statements, messages that carry none, and our own words. To the client go bytes that the
//! masker made or let pass, and our own words.

use crate::clearance::permit::Permitted;
use crate::clearance::room::Room;
use headgate_mask::{MaskError, Masked, Plan, RunStats, Scratch};

/// Both ways out.
pub struct Doors<'s> {
    /// To the client.
    pub client: ClientDoor<'s>,
    /// To the target.
    pub target: TargetDoor<'s>,
}

impl<'s> Doors<'s> {
    /// Onto what is to go out.
    pub fn new(client: &'s mut Vec<u8>, target: &'s mut Vec<u8>) -> Doors<'s> {
        Doors {
            client: ClientDoor { out: client },
            target: TargetDoor { out: target },
        }
    }
}

/// The way to the target.
pub struct TargetDoor<'s> {
    out: &'s mut Vec<u8>,
}

impl TargetDoor<'_> {
    /// A statement.
    #[inline]
    pub fn send(&mut self, permitted: &Permitted<'_>) {
        self.out.extend_from_slice(permitted.bytes());
    }

    /// Messages that carry no statement: Sync, Flush, Describe, Close, Execute of a portal whose Bind was permitted,
    /// CopyDone, CopyFail, Terminate.
    #[inline]
    pub fn pass(&mut self, message: &[u8]) {
        self.out.extend_from_slice(message);
    }

    /// Data of a COPY that was permitted, while there is room to record it.
    #[inline]
    pub fn data(&mut self, bytes: &[u8], _room: &Room) {
        self.out.extend_from_slice(bytes);
    }

    /// Our own words.
    #[inline]
    pub fn own(&mut self) -> &mut Vec<u8> {
        self.out
    }
}

/// The way to the client.
pub struct ClientDoor<'s> {
    out: &'s mut Vec<u8>,
}

impl ClientDoor<'_> {
    /// Bytes of the target that the masker made or let pass.
    #[inline]
    pub fn send(&mut self, masked: Masked<'_>) {
        self.out.extend_from_slice(masked.bytes());
    }

    /// Rows as the plan covers them; returns what was done, and the bytes that the client gets.
    pub fn rows(
        &mut self,
        plan: &Plan,
        scratch: &mut Scratch,
        rows: &[u8],
    ) -> Result<(RunStats, &[u8]), MaskError> {
        let start = self.out.len();
        let stats = plan.mask_run(scratch, rows, self.out)?;
        Ok((stats, self.out.get(start..).unwrap_or(&[])))
    }

    /// Our own words.
    #[inline]
    pub fn own(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// How many bytes have gone out and are not taken: a place to look back to.
    pub fn mark(&self) -> usize {
        self.out.len()
    }

    /// What has gone out since `start` ([`Self::mark`] of before).
    pub fn since(&self, start: usize) -> &[u8] {
        self.out.get(start..).unwrap_or(&[])
    }
}
