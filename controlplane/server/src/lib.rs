//! `headgate controlplane`: identities, rules, questions, secrets and the audit behind one process.
//!
//! Two doors: `<runtime>/link.sock` for data planes, and the API at `<runtime>/admin.sock` and `[api] address`.
//! Killing this process stops nothing that runs: data planes go on with what they know and connect again.
#![forbid(unsafe_code)]

mod error;
pub mod link;
mod run;
pub mod sockets;
mod watch;
mod web;

pub use error::ControlPlaneError;
pub use run::{Ready, run, run_until};
