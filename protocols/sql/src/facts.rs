//! The facts of one message's SQL text. Made by an analyst, cached by each core, read by the policy and the gate.

use crate::settings::SettingChange;
use headgate_plane::ClassSet;
use serde::{Deserialize, Serialize};

/// All that is known of a SQL text: every statement in it, in order. One simple Query may carry several; they are
/// judged as a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// In the order of the text.
    pub statements: Vec<Statement>,
}

/// One top-level statement. Sets hold everything inside it: CTEs, sub-selects, what EXPLAIN, PREPARE, DECLARE, COPY,
/// CREATE TABLE AS carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// All that it is.
    pub class: ClassSet,
    /// Lower case: `select`, `insert`, `copy to`, `create table`, `explain`, … All of them, outermost first, no repeats.
    pub verbs: Vec<String>,
    /// All that it reads or writes, sorted, no repeats.
    pub relations: Vec<Relation>,
    /// All that it calls, operators' and casts' functions too; sorted, no repeats.
    pub functions: Vec<Function>,
    /// Last parts of all column references, and target columns of INSERT and UPDATE. Sorted, no repeats.
    pub columns: Vec<String>,
    /// False when any UPDATE or DELETE in it has no WHERE. True for everything else.
    pub has_where: bool,
    /// Whether it says LIMIT or FETCH FIRST.
    pub has_limit: bool,
    /// Highest `$n`.
    pub parameters: u16,
    /// Whether some output may be computed from columns that are not named: a whole-row reference (an alias or relation
    /// used as a value), a `*` anywhere but in the top-level list of a plain select, an alias column list, NATURAL or
    /// USING, a set operation over `*`, TABLE in a set operation.
    pub hidden_columns: bool,
    /// Whether it may read or write columns that `columns` does not name: any `*`, what `hidden_columns` tells, INSERT and
    /// COPY without a list.
    pub unnamed_columns: bool,
    /// What the gate must follow beyond forwarding.
    pub action: Action,
    /// Every setting that it touches, in order: by SET, RESET, `set_config`, DISCARD ALL, ALTER ROLE/DATABASE SET, UPDATE
    /// pg_settings or a function's own SET. For PREPARE: of what it prepares, which are touched at its EXECUTE.
    pub settings: Vec<SettingChange>,
    /// DDL that can change the catalog: the gate marks its catalog as stale.
    pub changes_catalog: bool,
}

/// A relation that a statement names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Relation {
    /// As written; `None` when the statement leaves it to search_path. CTE names are not relations.
    pub schema: Option<String>,
    /// As the scanner has it: folded, and cut as the server cuts it.
    pub name: String,
    /// Whether its rows are read.
    pub read: bool,
    /// Whether its rows, or it itself, are changed.
    pub written: bool,
}

/// A function that a statement calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Function {
    /// As written; `None` when search_path decides.
    pub schema: Option<String>,
    /// As the scanner has it.
    pub name: String,
}

/// What a statement does beside its reading and writing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Nothing.
    #[default]
    Plain,
    /// PREPARE.
    Prepare {
        /// Of the prepared statement.
        name: String,
        /// What it will run.
        inner: Box<Statement>,
    },
    /// EXECUTE of a prepared statement.
    Execute {
        /// Of the prepared statement.
        name: String,
    },
    /// `None`: DEALLOCATE ALL.
    Deallocate {
        /// Of the prepared statement.
        name: Option<String>,
    },
    /// DECLARE name CURSOR: rows come with FETCH. `hold`: it outlives its transaction.
    Declare {
        /// Of the cursor.
        name: String,
        /// Whose rows come with FETCH.
        inner: Box<Statement>,
        /// WITH HOLD: the cursor outlives its transaction.
        hold: bool,
    },
    /// FETCH or MOVE.
    Fetch {
        /// Of the cursor.
        name: String,
    },
    /// `None`: CLOSE ALL.
    CloseCursor {
        /// Of the cursor.
        name: Option<String>,
    },
    /// COPY to or from the client.
    Copy(Copy),
    /// EXPLAIN: the text of the plan can quote literals and, with ANALYZE, nothing else of the data.
    Explain,
    /// DISCARD ALL, PLANS, TEMP, SEQUENCES.
    Discard {
        /// DISCARD ALL.
        all: bool,
    },
    /// BEGIN or START TRANSACTION.
    Begin,
    /// COMMIT, END, PREPARE TRANSACTION.
    Commit,
    /// ROLLBACK, ABORT.
    Rollback,
    /// SAVEPOINT, RELEASE, ROLLBACK TO.
    Savepoint,
    /// LISTEN, UNLISTEN.
    Listen,
    /// NOTIFY.
    Notify,
}

/// COPY … TO STDOUT or FROM STDIN. COPY with files and programs is `opaque` and has no action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Whether data go to the client.
    pub out: bool,
    /// How they are written.
    pub format: CopyFormat,
    /// Between two columns.
    pub delimiter: u8,
    /// Around a value; of CSV alone.
    pub quote: u8,
    /// Before a quote inside a value; of CSV alone.
    pub escape: u8,
    /// What stands for NULL.
    pub null: Vec<u8>,
    /// Whether the first line has the columns' names.
    pub header: bool,
    /// The relation copied, or `None` for `COPY (query)`.
    pub relation: Option<Relation>,
    /// The columns named; empty: all in order.
    pub columns: Vec<String>,
    /// For `COPY (query)`: the name of each output where it is plainly a column reference, `None` where computed.
    /// Empty when a star hides the list.
    pub outputs: Vec<Option<String>>,
    /// ENCODING, where given.
    pub encoding: Option<String>,
}

/// How COPY writes its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyFormat {
    /// A line a row, with backslashes.
    Text,
    /// A record a row, with quotes.
    Csv,
    /// With lengths before values.
    Binary,
}

/// Why a text has no facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unreadable {
    /// It has more bytes than are read.
    TooLong {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        max: usize,
    },
    /// It has more words and signs than are read.
    TooManyTokens {
        /// How many it may have.
        max: usize,
    },
    /// It is nested deeper, or chained longer, than is read.
    TooDeep {
        /// How deep it may be.
        max: usize,
    },
    /// Its bytes are no UTF-8.
    NotUtf8,
    /// An unterminated literal, comment or identifier, or a NUL.
    Unterminated,
    /// PostgreSQL's own words, and the 1-based character position, for the client's error.
    Syntax {
        /// What PostgreSQL says.
        message: String,
        /// In characters, from 1.
        position: usize,
    },
    /// The parser died, was killed, or did not answer in time.
    AnalystLost,
    /// The tree has a node that nobody has taught the extractor.
    UnknownNode {
        /// The parser's name for it.
        tag: String,
    },
}

impl Unreadable {
    /// The SQLSTATE that a client knows it by: PostgreSQL's own where PostgreSQL would refuse it as well.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Unreadable::TooLong { .. } | Unreadable::TooManyTokens { .. } => "54000",
            Unreadable::TooDeep { .. } => "54001",
            Unreadable::NotUtf8 => "22021",
            Unreadable::Unterminated => "42601",
            Unreadable::Syntax { message, .. } => crate::syntax::report(message).sqlstate,
            Unreadable::AnalystLost => "HG004",
            Unreadable::UnknownNode { .. } => "0A000",
        }
    }

    /// What helps, and always does.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            // Parameters do not make a statement of ten thousand rows much shorter.
            Unreadable::TooLong { .. } | Unreadable::TooManyTokens { .. } => {
                Some("Send it as several statements of fewer rows, or send the rows with COPY.")
            }
            Unreadable::TooDeep { .. } => {
                Some("Nest it less deeply, or join long chains of operators in parts.")
            }
            Unreadable::Syntax { message, .. } => crate::syntax::report(message).hint,
            Unreadable::AnalystLost => Some("Send it again; if it happens again, it is too costly to parse."),
            _ => None,
        }
    }
}

impl Facts {
    /// The classes of all its statements.
    pub fn class(&self) -> ClassSet {
        self.statements
            .iter()
            .fold(ClassSet::EMPTY, |set, s| set.union(s.class))
    }
}
