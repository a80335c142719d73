//! PostgreSQL: what its messages mean in a session that is signed in, and its words for our refusals.

mod clear;
mod columns;
mod copy_in;
pub mod denial;
mod execution;
mod hold;
mod intake;
mod judge;
mod names;
pub mod owed;
mod parameters;
mod pins;
mod replies;
pub mod traffic;

pub use denial::Denial;
pub use execution::Executions;
pub use hold::Held;
