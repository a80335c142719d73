//! The labels of one target: which relations and columns hold, or are computed from, what the mask rules name.
//!
//! A label spreads: over a whole tree of inheritance or partitions by column name, in both directions (a parent shows
//! its children's rows under its own oid); to generated columns and views computed from it, where it is noted as
//! *derived*. A view column that plainly is the labelled column is labelled like it. A view whose definition does more
//! than is understood (whole rows, functions of users, statistics) has all its computed columns derived.
//! Relations of statistics (`pg_stats` …), and columns that show other sessions' statements with their literals
//! (`pg_stat_activity.query` …), are derived from every label.
//!
//! Bounds: [`RELATIONS_MAX`], [`FACTS_MAX`]; beyond them there is no catalog, and doubt masks.

mod build;
mod node_tree;
mod query;

use std::collections::{BTreeMap, HashMap, HashSet};

pub use build::CatalogBuilder;
pub use query::catalog_query;

/// Relations of a target.
pub const RELATIONS_MAX: usize = 200_000;
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

#[derive(Clone, Debug, Default)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    pub(crate) type_oid: u32,
    pub(crate) generated: bool,
    pub(crate) dropped: bool,
    pub(crate) fate: Fate,
}

#[derive(Clone, Debug, Default)]
pub struct Catalog {
    labels: Vec<String>,
    /// The query's last row was seen.
    whole: bool,
    schemas: Vec<String>,
    /// name -> (schema, oid).
    relations: HashMap<String, Vec<(String, u32)>>,
    oids: HashSet<u32>,
    /// Relations that labels reach, with all their columns.
    touched: HashMap<u32, BTreeMap<i16, Attribute>>,
    statistics: HashSet<u32>,
    strings: HashSet<u32>,
}

impl Catalog {
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

    /// Schema, name and oid of a relation along the search_path, temporary tables last although PostgreSQL takes them
    /// first: a catalog is shared by sessions that do not see each other's temporary tables, so what is judged is the
    /// relation that all of them see. A temporary table that hides it is then held to the rules of what it hides.
    pub fn resolve(&self, schema: Option<&str>, name: &str) -> Option<(&str, &str, u32)> {
        let (name, places) = self.relations.get_key_value(name)?;
        let of = |schema: &str| places.iter().find(|(s, _)| s == schema).map(|(s, oid)| (s.as_str(), name.as_str(), *oid));
        match schema {
            Some("pg_temp") => self.schemas.iter().find(|s| s.starts_with("pg_temp_")).and_then(|s| of(s)),
            Some(schema) => of(schema),
            None => {
                let (temporary, lasting): (Vec<&String>, Vec<&String>) = self.schemas.iter().partition(|s| s.starts_with("pg_temp_"));
                lasting.into_iter().chain(temporary).find_map(|s| of(s))
            }
        }
    }

    /// Where an unqualified new relation goes: the first schema of the search_path that is not the system's.
    pub fn creation_schema(&self) -> Option<&str> {
        self.schemas.iter().map(String::as_str).find(|s| *s != "pg_catalog" && !s.starts_with("pg_temp_"))
    }

    /// The first label of a column that plainly is a labelled one.
    pub fn label_of(&self, oid: u32, attnum: i16) -> Option<LabelId> {
        self.touched.get(&oid)?.get(&attnum)?.fate.plain.first().copied()
    }

    /// Whether the column is computed from labelled ones.
    pub fn is_derived(&self, oid: u32, attnum: i16) -> bool {
        self.statistics.contains(&oid) || self.touched.get(&oid).and_then(|r| r.get(&attnum)).is_some_and(|a| !a.fate.derived.is_empty())
    }

    /// Whether a temporary table of any session has this name.
    pub(crate) fn may_be_hidden(&self, name: &str) -> bool {
        self.relations.get(name).is_some_and(|places| places.iter().any(|(s, _)| s.starts_with("pg_temp_")))
    }

    pub(crate) fn knows(&self, oid: u32) -> bool {
        self.oids.contains(&oid)
    }

    pub(crate) fn knows_name(&self, name: &str) -> bool {
        self.relations.contains_key(name)
    }

    pub(crate) fn columns_of(&self, oid: u32) -> Option<&BTreeMap<i16, Attribute>> {
        self.touched.get(&oid)
    }

    pub(crate) fn is_statistics(&self, oid: u32) -> bool {
        self.statistics.contains(&oid)
    }

    /// Types that are text by another name, as `citext`.
    pub(crate) fn is_string(&self, type_oid: u32) -> bool {
        self.strings.contains(&type_oid)
    }

    /// Every relation as (name, oid).
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, u32)> {
        self.relations.iter().flat_map(|(name, places)| places.iter().map(move |(_, oid)| (name.as_str(), *oid)))
    }
}
