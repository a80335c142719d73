//! A load generator for anything that speaks PostgreSQL, and a synthetic target that is never the bottleneck.
//!
//! Both live in one event loop on one thread ([`drive`]): a client and a target that have to share a core should at least
//! not pay for being switched. [`cpu`] reads what other processes used meanwhile, [`distance`] how far the two cores are apart.
//! Never in the loop: anything that only Headgate would understand. The target knows one thing of it, the catalog question
//! ([`target`]), as any PostgreSQL would.

#![forbid(unsafe_code)]

pub mod cli;
pub mod client;
pub mod cpu;
pub mod distance;
pub mod drive;
pub mod error;
pub mod ledger;
pub mod outcome;
pub mod page;
pub mod peer;
pub mod plan;
pub mod progress;
pub mod report;
pub mod reviewer;
pub mod scenario;
pub mod scram;
pub mod script;
pub mod target;
pub mod tls;
pub mod wire;

pub use error::LoadFailed;
