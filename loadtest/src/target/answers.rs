//! The bytes that the synthetic target answers with, made at start.

use crate::scram::Verifier;
use crate::wire;

/// The end mark that the catalog query carries, and whose row its reader wants.
pub const CATALOG_MARK: &[u8] = b"headgate-mask-1";
pub const TABLE_OID: u32 = 16_385;
pub const BULK_OID: u32 = 16_390;
const INT4: u32 = 23;
const TEXT: u32 = 25;
pub const POINT_COLUMNS: [(&str, u32); 4] = [("id", INT4), ("name", TEXT), ("email", TEXT), ("note", TEXT)];
pub const BULK_COLUMNS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
pub const EMAIL: &str = "ada.lovelace@example.com";
pub(super) const LABEL: &str = "public.customers.email";
/// Rows of a large result in one block.
pub(super) const BLOCK_ROWS: u32 = 256;

/// Made once, shared by all sessions.
pub struct Answers {
    pub(super) welcome: Vec<u8>,
    pub(super) point_described: Vec<u8>,
    pub(super) point_row: Vec<u8>,
    pub(super) bulk_described: Vec<u8>,
    pub(super) bulk_row: Vec<u8>,
    pub(super) bulk_block: Vec<u8>,
    pub(super) catalog: Vec<u8>,
    pub(super) catalog_with_label: Vec<u8>,
    /// Who signs in has to know a password.
    pub(super) verifier: Option<Verifier>,
}

fn describe(out: &mut Vec<u8>, table: u32, columns: impl ExactSizeIterator<Item = (&'static str, u32)>) {
    wire::message(out, b'T', |b| {
        b.extend_from_slice(&u16::try_from(columns.len()).unwrap_or(0).to_be_bytes());
        for (number, (name, type_oid)) in (1u16..).zip(columns) {
            wire::text(b, name.as_bytes());
            b.extend_from_slice(&table.to_be_bytes());
            b.extend_from_slice(&(if table == 0 { 0 } else { number }).to_be_bytes());
            b.extend_from_slice(&type_oid.to_be_bytes());
            b.extend_from_slice(&(if type_oid == INT4 { 4i16 } else { -1 }).to_be_bytes());
            b.extend_from_slice(&(-1i32).to_be_bytes());
            b.extend_from_slice(&0u16.to_be_bytes());
        }
    });
}

fn row(out: &mut Vec<u8>, values: &[Option<&str>]) {
    wire::message(out, b'D', |b| {
        b.extend_from_slice(&u16::try_from(values.len()).unwrap_or(0).to_be_bytes());
        for value in values {
            match value {
                Some(text) => wire::value(b, text.as_bytes()),
                None => b.extend_from_slice(&(-1i32).to_be_bytes()),
            }
        }
    });
}

pub(super) fn complete(out: &mut Vec<u8>, tag: &str) {
    wire::message(out, b'C', |b| wire::text(b, tag.as_bytes()));
}

impl Answers {
    pub fn new(password: Option<&str>) -> Answers {
        let mut welcome = Vec::new();
        wire::message(&mut welcome, b'R', |b| b.extend_from_slice(&0u32.to_be_bytes()));
        for (name, value) in [
            ("application_name", ""),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"),
            ("default_transaction_read_only", "off"),
            ("in_hot_standby", "off"),
            ("integer_datetimes", "on"),
            ("IntervalStyle", "postgres"),
            ("is_superuser", "off"),
            ("server_encoding", "UTF8"),
            ("server_version", "15.14"),
            ("session_authorization", "bench"),
            ("standard_conforming_strings", "on"),
            ("TimeZone", "Etc/UTC"),
        ] {
            wire::message(&mut welcome, b'S', |b| {
                wire::text(b, name.as_bytes());
                wire::text(b, value.as_bytes());
            });
        }
        let mut point_described = Vec::new();
        describe(&mut point_described, TABLE_OID, POINT_COLUMNS.into_iter());
        let note = "The quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs. "
            .repeat(3);
        let mut point_row = Vec::new();
        row(
            &mut point_row,
            &[Some("4711"), Some("Ada Lovelace"), Some(EMAIL), note.get(..190)],
        );
        let mut bulk_described = Vec::new();
        describe(
            &mut bulk_described,
            BULK_OID,
            BULK_COLUMNS.map(|name| (name, TEXT)).into_iter(),
        );
        let mut bulk_row = Vec::new();
        row(&mut bulk_row, &[Some("twenty bytes of text"); 10]);
        let bulk_block = bulk_row.repeat(BLOCK_ROWS as usize);
        Answers {
            welcome,
            point_described,
            point_row,
            bulk_described,
            bulk_row,
            bulk_block,
            catalog: catalog(false),
            catalog_with_label: catalog(true),
            verifier: password.map(Verifier::new),
        }
    }
}

impl Default for Answers {
    fn default() -> Self {
        Answers::new(None)
    }
}

/// One schema, its relations, their columns, the string types, and the one label if it is asked for.
fn catalog(labelled: bool) -> Vec<u8> {
    let mut out = Vec::new();
    describe(
        &mut out,
        0,
        [
            ("kind", TEXT),
            ("a", TEXT),
            ("b", TEXT),
            ("c", TEXT),
            ("d", TEXT),
            ("e", TEXT),
        ]
        .into_iter(),
    );
    let oid = TABLE_OID.to_string();
    let mut rows = 0;
    let mut add = |out: &mut Vec<u8>, values: [Option<&str>; 6]| {
        row(out, &values);
        rows += 1;
    };
    add(
        &mut out,
        [Some("s"), Some("1"), Some("pg_catalog"), None, None, None],
    );
    add(&mut out, [Some("s"), Some("2"), Some("public"), None, None, None]);
    add(
        &mut out,
        [
            Some("r"),
            Some(&oid),
            Some("public"),
            Some("customers"),
            Some("r"),
            None,
        ],
    );
    add(
        &mut out,
        [
            Some("r"),
            Some(&BULK_OID.to_string()),
            Some("public"),
            Some("bulk"),
            Some("r"),
            None,
        ],
    );
    if labelled {
        add(
            &mut out,
            [Some("l"), Some(&oid), Some("3"), Some(LABEL), None, None],
        );
    }
    for (number, (name, type_oid)) in (1..).zip(POINT_COLUMNS) {
        let (number, type_oid): (i32, String) = (number, type_oid.to_string());
        add(
            &mut out,
            [
                Some("a"),
                Some(&oid),
                Some(&number.to_string()),
                Some(name),
                Some(&type_oid),
                Some(""),
            ],
        );
    }
    for type_oid in ["18", "19", "25", "1042", "1043"] {
        add(&mut out, [Some("t"), Some(type_oid), None, None, None, None]);
    }
    add(
        &mut out,
        [
            Some("z"),
            std::str::from_utf8(CATALOG_MARK).ok(),
            None,
            None,
            None,
            None,
        ],
    );
    complete(&mut out, &format!("SELECT {rows}"));
    out
}
