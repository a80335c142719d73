//! Unmodified drivers, each with a small program in `conformance/`, over TLS with a check of the certificate.

use super::bounded;
use super::fetch::{cache, good, own, python, python_version};
use super::outcome::{Outcome, Outcomes, TO_THE_END, failed, read_lines};
use super::world::World;
use crate::{Result, install};
use headgate_e2e::during;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

pub struct Driver {
    pub name: &'static str,
    /// Fetches and builds, and says the driver's version.
    pub prepare: fn() -> Result<String>,
    command: fn() -> Result<Command>,
}

pub const DRIVERS: &[Driver] = &[
    Driver {
        name: "psql",
        prepare: psql_version,
        command: || Ok(script("sh", "psql/run.sh")),
    },
    Driver {
        name: "psycopg",
        prepare: psycopg_version,
        command: || Ok(script(python()?, "psycopg/run.py")),
    },
    Driver {
        name: "asyncpg",
        prepare: || python().and_then(|_| python_version("asyncpg")),
        command: || Ok(script(python()?, "asyncpg/run.py")),
    },
    Driver {
        name: "tokio-postgres",
        prepare: tokio_postgres,
        command: || Ok(Command::new(tokio_postgres_program()?)),
    },
    Driver {
        name: "node-postgres",
        prepare: node_postgres,
        command: node_command,
    },
    Driver {
        name: "pgjdbc",
        prepare: pgjdbc,
        command: pgjdbc_command,
    },
    Driver {
        name: "pgx",
        prepare: pgx,
        command: || Ok(Command::new(cache("pgx")?.join("run"))),
    },
];

impl Driver {
    /// Steps that fail, and of which `worth` says so, are run once more: some of them wait for a clock.
    pub fn run(&self, world: &World, worth: &dyn Fn(&str) -> bool) -> Result<Outcomes> {
        let mut outcomes = self.once(world, "all")?;
        let bad: Vec<String> = failed(&outcomes).into_iter().filter(|name| worth(name)).collect();
        if !bad.is_empty() {
            let again = self.once(world, "again")?;
            for name in bad {
                if let Some(outcome) = again.get(&name) {
                    outcomes.insert(name, outcome.clone());
                }
            }
        }
        world.keep_log(self.name)?;
        Ok(outcomes)
    }

    fn once(&self, world: &World, which: &str) -> Result<Outcomes> {
        let mut command = (self.command)()?;
        world.with_tls(&mut command, "conformance");
        let ran = bounded::run(
            &mut command,
            &format!("{}-{}-{which}", self.name, world.way.name()),
            Duration::from_secs(200),
        )?;
        let mut outcomes = read_lines(&ran.stdout);
        // A program that hangs or dies in the middle says nothing of the steps that it did not come to.
        if ran.code != Some(0) {
            let why = ran
                .wrong()
                .unwrap_or_else(|| format!("exit {:?}: {}", ran.code, ran.stderr.replace('\n', " | ")));
            outcomes.insert(TO_THE_END.to_owned(), Outcome::Failed(why));
        }
        Ok(outcomes)
    }
}

fn script(program: impl AsRef<std::ffi::OsStr>, name: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(own(name));
    command
}

fn psql_version() -> Result<String> {
    Ok(good(Command::new("psql").arg("--version"))?
        .trim()
        .replace("psql (PostgreSQL) ", ""))
}

fn psycopg_version() -> Result<String> {
    let asked = "import psycopg; print(psycopg.__version__, 'with libpq', psycopg.pq.version())";
    Ok(good(Command::new(python()?).args(["-c", asked]))?
        .trim()
        .to_owned())
}

fn tokio_postgres() -> Result<String> {
    let manifest = own("tokio-postgres/Cargo.toml");
    let mut build = crate::build::cargo(&["build", "--quiet", "--locked", "--manifest-path"]);
    good(build.arg(&manifest).env("CARGO_TARGET_DIR", cache("cargo")?))?;
    Ok("0.7.18".to_owned())
}

fn tokio_postgres_program() -> Result<PathBuf> {
    Ok(cache("cargo")?.join("debug/conformance-tokio-postgres"))
}

pub fn with_node(mut command: Command) -> Result<Command> {
    if let Some(bin) = install::node()? {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", bin.display()));
    }
    Ok(command)
}

/// npm wants its folder beside the program: both are copied.
fn node_postgres() -> Result<String> {
    let folder = cache("node-postgres")?;
    for name in ["package.json", "package-lock.json", "run.mjs"] {
        std::fs::copy(own("node-postgres").join(name), folder.join(name)).map_err(during(name))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--silent", "--no-audit", "--no-fund"])
        .current_dir(&folder);
    good(&mut with_node(npm)?)?;
    let path = folder.join("node_modules/pg/package.json");
    let text = std::fs::read_to_string(&path).map_err(during(path.display()))?;
    let package: serde_json::Value = serde_json::from_str(&text).map_err(during(path.display()))?;
    Ok(format!("pg {}", package["version"].as_str().unwrap_or("?")))
}

fn node_command() -> Result<Command> {
    let mut node = Command::new("node");
    node.arg("--no-deprecation")
        .arg(cache("node-postgres")?.join("run.mjs"));
    with_node(node)
}

fn pgjdbc() -> Result<String> {
    let jars = cache("pgjdbc")?;
    let mut maven = Command::new("mvn");
    maven
        .args(["--quiet", "--batch-mode", "--file"])
        .arg(own("pgjdbc/pom.xml"))
        .arg("dependency:copy-dependencies");
    good(maven.arg(format!("-DoutputDirectory={}", jars.display())))?;
    let jar = std::fs::read_dir(&jars)
        .map_err(during(jars.display()))?
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned());
    let mut versions: Vec<String> = jar
        .filter_map(|n| Some(n.strip_prefix("postgresql-")?.strip_suffix(".jar")?.to_owned()))
        .collect();
    versions.sort();
    versions
        .pop()
        .ok_or_else(|| "Maven left no postgresql jar".to_owned())
}

fn pgjdbc_command() -> Result<Command> {
    let mut java = Command::new("java");
    java.arg("-cp")
        .arg(format!("{}/*", cache("pgjdbc")?.display()))
        .arg(own("pgjdbc/Driver.java"));
    Ok(java)
}

/// Debian 12's Go is too old for the pgx of today: it gets the last one that it can build.
fn pgx() -> Result<String> {
    let mut build = Command::new("go");
    let (version, file) = pgx_pinned()?;
    build
        .args(["build", "-buildvcs=false", "-modfile", file, "-o"])
        .arg(cache("pgx")?.join("run"))
        .arg(".")
        .current_dir(own("pgx"));
    good(&mut build)?;
    Ok(format!("{version}, {}", go_version()?))
}

/// The version that the machine's Go can build, and the file that pins it.
pub fn pgx_pinned() -> Result<(String, &'static str)> {
    // Since 1.21 Go fetches by itself the version that go.mod asks for.
    let file = if go_minor()? >= 21 { "go.mod" } else { "go119.mod" };
    let text = std::fs::read_to_string(own("pgx").join(file)).map_err(during(file))?;
    let version = text.lines().find_map(|line| {
        line.trim()
            .trim_start_matches("require ")
            .strip_prefix("github.com/jackc/pgx/v5 ")
    });
    Ok((
        version
            .ok_or_else(|| format!("{file} does not pin pgx"))?
            .to_owned(),
        file,
    ))
}

pub fn go_version() -> Result<String> {
    Ok(good(Command::new("go").args(["env", "GOVERSION"]))?
        .trim()
        .to_owned())
}

pub fn go_minor() -> Result<u32> {
    let said = go_version()?;
    let minor = said
        .trim_start_matches("go1.")
        .split(['.', 'r', 'b'])
        .next()
        .and_then(|n| n.parse().ok());
    minor.ok_or_else(|| format!("Go {said}?"))
}
