//! pgjdbc's own suite. Maven Central has it in the source archive that pgjdbc publishes for distributions, classifier `jdbc-src`.

use super::bounded;
use super::fetch::{good, maven_archive, own};
use super::outcome::{Outcomes, read_lines};
use super::suites::{SuiteRequest, ended};
use super::world::World;
use crate::Result;
use headgate_e2e::during;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// The newest whose source archive is there.
const VERSION: &str = "42.7.10";

/// Dials an address of the Internet that never answers.
const LEFT_OUT: &str = "src/test/java/org/postgresql/test/jdbc2/ConnectTimeoutTest.java";

fn folder() -> Result<PathBuf> {
    let artifact = format!("org.postgresql:postgresql:{VERSION}:tar.gz:jdbc-src");
    maven_archive(
        &artifact,
        "pgjdbc-suite",
        &format!("postgresql-{VERSION}-jdbc-src"),
    )
}

fn maven(goals: &[&str]) -> Result<Command> {
    let mut command = Command::new("mvn");
    command
        .args(["--batch-mode", "-DskipShadeDependencies=true"])
        .args(goals)
        .current_dir(folder()?);
    Ok(command)
}

pub fn prepare() -> Result<String> {
    let _ = std::fs::remove_file(folder()?.join(LEFT_OUT));
    good(&mut maven(&["--quiet", "test-compile"])?)?;
    Ok(VERSION.to_owned())
}

pub fn run(world: &World, asked: &SuiteRequest) -> Result<Outcomes> {
    let folder = folder()?;
    let password = world.password();
    let properties = format!(
        "test.url.PGHOST=127.0.0.1\ntest.url.PGPORT={}\ntest.url.PGDBNAME=test\nuser={}\npassword={password}\n\
         privilegedUser=postgres\nprivilegedPassword={password}\n",
        world.port(),
        world.user(),
    );
    let path = folder.join("build.local.properties");
    std::fs::write(&path, properties).map_err(during(path.display()))?;
    let reports = folder.join("target/surefire-reports");
    let _ = std::fs::remove_dir_all(&reports);
    let mut command = maven(&["-Dmaven.test.failure.ignore=true", "surefire:test"])?;
    if !asked.only.is_empty() {
        // One run of a test with parameters has no name that could be asked for: its class is run.
        let classes: BTreeSet<&str> = asked.only.iter().map(|name| class(name)).collect();
        command.arg(format!(
            "-Dtest={}",
            classes.into_iter().collect::<Vec<_>>().join(",")
        ));
    }
    world.without_tls(&mut command, "test");
    // Tests look at what the driver does where the environment is silent.
    for name in ["PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD"] {
        command.env_remove(name);
    }
    let ran = bounded::run(&mut command, &asked.log, asked.patience)?;
    let said = good(
        Command::new("python3")
            .arg(own("suites/junit_lines.py"))
            .arg(&reports),
    )?;
    Ok(ended(read_lines(&said), &ran))
}

/// `org.postgresql.test.Test` of `org.postgresql.test.Test$Inner.method{int}[3]`.
fn class(test: &str) -> &str {
    let end = test.find('{').unwrap_or(test.len());
    let whole = test.get(..end).unwrap_or(test);
    let class = whole.rsplit_once('.').map_or(whole, |(class, _)| class);
    class.split('$').next().unwrap_or(class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_a_test_is_found() {
        assert_eq!(
            class("org.postgresql.test.ATest.method"),
            "org.postgresql.test.ATest"
        );
        assert_eq!(
            class("org.postgresql.ATest$Inner.method{java.lang.String, int}[3]"),
            "org.postgresql.ATest"
        );
    }
}
