//! What the protocols that speak SQL share: what a core knows of texts, of the targets' catalogs, and of masks.

pub(crate) mod callers;
pub mod catalogs;
pub mod known;
pub(crate) mod sights;
