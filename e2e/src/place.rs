//! Where things are: the repository, the binaries, a free port.

use crate::{Result, during};
pub use headgate_fixtures::free_port;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// The binaries that make up Headgate.
pub const BINARIES: [&str; 4] = [
    "headgate",
    "headgate-dataplane",
    "headgate-recorder",
    "headgate-analyst",
];

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_owned)
}

/// The folder of Headgate's binaries: `HEADGATE_BIN_DIR`, or the target directory that this program was built into.
pub fn binaries() -> Result<PathBuf> {
    let dir = match std::env::var_os("HEADGATE_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let own = std::env::current_exe().map_err(during("own program"))?;
            let dir = own.parent().unwrap_or(Path::new("."));
            // Tests stand in `deps`, programs beside it.
            let dir = if dir.ends_with("deps") {
                dir.parent().unwrap_or(dir)
            } else {
                dir
            };
            dir.to_owned()
        }
    };
    for name in BINARIES {
        if !dir.join(name).is_file() {
            return Err(format!(
                "{} is not built: cargo build --workspace --bins",
                dir.join(name).display()
            ));
        }
    }
    Ok(dir)
}

/// A folder for what tests install and may keep: `e2e` in the target directory.
pub fn installed(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(during("own program"))?;
    let target = own
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").is_file())
        .map(Path::to_owned);
    let target = target.or_else(|| std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from));
    let dir = target
        .unwrap_or_else(|| repository().join("target"))
        .join("e2e")
        .join(name);
    std::fs::create_dir_all(&dir).map_err(during(dir.display()))?;
    Ok(dir)
}

pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
