//! PostgreSQL's own regression suite, from the distribution's source package, with the server's own `pg_regress`.
//!
//! Server and client read and write the same folder, so it lies under the temporary directory and is open to both users.

use super::bounded;
use super::fetch::{cache, good, regress_source, server_headers};
use super::outcome::{Outcome, Outcomes};
use super::suites::{SuiteRequest, ended};
use super::world::World;
use crate::Result;
use headgate_e2e::during;
use headgate_e2e::postgres::bin_dir;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// So many different lines of Headgate's are told of one test.
const OURS_MAX: usize = 8;

fn library() -> Result<PathBuf> {
    Ok(cache("regress")?.join("regress.so"))
}

/// Fetches the sources and builds the functions in C that the suite loads into the server.
pub fn prepare() -> Result<()> {
    let source = regress_source()?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-O1", "-w", "-fPIC", "-shared", "-I"])
        .arg(server_headers()?)
        .arg("-I")
        .arg(&source);
    good(gcc.arg("-o").arg(library()?).arg(source.join("regress.c"))).map(drop)
}

fn open_to_all(folder: &Path) -> Result<()> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).map_err(during(folder.display()))
}

/// Later tests stand on earlier ones: it is always the whole suite.
pub fn run(world: &World, asked: &SuiteRequest) -> Result<Outcomes> {
    let library_dir = bin_dir()?.parent().map(|top| top.join("lib")).unwrap_or_default();
    let folder = tempfile::Builder::new()
        .prefix("headgate-regress-")
        .tempdir()
        .map_err(during("temporary folder"))?;
    open_to_all(folder.path())?;
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    good(Command::new("cp").arg("-r").arg(regress_source()?).arg(&input))?;
    good(
        Command::new("cp")
            .arg(library()?)
            .arg(library_dir.join("autoinc.so"))
            .arg(library_dir.join("refint.so"))
            .arg(&input),
    )?;
    for folder in [output.clone(), output.join("results")] {
        std::fs::create_dir(&folder).map_err(during(folder.display()))?;
        open_to_all(&folder)?;
    }
    // What pg_regress does when it makes the database itself.
    for setting in [
        "lc_messages TO 'C'",
        "lc_monetary TO 'C'",
        "lc_numeric TO 'C'",
        "lc_time TO 'C'",
        "bytea_output TO 'hex'",
        "timezone_abbreviations TO 'Default'",
    ] {
        world
            .postgres
            .sql("postgres", &format!("ALTER DATABASE regression SET {setting}"))?;
    }
    let mut command = Command::new(library_dir.join("pgxs/src/test/regress/pg_regress"));
    let of = |name: &str, value: &Path| format!("--{name}={}", value.display());
    command.args([
        "--use-existing",
        "--dbname=regression",
        "--user=postgres",
        "--host=127.0.0.1",
        "--max-concurrent-tests=20",
    ]);
    command
        .arg(format!("--port={}", world.port()))
        .arg(of("inputdir", &input))
        .arg(of("outputdir", &output));
    command
        .arg(of("bindir", &bin_dir()?))
        .arg(of("dlpath", &input))
        .arg(of("schedule", &input.join("parallel_schedule")));
    world.without_tls(&mut command, "regression");
    command
        .env_remove("PGDATABASE")
        .env_remove("PGHOST")
        .env_remove("PGPORT")
        .env_remove("PGUSER");
    let ran = bounded::run(command.current_dir(folder.path()), &asked.log, asked.patience)?;
    // Tests of encodings print bytes that are no UTF-8.
    let diffs = std::fs::read(output.join("regression.diffs")).unwrap_or_default();
    let diffs = String::from_utf8_lossy(&diffs).into_owned();
    std::fs::write(cache("logs")?.join(format!("{}.diffs", asked.log)), &diffs)
        .map_err(during("regression.diffs"))?;
    Ok(ended(
        ran.stdout.lines().filter_map(|line| read(line, &diffs)).collect(),
        &ran,
    ))
}

/// `test tablespace   ... ok   213 ms`, and in a parallel group the same without `test`.
fn read(line: &str, diffs: &str) -> Option<(String, Outcome)> {
    let (name, rest) = line.split_once(" ... ")?;
    let name = name.trim().trim_start_matches("test ").trim().to_owned();
    let outcome = match rest.split_whitespace().next()? {
        "ok" => Outcome::Passed,
        _ => Outcome::Failed(first_difference(&name, diffs)),
    };
    Some((name, outcome))
}

/// Headgate's own words in what a test's output has more than it should; without any, the first line of that.
fn first_difference(name: &str, diffs: &str) -> String {
    let result = format!("/results/{name}.out");
    let mut lines = diffs
        .lines()
        .skip_while(|line| !(line.starts_with("+++ ") && line.contains(&result)));
    let more: Vec<&str> = lines
        .by_ref()
        .skip(1)
        .take_while(|line| !line.starts_with("diff "))
        .filter(|line| line.starts_with('+'))
        .collect();
    let mut ours: Vec<&str> = more
        .iter()
        .filter(|line| line.contains("Headgate") || line.contains("withheld"))
        .copied()
        .collect();
    ours.sort_unstable();
    ours.dedup();
    ours.truncate(OURS_MAX);
    if ours.is_empty() {
        more.first().unwrap_or(&"see .conformance/logs").to_string()
    } else {
        ours.join(" / ")
    }
}
