//! A synthetic PostgreSQL: trusts everybody and answers every statement from bytes made at start.
//!
//! | statement | answer |
//! | --- | --- |
//! | begins with SELECT or TABLE | one row of [`POINT_COLUMNS`], about 300 bytes, with table OIDs and attribute numbers |
//! | ends with `FROM bulk LIMIT n` | n rows of ten text columns |
//! | asks for Headgate's catalog (it names [`CATALOG_MARK`]) | a catalog with the one relation and its columns |
//! | BEGIN, COMMIT, ROLLBACK | moves the status of ReadyForQuery |
//! | begins with another word of SQL ([`WORDS`]) | CommandComplete |
//! | anything else | a syntax error; in extended use what follows is skipped to Sync |
//!
//! Bounds: a client's message is at most [`wire::FRAME_BYTES_MAX`]; a large result is queued a block at a time.

use crate::wire::{self, Front};
use std::collections::HashMap;

/// The end mark that the catalog query carries, and whose row its reader wants.
pub const CATALOG_MARK: &[u8] = b"headgate-mask-1";
pub const TABLE_OID: u32 = 16_385;
pub const BULK_OID: u32 = 16_390;
const INT4: u32 = 23;
const TEXT: u32 = 25;
pub const POINT_COLUMNS: [(&str, u32); 4] = [("id", INT4), ("name", TEXT), ("email", TEXT), ("note", TEXT)];
pub const BULK_COLUMNS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
pub const EMAIL: &str = "ada.lovelace@example.com";
const LABEL: &str = "public.customers.email";
/// What a statement may begin with, beside those above.
const WORDS: [&str; 24] = [
    "alter",
    "analyze",
    "close",
    "copy",
    "create",
    "deallocate",
    "declare",
    "delete",
    "discard",
    "drop",
    "execute",
    "explain",
    "fetch",
    "insert",
    "listen",
    "lock",
    "prepare",
    "reset",
    "set",
    "show",
    "truncate",
    "update",
    "values",
    "with",
];
/// Rows of a large result in one block.
const BLOCK_ROWS: u32 = 256;
const STATEMENTS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Point,
    Bulk(u32),
    Begin,
    End,
    Other,
    Empty,
    NoSql,
}

fn kind(sql: &[u8]) -> Kind {
    let sql = sql.trim_ascii();
    let starts = |word: &str| sql.get(..word.len()).is_some_and(|s| s.eq_ignore_ascii_case(word.as_bytes()));
    if sql.is_empty() {
        return Kind::Empty;
    }
    if starts("select") || starts("table") {
        let mark = b"FROM bulk LIMIT ";
        if let Some(at) = memchr::memmem::find(sql, mark)
            && let Some(n) = sql.get(at + mark.len()..).and_then(|t| std::str::from_utf8(t).ok()).and_then(|t| t.trim().parse().ok())
        {
            return Kind::Bulk(n);
        }
        return Kind::Point;
    }
    if starts("begin") || starts("start") {
        Kind::Begin
    } else if starts("commit") || starts("rollback") || starts("abort") || starts("end") {
        Kind::End
    } else if WORDS.into_iter().any(starts) {
        Kind::Other
    } else {
        Kind::NoSql
    }
}

/// Made once, shared by all sessions.
pub struct Answers {
    welcome: Vec<u8>,
    point_described: Vec<u8>,
    point_row: Vec<u8>,
    bulk_described: Vec<u8>,
    bulk_row: Vec<u8>,
    bulk_block: Vec<u8>,
    catalog: Vec<u8>,
    catalog_with_label: Vec<u8>,
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

fn complete(out: &mut Vec<u8>, tag: &str) {
    wire::message(out, b'C', |b| wire::text(b, tag.as_bytes()));
}

impl Answers {
    pub fn new() -> Answers {
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
        let note = "The quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs. ".repeat(3);
        let mut point_row = Vec::new();
        row(&mut point_row, &[Some("4711"), Some("Ada Lovelace"), Some(EMAIL), note.get(..190)]);
        let mut bulk_described = Vec::new();
        describe(&mut bulk_described, BULK_OID, BULK_COLUMNS.map(|name| (name, TEXT)).into_iter());
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
        }
    }
}

impl Default for Answers {
    fn default() -> Self {
        Answers::new()
    }
}

/// One schema, its relations, their columns, the string types, and the one label if it is asked for.
fn catalog(labelled: bool) -> Vec<u8> {
    let mut out = Vec::new();
    describe(&mut out, 0, [("kind", TEXT), ("a", TEXT), ("b", TEXT), ("c", TEXT), ("d", TEXT), ("e", TEXT)].into_iter());
    let oid = TABLE_OID.to_string();
    let mut rows = 0;
    let mut add = |out: &mut Vec<u8>, values: [Option<&str>; 6]| {
        row(out, &values);
        rows += 1;
    };
    add(&mut out, [Some("s"), Some("1"), Some("pg_catalog"), None, None, None]);
    add(&mut out, [Some("s"), Some("2"), Some("public"), None, None, None]);
    add(&mut out, [Some("r"), Some(&oid), Some("public"), Some("customers"), Some("r"), None]);
    add(&mut out, [Some("r"), Some(&BULK_OID.to_string()), Some("public"), Some("bulk"), Some("r"), None]);
    if labelled {
        add(&mut out, [Some("l"), Some(&oid), Some("3"), Some(LABEL), None, None]);
    }
    for (number, (name, type_oid)) in (1..).zip(POINT_COLUMNS) {
        let (number, type_oid): (i32, String) = (number, type_oid.to_string());
        add(&mut out, [Some("a"), Some(&oid), Some(&number.to_string()), Some(name), Some(&type_oid), Some("")]);
    }
    for type_oid in ["18", "19", "25", "1042", "1043"] {
        add(&mut out, [Some("t"), Some(type_oid), None, None, None, None]);
    }
    add(&mut out, [Some("z"), std::str::from_utf8(CATALOG_MARK).ok(), None, None, None, None]);
    complete(&mut out, &format!("SELECT {rows}"));
    out
}

/// One session of the synthetic target.
#[derive(Default)]
pub struct Target {
    started: bool,
    in_transaction: bool,
    skipping: bool,
    /// Named statements other than point reads; a point read is what a name stands for by default.
    statements: HashMap<Vec<u8>, Kind>,
    bound: Option<Kind>,
    /// Rows of a large result that are still to be queued, and what comes behind them.
    bulk_rows: u32,
    behind_bulk: Vec<u8>,
    pub over: bool,
}

impl Target {
    /// Uses what it can at the front of `data` and appends its answers; returns the bytes used.
    pub fn feed(&mut self, answers: &Answers, data: &[u8], out: &mut Vec<u8>) -> usize {
        let mut used = 0;
        // A large result goes out before the next message is looked at.
        while !self.over && self.bulk_rows == 0 {
            let rest = data.get(used..).unwrap_or(&[]);
            if !self.started {
                match wire::first_packet(rest) {
                    None => break,
                    Some(Err(())) => self.over = true,
                    Some(Ok((code, _, len))) => {
                        used += len;
                        self.first(answers, code, out);
                    }
                }
                continue;
            }
            match wire::front(rest) {
                Front::Part => break,
                Front::TooLong => self.over = true,
                Front::Message(tag, body, len) => {
                    used += len;
                    self.message(answers, tag, body, out);
                }
            }
        }
        if self.over { data.len() } else { used }
    }

    fn first(&mut self, answers: &Answers, code: u32, out: &mut Vec<u8>) {
        match code {
            wire::SSL_REQUEST | wire::GSSENC_REQUEST => out.push(b'N'),
            code if code >> 16 == 3 => {
                self.started = true;
                if code != wire::PROTOCOL_3_0 {
                    // As PostgreSQL 15: 3.0, and no option refused.
                    wire::message(out, b'v', |b| {
                        b.extend_from_slice(&wire::PROTOCOL_3_0.to_be_bytes());
                        b.extend_from_slice(&0u32.to_be_bytes());
                    });
                }
                out.extend_from_slice(&answers.welcome);
                wire::message(out, b'K', |b| b.extend_from_slice(&[0, 0, 0x12, 0x34, 1, 2, 3, 4]));
                self.ready(out);
            }
            _ => self.over = true,
        }
    }

    fn ready(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[b'Z', 0, 0, 0, 5, if self.in_transaction { b'T' } else { b'I' }]);
    }

    fn message(&mut self, answers: &Answers, tag: u8, body: &[u8], out: &mut Vec<u8>) {
        if self.skipping && !matches!(tag, b'S' | b'X') {
            return;
        }
        match tag {
            b'Q' => {
                let sql = wire::zero_ended(body).map_or(body, |(sql, _)| sql);
                if memchr::memmem::find(sql, CATALOG_MARK).is_some() {
                    let labelled = memchr::memmem::find(sql, LABEL.as_bytes()).is_some();
                    out.extend_from_slice(if labelled { &answers.catalog_with_label } else { &answers.catalog });
                } else {
                    let kind = kind(sql);
                    described(answers, kind, out);
                    self.run(answers, kind, out);
                }
                self.behind(out);
            }
            b'P' => {
                if let Some((name, rest)) = wire::zero_ended(body) {
                    let kind = kind(wire::zero_ended(rest).map_or(rest, |(sql, _)| sql));
                    if kind == Kind::NoSql {
                        self.skipping = true;
                        return syntax_error(out);
                    }
                    if kind != Kind::Point && self.statements.len() < STATEMENTS_MAX {
                        self.statements.insert(name.to_vec(), kind);
                    } else if !self.statements.is_empty() {
                        self.statements.remove(name);
                    }
                }
                self.say(&[b'1', 0, 0, 0, 4], out);
            }
            b'B' => {
                let name = wire::zero_ended(body).and_then(|(_, rest)| wire::zero_ended(rest)).map_or(&b""[..], |(name, _)| name);
                let named = if self.statements.is_empty() { None } else { self.statements.get(name).copied() };
                self.bound = Some(named.unwrap_or(Kind::Point));
                self.say(&[b'2', 0, 0, 0, 4], out);
            }
            b'D' => {
                let of = match body.split_first() {
                    Some((b'S', name)) => {
                        out.extend_from_slice(&[b't', 0, 0, 0, 6, 0, 0]);
                        let name = wire::zero_ended(name).map_or(name, |(name, _)| name);
                        self.statements.get(name).copied().unwrap_or(Kind::Point)
                    }
                    _ => self.bound.unwrap_or(Kind::Other),
                };
                if matches!(of, Kind::Point | Kind::Bulk(_)) {
                    described(answers, of, out);
                } else {
                    out.extend_from_slice(&[b'n', 0, 0, 0, 4]);
                }
            }
            b'E' => {
                let kind = self.bound.unwrap_or(Kind::Empty);
                self.run(answers, kind, out);
            }
            b'C' => self.say(&[b'3', 0, 0, 0, 4], out),
            b'S' => {
                self.skipping = false;
                self.behind(out);
            }
            b'X' => self.over = true,
            // Flush: nothing is kept back. Anything else this target does not know.
            _ => {}
        }
    }

    fn say(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(bytes);
    }

    fn run(&mut self, answers: &Answers, kind: Kind, out: &mut Vec<u8>) {
        match kind {
            Kind::Point => {
                out.extend_from_slice(&answers.point_row);
                out.extend_from_slice(b"C\0\0\0\x0dSELECT 1\0");
            }
            Kind::Bulk(rows) => {
                self.bulk_rows = rows;
                complete(&mut self.behind_bulk, &format!("SELECT {rows}"));
            }
            Kind::Begin => {
                self.in_transaction = true;
                complete(out, "BEGIN");
            }
            Kind::End => {
                self.in_transaction = false;
                complete(out, "COMMIT");
            }
            Kind::Other => complete(out, "SET"),
            Kind::NoSql => syntax_error(out),
            Kind::Empty => out.extend_from_slice(&[b'I', 0, 0, 0, 4]),
        }
    }

    /// ReadyForQuery, behind a large result if one is on its way.
    fn behind(&mut self, out: &mut Vec<u8>) {
        if self.bulk_rows > 0 {
            let mut behind = std::mem::take(&mut self.behind_bulk);
            self.ready(&mut behind);
            self.behind_bulk = behind;
        } else {
            self.ready(out);
        }
    }

    /// Whether a large result has more to say.
    pub fn has_more(&self) -> bool {
        self.bulk_rows > 0
    }

    /// The next block of a large result. In extended use the Sync behind it is answered when it is read.
    pub fn more(&mut self, answers: &Answers, out: &mut Vec<u8>) {
        if self.bulk_rows >= BLOCK_ROWS {
            out.extend_from_slice(&answers.bulk_block);
            self.bulk_rows -= BLOCK_ROWS;
        } else {
            for _ in 0..self.bulk_rows {
                out.extend_from_slice(&answers.bulk_row);
            }
            self.bulk_rows = 0;
        }
        if self.bulk_rows == 0 {
            out.append(&mut self.behind_bulk);
        }
    }
}

fn syntax_error(out: &mut Vec<u8>) {
    wire::message(out, b'E', |b| {
        for (kind, text) in [(b'S', "ERROR"), (b'V', "ERROR"), (b'C', "42601"), (b'M', "syntax error")] {
            b.push(kind);
            wire::text(b, text.as_bytes());
        }
        b.push(0);
    });
}

fn described(answers: &Answers, kind: Kind, out: &mut Vec<u8>) {
    match kind {
        Kind::Point => out.extend_from_slice(&answers.point_described),
        Kind::Bulk(_) => out.extend_from_slice(&answers.bulk_described),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(target: &mut Target, messages: &[(u8, &[u8])]) -> Vec<u8> {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for (tag, body) in messages {
            wire::message(&mut up, *tag, |b| b.extend_from_slice(body));
        }
        assert_eq!(target.feed(&Answers::new(), &up, &mut down), up.len());
        let (mut tags, mut rest) = (Vec::new(), &down[..]);
        while let Front::Message(tag, _, len) = wire::front(rest) {
            tags.push(tag);
            rest = &rest[len..];
        }
        tags
    }

    #[test]
    fn what_is_no_sql_fails_and_skips_to_sync() {
        let mut target = Target { started: true, ..Target::default() };
        let refused = answer(&mut target, &[(b'P', b"n\0headgate refused this\0\0\0"), (b'B', b"\0n\0\0\0\0\0\0\0"), (b'S', b"")]);
        assert_eq!(refused, b"EZ");
        assert_eq!(answer(&mut target, &[(b'Q', b"nonsense\0")]), b"EZ");
        assert_eq!(answer(&mut target, &[(b'P', b"n\0select 1\0\0\0"), (b'D', b"Sn\0"), (b'S', b"")]), b"1tTZ");
    }

    #[test]
    fn the_catalog_has_the_label_only_when_it_was_asked_for() {
        let mut target = Target { started: true, ..Target::default() };
        let plain = answer(&mut target, &[(b'Q', b"WITH x AS () SELECT 'headgate-mask-1'\0")]);
        let labelled = answer(&mut target, &[(b'Q', b"WITH x AS ('public.customers.email') SELECT 'headgate-mask-1'\0")]);
        assert_eq!(labelled.len(), plain.len() + 1);
    }

    #[test]
    fn transactions_show_in_ready_for_query() {
        let mut target = Target { started: true, ..Target::default() };
        let mut out = Vec::new();
        for (sql, status) in [("BEGIN", b'T'), ("select 1", b'T'), ("COMMIT", b'I')] {
            let mut up = Vec::new();
            wire::message(&mut up, b'Q', |b| wire::text(b, sql.as_bytes()));
            out.clear();
            target.feed(&Answers::new(), &up, &mut out);
            assert_eq!(out.last(), Some(&status), "{sql}");
        }
    }
}
