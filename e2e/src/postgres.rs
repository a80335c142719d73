//! The shop's database: a PostgreSQL server of one's own (`fixtures`) with TLS, SCRAM, a role and its database.

use crate::certificates::Authority;
use crate::run::{Ran, run};
use crate::{Result, during};
use headgate_fixtures::postgres::Settings;
pub use headgate_fixtures::postgres::bin_dir;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub struct Postgres {
    pub port: u16,
    /// The password of role `shop_app`.
    pub password: String,
    pub bin: PathBuf,
    /// The socket's folder, for the superuser.
    pub folder: PathBuf,
    root: PathBuf,
    server: headgate_fixtures::Postgres,
}

const SETTINGS: &str = "max_connections = 300\nshared_buffers = 64MB\nlog_min_messages = warning";

const ADMISSION: &str = "
local   all all              trust
hostssl all all 127.0.0.1/32 scram-sha-256
";

impl Postgres {
    /// Starts a server with role `shop_app` (a random password) and database `shop`, which belongs to it.
    pub fn start(authority: &Authority) -> Result<Postgres> {
        let certificate = authority.issue("postgres")?;
        let text = |path: &Path| std::fs::read_to_string(path).map_err(during(path.display()));
        let (pem, key) = (text(&certificate.certificate)?, text(&certificate.key)?);
        let server = headgate_fixtures::Postgres::with(&Settings {
            locale: "C.UTF-8",
            admission: ADMISSION,
            tls: Some((&pem, &key)),
            more: SETTINGS,
            ..Settings::default()
        })?;
        let postgres = Postgres {
            port: server.port,
            password: random_word()?,
            bin: server.bin.clone(),
            folder: server.sockets(),
            root: authority.root.clone(),
            server,
        };
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
        self.server.log()
    }
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
