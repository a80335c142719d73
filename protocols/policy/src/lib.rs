//! Snapshot × who × statement → verdict. Pure: no IO, no clock of its own.
//!
//! The judge knows no protocol and no language: a message says what its statements do ([`Judgeable`]), in neutral facts and
//! in those of families ([`family`]), each of which is a file.
//!
//! [`Compiled::new`] turns a snapshot into tables, once per epoch. [`Compiled::context`] narrows them to one caller on one
//! target, once per session. [`Compiled::judge`] gives the verdict on one message.
//!
//! Invariants: an absent or empty snapshot, epoch 0, a statement without facts, a name without a schema and a condition
//! that fails to evaluate never lead to more than the same statement without the doubt would get.
//! Bounds: the constants below.
#![forbid(unsafe_code)]

mod clock;
mod compiled;
mod condition;
mod context;
pub mod family;
mod judge;
mod miss;
mod part;
mod people;
mod trace;
mod verdict;

pub use compiled::{Compiled, Problem, SHARED_CONTEXTS_MAX};
pub use condition::{
    CEL_LIST_MAX, CEL_LIST_MAX_NESTED, CEL_LIST_MAX_WITH_PATTERN, CEL_TEXT_BYTES_MAX, WHEN_BYTES_MAX,
    WHEN_DEPTH_MAX, reference,
};
pub use context::{Context, ContextId};
pub use part::{Asked, Judgeable, Part, Parts, Unread};
pub use trace::RuleTrace;
pub use verdict::{Verdict, Why};
