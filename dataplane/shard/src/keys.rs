//! Cancel keys of the process: which session, on which shard, has a key.
//!
//! Written at the end of a sign-in and at the end of its session, read once for each cancel request, so one lock for all
//! shards is enough. Keys are found by two keyed hashes, so neither the time of a look-up nor a made-up key tells anything of
//! another; whoever is found compares the key itself once more.
//! Bound: one entry for each session.

use headgate_plane::SessionId;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the session of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub shard: usize,
    pub session: SessionId,
}

#[derive(Default)]
pub struct Keys {
    hashes: [RandomState; 2],
    held: Mutex<HashMap<u128, Holder>>,
}

/// Takes its key out of the registry when it is dropped: the session is over.
pub struct KeyHeld {
    keys: Arc<Keys>,
    name: u128,
}

impl Keys {
    fn name(&self, token: &[u8]) -> u128 {
        let [high, low] = self
            .hashes
            .each_ref()
            .map(|hash| u128::from(hash.hash_one(token)));
        high << 64 | low
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<u128, Holder>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn hold(self: &Arc<Self>, token: &[u8], holder: Holder) -> KeyHeld {
        let name = self.name(token);
        self.held().insert(name, holder);
        KeyHeld {
            keys: Arc::clone(self),
            name,
        }
    }

    pub fn find(&self, token: &[u8]) -> Option<Holder> {
        let name = self.name(token);
        self.held().get(&name).copied()
    }

    pub fn len(&self) -> usize {
        self.held().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for KeyHeld {
    fn drop(&mut self) {
        self.keys.held().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_whole_and_until_its_session_ends() {
        let keys = Arc::new(Keys::default());
        let holder = |n: u128| Holder {
            shard: 1,
            session: SessionId(n),
        };
        let first = keys.hold(b"\0\0\0\x07abcd", holder(1));
        let second = keys.hold(b"\0\0\0\x07abce", holder(2));
        assert_eq!(keys.find(b"\0\0\0\x07abcd"), Some(holder(1)));
        assert_eq!(keys.find(b"\0\0\0\x07abce"), Some(holder(2)));
        for token in [&b"\0\0\0\x08abcd"[..], b"\0\0\0\x07abc", b"\0\0\0\x07abcd\0", b""] {
            assert_eq!(keys.find(token), None);
        }
        drop(first);
        assert_eq!(keys.find(b"\0\0\0\x07abcd"), None);
        assert_eq!(keys.len(), 1);
        drop(second);
        assert!(keys.is_empty());
    }
}
