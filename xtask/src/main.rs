//! `cargo xtask`: what developers do with Headgate. One module a command.
#![forbid(unsafe_code)]

mod arrows;
mod bench;
mod build;
mod check;
mod conformance;
mod demo;
mod fuzz;
mod install;
mod model;
mod test;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

type Result<T> = std::result::Result<T, String>;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Developers' commands of Headgate",
    max_term_width = 110
)]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Format, words, pages, licences, advisories, clippy, unused dependencies, rustdoc: all that needs no running program.
    Check(check::Args),
    /// Run real drivers and the suites of others against a database directly and through Headgate, and compare.
    Conformance(conformance::Args),
    /// Install what is needed, build, start a database and Headgate before it, and walk through what it does.
    Demo(demo::Args),
    /// Inputs led by coverage into one of the functions that read what peers send.
    Fuzz(fuzz::Args),
    /// Random conversations through the gate, against a simulated server and real ones, compared step by step.
    Model(model::Args),
    /// Install what is needed, check, then run every test: units, real databases, real clients.
    Test(test::Args),
    /// Measure beside HAProxy and PgBouncer, on pinned cores, in one run. Wants root.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let done = match Xtask::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Conformance(args) => conformance::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Model(args) => model::run(&args),
        Command::Test(args) => test::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("\nxtask: {why}");
            ExitCode::FAILURE
        }
    }
}
