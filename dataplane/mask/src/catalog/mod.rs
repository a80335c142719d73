//! The labels of one target: which relations and columns hold, or are computed from, what the mask rules name.
//!
//! A label spreads: over a whole tree of inheritance or partitions by column name, in both directions (a parent shows
//! its children's rows under its own oid); to generated columns and views computed from it, where it is noted as
//! *derived*. A view column that plainly is the labelled column is labelled like it. A view whose definition does more
//! than is understood (whole rows, functions of users, statistics) has all its computed columns derived.
//! Relations of statistics (`pg_stats` …), and columns that show other sessions' statements with their literals
//! (`pg_stat_activity.query` …), are derived from every label.
//!
//! A catalog is of a target and a database, not of a session: it says which schemas there are and what is in them, and a
//! name is resolved with the [`SearchPath`] of the session that says it. What a session alone can see (its own uncommitted
//! DDL, its temporary tables), or what is newer than the catalog, is asked for by a [`Lookup`] in that session and laid over
//! the shared catalog by [`CatalogBuilder::over`].
//!
//! Invariant: what lies over hides what lies below, relation by relation, and whole names where names were asked for.
//! Bounds: [`RELATIONS_MAX`], [`FACTS_MAX`]; beyond them there is no catalog, and doubt masks.

mod build;
mod changes;
mod lookup;
mod node_tree;
mod path;
mod query;
mod relations;

use crate::error::CatalogError;
use relations::Relations;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

pub use build::CatalogBuilder;
pub use changes::{CatalogChanges, Followed, Stamp, prepare_changes};
pub use lookup::{LOOKUP_MAX, Lookup};
pub use path::{SCHEMAS_MAX, SearchPath};
pub use query::{catalog_query, path_query, relations_query};

/// Relations of a target.
pub const RELATIONS_MAX: usize = 200_000;
/// Relations that lie over a catalog for one session.
pub const OVERLAY_RELATIONS_MAX: usize = 10_000;
/// Columns, dependencies and other facts about relations that labels reach.
pub const FACTS_MAX: usize = 1_000_000;
/// Bytes of all rewrite rules kept while building.
pub const RULE_BYTES_MAX: usize = 64 << 20;

/// Index into [`Catalog::labels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelId(pub u32);

/// What one column has to do with labels. Both sets are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// It is the labelled column itself, under whatever name.
    pub(crate) plain: Vec<LabelId>,
    /// It is computed from such a column.
    pub(crate) derived: Vec<LabelId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    pub(crate) type_oid: u32,
    pub(crate) generated: bool,
    pub(crate) dropped: bool,
    pub(crate) fate: Fate,
}

/// A schema of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schema {
    oid: u32,
    /// Whether the role of the target's sessions may use it.
    usable: bool,
}

impl Schema {
    /// From a row of kind `n`.
    fn read(f: &[Option<&[u8]>]) -> Result<Schema, CatalogError> {
        Ok(Schema {
            oid: number(f, 1)?,
            usable: f.get(3).copied().flatten() == Some(b"u"),
        })
    }
}

fn text(fields: &[Option<&[u8]>], at: usize) -> Result<String, CatalogError> {
    let bytes = fields
        .get(at)
        .copied()
        .flatten()
        .ok_or(CatalogError::Shape("a field is missing"))?;
    String::from_utf8(bytes.to_vec()).map_err(|_| CatalogError::Shape("a name is not UTF-8"))
}

fn number<T: std::str::FromStr>(fields: &[Option<&[u8]>], at: usize) -> Result<T, CatalogError> {
    text(fields, at)?
        .parse()
        .map_err(|_| CatalogError::Shape("a number cannot be read"))
}

/// What names, columns and views of one database mean to masks.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    labels: Vec<String>,
    /// The query's last row was seen.
    whole: bool,
    path: SearchPath,
    schemas: HashMap<String, Schema>,
    relations: Relations,
    /// Relations that labels reach, with all their columns. Shared by catalogs of which only names differ.
    touched: Arc<HashMap<u32, BTreeMap<i16, Attribute>>>,
    /// Names of those, and of statistics.
    fated: Arc<Vec<(String, u32)>>,
    /// The columns that rules name, and those that they named before.
    direct: Vec<(u32, i16, LabelId)>,
    statistics: HashSet<u32>,
    strings: HashSet<u32>,
    below: Option<Below>,
}

/// A column that a rule names, or named when the catalog was read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labelled<'a> {
    /// Of the table that has the column.
    pub table_oid: u32,
    /// The column's number in it.
    pub attnum: i16,
    /// What mask rules call it.
    pub label: &'a str,
}

/// The shared catalog under what one session asked for itself.
#[derive(Clone, Debug)]
struct Below {
    catalog: Arc<Catalog>,
    /// Asked for, found or not.
    oids: HashSet<u32>,
    names: HashSet<String>,
}

impl Below {
    fn shows(&self, over: &Catalog, name: &str, oid: u32) -> bool {
        !self.names.contains(name) && !self.oids.contains(&oid) && !over.relations.contains(oid)
    }
}

impl Catalog {
    /// The names that mask rules have for columns: a label's number is its place.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Labels that name no column of this target: rules that cover nothing here, for a warning to the operator.
    pub fn missing_labels(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().enumerate().filter_map(|(i, label)| {
            let held = |a: &Attribute| a.fate.plain.iter().any(|l| usize::try_from(l.0) == Ok(i));
            (!self.touched.values().flat_map(BTreeMap::values).any(held)).then_some(label.as_str())
        })
    }

    /// False when the query's answer was cut off: a caller then takes the catalog for unknown.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// The columns that carry labels by name. A label stays with its column: whoever renames a table, or puts another in its
    /// place, uncovers nothing. It is gone with the column, or with a change of what the rules name.
    pub fn labelled(&self) -> impl Iterator<Item = Labelled<'_>> {
        let of = |(oid, attnum, label): &(u32, i16, LabelId)| {
            let label = self.labels.get(usize::try_from(label.0).ok()?)?;
            Some(Labelled {
                table_oid: *oid,
                attnum: *attnum,
                label,
            })
        };
        self.direct.iter().filter_map(of)
    }

    /// The same as they are kept, with those of what lies below.
    fn carried(&self) -> impl Iterator<Item = (u32, i16, LabelId)> {
        let below = self
            .below
            .as_ref()
            .map(|b| b.catalog.direct.as_slice())
            .unwrap_or_default();
        self.direct.iter().chain(below).copied()
    }

    /// The path that a session has which sets none: of the role and database, as the server told it. Over a shared catalog:
    /// the path of the session that was asked, with its own temporary schema.
    pub fn default_path(&self) -> &SearchPath {
        &self.path
    }

    /// Whether a schema of that name was there when the catalog was read.
    pub fn has_schema(&self, name: &str) -> bool {
        self.schemas.contains_key(name) || self.below.as_ref().is_some_and(|b| b.catalog.has_schema(name))
    }

    /// Whether a name in this schema is found along `path` at all: PostgreSQL passes over schemas that the role may not use.
    /// A path that the server told has none of these. A schema that is not known has no relations that are.
    fn searches(&self, path: &SearchPath, schema: &str) -> bool {
        path.is_told() || self.usable(schema) != Some(false)
    }

    fn usable(&self, schema: &str) -> Option<bool> {
        self.schemas
            .get(schema)
            .map(|schema| schema.usable)
            .or_else(|| self.below.as_ref()?.catalog.usable(schema))
    }

    /// Schema, name and oid of a relation along `path`, temporary tables last although PostgreSQL takes them
    /// first: a catalog is shared by sessions that do not see each other's temporary tables, so what is judged is the
    /// relation that all of them see. A temporary table that hides it is then held to the rules of what it hides.
    pub fn resolve(&self, path: &SearchPath, schema: Option<&str>, name: &str) -> Option<(&str, &str, u32)> {
        let of = |schema: &str| self.places(name).find(|(s, _, _)| *s == schema);
        match schema {
            Some("pg_temp") => path.schemas().find(|s| s.starts_with("pg_temp_")).and_then(of),
            Some(schema) => of(schema),
            None => {
                let lasting = path
                    .schemas()
                    .filter(|s| !path::is_temporary(s) && self.searches(path, s));
                let temporary = path.schemas().filter(|s| s.starts_with("pg_temp_"));
                lasting.chain(temporary).find_map(of)
            }
        }
    }

    /// Where an unqualified new relation goes: the first schema of `path` that is there and is not the system's.
    pub fn creation_schema<'p>(&self, path: &'p SearchPath) -> Option<&'p str> {
        path.schemas().find(|s| {
            *s != "pg_catalog" && !path::is_temporary(s) && (path.is_told() || self.usable(s) == Some(true))
        })
    }

    /// Every relation of that name, as (schema, name, oid).
    fn places(&self, name: &str) -> impl Iterator<Item = (&str, &str, u32)> {
        let own = self
            .relations
            .places(name)
            .into_iter()
            .flat_map(|(name, places)| {
                places
                    .iter()
                    .map(move |(schema, oid)| (schema.as_str(), name, *oid))
            });
        let below = self
            .below
            .as_ref()
            .and_then(|b| Some((b, b.catalog.relations.places(name)?)));
        let below = below.into_iter().flat_map(move |(below, (name, places))| {
            let shown = places
                .iter()
                .filter(move |(_, oid)| below.shows(self, name, *oid));
            shown.map(move |(schema, oid)| (schema.as_str(), name, *oid))
        });
        own.chain(below)
    }

    /// The first thing of which this catalog and `other` say otherwise, in words for a test or a log. Neither lies over another.
    pub fn difference(&self, other: &Catalog) -> Option<String> {
        fn named<T: PartialEq + std::fmt::Debug>(what: &str, one: &T, other: &T) -> Option<String> {
            (one != other).then(|| format!("{what}: {one:?}, and {other:?}"))
        }
        let sorted = |catalog: &Catalog| {
            let mut names: Vec<(String, String, u32)> = catalog
                .relations
                .iter()
                .map(|(name, schema, oid)| (name.to_owned(), schema.to_owned(), oid))
                .collect();
            names.sort();
            let mut fated = (*catalog.fated).clone();
            fated.sort();
            let mut direct = catalog.direct.clone();
            direct.sort();
            (names, fated, direct)
        };
        let ((names, fated, direct), (names_2, fated_2, direct_2)) = (sorted(self), sorted(other));
        named("labels", &self.labels, &other.labels)
            .or_else(|| named("whole", &self.whole, &other.whole))
            .or_else(|| named("path", &self.path, &other.path))
            .or_else(|| named("schemas", &self.schemas, &other.schemas))
            .or_else(|| {
                let (a, b): (HashSet<_>, HashSet<_>) = (names.iter().collect(), names_2.iter().collect());
                let only = |x: &HashSet<_>, y: &HashSet<_>| {
                    x.difference(y)
                        .take(10)
                        .map(|n| format!("{n:?}"))
                        .collect::<Vec<_>>()
                };
                named("relations", &only(&a, &b), &only(&b, &a))
            })
            .or_else(|| named("reached", &self.touched, &other.touched))
            .or_else(|| named("names that are reached", &fated, &fated_2))
            .or_else(|| named("labelled columns", &direct, &direct_2))
            .or_else(|| named("statistics", &self.statistics, &other.statistics))
            .or_else(|| named("strings", &self.strings, &other.strings))
    }

    /// The first label of a column that plainly is a labelled one.
    pub fn label_of(&self, oid: u32, attnum: i16) -> Option<LabelId> {
        self.columns_of(oid)?.get(&attnum)?.fate.plain.first().copied()
    }

    /// Whether the column is computed from labelled ones.
    pub fn is_derived(&self, oid: u32, attnum: i16) -> bool {
        self.is_statistics(oid)
            || self
                .columns_of(oid)
                .and_then(|r| r.get(&attnum))
                .is_some_and(|a| !a.fate.derived.is_empty())
    }

    /// Whether a temporary table of any session has this name.
    pub(crate) fn may_be_hidden(&self, name: &str) -> bool {
        self.places(name).any(|(s, _, _)| s.starts_with("pg_temp_"))
    }

    /// Whether the relation was there when it was asked for: a row of any other needs a [`Lookup`] first.
    pub fn knows(&self, oid: u32) -> bool {
        self.relations.contains(oid) || self.under(oid).is_some_and(|below| below.relations.contains(oid))
    }

    /// Whether any schema has a relation of this name.
    pub fn knows_name(&self, name: &str) -> bool {
        self.places(name).next().is_some()
    }

    /// What lies below, unless this relation was asked for anew.
    fn under(&self, oid: u32) -> Option<&Catalog> {
        self.below
            .as_ref()
            .filter(|b| !b.oids.contains(&oid) && !self.relations.contains(oid))
            .map(|b| &*b.catalog)
    }

    pub(crate) fn columns_of(&self, oid: u32) -> Option<&BTreeMap<i16, Attribute>> {
        self.touched
            .get(&oid)
            .or_else(|| self.under(oid)?.touched.get(&oid))
    }

    pub(crate) fn is_statistics(&self, oid: u32) -> bool {
        self.statistics.contains(&oid)
            || self
                .below
                .as_ref()
                .is_some_and(|b| b.catalog.statistics.contains(&oid))
    }

    /// Types that are text by another name, as `citext`.
    pub(crate) fn is_string(&self, type_oid: u32) -> bool {
        self.strings.contains(&type_oid)
            || self
                .below
                .as_ref()
                .is_some_and(|b| b.catalog.strings.contains(&type_oid))
    }

    /// Every relation that labels may reach, as (name, oid).
    pub(crate) fn fated(&self) -> impl Iterator<Item = (&str, u32)> {
        let below = self.below.iter().flat_map(move |b| {
            b.catalog
                .fated
                .iter()
                .filter(move |(name, oid)| b.shows(self, name, *oid))
        });
        self.fated
            .iter()
            .chain(below)
            .map(|(name, oid)| (name.as_str(), *oid))
    }
}
