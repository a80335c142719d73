//! Names, ids and random text; what each may look like.

use crate::IdentityError;
use zeroize::Zeroizing;

/// A longer credential is refused before anything is read of it.
pub const CREDENTIAL_BYTES_MAX: usize = 16 << 10;
/// Of a principal, an actor, a group.
pub const NAME_BYTES_MAX: usize = 256;
/// Actors that may act for each other.
pub const CHAIN_MAX: usize = 8;
pub const GROUPS_MAX: usize = 1024;
/// Of a token's own name.
pub(crate) const TITLE_BYTES_MAX: usize = 128;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 > 2^256.
pub(crate) const BASE62_OF_256_BITS: usize = 43;

/// Whether it may stand for a person, an actor or a group: printable, not empty, not too long, no space at its ends.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && !text.chars().any(char::is_control)
        && text.trim() == text
}

/// `tok_…`, `jwt:…` or `jwt#…`.
pub(crate) fn is_credential_id(text: &str) -> bool {
    let rest = ["tok_", "jwt:", "jwt#"]
        .iter()
        .find_map(|kind| text.strip_prefix(kind));
    rest.is_some_and(is_name)
}

/// 256 random bits as 43 digits.
pub(crate) fn random_256() -> Result<Zeroizing<String>, IdentityError> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| IdentityError::Crypto)?;
    Ok(Zeroizing::new(base62(&mut *bytes, BASE62_OF_256_BITS)))
}

/// A short random name: 96 bits as 17 digits.
pub(crate) fn random_id(prefix: &str) -> Result<String, IdentityError> {
    let mut bytes = [0u8; 12];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| IdentityError::Crypto)?;
    Ok(format!("{prefix}{}", base62(&mut bytes, 17)))
}

/// The big-endian number in `number`, which is used up, as exactly `digits` digits.
fn base62(number: &mut [u8], digits: usize) -> String {
    let mut out = vec![b'0'; digits];
    for digit in out.iter_mut().rev() {
        let mut rest = 0u16;
        for byte in number.iter_mut() {
            let value = rest << 8 | u16::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            rest = value % 62;
        }
        *digit = BASE62.get(usize::from(rest)).copied().unwrap_or(b'0');
    }
    out.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base62_is_the_number_with_leading_zeros() {
        assert_eq!(base62(&mut [0, 61], 3), "00z");
        assert_eq!(base62(&mut [0, 62], 3), "010");
        // 2^256 - 1 needs all of the digits and no more.
        let mut all = [0xff; 32];
        let text = base62(&mut all, BASE62_OF_256_BITS);
        assert_eq!(all, [0; 32], "digits were cut off");
        assert!(!text.starts_with('0'));
    }

    #[test]
    fn names_that_could_deceive_a_reader_are_none() {
        assert!(is_name("alice@example.com"));
        for wrong in ["", " alice", "alice\n", "al\0ice", "a\u{85}b"] {
            assert!(!is_name(wrong), "{wrong:?}");
        }
        assert!(!is_name(&"x".repeat(NAME_BYTES_MAX + 1)));
    }
}
