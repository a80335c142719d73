//! The suites that other projects ship with their drivers, and PostgreSQL's own, run as they are.
//!
//! They come from where the driver itself comes from, so a suite is here when a registry carries it. Not carried: psycopg 3's (its
//! source distributions have no tests since they began) and node-postgres's for `pg` itself (its npm packages have none; those of
//! its pool and cursor once had, see [`node`]).

use super::bounded::{self, Ended};
use super::fetch::{cache, good, own, python, python_source, python_version, server_version};
use super::outcome::{Outcome, Outcomes, TO_THE_END, failed, passed, read_lines};
use super::world::{Wanted, Way, World};
use super::{golang, java, node, regress};
use crate::Result;
use crate::build::cargo;
use headgate_e2e::during;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub struct Suite {
    pub name: &'static str,
    /// Fetches and builds, and says what it is a suite of.
    pub prepare: fn() -> Result<String>,
    wanted: Wanted,
    patience: Duration,
    run: fn(&World, &SuiteRequest) -> Result<Outcomes>,
}

/// What a suite is asked to do.
pub struct SuiteRequest {
    /// These tests, or all when there are none.
    pub only: Vec<String>,
    /// The name of what is kept of it in `.conformance/logs`.
    pub log: String,
    /// When it is over the suite is killed.
    pub patience: Duration,
}

const fn superuser(databases: &'static [&'static str], later: &'static [&'static str]) -> Wanted {
    Wanted {
        databases,
        later,
        user: "postgres",
        any_user: false,
    }
}

pub const SUITES: &[Suite] = &[
    Suite {
        name: "pg_regress",
        prepare: regress_prepare,
        wanted: superuser(&["regression"], &[]),
        patience: Duration::from_secs(900),
        run: regress::run,
    },
    Suite {
        name: "tokio-postgres-suite",
        prepare: tokio_prepare,
        wanted: Wanted {
            any_user: true,
            ..superuser(&["postgres"], &[])
        },
        patience: Duration::from_secs(300),
        run: tokio_run,
    },
    Suite {
        name: "psycopg2-suite",
        prepare: psycopg2_prepare,
        wanted: superuser(&["psycopg2_test"], &[]),
        patience: Duration::from_secs(600),
        run: psycopg2_run,
    },
    Suite {
        name: "asyncpg-suite",
        prepare: asyncpg_prepare,
        wanted: superuser(&["postgres"], &["testdb", "asyncpg_intro_test"]),
        patience: Duration::from_secs(900),
        run: asyncpg_run,
    },
    Suite {
        name: "pgx-suite",
        prepare: golang::pgx_prepare,
        wanted: Wanted {
            any_user: true,
            ..superuser(&["pgx_test"], &[])
        },
        patience: Duration::from_secs(900),
        run: golang::pgx_run,
    },
    Suite {
        name: "pq-suite",
        prepare: golang::pq_prepare,
        wanted: Wanted {
            databases: &["pqgo"],
            later: &[],
            user: "pqgo",
            any_user: false,
        },
        patience: Duration::from_secs(600),
        run: golang::pq_run,
    },
    Suite {
        name: "pgjdbc-suite",
        prepare: java::prepare,
        wanted: Wanted {
            databases: &["test"],
            later: &[],
            user: "test",
            any_user: true,
        },
        patience: Duration::from_secs(900),
        run: java::run,
    },
    Suite {
        name: "node-postgres-suite",
        prepare: node::prepare,
        wanted: superuser(&["postgres"], &[]),
        patience: Duration::from_secs(180),
        run: node::run,
    },
];

impl Suite {
    /// On a new server; what fails, and of which `worth` says so, is run once more on another: a loaded machine fails tests that
    /// look at the clock.
    pub fn run_with_retry(&self, way: Way, worth: &dyn Fn(&str) -> bool) -> Result<Outcomes> {
        let mut outcomes = self.once(way, &[])?;
        let bad: Vec<String> = failed(&outcomes);
        println!(
            "   {}: {} pass, {} fail: {}",
            way.name(),
            passed(&outcomes),
            bad.len(),
            some(&bad)
        );
        let again: Vec<String> = bad.into_iter().filter(|name| worth(name)).collect();
        if again.iter().any(|name| name == TO_THE_END) {
            // It hung or died: what it did not come to is not known.
            outcomes = self.once(way, &[])?;
        } else if !again.is_empty() {
            let second = self.once(way, &again)?;
            for name in again {
                if let Some(outcome) = second.get(&name) {
                    outcomes.insert(name, outcome.clone());
                }
            }
            println!(
                "   {}, failures once more: {} fail: {}",
                way.name(),
                failed(&outcomes).len(),
                some(&failed(&outcomes))
            );
        }
        Ok(outcomes)
    }

    fn once(&self, way: Way, only: &[String]) -> Result<Outcomes> {
        let world = World::start(way, &self.wanted)?;
        let which = if only.is_empty() { "all" } else { "again" };
        let log = format!("{}-{}-{which}", self.name, way.name());
        let asked = SuiteRequest {
            only: only.to_vec(),
            log,
            patience: self.patience,
        };
        let outcomes = (self.run)(&world, &asked);
        world.keep_log(&asked.log)?;
        let outcomes = outcomes?;
        // A class whose setting up failed has a name, but cannot be asked for by it.
        if outcomes.is_empty() && which == "all" {
            Err(format!("{}: no test was run", self.name))
        } else {
            Ok(outcomes)
        }
    }
}

/// What a suite came to, and whether it came to its end.
pub fn ended(mut outcomes: Outcomes, ended: &Ended) -> Outcomes {
    if let Some(why) = ended.wrong() {
        outcomes.insert(TO_THE_END.to_owned(), Outcome::Failed(why));
    }
    outcomes
}

fn some(names: &[String]) -> String {
    let more = if names.len() > 20 { " …" } else { "" };
    names
        .iter()
        .take(20)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(" ")
        + more
}

fn regress_prepare() -> Result<String> {
    regress::prepare()?;
    Ok(format!("PostgreSQL {}", server_version()?))
}

// ---- Python

fn unittest(world: &World, top: &Path, database: &str, asked: &SuiteRequest) -> Result<Outcomes> {
    let mut command = Command::new(python()?);
    command
        .arg(own("suites/unittest_lines.py"))
        .arg(top)
        .arg("tests")
        .args(&asked.only);
    world.without_tls(&mut command, database);
    // Some of asyncpg's tests count references, which TLS keeps longer.
    command.env("PGSSLMODE", "disable");
    let ran = bounded::run(&mut command, &asked.log, asked.patience)?;
    Ok(ended(read_lines(&ran.stdout), &ran))
}

/// The tests alone: beside its sources a package would be imported from there, and those are not built.
fn tests_alone(package: &str) -> Result<PathBuf> {
    let folder = cache(&format!("{package}-suite"))?;
    good(
        Command::new("cp")
            .args(["-r", "-T"])
            .arg(python_source(package)?.join("tests"))
            .arg(folder.join("tests")),
    )?;
    Ok(folder)
}

fn psycopg2_prepare() -> Result<String> {
    tests_alone("psycopg2")?;
    python_version("psycopg2")
}

fn psycopg2_run(world: &World, asked: &SuiteRequest) -> Result<Outcomes> {
    world
        .postgres
        .sql("psycopg2_test", "CREATE EXTENSION IF NOT EXISTS hstore")?;
    unittest(world, &tests_alone("psycopg2")?, "psycopg2_test", asked)
}

fn asyncpg_prepare() -> Result<String> {
    tests_alone("asyncpg")?;
    python_version("asyncpg")
}

fn asyncpg_run(world: &World, asked: &SuiteRequest) -> Result<Outcomes> {
    unittest(world, &tests_alone("asyncpg")?, "postgres", asked)
}

// ---- tokio-postgres

/// Put at the end of the suite's `main.rs`: its endpoint is written in its tests.
const ENDPOINT: &str = r#"
fn address() -> String {
    format!("127.0.0.1:{}", std::env::var("PGPORT").unwrap())
}

fn endpoint(s: &str) -> String {
    let password = std::env::var("SUITE_PASSWORD").unwrap();
    let s = s.replace("5433", &std::env::var("PGPORT").unwrap()).replace("password=password", &format!("password={password}"));
    if s.contains("user=postgres") { format!("{s} password={password}") } else { s }
}
"#;

fn tokio_folder() -> Result<PathBuf> {
    Ok(cache("tokio-postgres-suite")?.join("package"))
}

fn tokio_prepare() -> Result<String> {
    let manifest = own("tokio-postgres/Cargo.toml");
    let said =
        good(cargo(&["metadata", "--format-version", "1", "--locked", "--manifest-path"]).arg(manifest))?;
    let metadata: serde_json::Value = serde_json::from_str(&said).map_err(during("cargo metadata"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata")?;
    let package = packages
        .iter()
        .find(|p| p["name"] == "tokio-postgres")
        .ok_or("tokio-postgres is not a dependency")?;
    let source = package["manifest_path"]
        .as_str()
        .and_then(|path| Path::new(path).parent())
        .ok_or("cargo metadata")?;
    let folder = tokio_folder()?;
    good(Command::new("rm").arg("-rf").arg(&folder))?;
    good(Command::new("cp").arg("-r").arg(source).arg(&folder))?;
    patch(&folder.join("tests/test/main.rs"), |text| {
        text.replace(
            "TcpStream::connect(\"127.0.0.1:5433\")",
            "TcpStream::connect(crate::address())",
        )
        .replace("s.parse::<Config>()", "crate::endpoint(s).parse::<Config>()")
            + ENDPOINT
    })?;
    patch(&folder.join("tests/test/runtime.rs"), |text| {
        let pieces: Vec<String> = text
            .split('"')
            .map(|piece| match piece {
                literal
                    if ["host=", "hostaddr=", "port="]
                        .iter()
                        .any(|word| literal.starts_with(word)) =>
                {
                    format!("&crate::endpoint(\"{literal}\")")
                }
                code => code.to_owned(),
            })
            .collect();
        // A piece that became a call has its quotes already.
        let mut out = String::new();
        for (i, piece) in pieces.iter().enumerate() {
            let call = |at: Option<&String>| at.is_some_and(|p| p.starts_with("&crate::endpoint("));
            out.push_str(piece);
            if i + 1 < pieces.len() && !call(Some(piece)) && !call(pieces.get(i + 1)) {
                out.push('"');
            }
        }
        out
    })?;
    // Not one of the repository's workspace, whose folder it lies in.
    patch(&folder.join("Cargo.toml"), |text| {
        format!("{text}\n[workspace]\n")
    })?;
    let mut build = cargo(&[
        "test",
        "--no-run",
        "--quiet",
        "--all-features",
        "--test",
        "test",
        "--manifest-path",
    ]);
    good(
        build
            .arg(folder.join("Cargo.toml"))
            .env("CARGO_TARGET_DIR", cache("cargo-suite")?),
    )?;
    Ok(package["version"].as_str().unwrap_or("?").to_owned())
}

fn patch(path: &Path, change: impl Fn(&str) -> String) -> Result<()> {
    let text = std::fs::read_to_string(path).map_err(during(path.display()))?;
    let changed = change(&text);
    if changed == text {
        return Err(format!("{}: the suite is no longer as it was", path.display()));
    }
    std::fs::write(path, changed).map_err(during(path.display()))
}

fn tokio_run(world: &World, asked: &SuiteRequest) -> Result<Outcomes> {
    for extension in ["hstore", "citext", "ltree"] {
        world
            .postgres
            .sql("postgres", &format!("CREATE EXTENSION {extension}"))?;
    }
    for (user, encryption) in [
        ("pass_user", "scram-sha-256"),
        ("md5_user", "md5"),
        ("scram_user", "scram-sha-256"),
    ] {
        let sql =
            format!("SET password_encryption = '{encryption}'; CREATE ROLE {user} PASSWORD 'password' LOGIN");
        world.postgres.sql("postgres", &sql)?;
    }
    let mut command = cargo(&["test", "--all-features", "--test", "test", "--manifest-path"]);
    command
        .arg(tokio_folder()?.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", cache("cargo-suite")?);
    command.arg("--").args(&asked.only);
    if !asked.only.is_empty() {
        command.arg("--exact");
    }
    world.without_tls(&mut command, "postgres");
    command.env(
        "SUITE_PASSWORD",
        if world.gate.is_some() {
            world.password()
        } else {
            "password"
        },
    );
    let ran = bounded::run(&mut command, &asked.log, asked.patience)?;
    let lines: String = ran
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "))
        .filter_map(|(name, how)| match how.split(',').next().unwrap_or_default() {
            "ok" => Some(format!("ok {name}\n")),
            "FAILED" => Some(format!("failed {name}: see .conformance/logs\n")),
            "ignored" => Some(format!("skipped {name}\n")),
            _ => None,
        })
        .collect();
    Ok(ended(read_lines(&lines), &ran))
}
