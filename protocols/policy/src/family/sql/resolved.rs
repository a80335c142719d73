//! The names of a statement as the catalog gave them, or as they were written.

use headgate_plane::{Class, ClassSet};
use headgate_sql::Statement;
use headgate_sql::builtin::{self, FunctionKind, RelationKind};

/// The schema of a name that the catalog could not resolve. No schema pattern covers it, only `*` does; and it matches
/// every list of relations of a deny or hold rule, since what stands behind it is not known.
pub const UNRESOLVED: &str = "?";

/// A relation after search_path, views, partitions and inheritance are resolved. What a statement creates has the schema
/// that it will get.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResolvedRelation {
    /// [`UNRESOLVED`] when the catalog does not know the name.
    pub schema: String,
    pub name: String,
    pub read: bool,
    pub written: bool,
}

/// A function after search_path is resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResolvedFunction {
    /// `None`: `pg_catalog`. [`UNRESOLVED`] when the catalog does not know the name.
    pub schema: Option<String>,
    pub name: String,
}

impl std::fmt::Display for ResolvedFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl std::fmt::Display for ResolvedRelation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// The names of one top-level statement, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedStatement {
    pub relations: Vec<ResolvedRelation>,
    pub functions: Vec<ResolvedFunction>,
    /// Classes that only the catalog shows (`opaque` for a user function that it cannot vouch for, …). Added to those
    /// of the facts; nothing takes a class away.
    pub class_added: ClassSet,
}

impl ResolvedStatement {
    /// Names as they stand in the text. What has no schema there is PostgreSQL's own where it has one of that name, else
    /// [`UNRESOLVED`]. Only for a session whose path does not put a schema before `pg_catalog`: see
    /// [`ResolvedStatement::in_doubt`].
    pub fn as_written(statement: &Statement) -> ResolvedStatement {
        ResolvedStatement {
            relations: statement
                .relations
                .iter()
                .map(|r| ResolvedRelation {
                    schema: r.schema.clone().unwrap_or_else(|| {
                        let own = builtin::relation(None, &r.name) != RelationKind::User;
                        if own { "pg_catalog" } else { UNRESOLVED }.to_owned()
                    }),
                    name: r.name.clone(),
                    read: r.read,
                    written: r.written,
                })
                .collect(),
            functions: statement
                .functions
                .iter()
                .map(|f| ResolvedFunction {
                    schema: match f.schema.as_deref() {
                        Some("pg_catalog") => None,
                        Some(schema) => Some(schema.to_owned()),
                        None if builtin::function(None, &f.name) != FunctionKind::User => None,
                        None => Some(UNRESOLVED.to_owned()),
                    },
                    name: f.name.clone(),
                })
                .collect(),
            class_added: ClassSet::EMPTY,
        }
    }

    /// The same for a session whose path may put a schema before `pg_catalog`, or is not known: no name without a schema is
    /// known to be PostgreSQL's own. What comes along because it is (catalogs, harmless functions) does not.
    pub fn in_doubt(statement: &Statement) -> ResolvedStatement {
        let mut names = ResolvedStatement::as_written(statement);
        for (name, written) in names.relations.iter_mut().zip(&statement.relations) {
            if written.schema.is_none() {
                name.schema = UNRESOLVED.to_owned();
                if written.read {
                    names.class_added = names.class_added.with(Class::Read);
                }
            }
        }
        for (name, written) in names.functions.iter_mut().zip(&statement.functions) {
            if written.schema.is_none() {
                name.schema = Some(UNRESOLVED.to_owned());
                names.class_added = names.class_added.with(Class::Opaque);
            }
        }
        names
    }
}
