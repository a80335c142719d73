//! From the rows of the catalog query to a [`Catalog`]: read, then spread the labels until nothing changes.

use super::query::END;
use super::{Attribute, Catalog, FACTS_MAX, LabelId, RELATIONS_MAX, RULE_BYTES_MAX, node_tree};
use crate::error::CatalogError;
use std::collections::{BTreeSet, HashMap, HashSet};

#[derive(Debug, Default)]
pub struct CatalogBuilder {
    catalog: Catalog,
    schemas: Vec<(u32, String)>,
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
        self.plain.get(&column).into_iter().chain(self.derived.get(&column)).flatten().copied().collect()
    }
}

fn text(fields: &[Option<&[u8]>], at: usize) -> Result<String, CatalogError> {
    let bytes = fields.get(at).copied().flatten().ok_or(CatalogError::Shape("a field is missing"))?;
    String::from_utf8(bytes.to_vec()).map_err(|_| CatalogError::Shape("a name is not UTF-8"))
}

fn number<T: std::str::FromStr>(fields: &[Option<&[u8]>], at: usize) -> Result<T, CatalogError> {
    text(fields, at)?.parse().map_err(|_| CatalogError::Shape("a number cannot be read"))
}

impl CatalogBuilder {
    /// The same `labels` as were given to [`super::catalog_query`].
    pub fn new(labels: &[&str]) -> Self {
        let labels = labels.iter().map(|l| (*l).to_owned()).collect();
        CatalogBuilder { catalog: Catalog { labels, ..Catalog::default() }, ..CatalogBuilder::default() }
    }

    /// One row of the query's answer, in any order.
    pub fn row(&mut self, f: &[Option<&[u8]>]) -> Result<(), CatalogError> {
        self.facts += 1;
        if self.facts > RELATIONS_MAX + FACTS_MAX {
            return Err(CatalogError::TooLarge { what: "facts", max: FACTS_MAX });
        }
        let oid = |at| number::<u32>(f, at);
        let attnum = |at| number::<i16>(f, at);
        match text(f, 0)?.as_str() {
            "s" => self.schemas.push((number(f, 1)?, text(f, 2)?)),
            "r" => {
                if self.catalog.oids.len() >= RELATIONS_MAX {
                    return Err(CatalogError::TooLarge { what: "relations", max: RELATIONS_MAX });
                }
                self.catalog.oids.insert(oid(1)?);
                self.catalog.relations.entry(text(f, 3)?).or_default().push((text(f, 2)?, oid(1)?));
            }
            "l" => {
                let name = text(f, 3)?;
                let index = self.catalog.labels.iter().position(|l| *l == name).ok_or(CatalogError::Shape("a label nobody asked for"))?;
                let label = u32::try_from(index).map_err(|_| CatalogError::TooLarge { what: "labels", max: FACTS_MAX })?;
                self.plain.push((oid(1)?, attnum(2)?, LabelId(label)));
            }
            "i" => self.inherits.push((oid(1)?, oid(2)?)),
            "a" => {
                let flag = f.get(5).copied().flatten().unwrap_or_default();
                let (generated, dropped) = (!flag.is_empty() && flag != b"d", flag == b"d");
                let attribute = Attribute { name: text(f, 3)?, type_oid: oid(4)?, generated, dropped, ..Attribute::default() };
                self.catalog.touched.entry(oid(1)?).or_default().insert(attnum(2)?, attribute);
            }
            "g" => self.generated.push((oid(1)?, attnum(2)?, attnum(3)?)),
            "d" => self.depends.entry(oid(1)?).or_default().push((oid(2)?, attnum(3)?)),
            "v" => {
                let (flags, rule) = (text(f, 2)?, text(f, 3)?);
                self.rule_bytes += rule.len();
                if self.rule_bytes > RULE_BYTES_MAX {
                    return Err(CatalogError::TooLarge { what: "bytes of views", max: RULE_BYTES_MAX });
                }
                let everything = flags.contains(['f', 'p']);
                let view = View { whole_rows: flags.contains('w'), everything, outputs: node_tree::outputs(&rule) };
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

    pub fn finish(mut self) -> Catalog {
        self.schemas.sort();
        self.catalog.schemas = std::mem::take(&mut self.schemas).into_iter().map(|(_, s)| s).collect();
        // `pg_temp` is first for relations, even where current_schemas does not say so.
        self.catalog.schemas.sort_by_key(|s| !s.starts_with("pg_temp_"));
        let every: Labels = (0..self.catalog.labels.len()).filter_map(|i| u32::try_from(i).ok()).map(LabelId).collect();
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
        for (oid, columns) in &mut self.catalog.touched {
            for (attnum, attribute) in columns.iter_mut() {
                let of = |map: &HashMap<Column, Labels>| map.get(&(*oid, *attnum)).into_iter().flatten().copied().collect();
                attribute.fate.plain = of(&spread.plain);
                attribute.fate.derived = of(&spread.derived);
            }
        }
        self.catalog
    }

    fn by_name(&self, spread: &mut Spread, from: u32, to: u32) {
        let (Some(source), Some(sink)) = (self.catalog.touched.get(&from), self.catalog.touched.get(&to)) else { return };
        for (attnum, attribute) in source
            .iter()
            .filter(|(n, _)| spread.plain.contains_key(&(from, **n)) || spread.derived.contains_key(&(from, **n)))
            .collect::<Vec<_>>()
        {
            for (other, _) in sink.iter().filter(|(_, a)| a.name == attribute.name) {
                spread.copy((from, *attnum), (to, *other));
            }
        }
    }

    fn through_view(&self, spread: &mut Spread, oid: u32, view: &View, every: &Labels) {
        let whole = |spread: &Spread, base: u32| -> Labels {
            self.catalog.touched.get(&base).into_iter().flatten().flat_map(|(n, _)| spread.all_of((base, *n))).collect()
        };
        let mut reached = if view.everything { every.clone() } else { Labels::new() };
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
                        (table, _) if self.catalog.statistics.contains(&table) => spread.add_derived((oid, *resno), every),
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
                for attnum in self.catalog.touched.get(&oid).into_iter().flatten().map(|(n, _)| *n).collect::<Vec<_>>() {
                    spread.add_derived((oid, attnum), &reached);
                }
            }
        }
    }
}
