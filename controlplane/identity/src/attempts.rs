//! How often a password may be tried: a count of failures per user and address, per address, and per user, in a window.
//!
//! Counted before the password is looked at, so that many tries at once count as many; a success takes its own back.
//! Bounds: ENTRIES_MAX counters; when they are full and all fresh, nobody new may try.

use crate::IdentityError;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

pub(crate) const WINDOW_MS: u64 = 60_000;
pub(crate) const PER_USER_AND_ADDRESS: u32 = 5;
const PER_ADDRESS: u32 = 30;
/// High, so that a stranger cannot easily lock a person out, and still far from a search.
const PER_USER: u32 = 60;
const ENTRIES_MAX: usize = 30_000;

#[derive(Debug, Default)]
pub(crate) struct Attempts {
    counts: Mutex<HashMap<Key, Count>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Both(String, String),
    Address(String),
    User(String),
}

#[derive(Debug)]
struct Count {
    since_ms: u64,
    tries: u32,
}

fn keys(user: &str, address: &str) -> [(Key, u32); 3] {
    [
        (
            Key::Both(user.to_owned(), address.to_owned()),
            PER_USER_AND_ADDRESS,
        ),
        (Key::Address(address.to_owned()), PER_ADDRESS),
        (Key::User(user.to_owned()), PER_USER),
    ]
}

impl Attempts {
    /// Counts one try, or refuses it.
    pub(crate) fn begin(&self, user: &str, address: &str, now_ms: u64) -> Result<(), IdentityError> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let too_many = Err(IdentityError::TooMany {
            what: "attempts to log in",
        });
        if counts.len() + 3 > ENTRIES_MAX {
            counts.retain(|_, count| now_ms.saturating_sub(count.since_ms) < WINDOW_MS);
            if counts.len() + 3 > ENTRIES_MAX {
                return too_many;
            }
        }
        let keys = keys(user, address);
        for (key, limit) in &keys {
            if let Some(count) = counts.get(key)
                && count.tries >= *limit
                && now_ms.saturating_sub(count.since_ms) < WINDOW_MS
            {
                return too_many;
            }
        }
        for (key, _) in keys {
            let count = counts.entry(key).or_insert(Count {
                since_ms: now_ms,
                tries: 0,
            });
            if now_ms.saturating_sub(count.since_ms) >= WINDOW_MS {
                *count = Count {
                    since_ms: now_ms,
                    tries: 0,
                };
            }
            count.tries = count.tries.saturating_add(1);
        }
        Ok(())
    }

    pub(crate) fn succeeded(&self, user: &str, address: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _) in keys(user, address) {
            match (&key, counts.get_mut(&key)) {
                (Key::Both(..), _) => {
                    counts.remove(&key);
                }
                (_, Some(count)) => count.tries = count.tries.saturating_sub(1),
                (_, None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_try_waits_for_the_window_and_another_address_does_not() {
        let attempts = Attempts::default();
        for _ in 0..PER_USER_AND_ADDRESS {
            attempts.begin("alice", "10.0.0.1", 1000).unwrap();
        }
        assert!(attempts.begin("alice", "10.0.0.1", 1000).is_err());
        assert!(attempts.begin("alice", "10.0.0.2", 1000).is_ok());
        assert!(attempts.begin("alice", "10.0.0.1", 1000 + WINDOW_MS).is_ok());
    }

    #[test]
    fn one_address_cannot_try_all_names() {
        let attempts = Attempts::default();
        let tried = (0..100)
            .filter(|i| attempts.begin(&format!("user{i}"), "10.0.0.1", 0).is_ok())
            .count();
        assert_eq!(tried, PER_ADDRESS as usize);
    }

    #[test]
    fn counters_do_not_grow_without_end() {
        let attempts = Attempts::default();
        for i in 0..(2 * ENTRIES_MAX) {
            let _ = attempts.begin(&format!("user{i}"), &format!("address{i}"), 0);
        }
        assert!(attempts.counts.lock().unwrap().len() <= ENTRIES_MAX);
        // Once the window is over there is room again.
        assert!(attempts.begin("late", "late", WINDOW_MS).is_ok());
    }
}
