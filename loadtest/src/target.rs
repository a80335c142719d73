//! A synthetic PostgreSQL: trusts everybody, or wants one password by SCRAM-SHA-256, and answers every statement from bytes made
//! at start.
//!
//! | statement | answer |
//! | --- | --- |
//! | begins with SELECT or TABLE | one row of [`POINT_COLUMNS`], about 300 bytes, with table OIDs and attribute numbers |
//! | ends with `FROM bulk LIMIT n` | n rows of ten text columns |
//! | asks for Headgate's catalog (it names [`CATALOG_MARK`]) | a catalog with the one relation and its columns |
//! | BEGIN, COMMIT, ROLLBACK | moves the status of ReadyForQuery |
//! | INSERT, UPDATE, DELETE | CommandComplete of one row |
//! | begins with [`HELD_SQL`] and a number | the same, and the moment of its arrival is kept |
//! | begins with another word of SQL ([`WORDS`]) | CommandComplete |
//! | anything else | a syntax error; in extended use what follows is skipped to Sync |
//!
//! Bounds: a client's message is at most [`wire::FRAME_BYTES_MAX`]; a large result is queued a block at a time.

mod answers;

use crate::scram::{MECHANISM, TargetExchange};
use crate::wire::{self, NextFrame};
pub use answers::{Answers, BULK_COLUMNS, BULK_OID, CATALOG_MARK, EMAIL, POINT_COLUMNS, TABLE_OID};
use answers::{BLOCK_ROWS, LABEL, complete};
use std::collections::HashMap;
use std::time::Instant;

/// What a statement may begin with, beside those above.
const WORDS: [&str; 21] = [
    "alter",
    "analyze",
    "close",
    "copy",
    "create",
    "deallocate",
    "declare",
    "discard",
    "drop",
    "execute",
    "explain",
    "fetch",
    "listen",
    "lock",
    "prepare",
    "reset",
    "set",
    "show",
    "truncate",
    "values",
    "with",
];
const STATEMENTS_MAX: usize = 10_000;
/// A statement that a rule of the engine may hold; its number tells one from the other.
pub const HELD_SQL: &str = "DELETE FROM customers WHERE id = ";
const ARRIVALS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Point,
    Bulk(u32),
    Begin,
    End,
    /// Its command tag.
    Change(&'static str),
    Held(u64),
    Other,
    Empty,
    NoSql,
}

fn kind(sql: &[u8]) -> Kind {
    let sql = sql.trim_ascii();
    let starts = |word: &str| {
        sql.get(..word.len())
            .is_some_and(|s| s.eq_ignore_ascii_case(word.as_bytes()))
    };
    if sql.is_empty() {
        return Kind::Empty;
    }
    if starts("select") || starts("table") {
        let mark = b"FROM bulk LIMIT ";
        if let Some(at) = memchr::memmem::find(sql, mark)
            && let Some(n) = sql
                .get(at + mark.len()..)
                .and_then(|t| std::str::from_utf8(t).ok())
                .and_then(|t| t.trim().parse().ok())
        {
            return Kind::Bulk(n);
        }
        return Kind::Point;
    }
    if starts(HELD_SQL)
        && let Some(number) = sql
            .get(HELD_SQL.len()..)
            .and_then(|t| std::str::from_utf8(t).ok())
            .and_then(|t| t.parse().ok())
    {
        return Kind::Held(number);
    }
    for (word, tag) in [
        ("insert", "INSERT 0 1"),
        ("update", "UPDATE 1"),
        ("delete", "DELETE 1"),
    ] {
        if starts(word) {
            return Kind::Change(tag);
        }
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

/// How far a sign-in with a password has come.
enum SignIn {
    Asked,
    Answered(Box<TargetExchange>),
}

/// One session of the synthetic target.
#[derive(Default)]
pub struct Target {
    /// Signed in.
    started: bool,
    sign_in: Option<SignIn>,
    /// Held statements that have come through, with their moments; whoever drives this takes them.
    pub arrivals: Vec<(u64, Instant)>,
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
                if self.sign_in.is_some() {
                    match wire::next_frame(rest) {
                        NextFrame::Message(b'p', body, len) => {
                            used += len;
                            self.password(answers, body, out);
                        }
                        NextFrame::Part => break,
                        _ => self.over = true,
                    }
                    continue;
                }
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
            match wire::next_frame(rest) {
                NextFrame::Part => break,
                NextFrame::TooLong => self.over = true,
                NextFrame::Message(tag, body, len) => {
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
                if code != wire::PROTOCOL_3_0 {
                    // As PostgreSQL 15: 3.0, and no option refused.
                    wire::message(out, b'v', |b| {
                        b.extend_from_slice(&wire::PROTOCOL_3_0.to_be_bytes());
                        b.extend_from_slice(&0u32.to_be_bytes());
                    });
                }
                if answers.verifier.is_some() {
                    self.sign_in = Some(SignIn::Asked);
                    wire::message(out, b'R', |b| {
                        b.extend_from_slice(&10u32.to_be_bytes());
                        wire::text(b, MECHANISM.as_bytes());
                        b.push(0);
                    });
                } else {
                    self.welcome(answers, out);
                }
            }
            _ => self.over = true,
        }
    }

    fn welcome(&mut self, answers: &Answers, out: &mut Vec<u8>) {
        self.started = true;
        self.sign_in = None;
        out.extend_from_slice(&answers.welcome);
        wire::message(out, b'K', |b| {
            b.extend_from_slice(&[0, 0, 0x12, 0x34, 1, 2, 3, 4])
        });
        self.ready(out);
    }

    /// A message of a sign-in with SCRAM. Who does not know the password is told, and that is the end.
    fn password(&mut self, answers: &Answers, body: &[u8], out: &mut Vec<u8>) {
        let Some(verifier) = &answers.verifier else { return };
        let step = match self.sign_in.take() {
            Some(SignIn::Asked) => wire::zero_ended(body)
                .filter(|(mechanism, _)| *mechanism == MECHANISM.as_bytes())
                .and_then(|(_, rest)| rest.get(4..))
                .ok_or("another mechanism")
                .and_then(|first| TargetExchange::start(verifier, first))
                .map(|(exchange, said)| {
                    self.sign_in = Some(SignIn::Answered(Box::new(exchange)));
                    (11u32, said)
                }),
            Some(SignIn::Answered(exchange)) => exchange.finish(verifier, body).map(|said| (12, said)),
            None => Err("no sign-in"),
        };
        match step {
            Ok((code, said)) => {
                wire::message(out, b'R', |b| {
                    b.extend_from_slice(&code.to_be_bytes());
                    b.extend_from_slice(said.as_bytes());
                });
                if code == 12 {
                    self.welcome(answers, out);
                }
            }
            Err(what) => {
                error(out, "FATAL", "28P01", what);
                self.over = true;
            }
        }
    }

    /// Whether somebody has signed in.
    pub fn is_started(&self) -> bool {
        self.started
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
                    out.extend_from_slice(if labelled {
                        &answers.catalog_with_label
                    } else {
                        &answers.catalog
                    });
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
                        return error(out, "ERROR", "42601", "syntax error");
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
                let name = wire::zero_ended(body)
                    .and_then(|(_, rest)| wire::zero_ended(rest))
                    .map_or(&b""[..], |(name, _)| name);
                let named = if self.statements.is_empty() {
                    None
                } else {
                    self.statements.get(name).copied()
                };
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
            Kind::Change(tag) => complete(out, tag),
            Kind::Held(number) => {
                if self.arrivals.len() < ARRIVALS_MAX {
                    self.arrivals.push((number, Instant::now()));
                }
                complete(out, "DELETE 1");
            }
            Kind::Other => complete(out, "SET"),
            Kind::NoSql => error(out, "ERROR", "42601", "syntax error"),
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

fn error(out: &mut Vec<u8>, severity: &str, sqlstate: &str, message: &str) {
    wire::message(out, b'E', |b| {
        for (kind, text) in [
            (b'S', severity),
            (b'V', severity),
            (b'C', sqlstate),
            (b'M', message),
        ] {
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
mod tests;
