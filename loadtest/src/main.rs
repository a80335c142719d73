//! `headgate-loadtest`: `run` load, serve the `target`, `watch` a command with the CPU of others, `distance` of two cores.

#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use headgate_loadtest::client::{Login, Mode};
use headgate_loadtest::cpu::{Group, Watch};
use headgate_loadtest::drive::{self, Plan};
use headgate_loadtest::{LoadFailed, distance, report};
use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(
    name = "headgate-loadtest",
    version,
    about = "Load for anything that speaks PostgreSQL, and a target that is never the bottleneck"
)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Closed loop: so many sessions, one statement on its way in each. Prints one JSON object.
    Run {
        #[arg(long)]
        connect: SocketAddr,
        /// Serve the synthetic target here, in the same thread.
        #[arg(long)]
        target: Option<SocketAddr>,
        #[arg(long, default_value_t = 16)]
        sessions: usize,
        #[arg(long, value_enum, default_value_t = Mode::Prepared)]
        mode: Mode,
        #[arg(long, default_value = "bench")]
        user: String,
        #[arg(long, default_value = "bench")]
        database: String,
        /// Sent in the clear when asked for. Better in the environment: HEADGATE_LOADTEST_PASSWORD.
        #[arg(long, env = "HEADGATE_LOADTEST_PASSWORD", hide_env_values = true, default_value = "")]
        password: String,
        #[arg(long, default_value_t = 20_000)]
        bulk_rows: u32,
        #[arg(long, default_value_t = 300)]
        warm_up_ms: u64,
        #[arg(long, default_value_t = 1000)]
        window_ms: u64,
        #[command(flatten)]
        beside: Beside,
    },
    /// Serve the synthetic target until killed.
    Target {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Run a command and print what the groups used meanwhile, with the command's output, as JSON.
    Watch {
        #[command(flatten)]
        beside: Beside,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Round trip of a cache line between two cores, in nanoseconds.
    Distance { here: usize, there: usize },
}

#[derive(clap::Args)]
struct Beside {
    /// Processes whose CPU is read in the window, with all their children: name=pid,pid. With name!=pid, without the children.
    #[arg(long = "watch", value_name = "NAME=PIDS")]
    groups: Vec<Group>,
    /// Core of this load.
    #[arg(long, requires = "engine_core")]
    core: Option<usize>,
    /// Core of the engine: the distance of the two is measured before and after.
    #[arg(long)]
    engine_core: Option<usize>,
}

impl Beside {
    fn distance(&self) -> Result<Option<u64>, LoadFailed> {
        match (self.core, self.engine_core) {
            (Some(here), Some(there)) => distance::round_trip_ns(here, there).map_err(LoadFailed::io("distance of the cores")),
            _ => Ok(None),
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
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

fn json(value: &impl serde::Serialize) -> Result<String, LoadFailed> {
    serde_json::to_string(value).map_err(|e| LoadFailed::Usage(e.to_string()))
}

fn run(command: Cmd) -> Result<String, LoadFailed> {
    match command {
        Cmd::Run { connect, target, sessions, mode, user, database, password, bulk_rows, warm_up_ms, window_ms, beside } => {
            let before = beside.distance()?;
            let plan = Plan {
                target,
                connect: Some(connect),
                sessions,
                mode,
                login: Login { user, database, password },
                bulk_rows,
                warm_up: Duration::from_millis(warm_up_ms),
                window: Duration::from_millis(window_ms),
                watch: beside.groups.clone(),
            };
            let mut report = drive::run(&plan)?;
            report.distance_ns = [before, beside.distance()?];
            json(&report)
        }
        Cmd::Target { listen } => {
            let login = Login { user: String::new(), database: String::new(), password: String::new() };
            let (warm_up, window) = (Duration::ZERO, Duration::ZERO);
            let mode = Mode::Idle;
            let plan =
                Plan { target: Some(listen), connect: None, sessions: 0, mode, login, bulk_rows: 0, warm_up, window, watch: Vec::new() };
            drive::run(&plan).map(|_| String::new())
        }
        Cmd::Watch { beside, command } => watch(&beside, &command),
        Cmd::Distance { here, there } => {
            let ns = distance::round_trip_ns(here, there).map_err(LoadFailed::io("distance of the cores"))?;
            Ok(ns.map_or_else(|| "no answer in time".to_owned(), |ns| ns.to_string()))
        }
    }
}

fn watch(beside: &Beside, command: &[String]) -> Result<String, LoadFailed> {
    let Some((program, arguments)) = command.split_first() else { return Err(LoadFailed::Usage("no command".to_owned())) };
    let distance_before = beside.distance()?;
    let watch = Watch::new(&beside.groups);
    let before = watch.read();
    let started = Instant::now();
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(LoadFailed::io("the command"))?;
    let after = watch.read();
    let seconds = started.elapsed().as_secs_f64();
    let used = after.iter().map(|(name, u)| (name.clone(), u.since(before.get(name).copied().unwrap_or_default()))).collect();
    if !output.status.success() {
        return Err(LoadFailed::Usage(format!("{program} ended with {}", output.status)));
    }
    json(&serde_json::json!({
        "seconds": seconds,
        "cpu": report::cpu(&used, 1, seconds),
        "distance_ns": [distance_before, beside.distance()?],
        "output": String::from_utf8_lossy(&output.stdout),
    }))
}
