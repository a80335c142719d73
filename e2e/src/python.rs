//! Python drivers: a virtual environment with pinned packages, made once and again when the pins change.

use crate::run::run;
use crate::{Result, during, place};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

/// The interpreter of the environment that has the drivers.
pub fn interpreter() -> Result<PathBuf> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock();
    let folder = place::installed("python")?;
    // Test binaries may run at the same time: one of them installs, the others wait.
    let lock = std::fs::File::create(folder.join("lock")).map_err(during("lock"))?;
    lock.lock().map_err(during("lock"))?;
    let pins_path = place::repository().join("e2e/python/requirements.txt");
    let pins = std::fs::read(&pins_path).map_err(during(pins_path.display()))?;
    let (venv, done) = (folder.join("venv"), folder.join("installed.txt"));
    let python = venv.join("bin/python");
    if std::fs::read(&done).is_ok_and(|installed| installed == pins) && python.exists() {
        return Ok(python);
    }
    let patience = Duration::from_secs(300);
    run(
        Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv),
        "",
        patience,
    )?
    .good()
    .map_err(during("python3 -m venv (apt-get install python3-venv)"))?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        "-r",
    ])
    .arg(&pins_path);
    run(&mut pip, "", patience)?
        .good()
        .map_err(during("pip install"))?;
    std::fs::write(&done, pins).map_err(during(done.display()))?;
    Ok(python)
}

/// A script of `e2e/python`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name)
}
