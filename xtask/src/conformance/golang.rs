//! Suites of Go modules, with `go test`: the module proxy serves a module's tests with it.
//!
//! Invariant: a test that dies takes no other with it. `go test` runs a package in one process, so what a dead one did not come to
//! is run again without the dead.

use super::bounded;
use super::drivers::{go_minor, go_version, pgx_pinned};
use super::fetch::{go_module, good};
use super::outcome::{Outcome, Outcomes, TO_THE_END};
use super::suites::SuiteRequest;
use super::world::World;
use crate::Result;
use headgate_e2e::during;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const PGX: &str = "github.com/jackc/pgx/v5";
const PQ: &str = "github.com/lib/pq";
/// A package that hangs is ended by `go test` itself, with the stacks of all.
const PACKAGE_PATIENCE: &str = "240s";
const ROUNDS_MAX: usize = 12;
const WHY_CHARS_MAX: usize = 400;

/// The newest, and the last that Debian 12's Go can build.
fn pq_version() -> Result<&'static str> {
    Ok(if go_minor()? >= 21 { "v1.12.3" } else { "v1.10.9" })
}

fn pgx_folder() -> Result<PathBuf> {
    go_module(PGX, &pgx_pinned()?.0, "pgx-suite")
}

fn pq_folder() -> Result<PathBuf> {
    go_module(PQ, pq_version()?, "pq-suite")
}

/// Builds every test program, so that building is not counted as testing.
fn build(folder: &Path) -> Result<()> {
    good(
        Command::new("go")
            .args(["test", "-vet=off", "-run", "^$", "-exec", "true", "./..."])
            .current_dir(folder),
    )
    .map(drop)
}

pub fn pgx_prepare() -> Result<String> {
    build(&pgx_folder()?)?;
    Ok(format!("{}, {}", pgx_pinned()?.0, go_version()?))
}

pub fn pq_prepare() -> Result<String> {
    build(&pq_folder()?)?;
    Ok(format!("{}, {}", pq_version()?, go_version()?))
}

/// What pgx's own set-up makes, without the users that only servers of its own could let in.
const PGX_SETUP: &str = r#"
CREATE EXTENSION hstore;
CREATE EXTENSION ltree;
CREATE DOMAIN uint64 AS numeric(20,0);
CREATE ROLE pgx_pw SUPERUSER LOGIN PASSWORD 'secret';
CREATE ROLE " tricky, ' } "" \\ test user " SUPERUSER LOGIN PASSWORD 'secret';
"#;

pub fn pgx_run(world: &World, asked: &SuiteRequest) -> Result<Outcomes> {
    world.postgres.sql("pgx_test", PGX_SETUP)?;
    let own_password = if world.gate.is_some() {
        world.password()
    } else {
        "secret"
    };
    let to = |host: &str, user: &str, password: &str, tls: &str| {
        format!(
            "host={host} port={} user={user} password={password} dbname=pgx_test {tls}",
            world.port()
        )
    };
    let clear = to("127.0.0.1", world.user(), world.password(), "sslmode=disable");
    let tls = format!("sslmode=verify-full sslrootcert={}", world.root().display());
    let environment = [
        ("PGX_TEST_DATABASE", clear.clone()),
        ("PGX_TEST_TCP_CONN_STRING", clear),
        (
            "PGX_TEST_PLAIN_PASSWORD_CONN_STRING",
            to("127.0.0.1", "pgx_pw", own_password, "sslmode=disable"),
        ),
        (
            "PGX_TEST_TLS_CONN_STRING",
            to("localhost", world.user(), world.password(), &tls),
        ),
    ];
    let with = |command: &mut Command| {
        world.without_tls(command, "pgx_test");
        // Where the connection string is silent the tests want the driver's own defaults.
        for name in ["PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD"] {
            command.env_remove(name);
        }
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
    };
    tests(&pgx_folder()?, PGX, asked, None, &with)
}

/// The users of lib/pq's own set-up that sign in with a password.
const PQ_SETUP: &str = "
CREATE ROLE pqgopassword LOGIN PASSWORD 'wordpass';
CREATE ROLE pqgoscram LOGIN PASSWORD 'wordpass';
SET password_encryption = 'md5';
CREATE ROLE pqgomd5 LOGIN PASSWORD 'wordpass';
";

pub fn pq_run(world: &World, asked: &SuiteRequest) -> Result<Outcomes> {
    world.postgres.sql("pqgo", PQ_SETUP)?;
    // In a file, since tests have the whole environment in what they expect. Directly there is none to give.
    let home = tempfile::Builder::new()
        .prefix("headgate-pq-")
        .tempdir()
        .map_err(during("temporary folder"))?;
    if world.gate.is_some() {
        let path = home.path().join(".pgpass");
        std::fs::write(&path, format!("*:*:*:*:{}\n", world.password())).map_err(during(path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .map_err(during(path.display()))?;
    }
    let places = ["GOCACHE", "GOMODCACHE"].map(|name| {
        good(Command::new("go").args(["env", name])).map(|place| (name, place.trim().to_owned()))
    });
    let places = places.into_iter().collect::<Result<Vec<_>>>()?;
    let with = |command: &mut Command| {
        world.without_tls(command, "pqgo");
        // The name is in what tests expect, too.
        command
            .env("PGHOST", "localhost")
            .env("PGSSLMODE", "disable")
            .env_remove("PGPASSWORD");
        command
            .env("HOME", home.path())
            .envs(places.iter().map(|(name, place)| (*name, place)));
    };
    // `TestSSL…` wants a server with the certificates of lib/pq under a name that /etc/hosts has to have.
    tests(&pq_folder()?, PQ, asked, Some("^TestSSL"), &with)
}

/// Package and name of a test of the first level.
type Top = (String, String);

struct Suite<'a> {
    folder: &'a Path,
    module: &'a str,
    skip: Option<&'a str>,
    with: &'a dyn Fn(&mut Command),
}

fn tests(
    folder: &Path,
    module: &str,
    asked: &SuiteRequest,
    skip: Option<&str>,
    with: &dyn Fn(&mut Command),
) -> Result<Outcomes> {
    let suite = Suite {
        folder,
        module,
        skip,
        with,
    };
    let until = Instant::now() + asked.patience;
    let mut wanted = suite.listed(&asked.log)?;
    if !asked.only.is_empty() {
        let of: BTreeSet<(&str, &str)> = asked.only.iter().filter_map(|name| top(name)).collect();
        wanted.retain(|(package, test)| of.contains(&(suite.short(package).as_str(), test.as_str())));
    }
    let mut found = Found::default();
    let mut pending = wanted.clone();
    let mut wrong = None;
    for round in 0..ROUNDS_MAX {
        let log = format!("{}-{round}", asked.log);
        // The first round runs all packages with one command, which is quicker; later ones only what is left.
        let jobs: Vec<(String, Option<BTreeSet<&str>>)> = if round == 0 && asked.only.is_empty() {
            vec![("./...".to_owned(), None)]
        } else {
            let mut of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for (package, test) in &pending {
                of.entry(package).or_default().insert(test);
            }
            of.into_iter()
                .map(|(package, tests)| (package.to_owned(), Some(tests)))
                .collect()
        };
        for (i, (package, tests)) in jobs.iter().enumerate() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                wrong = Some(format!("no end within {} s", asked.patience.as_secs()));
                break;
            }
            let ended = suite.run(package, tests.as_ref(), &format!("{log}-{i}"), left)?;
            found.read(&ended.stdout);
            wrong = wrong.or(ended.wrong());
        }
        let seen = found.seen();
        let left: BTreeSet<Top> = pending
            .iter()
            .filter(|top| !seen.contains(top))
            .cloned()
            .collect();
        // Nothing left, or no progress: what is missing is counted as such.
        if wrong.is_some() || left.is_empty() || left.len() == pending.len() {
            break;
        }
        pending = left;
    }
    let mut outcomes = found.outcomes(&|package| suite.short(package));
    if let Some(why) = wrong {
        outcomes.insert(TO_THE_END.to_owned(), Outcome::Failed(why));
    }
    Ok(outcomes)
}

impl Suite<'_> {
    /// `pgconn` of `github.com/jackc/pgx/v5/pgconn`, and `.` of the module itself.
    fn short(&self, package: &str) -> String {
        let rest = package
            .strip_prefix(self.module)
            .unwrap_or(package)
            .trim_start_matches('/');
        if rest.is_empty() {
            ".".to_owned()
        } else {
            rest.to_owned()
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("go");
        command
            .args(["test", "-vet=off", "-count=1", "-json"])
            .current_dir(self.folder);
        (self.with)(&mut command);
        command
    }

    fn listed(&self, log: &str) -> Result<BTreeSet<Top>> {
        let mut command = self.command();
        let ended = bounded::run(
            command.args(["-list", ".", "./..."]),
            &format!("{log}-list"),
            Duration::from_secs(300),
        )?;
        let mut listed = BTreeSet::new();
        for event in events(&ended.stdout) {
            let name = event["Output"].as_str().unwrap_or_default().trim();
            let is_test = ["Test", "Example", "Fuzz"]
                .iter()
                .any(|kind| name.starts_with(kind))
                && !name.contains(char::is_whitespace);
            let skipped = self
                .skip
                .is_some_and(|skip| name.starts_with(skip.trim_start_matches('^')));
            if let (true, false, Some(package)) = (is_test, skipped, event["Package"].as_str()) {
                listed.insert((package.to_owned(), name.to_owned()));
            }
        }
        if listed.is_empty() {
            Err(format!("go test -list found no test: {}", ended.stderr))
        } else {
            Ok(listed)
        }
    }

    fn run(
        &self,
        package: &str,
        tests: Option<&BTreeSet<&str>>,
        log: &str,
        patience: Duration,
    ) -> Result<bounded::Ended> {
        let mut command = self.command();
        command.args(["-p", "1", "-timeout", PACKAGE_PATIENCE]);
        if let Some(tests) = tests {
            let names: Vec<&str> = tests.iter().copied().collect();
            command.args(["-run", &format!("^({})$", names.join("|"))]);
        } else if let Some(skip) = self.skip {
            command.args(["-skip", skip]);
        }
        bounded::run(command.arg(package), log, patience)
    }
}

fn events(text: &str) -> impl Iterator<Item = serde_json::Value> + '_ {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}

#[derive(Default)]
struct Found(BTreeMap<(String, String), Run>);

#[derive(Default)]
struct Run {
    /// `None`: it began, and its process died.
    ended: Option<&'static str>,
    said: Vec<String>,
}

impl Found {
    fn read(&mut self, text: &str) {
        for event in events(text) {
            let (Some(action), Some(package)) = (event["Action"].as_str(), event["Package"].as_str()) else {
                continue;
            };
            // Without a name it is the package: what stands outside of tests, such as a look for what they left.
            let name = event["Test"].as_str().unwrap_or_default().to_owned();
            let run = self.0.entry((package.to_owned(), name)).or_default();
            match action {
                "pass" => run.ended = Some("pass"),
                "fail" => run.ended = Some("fail"),
                "skip" => run.ended = Some("skip"),
                "run" | "start" => *run = Run::default(),
                "output" => run
                    .said
                    .push(event["Output"].as_str().unwrap_or_default().trim().to_owned()),
                _ => {}
            }
        }
    }

    fn seen(&self) -> BTreeSet<Top> {
        self.0.keys().cloned().collect()
    }

    fn outcomes(&self, short: &dyn Fn(&str) -> String) -> Outcomes {
        let mut outcomes = Outcomes::new();
        for ((package, name), run) in &self.0 {
            if name.is_empty() {
                continue;
            }
            let inside = format!("{name}/");
            let mut parts = self
                .0
                .iter()
                .filter(|((p, n), _)| p == package && n.starts_with(&inside))
                .peekable();
            // A test that has parts is its parts, unless it fails by itself.
            if parts.peek().is_some()
                && (run.ended == Some("pass")
                    || parts.any(|(_, part)| !matches!(part.ended, Some("pass" | "skip"))))
            {
                continue;
            }
            let outcome = match run.ended {
                Some("pass") => Outcome::Passed,
                Some("skip") => Outcome::Skipped,
                Some(_) => Outcome::Failed(run.why()),
                None => Outcome::Failed(format!("its process died: {}", run.why())),
            };
            outcomes.insert(plain(&format!("{} {name}", short(package))), outcome);
        }
        // A package can fail though all its tests passed.
        for ((package, name), run) in self.0.iter().filter(|(_, run)| run.ended == Some("fail")) {
            let mut own = self.0.iter().filter(|((p, n), _)| p == package && !n.is_empty());
            if name.is_empty() && own.all(|(_, test)| matches!(test.ended, Some("pass" | "skip"))) {
                outcomes.insert(
                    format!("{} (the package)", short(package)),
                    Outcome::Failed(run.why()),
                );
            }
        }
        outcomes
    }
}

impl Run {
    fn why(&self) -> String {
        let told =
            |line: &&String| !line.is_empty() && !["=== ", "--- "].iter().any(|mark| line.starts_with(mark));
        self.said
            .iter()
            .filter(told)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" | ")
            .chars()
            .take(WHY_CHARS_MAX)
            .collect()
    }
}

/// Package and test of the first level of `internal/sanitize TestQuery/part`.
fn top(name: &str) -> Option<(&str, &str)> {
    let (package, test) = name.split_once(' ')?;
    Some((package, test.split('/').next().unwrap_or(test)))
}

/// A name is one line, and ends at a colon and a space where it is written down; of a temporary folder's name the number goes
/// that is another in each run.
fn plain(name: &str) -> String {
    let one_line = name
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace(": ", ":");
    let mut pieces = one_line.split(TEMPORARY);
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find('/').unwrap_or(piece.len());
        let (folder, rest) = piece.split_at(end);
        plain.push_str(TEMPORARY);
        plain.push_str(folder.trim_end_matches(|c: char| c.is_ascii_digit()));
        plain.push_str(rest);
    }
    plain
}

/// Where Go's `TempDir` makes folders.
const TEMPORARY: &str = "/tmp/Test";

#[cfg(test)]
mod tests {
    use super::*;

    fn line(action: &str, test: &str, output: &str) -> String {
        serde_json::json!({ "Action": action, "Package": "example.com/m/p", "Test": test, "Output": output })
            .to_string()
            + "\n"
    }

    #[test]
    fn a_test_with_parts_is_its_parts_and_a_dead_process_is_a_failure() {
        let said = [
            line("run", "TestA", ""),
            line("pass", "TestA/one", ""),
            line("output", "TestA/two", "    a_test.go:1: no\n"),
            line("fail", "TestA/two", ""),
            line("fail", "TestA", ""),
            line("pass", "TestB", ""),
            line("skip", "TestC", ""),
            line("run", "TestD", ""),
            line("output", "TestD", "panic: boo\n"),
        ];
        let mut found = Found::default();
        found.read(&said.concat());
        let outcomes = found.outcomes(&|package| package.replace("example.com/m/", ""));
        let want = [
            ("p TestA/one", Outcome::Passed),
            ("p TestA/two", Outcome::Failed("a_test.go:1: no".to_owned())),
            ("p TestB", Outcome::Passed),
            ("p TestC", Outcome::Skipped),
            (
                "p TestD",
                Outcome::Failed("its process died: panic: boo".to_owned()),
            ),
        ];
        assert_eq!(
            outcomes.into_iter().collect::<Vec<_>>(),
            want.map(|(name, outcome)| (name.to_owned(), outcome))
        );
    }

    #[test]
    fn a_temporary_folder_in_a_name_is_the_same_in_each_run() {
        assert_eq!(
            plain("p TestA/file='/tmp/TestA3912/001/x.conf'_b: c\n d"),
            "p TestA/file='/tmp/TestA/001/x.conf'_b:c d"
        );
        assert_eq!(plain("p TestB7"), "p TestB7");
    }

    #[test]
    fn a_test_of_an_inner_package_is_found_by_its_name() {
        assert_eq!(
            top("internal/sanitize TestQuery/a b/c"),
            Some(("internal/sanitize", "TestQuery"))
        );
    }

    #[test]
    fn a_package_that_fails_by_itself_is_named() {
        let mut found = Found::default();
        let whole = serde_json::json!({ "Action": "fail", "Package": "p" }).to_string() + "\n";
        let said =
            serde_json::json!({ "Action": "output", "Package": "p", "Output": "connection still active\n" })
                .to_string()
                + "\n";
        let good =
            serde_json::json!({ "Action": "pass", "Package": "p", "Test": "TestA" }).to_string() + "\n";
        found.read(&(good + &said + &whole));
        let outcomes = found.outcomes(&str::to_owned);
        assert_eq!(
            outcomes.get("p (the package)"),
            Some(&Outcome::Failed("connection still active".to_owned()))
        );
    }
}
