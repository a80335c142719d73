//! What has changed in a target since its catalog was read: asked in one statement, which costs what has changed and what
//! labels reach, not what there is.
//!
//! Names are followed one by one. Whatever else a catalog is made of (the columns of what labels reach, inheritance, views
//! over it, views that read what no dependency names, string types, members of extensions, paths that are set for roles) is
//! only compared: where any of it is another, or may be, the answer is [`Followed::ReadAnew`], and the whole is read. So a
//! catalog that has followed changes is equal to one that is read anew, which `tests/changes.rs` holds against a server.
//!
//! A row of a system catalog is taken for new when its `xmin` is not older than the oldest transaction that was running when
//! the stamp was taken: every row version that the reading could not see is of such a transaction or of a later one (a
//! subtransaction's number is greater than its parent's). A row that is gone shows in the count of all. Some rows are told
//! again that are known: nothing comes of that.
//!
//! Invariant: what a [`Stamp`] says and what the catalog says are of one snapshot of the server: REPEATABLE READ.
//! Bounds: those of a catalog.

use super::query::{self, END};
use super::{Catalog, FACTS_MAX, RELATIONS_MAX, Schema, SearchPath, number, text};
use crate::error::CatalogError;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// When a catalog was read, and what was compared then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The oldest transaction that was running.
    oldest: String,
    digest: String,
    settings: Option<String>,
}

/// What came of following.
#[expect(
    clippy::large_enum_variant,
    reason = "made once for a change of a catalog, and moved once"
)]
#[derive(Debug)]
pub enum Followed {
    /// As the target is now.
    To(Catalog, Stamp),
    /// Something that labels hang on is another. Not `here`: sessions begin with other settings, which a session that began
    /// before does not see.
    ReadAnew {
        /// Whether a session that began before sees it.
        here: bool,
    },
}

/// Reads the answer to [`Catalog::changes_query`].
#[derive(Debug)]
pub struct CatalogChanges {
    since: Arc<Catalog>,
    rows: usize,
    path: Vec<(u32, String)>,
    role_path: Option<SearchPath>,
    schemas: HashMap<String, Schema>,
    relations: Vec<(u32, String, String)>,
    gone: HashSet<u32>,
    anew: bool,
    count: usize,
    stamp: Option<Stamp>,
    whole: bool,
}

/// Makes the statement of [`Catalog::changes_query`] on a connection, with the settings of a reading. `role`: as whom the
/// target's sessions run, `None` if as the one that asks.
pub fn prepare_changes(role: Option<&str>) -> String {
    query::prepare_changes(role)
}

impl Catalog {
    /// Its rows feed [`CatalogChanges::row`], on a connection that has [`prepare_changes`]. Without `since`: only the stamp of
    /// now. `None`: changes of this catalog cannot be followed, a label has too many dots to tell which names it is made of.
    pub fn changes_query(&self, since: Option<&Stamp>) -> Option<String> {
        let mut touched: Vec<u32> = self.touched.keys().copied().collect();
        touched.sort_unstable();
        query::changes(
            since.map(|s| s.oldest.as_str()),
            &touched,
            &self.labels,
            self.relations.len(),
        )
    }
}

impl CatalogChanges {
    /// Since that catalog was read.
    pub fn new(since: &Arc<Catalog>) -> CatalogChanges {
        CatalogChanges {
            since: Arc::clone(since),
            rows: 0,
            path: Vec::new(),
            role_path: None,
            schemas: HashMap::new(),
            relations: Vec::new(),
            gone: HashSet::new(),
            anew: false,
            count: 0,
            stamp: None,
            whole: false,
        }
    }

    /// One row of the answer, or of [`super::path_query`]'s, in any order.
    pub fn row(&mut self, f: &[Option<&[u8]>]) -> Result<(), CatalogError> {
        self.rows += 1;
        if self.rows > RELATIONS_MAX + FACTS_MAX {
            return Err(CatalogError::TooLarge {
                what: "changes",
                max: FACTS_MAX,
            });
        }
        match text(f, 0)?.as_str() {
            "s" => self.path.push((number(f, 1)?, text(f, 2)?)),
            "p" => self.role_path = SearchPath::of_role_row(f),
            "n" => drop(self.schemas.insert(text(f, 2)?, Schema::read(f)?)),
            "r" => self.relations.push((number(f, 1)?, text(f, 2)?, text(f, 3)?)),
            // Every relation that there is, of which those that are known and not told have gone.
            "k" => {
                let there = text(f, 1)?;
                let there: HashSet<u32> = there.split(' ').filter_map(|oid| oid.parse().ok()).collect();
                self.gone = self
                    .since
                    .relations
                    .oids()
                    .filter(|oid| !there.contains(oid))
                    .collect();
            }
            "l" => {
                let (oid, attnum, label) = (number::<u32>(f, 1)?, number::<i16>(f, 2)?, text(f, 3)?);
                let known = self
                    .since
                    .labelled()
                    .any(|l| l.table_oid == oid && l.attnum == attnum && l.label == label);
                self.anew |= !known;
            }
            "o" => self.anew = true,
            "y" => {
                self.count = number(f, 2)?;
                self.stamp = Some(Stamp {
                    oldest: number::<u32>(f, 1)?.to_string(),
                    digest: text(f, 3)?,
                    settings: f
                        .get(4)
                        .copied()
                        .flatten()
                        .is_some()
                        .then(|| text(f, 4))
                        .transpose()?,
                });
            }
            "z" => self.whole = f.get(1).copied().flatten() == Some(END),
            _ => return Err(CatalogError::Shape("an unknown kind of row")),
        }
        Ok(())
    }

    /// The path that the answer tells, for a catalog that is read anew in the same transaction.
    pub fn path(&self) -> SearchPath {
        let mut told = self.path.clone();
        told.sort();
        SearchPath::of_answer(told, self.role_path.clone())
    }

    /// Of a statement without `since`: what was read in the same transaction is of this stamp. `None`: it was cut off.
    pub fn stamp(self) -> Option<Stamp> {
        self.stamp.filter(|_| self.whole)
    }

    /// `None`: the answer was cut off.
    pub fn follow(self, since: &Stamp) -> Option<Followed> {
        let path = self.path();
        let stamp = self.stamp.filter(|_| self.whole)?;
        let before = &*self.since;
        // Relations carry the names of their schemas.
        let names: HashMap<u32, &str> = self
            .schemas
            .iter()
            .map(|(name, s)| (s.oid, name.as_str()))
            .collect();
        let renamed = before
            .schemas
            .iter()
            .any(|(name, schema)| names.get(&schema.oid).is_some_and(|now| now != name));
        let here = stamp.settings == since.settings;
        if self.anew || renamed || !here || stamp.digest != since.digest {
            return Some(Followed::ReadAnew { here });
        }
        let mut catalog = before.clone();
        for oid in &self.gone {
            catalog.relations.remove(*oid);
        }
        for (oid, schema, name) in self.relations {
            catalog.relations.insert(name, schema, oid);
        }
        if catalog.relations.len() > RELATIONS_MAX || catalog.relations.len() != self.count {
            return Some(Followed::ReadAnew { here });
        }
        catalog.schemas = self.schemas;
        catalog.path = path;
        Some(Followed::To(catalog, stamp))
    }
}
