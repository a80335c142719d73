//! The tree of RFC 6962 (SHA-256) over chunks: only its right edge is kept.
//!
//! A leaf is the chunk's number and the hash of its value: `SHA-256(0x00 ‖ number ‖ SHA-256(value))`.

use crate::chain::Hash;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The leaf of a chunk.
pub fn leaf_hash(number: u64, value: &[u8]) -> Hash {
    let value: Hash = Sha256::digest(value).into();
    Sha256::new()
        .chain_update([0])
        .chain_update(number.to_be_bytes())
        .chain_update(value)
        .finalize()
        .into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// The roots of the perfect subtrees, largest first: one for each set bit of `size`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// How many leaves.
    pub size: u64,
    /// Roots of the whole trees at its edge, from the largest to the smallest.
    pub hashes: Vec<Hash>,
}

impl Edge {
    /// One leaf more.
    pub fn add(&mut self, leaf: Hash) {
        let mut hash = leaf;
        let mut size = self.size;
        while size & 1 == 1 {
            let Some(left) = self.hashes.pop() else { break };
            hash = node_hash(&left, &hash);
            size >>= 1;
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// The one hash that stands for all leaves.
    pub fn root(&self) -> Hash {
        let mut hashes = self.hashes.iter().rev();
        let Some(last) = hashes.next() else {
            return Sha256::digest(b"").into();
        };
        hashes.fold(*last, |right, left| node_hash(left, &right))
    }

    /// Whether the hashes are as many as the size says.
    pub fn is_sound(&self) -> bool {
        self.hashes.len() == self.size.count_ones() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 section 2.1, as it is written.
    fn by_the_book(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest(b"").into(),
            [one] => *one,
            _ => {
                let k = leaves.len().next_power_of_two() / 2;
                node_hash(&by_the_book(&leaves[..k]), &by_the_book(&leaves[k..]))
            }
        }
    }

    #[test]
    fn the_edge_gives_the_root_of_the_rfc_for_every_size() {
        let mut edge = Edge::default();
        let mut leaves = Vec::new();
        assert_eq!(edge.root(), by_the_book(&leaves));
        for n in 0..300u64 {
            let leaf = leaf_hash(n, &n.to_le_bytes());
            edge.add(leaf);
            leaves.push(leaf);
            assert_eq!(edge.root(), by_the_book(&leaves), "size {}", n + 1);
            assert!(edge.is_sound());
        }
    }
}
