//! `headgate-loadtest`: `run` load, serve the `target`, `watch` a command with the CPU of others, `distance` of two cores.

#![forbid(unsafe_code)]

use clap::Parser;
use headgate_loadtest::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(failed) => {
            eprintln!("headgate-loadtest: {failed}");
            ExitCode::FAILURE
        }
    }
}
