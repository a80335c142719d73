//! A PostgreSQL that exists in memory: what a server owes for each message, in which order, and what it has done. Sans-IO.
//!
//! Written from the manual (PostgreSQL 18, chapter Frontend/Backend Protocol) and by trying real servers; never from
//! Headgate's own code. `real.rs` runs the same messages against real servers and compares.
//!
//! Invariant: one message in, all its replies out, unless it waits (COPY from the client, a sleep). Messages come one at a
//! time; whoever drives the server keeps those that it has not read.
//! Never here: Headgate, sockets, time. Differences between versions are fields of [`Manual`].

mod copy;
mod describe;
mod execute;
mod prepare;
mod query;
mod reply;
mod rows;
mod statement;
mod transaction;

use crate::message::{Fields, put, short, string, value};
use crate::sql::{self, Count, Kind, NAME_BYTES_MAX, Number, Rows, Sql, Stage, Statement, Table};
use std::collections::BTreeMap;
use std::rc::Rc;

use query::analysed;
use statement::number;

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

const CANCELLED: Error = Error::new("57014", "canceling statement due to user request");
const CANNOT_RUN: Error = Error::new("55000", "portal cannot be run");

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

impl Columns {
    /// Name, table, number in the table, type.
    fn fields(self) -> &'static [(&'static str, u32, u16, u32)] {
        match self {
            Columns::Unnamed => &[("?column?", 0, 0, 23)],
            Columns::N => &[("n", 0, 0, 23)],
            Columns::Int4 => &[("int4", 0, 0, 23)],
            Columns::Sleep => &[("pg_sleep", 0, 0, 2278)],
            Columns::Derived => &[("?column?", 0, 0, 25)],
            Columns::Email { id: false } => &[("email", CUSTOMERS, 2, 25)],
            Columns::Email { id: true } => &[("id", CUSTOMERS, 1, 23), ("email", CUSTOMERS, 2, 25)],
        }
    }
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
    /// How many savepoints stood when it was made.
    level: usize,
    /// It failed while it ran: nothing can be had of it.
    failed: bool,
    /// It is of a simple query that failed: its statements are freed memory. Seen in 15.18: its Execute mostly says 25P02, and
    /// now and then the server process dies of it.
    dangles: bool,
    /// Of its rows, by column or one for all.
    formats: Vec<u16>,
    /// One of its own in the whole session.
    id: u64,
    /// What its EXECUTE or FETCH stood for when it was bound.
    meaning: Meaning,
}

/// What a name means: one thing, whatever bears the name later.
#[derive(Clone)]
enum Meaning {
    Nothing,
    Statement(Rc<Prepared>),
    Portal(u64),
}

impl Meaning {
    fn is(&self, other: &Meaning) -> bool {
        match (self, other) {
            (Meaning::Nothing, Meaning::Nothing) => true,
            (Meaning::Statement(a), Meaning::Statement(b)) => Rc::ptr_eq(a, b),
            (Meaning::Portal(a), Meaning::Portal(b)) => a == b,
            _ => false,
        }
    }
}

/// What is there again after ROLLBACK TO.
struct Savepoint {
    name: Vec<u8>,
    inserted: usize,
    fails_at_commit: Option<&'static str>,
    strings_off: bool,
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
    /// It was asked what kills a real one.
    pub crashed: bool,
    /// What would kill it is refused instead: for a gate in between.
    pub guarded: bool,
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
    savepoints: Vec<Savepoint>,
    portals_made: u64,
    /// ROLLBACK TO has run: it takes effect when its message's transaction command does.
    rolls_back_to: Option<usize>,
    /// Of the portal that runs.
    formats: Vec<u16>,
    kinds_of_columns: Vec<u32>,
    /// A cancel came while COPY data were awaited.
    cancel_pending: bool,
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
            crashed: false,
            guarded: false,
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
            savepoints: Vec::new(),
            portals_made: 0,
            rolls_back_to: None,
            formats: Vec::new(),
            kinds_of_columns: Vec::new(),
            cancel_pending: false,
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
}

/// Of what a gate refuses: the code is its own.
pub const REFUSED: &str = "HGREF";

/// Table `customers` of a simulated database.
pub const CUSTOMERS: u32 = 16_385;
/// `int4pl`.
pub const INT4PL: u32 = 177;

const NO_BLOCK: Error = Error::new("25P01", "it can only be used in transaction blocks");
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
