//! Appending to a `Vec<u8>`. A length that does not fit its field is an error in release builds too, never a wrap.
//!
//! Invariant: a function that fails leaves `out` as long as it found it.

use std::fmt;

/// Why something could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// More bytes (or items) than the length field can say, or than the message may have.
    TooLong {
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// A zero inside a zero-terminated string.
    ZeroInside,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::TooLong { len, max } => write!(f, "a length of {len} where {max} is the most"),
            WriteError::ZeroInside => f.write_str("a zero byte inside a zero-terminated string"),
        }
    }
}

impl std::error::Error for WriteError {}

/// The longest length that an `i32` field can say.
pub const LEN_MAX: usize = i32::MAX as usize;

/// A length as the `i32` that stands on the wire.
pub fn len_i32(len: usize) -> Result<i32, WriteError> {
    i32::try_from(len).map_err(|_| WriteError::TooLong { len, max: LEN_MAX })
}

/// A count as the `i16` that stands on the wire.
pub fn len_i16(len: usize) -> Result<i16, WriteError> {
    i16::try_from(len).map_err(|_| WriteError::TooLong {
        len,
        max: i16::MAX as usize,
    })
}

/// A count as the unsigned 16 bits that stand on the wire.
pub fn len_u16(len: usize) -> Result<u16, WriteError> {
    u16::try_from(len).map_err(|_| WriteError::TooLong {
        len,
        max: usize::from(u16::MAX),
    })
}

/// Two bytes in network order.
pub fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Two bytes in network order, signed.
pub fn put_i16(out: &mut Vec<u8>, value: i16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Four bytes in network order.
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Four bytes in network order, signed.
pub fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// A string and its zero.
pub fn put_cstr(out: &mut Vec<u8>, text: &[u8]) -> Result<(), WriteError> {
    if memchr::memchr(0, text).is_some() {
        return Err(WriteError::ZeroInside);
    }
    out.extend_from_slice(text);
    out.push(0);
    Ok(())
}

/// An `i32` length and the bytes; `None` is the length -1.
pub fn put_nullable_i32(out: &mut Vec<u8>, value: Option<&[u8]>) -> Result<(), WriteError> {
    match value {
        None => put_i32(out, -1),
        Some(value) => {
            let len = len_i32(value.len())?;
            put_i32(out, len);
            out.extend_from_slice(value);
        }
    }
    Ok(())
}

/// Runs `body` behind an `i32` length that counts itself and the body.
pub fn counted_i32(
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let start = out.len();
    put_i32(out, 0);
    let written = body(out).and_then(|()| len_i32(out.len().saturating_sub(start)));
    match written.map(|len| {
        (
            len,
            out.get_mut(start..).and_then(|tail| tail.first_chunk_mut::<4>()),
        )
    }) {
        Ok((len, Some(field))) => {
            *field = len.to_be_bytes();
            Ok(())
        }
        Ok((_, None)) => {
            out.truncate(start);
            Err(WriteError::TooLong { len: 0, max: 0 })
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_counts_itself_and_its_body() {
        let mut out = vec![9];
        counted_i32(&mut out, |out| put_cstr(out, b"ab")).unwrap();
        assert_eq!(out, [9, 0, 0, 0, 7, b'a', b'b', 0]);
    }

    #[test]
    fn what_cannot_be_written_is_taken_back() {
        let mut out = vec![9];
        let error = counted_i32(&mut out, |out| {
            put_u32(out, 1);
            put_cstr(out, b"a\0b")
        });
        assert_eq!(error, Err(WriteError::ZeroInside));
        assert_eq!(out, [9]);
    }

    #[test]
    fn a_length_over_its_field_is_an_error_and_does_not_wrap() {
        assert_eq!(len_i32(LEN_MAX), Ok(i32::MAX));
        assert_eq!(
            len_i32(LEN_MAX + 1),
            Err(WriteError::TooLong {
                len: LEN_MAX + 1,
                max: LEN_MAX
            })
        );
        // 4 GiB + 4: the length that drivers once wrote as 4.
        assert!(len_i32((1usize << 32) + 4).is_err());
        assert!(len_i16(32768).is_err());
        assert!(len_u16(65536).is_err());
    }
}
