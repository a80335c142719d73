//! The schemas in which a session looks for bare names.
//!
//! A path belongs to a session, a [`super::Catalog`] to all sessions of a target: so names are resolved with both.
//! Never here: which of the schemas exist, and which of them a role may use. The catalog knows that.
//! Bounds: those of [`headgate_sql::settings::of_setting`] for a setting's text; a longer one cannot be read, which is doubt.

use std::sync::Arc;

/// Schemas of a path that the server tells.
pub const SCHEMAS_MAX: usize = 1024;

const PG_CATALOG: &str = "pg_catalog";

/// Cheap to clone. The default searches `pg_catalog` alone, as `search_path = ''` does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SearchPath {
    /// In the order of the search, `pg_catalog` among them.
    schemas: Arc<[Box<str>]>,
    /// The server named each of them: all are there, and the session's role may use them.
    told: bool,
}

impl Default for SearchPath {
    fn default() -> SearchPath {
        SearchPath::of(Vec::new(), false)
    }
}

impl SearchPath {
    /// As the server tells it by `current_schemas(true)`.
    pub fn told<S: Into<Box<str>>>(schemas: impl IntoIterator<Item = S>) -> SearchPath {
        SearchPath::of(schemas.into_iter().map(Into::into).collect(), true)
    }

    /// As a session sets it: names as they are stored, `"$user"` standing for `role`. A schema that is not there is passed
    /// over when a name is resolved; `pg_catalog` is searched first where it is not named.
    pub fn named<S: Into<Box<str>>>(schemas: impl IntoIterator<Item = S>, role: &str) -> SearchPath {
        let named = schemas
            .into_iter()
            .map(Into::into)
            .map(|s| if *s == *"$user" { role.into() } else { s });
        SearchPath::of(named.filter(|s| !s.is_empty()).collect(), false)
    }

    /// From the text of the setting (`"$user", public`). `None`: PostgreSQL would refuse it, or how it reads it is not known.
    pub fn of_setting(text: &str, role: &str) -> Option<SearchPath> {
        headgate_sql::settings::of_setting(text).map(|schemas| SearchPath::named(schemas, role))
    }

    /// From a row of kind `p`: what is set for a role. `None`: that cannot be known.
    pub(super) fn of_role_row(f: &[Option<&[u8]>]) -> Option<SearchPath> {
        let text = |at: usize| {
            f.get(at)
                .copied()
                .flatten()
                .and_then(|s| std::str::from_utf8(s).ok())
        };
        SearchPath::of_setting(text(2)?, text(1)?)
    }

    /// From the rows of kind `s`, which are of the session that was asked, in their order, or else from that of kind `p`.
    pub(super) fn of_answer(told: Vec<(u32, String)>, of_role: Option<SearchPath>) -> SearchPath {
        if told.is_empty() {
            of_role.unwrap_or_default()
        } else {
            SearchPath::told(told.into_iter().map(|(_, schema)| schema))
        }
    }

    fn of(mut schemas: Vec<Box<str>>, told: bool) -> SearchPath {
        if !schemas.iter().any(|s| **s == *PG_CATALOG) {
            schemas.insert(0, PG_CATALOG.into());
        }
        SearchPath {
            schemas: schemas.into(),
            told,
        }
    }

    /// In the order of the search.
    pub fn schemas(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.schemas.iter().map(|s| &**s)
    }

    /// The server named the schemas itself.
    pub fn is_told(&self) -> bool {
        self.told
    }
}

pub(super) fn is_temporary(schema: &str) -> bool {
    schema == "pg_temp" || schema.starts_with("pg_temp_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(text: &str) -> Option<Vec<String>> {
        SearchPath::of_setting(text, "alice").map(|p| p.schemas().map(str::to_owned).collect())
    }

    #[test]
    fn a_setting_is_read_as_the_server_reads_it() {
        for (text, wanted) in [
            ("", vec!["pg_catalog"]),
            ("  ", vec!["pg_catalog"]),
            ("\"\"", vec!["pg_catalog"]),
            ("\"$user\", public", vec!["pg_catalog", "alice", "public"]),
            ("$user,public", vec!["pg_catalog", "alice", "public"]),
            ("Public , \"Public\"", vec!["pg_catalog", "public", "Public"]),
            ("\"we,ird\"\" one\",\tb", vec!["pg_catalog", "we,ird\" one", "b"]),
            ("public, pg_catalog", vec!["public", "pg_catalog"]),
            ("pg_temp, public", vec!["pg_catalog", "pg_temp", "public"]),
        ] {
            assert_eq!(
                setting(text),
                Some(wanted.into_iter().map(str::to_owned).collect()),
                "{text}"
            );
        }
        assert_eq!(setting("a b"), None);
    }

    #[test]
    fn the_servers_own_word_stands_as_it_is() {
        let path = SearchPath::told(["pg_temp_3", "pg_catalog", "public"]);
        assert_eq!(
            path.schemas().collect::<Vec<_>>(),
            ["pg_temp_3", "pg_catalog", "public"]
        );
        assert!(path.is_told() && !SearchPath::default().is_told());
        assert_eq!(
            SearchPath::default().schemas().collect::<Vec<_>>(),
            ["pg_catalog"]
        );
    }
}
