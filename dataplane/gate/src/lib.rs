//! The session: what stands between one client and one target. Sans-IO.
//!
//! Bytes come in, time comes in, effects go out. A [`session::Session`] knows neither sockets nor rings: the shard (or a test)
//! feeds it, takes what is to be sent from its two legs, and carries out the effects that it leaves in [`Core::effects`].
//!
//! States are consumed: [`session`] walks a client from its first byte to a target that is ready, [`postgres`] is all
//! that comes after. The doors of [`clearance`] are the only ways out.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]
#![cfg_attr(not(test), deny(clippy::panic, clippy::cast_possible_truncation))]

pub mod any;
pub mod clearance;
pub mod core;
pub mod postgres;
pub mod session;
pub mod sql;

pub use crate::core::{Clock, Core, Effect, ListenerSettings, Metrics, Settings};
pub use crate::sql::catalogs::{CatalogLoaded, CatalogState, CatalogWanted};
pub use any::AnySession;
pub use postgres::Denial;
pub use session::leg::{OUT_BYTES_HIGH, OUT_BYTES_LOW};
pub use session::protocol::Cancelled;
pub use session::side::{Progress, SideCancel, SideDialogue};

/// A session of PostgreSQL by itself.
pub type PostgresSession = session::Session<postgres::Postgres>;

pub use sql::known::Known;
