//! `headgate-dataplane`: shards, the link, analysts, in one process. Speaks to clients and targets; knows no HTTP.
//!
//! Order of start: configuration, probe of the kernel, keys and certificates, spools, analysts, rings, link, shards.
//! Whatever is missing is named before the first client is accepted, with an exit code of its own.

mod affinity;
mod cancels;
mod catalog;
mod deliver;
mod names;
mod probes;
mod services;
mod start;
mod tls;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: headgate-dataplane --config FILE    run
       headgate-dataplane --doctor         say what this machine lacks, and exit (0: nothing; 71..79: see the message)
       headgate-dataplane --version";

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HEADGATE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(ansi)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--config", file] => match start::run(&PathBuf::from(file)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failed) => {
                eprintln!("headgate-dataplane: {failed}");
                ExitCode::from(failed.exit_code())
            }
        },
        ["--doctor"] => doctor(),
        ["--version"] => {
            println!("headgate-dataplane {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn doctor() -> ExitCode {
    match headgate_ring::probe() {
        Ok(probe) => {
            println!("kernel {}: fit for Headgate", probe.kernel_release);
            let memlock = probe
                .memlock_bytes
                .map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
            println!("memlock limit: {memlock}");
            for part in probe.works {
                println!("works: {part}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("headgate-dataplane: {error}");
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(79))
        }
    }
}
