//! A PostgreSQL that exists in memory: what a server owes for each message, in which order, and what it has done. Sans-IO.
//!
//! Written from the manual (PostgreSQL 18, chapter Frontend/Backend Protocol) and by trying real servers; never from
//! Headgate's own code. `real.rs` runs the same messages against real servers and compares.
//!
//! Invariant: one message in, all its replies out, unless it waits (COPY from the client, a sleep). Messages come one at a
//! time; whoever drives the server keeps those that it has not read.
//! Never here: Headgate, sockets, time. Differences between versions are fields of [`Manual`].

use crate::message::{Fields, put, short, string, value};
use crate::sql::{self, Count, Kind, NAME_BYTES_MAX, Number, Rows, Sql, Stage, Statement, Table};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What differs between versions, and what only a simulation can do.
#[derive(Clone, Copy, Debug)]
pub struct Manual {
    /// From version 18 on: after the first Execute of a pipeline, what follows up to Sync is one implicit transaction block.
    pub pipeline_is_block: bool,
    /// `pg_sleep` waits for [`Server::wake`] and can be cancelled.
    pub sleeps: bool,
    /// `/*!…*/` in a text is obeyed.
    pub marks: bool,
}

/// The values that nobody behind a mask may see begin with this.
pub const CANARY: &str = "canary";

const SYNTAX: Error = Error::new("42601", "syntax error");
const ABORTED: Error = Error::new(
    "25P02",
    "current transaction is aborted, commands ignored until end of transaction block",
);
const LOST: Error = Error {
    fatal: true,
    code: "08P01",
    message: "terminating connection because protocol synchronization was lost",
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    pub code: &'static str,
    pub message: &'static str,
    pub fatal: bool,
}

impl Error {
    pub const fn new(code: &'static str, message: &'static str) -> Error {
        Error {
            code,
            message,
            fatal: false,
        }
    }
}

type Done<T = ()> = Result<T, Error>;

/// What a client asks to be run: a simple query, a Bind, an Execute of a cursor that SQL declared, a function call.
#[derive(Clone, Debug)]
pub struct Unit {
    pub what: What,
    /// As the server holds it: of the query, or of the prepared statement that Bind found by its name.
    pub text: Rc<[u8]>,
    /// The whole text that came with it: more than `text` where PREPARE stood before.
    pub source: Rc<[u8]>,
    /// Number of the message, from 0.
    pub message: usize,
    /// How often Execute came for it.
    pub executions: usize,
    /// What of it has been run, by kind, with what EXECUTE and FETCH stand for.
    pub ran: Vec<Kind>,
    /// Texts that EXECUTE has run for it.
    pub stood_for: Vec<Rc<[u8]>>,
    /// Of each part that was completed.
    pub tags: Vec<String>,
    pub error: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Query,
    Bind,
    Cursor,
    Call,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Columns {
    Unnamed,
    N,
    Int4,
    Sleep,
    Email { id: bool },
    Derived,
}

struct Prepared {
    text: Rc<[u8]>,
    /// Of the whole message that it came with: what the server's log shows.
    source: Rc<[u8]>,
    /// `None`: an empty query.
    statement: Option<Rc<Statement>>,
    /// What it was found to return when it was prepared.
    columns: Option<Columns>,
    parameters: usize,
}

type Row = Vec<Option<Vec<u8>>>;

enum Strategy {
    /// Rows are made while they are read.
    Select(Rows),
    /// Runs whole at the first read, and its rows are kept.
    Kept(Option<(Vec<Row>, Tag)>),
    /// Runs once.
    Once,
}

struct Portal {
    text: Rc<[u8]>,
    statement: Option<Rc<Statement>>,
    /// For the log.
    statement_name: Vec<u8>,
    argument: Option<i64>,
    unit: Option<usize>,
    strategy: Strategy,
    columns: Option<Columns>,
    at: usize,
    started: bool,
    done: bool,
    at_end: bool,
    hold: bool,
    /// Made in the transaction that is open.
    fresh: bool,
}

#[derive(Clone, Debug)]
struct Tag {
    words: &'static str,
    count: Option<usize>,
}

impl Tag {
    const fn plain(words: &'static str) -> Tag {
        Tag { words, count: None }
    }

    fn of(words: &'static str, count: usize) -> Tag {
        Tag {
            words,
            count: Some(count),
        }
    }

    fn text(&self) -> String {
        match self.count {
            Some(count) => format!("{} {count}", self.words),
            None => self.words.to_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// No block: what is open, if anything, ends with the message (or with Sync).
    None,
    /// Several statements of one query, or (18) of one pipeline.
    Implicit,
    In,
    Failed,
}

struct Simple {
    text: Rc<[u8]>,
    statements: Vec<Rc<Statement>>,
    at: usize,
    unit: usize,
}

enum Outcome {
    Complete(Tag),
    Suspended,
    Waits(Wait),
}

enum Wait {
    Copy {
        table: Table,
        partial: Vec<u8>,
        rows: usize,
        ended: bool,
    },
    Sleep,
}

/// Who waits: the query in `simple`, or this portal under Execute.
struct Waiting {
    wait: Wait,
    portal: Option<(Vec<u8>, Portal)>,
}

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Processed,
    /// Skipped until Sync, read inside COPY, or ignored.
    Passed,
}

pub struct Server {
    manual: Manual,
    /// What the client gets; whoever drives takes it.
    pub out: Vec<u8>,
    /// Said, and not sent yet: a server sends at ReadyForQuery, at Flush, at an error or notice, and before it waits for
    /// COPY's data.
    pub unsent: Vec<u8>,
    pub units: Vec<Unit>,
    /// As `log_statement = all` writes them, without what stands before.
    pub log: Vec<Vec<u8>>,
    /// Values that are in table `log`.
    pub committed: Vec<i64>,
    pub ended: bool,
    /// Messages so far.
    pub messages: usize,
    /// Called before a text is parsed, bound or run: an error of its own stands for it. For a gate in between.
    pub refuse: Option<Box<Refuse>>,
    /// What is refused or cannot be read leaves the unnamed statement alone: a gate answers it before it comes here.
    pub keeps_unnamed: bool,
    prepared: BTreeMap<Vec<u8>, Rc<Prepared>>,
    portals: BTreeMap<Vec<u8>, Portal>,
    simple: Option<Simple>,
    waiting: Option<Waiting>,
    skipping: bool,
    block: Block,
    open: bool,
    pipelined: bool,
    /// A transaction is open that the server itself has lost sight of.
    stuck: bool,
    inserted: Vec<i64>,
    fails_at_commit: Option<&'static str>,
    settings: Vec<(&'static str, &'static str)>,
    /// What `standard_conforming_strings = off` is now, was at the last commit, and was when the client was last told.
    strings_off: bool,
    strings_off_committed: bool,
    strings_off_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Query,
    Parse,
    Bind,
    Cursor,
    Call,
}

/// The moment, the text, the worst kind of what would run.
pub type Refuse = dyn FnMut(Moment, &[u8], Kind) -> Option<Error>;

/// Names of the wire are cut by bytes: the key of the server's table has so many.
fn wire_key(name: &[u8]) -> Vec<u8> {
    name.get(..NAME_BYTES_MAX).unwrap_or(name).to_vec()
}

impl Rows {
    fn columns(&self) -> Columns {
        match self {
            Rows::Constant(_) | Rows::Divide { .. } => Columns::Unnamed,
            Rows::Derived => Columns::Derived,
            Rows::Series { .. } => Columns::N,
            Rows::Parameter => Columns::Int4,
            Rows::Sleep => Columns::Sleep,
            Rows::Customers { id } => Columns::Email { id: *id },
        }
    }

    /// Row `at`, from 0.
    fn row(&self, at: usize, argument: Option<i64>) -> Option<Done<Row>> {
        let n = at as u64 + 1;
        let one = |text: String| Some(Ok(vec![Some(text.into_bytes())]));
        match self {
            Rows::Constant(text) if at == 0 => one(text.clone()),
            Rows::Series { to } if n <= *to => one(n.to_string()),
            Rows::Divide { at: bad, to } if n <= *to => {
                if n == *bad {
                    return Some(Err(Error::new("22012", "division by zero")));
                }
                one((10 / (i64::try_from(n).ok()? - i64::try_from(*bad).ok()?)).to_string())
            }
            Rows::Parameter if at == 0 => Some(Ok(vec![argument.map(|n| n.to_string().into_bytes())])),
            Rows::Sleep if at == 0 => one(String::new()),
            Rows::Customers { id } if at < 2 => {
                let email = Some(format!("{CANARY}{n}@example.org").into_bytes());
                Some(Ok(if *id {
                    vec![Some(n.to_string().into_bytes()), email]
                } else {
                    vec![email]
                }))
            }
            Rows::Derived if at < 2 => one(format!("{CANARY}{n}@example.org")),
            _ => None,
        }
    }
}

impl Server {
    pub fn new(manual: Manual) -> Server {
        Server {
            manual,
            out: Vec::new(),
            unsent: Vec::new(),
            units: Vec::new(),
            log: Vec::new(),
            committed: Vec::new(),
            ended: false,
            messages: 0,
            refuse: None,
            keeps_unnamed: false,
            prepared: BTreeMap::new(),
            portals: BTreeMap::new(),
            simple: None,
            waiting: None,
            skipping: false,
            block: Block::None,
            open: false,
            pipelined: false,
            stuck: false,
            inserted: Vec::new(),
            fails_at_commit: None,
            settings: Vec::new(),
            strings_off: false,
            strings_off_committed: false,
            strings_off_told: false,
        }
    }

    /// What follows a client's startup packet, where nobody is asked for a password.
    pub fn greet(&mut self, pid: u32, key: &[u8]) {
        put(&mut self.unsent, b'R', |o| {
            o.extend_from_slice(&0u32.to_be_bytes())
        });
        for (name, text) in [
            (
                "server_version",
                if self.manual.pipeline_is_block {
                    "18.0"
                } else {
                    "15.0"
                },
            ),
            ("server_encoding", "UTF8"),
            ("client_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
            ("integer_datetimes", "on"),
            ("DateStyle", "ISO, MDY"),
            ("IntervalStyle", "postgres"),
            ("TimeZone", "UTC"),
            ("is_superuser", "off"),
            ("session_authorization", "app"),
            ("default_transaction_read_only", "off"),
            ("in_hot_standby", "off"),
            ("application_name", ""),
        ] {
            self.status_of(name, text);
        }
        put(&mut self.unsent, b'K', |o| {
            o.extend_from_slice(&pid.to_be_bytes());
            o.extend_from_slice(key);
        });
        self.ready();
    }

    /// A statement sleeps: nothing more is read until it wakes, or is cancelled.
    pub fn sleeps(&self) -> bool {
        matches!(
            &self.waiting,
            Some(Waiting {
                wait: Wait::Sleep,
                ..
            })
        )
    }

    pub fn copies_in(&self) -> bool {
        matches!(
            &self.waiting,
            Some(Waiting {
                wait: Wait::Copy { .. },
                ..
            })
        )
    }

    /// Every message was answered with ReadyForQuery at its end: the client has nothing to wait for.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_none() && !self.skipping && !self.open
    }

    /// Whether an error has been answered and Sync is awaited.
    pub fn skips(&self) -> bool {
        self.skipping
    }

    pub fn status(&self) -> u8 {
        match self.block {
            Block::None => b'I',
            Block::Implicit | Block::In => b'T',
            Block::Failed => b'E',
        }
    }

    // ---- messages

    pub fn message(&mut self, tag: u8, body: &[u8]) -> Fate {
        if self.ended {
            return Fate::Passed;
        }
        self.messages += 1;
        if self.copies_in() {
            return self.copy_message(tag, body);
        }
        let extended = matches!(tag, b'P' | b'B' | b'C' | b'D' | b'E' | b'H');
        if matches!(tag, b'S' | b'X') {
            self.skipping = false;
        } else if !extended && !matches!(tag, b'Q' | b'F' | b'd' | b'c' | b'f') {
            self.report(b'E', "FATAL", "08P01", "invalid frontend message type");
            self.ended = true;
            return Fate::Processed;
        }
        if self.skipping {
            return Fate::Passed;
        }
        let done = match tag {
            b'Q' => self.query(body),
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'E' => self.execute(body),
            b'D' => self.describe(body),
            b'C' => self.close(body),
            b'H' => empty(body).map(|()| self.flush()),
            b'F' => self.call(body),
            b'S' => self.sync(body),
            b'X' => {
                // What was not sent is never sent.
                self.unsent.clear();
                self.ended = true;
                self.abort();
                return Fate::Processed;
            }
            _ => return Fate::Passed,
        };
        if let Err(error) = done {
            self.fail(error, extended);
        }
        Fate::Processed
    }

    /// In COPY from the client: data, its end, Flush and Sync that are ignored; anything else costs the connection.
    fn copy_message(&mut self, tag: u8, body: &[u8]) -> Fate {
        let extended = self.simple.is_none();
        match tag {
            b'H' | b'S' => return Fate::Passed,
            b'd' => {
                if let Err(error) = self.copy_data(body) {
                    self.wake_with(Err(error), extended);
                }
            }
            b'c' => {
                let done = self.copy_end();
                self.wake_with(done, extended);
            }
            b'f' => self.wake_with(Err(Error::new("57014", "COPY from stdin failed")), extended),
            _ => {
                self.report(
                    b'E',
                    "ERROR",
                    "08P01",
                    "unexpected message type during COPY from stdin",
                );
                let unit = self.unit();
                self.units[unit].error = Some("08P01");
                self.report(b'E', "FATAL", LOST.code, LOST.message);
                self.abort();
                self.ended = true;
            }
        }
        Fate::Processed
    }

    fn unit(&self) -> usize {
        match (&self.simple, &self.waiting) {
            (Some(simple), _) => simple.unit,
            (
                None,
                Some(Waiting {
                    portal: Some((_, portal)),
                    ..
                }),
            ) => portal.unit.unwrap_or(0),
            _ => 0,
        }
    }

    fn copy_data(&mut self, data: &[u8]) -> Done {
        let Some(Waiting {
            wait:
                Wait::Copy {
                    table,
                    partial,
                    rows,
                    ended,
                },
            ..
        }) = &mut self.waiting
        else {
            return Ok(());
        };
        partial.extend_from_slice(data);
        while let Some(at) = memchr::memchr(b'\n', partial) {
            let line: Vec<u8> = partial.drain(..=at).collect();
            let line = &line[..at];
            if *ended {
                continue;
            }
            if line == b"\\." {
                *ended = true;
                continue;
            }
            let n = number(line)?;
            *rows += 1;
            if *table == Table::Log {
                self.inserted.push(n);
            }
        }
        Ok(())
    }

    fn copy_end(&mut self) -> Done<Tag> {
        let Some(Waiting {
            wait:
                Wait::Copy {
                    table,
                    partial,
                    rows,
                    ended,
                },
            ..
        }) = &mut self.waiting
        else {
            return Ok(Tag::plain(""));
        };
        if !partial.is_empty() && !*ended && partial.as_slice() != b"\\." {
            let n = number(partial)?;
            *rows += 1;
            if *table == Table::Log {
                self.inserted.push(n);
            }
        }
        Ok(Tag::of("COPY", *rows))
    }

    /// What waited is over: the statement, and what comes behind it, go on.
    fn wake_with(&mut self, done: Done<Tag>, extended: bool) {
        let Some(waiting) = self.waiting.take() else {
            return;
        };
        let done = match (done, waiting.portal) {
            (Ok(tag), Some((key, mut portal))) => {
                portal.done = true;
                self.completed(key, portal, tag)
            }
            (Ok(tag), None) => self.simple_completed(tag).and_then(|()| self.go_on()),
            (Err(error), portal) => {
                if let Some(simple) = &self.simple {
                    let statement = simple.statements.get(simple.at).cloned();
                    let left = self.opened(statement, Vec::new().into(), Vec::new(), None, None);
                    self.portals.insert(Vec::new(), left);
                }
                if let Some(unit) = portal.as_ref().and_then(|p| p.1.unit) {
                    self.units[unit].error = Some(error.code);
                }
                if let Some((key, mut portal)) = portal {
                    portal.done = true;
                    self.portals.insert(key, portal);
                }
                Err(error)
            }
        };
        if let Err(error) = done {
            self.fail(error, extended);
        }
    }

    /// The sleeping statement has slept.
    pub fn wake(&mut self) {
        if self.sleeps() {
            let extended = self.simple.is_none();
            self.row(&[Some(Vec::new())]);
            self.wake_with(Ok(Tag::of("SELECT", 1)), extended);
        }
    }

    /// A cancel request of another connection: it finds a statement that sleeps, or nothing. In COPY it is noticed only
    /// after the next message, which is left out here.
    pub fn cancel(&mut self) -> bool {
        let found = self.sleeps();
        if found {
            let extended = self.simple.is_none();
            self.wake_with(
                Err(Error::new("57014", "canceling statement due to user request")),
                extended,
            );
        }
        found
    }

    // ---- replies

    fn report(&mut self, tag: u8, severity: &str, code: &str, message: &str) {
        put(&mut self.unsent, tag, |o| {
            for (field, text) in [(b'S', severity), (b'V', severity), (b'C', code), (b'M', message)] {
                o.push(field);
                string(o, text.as_bytes());
            }
            o.push(0);
        });
        self.flush();
    }

    /// What was said goes out.
    pub fn flush(&mut self) {
        self.out.append(&mut self.unsent);
    }

    /// A notice that nobody asked for.
    pub fn notice(&mut self, message: &str) {
        self.report(b'N', "NOTICE", "00000", message);
    }

    fn warning(&mut self, code: &str, message: &str) {
        self.report(b'N', "WARNING", code, message);
    }

    pub fn status_of(&mut self, name: &str, text: &str) {
        put(&mut self.unsent, b'S', |o| {
            string(o, name.as_bytes());
            string(o, text.as_bytes());
        });
    }

    fn ready(&mut self) {
        if self.strings_off != self.strings_off_told {
            self.strings_off_told = self.strings_off;
            self.settings.push((
                "standard_conforming_strings",
                if self.strings_off { "off" } else { "on" },
            ));
        }
        for (name, text) in std::mem::take(&mut self.settings) {
            self.status_of(name, text);
        }
        let status = self.status();
        put(&mut self.unsent, b'Z', |o| o.push(status));
        self.flush();
    }

    fn simply(&mut self, tag: u8) {
        put(&mut self.unsent, tag, |_| {});
    }

    fn complete(&mut self, tag: &Tag) {
        let text = tag.text();
        put(&mut self.unsent, b'C', |o| string(o, text.as_bytes()));
    }

    fn row(&mut self, row: &[Option<Vec<u8>>]) {
        put(&mut self.unsent, b'D', |o| {
            short(o, row.len());
            row.iter().for_each(|v| value(o, v.as_deref()));
        });
    }

    fn described(&mut self, columns: Option<Columns>) {
        let Some(columns) = columns else {
            return self.simply(b'n');
        };
        // Name, table, number in the table, type.
        let all: &[(&str, u32, u16, u32)] = match columns {
            Columns::Unnamed => &[("?column?", 0, 0, 23)],
            Columns::N => &[("n", 0, 0, 23)],
            Columns::Int4 => &[("int4", 0, 0, 23)],
            Columns::Sleep => &[("pg_sleep", 0, 0, 2278)],
            Columns::Derived => &[("?column?", 0, 0, 25)],
            Columns::Email { id: false } => &[("email", CUSTOMERS, 2, 25)],
            Columns::Email { id: true } => &[("id", CUSTOMERS, 1, 23), ("email", CUSTOMERS, 2, 25)],
        };
        put(&mut self.unsent, b'T', |o| {
            short(o, all.len());
            for (name, table, number, kind) in all {
                string(o, name.as_bytes());
                o.extend_from_slice(&table.to_be_bytes());
                o.extend_from_slice(&number.to_be_bytes());
                o.extend_from_slice(&kind.to_be_bytes());
                o.extend_from_slice(&(if *kind == 23 { 4u16 } else { u16::MAX }).to_be_bytes());
                o.extend_from_slice(&(-1i32).to_be_bytes());
                o.extend_from_slice(&0u16.to_be_bytes());
            }
        });
    }

    fn fail(&mut self, error: Error, extended: bool) {
        self.report(
            b'E',
            if error.fatal { "FATAL" } else { "ERROR" },
            error.code,
            error.message,
        );
        if let Some(simple) = self.simple.take() {
            self.units[simple.unit].error = Some(error.code);
        }
        self.abort();
        if error.fatal {
            self.ended = true;
        } else if extended {
            self.skipping = true;
        } else {
            self.ready();
        }
    }

    // ---- transactions

    fn start(&mut self) -> Done {
        if self.stuck {
            self.stuck = false;
            return Err(Error::new(
                "XX000",
                "StartTransactionCommand: unexpected state STARTED",
            ));
        }
        if !self.open {
            self.open = true;
        } else if self.manual.pipeline_is_block && self.pipelined && self.block == Block::None {
            self.block = Block::Implicit;
        }
        Ok(())
    }

    /// The end of a message's own transaction; in a block nothing ends.
    fn finish(&mut self) -> Done {
        if !self.open {
            return Ok(());
        }
        self.open = false;
        self.pipelined = false;
        if self.block == Block::None {
            self.commit()
        } else {
            Ok(())
        }
    }

    fn commit(&mut self) -> Done {
        self.block = Block::None;
        if let Some(code) = self.fails_at_commit.take() {
            self.inserted.clear();
            self.drop_portals();
            return Err(Error::new(code, "it fails at commit"));
        }
        self.committed.append(&mut self.inserted);
        self.strings_off_committed = self.strings_off;
        self.portals.retain(|_, portal| portal.hold);
        for portal in self.portals.values_mut() {
            portal.fresh = false;
        }
        Ok(())
    }

    /// What an error ends: the message's own transaction, or the block's life.
    fn abort(&mut self) {
        self.stuck = false;
        self.open = false;
        self.pipelined = false;
        match self.block {
            Block::None | Block::Implicit => self.roll_back(),
            Block::In | Block::Failed => {
                self.strings_off = self.strings_off_committed;
                self.block = Block::Failed;
            }
        }
    }

    fn roll_back(&mut self) {
        self.block = Block::None;
        self.inserted.clear();
        self.fails_at_commit = None;
        self.strings_off = self.strings_off_committed;
        self.drop_portals();
    }

    fn drop_portals(&mut self) {
        self.portals.retain(|_, portal| portal.hold && !portal.fresh);
    }

    // ---- the messages

    fn kind_of(&self, statement: &Statement) -> Kind {
        match &statement.sql {
            Sql::Execute { name, .. } => self
                .prepared
                .get(name)
                .and_then(|p| p.statement.clone())
                .map_or(Kind::Other, |inner| self.kind_of(&inner)),
            Sql::Fetch { name, .. } => self
                .portals
                .get(name)
                .and_then(|p| p.statement.clone())
                .map_or(Kind::Other, |inner| inner.kind()),
            _ => statement.kind(),
        }
    }

    /// What rules can speak of in it, `Other` where there is nothing else.
    fn kinds<'s>(&self, statements: impl Iterator<Item = &'s Rc<Statement>>) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = statements
            .map(|s| self.kind_of(s))
            .filter(|kind| *kind != Kind::Other)
            .collect();
        if kinds.is_empty() {
            kinds.push(Kind::Other);
        }
        kinds
    }

    fn refused(&mut self, moment: Moment, text: &[u8], kinds: &[Kind]) -> Done {
        match &mut self.refuse {
            Some(refuse) => kinds
                .iter()
                .find_map(|kind| refuse(moment, text, *kind))
                .map_or(Ok(()), Err),
            None => Ok(()),
        }
    }

    fn read(&mut self, text: &[u8]) -> Done<Vec<Rc<Statement>>> {
        let parsed = sql::parse(text).map_err(|()| SYNTAX)?;
        for _ in 0..parsed.cut {
            self.report(b'N', "NOTICE", "42622", "identifier will be truncated");
        }
        let marks = self.manual.marks;
        let keep = |mut statement: Statement| {
            if !marks {
                (statement.fails, statement.notice, statement.status) = (None, false, false);
            }
            Rc::new(statement)
        };
        Ok(parsed.statements.into_iter().map(keep).collect())
    }

    fn begin(&mut self, what: What, text: Rc<[u8]>, source: Rc<[u8]>) {
        let message = self.messages - 1;
        self.units.push(Unit {
            what,
            text,
            source,
            message,
            executions: 0,
            ran: Vec::new(),
            stood_for: Vec::new(),
            tags: Vec::new(),
            error: None,
        });
    }

    fn query(&mut self, body: &[u8]) -> Done {
        let text = only_string(body)?;
        let text: Rc<[u8]> = text.into();
        let unit = self.units.len();
        self.begin(What::Query, text.clone(), text.clone());
        self.simple = Some(Simple {
            text: text.clone(),
            statements: Vec::new(),
            at: 0,
            unit,
        });
        self.start()?;
        let statements = self.read(&text);
        let kinds = statements
            .as_ref()
            .map_or(vec![Kind::Other], |s| self.kinds(s.iter()));
        // What a gate refused, or could not read, may not have come here, and drops nothing then.
        if !self.keeps_unnamed {
            self.prepared.remove(&b""[..]);
        }
        self.refused(Moment::Query, &text, &kinds)?;
        if !self.keeps_unnamed || statements.is_ok() {
            self.prepared.remove(&b""[..]);
        }
        let statements = statements?;
        self.log.push([b"statement: ", &text[..]].concat());
        if statements.is_empty() {
            self.simple = None;
            self.finish()?;
            self.simply(b'I');
            self.ready();
            return Ok(());
        }
        self.simple = Some(Simple {
            text,
            statements,
            at: 0,
            unit,
        });
        self.go_on()
    }

    /// The statements of a simple query, up to its end or until one waits.
    fn go_on(&mut self) -> Done {
        loop {
            let Some(simple) = &self.simple else { return Ok(()) };
            let (unit, text) = (simple.unit, simple.text.clone());
            let Some(statement) = simple.statements.get(simple.at).cloned() else {
                self.simple = None;
                self.ready();
                return Ok(());
            };
            let several = simple.statements.len() > 1;
            if self.block == Block::Failed && !statement.sql.ends_transaction() {
                return Err(ABORTED);
            }
            self.start()?;
            if several && self.block == Block::None {
                self.block = Block::Implicit;
            }
            analysed(&statement)?;
            if statement.fails == Some(Stage::Bind) {
                return Err(Error::new("XX001", "it was told to fail at bind"));
            }
            self.portals.remove(&b""[..]);
            let mut portal = self.opened(Some(statement), text, Vec::new(), None, Some(unit));
            let outcome = match self.run(&mut portal, 0, true) {
                Ok(outcome) => outcome,
                Err(error) => {
                    // In a block the portal is still there, for what can only fail.
                    // Its text went with the query.
                    (portal.at, portal.text, portal.unit) = (0, Vec::new().into(), None);
                    self.portals.insert(Vec::new(), portal);
                    return Err(error);
                }
            };
            match outcome {
                Outcome::Complete(tag) => self.simple_completed(tag)?,
                Outcome::Suspended => {}
                Outcome::Waits(wait) => {
                    self.waiting = Some(Waiting { wait, portal: None });
                    return Ok(());
                }
            }
        }
    }

    fn simple_completed(&mut self, tag: Tag) -> Done {
        let Some(simple) = &mut self.simple else {
            return Ok(());
        };
        let unit = simple.unit;
        let transaction = simple
            .statements
            .get(simple.at)
            .is_some_and(|s| s.sql.is_transaction());
        simple.at += 1;
        let (last, several) = (simple.at == simple.statements.len(), simple.statements.len() > 1);
        if last {
            if several && self.block == Block::Implicit {
                self.block = Block::None;
            }
            self.finish()?;
        } else if transaction {
            self.finish()?;
        }
        self.units[unit].tags.push(tag.text());
        self.complete(&tag);
        Ok(())
    }

    fn parse(&mut self, body: &[u8]) -> Done {
        let mut fields = Fields(body);
        let name = fields.string().ok_or(INVALID_STRING)?;
        let text = fields.string().ok_or(INVALID_STRING)?;
        for _ in 0..fields.short().ok_or(SHORT)? {
            fields.long().ok_or(SHORT)?;
        }
        end_of(&fields)?;
        self.start()?;
        let statements = self.read(text);
        let kinds = statements
            .as_ref()
            .map_or(vec![Kind::Other], |s| self.kinds(s.iter()));
        if name.is_empty() && !self.keeps_unnamed {
            self.prepared.remove(&b""[..]);
        }
        self.refused(Moment::Parse, text, &kinds)?;
        if name.is_empty() && (!self.keeps_unnamed || statements.is_ok()) {
            self.prepared.remove(&b""[..]);
        }
        let statements = statements?;
        if statements.len() > 1 {
            return Err(Error::new(
                "42601",
                "cannot insert multiple commands into a prepared statement",
            ));
        }
        let statement = statements.into_iter().next();
        if let Some(statement) = &statement {
            if self.block == Block::Failed && !statement.sql.ends_transaction() {
                return Err(ABORTED);
            }
            analysed(statement)?;
        }
        let key = wire_key(name);
        if !key.is_empty() && self.prepared.contains_key(&key) {
            return Err(Error::new("42P05", "prepared statement already exists"));
        }
        let text: Rc<[u8]> = text.into();
        self.prepare(key, text.clone(), text, statement);
        self.simply(b'1');
        Ok(())
    }

    fn prepare(&mut self, key: Vec<u8>, text: Rc<[u8]>, source: Rc<[u8]>, statement: Option<Rc<Statement>>) {
        let columns = statement.as_ref().and_then(|s| self.columns_of(&s.sql));
        let parameters = statement.as_ref().map_or(0, |s| s.sql.parameters());
        self.prepared.insert(
            key,
            Rc::new(Prepared {
                text,
                source,
                statement,
                columns,
                parameters,
            }),
        );
    }

    /// What it returns, as far as can be said now.
    fn columns_of(&self, sql: &Sql) -> Option<Columns> {
        match sql {
            Sql::Select(rows) => Some(rows.columns()),
            Sql::Insert { returning: true, .. } => Some(Columns::N),
            Sql::Execute { name, .. } => self.prepared.get(name).and_then(|p| p.columns),
            Sql::Fetch { name, .. } => self.portals.get(name).and_then(|p| p.columns),
            _ => None,
        }
    }

    fn bind(&mut self, body: &[u8]) -> Done {
        let mut fields = Fields(body);
        let name = fields.string().ok_or(INVALID_STRING)?;
        let statement_name = fields.string().ok_or(INVALID_STRING)?;
        let Some(prepared) = self.prepared.get(&wire_key(statement_name)).cloned() else {
            return Err(Error::new("26000", "prepared statement does not exist"));
        };
        self.start()?;
        let kinds = self.kinds(prepared.statement.iter());
        self.refused(Moment::Bind, &prepared.source, &kinds)?;
        let formats = fields.short().ok_or(SHORT)?;
        for _ in 0..formats {
            fields.short().ok_or(SHORT)?;
        }
        let count = fields.short().ok_or(SHORT)?;
        if formats > 1 && formats != count {
            return Err(Error::new(
                "08P01",
                "bind message has more formats than parameters",
            ));
        }
        if count != prepared.parameters {
            return Err(Error::new(
                "08P01",
                "bind message supplies another number of parameters",
            ));
        }
        let unit = self.units.len();
        self.begin(What::Bind, prepared.text.clone(), prepared.source.clone());
        let done = self.bind_prepared(name, statement_name, &prepared, fields, count, unit);
        if let Err(error) = done {
            self.units[unit].error = Some(error.code);
        }
        done
    }

    fn bind_prepared(
        &mut self,
        name: &[u8],
        statement_name: &[u8],
        prepared: &Rc<Prepared>,
        mut fields: Fields<'_>,
        count: usize,
        unit: usize,
    ) -> Done {
        if self.block == Block::Failed {
            let ends = prepared
                .statement
                .as_ref()
                .is_some_and(|s| s.sql.ends_transaction());
            if !ends || count > 0 {
                return Err(ABORTED);
            }
        }
        let key = wire_key(name);
        if key.is_empty() {
            self.portals.remove(&key);
        } else if self.portals.contains_key(&key) {
            return Err(Error::new("42P03", "cursor already exists"));
        }
        // It is there even when its parameters are wrong.
        let portal = self.opened(
            None,
            prepared.source.clone(),
            statement_name.to_vec(),
            None,
            Some(unit),
        );
        self.portals.insert(key.clone(), portal);
        let mut argument = None;
        for _ in 0..count {
            argument = match fields.value().ok_or(SHORT)? {
                Some(text) => Some(number(text)?),
                None => None,
            };
        }
        for _ in 0..fields.short().ok_or(SHORT)? {
            fields.short().ok_or(SHORT)?;
        }
        end_of(&fields)?;
        if prepared
            .statement
            .as_ref()
            .is_some_and(|s| s.fails == Some(Stage::Bind))
        {
            return Err(Error::new("XX001", "it was told to fail at bind"));
        }
        let portal = self.opened(
            prepared.statement.clone(),
            prepared.source.clone(),
            statement_name.to_vec(),
            argument,
            Some(unit),
        );
        self.portals.insert(key, portal);
        self.simply(b'2');
        Ok(())
    }

    fn opened(
        &self,
        statement: Option<Rc<Statement>>,
        text: Rc<[u8]>,
        statement_name: Vec<u8>,
        argument: Option<i64>,
        unit: Option<usize>,
    ) -> Portal {
        let columns = statement.as_ref().and_then(|s| self.columns_of(&s.sql));
        let strategy = match statement.as_ref().map(|s| &s.sql) {
            Some(Sql::Select(rows)) => Strategy::Select(rows.clone()),
            Some(_) if columns.is_some() => Strategy::Kept(None),
            _ => Strategy::Once,
        };
        Portal {
            text,
            statement,
            statement_name,
            argument,
            unit,
            strategy,
            columns,
            at: 0,
            started: false,
            done: false,
            at_end: false,
            hold: false,
            fresh: true,
        }
    }

    fn describe(&mut self, body: &[u8]) -> Done {
        let mut fields = Fields(body);
        let kind = fields.byte().ok_or(SHORT)?;
        let name = fields.string().ok_or(INVALID_STRING)?;
        end_of(&fields)?;
        let told = |statement: &Option<Rc<Statement>>| match statement {
            Some(statement) if statement.fails == Some(Stage::Describe) => {
                Err(Error::new("XX001", "it was told to fail at describe"))
            }
            _ => Ok(()),
        };
        match kind {
            b'S' => {
                self.start()?;
                let Some(prepared) = self.prepared.get(&wire_key(name)).cloned() else {
                    return Err(Error::new("26000", "prepared statement does not exist"));
                };
                if self.block == Block::Failed && prepared.columns.is_some() {
                    return Err(ABORTED);
                }
                told(&prepared.statement)?;
                put(&mut self.unsent, b't', |o| {
                    short(o, prepared.parameters);
                    for _ in 0..prepared.parameters {
                        o.extend_from_slice(&23u32.to_be_bytes());
                    }
                });
                self.described(prepared.columns);
                Ok(())
            }
            b'P' => {
                self.start()?;
                let Some(portal) = self.portals.get(&wire_key(name)) else {
                    return Err(Error::new("34000", "portal does not exist"));
                };
                let columns = portal.columns;
                if self.block == Block::Failed && columns.is_some() {
                    return Err(ABORTED);
                }
                told(&portal.statement)?;
                self.described(columns);
                Ok(())
            }
            _ => Err(Error::new("08P01", "invalid DESCRIBE message subtype")),
        }
    }

    fn close(&mut self, body: &[u8]) -> Done {
        let mut fields = Fields(body);
        let kind = fields.byte().ok_or(SHORT)?;
        let name = fields.string().ok_or(INVALID_STRING)?;
        end_of(&fields)?;
        match kind {
            b'S' => drop(self.prepared.remove(&wire_key(name))),
            b'P' => drop(self.portals.remove(&wire_key(name))),
            _ => return Err(Error::new("08P01", "invalid CLOSE message subtype")),
        }
        self.simply(b'3');
        Ok(())
    }

    fn execute(&mut self, body: &[u8]) -> Done {
        let mut fields = Fields(body);
        let name = fields.string().ok_or(INVALID_STRING)?;
        let max = fields.long().ok_or(SHORT)?;
        end_of(&fields)?;
        let max = if i32::try_from(max).is_ok() {
            max as usize
        } else {
            0
        };
        let key = wire_key(name);
        let Some(portal) = self.portals.get(&key) else {
            return Err(Error::new("34000", "portal does not exist"));
        };
        let (text, named) = (portal.text.clone(), portal.statement.clone());
        let unit = match portal.unit {
            Some(unit) => unit,
            None => {
                self.begin(What::Cursor, text.clone(), text.clone());
                let kinds = self.kinds(named.iter());
                let unit = self.units.len() - 1;
                if let Err(error) = self.refused(Moment::Cursor, &text, &kinds) {
                    self.units[unit].error = Some(error.code);
                    return Err(error);
                }
                unit
            }
        };
        self.units[unit].executions += 1;
        let done = self.execute_portal(name, key, max, unit);
        if let Err(error) = done {
            self.units[unit].error = Some(error.code);
        }
        done
    }

    fn execute_portal(&mut self, name: &[u8], key: Vec<u8>, max: usize, unit: usize) -> Done {
        let Some(portal) = self.portals.get(&key) else {
            return Ok(());
        };
        let Some(statement) = portal.statement.clone() else {
            // Of no statement, or its Bind failed at a parameter: either way nothing is there to run.
            self.simply(b'I');
            return Ok(());
        };
        self.start()?;
        let Some(portal) = self.portals.get(&key) else {
            return Ok(());
        };
        let mut line = if portal.at > 0 {
            b"execute fetch from ".to_vec()
        } else {
            b"execute ".to_vec()
        };
        let shown = if portal.statement_name.is_empty() {
            &b"<unnamed>"[..]
        } else {
            &portal.statement_name
        };
        line.extend_from_slice(shown);
        if !name.is_empty() {
            line.push(b'/');
            line.extend_from_slice(name);
        }
        line.extend_from_slice(b": ");
        line.extend_from_slice(&portal.text);
        self.log.push(line);
        if self.block == Block::Failed && !statement.sql.ends_transaction() {
            return Err(ABORTED);
        }
        // It is not in its own way while it runs.
        let Some(mut portal) = self.portals.remove(&key) else {
            return Ok(());
        };
        let own = std::mem::replace(&mut portal.unit, Some(unit));
        let before = portal.at;
        let outcome = self.run(&mut portal, max, false);
        match outcome {
            Ok(Outcome::Complete(tag)) => {
                portal.unit = own;
                self.completed_as(key, portal, tag, unit)
            }
            Ok(Outcome::Suspended) => {
                portal.unit = own;
                self.portals.insert(key, portal);
                self.pipelined = true;
                self.simply(b's');
                Ok(())
            }
            Ok(Outcome::Waits(wait)) => {
                self.waiting = Some(Waiting {
                    wait,
                    portal: Some((key, portal)),
                });
                Ok(())
            }
            Err(error) => {
                portal.unit = own;
                portal.done = true;
                portal.at = before;
                self.portals.insert(key, portal);
                Err(error)
            }
        }
    }

    fn completed(&mut self, key: Vec<u8>, portal: Portal, tag: Tag) -> Done {
        let unit = portal.unit.unwrap_or(0);
        let done = self.completed_as(key, portal, tag, unit);
        if let Err(error) = done {
            self.units[unit].error = Some(error.code);
        }
        done
    }

    fn completed_as(&mut self, key: Vec<u8>, portal: Portal, tag: Tag, unit: usize) -> Done {
        let ends = portal
            .statement
            .as_ref()
            .is_some_and(|s| s.sql.is_transaction() || s.sql == Sql::DiscardAll);
        self.portals.insert(key, portal);
        if ends {
            self.finish()?;
        } else {
            self.pipelined = true;
        }
        self.units[unit].tags.push(tag.text());
        self.complete(&tag);
        Ok(())
    }

    fn call(&mut self, body: &[u8]) -> Done {
        self.start()?;
        let mut fields = Fields(body);
        let function = fields.long().ok_or(SHORT)?;
        let unit = self.units.len();
        let name: Rc<[u8]> = function.to_string().into_bytes().into();
        self.begin(What::Call, name.clone(), name);
        let done = self.called(function, fields);
        match done {
            Err(error) => self.units[unit].error = Some(error.code),
            Ok(()) => self.units[unit].ran.push(Kind::Other),
        }
        done?;
        self.finish()?;
        self.ready();
        Ok(())
    }

    fn called(&mut self, function: u32, mut fields: Fields<'_>) -> Done {
        let refused = self.refused(Moment::Call, b"", &[Kind::Other]);
        if refused.is_err() && !self.keeps_unnamed {
            // A gate may have sent a query that fails in its place.
            self.prepared.remove(&b""[..]);
        }
        refused?;
        if self.block == Block::Failed {
            return Err(ABORTED);
        }
        if function != INT4PL {
            return Err(Error::new("42883", "function does not exist"));
        }
        for _ in 0..fields.short().ok_or(SHORT)? {
            fields.short().ok_or(SHORT)?;
        }
        if fields.short().ok_or(SHORT)? != 2 {
            return Err(Error::new(
                "08P01",
                "function call message contains another number of arguments",
            ));
        }
        let mut sum = 0;
        for _ in 0..2 {
            sum += number(fields.value().ok_or(SHORT)?.unwrap_or(b"0"))?;
        }
        fields.short().ok_or(SHORT)?;
        put(&mut self.unsent, b'V', |o| {
            value(o, Some(sum.to_string().as_bytes()))
        });
        Ok(())
    }

    fn sync(&mut self, body: &[u8]) -> Done {
        empty(body)?;
        if self.block == Block::Implicit {
            self.block = Block::None;
            // Seen in 18: where a query or a function call stood last in the pipeline's block, Sync ends the block and not its
            // transaction. What follows fails, and nothing of the pipeline is kept.
            self.stuck = !self.open;
        }
        self.finish()?;
        self.ready();
        Ok(())
    }

    // ---- statements

    /// Runs a portal: of a simple query (`simple`: with a description of its rows) or by Execute.
    fn run(&mut self, portal: &mut Portal, max: usize, simple: bool) -> Done<Outcome> {
        let Some(statement) = portal.statement.clone() else {
            return Ok(Outcome::Complete(Tag::plain("")));
        };
        let unit = portal.unit;
        let first = !portal.started;
        portal.started = true;
        if first {
            self.note_run(unit, &statement)?;
        }
        let argument = portal.argument;
        match &mut portal.strategy {
            Strategy::Once => {
                if portal.done {
                    return Err(Error::new("55000", "portal cannot be run"));
                }
                portal.done = true;
                let outcome = self.utility(&statement.sql, argument, unit)?;
                Ok(match outcome {
                    Utility::Done(tag, rows) => {
                        // Rows that were not expected when the portal was made are for a simple query alone.
                        if simple && !rows.is_empty() {
                            self.described(Some(Columns::Unnamed));
                            rows.iter().for_each(|row| self.row(row));
                        }
                        Outcome::Complete(tag)
                    }
                    Utility::Waits(wait) => Outcome::Waits(wait),
                })
            }
            Strategy::Kept(kept) => {
                if kept.is_none() {
                    let (tag, rows) = match self.utility(&statement.sql, argument, unit)? {
                        Utility::Done(tag, rows) => (tag, rows),
                        Utility::Waits(_) => (Tag::of("COPY", 0), Vec::new()),
                    };
                    *kept = Some((rows, tag));
                }
                let Some((rows, tag)) = kept else {
                    return Ok(Outcome::Suspended);
                };
                let columns = portal.columns;
                if simple {
                    self.described(columns);
                }
                let mut sent = 0;
                while let Some(row) = rows.get(portal.at).filter(|_| max == 0 || sent < max) {
                    self.row(row);
                    portal.at += 1;
                    sent += 1;
                }
                if max > 0 && sent == max {
                    return Ok(Outcome::Suspended);
                }
                Ok(Outcome::Complete(Tag {
                    words: tag.words,
                    count: tag.count.map(|_| sent),
                }))
            }
            Strategy::Select(rows) => {
                let rows = rows.clone();
                if simple {
                    self.described(portal.columns);
                }
                if rows == Rows::Sleep && self.manual.sleeps && portal.at == 0 {
                    portal.at = 1;
                    portal.at_end = true;
                    return Ok(Outcome::Waits(Wait::Sleep));
                }
                let mut sent = 0;
                while !portal.at_end && (max == 0 || sent < max) {
                    match rows.row(portal.at, argument) {
                        Some(row) => {
                            let row = row?;
                            self.row(&row);
                            portal.at += 1;
                            sent += 1;
                        }
                        None => portal.at_end = true,
                    }
                }
                if max > 0 && sent == max {
                    return Ok(Outcome::Suspended);
                }
                portal.at_end = true;
                Ok(Outcome::Complete(Tag::of("SELECT", sent)))
            }
        }
    }

    /// A statement begins to run.
    fn note_run(&mut self, unit: Option<usize>, statement: &Statement) -> Done {
        if statement.notice {
            self.notice("it was told to say something");
        }
        if statement.status {
            self.settings.push(("TimeZone", "Europe/Berlin"));
        }
        if statement.fails == Some(Stage::Commit) {
            self.fails_at_commit = Some("XX002");
        }
        if statement.fails == Some(Stage::Execute) {
            return Err(Error::new("XX001", "it was told to fail"));
        }
        self.ran(unit, statement.sql.kind());
        Ok(())
    }

    fn ran(&mut self, unit: Option<usize>, kind: Kind) {
        if let Some(unit) = unit.and_then(|n| self.units.get_mut(n)) {
            unit.ran.push(kind);
        }
    }

    fn utility(&mut self, sql: &Sql, argument: Option<i64>, unit: Option<usize>) -> Done<Utility> {
        let done = |words| Ok(Utility::Done(Tag::plain(words), Vec::new()));
        match sql {
            Sql::Select(rows) => {
                let rows = all_rows(rows, argument)?;
                Ok(Utility::Done(Tag::of("SELECT", rows.len()), rows))
            }
            Sql::Insert {
                table,
                values,
                returning,
            } => {
                let mut rows = Vec::new();
                let numbers: Vec<Option<i64>> = values
                    .iter()
                    .map(|v| if let Number::Is(n) = v { Some(*n) } else { argument })
                    .collect();
                match table {
                    Table::Log => self.inserted.extend(numbers.iter().flatten()),
                    Table::Late => {
                        let mut seen = numbers.iter().flatten().collect::<Vec<_>>();
                        seen.sort_unstable();
                        if seen.windows(2).any(|w| w[0] == w[1]) {
                            self.fails_at_commit = Some("23505");
                        }
                    }
                    Table::T => {}
                }
                if *returning {
                    rows = numbers
                        .iter()
                        .map(|n| vec![n.map(|n| n.to_string().into_bytes())])
                        .collect();
                }
                Ok(Utility::Done(Tag::of("INSERT 0", values.len()), rows))
            }
            Sql::Update => Ok(Utility::Done(Tag::of("UPDATE", 0), Vec::new())),
            Sql::Delete => Ok(Utility::Done(Tag::of("DELETE", 0), Vec::new())),
            Sql::SettingByView => {
                self.strings_off = true;
                Ok(Utility::Done(
                    Tag::of("UPDATE", 0),
                    vec![vec![Some(b"off".to_vec())]],
                ))
            }
            Sql::Missing(code) => Err(Error::new(code, "it does not exist")),
            Sql::Begin => {
                if self.block == Block::In {
                    self.warning("25001", "there is already a transaction in progress");
                }
                self.block = Block::In;
                done("BEGIN")
            }
            Sql::Commit => match self.block {
                Block::Failed => {
                    self.roll_back();
                    done("ROLLBACK")
                }
                block => {
                    if block != Block::In {
                        self.warning("25P01", "there is no transaction in progress");
                    }
                    // It ends when the statement has: an error of the commit stands in its place.
                    self.block = Block::None;
                    done("COMMIT")
                }
            },
            Sql::Rollback => {
                if matches!(self.block, Block::None | Block::Implicit) {
                    self.warning("25P01", "there is no transaction in progress");
                }
                self.roll_back();
                done("ROLLBACK")
            }
            Sql::CopyIn(table) => {
                put(&mut self.unsent, b'G', |o| {
                    o.push(0);
                    short(o, 1);
                    short(o, 0);
                });
                self.flush();
                Ok(Utility::Waits(Wait::Copy {
                    table: table.clone(),
                    partial: Vec::new(),
                    rows: 0,
                    ended: false,
                }))
            }
            Sql::CopyOut(rows) => {
                put(&mut self.unsent, b'H', |o| {
                    o.push(0);
                    short(
                        o,
                        if matches!(rows, Rows::Customers { id: true }) {
                            2
                        } else {
                            1
                        },
                    );
                    short(o, 0);
                    if matches!(rows, Rows::Customers { id: true }) {
                        short(o, 0);
                    }
                });
                let mut n = 0;
                while let Some(row) = rows.row(n, None) {
                    let row = row?;
                    put(&mut self.unsent, b'd', |o| {
                        for (at, field) in row.iter().enumerate() {
                            if at > 0 {
                                o.push(b'\t');
                            }
                            o.extend_from_slice(field.as_deref().unwrap_or(b"\\N"));
                        }
                        o.push(b'\n');
                    });
                    n += 1;
                }
                self.simply(b'c');
                Ok(Utility::Done(Tag::of("COPY", n), Vec::new()))
            }
            Sql::Prepare {
                name,
                statement,
                text,
            } => {
                if let Sql::Missing(code) = **statement {
                    return Err(Error::new(code, "it does not exist"));
                }
                if self.prepared.contains_key(name) {
                    return Err(Error::new("42P05", "prepared statement already exists"));
                }
                let inner = Statement {
                    sql: (**statement).clone(),
                    fails: None,
                    notice: false,
                    status: false,
                };
                let source = self.source(unit);
                self.prepare(name.clone(), text.as_slice().into(), source, Some(Rc::new(inner)));
                done("PREPARE")
            }
            Sql::Execute { name, arguments } => {
                let Some(prepared) = self.prepared.get(name).cloned() else {
                    return Err(Error::new("26000", "prepared statement does not exist"));
                };
                // Where none is taken nobody counts.
                if prepared.parameters > 0 && prepared.parameters != arguments.len() {
                    return Err(Error::new("42601", "wrong number of parameters"));
                }
                let Some(statement) = prepared.statement.clone() else {
                    return done("");
                };
                if let Some(unit) = unit.and_then(|n| self.units.get_mut(n)) {
                    unit.stood_for.push(prepared.text.clone());
                }
                self.note_run(unit, &statement)?;
                self.utility(&statement.sql, arguments.first().copied(), unit)
            }
            Sql::Deallocate(None) => {
                self.prepared.retain(|name, _| name.is_empty());
                done("DEALLOCATE ALL")
            }
            Sql::Deallocate(Some(name)) => match self.prepared.remove(name) {
                Some(_) => done("DEALLOCATE"),
                None => Err(Error::new("26000", "prepared statement does not exist")),
            },
            Sql::Declare { name, hold, rows } => {
                if !hold && self.block == Block::None {
                    return Err(Error::new(
                        "25P01",
                        "DECLARE CURSOR can only be used in transaction blocks",
                    ));
                }
                if self.portals.contains_key(name) {
                    return Err(Error::new("42P03", "cursor already exists"));
                }
                let statement = Statement {
                    sql: Sql::Select(rows.clone()),
                    fails: None,
                    notice: false,
                    status: false,
                };
                let text = self.source(unit);
                let mut portal = self.opened(Some(Rc::new(statement)), text, Vec::new(), None, None);
                portal.hold = *hold;
                self.portals.insert(name.clone(), portal);
                done("DECLARE CURSOR")
            }
            Sql::Fetch { name, count } => {
                let Some(mut portal) = self.portals.remove(name) else {
                    return Err(Error::new("34000", "cursor does not exist"));
                };
                let fetched = self.fetch(&mut portal, count, unit);
                self.portals.insert(name.clone(), portal);
                let rows = fetched?;
                Ok(Utility::Done(Tag::of("FETCH", rows.len()), rows))
            }
            Sql::Close(None) => {
                self.portals.clear();
                done("CLOSE CURSOR ALL")
            }
            Sql::Close(Some(name)) => match self.portals.remove(name) {
                Some(_) => done("CLOSE CURSOR"),
                None => Err(Error::new("34000", "cursor does not exist")),
            },
            Sql::DiscardAll => {
                if self.block != Block::None || self.pipelined {
                    return Err(Error::new(
                        "25001",
                        "DISCARD ALL cannot run inside a transaction block",
                    ));
                }
                self.portals.clear();
                self.prepared.retain(|name, _| name.is_empty());
                done("DISCARD ALL")
            }
        }
    }

    /// The text of the message that runs.
    fn source(&self, unit: Option<usize>) -> Rc<[u8]> {
        unit.and_then(|n| self.units.get(n))
            .map_or_else(|| (&b""[..]).into(), |u| u.text.clone())
    }

    fn fetch(&mut self, portal: &mut Portal, count: &Count, unit: Option<usize>) -> Done<Vec<Row>> {
        let Some(statement) = portal.statement.clone() else {
            return Ok(Vec::new());
        };
        if !portal.started {
            portal.started = true;
            self.note_run(unit, &statement)?;
        }
        let argument = portal.argument;
        let max = match count {
            Count::All => usize::MAX,
            Count::Rows(n) => usize::try_from(*n).unwrap_or(usize::MAX),
        };
        let mut got = Vec::new();
        match &mut portal.strategy {
            Strategy::Select(rows) => {
                while !portal.at_end && got.len() < max {
                    match rows.row(portal.at, argument) {
                        Some(row) => got.push(row?),
                        None => {
                            portal.at_end = true;
                            break;
                        }
                    }
                    portal.at += 1;
                }
            }
            Strategy::Kept(kept) => {
                if kept.is_none() {
                    if let Utility::Done(tag, rows) = self.utility(&statement.sql, argument, unit)? {
                        *kept = Some((rows, tag));
                    }
                }
                let rows = kept.as_ref().map_or(&[][..], |k| &k.0[..]);
                got = rows.iter().skip(portal.at).take(max).cloned().collect();
                portal.at += got.len();
            }
            Strategy::Once => return Err(Error::new("XX000", "unsupported portal strategy")),
        }
        Ok(got)
    }
}

enum Utility {
    Done(Tag, Vec<Row>),
    Waits(Wait),
}

/// Table `customers` of a simulated database.
pub const CUSTOMERS: u32 = 16_385;
/// `int4pl`.
pub const INT4PL: u32 = 177;

const SHORT: Error = Error::new("08P01", "insufficient data left in message");
const INVALID_STRING: Error = Error::new("08P01", "invalid string in message");

fn end_of(fields: &Fields<'_>) -> Done {
    empty(fields.0)
}

fn empty(body: &[u8]) -> Done {
    if body.is_empty() {
        Ok(())
    } else {
        Err(Error::new("08P01", "invalid message format"))
    }
}

fn only_string(body: &[u8]) -> Done<&[u8]> {
    let mut fields = Fields(body);
    let text = fields.string().ok_or(INVALID_STRING)?;
    end_of(&fields)?;
    Ok(text)
}

/// What is found out when a text is analysed, before anything of it runs.
fn analysed(statement: &Statement) -> Done {
    if let Sql::Missing(code) = &statement.sql {
        return Err(Error::new(code, "it does not exist"));
    }
    if statement.fails == Some(Stage::Parse) {
        return Err(Error::new("XX001", "it was told to fail at parse"));
    }
    Ok(())
}

fn all_rows(rows: &Rows, argument: Option<i64>) -> Done<Vec<Row>> {
    let mut all = Vec::new();
    while let Some(row) = rows.row(all.len(), argument) {
        all.push(row?);
    }
    Ok(all)
}

/// As the input function of `int` reads it: digit by digit, so that too many are told before a letter behind them.
fn number(text: &[u8]) -> Done<i64> {
    const INVALID: Error = Error::new("22P02", "invalid input syntax for type integer");
    let text = text.trim_ascii();
    let mut n = 0i64;
    for byte in text {
        if !byte.is_ascii_digit() {
            return Err(INVALID);
        }
        n = n * 10 + i64::from(byte - b'0');
        if n > i64::from(i32::MAX) {
            return Err(Error::new("22003", "value is out of range for type integer"));
        }
    }
    if text.is_empty() { Err(INVALID) } else { Ok(n) }
}
