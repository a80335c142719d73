//! The session: what stands between one client and one target. Sans-IO.
//!
//! Bytes come in, time comes in, effects go out. A [`Session`] knows neither sockets nor rings: the shard (or a test)
//! feeds it, takes what is to be sent from its two legs, and carries out the effects that it leaves in [`Core::effects`].
//!
//! States are consumed: [`session`] walks a client from its first byte to a target that is ready, [`traffic`] is all
//! that comes after. The doors of [`doors`] are the only ways out.
#![forbid(unsafe_code)]

mod callers;
pub mod catalogs;
pub mod core;
pub mod denial;
pub mod doors;
pub mod known;
pub mod leg;
pub mod memory;
pub mod permit;
pub mod refused;
pub mod room;
pub mod session;
mod sights;
pub mod traffic;

pub use crate::catalogs::{CatalogLoaded, CatalogState, CatalogWanted};
pub use crate::core::{Clock, Core, Effect, ListenerSettings, Metrics, Settings};
pub use denial::Denial;
pub use known::Known;
pub use leg::{OUT_BYTES_HIGH, OUT_BYTES_LOW};
pub use session::Session;
pub use traffic::Cancelled;
