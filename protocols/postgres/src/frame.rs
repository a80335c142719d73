//! Finds messages at the front of a buffer. The caller owns the buffer; nothing is copied.
//!
//! Invariants: a header that is returned satisfies HEADER_BYTES <= len <= max; a length out of bounds is an error as soon as
//! its four bytes are there, before any of the body is waited for.
//! Spec: "Message Formats". The length counts itself, but not the tag.

use crate::error::PeerMisbehaved;

/// Tag and length.
pub const HEADER_BYTES: usize = 5;

/// The most that PostgreSQL takes as a start-up packet, and so do we: MAX_STARTUP_PACKET_LENGTH and the length itself.
pub const STARTUP_BYTES_MAX: usize = 10_004;

/// The front of a message: its tag and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the message is.
    pub tag: u8,
    /// The whole message, with tag and length.
    pub len: usize,
}

impl Header {
    /// The body of this message at the front of `bytes`, if all of it is there.
    pub fn body<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(HEADER_BYTES..self.len)
    }
}

/// Reads the header at the front of `bytes`; `None` until its five bytes are there. `max` is of the whole message.
pub fn peek(bytes: &[u8], max: usize) -> Result<Option<Header>, PeerMisbehaved> {
    let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let said = u32::from_be_bytes([a, b, c, d]);
    let bytes = usize::try_from(said).unwrap_or(usize::MAX);
    if bytes < 4 {
        return Err(PeerMisbehaved::FrameTooShort { bytes });
    }
    match bytes.checked_add(1) {
        Some(len) if len <= max => Ok(Some(Header { tag, len })),
        _ => Err(PeerMisbehaved::FrameTooLong { bytes, max }),
    }
}

/// A whole message at the front of `bytes`: its header and its body. `None` until all of it is there.
pub fn split(bytes: &[u8], max: usize) -> Result<Option<(Header, &[u8])>, PeerMisbehaved> {
    Ok(peek(bytes, max)?.and_then(|header| header.body(bytes).map(|body| (header, body))))
}

/// The length of a start-up packet (it has no tag) with its length field; `None` until four bytes are there.
pub fn peek_startup(bytes: &[u8]) -> Result<Option<usize>, PeerMisbehaved> {
    let Some(field) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let len = usize::try_from(u32::from_be_bytes(*field)).unwrap_or(usize::MAX);
    // Length and protocol number are always there.
    if !(8..=STARTUP_BYTES_MAX).contains(&len) {
        return Err(PeerMisbehaved::NoStartupPacket { bytes: len });
    }
    Ok(Some(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_out_of_bounds_is_said_before_the_body_comes() {
        assert_eq!(
            peek(b"Q\0\0\0\x03", 100),
            Err(PeerMisbehaved::FrameTooShort { bytes: 3 })
        );
        assert_eq!(
            peek(b"Q\0\0\0\x64", 100),
            Err(PeerMisbehaved::FrameTooLong { bytes: 100, max: 100 })
        );
        assert_eq!(
            peek(b"Q\0\0\0\x63", 100),
            Ok(Some(Header { tag: b'Q', len: 100 }))
        );
        let all_ones = [b'Q', 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(
            peek(&all_ones, 1 << 26),
            Err(PeerMisbehaved::FrameTooLong { .. })
        ));
        assert!(matches!(peek(&all_ones, usize::MAX), Ok(Some(_))));
    }

    #[test]
    fn a_cut_header_waits() {
        for cut in 0..HEADER_BYTES {
            assert_eq!(peek(&b"S\0\0\0\x04"[..cut], 100), Ok(None));
        }
        assert_eq!(
            split(b"S\0\0\0\x04", 100),
            Ok(Some((Header { tag: b'S', len: 5 }, &[][..])))
        );
        assert_eq!(split(b"S\0\0\0\x05", 100), Ok(None));
    }

    #[test]
    fn a_start_up_packet_has_its_own_bounds() {
        assert_eq!(peek_startup(&[0, 0, 0]), Ok(None));
        assert_eq!(
            peek_startup(&7u32.to_be_bytes()),
            Err(PeerMisbehaved::NoStartupPacket { bytes: 7 })
        );
        assert_eq!(peek_startup(&10_004u32.to_be_bytes()), Ok(Some(10_004)));
        // An HTTP request reads as a length beyond all bounds, a message of a session too.
        for first in [&10_005u32.to_be_bytes()[..], b"GET / HTTP/1.1", b"X\0\0\0\x04"] {
            assert!(peek_startup(first).unwrap_err().is_silent(), "{first:?}");
        }
    }
}
