//! Which mask rules bind one session, ready for planning.

use crate::catalog::{Catalog, Fate, LabelId, SearchPath};
use crate::detect::{Kind, Kinds};
use crate::method::stronger;
use headgate_plane::{Class, MaskMethod, MaskRule};
use headgate_sql::{Action, Statement};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Cheap to clone. Built at sign-in, and again when the snapshot or the catalog changes.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(crate) inner: Arc<CallerInner>,
}

#[derive(Debug, Default)]
pub(crate) struct CallerInner {
    pub(crate) bound: bool,
    /// Some rule names columns.
    pub(crate) has_labels: bool,
    /// `None` while it is not known: labels are then in doubt.
    pub(crate) catalog: Option<Arc<Catalog>>,
    /// In which schemas the session looks for bare names.
    pub(crate) path: SearchPath,
    labels: HashMap<LabelId, MaskMethod>,
    pub(crate) kinds: Kinds,
    /// By `Kind as usize`.
    methods: [MaskMethod; 6],
    pub(crate) key: [u8; 32],
    /// Bare names of relations with a fate for this caller, and whether it holds statistics, whose every column counts.
    relations: HashMap<String, bool>,
    /// Names of columns with a fate.
    columns: HashSet<String>,
}

/// What one statement can reach of a caller's labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// It names a relation that holds, or shows, labelled columns (by bare name, whatever the schema), or statistics, or
    /// cannot be known. Its errors and notices are replaced by templates.
    pub touches: bool,
    /// Some of its outputs may be computed from labelled columns.
    pub may_compute: bool,
    /// It may carry labelled values to where no plan covers them: a notification, a setting, a log, another relation.
    /// The gate should refuse it.
    pub sinks: bool,
}

/// Functions that carry their argument out of the result.
const SINKS: [&str; 10] = [
    "pg_notify",
    "set_config",
    "pg_logical_emit_message",
    "lo_put",
    "lo_from_bytea",
    "lowrite",
    "lo_export",
    "pg_file_write",
    "setval",
    "pg_file_rename",
];

/// Functions that read relations, files or other sessions' statements without a relation in the statement.
const READERS: [&str; 15] = [
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "cursor_to_xml",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "ts_stat",
    "pg_stat_get_activity",
    "pg_stat_get_backend_activity",
    "pg_prepared_statement",
    "pg_cursor",
    "pg_stat_statements",
];

impl Caller {
    /// `rules`: the mask rules that match this session (who, target, unless already judged). `catalog`: `None` while it
    /// is not known, which is doubt; so is a catalog that was built for other labels. `path`: of this session, see
    /// [`Catalog::default_path`]. `key`: of `hash` and `tokenize`.
    ///
    /// Of several rules for one column or detector, the strongest method holds. A detector of an unknown name turns all
    /// detectors on.
    pub fn new(
        rules: &[&MaskRule],
        catalog: Option<Arc<Catalog>>,
        path: &SearchPath,
        key: &[u8; 32],
    ) -> Caller {
        let mut inner = CallerInner {
            bound: !rules.is_empty(),
            path: path.clone(),
            key: *key,
            ..CallerInner::default()
        };
        let mut methods: [Option<MaskMethod>; 6] = [None; 6];
        let mut labels: HashMap<&str, MaskMethod> = HashMap::new();
        for rule in rules {
            for column in &rule.columns {
                let method = stronger(labels.get(column.as_str()).copied(), rule.method);
                labels.insert(column, method);
            }
            for name in &rule.detect {
                let one = Kind::parse(name);
                for kind in Kind::ALL.into_iter().filter(|k| one.is_none_or(|o| o == *k)) {
                    inner.kinds = inner.kinds.with(kind);
                    if let Some(slot) = methods.get_mut(kind as usize) {
                        *slot = Some(stronger(*slot, rule.method));
                    }
                }
            }
        }
        inner.methods = methods.map(|m| m.unwrap_or_default());
        inner.has_labels = !labels.is_empty();
        inner.catalog = catalog
            .filter(|c| c.is_whole() && labels.keys().all(|l| c.labels().iter().any(|have| have == l)));
        if let Some(catalog) = inner.catalog.clone() {
            for (i, name) in catalog.labels().iter().enumerate() {
                if let (Some(method), Ok(i)) = (labels.get(name.as_str()), u32::try_from(i)) {
                    inner.labels.insert(LabelId(i), *method);
                }
            }
            inner.name_relations(&catalog);
        }
        Caller {
            inner: Arc::new(inner),
        }
    }

    /// No mask rule binds this session: every plan passes.
    pub fn is_free(&self) -> bool {
        !self.inner.bound
    }

    /// Whether `statement` may bring labelled values to the client. `EXECUTE` and `FETCH` name a statement that was seen
    /// before: the gate keeps that one's exposure and uses it; asked about themselves, the answer is doubt.
    pub fn exposure(&self, statement: &Statement) -> Exposure {
        self.exposure_amid(statement, false)
    }

    /// The same; `moved`: what its names mean may be something else by its turn, so whatever it reads may be labelled.
    pub fn exposure_amid(&self, statement: &Statement, moved: bool) -> Exposure {
        let inner = &self.inner;
        if !inner.has_labels {
            return Exposure::default();
        }
        let Some(catalog) = &inner.catalog else {
            return Exposure {
                touches: true,
                may_compute: true,
                sinks: false,
            };
        };
        let mut exposure = Exposure::default();
        let mut named = statement.hidden_columns;
        for relation in &statement.relations {
            match inner.relations.get(&relation.name) {
                Some(statistics) => {
                    exposure.touches = true;
                    named |= statistics;
                }
                // A relation made since the catalog was read: doubt.
                None if relation.read && !catalog.knows_name(&relation.name) => {
                    exposure.touches = true;
                    named = true;
                }
                None => {}
            }
        }
        if moved && statement.relations.iter().any(|r| r.read) {
            exposure.touches = true;
            named = true;
        }
        named |= statement.columns.iter().any(|c| inner.columns.contains(c));
        // `email(u)` is `u.email`.
        named |= statement
            .functions
            .iter()
            .any(|f| inner.columns.contains(&f.name));
        exposure.may_compute = exposure.touches && named;
        let opaque = statement.class.contains(Class::Opaque)
            || matches!(statement.action, Action::Execute { .. } | Action::Fetch { .. })
            || statement
                .functions
                .iter()
                .any(|f| READERS.contains(&f.name.as_str()));
        exposure.touches |= opaque;
        exposure.may_compute |= opaque;
        // Deferred constraints quote values of statements that came before.
        exposure.touches |=
            statement.action == Action::Commit || statement.verbs.iter().any(|v| v == "set constraints");
        // A new relation is another one, whatever its name.
        let written_elsewhere = statement
            .relations
            .iter()
            .any(|r| r.written && (statement.changes_catalog || !inner.relations.contains_key(&r.name)));
        let calls_sink = statement
            .functions
            .iter()
            .any(|f| SINKS.contains(&f.name.as_str()) || f.name.starts_with("dblink"));
        exposure.sinks = exposure.may_compute && !opaque && (written_elsewhere || calls_sink);
        if statement.action == Action::Explain {
            // The lines of a plan quote the statement's own literals, no data: they are scanned.
            exposure.may_compute = opaque;
        }
        exposure
    }
}

impl CallerInner {
    pub(crate) fn in_doubt(&self) -> bool {
        self.has_labels && self.catalog.is_none()
    }

    pub(crate) fn method_of(&self, kind: Kind) -> MaskMethod {
        self.methods.get(kind as usize).copied().unwrap_or_default()
    }

    /// The strongest method among the labels of this caller that the column plainly is, and whether it is computed from
    /// one of them.
    pub(crate) fn judge(&self, fate: &Fate) -> (Option<MaskMethod>, bool) {
        let plain = fate
            .plain
            .iter()
            .filter_map(|l| self.labels.get(l))
            .fold(None, |m, n| Some(stronger(m, *n)));
        (plain, fate.derived.iter().any(|l| self.labels.contains_key(l)))
    }

    fn name_relations(&mut self, catalog: &Catalog) {
        if self.labels.is_empty() {
            return;
        }
        for (name, oid) in catalog.fated() {
            let mut fated = catalog.is_statistics(oid);
            for attribute in catalog
                .columns_of(oid)
                .into_iter()
                .flat_map(|columns| columns.values())
            {
                let (plain, computed) = self.judge(&attribute.fate);
                if plain.is_some() || computed {
                    fated = true;
                    self.columns.insert(attribute.name.clone());
                }
            }
            if fated {
                *self.relations.entry(name.to_owned()).or_default() |= catalog.is_statistics(oid);
            }
        }
    }
}
