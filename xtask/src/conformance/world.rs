//! One way to a PostgreSQL that was just made: directly, or through a Headgate of its own.

use super::fetch::cache;
use crate::Result;
use headgate_e2e::{Authority, Gate, Postgres, Setup, during};
use std::process::Command;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Direct,
    /// Through Headgate, nothing is refused: what differs is the gate's doing and not a rule's.
    Danger,
    /// One allow rule that names every class, opens the settings that a rule can open, and has no `danger_` switch, as operators write
    /// it: what differs besides is judging's.
    Ordinary,
    /// As `Danger`, so that no judgement stands between, and masks on two tables that no suite reads: what differs besides is
    /// masking's alone.
    Masked,
}

impl Way {
    pub const ALL: [Way; 4] = [Way::Direct, Way::Danger, Way::Ordinary, Way::Masked];
    pub const THROUGH: [Way; 3] = [Way::Danger, Way::Ordinary, Way::Masked];

    pub fn name(self) -> &'static str {
        match self {
            Way::Direct => "direct",
            Way::Danger => "danger",
            Way::Ordinary => "ordinary",
            Way::Masked => "masked",
        }
    }

    pub fn named(name: &str) -> Option<Way> {
        Way::ALL.into_iter().find(|way| way.name() == name)
    }

    pub fn through(name: &str) -> Option<Way> {
        Way::named(name).filter(|way| *way != Way::Direct)
    }

    /// What `rules.toml` says.
    pub fn rules(self) -> String {
        match self {
            Way::Direct | Way::Danger => DANGER.to_owned(),
            Way::Ordinary => ORDINARY.to_owned(),
            Way::Masked => format!("{DANGER}{MASKS}"),
        }
    }
}

/// Superuser without a password, as the suites want it, beside the users that suites have for each way to sign in.
const ADMISSION: &str = "\
local all         all                             trust
host  all         pass_user,pqgopassword,pgx_pw   127.0.0.1/32  password
host  all         md5_user,pqgomd5                127.0.0.1/32  md5
host  all         scram_user,pqgoscram,shop_app   127.0.0.1/32  scram-sha-256
host  all         all                             127.0.0.1/32  trust
host  replication all                             127.0.0.1/32  trust
";

const DANGER: &str = "\
[[rule]]
name = \"everything\"
statement = { danger_unreadable = true, danger_unpinned = true }
effect = \"allow\"
";

/// Every class, and by name the settings that suites change and that a rule can open.
const ORDINARY: &str = "\
[[rule]]
name = \"everything\"
statement = { class = [\"read\", \"write\", \"ddl\", \"grant\", \"session\", \"transaction\", \"catalog\", \"maintenance\", \"opaque\"], settings = [
  \"search_path\", \"role\", \"session_authorization\", \"row_security\", \"session_replication_role\", \"lo_compat_privileges\",
  \"allow_in_place_tablespaces\", \"local_preload_libraries\", \"plpgsql.check_asserts\", \"plpgsql.extra_errors\",
  \"plpgsql.extra_foo_warnings\", \"plpgsql.extra_warnings\", \"plpgsql.print_strict_params\", \"plpgsql.variable_conflict\",
] }
effect = \"allow\"
";

const MASKS: &str = "
[[mask]]
name = \"contact data\"
columns = [\"headgate_unread.people.email\", \"headgate_unread.people.phone\"]
method = \"partial\"

[[mask]]
name = \"salaries\"
columns = [\"headgate_unread.salaries.amount\"]
method = \"redact\"
";

/// The tables of [`MASKS`]; they are there in every way, so that all ways find the same catalog.
const UNREAD: &str = "\
CREATE SCHEMA headgate_unread;
CREATE TABLE headgate_unread.people (id integer PRIMARY KEY, name text, email text, phone text);
CREATE TABLE headgate_unread.salaries (person integer, amount numeric);
INSERT INTO headgate_unread.people VALUES (1, 'Ann', 'ann@example.com', '+1 202 555 0142');
INSERT INTO headgate_unread.salaries VALUES (1, 1000);
";

pub struct World {
    pub way: Way,
    pub postgres: Postgres,
    pub gate: Option<Gate>,
    user: &'static str,
    token: String,
}

/// What a world is made with.
pub struct Wanted {
    /// For each a target of that name.
    pub databases: &'static [&'static str],
    /// Databases that the suite itself makes: they need a target, too.
    pub later: &'static [&'static str],
    /// The superuser that the suite is, directly, at the target, and as principal.
    pub user: &'static str,
    /// It signs in as other users, too.
    pub any_user: bool,
}

impl World {
    pub fn start(way: Way, wanted: &Wanted) -> Result<World> {
        let authority = Authority::new(&cache(&format!("tls-{}", way.name()))?)?;
        let postgres = Postgres::start(&authority)?;
        let hba = postgres.sql("postgres", "SHOW hba_file")?;
        std::fs::write(hba.trim(), ADMISSION).map_err(during(hba.trim()))?;
        postgres.sql("postgres", "SELECT pg_reload_conf()")?;
        if wanted.user != "postgres" {
            postgres.sql(
                "postgres",
                &format!("CREATE ROLE {} SUPERUSER LOGIN", wanted.user),
            )?;
        }
        for name in wanted.databases {
            if *name != "postgres" {
                postgres.sql(
                    "postgres",
                    &format!(
                        "CREATE DATABASE {name} TEMPLATE template0 LOCALE 'C' OWNER {}",
                        wanted.user
                    ),
                )?;
            }
            postgres.sql(name, UNREAD)?;
        }
        let mut world = World {
            way,
            postgres,
            gate: None,
            user: wanted.user,
            token: "none".to_owned(),
        };
        if way != Way::Direct {
            let mut all = wanted.databases.to_vec();
            if !all.contains(&"postgres") {
                all.push("postgres");
            }
            all.extend(wanted.later);
            let targets: String = all.iter().map(|name| world.target(name)).collect();
            let setup = Setup {
                rules: way.rules(),
                dataplane: "spool_bytes = \"256MiB\"".to_owned(),
                listener: format!(
                    "danger_allow_cleartext = true\nuser = \"{}\"",
                    if wanted.any_user { "any" } else { "principal" }
                ),
                more: targets,
                users: None,
            };
            let gate = Gate::start(&world.postgres, &setup)?;
            world.token = gate.token(wanted.user, &["conformance"])?;
            world.gate = Some(gate);
        }
        Ok(world)
    }

    pub fn port(&self) -> u16 {
        self.gate.as_ref().map_or(self.postgres.port, |gate| gate.port)
    }

    /// Through Headgate the token; directly nobody asks for one.
    pub fn password(&self) -> &str {
        &self.token
    }

    pub fn user(&self) -> &str {
        self.user
    }

    /// The root that vouches for whom a client meets.
    pub fn root(&self) -> std::path::PathBuf {
        self.gate
            .as_ref()
            .map_or(self.postgres.root().to_owned(), |gate| gate.root.clone())
    }

    /// What a driver has to know. With TLS, and a check of the certificate.
    pub fn with_tls(&self, command: &mut Command, database: &str) {
        self.without_tls(command, database);
        command
            .env("PGHOST", "localhost")
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", self.root());
    }

    /// For suites that know no TLS: the driver's own default of `sslmode` holds.
    pub fn without_tls(&self, command: &mut Command, database: &str) {
        for name in [
            "PGSSLMODE",
            "PGSSLROOTCERT",
            "PGOPTIONS",
            "PGSERVICE",
            "PGPASSFILE",
            "PGAPPNAME",
        ] {
            command.env_remove(name);
        }
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port().to_string())
            .env("PGDATABASE", database);
        command.env("PGUSER", self.user).env("PGPASSWORD", &self.token);
    }

    /// Keeps the logs, as `NAME-….log`, where they can be read after all is gone.
    pub fn keep_log(&self, name: &str) -> Result<()> {
        let write = |of: &str, text: String| {
            let path = cache("logs")?.join(format!("{name}-{of}.log"));
            std::fs::write(path, text).map_err(during("log"))
        };
        if let Some(gate) = &self.gate {
            write("headgate", gate.log())?;
        }
        write("postgres", self.postgres.log())
    }

    fn target(&self, name: &str) -> String {
        format!(
            "\n[[target]]\nname = \"{name}\"\nprotocol = \"postgres\"\naddress = \"localhost:{}\"\ndatabase = \"{name}\"\nuser = \"{}\"\nca = \"{}\"\n",
            self.postgres.port,
            self.user,
            self.postgres.root().display(),
        )
    }
}
