//! `cargo xtask model`: the long form of the gate's model test.
//!
//! Random conversations (valid, invalid, failing, pipelined, cut anywhere) run through the gate: against a server simulated
//! from PostgreSQL's manual, and against real ones, which also run without the gate beside the simulated one. What it
//! prints is what a note needs: counts, seeds, times, and the smallest conversation of each kind that breaks a promise.

use crate::build::cargo_run;
use crate::{Result, install};
use headgate_e2e::postgres;

#[derive(clap::Args)]
pub struct Args {
    /// Conversations with the simulated server.
    #[arg(long, default_value_t = 1_000_000)]
    sequences: u64,
    /// Of the first conversation; each further one has the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Conversations with each real server: the system's PostgreSQL, and the newest.
    #[arg(long, default_value_t = 20_000)]
    real: u64,
}

pub fn run(args: &Args) -> Result<()> {
    install::for_tests()?;
    let mut words: Vec<String> = ["run", "-p", "headgate-model", "--"].map(str::to_owned).to_vec();
    words.extend([
        "--cases".to_owned(),
        args.sequences.to_string(),
        "--seed".to_owned(),
        args.seed.to_string(),
    ]);
    if args.real > 0 {
        words.extend(["--real".to_owned(), args.real.to_string()]);
        for bin in [postgres::bin_dir()?, install::newest_postgres()?] {
            words.extend(["--server".to_owned(), bin.display().to_string()]);
        }
    }
    cargo_run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}
