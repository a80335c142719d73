//! The mask plan of one result: an action per column. Made once per result, before its first row.

use crate::caller::{Caller, CallerInner, Exposure};
use crate::detect::Kind;
use headgate_plane::{Class, MaskMethod};
use headgate_sql::{Copy, CopyFormat, Statement};

/// One column as RowDescription tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnOrigin<'a> {
    /// As the client reads it.
    pub name: &'a str,
    /// Of the table that it comes from; 0 for what is computed.
    pub table_oid: u32,
    /// Its number in that table; 0 for what is computed.
    pub column: i16,
    /// Of its values.
    pub type_oid: u32,
    /// 0 text, 1 binary. Of a portal: what Bind asked for, not what RowDescription of the statement says.
    pub format: u16,
}

/// What is known of the statement that makes the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// [`Exposure::may_compute`] of the statement (of any statement of one simple Query).
    pub may_compute: bool,
    /// Its class has `opaque`.
    pub opaque: bool,
    /// False: its facts are not known. Everything not plainly from an unlabelled column is covered.
    pub known: bool,
}

/// What becomes of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnAction {
    /// They are handed on.
    Pass,
    /// What the detectors find is covered.
    Scan(ScanForm),
    /// The whole value, in text.
    Mask(MaskMethod),
    /// The value becomes NULL.
    Null,
}

/// How a hit is written back, so that what is left can still be read by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanForm {
    /// Text: a hit becomes its covered form, of any length. `null` is written as `redact`.
    Text,
    /// JSON text: like text, but a bare number becomes `null`.
    Json,
    /// Binary of a type with lengths inside (arrays, records, types of users): a hit keeps its length in bytes.
    Fill,
    /// Digits in the text of an int8 or numeric: a card makes the whole value NULL.
    Number,
    /// The same for a binary int8.
    BinaryInt8,
    /// The same for a binary numeric.
    BinaryNumeric,
}

/// What becomes of each column of a result.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) columns: Vec<ColumnAction>,
    /// `None`: everything passes.
    pub(crate) caller: Option<Caller>,
    /// Some column is changed or looked at in every row, not only where the prefilter says so.
    pub(crate) every_row: bool,
    /// Some column is scanned.
    pub(crate) scans: bool,
}

/// OIDs below this are given out by initdb's first phase and are the same in every database; the views of statistics
/// are not among them.
const FIRST_GENERATED_OID: u32 = 10_000;
/// The server gives OIDs below it to its own objects alone.
pub const FIRST_USER_OID: u32 = 16_384;
const PG_STATISTIC: [u32; 2] = [2619, 3429];

mod oid {
    pub(super) const NAME: u32 = 19;
    pub(super) const INT8: u32 = 20;
    pub(super) const JSON: u32 = 114;
    pub(super) const JSONB: u32 = 3802;
    pub(super) const NUMERIC: u32 = 1700;
    /// text, varchar, bpchar, name, unknown, cstring, refcursor: their binary form is their text.
    pub(super) const STRINGS: [u32; 7] = [25, 1043, 1042, NAME, 705, 2275, 1790];
    /// xml, tsvector, jsonpath.
    pub(super) const TEXTS: [u32; 3] = [142, 3614, 4072];
    /// Arrays of the above, of json, jsonb and record; record, anyarray.
    pub(super) const NESTED: [u32; 13] = [
        1009, 1015, 1014, 1003, 1002, 1263, 199, 3807, 143, 2287, 2249, 2277, 3643,
    ];
    /// int8[], numeric[].
    pub(super) const NUMBERS: [u32; 2] = [1016, 1231];
}

impl Plan {
    /// Covers nothing, whatever the rows.
    pub fn pass() -> Plan {
        Plan {
            columns: Vec::new(),
            caller: None,
            every_row: false,
            scans: false,
        }
    }

    /// For rows that a RowDescription announced.
    pub fn for_rows(caller: &Caller, origins: &[ColumnOrigin<'_>], hints: Hints) -> Plan {
        let inner = &caller.inner;
        Plan::of(caller, origins.iter().map(|o| action(inner, o, hints)).collect())
    }

    /// For the CopyOutResponse of `copy`; `statement` is the COPY's own facts, `None` if not known.
    ///
    /// `COPY relation` is planned from the catalog. Of `COPY (query)` only the names of the outputs are known: where the
    /// query names labelled columns, or a star, every output becomes NULL. A gate that wants better asks the target to
    /// describe the query and uses [`Plan::for_rows`] with the origins it gets.
    pub fn for_copy(caller: &Caller, copy: &Copy, statement: Option<&Statement>, columns: usize) -> Plan {
        let inner = &caller.inner;
        let scan = match copy.format {
            _ if inner.kinds.is_empty() => ColumnAction::Pass,
            CopyFormat::Binary => ColumnAction::Scan(ScanForm::Fill),
            CopyFormat::Text | CopyFormat::Csv => ColumnAction::Scan(ScanForm::Text),
        };
        let actions = if !inner.has_labels {
            vec![scan; columns]
        } else {
            copy_relation(inner, copy, columns, scan)
                .or_else(|| copy_query(caller, copy, statement?, columns, scan))
                .unwrap_or_else(|| vec![ColumnAction::Null; columns])
        };
        Plan::of(caller, actions)
    }

    fn of(caller: &Caller, columns: Vec<ColumnAction>) -> Plan {
        if caller.is_free() || columns.iter().all(|c| *c == ColumnAction::Pass) {
            return Plan::pass();
        }
        let scans = columns.iter().any(|c| matches!(c, ColumnAction::Scan(_)));
        let every_row = columns.iter().any(|c| {
            matches!(
                c,
                ColumnAction::Mask(_)
                    | ColumnAction::Null
                    | ColumnAction::Scan(ScanForm::BinaryInt8 | ScanForm::BinaryNumeric)
            )
        });
        Plan {
            columns,
            caller: Some(caller.clone()),
            every_row,
            scans,
        }
    }

    /// True: rows may be forwarded as they are.
    pub fn is_pass(&self) -> bool {
        self.caller.is_none()
    }

    /// Empty when everything passes.
    pub fn columns(&self) -> &[ColumnAction] {
        &self.columns
    }
}

fn action(inner: &CallerInner, origin: &ColumnOrigin<'_>, hints: Hints) -> ColumnAction {
    if !inner.bound {
        return ColumnAction::Pass;
    }
    if !inner.has_labels {
        return by_type(inner, origin);
    }
    let Some(catalog) = inner.catalog.as_ref().filter(|_| !inner.in_doubt()) else {
        let fixed = origin.table_oid != 0
            && origin.table_oid < FIRST_GENERATED_OID
            && !PG_STATISTIC.contains(&origin.table_oid);
        return if fixed {
            by_type(inner, origin)
        } else {
            ColumnAction::Null
        };
    };
    if origin.table_oid == 0 {
        let doubt = hints.may_compute || hints.opaque || !hints.known;
        return if doubt {
            ColumnAction::Null
        } else {
            by_type(inner, origin)
        };
    }
    if catalog.is_statistics(origin.table_oid) {
        return ColumnAction::Null;
    }
    let Some(columns) = catalog.columns_of(origin.table_oid) else {
        let unknown = origin.table_oid >= FIRST_USER_OID && !catalog.knows(origin.table_oid);
        return if unknown {
            ColumnAction::Null
        } else {
            by_type(inner, origin)
        };
    };
    let judged = |fate| inner.judge(fate);
    match columns.get(&origin.column) {
        Some(attribute) => match judged(&attribute.fate) {
            (_, true) => ColumnAction::Null,
            (Some(method), false) => label(inner, method, origin.type_oid),
            (None, false) => by_type(inner, origin),
        },
        // The whole row, or a column newer than the catalog; system columns are negative.
        None if origin.column < 0 => by_type(inner, origin),
        None => {
            let fated = columns
                .values()
                .any(|a| !matches!(judged(&a.fate), (None, false)));
            if fated || origin.column > 0 {
                ColumnAction::Null
            } else {
                by_type(inner, origin)
            }
        }
    }
}

/// A labelled column. Only strings have a covered form that their client can read; all else becomes NULL.
fn label(inner: &CallerInner, method: MaskMethod, type_oid: u32) -> ColumnAction {
    let string =
        oid::STRINGS.contains(&type_oid) || inner.catalog.as_ref().is_some_and(|c| c.is_string(type_oid));
    match method {
        MaskMethod::Null => ColumnAction::Null,
        method if string => ColumnAction::Mask(method),
        _ => ColumnAction::Null,
    }
}

/// An unlabelled column: scanned where a detector could find something in it.
fn by_type(inner: &CallerInner, origin: &ColumnOrigin<'_>) -> ColumnAction {
    if inner.kinds.is_empty() {
        return ColumnAction::Pass;
    }
    let text = origin.format == 0;
    let cards = inner.kinds.has(Kind::PaymentCard);
    let string = inner
        .catalog
        .as_ref()
        .is_some_and(|c| c.is_string(origin.type_oid));
    let form = match origin.type_oid {
        oid::JSON | oid::JSONB => ScanForm::Json,
        t if string || oid::STRINGS.contains(&t) || oid::TEXTS[..1].contains(&t) => ScanForm::Text,
        t if oid::TEXTS.contains(&t) || oid::NESTED.contains(&t) || t >= FIRST_USER_OID => {
            if text {
                ScanForm::Text
            } else {
                ScanForm::Fill
            }
        }
        oid::INT8 if cards && !text => ScanForm::BinaryInt8,
        oid::NUMERIC if cards && !text => ScanForm::BinaryNumeric,
        t if cards && text && (t == oid::INT8 || t == oid::NUMERIC || oid::NUMBERS.contains(&t)) => {
            ScanForm::Number
        }
        _ => return ColumnAction::Pass,
    };
    ColumnAction::Scan(form)
}

/// `None`: not a COPY of a relation that is known.
fn copy_relation(
    inner: &CallerInner,
    copy: &Copy,
    count: usize,
    scan: ColumnAction,
) -> Option<Vec<ColumnAction>> {
    let relation = copy.relation.as_ref()?;
    let catalog = inner.catalog.as_ref()?;
    // COPY has no origins: its columns are known only if its relation is.
    if relation
        .schema
        .as_deref()
        .is_none_or(|s| s.starts_with("pg_temp"))
        && catalog.may_be_hidden(&relation.name)
    {
        return None;
    }
    let (_, _, oid) = catalog.resolve(&inner.path, relation.schema.as_deref(), &relation.name)?;
    if catalog.is_statistics(oid) {
        return None;
    }
    let Some(attributes) = catalog.columns_of(oid) else {
        return Some(vec![scan; count]);
    };
    let chosen: Vec<_> = if copy.columns.is_empty() {
        attributes
            .values()
            .filter(|a| !a.dropped && !a.generated)
            .collect()
    } else {
        copy.columns
            .iter()
            .map(|name| attributes.values().find(|a| !a.dropped && a.name == *name))
            .collect::<Option<_>>()?
    };
    let actions = chosen.iter().map(|attribute| match inner.judge(&attribute.fate) {
        (_, true) => ColumnAction::Null,
        (Some(method), false) => label(inner, method, attribute.type_oid),
        (None, false) => {
            let format = if copy.format == CopyFormat::Binary { 1 } else { 0 };
            by_type(
                inner,
                &ColumnOrigin {
                    name: "",
                    table_oid: oid,
                    column: 0,
                    type_oid: attribute.type_oid,
                    format,
                },
            )
        }
    });
    (chosen.len() == count).then(|| actions.collect())
}

/// `None`: doubt.
fn copy_query(
    caller: &Caller,
    copy: &Copy,
    statement: &Statement,
    count: usize,
    scan: ColumnAction,
) -> Option<Vec<ColumnAction>> {
    if copy.relation.is_some() || statement.class.contains(Class::Opaque) || caller.inner.in_doubt() {
        return None;
    }
    let Exposure {
        touches, may_compute, ..
    } = caller.exposure(statement);
    if !touches {
        return Some(vec![scan; count]);
    }
    // A star, or columns renamed on the way: any output may be a label.
    if copy.outputs.len() != count || statement.hidden_columns {
        return None;
    }
    // Nothing labelled is named, so no output can be it.
    (!may_compute).then(|| vec![scan; count])
}
