//! The keys of a PostgreSQL target.

use super::{Target, host_is_loopback, split_host_port};
use headgate_plane::{TargetAuth, TargetSpec, TargetTls};
use serde::Deserialize;

/// What a `[[target]]` with `protocol = "postgres"` has beside what every target has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresTarget {
    /// The database's name at the target.
    pub database: String,
    /// The role that sessions have there.
    pub user: String,
    /// Who reads the system catalogs for the gateway, on a connection of its own. `None`: `user`. It needs no right but to
    /// connect.
    #[serde(default)]
    pub catalog_user: Option<String>,
    /// The secret's name of `catalog_user`. `None`: the target asks for nothing.
    #[serde(default)]
    pub catalog_secret: Option<String>,
    /// The weakest authentication that the target may ask for.
    #[serde(default)]
    pub auth: TargetAuth,
}

impl PostgresTarget {
    pub(super) fn spec(&self, neutral: TargetSpec) -> TargetSpec {
        TargetSpec {
            database: self.database.clone(),
            user: self.user.clone(),
            auth: self.auth,
            ..neutral
        }
    }

    pub(super) fn catalog_reader(&self) -> Option<(&str, Option<&str>)> {
        let user = self.catalog_user.as_deref()?;
        Some((user, self.catalog_secret.as_deref()))
    }

    pub(super) fn check(&self, target: &Target, wrong: &mut impl FnMut(&str, String)) {
        let name = &target.name;
        for (key, value) in [("database", &self.database), ("user", &self.user)] {
            if value.is_empty() || value.contains('\0') {
                wrong(key, format!("target `{name}`: `{key}` cannot be empty"));
            }
        }
        if self
            .catalog_secret
            .as_deref()
            .is_some_and(|secret| crate::check::name_is_plain(secret).is_err())
        {
            wrong(
                "catalog_secret",
                format!("target `{name}`: not a name for a secret"),
            );
        }
        match &self.catalog_user {
            Some(user) if user.is_empty() || user.contains('\0') => {
                wrong(
                    "catalog_user",
                    format!("target `{name}`: `catalog_user` cannot be empty"),
                );
            }
            None if self.catalog_secret.is_some() => {
                let what =
                    format!("target `{name}`: `catalog_secret` is of `catalog_user`, which is missing");
                wrong("catalog_secret", what);
            }
            _ => {}
        }
        let weak = target.tls == TargetTls::DangerOff && self.auth == TargetAuth::DangerCleartext;
        if weak && split_host_port(&target.address).is_some_and(|host| !host_is_loopback(host)) {
            wrong(
                "auth",
                format!("target `{name}` would get its password in clear text without TLS over a network"),
            );
        }
    }
}
