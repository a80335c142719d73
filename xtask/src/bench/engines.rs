//! The engines of a bench: started once, idle until their turn.

use super::{ENGINE_CORE, LOAD_CORE, until};
use crate::Result;
use headgate_e2e::{during, postgres, run};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const TARGET_PORT: u16 = 5433;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Direct,
    Relay,
    Haproxy,
    /// The same program and configuration once more: what two equal engines differ by is noise.
    HaproxyAgain,
    Pgbouncer,
    Headgate,
    HeadgateMask,
}

impl Kind {
    pub const ALL: [Kind; 7] =
        [Kind::Direct, Kind::Relay, Kind::Haproxy, Kind::HaproxyAgain, Kind::Pgbouncer, Kind::Headgate, Kind::HeadgateMask];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Relay => "relay",
            Kind::Haproxy => "haproxy",
            Kind::HaproxyAgain => "haproxy-again",
            Kind::Pgbouncer => "pgbouncer",
            Kind::Headgate => "headgate",
            Kind::HeadgateMask => "headgate-mask",
        }
    }

    pub fn is_headgate(self) -> bool {
        matches!(self, Kind::Headgate | Kind::HeadgateMask)
    }

    fn port(self) -> u16 {
        match self {
            Kind::Direct => TARGET_PORT,
            Kind::Relay => 6001,
            Kind::Haproxy => 6002,
            Kind::HaproxyAgain => 6003,
            Kind::Pgbouncer => 6004,
            Kind::Headgate => 6005,
            Kind::HeadgateMask => 6006,
        }
    }
}

struct Engine {
    kind: Kind,
    child: Child,
    log: PathBuf,
    password: String,
}

/// Everything that runs; ends with it.
pub struct Engines {
    pub bin: PathBuf,
    engines: Vec<Engine>,
    database: Option<Child>,
    folder: PathBuf,
}

impl Drop for Engines {
    fn drop(&mut self) {
        for engine in &mut self.engines {
            // headgate ends its processes; the others are one process each.
            run::send(engine.child.id(), rustix::process::Signal::TERM);
            let child = &mut engine.child;
            if until("an engine ends", Duration::from_secs(20), || child.try_wait().is_ok_and(|e| e.is_some())).is_err() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if let Some(database) = &mut self.database {
            run::send(database.id(), rustix::process::Signal::INT);
            if until("PostgreSQL stops", Duration::from_secs(20), || database.try_wait().is_ok_and(|e| e.is_some())).is_err() {
                let _ = database.kill();
                let _ = database.wait();
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Engines {
    pub fn start(bin: &Path, kinds: &[Kind], real: bool) -> Result<Engines> {
        let folder = PathBuf::from(format!("/dev/shm/headgate-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(during(folder.display()))?;
        let mut engines = Engines { bin: bin.to_owned(), engines: Vec::new(), database: None, folder };
        if real {
            engines.start_database()?;
        }
        for kind in kinds {
            engines.start_one(*kind)?;
        }
        Ok(engines)
    }

    /// A command that may use one core only. Every engine and the load have the same priority, above whatever else the machine does.
    pub fn pinned(&self, core: usize, program: &Path) -> Command {
        let mut command = Command::new("nice");
        command.args(["-n", "-15", "taskset", "-c", &core.to_string()]).arg(program).stdin(Stdio::null());
        command
    }

    fn start_one(&mut self, kind: Kind) -> Result<()> {
        let place = self.folder.join(kind.name());
        std::fs::create_dir_all(&place).map_err(during(place.display()))?;
        let target = format!("127.0.0.1:{TARGET_PORT}");
        let listen = format!("127.0.0.1:{}", kind.port());
        let mut command = match kind {
            Kind::Direct => return Ok(()),
            Kind::Relay => {
                let mut command = self.pinned(ENGINE_CORE, &self.bin.join("examples/relay"));
                command.args([listen, target, ENGINE_CORE.to_string()]);
                command
            }
            Kind::Haproxy | Kind::HaproxyAgain => {
                let file = write(&place, "haproxy.cfg", &HAPROXY.replace("@LISTEN@", &listen).replace("@TARGET@", &target))?;
                let mut command = self.pinned(ENGINE_CORE, Path::new("haproxy"));
                command.arg("-db").arg("-f").arg(file);
                command
            }
            Kind::Pgbouncer => {
                let file = write(
                    &place,
                    "pgbouncer.ini",
                    &PGBOUNCER.replace("@PORT@", &kind.port().to_string()).replace("@TARGET@", &TARGET_PORT.to_string()),
                )?;
                let mut command = self.pinned(ENGINE_CORE, Path::new("pgbouncer"));
                command.arg(file);
                command
            }
            Kind::Headgate | Kind::HeadgateMask => {
                let config = HEADGATE
                    .replace("@PLACE@", &place.display().to_string())
                    .replace("@CORE@", &ENGINE_CORE.to_string())
                    .replace("@LISTEN@", &listen)
                    .replace("@TARGET@", &target)
                    .replace("@API@", &format!("127.0.0.1:{}", kind.port() + 1000));
                write(&place, "rules.toml", &rules(kind == Kind::HeadgateMask))?;
                let file = write(&place, "headgate.toml", &config)?;
                // Its shard takes the engine's core for itself; recorder, control plane, analysts stay on the other.
                let mut command = self.pinned(LOAD_CORE, &self.bin.join("headgate"));
                command.arg("--config").arg(file).arg("run");
                command
            }
        };
        let log = place.join("log");
        let out = std::fs::File::create(&log).map_err(during("log"))?;
        command.stdout(out.try_clone().map_err(during("log"))?).stderr(out);
        let child = command.spawn().map_err(during(kind.name()))?;
        self.engines.push(Engine { kind, child, log, password: String::new() });
        until(&format!("{} listens", kind.name()), Duration::from_secs(30), || TcpStream::connect(("127.0.0.1", kind.port())).is_ok())
            .map_err(|why| format!("{why}\n{}", self.log(kind)))?;
        if kind.is_headgate() {
            let mut password = String::new();
            let mint = || -> Option<String> {
                let mut mint = Command::new(self.bin.join("headgate"));
                mint.arg("--config").arg(place.join("headgate.toml"));
                mint.args(["token", "mint", "--principal", "alice", "--group", "analysts", "--ttl", "8h"]);
                mint.output().ok().filter(|o| o.status.success()).map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
            };
            until("a token", Duration::from_secs(30), || {
                password = mint().unwrap_or_default();
                !password.is_empty()
            })
            .map_err(|why| format!("{why}\n{}", self.log(kind)))?;
            if let Some(engine) = self.engines.last_mut() {
                engine.password = password;
            }
        }
        Ok(())
    }

    fn engine(&self, kind: Kind) -> Option<&Engine> {
        self.engines.iter().find(|e| e.kind == kind)
    }

    pub fn port(&self, kind: Kind) -> u16 {
        kind.port()
    }

    pub fn password(&self, kind: Kind) -> &str {
        self.engine(kind).map_or("", |e| &e.password)
    }

    /// The end of an engine's log.
    pub fn log(&self, kind: Kind) -> String {
        let text = self.engine(kind).and_then(|e| std::fs::read_to_string(&e.log).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
    }

    /// What to watch: `engine` is what forwards, `all` is everything that it cannot do without.
    pub fn groups(&self, kind: Kind) -> Result<Vec<String>> {
        let Some(engine) = self.engine(kind) else { return Ok(Vec::new()) };
        let root = engine.child.id();
        if !kind.is_headgate() {
            return Ok(vec![format!("engine={root}"), format!("all={root}")]);
        }
        let child = |name: &str| -> Result<u32> {
            let children = std::fs::read_to_string(format!("/proc/{root}/task/{root}/children")).unwrap_or_default();
            let mut all: Vec<u32> = children.split_whitespace().filter_map(|c| c.parse().ok()).collect();
            // A multi-threaded parent's children hang on the thread that started them.
            for task in std::fs::read_dir(format!("/proc/{root}/task")).map_err(during("threads"))?.flatten() {
                let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
                all.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
            }
            all.into_iter()
                .find(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.contains(name)))
                .ok_or_else(|| format!("{name} does not run"))
        };
        let (dataplane, recorder) = (child("headgate-dataplane")?, child("headgate-recorder")?);
        Ok(vec![format!("engine!={dataplane}"), format!("recorder={recorder}"), format!("all={root}")])
    }

    /// What each uses while nothing is asked of it, in thousandths of a core.
    pub fn idle(&self, window: Duration) -> Result<Vec<(Kind, f64)>> {
        let mut command = Command::new(self.bin.join("headgate-loadtest"));
        command.arg("watch");
        for engine in &self.engines {
            command.arg("--watch").arg(format!("{}={}", engine.kind.name(), engine.child.id()));
        }
        command.args(["--", "sleep", &window.as_secs().to_string()]);
        let output = command.output().map_err(during("loadtest"))?;
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(during("loadtest's report"))?;
        let of = |kind: Kind| value.get("cpu")?.get(kind.name())?.get("busy")?.as_f64();
        Ok(self.engines.iter().filter_map(|e| Some((e.kind, of(e.kind)? * 1000.0))).collect())
    }

    pub fn pgbench(&self) -> Result<PathBuf> {
        Ok(postgres::bin_dir()?.join("pgbench"))
    }

    /// A PostgreSQL that trusts loopback, with pgbench's tables.
    fn start_database(&mut self) -> Result<()> {
        let (bin, data) = (postgres::bin_dir()?, self.folder.join("data"));
        std::fs::create_dir_all(&data).map_err(during("data"))?;
        let good = |command: &mut Command| -> Result<()> {
            let out = command.current_dir("/").output().map_err(during("postgres"))?;
            if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
        };
        good(Command::new("chown").arg("postgres").arg(&data))?;
        let mut initdb = Command::new("runuser");
        good(
            initdb
                .args(["-u", "postgres", "--"])
                .arg(bin.join("initdb"))
                .args(["-A", "trust", "-U", "bench", "--no-sync", "-D"])
                .arg(&data),
        )?;
        let mut server = self.pinned(LOAD_CORE, Path::new("setpriv"));
        // It stays one process: what is sent to it reaches the server.
        server.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(bin.join("postgres")).arg("-D").arg(&data);
        server.args([
            "-p",
            &TARGET_PORT.to_string(),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            "fsync=off",
        ]);
        server
            .args(["-c", "max_connections=300", "-c", "shared_buffers=256MB"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/");
        self.database = Some(server.spawn().map_err(during("postgres"))?);
        let client = |program: &str, more: &[&str]| {
            let mut command = Command::new(bin.join(program));
            command.args(["-h", "127.0.0.1", "-p", &TARGET_PORT.to_string(), "-U", "bench"]).args(more);
            good(&mut command)
        };
        until("PostgreSQL answers", Duration::from_secs(20), || client("psql", &["-c", "CREATE DATABASE bench", "postgres"]).is_ok())?;
        client("pgbench", &["-i", "-q", "-s", "5", "bench"])
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, text).map_err(during(path.display()))?;
    Ok(path)
}

/// Tuned as its people would for this work: a buffer for bulk, and edge-triggered polling.
const HAPROXY: &str = "global
    nbthread 1
    maxconn 8192
    tune.bufsize 65536
    expose-experimental-directives
    tune.fd.edge-triggered on
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen postgres
    bind @LISTEN@
    server target @TARGET@
";

const PGBOUNCER: &str = "[databases]
bench = host=127.0.0.1 port=@TARGET@ dbname=bench user=bench
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = @PORT@
unix_socket_dir =
user = postgres
auth_type = any
pool_mode = session
default_pool_size = 2000
max_client_conn = 4000
server_login_retry = 1
log_connections = 0
log_disconnections = 0
";

const HEADGATE: &str = "[appliance]
name = \"bench\"
data = \"@PLACE@/data\"
runtime = \"@PLACE@/run\"

[dataplane]
cores = [@CORE@]

[[listener]]
protocol = \"postgres\"
address = \"@LISTEN@\"
danger_allow_cleartext = true

[[target]]
name = \"bench\"
protocol = \"postgres\"
environment = \"production\"
address = \"@TARGET@\"
database = \"bench\"
user = \"bench\"
tls = \"danger-off\"

[api]
address = \"@API@\"
";

/// Twenty rules and more, of every kind; one of them allows what the bench does.
fn rules(mask: bool) -> String {
    let mut text = String::new();
    for n in 0..8 {
        text += &format!(
            "[[rule]]\nname = \"team {n} reads its schema\"\nwho = {{ groups = [\"team-{n}\"] }}\ntarget = {{ names = [\"bench\"] }}\nstatement = {{ class = [\"read\"], relations = [\"team_{n}.*\"] }}\neffect = \"allow\"\n\n"
        );
    }
    for (n, relation) in ["salaries", "payments", "sessions", "secrets", "audit", "legal"].iter().enumerate() {
        text += &format!(
            "[[rule]]\nname = \"nobody reads {relation}\"\ntarget = {{ environment = \"production\" }}\nstatement = {{ relations = [\"public.{relation}\", \"hr.{relation}\"] }}\neffect = \"deny\"\nmessage = \"case {n}\"\n\n"
        );
    }
    for (name, verbs) in [
        ("schema changes", "\"create table\", \"alter table\", \"drop\""),
        ("changes", "\"update\", \"delete\""),
        ("copies", "\"copy from\", \"copy to\""),
    ] {
        text += &format!(
            "[[rule]]\nname = \"{name} need a DBA\"\ntarget = {{ environment = \"production\" }}\nstatement = {{ verbs = [{verbs}] }}\neffect = \"hold\"\nreviewers = {{ groups = [\"dba\"] }}\n\n"
        );
    }
    text += "[[rule]]\nname = \"no DELETE or UPDATE without WHERE\"\nstatement = { verbs = [\"delete\", \"update\"] }\nwhen = \"!statement.has_where\"\neffect = \"deny\"\nmessage = \"add a WHERE clause\"\n\n";
    text += "[[rule]]\nname = \"no joins of many\"\nwhen = \"size(statement.relations) > 20\"\neffect = \"deny\"\n\n";
    text += "[[rule]]\nname = \"agents may not read files\"\nstatement = { functions = [\"pg_read_file\", \"lo_import\"] }\neffect = \"deny\"\n\n";
    text += "[[rule]]\nname = \"analysts read\"\nwho = { groups = [\"analysts\"] }\ntarget = { names = [\"bench\"] }\nstatement = { class = [\"read\"], relations = [\"public.*\"] }\neffect = \"allow\"\n\n";
    if mask {
        text += "[[mask]]\nname = \"contact data\"\ncolumns = [\"public.customers.email\"]\ndetect = [\"email\", \"payment_card\", \"us_ssn\"]\nmethod = \"partial\"\nunless = { groups = [\"privacy-officers\"] }\n";
    }
    text
}
