//! `cargo xtask bench peers`: Headgate beside others on the same work, in turn, in one run.
//!
//! The engine alone has core 0 (of Headgate the shard; its other processes share core 1 with the load), load and target
//! share core 1. In a network namespace of its own, so that the congestion control can be fixed. Engines run in a random order within each round, one of
//! them twice under two names, and only runs whose cores were equally far apart are compared. Why each of this: `loadtest/src/distance.rs`,
//! and the notes in `bench/record`.

mod engines;
mod record;

use crate::build::cargo_run;
use crate::{Result, install};
use engines::{Engines, Kind};
use headgate_e2e::{during, place};
use record::{Book, Run};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// CPU per statement beside HAProxy, PgBouncer and an empty relay.
    Peers(Peers),
}

#[derive(clap::Args, Clone)]
pub struct Peers {
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    #[arg(long, value_delimiter = ',', default_values_t = [16, 64])]
    sessions: Vec<usize>,
    /// Of prepared, simple, extended, bulk.
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
    /// Against a real PostgreSQL with `pgbench -S`, 16 sessions, instead of the synthetic target.
    #[arg(long)]
    real: bool,
    /// Name of the record.
    #[arg(long, default_value = "peers")]
    name: String,
    /// Set by the command itself: it is in its network namespace.
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

/// Cores of the engine, and of load and target.
pub const ENGINE_CORE: usize = 0;
pub const LOAD_CORE: usize = 1;
/// Large results are read by so many, whatever `--sessions` says.
const BULK_SESSIONS: usize = 8;
/// Tries of a run whose cores moved, or that failed, before it is left out.
const TRIES_MAX: usize = 3;

pub fn run(args: &Args) -> Result<()> {
    let What::Peers(peers) = &args.what;
    match &peers.inside {
        Some(bin) => inside(peers, bin),
        None => outside(),
    }
}

/// Installs, builds, and starts itself again in a network namespace.
fn outside() -> Result<()> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err("a bench wants two cores: one for the engine, one for load and target".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Err("a bench wants root: it makes a network namespace and fixes its congestion control".to_owned());
    }
    install::for_bench()?;
    let mut bins = vec!["build", "--release", "-p", "headgate-loadtest", "-p", "headgate-cli", "-p", "headgate-dataplane"];
    bins.extend(["-p", "headgate-recorder", "-p", "headgate-analyst", "--bins"]);
    cargo_run(&bins)?;
    cargo_run(&["build", "--release", "-p", "headgate-ring", "--example", "relay"])?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| place::repository().join("target"), PathBuf::from);
    let me = std::env::current_exe().map_err(during("own program"))?;
    let mut again = Command::new("unshare");
    again.args(["--net", "--"]).arg(me).args(std::env::args_os().skip(1)).arg("--inside").arg(target.join("release"));
    let status = again.status().map_err(during("unshare"))?;
    if status.success() { Ok(()) } else { Err(format!("the bench ended with {status}")) }
}

fn inside(peers: &Peers, bin: &Path) -> Result<()> {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().map_err(during("ip"))?;
    if !up.success() {
        return Err("the namespace's loopback does not come up".to_owned());
    }
    std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno").map_err(during("congestion control"))?;

    let mut peers = peers.clone();
    if peers.quick {
        peers.rounds = peers.rounds.min(2);
        peers.window_ms = peers.window_ms.min(300);
    }
    if peers.real {
        peers.sessions = vec![16];
        peers.modes.retain(|mode| mode != "bulk");
    }
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|k| *k == Kind::Haproxy || peers.engines.is_empty() || peers.engines.iter().any(|name| name == k.name()))
        .filter(|k| !(peers.real && *k == Kind::HeadgateMask))
        .collect();
    let engines = Engines::start(bin, &kinds, peers.real)?;
    let mut book = Book::new(&peers)?;
    let mut seed = Seed::new();
    for round in 0..peers.rounds {
        for mode in &peers.modes {
            let bulk = [BULK_SESSIONS];
            for sessions in if mode == "bulk" { &bulk[..] } else { &peers.sessions } {
                let mut order = kinds.clone();
                seed.shuffle(&mut order);
                for kind in order {
                    let run = settled(&engines, kind, mode, *sessions, &peers)?;
                    eprintln!(
                        "round {} {mode} {sessions:>4} {:<14} {}",
                        round + 1,
                        kind.name(),
                        run.as_ref().map_or("left out".to_owned(), Run::line)
                    );
                    if let Some(run) = run {
                        book.add(round, mode, *sessions, kind, run);
                    }
                }
            }
        }
    }
    let idle = engines.idle(Duration::from_secs(2))?;
    let text = book.text(&kinds, &idle);
    println!("{text}");
    let path = place::repository().join("bench/record").join(format!("{}-{}.md", date(), peers.name));
    if peers.quick {
        println!("(quick: not written to {})", path.display());
        return Ok(());
    }
    std::fs::write(&path, text).map_err(during(path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

/// One run whose cores did not move meanwhile; `None` if there was none in [`TRIES_MAX`] tries.
fn settled(engines: &Engines, kind: Kind, mode: &str, sessions: usize, peers: &Peers) -> Result<Option<Run>> {
    let mut why = String::new();
    for _ in 0..TRIES_MAX {
        match once(engines, kind, mode, sessions, peers) {
            Ok(run) if run.far.is_some() => return Ok(Some(run)),
            Ok(_) => {}
            Err(failed) => {
                why = failed;
                std::thread::sleep(Duration::from_millis(1500));
            }
        }
    }
    if why.is_empty() { Ok(None) } else { Err(format!("{}: {why}\n{}", kind.name(), engines.log(kind))) }
}

fn once(engines: &Engines, kind: Kind, mode: &str, sessions: usize, peers: &Peers) -> Result<Run> {
    let mut command = engines.pinned(LOAD_CORE, &engines.bin.join("headgate-loadtest"));
    command.arg(if peers.real { "watch" } else { "run" });
    command.args(["--core", &LOAD_CORE.to_string(), "--engine-core", &ENGINE_CORE.to_string()]);
    for group in engines.groups(kind)? {
        command.arg("--watch").arg(group);
    }
    let port = engines.port(kind).to_string();
    if peers.real {
        let seconds = peers.window_ms.div_ceil(1000).max(2).to_string();
        command.arg("--").arg(engines.pgbench()?).args(["-S", "-n", "-j", "1", "-c", &sessions.to_string(), "-T", &seconds, "-M", mode]);
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", "bench", "bench"]);
        command.env("PGPASSWORD", engines.password(kind)).env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
    } else {
        command.args(["--connect", &format!("127.0.0.1:{port}"), "--target", &format!("127.0.0.1:{}", engines::TARGET_PORT)]);
        command.args(["--sessions", &sessions.to_string(), "--mode", mode, "--window-ms", &peers.window_ms.to_string()]);
        command.env("HEADGATE_LOADTEST_PASSWORD", engines.password(kind));
    }
    let output = command.output().map_err(during("loadtest"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let value: Value = serde_json::from_slice(&output.stdout).map_err(during("loadtest's report"))?;
    let mut run = if peers.real { Run::of_pgbench(&value)? } else { Run::of_loadtest(&value)? };
    if mode == "bulk" {
        run.per_kilobyte();
    }
    if kind == Kind::HeadgateMask && mode != "bulk" && run.sample.contains("ada.lovelace") {
        return Err(format!("the e-mail address was not masked: {}", run.sample));
    }
    Ok(run)
}

/// A little random source; a bench needs no better.
struct Seed(u64);

impl Seed {
    fn new() -> Seed {
        Seed(SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64) | 1)
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

fn date() -> String {
    let out = Command::new("date").arg("+%Y-%m-%d").output();
    out.map_or_else(|_| "undated".to_owned(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
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
