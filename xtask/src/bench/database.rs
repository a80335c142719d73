//! A PostgreSQL that trusts loopback, with pgbench's tables.

use super::{LOAD_CORE, TARGET_PORT, pinned, until};
use crate::Result;
use headgate_e2e::{during, postgres, run};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Ends with it.
pub struct Database(Child);

impl Drop for Database {
    fn drop(&mut self) {
        let child = &mut self.0;
        run::send(child.id(), rustix::process::Signal::INT);
        if until("PostgreSQL stops", Duration::from_secs(20), || {
            child.try_wait().is_ok_and(|e| e.is_some())
        })
        .is_err()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn pgbench() -> Result<PathBuf> {
    Ok(postgres::bin_dir()?.join("pgbench"))
}

fn good(command: &mut Command) -> Result<()> {
    let out = command.current_dir("/").output().map_err(during("postgres"))?;
    if out.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&out.stderr).into_owned())
    }
}

/// Makes and starts one in `folder`.
pub fn start(folder: &Path) -> Result<Database> {
    let (bin, data) = (postgres::bin_dir()?, folder.join("data"));
    std::fs::create_dir_all(&data).map_err(during("data"))?;
    good(Command::new("chown").arg("postgres").arg(&data))?;
    let mut initdb = Command::new("runuser");
    initdb
        .args(["-u", "postgres", "--"])
        .arg(bin.join("initdb"))
        .args(["-A", "trust", "-U", "bench", "--no-sync", "-D"])
        .arg(&data);
    good(&mut initdb)?;
    let mut server = pinned(LOAD_CORE, Path::new("setpriv"));
    // It stays one process: what is sent to it reaches the server.
    server
        .args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"])
        .arg(bin.join("postgres"))
        .arg("-D")
        .arg(&data);
    server.args(["-p", &TARGET_PORT.to_string()]);
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",
        "max_connections=300",
        "shared_buffers=256MB",
    ] {
        server.args(["-c", setting]);
    }
    let child = server
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .spawn()
        .map_err(during("postgres"))?;
    let database = Database(child);
    let client = |program: &str, more: &[&str]| {
        let mut command = Command::new(bin.join(program));
        command
            .args(["-h", "127.0.0.1", "-p", &TARGET_PORT.to_string(), "-U", "bench"])
            .args(more);
        good(&mut command)
    };
    until("PostgreSQL answers", Duration::from_secs(20), || {
        client("psql", &["-c", "CREATE DATABASE bench", "postgres"]).is_ok()
    })?;
    client("pgbench", &["-i", "-q", "-s", "5", "bench"])?;
    Ok(database)
}
