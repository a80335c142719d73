//! The facts of one message's SQL text. Made by an analyst, cached by each core, read by the policy and the gate.

use crate::settings::SettingChange;
use headgate_plane::ClassSet;
use serde::{Deserialize, Serialize};

/// All that is known of a SQL text: every statement in it, in order. One simple Query may carry several; they are
/// judged as a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub statements: Vec<Statement>,
}

/// One top-level statement. Sets hold everything inside it: CTEs, sub-selects, what EXPLAIN, PREPARE, DECLARE, COPY,
/// CREATE TABLE AS carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    pub class: ClassSet,
    /// Lower case: `select`, `insert`, `copy to`, `create table`, `explain`, … All of them, outermost first, no repeats.
    pub verbs: Vec<String>,
    pub relations: Vec<Relation>,
    pub functions: Vec<Function>,
    /// Last parts of all column references, and target columns of INSERT and UPDATE. Sorted, no repeats.
    pub columns: Vec<String>,
    /// False when any UPDATE or DELETE in it has no WHERE. True for everything else.
    pub has_where: bool,
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

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Relation {
    /// As written; `None` when the statement leaves it to search_path. CTE names are not relations.
    pub schema: Option<String>,
    pub name: String,
    pub read: bool,
    pub written: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Function {
    pub schema: Option<String>,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    #[default]
    Plain,
    Prepare {
        name: String,
        inner: Box<Statement>,
    },
    Execute {
        name: String,
    },
    /// `None`: DEALLOCATE ALL.
    Deallocate {
        name: Option<String>,
    },
    /// DECLARE name CURSOR: rows come with FETCH. `hold`: it outlives its transaction.
    Declare {
        name: String,
        inner: Box<Statement>,
        hold: bool,
    },
    Fetch {
        name: String,
    },
    /// `None`: CLOSE ALL.
    CloseCursor {
        name: Option<String>,
    },
    Copy(Copy),
    /// EXPLAIN: the text of the plan can quote literals and, with ANALYZE, nothing else of the data.
    Explain,
    /// DISCARD ALL, PLANS, TEMP, SEQUENCES.
    Discard {
        all: bool,
    },
    Begin,
    Commit,
    Rollback,
    Savepoint,
    Listen,
    Notify,
}

/// COPY … TO STDOUT or FROM STDIN. COPY with files and programs is `opaque` and has no action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    pub out: bool,
    pub format: CopyFormat,
    pub delimiter: u8,
    pub quote: u8,
    pub escape: u8,
    pub null: Vec<u8>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

/// Why a text has no facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unreadable {
    TooLong {
        bytes: usize,
        max: usize,
    },
    TooManyTokens {
        max: usize,
    },
    TooDeep {
        max: usize,
    },
    NotUtf8,
    /// An unterminated literal, comment or identifier, or a NUL.
    Unterminated,
    /// PostgreSQL's own words, and the 1-based character position, for the client's error.
    Syntax {
        message: String,
        position: usize,
    },
    /// The parser died, was killed, or did not answer in time.
    AnalystLost,
    /// The tree has a node that nobody has taught the extractor.
    UnknownNode {
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
    pub fn class(&self) -> ClassSet {
        self.statements
            .iter()
            .fold(ClassSet::EMPTY, |set, s| set.union(s.class))
    }
}
