//! Builds with cargo, through ccache where it is there: RocksDB is ten minutes of C++.

use crate::Result;
use headgate_e2e::{during, place};
use std::process::Command;

/// cargo, in the repository, with the environment that every build here has.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(place::repository());
    // cargo sets these for us; a build script that sees them would be built again.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(name);
    }
    let ccache = Command::new("ccache").arg("--version").output().is_ok_and(|out| out.status.success());
    if ccache && std::env::var_os("CC").is_none() && std::env::var_os("CXX").is_none() {
        command.env("CC", "ccache gcc").env("CXX", "ccache g++");
    }
    command
}

pub fn cargo_run(args: &[&str]) -> Result<()> {
    let status = cargo(args).status().map_err(during("cargo"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {}: {status}", args.join(" "))) }
}

/// The programs that an operator runs.
pub const PROGRAMS: &[&str] =
    &["build", "-p", "headgate-cli", "-p", "headgate-dataplane", "-p", "headgate-recorder", "-p", "headgate-analyst", "--bins"];
