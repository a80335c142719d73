//! Replies as a target sends them: DataRow messages of several kinds.

use headgate_mask::{Catalog, CatalogBuilder, ColumnOrigin};
use headgate_plane::{MaskMethod, MaskRule, RuleTarget, RuleWho};
use headgate_postgres::write;
use std::sync::Arc;

pub const EMAIL: &str = "ada.lovelace@example.com";
pub const LABEL: &str = "public.customers.email";
const TABLE_OID: u32 = 16_385;
const INT4: u32 = 23;
const TEXT: u32 = 25;

fn row(out: &mut Vec<u8>, values: &[&str]) {
    write::data_row(out, values.iter().map(|v| Some(v.as_bytes()))).expect("a short row");
}

/// `rows` point reads' rows, some 260 bytes each.
pub fn point(rows: usize) -> Vec<u8> {
    let note =
        "The quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs. ".repeat(3);
    let mut out = Vec::new();
    for _ in 0..rows {
        row(
            &mut out,
            &["4711", "Ada Lovelace", EMAIL, note.get(..190).unwrap_or(&note)],
        );
    }
    out
}

/// A whole reply to Bind, Execute, Sync, `count` times.
pub fn prepared(count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..count {
        write::bind_complete(&mut out);
        out.extend_from_slice(&point(1));
        write::command_complete(&mut out, b"SELECT 1").expect("a short tag");
        write::ready_for_query(&mut out, headgate_postgres::backend::TransactionStatus::Idle);
    }
    out
}

/// Ten text columns without a digit or an @, until `bytes` are full.
pub fn clean_words(bytes: usize) -> Vec<u8> {
    until(bytes, |out, _| row(out, &["twenty bytes of text"; 10]))
}

/// Columns as tables have them, with digits, dates, prices and numbers that begin as a card or a social security number
/// would, and nothing in them that is one.
pub fn clean_records(bytes: usize) -> Vec<u8> {
    until(bytes, |out, n| {
        let (id, price) = (
            format!("{}", 100_000 + n),
            format!("{}.{:02}", 10 + n % 90, n % 100),
        );
        row(
            out,
            &[
                &id,
                "2026-11-21 10:15:42+00",
                &price,
                "north",
                "Ada Lovelace",
                "4111-1111",
                "order of 3 pieces",
                "t",
                "12-34-56",
                "",
            ],
        );
    })
}

/// As [`clean_words`], with an e-mail address in every row. Returns the rows, too.
pub fn with_hits(bytes: usize) -> (Vec<u8>, u64) {
    let mut rows = 0;
    let out = until(bytes, |out, _| {
        rows += 1;
        row(
            out,
            &[
                "twenty bytes of text",
                "write to ada.lovelace@example.com at once",
                "twenty bytes of text",
                "twenty bytes of text",
            ],
        );
    });
    (out, rows)
}

fn until(bytes: usize, mut add: impl FnMut(&mut Vec<u8>, usize)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut n = 0;
    while out.len() < bytes {
        add(&mut out, n);
        n += 1;
    }
    out
}

/// The columns of [`point`].
pub fn point_columns() -> Vec<ColumnOrigin<'static>> {
    let names = [("id", INT4), ("name", TEXT), ("email", TEXT), ("note", TEXT)];
    (1..)
        .zip(names)
        .map(|(column, (name, type_oid))| ColumnOrigin {
            name,
            table_oid: TABLE_OID,
            column,
            type_oid,
            format: 0,
        })
        .collect()
}

/// `count` text columns of a table without labels.
pub fn text_columns(count: usize) -> Vec<ColumnOrigin<'static>> {
    (1..)
        .take(count)
        .map(|column| ColumnOrigin {
            name: "a",
            table_oid: TABLE_OID + 5,
            column,
            type_oid: TEXT,
            format: 0,
        })
        .collect()
}

/// One table with one labelled column, beside one without.
pub fn catalog() -> Arc<Catalog> {
    let mut builder = CatalogBuilder::new(&[LABEL]);
    let table = TABLE_OID.to_string();
    let mut add = |values: &[Option<&str>]| {
        let values: Vec<Option<&[u8]>> = values.iter().map(|v| v.map(str::as_bytes)).collect();
        builder.row(&values).expect("a row that the builder knows");
    };
    add(&[Some("s"), Some("1"), Some("pg_catalog"), None, None, None]);
    add(&[Some("s"), Some("2"), Some("public"), None, None, None]);
    add(&[
        Some("r"),
        Some(&table),
        Some("public"),
        Some("customers"),
        Some("r"),
        None,
    ]);
    add(&[
        Some("r"),
        Some("16390"),
        Some("public"),
        Some("bulk"),
        Some("r"),
        None,
    ]);
    add(&[Some("l"), Some(&table), Some("3"), Some(LABEL), None, None]);
    for column in point_columns() {
        let (number, type_oid) = (column.column.to_string(), column.type_oid.to_string());
        add(&[
            Some("a"),
            Some(&table),
            Some(&number),
            Some(column.name),
            Some(&type_oid),
            Some(""),
        ]);
    }
    for type_oid in ["18", "19", "25", "1042", "1043"] {
        add(&[Some("t"), Some(type_oid), None, None, None, None]);
    }
    add(&[Some("z"), Some("headgate-mask-1"), None, None, None, None]);
    Arc::new(builder.finish())
}

pub fn mask_rule(columns: &[&str], detect: &[&str]) -> MaskRule {
    let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    MaskRule {
        name: "contact data".to_owned(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        columns: owned(columns),
        detect: owned(detect),
        method: MaskMethod::Partial,
        unless: None,
    }
}
