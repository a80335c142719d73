//! Builds with cargo. C and C++ go through ccache where it is there, as in every build here: `.cargo/config.toml` says so.

use crate::Result;
use headgate_e2e::{during, place};
use std::process::Command;

/// cargo, in the repository, with the environment that every build here has.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(place::repository());
    // cargo sets these for us; a build script that sees them would be built again.
    for name in [
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_PKG_NAME",
        "CARGO_PKG_VERSION",
    ] {
        command.env_remove(name);
    }
    command
}

pub fn cargo_run(args: &[&str]) -> Result<()> {
    let status = cargo(args).status().map_err(during("cargo"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo {}: {status}", args.join(" ")))
    }
}

/// The programs that an operator runs.
pub const PROGRAMS: &[&str] = &[
    "build",
    "-p",
    "headgate-cli",
    "-p",
    "headgate-dataplane",
    "-p",
    "headgate-recorder",
    "-p",
    "headgate-analyst",
    "--bins",
];
