//! What queries take and give. All of it serialises to snake_case JSON; times are Unix microseconds.

use headgate_recording::rows::SessionEnd;
use headgate_recording::{Outcome, Verdict};
use serde::{Deserialize, Serialize};

/// No page is longer.
pub const PAGE_ROWS_MAX: usize = 1000;

/// Which part of the rows. Newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PageRequest {
    /// `Page::next` of the page before; `None`: from the newest.
    pub cursor: Option<String>,
    /// 0 means 100; more than [`PAGE_ROWS_MAX`] means that.
    pub limit: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// Cursor of what follows. `None`: nothing older fits the filter. A page may be short, even empty, and go on: a query
    /// stops after a bounded amount of work.
    pub next: Option<String>,
}

/// All that is given must fit. Strings are compared exactly, except `text`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatementFilter {
    /// Not before.
    pub from_us: Option<u64>,
    /// Before.
    pub to_us: Option<u64>,
    pub principal: Option<String>,
    /// The outermost actor; the principal where nobody acts for it.
    pub actor: Option<String>,
    /// Principal or any actor of the chain.
    pub anyone: Option<String>,
    pub target: Option<String>,
    /// `schema.name`.
    pub relation: Option<String>,
    pub verdict: Option<VerdictName>,
    /// Session id.
    pub session: Option<String>,
    /// Part of the statement's text, whatever the case of ASCII letters.
    pub text: Option<String>,
    pub rule: Option<String>,
    pub sqlstate: Option<String>,
    /// Only those that ended with an error (true) or without one (false).
    pub error: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionFilter {
    /// By the time of opening.
    pub from_us: Option<u64>,
    pub to_us: Option<u64>,
    pub principal: Option<String>,
    pub actor: Option<String>,
    pub anyone: Option<String>,
    pub target: Option<String>,
    pub state: Option<SessionEnd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictName {
    Allow,
    Hold,
    Deny,
}

impl From<Verdict> for VerdictName {
    fn from(v: Verdict) -> Self {
        match v {
            Verdict::Allow => VerdictName::Allow,
            Verdict::Hold => VerdictName::Hold,
            Verdict::Deny => VerdictName::Deny,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeName {
    Approved,
    Denied,
    Expired,
    Revoked,
    Withdrawn,
}

impl From<Outcome> for OutcomeName {
    fn from(o: Outcome) -> Self {
        match o {
            Outcome::Approved => OutcomeName::Approved,
            Outcome::Denied => OutcomeName::Denied,
            Outcome::Expired => OutcomeName::Expired,
            Outcome::Revoked => OutcomeName::Revoked,
            Outcome::Withdrawn => OutcomeName::Withdrawn,
        }
    }
}

/// A value of Bind as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterRow {
    pub type_oid: u32,
    /// `None` is SQL NULL. Text as it came; binary numbers, booleans, UUIDs and texts decoded; else `\x` and hex.
    pub value: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRow {
    pub sqlstate: String,
    pub message: String,
}

/// A statement, its answer and its end, joined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatementRow {
    pub session: String,
    /// Number in the session, from 1.
    pub statement: u32,
    pub time_us: u64,
    pub principal: String,
    pub actor: String,
    /// Actors, outermost first.
    pub chain: Vec<String>,
    pub target: String,
    pub environment: String,
    pub role: String,
    pub text: String,
    pub parameters: Vec<ParameterRow>,
    pub verdict: VerdictName,
    pub rule: String,
    pub epoch: u64,
    /// Names of classes.
    pub class: Vec<String>,
    pub verbs: Vec<String>,
    pub relations: Vec<String>,
    /// Of a held statement, once answered.
    pub outcome: Option<OutcomeName>,
    /// Number of the question, `HG-17`.
    pub question: Option<String>,
    pub reviewers: Vec<String>,
    pub reason: String,
    /// Whether the end is recorded; the numbers after it are 0 until then.
    pub ended: bool,
    pub duration_us: u64,
    pub rows: u64,
    pub bytes: u64,
    pub tag: String,
    pub error: Option<ErrorRow>,
    pub masked: u64,
    pub truncated: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionSummary {
    pub session: String,
    pub principal: String,
    pub groups: Vec<String>,
    pub actor: String,
    pub chain: Vec<String>,
    pub issuer: String,
    pub address: String,
    pub application: String,
    pub credential_id: String,
    pub target: String,
    pub environment: String,
    pub role: String,
    pub protocol: String,
    pub target_pid: u32,
    pub opened_us: u64,
    pub state: SessionEnd,
    /// 0 while open.
    pub ended_us: u64,
    pub reason: String,
    /// Of an ended session; 0 while open.
    pub statements: u32,
    pub bytes_from_client: u64,
    pub bytes_to_client: u64,
    /// Head of the session's chain in hex, once ended.
    pub chain_head: Option<String>,
}

/// A piece of a recorded session, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayEvent {
    /// Since the session's first event.
    pub at_ms: u64,
    pub seq: u32,
    #[serde(flatten)]
    pub what: ReplayWhat,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReplayWhat {
    SessionOpen {
        principal: String,
        actor: String,
        chain: Vec<String>,
        target: String,
        role: String,
    },
    SignInRefused {
        user: String,
        target: String,
        address: String,
        reason: String,
    },
    Statement {
        statement: u32,
        text: String,
        parameters: Vec<ParameterRow>,
        verdict: VerdictName,
        rule: String,
        class: Vec<String>,
        relations: Vec<String>,
    },
    Answered {
        statement: u32,
        question: String,
        outcome: OutcomeName,
        reviewers: Vec<String>,
        reason: String,
    },
    /// A piece of the reply as the client received it.
    Reply {
        statement: u32,
        bytes: u64,
        messages: Vec<ReplyMessage>,
    },
    StatementEnd {
        statement: u32,
        duration_us: u64,
        rows: u64,
        bytes: u64,
        tag: String,
        error: Option<ErrorRow>,
        masked: u64,
        truncated: bool,
    },
    SessionClose {
        reason: String,
    },
    /// The session ended without a close: its data plane died.
    SessionLost {
        reason: String,
    },
    /// An event of the recorder or of the API.
    Note {
        text: String,
    },
    /// A record that could not be read.
    Unreadable {
        reason: String,
    },
}

/// A message of the reply, decoded as far as a person can read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ReplyMessage {
    Columns {
        names: Vec<String>,
    },
    /// `None` is SQL NULL; values in binary format are decoded as parameters are.
    Row {
        values: Vec<Option<String>>,
    },
    CopyData {
        text: String,
    },
    Complete {
        tag: String,
    },
    Error {
        sqlstate: String,
        message: String,
    },
    Notice {
        message: String,
    },
    /// Any other message, by its type byte.
    Other {
        code: String,
        bytes: u64,
    },
    /// The rest of a message that the recording cut off.
    Cut {
        bytes: u64,
    },
}

/// A recorder's own note or a call of the admin API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoteRow {
    pub session: String,
    pub seq: u32,
    pub time_us: u64,
    pub text: String,
    /// Of a call of the admin API.
    pub principal: Option<String>,
}
