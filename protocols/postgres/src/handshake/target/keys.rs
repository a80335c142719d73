//! Keys that SCRAM derives from a password, kept so that thousands of HMACs are not done again for each session.
//!
//! Found by password, salt and count of iterations: a changed secret, or a target that changed its salt, finds nothing.
//! Invariant: no password is kept, only a keyed digest of it; keys are overwritten when they go.
//! Bounds: KEPT_MAX, the one used longest ago goes first.
//! Spec: RFC 5802, section 3: SaltedPassword, ClientKey, ServerKey.

use aws_lc_rs::{hmac, pbkdf2, rand};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::num::NonZeroU32;
use std::rc::Rc;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// More than an appliance has pairs of target and secret, and few enough to look through.
const KEPT_MAX: usize = 64;

#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct Derived {
    pub client: [u8; 32],
    pub server: [u8; 32],
}

struct Kept {
    password: [u8; 32],
    salt: Vec<u8>,
    iterations: NonZeroU32,
    derived: Derived,
}

struct Inner {
    /// Of the digests of passwords; this process's own.
    key: hmac::Key,
    /// The one used last is the last.
    kept: Vec<Kept>,
    derivations: u64,
}

/// A handle to one thread's keys; clones share them.
#[derive(Clone)]
pub struct ScramKeys(Rc<RefCell<Inner>>);

impl Default for ScramKeys {
    #[expect(clippy::expect_used, reason = "no key is better than one that can be guessed")]
    fn default() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        // The system's generator failing is not something to go on from.
        rand::fill(key.as_mut()).expect("the system gives random bytes");
        let inner = Inner {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
            kept: Vec::new(),
            derivations: 0,
        };
        ScramKeys(Rc::new(RefCell::new(inner)))
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(..)")
    }
}

impl ScramKeys {
    /// How often a password was really worked through.
    pub fn derivations(&self) -> u64 {
        self.0.borrow().derivations
    }

    pub(super) fn of(&self, password: &str, salt: &[u8], iterations: NonZeroU32) -> Derived {
        let inner = &mut *self.0.borrow_mut();
        let mut digest = [0; 32];
        digest.copy_from_slice(hmac::sign(&inner.key, password.as_bytes()).as_ref());
        let found = inner
            .kept
            .iter()
            .position(|k| k.password == digest && k.iterations == iterations && k.salt == salt);
        if let Some(behind) = found.and_then(|at| inner.kept.get_mut(at..)) {
            behind.rotate_left(1);
            if let Some(kept) = behind.last() {
                return kept.derived.clone();
            }
        }
        inner.derivations += 1;
        if inner.kept.len() >= KEPT_MAX {
            inner.kept.remove(0);
        }
        let derived = derive(password, salt, iterations);
        inner.kept.push(Kept {
            password: digest,
            salt: salt.to_vec(),
            iterations,
            derived: derived.clone(),
        });
        derived
    }
}

fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> Derived {
    // As PostgreSQL itself: what SASLprep does not take is used as it is.
    let prepared = Zeroizing::new(
        stringprep::saslprep(password)
            .unwrap_or(Cow::Borrowed(password))
            .into_owned(),
    );
    let mut salted = Zeroizing::new([0; 32]);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        prepared.as_bytes(),
        salted.as_mut(),
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_ref());
    let mut derived = Derived {
        client: [0; 32],
        server: [0; 32],
    };
    derived
        .client
        .copy_from_slice(hmac::sign(&key, b"Client Key").as_ref());
    derived
        .server
        .copy_from_slice(hmac::sign(&key, b"Server Key").as_ref());
    derived
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(keys: &ScramKeys, password: &str, salt: &[u8], iterations: u32) -> [u8; 32] {
        keys.of(password, salt, NonZeroU32::new(iterations).unwrap())
            .client
    }

    #[test]
    fn a_password_is_worked_through_once_and_a_changed_one_again() {
        let keys = ScramKeys::default();
        let first = of(&keys, "old", b"salt", 16);
        assert_eq!((of(&keys, "old", b"salt", 16), keys.derivations()), (first, 1));
        let others = [
            of(&keys, "new", b"salt", 16),
            of(&keys, "old", b"pepper", 16),
            of(&keys, "old", b"salt", 17),
        ];
        assert!(others.iter().all(|other| *other != first));
        assert_eq!(keys.derivations(), 4);
    }

    #[test]
    fn what_is_kept_has_a_bound_and_the_one_used_longest_ago_goes() {
        let keys = ScramKeys::default();
        for n in 0..KEPT_MAX {
            of(&keys, &format!("{n}"), b"salt", 1);
        }
        of(&keys, "0", b"salt", 1);
        of(&keys, "one more", b"salt", 1);
        assert_eq!(
            (keys.0.borrow().kept.len(), keys.derivations()),
            (KEPT_MAX, KEPT_MAX as u64 + 1)
        );
        of(&keys, "0", b"salt", 1);
        assert_eq!(
            keys.derivations(),
            KEPT_MAX as u64 + 1,
            "used just now: still there"
        );
        of(&keys, "1", b"salt", 1);
        assert_eq!(keys.derivations(), KEPT_MAX as u64 + 2, "it had to go");
    }
}
