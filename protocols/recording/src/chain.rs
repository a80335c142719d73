//! The chain of one session: each link hashes the one before it and the hash of a record.
//!
//! h(0) = SHA-256(0x10 ‖ session id, big-endian); h(i) = SHA-256(0x12 ‖ h(i-1) ‖ SHA-256(0x11 ‖ record i)).
//! The chain goes over hashes of records, so that a record's content can be erased one day and the rest still verifies.
//! 0x00 and 0x01 are the tree's (RFC 6962); no input of one kind can be one of another.

use headgate_plane::SessionId;
use sha2::{Digest, Sha256};

pub type Hash = [u8; 32];

const START: u8 = 0x10;
const RECORD: u8 = 0x11;
const LINK: u8 = 0x12;

pub fn record_hash(record: &[u8]) -> Hash {
    Sha256::new().chain_update([RECORD]).chain_update(record).finalize().into()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    pub head: Hash,
    /// Links so far.
    pub count: u32,
}

impl Chain {
    pub fn start(session: SessionId) -> Chain {
        let head = Sha256::new().chain_update([START]).chain_update(session.0.to_be_bytes()).finalize().into();
        Chain { head, count: 0 }
    }

    pub fn add(&mut self, record: &[u8]) {
        self.add_hash(&record_hash(record));
    }

    pub fn add_hash(&mut self, record: &Hash) {
        let mut input = [0u8; 65];
        input[0] = LINK;
        input[1..33].copy_from_slice(&self.head);
        input[33..].copy_from_slice(record);
        self.head = Sha256::digest(input).into();
        self.count = self.count.saturating_add(1);
    }
}
