//! A real PostgreSQL of our own for a test: in a temporary folder, on 127.0.0.1, gone when dropped.
//!
//! Needs the server's programs (Debian: postgresql). As root, `initdb` and the server run as user `postgres`.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Postgres {
    programs: PathBuf,
    folder: tempfile::TempDir,
    pub port: u16,
}

fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .expect("this test needs PostgreSQL (Debian: postgresql)")
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found
        .pop()
        .expect("this test needs PostgreSQL (Debian: postgresql)")
}

fn as_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

impl Postgres {
    /// Runs `initdb`, starts the server with TLS by `certificate` and `key` (PEM) and with this `pg_hba.conf`.
    pub fn start(hba: &str, certificate: &str, key: &str) -> Postgres {
        let folder = tempfile::Builder::new()
            .prefix("headgate-pg-")
            .tempdir_in("/tmp")
            .unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let postgres = Postgres {
            programs: programs(),
            folder,
            port,
        };
        if as_root() {
            assert!(
                Command::new("chown")
                    .arg("postgres")
                    .arg(postgres.folder.path())
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let data = postgres.data();
        postgres.run(
            "initdb",
            &[
                "-D",
                &data,
                "-A",
                "trust",
                "-U",
                "postgres",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ],
        );
        for (name, text) in [
            ("pg_hba.conf", hba),
            ("server.crt", certificate),
            ("server.key", key),
        ] {
            postgres.write(name, text);
        }
        let socket = postgres.folder.path().display();
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={socket} -c fsync=off -c ssl=on -c ssl_cert_file={data}/server.crt -c ssl_key_file={data}/server.key"
        );
        let log = format!("{socket}/log");
        postgres.run(
            "pg_ctl",
            &["-D", &data, "-w", "-t", "30", "-l", &log, "-o", &options, "start"],
        );
        postgres
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if as_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .current_dir("/tmp")
            .stdout(Stdio::null())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = self.command(program).args(arguments).status().unwrap();
        assert!(status.success(), "{program} failed: {status}");
    }

    fn write(&self, name: &str, text: &str) {
        let path = Path::new(&self.data()).join(name);
        fs::write(&path, text).unwrap();
        if as_root() {
            assert!(
                Command::new("chown")
                    .arg("postgres:")
                    .arg(&path)
                    .status()
                    .unwrap()
                    .success()
            );
        }
        assert!(
            Command::new("chmod")
                .arg("600")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
    }

    pub fn sql(&self, statements: &[&str]) {
        let socket = self.folder.path().display().to_string();
        let port = self.port.to_string();
        let mut arguments = vec![
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            &socket,
            "-p",
            &port,
            "-U",
            "postgres",
        ];
        statements
            .iter()
            .for_each(|statement| arguments.extend(["-c", statement]));
        self.run("psql", &arguments);
    }

    pub fn psql(&self) -> PathBuf {
        self.programs.join("psql")
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(20)))
            .unwrap();
        stream
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self
            .command("pg_ctl")
            .args(["-D", &self.data(), "-m", "immediate", "-w", "stop"])
            .status();
    }
}
