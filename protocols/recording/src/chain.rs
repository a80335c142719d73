//! The chain of one session: a link for each chunk that has records of it, over the link before and those records.
//!
//! h(0) = SHA-256(0x10 ‖ session id, big-endian)
//! h(i) = SHA-256(0x12 ‖ h(i-1) ‖ record* ‖ ffffffff ‖ count ‖ replies)
//!
//! A record stands there as its length (u32, little-endian) and its bytes up to its reply; no record is ffffffff long, so
//! the input reads in one way only. `replies` is SHA-256(0x11 ‖ reply*), each reply with its length before it, or zeroes
//! if there are none: so a chunk's replies can be erased one day and the chain still verifies with that one hash.
//! One link for many records costs no padding and no second hash per record. 0x00 and 0x01 are the tree's (RFC 6962); no
//! input of one kind can be one of another.

use headgate_plane::SessionId;
use sha2::{Digest, Sha256};

/// SHA-256.
pub type Hash = [u8; 32];

const START: u8 = 0x10;
const REPLIES: u8 = 0x11;
const LINK: u8 = 0x12;
const END: [u8; 4] = [0xff; 4];

/// A session's chain: one hash that stands for all its records so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The hash.
    pub head: Hash,
    /// Records so far.
    pub count: u32,
}

/// A link in the making.
#[derive(Clone, Debug)]
pub struct ChainLink {
    records: Sha256,
    replies: Option<Sha256>,
    count: u32,
}

impl Chain {
    /// Before the first record.
    pub fn start(session: SessionId) -> Chain {
        let head = Sha256::new()
            .chain_update([START])
            .chain_update(session.0.to_be_bytes())
            .finalize()
            .into();
        Chain { head, count: 0 }
    }

    /// What the next records are taken up by.
    pub fn link(&self) -> ChainLink {
        let mut input = [LINK; 33];
        input[1..].copy_from_slice(&self.head);
        ChainLink {
            records: Sha256::new_with_prefix(input),
            replies: None,
            count: 0,
        }
    }

    /// Adds a link. `erased` is the hash of its replies, if they are not there any more. Returns that hash in any case.
    pub fn close(&mut self, link: ChainLink, erased: Option<Hash>) -> Option<Hash> {
        let replies = erased.or_else(|| link.replies.map(|r| r.finalize().into()));
        let mut end = [0u8; 40];
        end[..4].copy_from_slice(&END);
        end[4..8].copy_from_slice(&link.count.to_le_bytes());
        end[8..].copy_from_slice(&replies.unwrap_or_default());
        self.head = link.records.chain_update(end).finalize().into();
        self.count = self.count.saturating_add(link.count);
        replies
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    // No event is longer than EVENT_BYTES_MAX.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1).to_le_bytes()
}

impl ChainLink {
    /// `record` is the record up to its reply.
    pub fn add(&mut self, record: &[u8], reply: &[u8]) {
        self.records.update(length(record));
        self.records.update(record);
        if !reply.is_empty() {
            let replies = self
                .replies
                .get_or_insert_with(|| Sha256::new_with_prefix([REPLIES]));
            replies.update(length(reply));
            replies.update(reply);
        }
        self.count = self.count.saturating_add(1);
    }
}
