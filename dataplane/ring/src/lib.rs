//! The one door to io_uring: sockets of a core, behind the seam of [`seam`].
//!
//! [`Ring`] drives the seam on the kernel, [`sim::Sim`] drives it on a seeded simulation of it; `tests/conformance.rs` holds both to
//! the same rules. `unsafe` stands in `pool.rs`, `sys.rs`, `gather.rs`, and at the two calls in `core.rs` that hand memory
//! to the kernel.
#![deny(missing_docs)]

mod busy_poll;
mod complete;
mod core;
mod effects;
mod error;
mod gather;
mod operation;
mod pool;
mod probe;
mod queue;
mod ring;
mod settings;
mod slots;
mod sys;

pub mod seam;
pub mod sim;

pub use error::RingError;
pub use probe::{Probe, probe};
pub use ring::Ring;
pub use seam::{End, Handler, Io, ListenerId, PAUSE_SLACK_BYTES, SocketId, WakeFd};
pub use settings::{ListenSettings, RingSettings};
pub use sys::raise_descriptors_max;
