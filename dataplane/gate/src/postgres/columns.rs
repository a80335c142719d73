//! From a row description to a mask plan.

use headgate_mask::{Caller, ColumnOrigin, Hints, Plan};
use headgate_postgres::backend::{Field, RowDescription};
use std::rc::Rc;

/// The result formats of a Bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Formats {
    /// One for all: nearly every client.
    All(u16),
    /// One a column.
    Each(Rc<[u16]>),
}

impl Default for Formats {
    fn default() -> Formats {
        Formats::All(0)
    }
}

impl Formats {
    pub fn read(codes: impl ExactSizeIterator<Item = u16> + Clone) -> Formats {
        let mut rest = codes.clone();
        match rest.next() {
            None => Formats::All(0),
            Some(first) if rest.all(|code| code == first) => Formats::All(first),
            Some(_) => Formats::Each(codes.collect()),
        }
    }

    fn of(&self, column: usize) -> u16 {
        match self {
            Formats::All(code) => *code,
            // A count that does not fit is the target's to refuse; until then it is doubt, and binary is the stricter.
            Formats::Each(codes) => codes.get(column).copied().unwrap_or(1),
        }
    }
}

/// The columns of a result, kept from RowDescription.
pub struct Columns(Vec<Column>);

struct Column {
    name: String,
    table_oid: u32,
    column: i16,
    type_oid: u32,
    format: u16,
}

impl Columns {
    pub fn read(description: RowDescription<'_>) -> Columns {
        let column = |field: Field<'_>| Column {
            name: String::from_utf8_lossy(field.name).into_owned(),
            table_oid: field.table_oid,
            column: field.column,
            type_oid: field.type_oid,
            format: field.format,
        };
        Columns(description.map(column).collect())
    }

    /// What they take in memory.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|c| size_of::<Column>() + c.name.len()).sum()
    }

    /// The tables that the columns are of.
    pub fn tables(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().map(|c| c.table_oid).filter(|oid| *oid != 0)
    }

    /// `formats`: of Bind, or `None` to take the description's own.
    pub fn plan(&self, caller: &Caller, formats: Option<&Formats>, hints: Hints) -> Plan {
        let origins: Vec<ColumnOrigin<'_>> = self
            .0
            .iter()
            .enumerate()
            .map(|(i, c)| ColumnOrigin {
                name: &c.name,
                table_oid: c.table_oid,
                column: c.column,
                type_oid: c.type_oid,
                format: formats.map_or(c.format, |f| f.of(i)),
            })
            .collect();
        Plan::for_rows(caller, &origins, hints)
    }
}
