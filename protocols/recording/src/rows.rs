//! Values of the audit database that are derived from chunks: what queries and the recorder's restart read.
//! Each is `postcard`.

use crate::chain::{Chain, Hash};
use headgate_plane::{SessionId, Who};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What one chunk holds, so that a query knows whether to open it. Lists are sorted and without repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Of the chunk.
    pub number: u64,
    /// The earliest record's time.
    pub first_us: u64,
    /// The latest record's time.
    pub last_us: u64,
    /// How many records.
    pub records: u32,
    /// How many statements.
    pub statements: u32,
    /// Texts that were prepared.
    pub prepared: u32,
    /// Of statements and of prepared texts, as rules and resources are: bit 0 allow, 1 hold, 2 deny.
    pub verdicts: u8,
    /// Whether an event ended with an error.
    pub errors: bool,
    /// Whether the recorder's own notes are in it.
    pub notes: bool,
    /// All that have a record in it.
    pub sessions: Vec<SessionId>,
    /// Principals, outermost actors and inner actors of the statements' sessions.
    pub people: Vec<String>,
    /// All that its sessions have.
    pub targets: Vec<String>,
    /// All that its statements touched.
    pub resources: Vec<String>,
    /// All that decided.
    pub rules: Vec<String>,
    /// Of errors that statements ended with.
    pub codes: Vec<String>,
    /// Whether a piece of data to a target is in it.
    pub data: bool,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// Still open, as far as the recorder knows.
    #[default]
    Open,
    /// In order.
    Closed,
    /// Whoever ran it ended without closing it.
    Lost,
    /// Never let in.
    Refused,
}

/// A session, written when it opens and again when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Whose it was.
    pub who: Who,
    /// Its target's name.
    pub target: String,
    /// Its target's environment.
    pub environment: String,
    /// Whom the target took it for.
    pub role: String,
    /// What it spoke.
    pub protocol: String,
    /// Which credential proved it.
    pub credential_id: String,
    /// Of the rules that it began under.
    pub epoch: u64,
    /// The target's own name for it.
    pub target_session: String,
    /// Spool that it came through, which the chunks do not say.
    pub generation: u128,
    /// When it began.
    pub opened_us: u64,
    /// The chunk of its first record.
    pub first_chunk: u64,
    /// How it ended, if it did.
    pub end: SessionEnd,
    /// When, or 0.
    pub ended_us: u64,
    /// The chunk of its last record.
    pub last_chunk: u64,
    /// Why it ended.
    pub reason: String,
    /// How many it had.
    pub statements: u32,
    /// All that the client sent.
    pub bytes_from_client: u64,
    /// All that the client was sent.
    pub bytes_to_client: u64,
    /// Links and head of the chain; 0 while open.
    pub records: u32,
    /// Its chain's hash, over all its records.
    pub head: Hash,
}

/// How far a spool was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolRow {
    /// Of the file.
    pub name: String,
    /// What is stored of it, up to.
    pub position: u64,
}

/// A session in progress, as the recorder needs it to go on after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// Which session.
    pub session: SessionId,
    /// Of the spool that it came through; 0 for the recorder's own.
    pub generation: u128,
    /// Its chain's hash so far.
    pub head: Hash,
    /// The number that is due.
    pub next_seq: u32,
    /// How many records it has.
    pub count: u32,
    /// How many statements it has.
    pub statements: u32,
    /// Its latest record's time.
    pub last_us: u64,
}

impl OpenSession {
    /// Its chain, to go on with.
    pub fn chain(&self) -> Chain {
        Chain {
            head: self.head,
            count: self.count,
        }
    }
}

/// All sessions in progress before chunk `before`. Newer chunks are rolled forward over it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSessions {
    /// The first chunk that is not taken into account.
    pub before: u64,
    /// All that were open then.
    pub sessions: Vec<OpenSession>,
}

/// A row as it is stored.
pub fn to_bytes<T: Serialize>(row: &T) -> Vec<u8> {
    // Writing plain data into memory: postcard has no other failure for these types.
    postcard::to_stdvec(row).unwrap_or_default()
}

/// `None` for bytes that are not exactly one row.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (row, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(row)
}
