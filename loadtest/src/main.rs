//! `headgate-loadtest`: `run` load, or a `scenario`; serve the `target`, `watch` a command with the CPU of others, `distance` of two cores.

#![forbid(unsafe_code)]

use clap::Parser;
use headgate_loadtest::cli::Cli;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(text) => {
            // Whoever reads may have had enough.
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(failed) => {
            eprintln!("headgate-loadtest: {failed}");
            ExitCode::FAILURE
        }
    }
}
