//! `cargo xtask bench peers`: Headgate beside others on the same work, in turn, in one run. `bench micro`: its hot steps alone.
//!
//! The engine alone has core 0 (of Headgate the shard; its other processes share core 1 with the load), load and target
//! share core 1. In a network namespace of its own, so that the congestion control can be fixed. Engines run in a random order within each round, one of
//! them twice under two names, and only runs whose cores were equally far apart are compared. Why each of this: `loadtest/src/distance.rs`,
//! and the notes in `bench/record`.

mod api;
mod control;
mod counter;
mod database;
mod engines;
mod fairness;
mod flat;
mod grid;
mod idle;
mod kind;
mod load;
mod logins;
mod memory;
mod record;
mod run;
mod session;
mod setup;
mod statistics;
mod table;

use crate::build::cargo_run;
use crate::{Result, install};
use clap::ValueEnum;
use headgate_e2e::{during, place};
use record::Page;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// CPU per statement beside HAProxy, PgBouncer and an empty relay.
    Peers(Box<Peers>),
    /// The hot steps of the data plane by themselves, with criterion.
    Micro {
        /// Only benches whose names have this in them; and criterion's own flags.
        #[arg(last = true)]
        rest: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Every one of the others.
    All,
    /// Small statements in the `--modes`.
    Small,
    /// Prepared statements with TLS on the client's side.
    Tls,
    /// pgbench -S at a real PostgreSQL.
    Real,
    /// Large results.
    Bulk,
    /// Memory of 9,500 idle sessions.
    Idle,
    /// Logins with TLS and SCRAM at the target; with a token known, and with one never seen.
    Logins,
    /// From a reviewer's yes to the target, from a revocation to the session, under load.
    Control,
    /// Point reads beside large results and slow readers.
    Fairness,
    /// CPU per statement by sessions, 16 to 4,096, and by rules, 1 to 1,000.
    Flat,
}

#[derive(clap::Args, Clone)]
pub struct Peers {
    /// What to measure, each with engines of its own.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Small])]
    parts: Vec<Part>,
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Engines are started anew after so many rounds: where a process lies in memory can make a few per cent of its CPU.
    #[arg(long, default_value_t = 4)]
    fresh: usize,
    #[arg(long, value_delimiter = ',', default_values_t = [16, 64, 256])]
    sessions: Vec<usize>,
    /// Of prepared, simple, extended, pipelined; bulk is the same as `--parts bulk`.
    #[arg(long, value_delimiter = ',', default_values_t = ["prepared".to_owned(), "simple".to_owned(), "extended".to_owned()])]
    modes: Vec<String>,
    /// Only these engines (and HAProxy).
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    #[arg(long, default_value_t = 1000)]
    window_ms: u64,
    /// Two short rounds, to see that everything runs; its figures are worth nothing.
    #[arg(long)]
    quick: bool,
    /// The same as `--parts real`.
    #[arg(long)]
    real: bool,
    /// Binaries that are there already (a folder as `target/release`), instead of building them.
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
    /// Binaries of another build of Headgate, which takes part as headgate-b and headgate-mask-b.
    #[arg(long, value_name = "DIR")]
    compare: Option<PathBuf>,
    /// What `perf stat` counts of the engine in each run, where the machine can.
    #[arg(long, value_name = "EVENT", default_value = "instructions")]
    count: Option<String>,
    /// Name of the record.
    #[arg(long, default_value = "peers")]
    name: String,
    /// Set by the command itself: it is in its network namespace.
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

impl Peers {
    fn bin(&self) -> Result<PathBuf> {
        self.inside
            .clone()
            .ok_or_else(|| "not in the namespace".to_owned())
    }
}

/// Cores of the engine, and of load and target.
const ENGINE_CORE: usize = 0;
const LOAD_CORE: usize = 1;
const TARGET_PORT: u16 = 5433;

pub fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Peers(peers) if peers.inside.is_some() => inside(peers),
        What::Peers(peers) => outside(peers),
        What::Micro { rest } => micro(rest),
    }
}

fn micro(rest: &[String]) -> Result<()> {
    let mut words = vec!["bench", "-p", "headgate-bench", "--benches", "--"];
    words.extend(rest.iter().map(String::as_str));
    cargo_run(&words)
}

/// Installs, builds, and starts itself again in a network namespace.
fn outside(peers: &Peers) -> Result<()> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err("a bench wants two cores: one for the engine, one for load and target".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(
            "a bench wants root: it makes a network namespace and fixes its congestion control".to_owned(),
        );
    }
    install::for_bench()?;
    let bin = match &peers.bin {
        Some(bin) => std::fs::canonicalize(bin).map_err(during(bin.display()))?,
        None => build()?,
    };
    let me = std::env::current_exe().map_err(during("own program"))?;
    let mut again = Command::new("unshare");
    // Whatever is not told otherwise stays off the engine's core, and above whatever else the machine does.
    again.args([
        "--net",
        "--",
        "nice",
        "-n",
        "-15",
        "taskset",
        "-c",
        &LOAD_CORE.to_string(),
    ]);
    again
        .arg(me)
        .args(std::env::args_os().skip(1))
        .arg("--inside")
        .arg(bin);
    let status = again.status().map_err(during("unshare"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the bench ended with {status}"))
    }
}

fn build() -> Result<PathBuf> {
    let mut bins = vec![
        "build",
        "--release",
        "-p",
        "headgate-loadtest",
        "-p",
        "headgate-cli",
        "-p",
        "headgate-dataplane",
    ];
    bins.extend(["-p", "headgate-recorder", "-p", "headgate-analyst", "--bins"]);
    cargo_run(&bins)?;
    cargo_run(&["build", "--release", "-p", "headgate-ring", "--example", "relay"])?;
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| place::repository().join("target"), PathBuf::from);
    Ok(target.join("release"))
}

fn inside(peers: &Peers) -> Result<()> {
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .map_err(during("ip"))?;
    if !up.success() {
        return Err("the namespace's loopback does not come up".to_owned());
    }
    for (name, value) in [
        ("tcp_congestion_control", "reno"),
        ("ip_local_port_range", "16384 65535"),
    ] {
        std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).map_err(during(name))?;
    }
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit {
        current: files.maximum,
        maximum: files.maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all)
        .map_err(during("the limit of open files"))?;

    let mut peers = peers.clone();
    if let Some(compare) = &peers.compare {
        peers.compare = Some(std::fs::canonicalize(compare).map_err(during(compare.display()))?);
    }
    if peers.quick {
        peers.rounds = peers.rounds.min(2);
        peers.window_ms = peers.window_ms.min(300);
    }
    if peers.real {
        peers.parts = vec![Part::Real];
    } else if peers.modes.iter().any(|mode| mode == "bulk") {
        if peers.modes.iter().all(|mode| mode == "bulk") {
            peers.parts.retain(|part| *part != Part::Small);
        }
        peers.parts.push(Part::Bulk);
    }
    if peers.parts.contains(&Part::All) {
        peers.parts = Part::value_variants()
            .iter()
            .copied()
            .filter(|part| *part != Part::All)
            .collect();
    }
    peers.count = peers.count.filter(|event| counter::counts(event));
    let mut page = Page::new(&peers);
    let mut failures = Vec::new();
    for part in &peers.parts {
        let started = Instant::now();
        let done = match part {
            Part::All => Ok(()),
            Part::Small => grid::small(&peers, &mut page),
            Part::Tls => grid::tls(&peers, &mut page),
            Part::Real => grid::real(&peers, &mut page),
            Part::Bulk => grid::bulk(&peers, &mut page),
            Part::Idle => idle::idle(&peers, &mut page),
            Part::Logins => logins::logins(&peers, &mut page),
            Part::Control => control::control(&peers, &mut page),
            Part::Fairness => fairness::fairness(&peers, &mut page),
            Part::Flat => flat::flat(&peers, &mut page),
        };
        eprintln!("{part:?}: {} s", started.elapsed().as_secs());
        if let Err(why) = done {
            eprintln!("{part:?}: {why}");
            failures.push(format!("{part:?}: {why}"));
        }
        if !peers.quick {
            page.write(&peers.name)?;
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("\n"))
    }
}

/// A command that may use one core only. All have the priority of this process.
fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command
        .args(["-c", &core.to_string()])
        .arg(program)
        .stdin(Stdio::null());
    command
}

/// A little random source; a bench needs no better.
struct Seed(u64);

impl Seed {
    fn new() -> Seed {
        Seed(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |d| d.as_nanos() as u64)
                | 1,
        )
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            let other = (self.next() % (at as u64 + 1)) as usize;
            list.swap(at, other);
        }
    }
}

/// Asks again and again until it is so.
fn until(what: &str, patience: Duration, mut so: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + patience;
    while !so() {
        if Instant::now() >= end {
            return Err(format!("not within {patience:?}: {what}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
