//! Tables of what PostgreSQL brings along: relations, functions and operators of `pg_catalog` and `information_schema`.
//!
//! The three text files were made once from a real PostgreSQL 15 (`pg_proc`, `pg_class`, `pg_operator`) and the release
//! notes of 16 to 18. A function is harmless when PostgreSQL calls it immutable or stable, or when it is volatile and
//! yet only tells of the server or takes time; everything else volatile is opaque, and so is what runs SQL out of a
//! string or shows other people's statements. A name in no table is a user's own.

use std::collections::HashMap;
use std::sync::OnceLock;

/// What is known of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// A system catalog that holds no user's data.
    Catalog,
    /// A system catalog that shows values, secrets or statements of users: read as any table.
    CatalogData,
    /// Everything else: somebody's table.
    User,
}

/// What is known of a function by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionKind {
    /// Reads nothing but its arguments, and changes nothing.
    Harmless,
    /// Changes the session: `set_config`, advisory locks.
    Session,
    /// `nextval`, `setval`.
    Write,
    /// `pg_notify`: session and write.
    Notify,
    /// Files, large objects, SQL in strings, other sessions, replication.
    Opaque,
    /// Everything else: what it does is not known by its name.
    User,
}

fn functions() -> &'static HashMap<&'static str, FunctionKind> {
    static TABLE: OnceLock<HashMap<&'static str, FunctionKind>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let row = |line: &'static str| match line.split_once(' ') {
            None => (line, FunctionKind::Harmless),
            Some((name, "session")) => (name, FunctionKind::Session),
            Some((name, "write")) => (name, FunctionKind::Write),
            Some((name, "notify")) => (name, FunctionKind::Notify),
            Some((name, _)) => (name, FunctionKind::Opaque),
        };
        include_str!("builtin/functions.txt").lines().map(row).collect()
    })
}

fn relations() -> &'static HashMap<&'static str, RelationKind> {
    static TABLE: OnceLock<HashMap<&'static str, RelationKind>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let row = |line: &'static str| match line.split_once(' ') {
            None => (line, RelationKind::Catalog),
            Some((name, _)) => (name, RelationKind::CatalogData),
        };
        include_str!("builtin/relations.txt").lines().map(row).collect()
    })
}

/// A relation as written. Without a schema, `pg_catalog` is looked at first, as the server does (the gateway pins
/// `search_path`; a temporary relation of the same name is refused at its making, see [`takes_catalog_name`]).
pub fn relation(schema: Option<&str>, name: &str) -> RelationKind {
    let known = |schema: &str| {
        let mut key = String::with_capacity(schema.len() + 1 + name.len());
        key.push_str(schema);
        key.push('.');
        key.push_str(name);
        relations().get(key.as_str()).copied()
    };
    match schema {
        None | Some("pg_catalog") => known("pg_catalog").unwrap_or(RelationKind::User),
        Some("information_schema") => known("information_schema").unwrap_or(RelationKind::User),
        Some(_) => RelationKind::User,
    }
}

/// A function as written.
pub fn function(schema: Option<&str>, name: &str) -> FunctionKind {
    match schema {
        None | Some("pg_catalog") => functions().get(name).copied().unwrap_or(FunctionKind::User),
        Some(_) => FunctionKind::User,
    }
}

/// Whether `pg_catalog` has an operator of that name. Any other operator is a user's own function.
pub fn operator(name: &str) -> bool {
    static TABLE: OnceLock<Vec<&'static str>> = OnceLock::new();
    TABLE
        .get_or_init(|| include_str!("builtin/operators.txt").lines().collect())
        .contains(&name)
}

/// Whether a new relation of this name could be taken for a system catalog: a temporary relation is found before
/// `pg_catalog`.
pub fn takes_catalog_name(name: &str) -> bool {
    name.starts_with("pg_") || relation(None, name) != RelationKind::User
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalogs_with_values_are_not_plain_catalogs() {
        for name in [
            "pg_statistic",
            "pg_stats",
            "pg_stat_activity",
            "pg_largeobject",
            "pg_authid",
            "pg_shadow",
            "pg_user_mapping",
            "pg_cursors",
        ] {
            assert_eq!(relation(None, name), RelationKind::CatalogData, "{name}");
            assert_eq!(
                relation(Some("pg_catalog"), name),
                RelationKind::CatalogData,
                "{name}"
            );
        }
        assert_eq!(
            relation(Some("information_schema"), "user_mapping_options"),
            RelationKind::CatalogData
        );
        assert_eq!(relation(None, "pg_class"), RelationKind::Catalog);
        assert_eq!(
            relation(Some("information_schema"), "columns"),
            RelationKind::Catalog
        );
        assert_eq!(relation(None, "columns"), RelationKind::User);
        assert_eq!(relation(Some("public"), "pg_class"), RelationKind::User);
        assert_eq!(relation(Some("pg_temp"), "pg_class"), RelationKind::User);
        assert_eq!(relation(Some("pg_toast"), "pg_toast_1234"), RelationKind::User);
    }

    #[test]
    fn functions_that_reach_beyond_their_arguments_are_opaque() {
        for name in [
            "query_to_xml",
            "table_to_xml",
            "table_to_xmlschema",
            "schema_to_xml",
            "database_to_xml",
            "cursor_to_xml",
            "lo_get",
            "lo_export",
            "lo_import",
            "loread",
            "lowrite",
            "pg_read_file",
            "pg_read_binary_file",
            "pg_ls_dir",
            "pg_stat_file",
            "pg_logical_slot_get_changes",
            "pg_logical_emit_message",
            "ts_stat",
            "ts_rewrite",
            "pg_terminate_backend",
            "pg_cancel_backend",
            "pg_reload_conf",
            "pg_stat_get_activity",
            "pg_promote",
            "pg_stat_reset",
            "currtid2",
            "current_query",
        ] {
            let kind = function(None, name);
            assert!(kind == FunctionKind::Opaque, "{name} is {kind:?}");
        }
        for name in [
            "lower",
            "now",
            "count",
            "pg_sleep",
            "pg_table_is_visible",
            "format_type",
            "version",
            "array_agg",
            "random",
            "uuidv7",
        ] {
            assert_eq!(function(None, name), FunctionKind::Harmless, "{name}");
        }
        assert_eq!(function(None, "set_config"), FunctionKind::Session);
        assert_eq!(function(Some("pg_catalog"), "nextval"), FunctionKind::Write);
        assert_eq!(function(None, "purge"), FunctionKind::User);
        assert_eq!(function(Some("public"), "lower"), FunctionKind::User);
        assert_eq!(function(None, "dblink"), FunctionKind::User);
    }

    #[test]
    fn a_users_operator_is_known_as_such() {
        assert!(operator("=") && operator("->>") && operator("!=") && operator("~~*"));
        assert!(!operator("~~~"));
    }
}
