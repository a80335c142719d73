//! The reader: a slice that only gets shorter.
//!
//! Invariant: what a call returns and what it leaves are together exactly what there was before; a call that fails
//! leaves the reader as it was. Bounds are checked by subtraction (`n > left`), never by addition.

use std::fmt;

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The value needs more bytes than are left.
    Short {
        /// How many were wanted.
        wanted: usize,
        /// How many there were.
        left: usize,
    },
    /// A zero-terminated string has no zero.
    Unterminated,
    /// A count or length is negative where it must not be.
    Negative {
        /// What stands there.
        value: i64,
    },
    /// The message is over, but bytes are left.
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Short { wanted, left } => write!(f, "{wanted} bytes wanted, {left} left"),
            ReadError::Unterminated => f.write_str("a string without its end"),
            ReadError::Negative { value } => write!(f, "a length of {value}"),
            ReadError::Trailing { bytes } => write!(f, "{bytes} bytes too many"),
        }
    }
}

impl std::error::Error for ReadError {}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at the front of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Reader { left: bytes }
    }

    /// Bytes not yet read.
    pub const fn left(&self) -> usize {
        self.left.len()
    }

    /// Whether everything has been read.
    pub const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// What is left, without taking it.
    pub const fn peek(&self) -> &'a [u8] {
        self.left
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }

    /// The next so many bytes.
    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8], ReadError> {
        match self.left.split_at_checked(bytes) {
            Some((taken, left)) => {
                self.left = left;
                Ok(taken)
            }
            None => Err(ReadError::Short {
                wanted: bytes,
                left: self.left.len(),
            }),
        }
    }

    /// The next `N` bytes, by value.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        match self.left.split_first_chunk::<N>() {
            Some((taken, left)) => {
                self.left = left;
                Ok(*taken)
            }
            None => Err(ReadError::Short {
                wanted: N,
                left: self.left.len(),
            }),
        }
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, ReadError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// Two bytes in network order.
    pub fn u16(&mut self) -> Result<u16, ReadError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Two bytes in network order, signed.
    pub fn i16(&mut self) -> Result<i16, ReadError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// Four bytes in network order.
    pub fn u32(&mut self) -> Result<u32, ReadError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Four bytes in network order, signed.
    pub fn i32(&mut self) -> Result<i32, ReadError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Eight bytes in network order.
    pub fn u64(&mut self) -> Result<u64, ReadError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A zero-terminated string, without its zero.
    pub fn cstr(&mut self) -> Result<&'a [u8], ReadError> {
        let at = memchr::memchr(0, self.left).ok_or(ReadError::Unterminated)?;
        let (text, rest) = self.left.split_at_checked(at).ok_or(ReadError::Unterminated)?;
        self.left = rest.get(1..).ok_or(ReadError::Unterminated)?;
        Ok(text)
    }

    /// An `i32` length and so many bytes; -1 is `None`, anything else below zero an error.
    pub fn nullable_i32(&mut self) -> Result<Option<&'a [u8]>, ReadError> {
        let mut ahead = *self;
        let value = match ahead.i32()? {
            -1 => None,
            len => {
                let len = usize::try_from(len).map_err(|_| ReadError::Negative {
                    value: i64::from(len),
                })?;
                Some(ahead.take(len)?)
            }
        };
        *self = ahead;
        Ok(value)
    }

    /// Says that the message must be over here.
    pub const fn finish(self) -> Result<(), ReadError> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(ReadError::Trailing {
                bytes: self.left.len(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_read_leaves_the_reader_as_it_was() {
        let mut reader = Reader::new(&[1, 2, 3]);
        let before = reader;
        assert_eq!(reader.u32(), Err(ReadError::Short { wanted: 4, left: 3 }));
        assert_eq!(reader.take(4), Err(ReadError::Short { wanted: 4, left: 3 }));
        assert_eq!(reader.cstr(), Err(ReadError::Unterminated));
        assert_eq!(reader, before);
        let bytes = [0, 0, 0, 9, 1];
        let mut reader = Reader::new(&bytes);
        assert!(reader.nullable_i32().is_err());
        assert_eq!(reader.left(), 5);
    }

    #[test]
    fn a_length_near_the_end_of_the_numbers_is_only_short() {
        assert_eq!(
            Reader::new(&[7]).take(usize::MAX),
            Err(ReadError::Short {
                wanted: usize::MAX,
                left: 1
            })
        );
        let bytes = [0x7f, 0xff, 0xff, 0xff];
        assert!(matches!(
            Reader::new(&bytes).nullable_i32(),
            Err(ReadError::Short { .. })
        ));
    }

    #[test]
    fn minus_one_is_null_and_minus_two_is_an_error() {
        assert_eq!(Reader::new(&(-1i32).to_be_bytes()).nullable_i32(), Ok(None));
        assert_eq!(
            Reader::new(&(-2i32).to_be_bytes()).nullable_i32(),
            Err(ReadError::Negative { value: -2 })
        );
        assert_eq!(Reader::new(&[0, 0, 0, 0]).nullable_i32(), Ok(Some(&[][..])));
    }

    #[test]
    fn a_string_ends_at_its_first_zero_and_what_follows_is_left() {
        let mut reader = Reader::new(b"ab\0c\0");
        assert_eq!(reader.cstr(), Ok(&b"ab"[..]));
        assert_eq!(reader.finish(), Err(ReadError::Trailing { bytes: 2 }));
        assert_eq!(reader.cstr(), Ok(&b"c"[..]));
        assert_eq!(reader.finish(), Ok(()));
    }
}
