//! `headgate-recorder`: the process that owns the history. SIGTERM or SIGINT: drain, seal, end.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn main() -> ExitCode {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("HEADGATE_LOG").unwrap_or_else(|_| "info".into());
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .init();
    let settings = match headgate_recorder::args::parse(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("headgate-recorder: {error}");
            return ExitCode::from(2);
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&stop)) {
            eprintln!("headgate-recorder: signal {signal}: {error}");
            return ExitCode::FAILURE;
        }
    }
    match headgate_recorder::run(&settings, &stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "recorder: ended");
            ExitCode::FAILURE
        }
    }
}
