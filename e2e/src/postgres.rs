//! A PostgreSQL server of one's own: newest installed version, TLS, SCRAM, in a folder under the temporary directory.
//!
//! PostgreSQL refuses to run as root; then it runs as user `postgres`, in a folder that this user can reach.

use crate::certificates::Authority;
use crate::reaper::Reaper;
use crate::run::{Ran, run, send, until};
use crate::{Result, during, place};
use rustix::process::Signal;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Postgres {
    pub port: u16,
    /// The password of role `shop_app`.
    pub password: String,
    pub bin: PathBuf,
    /// The socket's folder, for the superuser.
    pub folder: PathBuf,
    root: PathBuf,
    server: Child,
    _reaper: Reaper,
    _folder: tempfile::TempDir,
}

/// The newest of Debian's folders, or whatever is on the path.
pub fn bin_dir() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
                .collect()
        })
        .unwrap_or_default();
    versions.retain(|(_, bin)| bin.join("initdb").is_file());
    versions.sort();
    versions
        .pop()
        .map(|(_, bin)| bin)
        .ok_or_else(|| "PostgreSQL is not installed: apt-get install postgresql".to_owned())
}

/// The user that the server runs as: `None` when that is us.
fn server_user() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").map_err(during("/etc/passwd"))?;
    let line = passwd
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .ok_or("there is no user postgres: apt-get install postgresql")?;
    let mut numbers = line.split(':').skip(2).map_while(|field| field.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(uid), Some(gid)) => Ok(Some((uid, gid))),
        _ => Err("user postgres has no numbers in /etc/passwd".to_owned()),
    }
}

fn as_user(command: &mut Command, user: Option<(u32, u32)>) -> &mut Command {
    match user {
        Some((uid, gid)) => command.uid(uid).gid(gid),
        None => command,
    }
}

const SETTINGS: &str = "
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 300
shared_buffers = 64MB
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
log_min_messages = warning
";

const ADMISSION: &str = "
local   all all              trust
hostssl all all 127.0.0.1/32 scram-sha-256
";

impl Postgres {
    /// Starts a server with role `shop_app` (a random password) and database `shop`, which belongs to it.
    pub fn start(authority: &Authority) -> Result<Postgres> {
        let bin = bin_dir()?;
        let user = server_user()?;
        let folder = tempfile::Builder::new()
            .prefix("headgate-pg-")
            .tempdir()
            .map_err(during("temporary folder"))?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))
            .map_err(during("temporary folder"))?;
        let sockets = folder.path().join("s");
        let data = folder.path().join("data");
        for dir in [&sockets, &data] {
            std::fs::create_dir(dir).map_err(during(dir.display()))?;
            let mode = if dir == &sockets { 0o755 } else { 0o700 };
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
                .map_err(during(dir.display()))?;
            give(dir, user)?;
        }
        let mut initdb = Command::new(bin.join("initdb"));
        initdb
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .current_dir("/");
        run(as_user(&mut initdb, user), "", Duration::from_secs(60))?
            .good()
            .map_err(during("initdb"))?;

        let certificate = authority.issue("postgres")?;
        for (from, to) in [
            (&certificate.certificate, "server.crt"),
            (&certificate.key, "server.key"),
        ] {
            let to = data.join(to);
            std::fs::copy(from, &to).map_err(during(to.display()))?;
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600))
                .map_err(during(to.display()))?;
            give(&to, user)?;
        }
        let port = place::free_port()?;
        let settings = format!(
            "{SETTINGS}listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\n",
            sockets.display()
        );
        append(&data.join("postgresql.conf"), &settings)?;
        std::fs::write(data.join("pg_hba.conf"), ADMISSION).map_err(during("pg_hba.conf"))?;

        let log = std::fs::File::create(folder.path().join("log")).map_err(during("log"))?;
        let mut postgres = Command::new(bin.join("postgres"));
        postgres
            .arg("-D")
            .arg(&data)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null());
        postgres
            .stdout(log.try_clone().map_err(during("log"))?)
            .stderr(log);
        let server = as_user(&mut postgres, user).spawn().map_err(during("postgres"))?;
        let pid = server.id();
        let reaper = Reaper::new(&format!(
            "kill -QUIT {pid}; sleep 1; rm -rf '{}'",
            folder.path().display()
        ))?;
        let password = random_word()?;
        let postgres = Postgres {
            port,
            password,
            bin,
            folder: sockets,
            root: authority.root.clone(),
            server,
            _reaper: reaper,
            _folder: folder,
        };
        until("PostgreSQL answers", Duration::from_secs(30), || {
            postgres.sql("postgres", "SELECT 1").is_ok()
        })
        .map_err(|why| format!("{why}\n{}", postgres.log()))?;
        postgres.sql(
            "postgres",
            &format!("CREATE ROLE shop_app LOGIN PASSWORD '{}'", postgres.password),
        )?;
        postgres.sql("postgres", "CREATE DATABASE shop OWNER shop_app")?;
        Ok(postgres)
    }

    /// As superuser, past Headgate, through the server's own socket. Rows unaligned, without headings.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        self.psql(database, sql)?.good()
    }

    fn psql(&self, database: &str, sql: &str) -> Result<Ran> {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            database,
            "-f",
            "-",
            "-p",
        ]);
        psql.arg(self.port.to_string()).arg("-h").arg(&self.folder);
        for name in [
            "PGPASSWORD",
            "PGSSLMODE",
            "PGSSLROOTCERT",
            "PGOPTIONS",
            "PGSERVICE",
        ] {
            psql.env_remove(name);
        }
        run(&mut psql, sql, Duration::from_secs(60))
    }

    /// The root that vouches for the server's certificate, PEM.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self._folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        send(self.server.id(), Signal::INT);
        let server = &mut self.server;
        if until("PostgreSQL stops", Duration::from_secs(10), || {
            server.try_wait().is_ok_and(|e| e.is_some())
        })
        .is_err()
        {
            send(server.id(), Signal::QUIT);
            let _ = server.wait();
        }
    }
}

fn give(path: &Path, user: Option<(u32, u32)>) -> Result<()> {
    match user {
        Some((uid, gid)) => chown(path, Some(uid), Some(gid)).map_err(during(path.display())),
        None => Ok(()),
    }
}

fn append(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(path)
        .map_err(during(path.display()))?;
    file.write_all(text.as_bytes()).map_err(during(path.display()))
}

/// 128 random bits in hex.
pub fn random_word() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .map_err(during("/dev/urandom"))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
