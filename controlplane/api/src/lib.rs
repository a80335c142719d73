//! The admin API: what people and the command line ask of the control plane, over HTTP.
//!
//! Who may call what is one table, [`routes::ROUTES`]; a route that is not in it answers nobody. Every changing call is
//! written to the journal ([`journal::Journal`]), with its refusals, where its caller has an identity.
//! Never here: listening, TLS, the link to data planes (that is `headgate-controlplane`).
//! Bounds: [`BODY_BYTES_MAX`], [`EVENT_STREAMS_MAX`], and the limits beside each module's tables.
#![forbid(unsafe_code)]

pub mod caller;
pub mod control;
pub mod error;
pub mod events;
pub mod journal;
pub mod metrics;
pub mod openapi;
pub mod page;
pub mod routes;
pub mod rules_board;
pub mod schema;
pub mod sessions;
pub mod view;

pub use caller::{Caller, Peer, Role, Roles};
pub use control::{Control, now_unix_ms};
pub use routes::router;
pub use rules_board::RulesBoard;
pub use sessions::{LiveSession, Registry};

/// A request's body. Statements come back through the API, they do not go in.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Event streams that may be open at the same time.
pub const EVENT_STREAMS_MAX: usize = 256;
