//! What queries take and give. All of it serialises to snake_case JSON; times are Unix microseconds.

use headgate_plane::ParameterKind;
use headgate_recording::rows::SessionEnd;
use headgate_recording::{Direction, Outcome, StatementOutcome, StreamOutcome, Verdict};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    /// Full name, `schema.name` of a relation.
    pub resource: Option<String>,
    pub verdict: Option<VerdictName>,
    /// Session id.
    pub session: Option<String>,
    /// Part of the statement's text, of what it stands for, or of the data that went in with it, whatever the case of ASCII
    /// letters.
    pub text: Option<String>,
    pub rule: Option<String>,
    /// Of the error that it ended with.
    pub code: Option<String>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeName {
    Approved,
    Denied,
    Expired,
    Revoked,
    Withdrawn,
    Left,
    SpentElsewhere,
}

impl From<Outcome> for OutcomeName {
    fn from(o: Outcome) -> Self {
        match o {
            Outcome::Approved => OutcomeName::Approved,
            Outcome::Denied => OutcomeName::Denied,
            Outcome::Expired => OutcomeName::Expired,
            Outcome::Revoked => OutcomeName::Revoked,
            Outcome::Withdrawn => OutcomeName::Withdrawn,
            Outcome::Left => OutcomeName::Left,
            Outcome::SpentElsewhere => OutcomeName::SpentElsewhere,
        }
    }
}

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatementOutcomeName {
    Done,
    Failed,
    Cancelled,
    /// The session ended before the target's answer.
    NotKnown,
    NotRun,
}

impl From<StatementOutcome> for StatementOutcomeName {
    fn from(o: StatementOutcome) -> Self {
        match o {
            StatementOutcome::Done => StatementOutcomeName::Done,
            StatementOutcome::Failed => StatementOutcomeName::Failed,
            StatementOutcome::Cancelled => StatementOutcomeName::Cancelled,
            StatementOutcome::Cut => StatementOutcomeName::NotKnown,
            StatementOutcome::NotRun => StatementOutcomeName::NotRun,
        }
    }
}

/// How data ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamOutcomeName {
    Done,
    Failed,
    Cut,
}

impl From<StreamOutcome> for StreamOutcomeName {
    fn from(o: StreamOutcome) -> Self {
        match o {
            StreamOutcome::Done => StreamOutcomeName::Done,
            StreamOutcome::Failed => StreamOutcomeName::Failed,
            StreamOutcome::Cut => StreamOutcomeName::Cut,
        }
    }
}

/// Which way data went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DirectionName {
    ToTarget,
    ToClient,
}

impl From<Direction> for DirectionName {
    fn from(d: Direction) -> Self {
        match d {
            Direction::ToTarget => DirectionName::ToTarget,
            Direction::ToClient => DirectionName::ToClient,
        }
    }
}

/// How a value came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "protocol", rename_all = "lowercase")]
pub enum ParameterKindRow {
    Postgres { type_oid: u32, format: u16 },
}

impl From<ParameterKind> for ParameterKindRow {
    fn from(kind: ParameterKind) -> Self {
        match kind {
            ParameterKind::Postgres { type_oid, format } => ParameterKindRow::Postgres { type_oid, format },
        }
    }
}

/// A value given beside the text, as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParameterRow {
    #[serde(flatten)]
    pub kind: ParameterKindRow,
    /// `None` is SQL NULL. Text as it came; binary values of common types decoded; else `\x` and hex.
    pub value: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorRow {
    /// The protocol's own: an SQLSTATE in PostgreSQL.
    pub code: String,
    pub message: String,
}

/// A statement, its answer and its end, joined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// Number of the prepared text in the session; 0 for none.
    pub prepared: u32,
    pub text: String,
    /// What the text runs without saying it.
    pub stands_for: Vec<String>,
    pub parameters: Vec<ParameterRow>,
    pub verdict: VerdictName,
    pub rule: String,
    pub epoch: u64,
    /// Names of classes.
    pub class: Vec<String>,
    pub verbs: Vec<String>,
    pub resources: Vec<String>,
    /// Of a held statement, once answered.
    pub answer: Option<OutcomeName>,
    /// Number of the question, `HG-17`.
    pub question: Option<String>,
    pub reviewers: Vec<String>,
    pub reason: String,
    /// Whether the end is recorded; the numbers after it are 0 until then.
    pub ended: bool,
    /// What became of it, once that is recorded.
    pub outcome: Option<StatementOutcomeName>,
    pub duration_us: u64,
    pub rows: u64,
    pub bytes: u64,
    pub tag: String,
    pub error: Option<ErrorRow>,
    pub masked: u64,
    pub truncated: bool,
}

/// [`SessionEnd`] as the API's document names it; `recording` knows no such documents.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "for the document alone")]
enum SessionState {
    Open,
    Closed,
    Lost,
    Refused,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// The target's own name for it.
    pub target_session: String,
    pub opened_us: u64,
    #[schema(value_type = SessionState)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplayEvent {
    /// Since the session's first event.
    pub at_ms: u64,
    pub seq: u32,
    #[serde(flatten)]
    pub what: ReplayWhat,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// A text under a name, as the target keeps it.
    Prepared {
        prepared: u32,
        name: String,
        text: String,
        verdict: VerdictName,
        rule: String,
        class: Vec<String>,
        resources: Vec<String>,
    },
    Statement {
        statement: u32,
        prepared: u32,
        text: String,
        /// What the text runs without saying it.
        stands_for: Vec<String>,
        parameters: Vec<ParameterRow>,
        verdict: VerdictName,
        rule: String,
        class: Vec<String>,
        resources: Vec<String>,
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
    /// A piece of the data that went to the target with a statement.
    Data {
        statement: u32,
        /// Of its first byte among all of them.
        offset: u64,
        bytes: u64,
        text: String,
    },
    /// The end of a statement's data, either way.
    DataEnd {
        statement: u32,
        direction: DirectionName,
        bytes: u64,
        rows: u64,
        /// SHA-256 of all of it, in hex.
        digest: String,
        /// Whether less than all is recorded.
        truncated: bool,
        outcome: StreamOutcomeName,
        reason: String,
    },
    StatementEnd {
        statement: u32,
        outcome: StatementOutcomeName,
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
    /// An event of a later version of Headgate.
    Unknown {
        event_kind: u8,
        bytes: u64,
    },
    /// A record that could not be read.
    Unreadable {
        reason: String,
    },
}

/// A message of the reply, decoded as far as a person can read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// Bytes of a protocol that is not taken apart here.
    Bytes {
        text: String,
    },
    Complete {
        tag: String,
    },
    Error {
        code: String,
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
