//! Starts the real thing for tests and for the demo: a PostgreSQL of its own, certificates, Headgate's three processes.
//!
//! Invariants: whatever is started here ends when its value is dropped, and also when this process dies without dropping
//! it ([`reaper`]); every port is a free one of 127.0.0.1; every folder is this process's own; every wait has an end.
//! Never here: anything of the product. Its binaries are called as an operator calls them.
#![forbid(unsafe_code)]

pub mod certificates;
pub mod gate;
pub mod place;
pub mod postgres;
pub mod python;
pub mod run;
pub mod world;

pub use certificates::Authority;
pub use gate::{Gate, Setup};
pub use headgate_fixtures::{Result, during, reaper};
pub use postgres::Postgres;
pub use run::{Ran, run};
pub use world::World;
