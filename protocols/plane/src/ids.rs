//! Every id that crosses a crate, in alphabetical order.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of a rules snapshot. Grows by one with each applied change; 0 is "no snapshot yet" and refuses all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// Names one held statement for both planes: the session, and the number of the statement inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QuestionKey {
    /// Which.
    pub session: SessionId,
    /// Its number in the session, from 1.
    pub statement: u32,
}

/// The number by which people call a question: `HG-17`. Given out by the control plane, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QuestionNumber(pub u64);

/// A session, from accept to close. A UUIDv7, so it sorts by start time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u128);

impl SessionId {
    /// A UUIDv7 from a wall clock in Unix milliseconds and 80 random bits (the low bits of `random`).
    pub fn v7(unix_ms: u64, random: u128) -> Self {
        let time = u128::from(unix_ms & 0xffff_ffff_ffff) << 80;
        let a = (random >> 64) & 0xfff;
        let b = random & 0x3fff_ffff_ffff_ffff;
        SessionId(time | (0x7 << 76) | (a << 64) | (0b10 << 62) | b)
    }

    /// Milliseconds since the Unix epoch at which the session began.
    pub fn unix_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }

    /// Reads the hyphenated form that `Display` writes; hyphens may be missing.
    pub fn parse(text: &str) -> Option<Self> {
        let hex: String = text.chars().filter(|c| *c != '-').collect();
        if hex.len() != 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(&hex, 16).ok().map(SessionId)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let h = format!("{:032x}", self.0);
        write!(
            f,
            "{}-{}-{}-{}-{}",
            &h[..8],
            &h[8..12],
            &h[12..16],
            &h[16..20],
            &h[20..]
        )
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for QuestionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HG-{}", self.0)
    }
}

impl QuestionNumber {
    /// Reads `HG-17`, `hg-17` or `17`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text
            .strip_prefix("HG-")
            .or_else(|| text.strip_prefix("hg-"))
            .unwrap_or(text);
        digits.parse().ok().map(QuestionNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_keeps_its_time_and_reads_back() {
        let id = SessionId::v7(1_795_000_000_123, 0xfeed_beef_0123_4567_89ab_cdef);
        assert_eq!(id.unix_ms(), 1_795_000_000_123);
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert_eq!(id.to_string().as_bytes()[14], b'7');
        assert_eq!(SessionId::parse("zz"), None);
    }
}
