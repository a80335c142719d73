//! Covers the bytes of a reply that its caller may not read. Does no IO.
//!
//! The order of things: [`catalog_query`] is run by the gate on the session's own target connection and its rows
//! go through [`CatalogBuilder`] into a [`Catalog`]; [`Caller`] says which mask rules bind one session; [`Caller::exposure`]
//! says what a statement can reach; [`Plan`] is made once per result; [`Plan::mask_run`] covers its rows. COPY goes through
//! [`CopyMasker`], errors and notices through [`scrub`].
//!
//! Invariant: doubt masks. A relation, a column or a statement that is not known is covered whole.
#![deny(unsafe_code)]

pub mod caller;
pub mod catalog;
pub mod copy;
pub mod detect;
pub mod error;
mod field;
mod method;
pub mod plan;
mod prefilter;
mod rows;
pub mod scrub;

pub use caller::{Caller, Exposure};
pub use catalog::{Catalog, CatalogBuilder, LabelId, catalog_query};
pub use copy::CopyMasker;
pub use detect::DETECTOR_NAMES;
pub use error::{CatalogError, MaskError};
pub use plan::{ColumnAction, ColumnOrigin, Hints, Plan, ScanForm};
pub use rows::{RunStats, Scratch};
