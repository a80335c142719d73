//! `cargo xtask fuzz`: libFuzzer on a function of ours, led by coverage, without a nightly toolchain.
//!
//! The compiler's own pass puts the counters in (`-C passes=sancov-module`); what a nightly would add is the address
//! sanitizer, of which code without `unsafe` has little use. Every function is also run over its committed corpus by a
//! unit test, so what is found here and put there is tried with every `cargo xtask test`.
//!
//! Bounds: one process, a time in seconds, inputs of at most [`INPUT_BYTES_MAX`], a corpus of at most [`FILES_MAX`] files.

use crate::build::cargo;
use crate::{Result, install};
use headgate_e2e::{during, place};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(clap::Args)]
pub struct Args {
    /// A file of fuzz/fuzz_targets, without `.rs`.
    #[arg(long, default_value = "gate_conversation")]
    target: String,
    /// How long inputs are tried.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Afterwards the committed corpus is made anew: the smallest inputs that reach what all of them reach.
    #[arg(long)]
    minimise: bool,
}

/// Longer inputs find nothing that shorter ones do not.
const INPUT_BYTES_MAX: usize = 2048;
/// Of a committed corpus.
const FILES_MAX: usize = 400;

/// Counters at every edge, and the operands of comparisons.
const RUSTFLAGS: &str = "--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Where the corpus of a target is committed.
fn corpus(target: &str) -> PathBuf {
    let folder = match target.strip_prefix("postgres_") {
        Some(name) => format!("protocols/postgres/corpus/{name}"),
        None => format!("dataplane/model/corpus/{}", target.trim_start_matches("gate_")),
    };
    place::repository().join(folder)
}

/// The fuzz targets are no part of the workspace: that they still fit it is seen here.
pub fn check() -> Result<()> {
    fuzz_cargo("check", &[], "")
}

pub fn run(args: &Args) -> Result<()> {
    install::for_demo()?;
    let committed = corpus(&args.target);
    if !committed.is_dir() {
        return Err(format!("{}: no such corpus", committed.display()));
    }
    let triple = host()?;
    fuzz_cargo("build", &["--bin", &args.target, "--target", &triple], RUSTFLAGS)?;
    let program = place::repository()
        .join("target/fuzz")
        .join(&triple)
        .join("release")
        .join(&args.target);
    let folder = |name: &str| -> Result<PathBuf> {
        let folder = place::repository()
            .join("target/fuzz")
            .join(name)
            .join(&args.target);
        fs::create_dir_all(&folder).map_err(during(folder.display()))?;
        Ok(folder)
    };
    let (found, artifacts) = (folder("corpus")?, folder("artifacts")?);
    println!(
        "New inputs go to {}, failing ones to {}",
        found.display(),
        artifacts.display()
    );
    let mut fuzzer = Command::new(&program);
    fuzzer
        .arg(&found)
        .arg(&committed)
        .arg(format!("-max_total_time={}", args.seconds))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"]);
    let status = fuzzer.status().map_err(during(program.display()))?;
    if !status.success() {
        return Err(format!(
            "{}: {status}: the input that did it is in {}",
            args.target,
            artifacts.display()
        ));
    }
    if args.minimise {
        minimise(&program, &found, &committed)?;
    }
    Ok(())
}

/// The committed corpus becomes a smallest one with the same coverage. Files are named by what is in them, so that two runs
/// that end alike leave the same folder.
fn minimise(program: &Path, found: &Path, committed: &Path) -> Result<()> {
    let least = found.with_file_name("least");
    let _ = fs::remove_dir_all(&least);
    fs::create_dir_all(&least).map_err(during(least.display()))?;
    let status = Command::new(program)
        .arg("-set_cover_merge=1")
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(&least)
        .args([committed, found])
        .status()
        .map_err(during(program.display()))?;
    if !status.success() {
        return Err(format!("merge: {status}"));
    }
    let mut files = files(&least)?;
    files.sort_by_key(|file| (fs::metadata(file).map_or(u64::MAX, |m| m.len()), file.clone()));
    for old in self::files(committed)? {
        fs::remove_file(&old).map_err(during(old.display()))?;
    }
    for file in files.iter().take(FILES_MAX) {
        let name = file.file_name().unwrap_or_default();
        fs::copy(file, committed.join(name)).map_err(during(file.display()))?;
    }
    println!(
        "{}: {} files of {}",
        committed.display(),
        files.len().min(FILES_MAX),
        files.len()
    );
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(during(folder.display()))?;
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect())
}

/// cargo in `fuzz`, with the versions of the workspace, into a folder of its own.
fn fuzz_cargo(what: &str, more: &[&str], rustflags: &str) -> Result<()> {
    let fuzz = place::repository().join("fuzz");
    let lock = place::repository().join("Cargo.lock");
    fs::copy(&lock, fuzz.join("Cargo.lock")).map_err(during(lock.display()))?;
    let mut command = cargo(&[what, "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    command
        .args(more)
        .env("CARGO_TARGET_DIR", place::repository().join("target/fuzz"));
    if !rustflags.is_empty() {
        command.env("RUSTFLAGS", rustflags);
    }
    let status = command.status().map_err(during("cargo"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo {what} in {}: {status}", fuzz.display()))
    }
}

/// With a target that is named, build scripts and macros are built without the counters.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let out = Command::new(rustc).arg("-vV").output().map_err(during("rustc"))?;
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .ok_or_else(|| "rustc does not say its host".to_owned())
}
