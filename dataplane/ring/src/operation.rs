//! What a completion belongs to, packed into its 64 bits of user data: 8 bits kind, 24 bits slot, 32 bits generation.

use crate::seam::SocketId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `slot` is the listener.
    Accept,
    Wake,
    Connect,
    Recv,
    Send,
    /// Of one slot's recv.
    CancelRecv,
    /// Of all of a slot.
    Cancel,
    /// Of one slot's connect.
    CancelConnect,
    /// Of everything, at the end.
    CancelAny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub kind: Kind,
    pub slot: u32,
    pub generation: u32,
}

const KINDS: [Kind; 9] = [
    Kind::Accept,
    Kind::Wake,
    Kind::Connect,
    Kind::Recv,
    Kind::Send,
    Kind::CancelRecv,
    Kind::Cancel,
    Kind::CancelConnect,
    Kind::CancelAny,
];

impl Operation {
    pub(crate) fn of(kind: Kind, id: SocketId) -> Self {
        Operation {
            kind,
            slot: id.slot,
            generation: id.generation,
        }
    }

    pub(crate) fn alone(kind: Kind, slot: u32) -> Self {
        Operation {
            kind,
            slot,
            generation: 0,
        }
    }

    pub(crate) fn encode(self) -> u64 {
        assert!(self.slot < 1 << 24, "a slot fits in 24 bits");
        ((self.kind as u64) << 56) | (u64::from(self.slot) << 32) | u64::from(self.generation)
    }

    pub(crate) fn decode(bits: u64) -> Option<Self> {
        let kind = *KINDS.get((bits >> 56) as usize)?;
        Some(Operation {
            kind,
            slot: (bits >> 32) as u32 & 0xff_ffff,
            generation: bits as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back_with_its_slot_and_generation() {
        for kind in KINDS {
            let operation = Operation {
                kind,
                slot: 0xff_fffe,
                generation: u32::MAX,
            };
            assert_eq!(Operation::decode(operation.encode()), Some(operation));
        }
        assert_eq!(Operation::decode(u64::MAX), None);
    }
}
