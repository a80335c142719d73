//! Cancel keys of our own: the client never sees the target's. The random bytes are the caller's.
//!
//! Protocol 3.0 has exactly 4 bytes of secret; 3.2 has 4 to 256, ours are 32.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use std::fmt;

/// Of protocol 3.0.
pub const KEY_BYTES_3_0: usize = 4;
/// Of protocol 3.2, as Headgate makes them.
pub const KEY_BYTES_3_2: usize = 32;
/// The longest key of a target that 3.2 allows.
pub const KEY_BYTES_MAX: usize = 256;

/// The secret half of what cancels a session.
#[derive(Clone)]
pub struct Key {
    bytes: [u8; KEY_BYTES_3_2],
    len: usize,
}

impl Key {
    /// A key for a client that speaks 3.`minor`, from fresh random bytes.
    pub fn new(minor: u16, random: [u8; KEY_BYTES_3_2]) -> Key {
        Key {
            bytes: random,
            len: if minor >= 2 { KEY_BYTES_3_2 } else { KEY_BYTES_3_0 },
        }
    }

    /// As it stands in a message.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }

    /// Whether `key`, as a cancel request brings it, is this key. Takes the same time for every key of its length.
    pub fn matches(&self, key: &[u8]) -> bool {
        verify_slices_are_equal(self.as_bytes(), key).is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_matches() {
        let random: [u8; 32] = std::array::from_fn(|i| i as u8 + 1);
        let short = Key::new(0, random);
        assert_eq!(short.as_bytes(), &random[..4]);
        assert!(short.matches(&random[..4]));
        assert!(!short.matches(&random));
        assert!(!short.matches(&[]));
        let long = Key::new(2, random);
        assert!(long.matches(&random));
        assert!(!long.matches(&random[..4]));
        let mut other = random;
        other[31] ^= 1;
        assert!(!long.matches(&other));
        assert!(!format!("{long:?}").contains("31"));
    }
}
