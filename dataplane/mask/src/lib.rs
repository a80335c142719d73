//! Covers the bytes of a reply that its caller may not read. Does no IO.
//!
//! The order of things: [`path_query`] and [`relations_query`] are asked on a connection of the gateway's own and their rows
//! go through [`CatalogBuilder`] into a [`Catalog`] that all sessions of the target share; a [`Lookup`] in a session itself
//! adds what only that session sees. [`Caller`] says which mask rules bind one session; [`Caller::exposure`]
//! says what a statement can reach; [`Plan`] is made once per result; [`Plan::mask_run`] covers its rows. COPY goes through
//! [`CopyMasker`], errors and notices through [`scrub`].
//!
//! Invariant: doubt masks. A relation, a column or a statement that is not known is covered whole.
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]
#![cfg_attr(not(test), deny(clippy::panic, clippy::cast_possible_truncation))]
#![deny(missing_docs)]

pub mod caller;
pub mod catalog;
pub mod copy;
pub mod detect;
pub mod error;
mod field;
pub mod masked;
mod method;
pub mod plan;
mod prefilter;
mod rows;
pub mod scrub;

pub use caller::{Caller, Exposure};
pub use catalog::{
    Catalog, CatalogBuilder, CatalogChanges, Followed, LabelId, Labelled, Lookup, SearchPath, Stamp,
    catalog_query, path_query, prepare_changes, relations_query,
};
pub use copy::CopyMasker;
pub use detect::DETECTOR_NAMES;
pub use error::{CatalogError, MaskError};
pub use masked::{Masked, PassRows};
pub use plan::{ColumnAction, ColumnOrigin, FIRST_USER_OID, Hints, Plan, ScanForm};
pub use rows::{RunStats, Scratch};
