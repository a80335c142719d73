//! One way to a PostgreSQL that was just made: directly, or through a Headgate of its own.

use super::fetch::cache;
use crate::Result;
use headgate_e2e::{Authority, Gate, Postgres, Setup, during};
use std::process::Command;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Direct,
    Headgate,
}

/// Superuser without a password, as the suites want it; the users are those of tokio-postgres' suite.
const ADMISSION: &str = "\
local all         all                      trust
host  all         pass_user  127.0.0.1/32  password
host  all         md5_user   127.0.0.1/32  md5
host  all         scram_user 127.0.0.1/32  scram-sha-256
host  all         shop_app   127.0.0.1/32  scram-sha-256
host  all         all        127.0.0.1/32  trust
host  replication all        127.0.0.1/32  trust
";

/// Nothing is refused, so that what differs is Headgate's doing and not a rule's.
const RULES: &str = "\
[[rule]]
name = \"everything\"
statement = { danger_unreadable = true, danger_unpinned = true }
effect = \"allow\"
";

pub struct World {
    pub way: Way,
    pub postgres: Postgres,
    pub gate: Option<Gate>,
    token: String,
}

impl World {
    /// A server with these databases, and for each a target of that name, whose user is the superuser.
    /// `later` are databases that the suite itself makes: they need a target, too.
    pub fn start(way: Way, databases: &[&str], later: &[&str]) -> Result<World> {
        let authority = Authority::new(&cache(&format!("tls-{way:?}"))?)?;
        let postgres = Postgres::start(&authority)?;
        let hba = postgres.sql("postgres", "SHOW hba_file")?;
        std::fs::write(hba.trim(), ADMISSION).map_err(during(hba.trim()))?;
        postgres.sql("postgres", "SELECT pg_reload_conf()")?;
        for name in databases.iter().filter(|name| **name != "postgres") {
            postgres.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 LOCALE 'C'"))?;
        }
        let mut world = World { way, postgres, gate: None, token: "none".to_owned() };
        if way == Way::Headgate {
            let mut all = databases.to_vec();
            if !all.contains(&"postgres") {
                all.push("postgres");
            }
            all.extend(later);
            let targets: String = all.iter().map(|name| target(name, &world.postgres)).collect();
            let setup = Setup {
                rules: RULES.to_owned(),
                dataplane: "spool_bytes = \"256MiB\"".to_owned(),
                listener: "danger_allow_cleartext = true".to_owned(),
                more: targets,
                users: None,
            };
            let gate = Gate::start(&world.postgres, &setup)?;
            world.token = gate.token("conformance", &["conformance"])?;
            world.gate = Some(gate);
        }
        Ok(world)
    }

    pub fn port(&self) -> u16 {
        self.gate.as_ref().map_or(self.postgres.port, |gate| gate.port)
    }

    pub fn password(&self) -> &str {
        &self.token
    }

    /// What a driver has to know. With TLS, and a check of the certificate.
    pub fn with_tls(&self, command: &mut Command, database: &str) {
        let root = self.gate.as_ref().map_or(self.postgres.root().to_owned(), |gate| gate.root.clone());
        self.without_tls(command, database);
        command.env("PGHOST", "localhost").env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", root);
    }

    /// For suites that know no TLS: the driver's own default of `sslmode` holds.
    pub fn without_tls(&self, command: &mut Command, database: &str) {
        for name in ["PGSSLMODE", "PGSSLROOTCERT", "PGOPTIONS", "PGSERVICE", "PGPASSFILE", "PGAPPNAME"] {
            command.env_remove(name);
        }
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port().to_string()).env("PGDATABASE", database);
        command.env("PGUSER", "postgres").env("PGPASSWORD", &self.token);
    }

    /// Keeps the log where it can be read after all is gone.
    pub fn keep_log(&self, name: &str) -> Result<()> {
        if let Some(gate) = &self.gate {
            std::fs::write(cache("logs")?.join(format!("{name}-headgate.log")), gate.log()).map_err(during("log"))?;
        }
        let log = cache("logs")?.join(format!("{name}-{:?}-postgres.log", self.way));
        std::fs::write(log, self.postgres.log()).map_err(during("log"))
    }
}

fn target(name: &str, postgres: &Postgres) -> String {
    format!(
        "\n[[target]]\nname = \"{name}\"\nprotocol = \"postgres\"\naddress = \"localhost:{}\"\ndatabase = \"{name}\"\nuser = \"postgres\"\nca = \"{}\"\n",
        postgres.port,
        postgres.root().display(),
    )
}
