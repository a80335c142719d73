//! What one caller may have of the process: connections that have not signed in, by address; sessions, by principal.
//!
//! Counted over all shards, touched at accept, sign-in and end only. A share is a value: whoever drops it gives it back.
//! Bounds: an entry for each address with a half-open connection, and for each principal with a session.

use headgate_plane::network_of;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Copy, Debug)]
pub struct ShareLimits {
    /// Connections that have not signed in: of all addresses together.
    pub half_open_max: usize,
    /// The same, of one IPv4 address or one /64 of IPv6.
    pub half_open_per_address_max: usize,
    pub sessions_per_principal_max: usize,
}

impl Default for ShareLimits {
    fn default() -> Self {
        ShareLimits {
            half_open_max: 4096,
            half_open_per_address_max: 512,
            sessions_per_principal_max: 10_000,
        }
    }
}

/// An issuer's principal, as a number that is the same for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(pub u64);

pub struct Shares {
    limits: ShareLimits,
    hash: RandomState,
    half_open: Mutex<HalfOpens>,
    principals: Mutex<HashMap<(String, String), usize>>,
}

#[derive(Default)]
struct HalfOpens {
    all: usize,
    by_network: HashMap<IpAddr, usize>,
}

/// A connection that has not signed in yet.
pub struct HalfOpen {
    shares: Arc<Shares>,
    network: IpAddr,
}

/// A session of a principal.
pub struct Seat {
    shares: Arc<Shares>,
    principal: (String, String),
    pub owner: Owner,
}

impl Shares {
    pub fn new(limits: ShareLimits) -> Arc<Shares> {
        Arc::new(Shares {
            limits,
            hash: RandomState::new(),
            half_open: Mutex::default(),
            principals: Mutex::default(),
        })
    }

    /// `None`: this address, or all addresses together, have as many half-open connections as they may.
    pub fn half_open(self: &Arc<Self>, address: IpAddr) -> Option<HalfOpen> {
        let network = network_of(address);
        let mut half_open = self.half_open.lock().unwrap_or_else(PoisonError::into_inner);
        if half_open.all >= self.limits.half_open_max {
            return None;
        }
        let count = half_open.by_network.entry(network).or_default();
        if *count >= self.limits.half_open_per_address_max {
            return None;
        }
        *count += 1;
        half_open.all += 1;
        Some(HalfOpen {
            shares: Arc::clone(self),
            network,
        })
    }

    /// `Err`: how many sessions the principal has, which is as many as it may.
    pub fn seat(self: &Arc<Self>, issuer: &str, principal: &str) -> Result<Seat, usize> {
        let principal = (issuer.to_owned(), principal.to_owned());
        let owner = self.owner(&principal);
        let mut principals = self.principals.lock().unwrap_or_else(PoisonError::into_inner);
        let count = principals.entry(principal.clone()).or_default();
        if *count >= self.limits.sessions_per_principal_max {
            return Err(*count);
        }
        *count += 1;
        Ok(Seat {
            shares: Arc::clone(self),
            principal,
            owner,
        })
    }

    pub fn owner(&self, of: &impl Hash) -> Owner {
        Owner(self.hash.hash_one(of))
    }

    /// Connections that have not signed in, now.
    pub fn half_open_count(&self) -> usize {
        self.half_open.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        let mut half_open = self
            .shares
            .half_open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        half_open.all = half_open.all.saturating_sub(1);
        give_back(&mut half_open.by_network, &self.network);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        give_back(
            &mut self
                .shares
                .principals
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
            &self.principal,
        );
    }
}

fn give_back<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> Arc<Shares> {
        Shares::new(ShareLimits {
            half_open_max: 5,
            half_open_per_address_max: 2,
            sessions_per_principal_max: 2,
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_has_its_share_and_leaves_the_others_theirs() {
        let shares = shares();
        let one: Vec<_> = (0..2)
            .map(|_| shares.half_open(ip("192.0.2.1")).unwrap())
            .collect();
        assert!(shares.half_open(ip("192.0.2.1")).is_none());
        assert!(shares.half_open(ip("::ffff:192.0.2.1")).is_none());
        let _other = shares.half_open(ip("192.0.2.2")).unwrap();
        drop(one);
        assert!(shares.half_open(ip("192.0.2.1")).is_some());
        assert_eq!(shares.half_open_count(), 1);
    }

    #[test]
    fn a_slash_64_is_one_address_and_all_together_have_a_bound() {
        let shares = shares();
        let _one = [
            shares.half_open(ip("2001:db8::1")).unwrap(),
            shares.half_open(ip("2001:db8::ffff:2")).unwrap(),
        ];
        assert!(shares.half_open(ip("2001:db8::3")).is_none());
        let _others: Vec<_> = (1..4)
            .map(|n| shares.half_open(IpAddr::from([10, 0, 0, n])).unwrap())
            .collect();
        assert!(shares.half_open(ip("10.0.0.9")).is_none());
    }

    #[test]
    fn principals_of_two_issuers_are_two_and_nothing_is_left_behind() {
        let shares = shares();
        let seats: Vec<_> = (0..2).map(|_| shares.seat("local", "alice").unwrap()).collect();
        assert_eq!(shares.seat("local", "alice").err(), Some(2));
        let elsewhere = shares.seat("https://id.example.com", "alice").unwrap();
        assert_eq!(seats[0].owner, seats[1].owner);
        assert_ne!(seats[0].owner, elsewhere.owner);
        drop(seats);
        drop(elsewhere);
        assert!(shares.principals.lock().unwrap().is_empty());
        assert!(shares.half_open.lock().unwrap().by_network.is_empty());
    }
}
