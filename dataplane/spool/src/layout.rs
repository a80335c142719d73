//! What lies where in the file: one page of header, then the ring.
//!
//! Each side writes its own cache lines; `sleeping` and `room` are the words that both write.
//!
//! Words that came later (`moved`, `room`) lie where files made before them have zeroes, and zero says what was true then:
//! no wish, no wake. So the magic stays: a side that does not know these words works with one that does, and the shard
//! then finds room at its own look instead of being waked. A change of what is there needs another magic, which
//! [`crate::Producer`] and [`crate::Consumer`] refuse as no spool of theirs.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64};

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"HGSPOOL1");
pub(crate) const HEADER_BYTES: usize = 4096;
/// A smaller ring is made this large.
pub const CAPACITY_BYTES_MIN: usize = 1 << 16;
pub(crate) const CAPACITY_BYTES_MAX: usize = 1 << 36;
/// Length and kind, before each payload.
pub const RECORD_HEAD_BYTES: usize = 8;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// The payload is what the producer committed.
    Event,
    /// A producer opened the spool here; the payload is its 16 random bytes. Sessions of an earlier producer ended before.
    Opened,
}

impl RecordKind {
    pub(crate) fn word(self) -> u32 {
        match self {
            RecordKind::Event => 0x4556_0000,
            RecordKind::Opened => 0x4f50_0000,
        }
    }

    pub(crate) fn of(word: u32) -> Option<RecordKind> {
        [RecordKind::Event, RecordKind::Opened]
            .into_iter()
            .find(|k| k.word() == word)
    }
}

/// Nobody waits.
pub(crate) const AWAKE: u32 = 0;
/// The consumer waits; any publish wakes it.
pub(crate) const PARKED: u32 = 1;
/// The consumer waits; only an urgent publish wakes it.
pub(crate) const NAPPING: u32 = 2;

#[repr(C, align(128))]
pub(crate) struct Fixed {
    pub magic: AtomicU64,
    pub capacity: AtomicU64,
    pub generation_low: AtomicU64,
    pub generation_high: AtomicU64,
}

#[repr(C, align(128))]
pub(crate) struct FromProducer {
    /// Published bytes.
    pub head: AtomicU64,
    /// The producer wants everything before this position on disk.
    pub urgent: AtomicU64,
}

#[repr(C, align(128))]
pub(crate) struct FromConsumer {
    /// Recorded bytes: their room may be used again.
    pub tail: AtomicU64,
    /// Bytes on disk.
    pub durable: AtomicU64,
    /// Futex word: low half of a count of changes of `durable`.
    pub durable_changes: AtomicU32,
    /// Futex word: low half of a count of wishes of the producer that were fulfilled, for room or for the disk.
    pub moved: AtomicU32,
}

#[repr(C, align(128))]
pub(crate) struct Sleep {
    /// Futex word: AWAKE, PARKED or NAPPING.
    pub sleeping: AtomicU32,
}

#[repr(C, align(128))]
pub(crate) struct Watch {
    /// How many threads wait on `durable_changes`; a hint, left too high by a producer that died.
    pub watchers: AtomicU32,
}

#[repr(C, align(128))]
pub(crate) struct Wish {
    /// The producer wants to hear when `tail` is here or beyond. 0: it does not wait for room. The consumer takes it down
    /// when it wakes.
    pub room: AtomicU64,
}

#[repr(C)]
pub(crate) struct Header {
    pub fixed: Fixed,
    pub producer: FromProducer,
    pub consumer: FromConsumer,
    pub sleep: Sleep,
    pub watch: Watch,
    pub wish: Wish,
}

const _: () = assert!(size_of::<Header>() <= HEADER_BYTES);
// Files outlive programs: what was somewhere stays there.
const _: () = {
    assert!(
        offset_of!(Header, producer) == 128
            && offset_of!(Header, consumer) == 256
            && offset_of!(Header, sleep) == 384
    );
    assert!(offset_of!(Header, watch) == 512 && offset_of!(Header, wish) == 640);
    assert!(
        offset_of!(FromConsumer, durable) == 8
            && offset_of!(FromConsumer, durable_changes) == 16
            && offset_of!(FromConsumer, moved) == 20
    );
};

/// Bytes that a payload of `len` takes in the ring, or `None` on overflow.
pub(crate) fn framed(len: usize) -> Option<usize> {
    len.checked_add(RECORD_HEAD_BYTES + 7).map(|n| n & !7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_padded_to_eight() {
        assert_eq!(framed(0), Some(8));
        assert_eq!(framed(1), Some(16));
        assert_eq!(framed(8), Some(16));
        assert_eq!(framed(9), Some(24));
        assert_eq!(framed(usize::MAX - 3), None);
    }

    #[test]
    fn a_kind_reads_back_and_an_unknown_one_does_not() {
        assert_eq!(RecordKind::of(RecordKind::Event.word()), Some(RecordKind::Event));
        assert_eq!(
            RecordKind::of(RecordKind::Opened.word()),
            Some(RecordKind::Opened)
        );
        assert_eq!(RecordKind::of(0), None);
    }
}
