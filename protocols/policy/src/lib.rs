//! Snapshot × who × statement → verdict. Pure: no IO, no clock of its own.
//!
//! [`Compiled::new`] turns a snapshot into tables, once per epoch. [`Compiled::context`] narrows them to one caller on one
//! target, once per session. [`Compiled::judge`] gives the verdict on one message.
//!
//! Invariants: an absent or empty snapshot, epoch 0, a statement without facts, a name without a schema and a condition
//! that fails to evaluate never lead to more than the same statement without the doubt would get.
#![forbid(unsafe_code)]

mod asked;
mod compiled;
mod context;
mod verdict;

pub use asked::{Asked, ResolvedFunction, ResolvedRelation, ResolvedStatement, UNRESOLVED};
pub use compiled::{Compiled, Problem};
pub use context::{Context, ContextId};
pub use verdict::{Verdict, Why};
