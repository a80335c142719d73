//! Values of the audit database that are derived from chunks: what queries and the recorder's restart read.
//! Each is `postcard`.

use crate::chain::{Chain, Hash};
use headgate_plane::{SessionId, Who};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What one chunk holds, so that a query knows whether to open it. Lists are sorted and without repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub number: u64,
    pub first_us: u64,
    pub last_us: u64,
    pub records: u32,
    pub statements: u32,
    /// Texts that were prepared.
    pub prepared: u32,
    /// Of statements and of prepared texts, as rules and resources are: bit 0 allow, 1 hold, 2 deny.
    pub verdicts: u8,
    /// Whether an event ended with an error.
    pub errors: bool,
    /// Whether the recorder's own notes are in it.
    pub notes: bool,
    pub sessions: Vec<SessionId>,
    /// Principals, outermost actors and inner actors of the statements' sessions.
    pub people: Vec<String>,
    pub targets: Vec<String>,
    pub resources: Vec<String>,
    pub rules: Vec<String>,
    /// Of errors that statements ended with.
    pub codes: Vec<String>,
    /// Whether a piece of data to a target is in it.
    pub data: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// Still open, as far as the recorder knows.
    #[default]
    Open,
    Closed,
    /// Whoever ran it ended without closing it.
    Lost,
    /// Never let in.
    Refused,
}

/// A session, written when it opens and again when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    pub who: Who,
    pub target: String,
    pub environment: String,
    pub role: String,
    pub protocol: String,
    pub credential_id: String,
    pub epoch: u64,
    /// The target's own name for it.
    pub target_session: String,
    /// Spool that it came through, which the chunks do not say.
    pub generation: u128,
    pub opened_us: u64,
    pub first_chunk: u64,
    pub end: SessionEnd,
    pub ended_us: u64,
    pub last_chunk: u64,
    pub reason: String,
    pub statements: u32,
    pub bytes_from_client: u64,
    pub bytes_to_client: u64,
    /// Links and head of the chain; 0 while open.
    pub records: u32,
    pub head: Hash,
}

/// How far a spool was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolRow {
    pub name: String,
    pub position: u64,
}

/// A session in progress, as the recorder needs it to go on after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    pub session: SessionId,
    /// Of the spool that it came through; 0 for the recorder's own.
    pub generation: u128,
    pub head: Hash,
    pub next_seq: u32,
    pub count: u32,
    pub statements: u32,
    pub last_us: u64,
}

impl OpenSession {
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
    pub before: u64,
    pub sessions: Vec<OpenSession>,
}

pub fn to_bytes<T: Serialize>(row: &T) -> Vec<u8> {
    // Writing plain data into memory: postcard has no other failure for these types.
    postcard::to_stdvec(row).unwrap_or_default()
}

/// `None` for bytes that are not exactly one row.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (row, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(row)
}
