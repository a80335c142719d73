//! Events to bytes and back. An event is `postcard` of [`Event`]; the borrowed forms in `producer.rs` and `view.rs` are
//! the same bytes without the allocations.
//!
//! Bounds: a record is at most [`EVENT_BYTES_MAX`]; whoever writes splits replies long before that.

use crate::event::{Body, Event};
use crate::outline::{self, PREFIX_BYTES_MAX};
use crate::producer::EventRef;
use crate::view::{BodyView, EventView};

/// No event is longer. A statement's text and its parameters have smaller limits of their own, and so has what is cut
/// ([`crate::bounds`]).
pub const EVENT_BYTES_MAX: usize = 24 << 20;

/// Why an event cannot be written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// The slice that was reserved is too small.
    NoRoom,
    /// It has more bytes than an event may have.
    TooLong {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        max: usize,
    },
    /// The bytes are no event.
    Malformed,
    /// The event ends before the bytes do.
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl std::fmt::Display for CodecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CodecError::NoRoom => f.write_str("the event does not fit the room reserved for it"),
            CodecError::TooLong { bytes, max } => write!(f, "an event of {bytes} bytes is longer than {max}"),
            CodecError::Malformed => f.write_str("the bytes are no event"),
            CodecError::Trailing { bytes } => write!(f, "{bytes} bytes follow the event"),
        }
    }
}

impl std::error::Error for CodecError {}

fn into_slice<T: serde::Serialize>(value: &T, out: &mut [u8]) -> Result<usize, CodecError> {
    match postcard::to_slice(value, out) {
        Ok(used) => Ok(used.len()),
        Err(postcard::Error::SerializeBufferFull) => Err(CodecError::NoRoom),
        Err(_) => Err(CodecError::Malformed),
    }
}

/// Appends the event to `out`.
pub fn encode(event: &Event, out: &mut Vec<u8>) {
    let start = out.len();
    if let Some(borrowed) = event.borrowed() {
        out.resize(start + borrowed.size_bound(), 0);
        if let Ok(used) = encode_into(&borrowed, out.get_mut(start..).unwrap_or_default()) {
            out.truncate(start + used);
            return;
        }
        out.truncate(start);
    }
    if let Body::Unknown { kind, bytes } = &event.body {
        let mut prefix = [0; PREFIX_BYTES_MAX];
        out.extend_from_slice(outline::prefix(
            event.session,
            event.seq,
            event.unix_us,
            &mut prefix,
        ));
        out.push(*kind);
        out.extend_from_slice(bytes);
        return;
    }
    // Writing plain data into memory: postcard has no other failure for these types.
    out.extend_from_slice(&postcard::to_stdvec(event).unwrap_or_default());
}

/// Writes the event to the front of `out`, which a shard reserved in its spool; returns its length. Allocates nothing.
/// [`EventRef::size_bound`] is always enough.
pub fn encode_into(event: &EventRef<'_>, out: &mut [u8]) -> Result<usize, CodecError> {
    if crate::hot::is_hot(&event.body) {
        return crate::hot::write(event, out).ok_or(CodecError::NoRoom);
    }
    into_slice(event, out)
}

/// Reads one event that fills `bytes`. Takes hostile bytes.
pub fn decode(bytes: &[u8]) -> Result<Event, CodecError> {
    match read(bytes) {
        Err(CodecError::Malformed) => {
            let view = EventView::read(bytes)?;
            let BodyView::Unknown { kind, bytes } = view.body else {
                return Err(CodecError::Malformed);
            };
            let body = Body::Unknown {
                kind,
                bytes: bytes.to_vec(),
            };
            Ok(Event {
                session: view.session,
                seq: view.seq,
                unix_us: view.unix_us,
                body,
            })
        }
        read => read,
    }
}

pub(crate) fn read<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    if bytes.len() > EVENT_BYTES_MAX {
        return Err(CodecError::TooLong {
            bytes: bytes.len(),
            max: EVENT_BYTES_MAX,
        });
    }
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|_| CodecError::Malformed)?;
    if !rest.is_empty() {
        return Err(CodecError::Trailing { bytes: rest.len() });
    }
    Ok(value)
}
