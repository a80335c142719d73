//! `cargo xtask check`: what needs no running program. `cargo xtask test` does it first.
//!
//! Invariants: every step runs, also when one before it failed; what a step could not look at is said in capitals;
//! nothing here wants the network but the advisories, and these do without it.

mod lints;
mod packages;
mod pages;
mod words;

use crate::build::cargo;
use crate::{Result, arrows};
use headgate_e2e::during;
use std::path::PathBuf;

#[derive(clap::Args, Default)]
pub struct Args {
    /// Only these steps; without a name, all.
    #[arg(value_parser = STEPS.iter().map(|step| step.name).collect::<Vec<_>>())]
    steps: Vec<String>,
    /// A checkout of the RustSec advisory database; without it, a fresh one is cloned where its host answers.
    #[arg(long, value_name = "DIR")]
    advisories: Option<PathBuf>,
}

struct Step {
    name: &'static str,
    run: fn(&Args) -> Result<String>,
}

/// In the order in which a mistake is cheapest to mend.
const STEPS: &[Step] = &[
    Step {
        name: "format",
        run: |_| format(),
    },
    Step {
        name: "words",
        run: |_| words::check(),
    },
    Step {
        name: "pages",
        run: |_| pages::check(),
    },
    Step {
        name: "arrows",
        run: |_| arrows::check(),
    },
    Step {
        name: "packages",
        run: |_| packages::check(),
    },
    Step {
        name: "advisories",
        run: |args| packages::advisories(args.advisories.as_deref()),
    },
    Step {
        name: "lints",
        run: |_| lints::check(),
    },
    Step {
        name: "docs",
        run: |_| docs(),
    },
];

pub fn run(args: &Args) -> Result<()> {
    let (passed, failed) = all(args);
    println!("\n{passed} passed, {failed} failed");
    match failed {
        0 => Ok(()),
        _ => Err("check failed".to_owned()),
    }
}

/// How many steps passed and how many failed, each with its report on standard output.
pub fn all(args: &Args) -> (u64, u64) {
    let (mut passed, mut failed) = (0, 0);
    for step in STEPS {
        if !args.steps.is_empty() && !args.steps.iter().any(|name| name == step.name) {
            continue;
        }
        match (step.run)(args) {
            Ok(report) => {
                println!("check {}: {report}", step.name);
                passed += 1;
            }
            Err(why) => {
                println!("check {}: FAILED\n{why}", step.name);
                failed += 1;
            }
        }
    }
    (passed, failed)
}

/// What stands outside the workspace is formatted alike.
fn format() -> Result<String> {
    let mut wrong = String::new();
    for manifest in [
        "Cargo.toml",
        "fuzz/Cargo.toml",
        "conformance/tokio-postgres/Cargo.toml",
    ] {
        let out = cargo(&["fmt", "--all", "--check", "--manifest-path", manifest])
            .output()
            .map_err(during("cargo fmt"))?;
        if !out.status.success() {
            wrong.push_str(&String::from_utf8_lossy(&out.stdout));
            wrong.push_str(&String::from_utf8_lossy(&out.stderr));
        }
    }
    if wrong.is_empty() {
        Ok("everything is as rustfmt writes it".to_owned())
    } else {
        Err(format!("{wrong}\ncargo fmt mends it"))
    }
}

/// Links that lead nowhere, and what else rustdoc warns of. With clippy's driver as the compiler of the workspace, so that
/// what the step before has checked is not checked again.
fn docs() -> Result<String> {
    let mut command = cargo(&["doc", "--workspace", "--no-deps", "--keep-going", "--quiet"]);
    // These pages are for who works on Headgate: a bound that is private may be linked.
    command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    if let Some(driver) = lints::driver() {
        command
            .env("RUSTC_WORKSPACE_WRAPPER", driver)
            .env("CLIPPY_ARGS", lints::ARGUMENTS.join("__CLIPPY_HACKERY__"));
    }
    let out = command.output().map_err(during("cargo doc"))?;
    if out.status.success() {
        Ok("rustdoc has nothing to say".to_owned())
    } else {
        Err(String::from_utf8_lossy(&out.stderr).into_owned())
    }
}
