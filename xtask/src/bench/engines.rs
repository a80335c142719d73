//! The engines of one part of a bench: started once, idle until their turn.

use super::api::Api;
use super::database::{self, Database};
use super::kind::Kind;
use super::setup::{self, ANALYSTS, OFFICERS, REVIEWERS, TARGET_PASSWORD};
use super::{ENGINE_CORE, LOAD_CORE, Peers, TARGET_PORT, pinned, until};
use crate::Result;
use headgate_e2e::certificates::{Authority, Certificate};
use headgate_e2e::{during, run};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What a part wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Binaries of Headgate, its relay and the load.
    pub bin: PathBuf,
    /// Of the other build.
    pub compare: Option<PathBuf>,
    pub kinds: Vec<Kind>,
    /// A real PostgreSQL behind them.
    pub real: bool,
    /// The target asks for SCRAM.
    pub scram: bool,
    /// What `perf stat` counts in each run.
    pub count: Option<String>,
}

impl Wanted {
    pub fn new(peers: &Peers, kinds: &[Kind]) -> Result<Wanted> {
        let (bin, compare, count) = (peers.bin()?, peers.compare.clone(), peers.count.clone());
        Ok(Wanted {
            bin,
            compare,
            kinds: kinds.to_vec(),
            real: false,
            scram: false,
            count,
        })
    }
}

struct Engine {
    kind: Kind,
    child: Child,
    log: PathBuf,
}

/// Everything that runs; ends with it.
pub struct Engines {
    pub wanted: Wanted,
    engines: Vec<Engine>,
    /// By engine; [`Kind::HeadgatePassed`] has its own.
    tokens: Vec<(Kind, String)>,
    certificate: Certificate,
    pub authority: Authority,
    pub folder: PathBuf,
    _database: Option<Database>,
}

impl Drop for Engines {
    fn drop(&mut self) {
        for engine in &mut self.engines {
            // headgate ends its processes; the others are one process each.
            run::send(engine.child.id(), rustix::process::Signal::TERM);
        }
        for engine in &mut self.engines {
            let child = &mut engine.child;
            if until("an engine ends", Duration::from_secs(20), || {
                child.try_wait().is_ok_and(|e| e.is_some())
            })
            .is_err()
            {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        self._database = None;
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Engines {
    pub fn start(wanted: &Wanted) -> Result<Engines> {
        let folder = PathBuf::from(format!("/dev/shm/headgate-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(during(folder.display()))?;
        let authority = Authority::new(&folder.join("tls"))?;
        let certificate = authority.issue("bench")?;
        let mut engines = Engines {
            wanted: wanted.clone(),
            engines: Vec::new(),
            tokens: Vec::new(),
            certificate,
            authority,
            folder,
            _database: None,
        };
        // PgBouncer reads its key as somebody else; the folder goes with the bench.
        let both = engines.folder.join("tls/both.pem");
        let pem = |path: &Path| std::fs::read_to_string(path).map_err(during(path.display()));
        std::fs::write(
            &both,
            pem(&engines.certificate.certificate)? + &pem(&engines.certificate.key)?,
        )
        .map_err(during(both.display()))?;
        if wanted.kinds.iter().any(|kind| kind.is_pgbouncer()) {
            let given = Command::new("chown")
                .arg("postgres")
                .arg(&engines.certificate.key)
                .status()
                .map_err(during("chown"))?;
            if !given.success() {
                return Err("the key cannot be given to PgBouncer's user".to_owned());
            }
        }
        if wanted.real {
            engines._database = Some(database::start(&engines.folder)?);
        }
        for kind in &wanted.kinds {
            if *kind != Kind::Direct && engines.engine(*kind).is_none() {
                engines.start_one(kind.process())?;
            }
        }
        for kind in wanted.kinds.iter().filter(|kind| kind.is_headgate()) {
            let groups: &[&str] = if *kind == Kind::HeadgatePassed {
                &[ANALYSTS, OFFICERS]
            } else {
                &[ANALYSTS]
            };
            let token = engines.mint(*kind, "alice", groups)?;
            engines.tokens.push((*kind, token));
            let ready = || {
                Api::connect(&engines, *kind, None)
                    .is_ok_and(|mut api| api.call("GET", "/readyz", None).is_ok())
            };
            until(&format!("{kind} is ready"), Duration::from_secs(60), ready)
                .map_err(|why| format!("{why}\n{}", engines.log(*kind)))?;
        }
        Ok(engines)
    }

    pub fn loadtest(&self) -> PathBuf {
        self.wanted.bin.join("headgate-loadtest")
    }

    /// Of the build that this engine is of.
    fn bin(&self, kind: Kind) -> Result<&Path> {
        match (&self.wanted.compare, kind.is_other_build()) {
            (_, false) => Ok(&self.wanted.bin),
            (Some(other), true) => Ok(other),
            (None, true) => Err(format!("{kind} wants --compare")),
        }
    }

    fn start_one(&mut self, kind: Kind) -> Result<()> {
        let place = self.folder.join(kind.name());
        std::fs::create_dir_all(&place).map_err(during(place.display()))?;
        let scram = self.wanted.scram;
        let mut command = match kind {
            Kind::Direct => return Ok(()),
            Kind::Relay => {
                let mut command = pinned(ENGINE_CORE, &self.wanted.bin.join("examples/relay"));
                command.args([
                    format!("127.0.0.1:{}", kind.port()),
                    format!("127.0.0.1:{TARGET_PORT}"),
                    ENGINE_CORE.to_string(),
                ]);
                command
            }
            Kind::Haproxy | Kind::HaproxyAgain | Kind::HaproxyStock => {
                let file = write(
                    &place,
                    "haproxy.cfg",
                    &setup::haproxy(kind, &self.folder.join("tls/both.pem")),
                )?;
                let mut command = pinned(ENGINE_CORE, Path::new("haproxy"));
                command.arg("-db").arg("-f").arg(file);
                command
            }
            Kind::Pgbouncer | Kind::PgbouncerLarge => {
                write(&place, "users.txt", &format!("\"bench\" \"{TARGET_PASSWORD}\"\n"))?;
                let file = write(
                    &place,
                    "pgbouncer.ini",
                    &setup::pgbouncer(kind, &self.certificate, &place, scram),
                )?;
                let mut command = pinned(ENGINE_CORE, Path::new("pgbouncer"));
                command.arg(file);
                command
            }
            _ => {
                write(
                    &place,
                    "rules.toml",
                    &setup::rules(kind.rules().unwrap_or(1), kind.masks()),
                )?;
                let text = setup::headgate(kind, &self.certificate, &place, scram);
                let file = write(&place, "headgate.toml", &text)?;
                if kind.is_other_build() {
                    suit(&self.bin(kind)?.join("headgate"), &place, text)?;
                }
                // Its shard takes the engine's core for itself; recorder, control plane, analysts stay on the other.
                let mut command = pinned(LOAD_CORE, &self.bin(kind)?.join("headgate"));
                command.arg("--config").arg(file).arg("run");
                command
            }
        };
        let log = place.join("log");
        let out = std::fs::File::create(&log).map_err(during("log"))?;
        command
            .stdout(out.try_clone().map_err(during("log"))?)
            .stderr(out);
        let child = command.spawn().map_err(during(kind))?;
        self.engines.push(Engine { kind, child, log });
        until(&format!("{kind} listens"), Duration::from_secs(60), || {
            TcpStream::connect(("127.0.0.1", kind.port())).is_ok()
        })
        .map_err(|why| format!("{why}\n{}", self.log(kind)))?;
        if kind.is_headgate() && scram {
            let mut put = self.command(kind, &["secret", "put", "bench"])?;
            until("a secret", Duration::from_secs(30), || {
                run(&mut put, TARGET_PASSWORD, Duration::from_secs(10)).is_ok_and(|ran| ran.ok())
            })
            .map_err(|why| format!("{why}\n{}", self.log(kind)))?;
        }
        Ok(())
    }

    /// The operator's command at this Headgate.
    pub fn command(&self, kind: Kind, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(self.bin(kind)?.join("headgate"));
        command
            .arg("--config")
            .arg(self.folder.join(kind.process().name()).join("headgate.toml"))
            .args(args);
        Ok(command)
    }

    pub fn mint(&self, kind: Kind, principal: &str, groups: &[&str]) -> Result<String> {
        let mut args = vec!["token", "mint", "--principal", principal, "--ttl", "8h"];
        args.extend(groups.iter().flat_map(|group| ["--group", group]));
        let mut mint = self.command(kind, &args)?;
        let mut token = String::new();
        until("a token", Duration::from_secs(60), || {
            token = mint
                .output()
                .ok()
                .filter(|o| o.status.success())
                .map_or_else(String::new, |o| {
                    String::from_utf8_lossy(&o.stdout).trim().to_owned()
                });
            !token.is_empty()
        })
        .map_err(|why| format!("{why}\n{}", self.log(kind)))?;
        Ok(token)
    }

    pub fn reviewer(&self, kind: Kind) -> Result<String> {
        self.mint(kind, "dana", &[REVIEWERS])
    }

    fn engine(&self, kind: Kind) -> Option<&Engine> {
        self.engines.iter().find(|e| e.kind == kind.process())
    }

    /// What a client says when it is asked for a password.
    pub fn password(&self, kind: Kind) -> &str {
        let token = self
            .tokens
            .iter()
            .find(|(k, _)| *k == kind)
            .map(|(_, token)| token.as_str());
        token.unwrap_or(if self.wanted.scram { TARGET_PASSWORD } else { "" })
    }

    /// The end of an engine's log.
    pub fn log(&self, kind: Kind) -> String {
        let text = self
            .engine(kind)
            .and_then(|e| std::fs::read_to_string(&e.log).ok())
            .unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(15)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// The process that was started; of Headgate, the supervisor.
    pub fn root(&self, kind: Kind) -> Option<u32> {
        self.engine(kind).map(|engine| engine.child.id())
    }

    /// The process that forwards.
    pub fn forwarder(&self, kind: Kind) -> Result<Option<u32>> {
        match self.root(kind) {
            Some(root) if kind.is_headgate() => child(root, "headgate-dataplane").map(Some),
            root => Ok(root),
        }
    }

    /// The process that keeps the record.
    pub fn recorder(&self, kind: Kind) -> Result<Option<u32>> {
        match self.root(kind) {
            Some(root) if kind.is_headgate() => child(root, "headgate-recorder").map(Some),
            _ => Ok(None),
        }
    }

    /// What to watch: `engine` is what forwards, `all` is everything that it cannot do without.
    pub fn groups(&self, kind: Kind) -> Result<Vec<String>> {
        let Some(root) = self.root(kind) else {
            return Ok(Vec::new());
        };
        if !kind.is_headgate() {
            return Ok(vec![format!("engine={root}"), format!("all={root}")]);
        }
        let recorder = self.recorder(kind)?.unwrap_or(root);
        Ok(vec![
            format!("engine!={}", child(root, "headgate-dataplane")?),
            format!("recorder={recorder}"),
            format!("all={root}"),
        ])
    }

    /// What each uses while nothing is asked of it, in thousandths of a core.
    pub fn idle(&self, window: Duration) -> Result<Vec<(Kind, f64)>> {
        let mut command = Command::new(self.loadtest());
        command.arg("watch").stdin(Stdio::null());
        for engine in &self.engines {
            command
                .arg("--watch")
                .arg(format!("{}={}", engine.kind, engine.child.id()));
        }
        command.args(["--", "sleep", &window.as_secs().to_string()]);
        let output = command.output().map_err(during("loadtest"))?;
        let value: serde_json::Value =
            serde_json::from_slice(&output.stdout).map_err(during("loadtest's report"))?;
        let of = |kind: Kind| value.get("cpu")?.get(kind.name())?.get("busy")?.as_f64();
        Ok(self
            .engines
            .iter()
            .filter_map(|e| Some((e.kind, of(e.kind)? * 1000.0)))
            .collect())
    }
}

/// `pid` and everything below it.
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(parent) = all.get(at).copied() {
        // A multi-threaded parent's children hang on the thread that started them.
        for task in std::fs::read_dir(format!("/proc/{parent}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
        }
        at += 1;
    }
    all
}

fn child(root: u32, name: &str) -> Result<u32> {
    family(root)
        .into_iter()
        .skip(1)
        .find(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.contains(name)))
        .ok_or_else(|| format!("{name} does not run"))
}

/// An older build refuses keys that came after it: they are taken out, one after the other, and what they set is its own
/// default, as it was then. Anything else that it finds wrong is left for its start to say.
fn suit(headgate: &Path, place: &Path, mut text: String) -> Result<()> {
    loop {
        let file = write(place, "headgate.toml", &text)?;
        let mut check = Command::new(headgate);
        check.arg("--config").arg(file).arg("check");
        let ran = run(&mut check, "", Duration::from_secs(30))?;
        let said = format!("{}{}", ran.stdout, ran.stderr);
        let Some((without, line)) = said.lines().find_map(|said| setup::without_unknown(&text, said)) else {
            return Ok(());
        };
        eprintln!("the other build does not know: {line}");
        text = without;
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, text).map_err(during(path.display()))?;
    Ok(path)
}
