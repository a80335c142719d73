//! `cargo xtask test`: installs, checks, builds once, runs every test binary, and counts.

use crate::build::{cargo, cargo_run};
use crate::{Result, check, fuzz, install};
use headgate_e2e::{during, python};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[derive(clap::Args)]
pub struct Args {
    /// Only this package; may be repeated. Without it, all.
    #[arg(short, long = "package")]
    packages: Vec<String>,
    /// Given to the test programs, as after `--` of cargo test.
    #[arg(last = true)]
    rest: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    install::for_tests()?;
    let node = install::node()?;
    let (mut passed, mut failed) = check::all(&check::Args::default());
    // Everything with one set of features, so that nothing is built twice: the programs that the end-to-end tests start, too.
    cargo_run(&["build", "--workspace", "--bins", "--tests"])?;
    fuzz::check()?;
    python::interpreter()?;

    let mut words = vec!["test".to_owned(), "--no-fail-fast".to_owned()];
    match args.packages.as_slice() {
        [] => words.push("--workspace".to_owned()),
        some => words.extend(some.iter().flat_map(|name| ["-p".to_owned(), name.clone()])),
    }
    if !args.rest.is_empty() {
        words.push("--".to_owned());
        words.extend(args.rest.iter().cloned());
    }
    let mut command = cargo(&words.iter().map(String::as_str).collect::<Vec<_>>());
    if let Some(bin) = node {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", bin.display()));
    }
    let mut tests = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(during("cargo test"))?;
    let mut failures = Vec::new();
    for line in BufReader::new(tests.stdout.take().ok_or("cargo test has no output")?).lines() {
        let line = line.map_err(during("cargo test"))?;
        println!("{line}");
        if let Some((good, bad)) = counts(&line) {
            passed += good;
            failed += bad;
        } else if line.starts_with("test ") && line.ends_with(" ... FAILED") {
            failures.push(line);
        }
    }
    let status = tests.wait().map_err(during("cargo test"))?;
    // A test program that was killed, or did not build, has no line of its own.
    if !status.success() && failed == 0 {
        failed = 1;
    }
    for failure in &failures {
        println!("{failure}");
    }
    println!("\n{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 {
        Ok(())
    } else {
        Err("tests failed".to_owned())
    }
}

/// `test result: ok. 12 passed; 0 failed; …`
fn counts(line: &str) -> Option<(u64, u64)> {
    let rest = line.trim().strip_prefix("test result: ")?;
    let of = |word: &str| {
        rest.split([';', '.'])
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
    };
    Some((of("passed")?, of("failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_a_test_program_is_counted() {
        assert_eq!(
            counts(
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s"
            ),
            Some((12, 0))
        );
        assert_eq!(
            counts("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out"),
            Some((3, 2))
        );
        assert_eq!(counts("test something ... ok"), None);
    }
}
