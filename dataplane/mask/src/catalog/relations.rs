//! The names of a catalog's relations.
//!
//! They lie in shards that copies share: a catalog that follows a change of a target with very many relations copies the
//! shards in which something changed, and no others.
//! Invariant: `of` has exactly the oids that stand in the shards, each with the shard it stands in.

use std::collections::HashMap;
use std::sync::Arc;

const SHARDS: u8 = 64;

/// name -> (schema, oid).
type Shard = HashMap<String, Vec<(String, u32)>>;

#[derive(Clone, Debug, Default)]
pub(super) struct Relations {
    /// None at all, or [`SHARDS`].
    shards: Vec<Option<Arc<Shard>>>,
    of: HashMap<u32, u8>,
}

/// FNV-1a: the same in every process, and nothing is lost when a hostile schema makes its names meet in one shard but time.
fn shard_of(name: &str) -> u8 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    u8::try_from((hash >> 32) % u64::from(SHARDS)).unwrap_or(0)
}

impl Relations {
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    pub(super) fn contains(&self, oid: u32) -> bool {
        self.of.contains_key(&oid)
    }

    pub(super) fn oids(&self) -> impl Iterator<Item = u32> {
        self.of.keys().copied()
    }

    fn shard_mut(&mut self, at: u8) -> Option<&mut Shard> {
        if self.shards.is_empty() {
            self.shards.resize(usize::from(SHARDS), None);
        }
        let shard = self.shards.get_mut(usize::from(at))?;
        Some(Arc::make_mut(shard.get_or_insert_default()))
    }

    /// One that is there already has another place from now on.
    pub(super) fn insert(&mut self, name: String, schema: String, oid: u32) {
        self.remove(oid);
        let at = shard_of(&name);
        if let Some(shard) = self.shard_mut(at) {
            shard.entry(name).or_default().push((schema, oid));
            self.of.insert(oid, at);
        }
    }

    pub(super) fn remove(&mut self, oid: u32) {
        let Some(at) = self.of.remove(&oid) else {
            return;
        };
        if let Some(shard) = self.shard_mut(at) {
            shard.retain(|_, places| {
                places.retain(|(_, other)| *other != oid);
                !places.is_empty()
            });
        }
    }

    /// The name as it is kept, and every (schema, oid) that has it.
    pub(super) fn places(&self, name: &str) -> Option<(&str, &[(String, u32)])> {
        let shard = self.shards.get(usize::from(shard_of(name)))?.as_ref()?;
        let (name, places) = shard.get_key_value(name)?;
        Some((name.as_str(), places.as_slice()))
    }

    /// (name, schema, oid) of all.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, u32)> {
        let all = self.shards.iter().flatten().flat_map(|shard| shard.iter());
        all.flat_map(|(name, places)| {
            places
                .iter()
                .map(move |(schema, oid)| (name.as_str(), schema.as_str(), *oid))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_changes_alone_and_a_relation_has_one_place() {
        let mut one = Relations::default();
        one.insert("t".into(), "a".into(), 1);
        one.insert("t".into(), "b".into(), 2);
        one.insert("u".into(), "a".into(), 3);
        let mut other = one.clone();
        other.insert("renamed".into(), "a".into(), 1);
        other.remove(3);
        other.remove(7);
        assert_eq!(one.places("t").map(|(_, places)| places.len()), Some(2));
        assert_eq!(other.places("t").map(|(_, places)| places.len()), Some(1));
        assert_eq!(
            other.places("renamed"),
            Some(("renamed", [("a".to_owned(), 1)].as_slice()))
        );
        assert!(other.places("u").is_none() && !other.contains(3) && one.contains(3));
        assert_eq!((one.len(), other.len()), (3, 2));
        let mut all: Vec<_> = other.iter().collect();
        all.sort_unstable();
        assert_eq!(all, [("renamed", "a", 1), ("t", "b", 2)]);
    }
}
