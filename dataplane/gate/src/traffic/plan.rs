//! From a row description to a mask plan.

use headgate_mask::{Caller, ColumnOrigin, Hints, Plan};
use headgate_postgres::backend::{Field, RowDescription};

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

    /// `formats`: of Bind (none: text for all; one: for all; else one a column), or `None` to take the description's own.
    pub fn plan(&self, caller: &Caller, formats: Option<&[u16]>, hints: Hints) -> Plan {
        let origins: Vec<ColumnOrigin<'_>> = self
            .0
            .iter()
            .enumerate()
            .map(|(i, c)| ColumnOrigin {
                name: &c.name,
                table_oid: c.table_oid,
                column: c.column,
                type_oid: c.type_oid,
                format: match formats {
                    None => c.format,
                    Some([]) => 0,
                    Some([all]) => *all,
                    // A count that does not fit is the target's to refuse; until then it is doubt, and binary is the stricter.
                    Some(each) => each.get(i).copied().unwrap_or(1),
                },
            })
            .collect();
        Plan::for_rows(caller, &origins, hints)
    }
}
