//! `headgate`: the operator's binary. Starts and watches the processes, and is the command line of the API.
//!
//! Secrets and passwords come from the terminal or standard input, never from arguments: those can be read by every
//! user of the machine.
#![forbid(unsafe_code)]

mod args;
mod client;
mod commands;
mod fail;
mod output;
mod reach;
mod supervise;

use args::{Cli, Command};
use clap::Parser;
use fail::Fail;
use std::process::ExitCode;

fn main() -> ExitCode {
    // clap itself ends with 2 when the command line is wrong, and with 0 for --help.
    let cli = Cli::parse();
    let long_lived = matches!(cli.command, Command::Run(_) | Command::Controlplane);
    log(long_lived);
    let mut runtime = if long_lived {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let ended = match runtime.enable_all().build() {
        Ok(runtime) => runtime.block_on(commands::run(cli)),
        Err(error) => Err(Fail::from(error)),
    };
    match ended {
        Ok(code) => code,
        Err(fail) => {
            eprintln!("{fail}");
            ExitCode::from(fail.code)
        }
    }
}

/// To standard error: standard output is for answers. `HEADGATE_LOG` is a filter, as in `info,headgate_identity=debug`.
fn log(long_lived: bool) {
    let default = if long_lived { "info" } else { "error" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("HEADGATE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .init();
}
