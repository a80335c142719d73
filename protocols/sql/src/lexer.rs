//! The linear pass before any grammar. Not yet filled: refuses all text.
use crate::Unreadable;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    pub bytes_max: usize,
    pub tokens_max: usize,
    pub comment_depth_max: usize,
    pub depth_max: usize,
    pub chain_max: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Caps { bytes_max: 256 << 10, tokens_max: 40_000, comment_depth_max: 8, depth_max: 200, chain_max: 5_000 }
    }
}

pub fn precheck(text: &[u8], caps: &Caps) -> Result<(), Unreadable> {
    Err(Unreadable::TooLong { bytes: text.len(), max: caps.bytes_max })
}
