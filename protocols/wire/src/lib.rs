//! Panic-free reading and writing of binary protocols. Does no IO, knows no protocol.
//!
//! Invariants: a [`Reader`] never looks beyond its slice and never goes backwards; what [`mod@write`] appends is either
//! whole or, on error, taken back. Nothing here is cast with a loss: a length that does not fit is an error.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]
#![cfg_attr(not(test), deny(clippy::panic, clippy::cast_possible_truncation))]
#![deny(missing_docs)]

pub mod frame;
pub mod read;
pub mod write;

pub use read::{ReadError, Reader};
pub use write::WriteError;
