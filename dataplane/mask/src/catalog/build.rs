//! From the rows of the catalog query to a [`Catalog`]: read, then spread the labels until nothing changes.

use super::query::END;
use super::{
    Attribute, Below, Catalog, FACTS_MAX, LabelId, Lookup, OVERLAY_RELATIONS_MAX, RELATIONS_MAX,
    RULE_BYTES_MAX, SCHEMAS_MAX, Schema, SearchPath, node_tree, number, text,
};
use crate::error::CatalogError;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// A catalog in the making, from the rows of its query.
#[derive(Debug, Default)]
pub struct CatalogBuilder {
    catalog: Catalog,
    /// What a session's own answer is laid over, and what was asked.
    over: Option<(Arc<Catalog>, Lookup)>,
    path: Vec<(u32, String)>,
    touched: HashMap<u32, BTreeMap<i16, Attribute>>,
    /// The path that is set for a role.
    role_path: Option<SearchPath>,
    plain: Vec<(u32, i16, LabelId)>,
    texts: Vec<(u32, i16)>,
    inherits: Vec<(u32, u32)>,
    generated: Vec<(u32, i16, i16)>,
    depends: HashMap<u32, Vec<(u32, i16)>>,
    views: HashMap<u32, View>,
    facts: usize,
    rule_bytes: usize,
}

#[derive(Debug, Default)]
struct View {
    whole_rows: bool,
    everything: bool,
    /// `None`: not understood.
    outputs: Option<Vec<node_tree::Output>>,
}

type Labels = BTreeSet<LabelId>;
type Column = (u32, i16);

/// What is known so far while labels spread.
#[derive(Default)]
struct Spread {
    plain: HashMap<Column, Labels>,
    derived: HashMap<Column, Labels>,
    grew: bool,
}

impl Spread {
    fn add(map: &mut HashMap<Column, Labels>, grew: &mut bool, to: Column, labels: &Labels) {
        if !labels.is_empty() {
            let set = map.entry(to).or_default();
            let before = set.len();
            set.extend(labels);
            *grew |= set.len() != before;
        }
    }

    fn add_plain(&mut self, to: Column, labels: &Labels) {
        Self::add(&mut self.plain, &mut self.grew, to, labels);
    }

    fn add_derived(&mut self, to: Column, labels: &Labels) {
        Self::add(&mut self.derived, &mut self.grew, to, labels);
    }

    fn copy(&mut self, from: Column, to: Column) {
        if let Some(labels) = self.plain.get(&from).cloned() {
            self.add_plain(to, &labels);
        }
        if let Some(labels) = self.derived.get(&from).cloned() {
            self.add_derived(to, &labels);
        }
    }

    fn all_of(&self, column: Column) -> Labels {
        self.plain
            .get(&column)
            .into_iter()
            .chain(self.derived.get(&column))
            .flatten()
            .copied()
            .collect()
    }
}

impl CatalogBuilder {
    /// The same `labels` as were given to [`super::catalog_query`] or [`super::relations_query`].
    pub fn new(labels: &[&str]) -> Self {
        let labels = labels.iter().map(|l| (*l).to_owned()).collect();
        CatalogBuilder {
            catalog: Catalog {
                labels,
                ..Catalog::default()
            },
            ..CatalogBuilder::default()
        }
    }

    /// The same, where the path is known: the rows need not tell it.
    pub fn with_path(labels: &[&str], path: SearchPath) -> Self {
        CatalogBuilder {
            role_path: Some(path),
            ..CatalogBuilder::new(labels)
        }
    }

    /// For the answer of `lookup`, asked in one session; what comes of it is for that session alone. `catalog` may itself
    /// have been made so.
    pub fn over(catalog: &Arc<Catalog>, lookup: Lookup) -> Self {
        let mut builder = CatalogBuilder {
            over: Some((Arc::clone(catalog), lookup)),
            ..CatalogBuilder::default()
        };
        builder.catalog.labels.clone_from(&catalog.labels);
        builder
    }

    /// One row of the query's answer, in any order.
    pub fn row(&mut self, f: &[Option<&[u8]>]) -> Result<(), CatalogError> {
        self.facts += 1;
        if self.facts > RELATIONS_MAX + FACTS_MAX {
            return Err(CatalogError::TooLarge {
                what: "facts",
                max: FACTS_MAX,
            });
        }
        let oid = |at| number::<u32>(f, at);
        let attnum = |at| number::<i16>(f, at);
        match text(f, 0)?.as_str() {
            "s" => {
                if self.path.len() >= SCHEMAS_MAX {
                    return Err(CatalogError::TooLarge {
                        what: "schemas of a path",
                        max: SCHEMAS_MAX,
                    });
                }
                self.path.push((number(f, 1)?, text(f, 2)?));
            }
            "p" => self.role_path = SearchPath::of_role_row(f),
            "n" => drop(self.catalog.schemas.insert(text(f, 2)?, Schema::read(f)?)),
            "r" => {
                let max = if self.over.is_some() {
                    OVERLAY_RELATIONS_MAX
                } else {
                    RELATIONS_MAX
                };
                if self.catalog.relations.len() >= max {
                    return Err(CatalogError::TooLarge {
                        what: "relations",
                        max,
                    });
                }
                self.catalog.relations.insert(text(f, 3)?, text(f, 2)?, oid(1)?);
            }
            "l" => {
                let name = text(f, 3)?;
                let index = self
                    .catalog
                    .labels
                    .iter()
                    .position(|l| *l == name)
                    .ok_or(CatalogError::Shape("a label nobody asked for"))?;
                let label = u32::try_from(index).map_err(|_| CatalogError::TooLarge {
                    what: "labels",
                    max: FACTS_MAX,
                })?;
                self.plain.push((oid(1)?, attnum(2)?, LabelId(label)));
            }
            "i" => self.inherits.push((oid(1)?, oid(2)?)),
            "a" => {
                let flag = f.get(5).copied().flatten().unwrap_or_default();
                let (generated, dropped) = (!flag.is_empty() && flag != b"d", flag == b"d");
                let attribute = Attribute {
                    name: text(f, 3)?,
                    type_oid: oid(4)?,
                    generated,
                    dropped,
                    ..Attribute::default()
                };
                self.touched
                    .entry(oid(1)?)
                    .or_default()
                    .insert(attnum(2)?, attribute);
            }
            // It may have no column.
            "u" => drop(self.touched.entry(oid(1)?).or_default()),
            "g" => self.generated.push((oid(1)?, attnum(2)?, attnum(3)?)),
            "d" => self
                .depends
                .entry(oid(1)?)
                .or_default()
                .push((oid(2)?, attnum(3)?)),
            "v" => {
                let (flags, rule) = (text(f, 2)?, text(f, 3)?);
                self.rule_bytes += rule.len();
                if self.rule_bytes > RULE_BYTES_MAX {
                    return Err(CatalogError::TooLarge {
                        what: "bytes of views",
                        max: RULE_BYTES_MAX,
                    });
                }
                let everything = flags.contains(['f', 'p']);
                let view = View {
                    whole_rows: flags.contains('w'),
                    everything,
                    outputs: node_tree::outputs(&rule),
                };
                self.views.insert(oid(1)?, view);
            }
            "x" => drop(self.catalog.statistics.insert(oid(1)?)),
            "q" => self.texts.push((oid(1)?, attnum(2)?)),
            "t" => drop(self.catalog.strings.insert(oid(1)?)),
            "z" => self.catalog.whole = f.get(1).copied().flatten() == Some(END),
            _ => return Err(CatalogError::Shape("an unknown kind of row")),
        }
        Ok(())
    }

    /// What the rows came to.
    pub fn finish(mut self) -> Catalog {
        self.path.sort();
        self.catalog.path = SearchPath::of_answer(std::mem::take(&mut self.path), self.role_path.take());
        if self.over.is_some() {
            self.find_labels();
        }
        self.catalog.direct = self.plain.clone();
        let every: Labels = (0..self.catalog.labels.len())
            .filter_map(|i| u32::try_from(i).ok())
            .map(LabelId)
            .collect();
        let mut spread = Spread::default();
        for (oid, attnum, label) in &self.plain {
            spread.add_plain((*oid, *attnum), &Labels::from([*label]));
        }
        for column in &self.texts {
            spread.add_derived(*column, &every);
        }
        loop {
            spread.grew = false;
            for (child, parent) in &self.inherits {
                self.by_name(&mut spread, *child, *parent);
                self.by_name(&mut spread, *parent, *child);
            }
            for (oid, to, from) in &self.generated {
                let labels = spread.all_of((*oid, *from));
                spread.add_derived((*oid, *to), &labels);
            }
            for (oid, view) in &self.views {
                self.through_view(&mut spread, *oid, view, &every);
            }
            if !spread.grew {
                break;
            }
        }
        for (oid, columns) in &mut self.touched {
            for (attnum, attribute) in columns.iter_mut() {
                let of = |map: &HashMap<Column, Labels>| {
                    map.get(&(*oid, *attnum)).into_iter().flatten().copied().collect()
                };
                attribute.fate.plain = of(&spread.plain);
                attribute.fate.derived = of(&spread.derived);
            }
        }
        let reached = |oid: u32| self.touched.contains_key(&oid) || self.catalog.statistics.contains(&oid);
        let fated = self.catalog.relations.iter().filter(|(_, _, oid)| reached(*oid));
        self.catalog.fated = Arc::new(fated.map(|(name, _, oid)| (name.to_owned(), oid)).collect());
        self.catalog.touched = Arc::new(std::mem::take(&mut self.touched));
        match self.over.take() {
            None => self.catalog,
            Some((below, asked)) => lay_over(self.catalog, below, asked),
        }
    }

    /// A lookup's question carries no labels: they are found here, by name, and by what columns carried below: a session that
    /// renames a table, or puts another in its place, uncovers nothing.
    fn find_labels(&mut self) {
        if let Some((below, _)) = &self.over {
            let carried = below
                .carried()
                .filter(|(oid, _, _)| self.catalog.relations.contains(*oid));
            self.plain.extend(carried);
        }
        let wanted: HashMap<&str, u32> = self
            .catalog
            .labels
            .iter()
            .zip(0..)
            .map(|(label, at)| (label.as_str(), at))
            .collect();
        for (name, schema, oid) in self.catalog.relations.iter() {
            let columns = self.touched.get(&oid).into_iter().flatten();
            for (attnum, attribute) in columns.filter(|(_, a)| !a.dropped) {
                let label = format!("{schema}.{name}.{}", attribute.name);
                if let Some(at) = wanted.get(label.as_str()) {
                    self.plain.push((oid, *attnum, LabelId(*at)));
                }
            }
        }
    }

    fn by_name(&self, spread: &mut Spread, from: u32, to: u32) {
        let (Some(source), Some(sink)) = (self.touched.get(&from), self.touched.get(&to)) else {
            return;
        };
        for (attnum, attribute) in source
            .iter()
            .filter(|(n, _)| {
                spread.plain.contains_key(&(from, **n)) || spread.derived.contains_key(&(from, **n))
            })
            .collect::<Vec<_>>()
        {
            for (other, _) in sink.iter().filter(|(_, a)| a.name == attribute.name) {
                spread.copy((from, *attnum), (to, *other));
            }
        }
    }

    fn through_view(&self, spread: &mut Spread, oid: u32, view: &View, every: &Labels) {
        let whole = |spread: &Spread, base: u32| -> Labels {
            self.touched
                .get(&base)
                .into_iter()
                .flatten()
                .flat_map(|(n, _)| spread.all_of((base, *n)))
                .collect()
        };
        let mut reached = if view.everything {
            every.clone()
        } else {
            Labels::new()
        };
        let mut bases = HashSet::new();
        for (base, attnum) in self.depends.get(&oid).into_iter().flatten() {
            // A dependency on the whole relation is kept only where no column is named: `count(*)`, or whole rows.
            if *attnum > 0 {
                reached.extend(spread.all_of((*base, *attnum)));
            }
            if view.whole_rows && bases.insert(*base) {
                reached.extend(whole(spread, *base));
            }
        }
        match &view.outputs {
            Some(outputs) => {
                for (resno, table, column) in outputs {
                    match (*table, *column) {
                        (table, _) if self.catalog.statistics.contains(&table) => {
                            spread.add_derived((oid, *resno), every)
                        }
                        (0, _) => spread.add_derived((oid, *resno), &reached),
                        (table, 0) => {
                            let labels = whole(spread, table);
                            spread.add_derived((oid, *resno), &labels);
                        }
                        from => spread.copy(from, (oid, *resno)),
                    }
                }
            }
            None => {
                for attnum in self
                    .touched
                    .get(&oid)
                    .into_iter()
                    .flatten()
                    .map(|(n, _)| *n)
                    .collect::<Vec<_>>()
                {
                    spread.add_derived((oid, attnum), &reached);
                }
            }
        }
    }
}

/// The answers of earlier lookups of the session stay, but for what this one says anew.
fn lay_over(mut over: Catalog, below: Arc<Catalog>, asked: Lookup) -> Catalog {
    let mut hidden = Below {
        catalog: Arc::clone(&below),
        oids: asked.oids.into_iter().collect(),
        names: asked.names.into_iter().collect(),
    };
    over.whole &= below.whole;
    if let Some(earlier) = &below.below {
        hidden.catalog = Arc::clone(&earlier.catalog);
        let kept = |name: &str, oid: u32| {
            !hidden.names.contains(name) && !hidden.oids.contains(&oid) && !over.relations.contains(oid)
        };
        let relations: Vec<_> = below
            .relations
            .iter()
            .filter(|(name, _, oid)| kept(name, *oid))
            .collect();
        let (touched, fated) = (Arc::make_mut(&mut over.touched), Arc::make_mut(&mut over.fated));
        for (name, schema, oid) in relations {
            if let Some(columns) = below.touched.get(&oid) {
                touched.insert(oid, columns.clone());
                fated.push((name.to_owned(), oid));
            }
            over.relations.insert(name.to_owned(), schema.to_owned(), oid);
        }
        over.statistics.extend(&below.statistics);
        over.strings.extend(&below.strings);
        hidden.oids.extend(&earlier.oids);
        hidden.names.extend(earlier.names.iter().cloned());
    }
    // What the first answers said is said again by a catalog that is read anew, so a long session ends its list there.
    over.whole &= over.relations.len() <= OVERLAY_RELATIONS_MAX
        && hidden.oids.len().max(hidden.names.len()) <= OVERLAY_RELATIONS_MAX;
    over.below = Some(hidden);
    over
}
