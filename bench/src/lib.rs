//! What the micro-benchmarks work on: the statements, replies, rules and events of `cargo xtask bench peers`, as values.
//!
//! Each bench in `benches/` first asserts that the step gives the right answer, then measures it; run by `cargo test` it
//! does both once. `cargo xtask bench micro` measures.
#![forbid(unsafe_code)]

pub mod replies;
pub mod rules;
pub mod statements;
