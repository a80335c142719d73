//! Frames of Headgate's own parts among themselves (the link between the planes, the analysts): a big-endian `u32` length,
//! then so many bytes.
//!
//! Never here: what the bytes mean. Bounds: each door says its own `max`, and a length beyond it is an error before anything
//! is read or reserved for it.

/// Of the length in front.
pub const HEAD_BYTES: usize = 4;

/// A body longer than its door takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Length of the body.
    pub bytes: usize,
    /// What the door takes.
    pub max: usize,
}

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a frame of {} bytes is longer than {}", self.bytes, self.max)
    }
}

impl std::error::Error for TooLong {}

/// Writes the length into the first [`HEAD_BYTES`] of `frame`; what stands after them is the body.
///
/// # Panics
/// If `frame` has no room for its length: that is the caller's own mistake, not a peer's.
#[expect(clippy::expect_used, reason = "a frame of our own, not a peer's bytes")]
pub fn seal(frame: &mut [u8], max: usize) -> Result<(), TooLong> {
    let (head, body) = frame
        .split_first_chunk_mut::<HEAD_BYTES>()
        .expect("frame: begins with room for its length");
    let bytes = body.len();
    match u32::try_from(bytes) {
        Ok(length) if bytes <= max => {
            *head = length.to_be_bytes();
            Ok(())
        }
        _ => Err(TooLong { bytes, max }),
    }
}

/// How many bytes follow `head`.
pub fn body_bytes(head: [u8; HEAD_BYTES], max: usize) -> Result<usize, TooLong> {
    let bytes = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if bytes <= max {
        Ok(bytes)
    } else {
        Err(TooLong { bytes, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_reads_back_and_one_beyond_the_bound_is_named() {
        let mut frame = [9, 9, 9, 9, 1, 2, 3];
        assert_eq!(seal(&mut frame, 3), Ok(()));
        assert_eq!(frame, [0, 0, 0, 3, 1, 2, 3]);
        let head = *frame.first_chunk().expect("a head");
        assert_eq!(body_bytes(head, 3), Ok(3));
        let wrong = TooLong { bytes: 3, max: 2 };
        assert_eq!(
            (seal(&mut frame, 2), body_bytes(head, 2)),
            (Err(wrong), Err(wrong))
        );
        assert!(body_bytes([0xff; 4], 1 << 20).is_err());
    }
}
