//! `rules.toml`: read, checked, explained and tried out. Does no IO; the text comes in.
//!
//! [`compile`] turns the operator's text into the snapshot that goes to the data plane. [`explain()`] and [`run_cases`] ask
//! the same policy (`headgate-policy`) that the data plane runs, over facts of the same parser.
//!
//! Invariant: what `compile` accepts, `headgate_policy::Compiled::new` accepts.
//! Bounds: [`TEXT_BYTES_MAX`], [`RULES_MAX`].
#![forbid(unsafe_code)]

mod cases;
mod compile;
mod explain;
mod family;
mod known;
mod mask;
mod problem;
mod read;
mod statement;
mod text;
mod values;

pub use cases::{CaseResult, run_cases};
pub use compile::{RULES_MAX, TEXT_BYTES_MAX, compile};
pub use explain::{Explanation, MaskLine, RuleLine, explain, explain_facts};
pub use family::sql::VERBS;
pub use known::{DETECTORS, WAIT_MS_DEFAULT, WAIT_MS_MAX};
pub use problem::Problem;
pub use read::read;
