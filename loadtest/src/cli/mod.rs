//! The command line.

mod run;
mod scenario;
mod show;

use crate::cpu::{Group, Watch};
use crate::plan::{Plan, TargetPlan};
use crate::{LoadFailed, distance, drive, report};
use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(
    name = "headgate-loadtest",
    version,
    about = "Load for anything that speaks PostgreSQL, and a target that is never the bottleneck"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// So many sessions that all do the same, or one of the mixes built in.
    Run(Box<run::Run>),
    /// What a TOML file says: phases, crews, mixes with weights, statements of your own.
    Scenario(Box<scenario::Scenario>),
    /// Serve the synthetic target until killed.
    Target {
        #[arg(long)]
        listen: SocketAddr,
        #[command(flatten)]
        synthetic: Synthetic,
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
struct Synthetic {
    /// The synthetic target wants this password from everybody, by SCRAM-SHA-256.
    #[arg(long, env = "HEADGATE_LOADTEST_TARGET_PASSWORD", hide_env_values = true)]
    target_password: Option<String>,
    /// The synthetic target answers signed-in clients after so long.
    #[arg(long, default_value_t = 0)]
    target_latency_us: u64,
}

impl Synthetic {
    fn plan(&self, listen: SocketAddr) -> TargetPlan {
        TargetPlan {
            listen,
            password: self.target_password.clone(),
            latency: Duration::from_micros(self.target_latency_us),
        }
    }
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
            (Some(here), Some(there)) => {
                distance::round_trip_ns(here, there).map_err(LoadFailed::io("distance of the cores"))
            }
            _ => Ok(None),
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, LoadFailed> {
    serde_json::to_string(value).map_err(|e| LoadFailed::Usage(e.to_string()))
}

impl Cli {
    /// What is to be printed at the end.
    pub fn run(self) -> Result<String, LoadFailed> {
        match self.command {
            Cmd::Run(run) => run.run(),
            Cmd::Scenario(scenario) => scenario.run(),
            Cmd::Target { listen, synthetic } => drive::run(&Plan {
                target: Some(synthetic.plan(listen)),
                loads: Vec::new(),
            })
            .map(|_| String::new()),
            Cmd::Watch { beside, command } => watch(&beside, &command),
            Cmd::Distance { here, there } => {
                let ns =
                    distance::round_trip_ns(here, there).map_err(LoadFailed::io("distance of the cores"))?;
                Ok(ns.map_or_else(|| "no answer in time".to_owned(), |ns| ns.to_string()))
            }
        }
    }
}

fn watch(beside: &Beside, command: &[String]) -> Result<String, LoadFailed> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(LoadFailed::Usage("no command".to_owned()));
    };
    let distance_before = beside.distance()?;
    let watch = Watch::new(&beside.groups);
    let before = watch.read();
    let started = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.map_err(LoadFailed::io("the command"))?;
    let after = watch.read();
    let seconds = started.elapsed().as_secs_f64();
    let used = after
        .iter()
        .map(|(name, u)| {
            (
                name.clone(),
                u.since(before.get(name).copied().unwrap_or_default()),
            )
        })
        .collect();
    if !output.status.success() {
        return Err(LoadFailed::Usage(format!(
            "{program} ended with {}",
            output.status
        )));
    }
    json(&serde_json::json!({
        "seconds": seconds,
        "cpu": report::cpu(&used, 1, seconds),
        "distance_ns": [distance_before, beside.distance()?],
        "output": String::from_utf8_lossy(&output.stdout),
    }))
}
