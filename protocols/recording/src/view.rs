//! Events read without copying: what the recorder and the queries use.

use crate::codec::{self, CodecError};
use crate::event::{Outcome, RecorderNote, Verdict};
use headgate_plane::{Epoch, QuestionDigest, SessionId, Who};
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EventView<'a> {
    pub session: SessionId,
    pub seq: u32,
    pub unix_us: u64,
    #[serde(borrow)]
    pub body: BodyView<'a>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ParameterView<'a> {
    pub type_oid: u32,
    pub format: u16,
    #[serde(borrow)]
    pub value: Option<&'a [u8]>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ErrorView<'a> {
    pub sqlstate: &'a str,
    pub message: &'a str,
}

/// [`crate::event::Body`], variant by variant.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub enum BodyView<'a> {
    SessionOpen {
        who: Who,
        target: &'a str,
        environment: &'a str,
        role: &'a str,
        credential_id: &'a str,
        epoch: Epoch,
        protocol: &'a str,
        target_pid: u32,
    },
    SignInRefused {
        target: &'a str,
        user: &'a str,
        address: &'a str,
        reason: &'a str,
    },
    Statement {
        statement: u32,
        #[serde(borrow)]
        text: &'a [u8],
        #[serde(borrow)]
        parameters: Vec<ParameterView<'a>>,
        verdict: Verdict,
        rule: &'a str,
        epoch: Epoch,
        class: u16,
        #[serde(borrow)]
        verbs: Vec<&'a str>,
        #[serde(borrow)]
        relations: Vec<&'a str>,
    },
    Answered {
        statement: u32,
        question: u64,
        outcome: Outcome,
        #[serde(borrow)]
        reviewers: Vec<&'a str>,
        reason: &'a str,
        digest: QuestionDigest,
    },
    ReplyPart {
        statement: u32,
        #[serde(borrow)]
        bytes: &'a [u8],
    },
    StatementEnd {
        statement: u32,
        duration_us: u64,
        rows: u64,
        bytes: u64,
        tag: &'a str,
        #[serde(borrow)]
        error: Option<ErrorView<'a>>,
        masked: u64,
        truncated: bool,
        #[serde(borrow)]
        reply: &'a [u8],
    },
    SessionClose {
        reason: &'a str,
        statements: u32,
        bytes_from_client: u64,
        bytes_to_client: u64,
    },
    SessionLost {
        reason: &'a str,
    },
    Recorder(RecorderNote),
    Admin {
        who: Who,
        action: &'a str,
        subject: &'a str,
        detail: &'a str,
        accepted: bool,
    },
}

/// The number of a variant, as it stands in the encoding and in a chunk's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    SessionOpen = 0,
    SignInRefused = 1,
    Statement = 2,
    Answered = 3,
    ReplyPart = 4,
    StatementEnd = 5,
    SessionClose = 6,
    SessionLost = 7,
    Recorder = 8,
    Admin = 9,
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::SessionOpen,
        Kind::SignInRefused,
        Kind::Statement,
        Kind::Answered,
        Kind::ReplyPart,
        Kind::StatementEnd,
        Kind::SessionClose,
        Kind::SessionLost,
        Kind::Recorder,
        Kind::Admin,
    ];

    pub fn of(number: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(number)).copied()
    }

    /// Whether nothing of the session may follow.
    pub fn ends_session(self) -> bool {
        matches!(self, Kind::SignInRefused | Kind::SessionClose | Kind::SessionLost)
    }
}

impl<'a> EventView<'a> {
    /// Reads one event that fills `bytes`. Takes hostile bytes.
    pub fn read(bytes: &'a [u8]) -> Result<EventView<'a>, CodecError> {
        codec::read(bytes)
    }
}

impl BodyView<'_> {
    pub fn kind(&self) -> Kind {
        match self {
            BodyView::SessionOpen { .. } => Kind::SessionOpen,
            BodyView::SignInRefused { .. } => Kind::SignInRefused,
            BodyView::Statement { .. } => Kind::Statement,
            BodyView::Answered { .. } => Kind::Answered,
            BodyView::ReplyPart { .. } => Kind::ReplyPart,
            BodyView::StatementEnd { .. } => Kind::StatementEnd,
            BodyView::SessionClose { .. } => Kind::SessionClose,
            BodyView::SessionLost { .. } => Kind::SessionLost,
            BodyView::Recorder(_) => Kind::Recorder,
            BodyView::Admin { .. } => Kind::Admin,
        }
    }

    /// The statement that the event is about, or 0.
    pub fn statement(&self) -> u32 {
        match self {
            BodyView::Statement { statement, .. }
            | BodyView::Answered { statement, .. }
            | BodyView::ReplyPart { statement, .. }
            | BodyView::StatementEnd { statement, .. } => *statement,
            _ => 0,
        }
    }
}
