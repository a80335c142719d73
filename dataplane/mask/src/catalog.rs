//! The labels of one target: which relations and columns hold, or are computed from, what the mask rules name.

use crate::error::CatalogError;

/// Index into [`Catalog::labels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelId(pub u32);

/// One simple-protocol SQL text whose rows feed [`CatalogBuilder::row`]. `labels` are the `schema.table.column` names of
/// all mask rules of the snapshot.
pub fn catalog_query(labels: &[&str]) -> String {
    let _ = labels;
    "SELECT NULL::pg_catalog.text WHERE false".to_owned()
}

#[derive(Clone, Debug, Default)]
pub struct Catalog {
    labels: Vec<String>,
}

#[derive(Debug)]
pub struct CatalogBuilder {
    labels: Vec<String>,
}

impl CatalogBuilder {
    /// The same `labels` as were given to [`catalog_query`].
    pub fn new(labels: &[&str]) -> Self {
        CatalogBuilder { labels: labels.iter().map(|l| (*l).to_owned()).collect() }
    }

    pub fn row(&mut self, _fields: &[Option<&[u8]>]) -> Result<(), CatalogError> {
        Err(CatalogError::Shape("no shape is known yet"))
    }

    pub fn finish(self) -> Catalog {
        Catalog { labels: self.labels }
    }
}

impl Catalog {
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Schema, name and oid of a relation as the session would find it: temporary tables first, then the search_path.
    pub fn resolve(&self, _schema: Option<&str>, _name: &str) -> Option<(&str, &str, u32)> {
        None
    }

    pub fn label_of(&self, _oid: u32, _attnum: i16) -> Option<LabelId> {
        None
    }
}
