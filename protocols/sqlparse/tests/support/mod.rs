//! A throw-away PostgreSQL in a temporary folder, on a Unix socket of its own, gone when dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tokio_postgres::{Client, Config, NoTls};

pub struct Postgres {
    folder: tempfile::TempDir,
    bin: PathBuf,
}

/// PostgreSQL refuses to run as root: there it runs as the user `postgres`.
fn as_server(program: &Path) -> Command {
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    let mut command = Command::new(if root { Path::new("runuser") } else { program });
    if root {
        command.args(["-u", "postgres", "--"]).arg(program);
    }
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

impl Postgres {
    pub fn start() -> Postgres {
        let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .expect("PostgreSQL is not installed: apt-get install postgresql")
            .filter_map(|entry| entry.ok().map(|e| e.path().join("bin")))
            .filter(|bin| bin.join("postgres").exists())
            .collect();
        versions.sort();
        let bin = versions
            .pop()
            .expect("PostgreSQL is not installed: apt-get install postgresql");
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Fails where it is not needed.
        let _ = Command::new("chown").arg("postgres").arg(folder.path()).status();
        let server = Postgres { folder, bin };
        let data = server.data();
        server.run(
            "initdb",
            &[
                "-D",
                &data,
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C",
                "-N",
            ],
        );
        let socket = server.folder.path().display();
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={socket} -c fsync=off -c max_connections=10"
        );
        let log = format!("{socket}/log");
        server.run(
            "pg_ctl",
            &["-D", &data, "-o", &options, "-l", &log, "-w", "start"],
        );
        server
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = as_server(&self.bin.join(program))
            .args(arguments)
            .status()
            .expect("PostgreSQL's programs run");
        assert!(status.success(), "{program}: {status}");
    }

    pub async fn connect(&self) -> Client {
        let mut config = Config::new();
        config
            .host_path(self.folder.path())
            .user("postgres")
            .dbname("postgres");
        let (client, connection) = config.connect(NoTls).await.expect("the server answers");
        tokio::spawn(connection);
        client
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.data();
        let _ = as_server(&self.bin.join("pg_ctl"))
            .args(["-D", &data, "-m", "immediate", "-w", "stop"])
            .status();
    }
}
